//! TLS between members: mutual, of one authority, renewed while everything runs.

use std::sync::Arc;

use arc_swap::ArcSwap;
use meridian_raft::join;
use meridian_raft::network::tls::{PeerTls, SharedTls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::harness::{Cluster, eventually};

/// Signs certificates for members on the loopback.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    fn member(&self) -> SharedTls {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let key = || PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .unwrap();
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key())
            .unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key())
            .unwrap();
        let tls = PeerTls {
            client: Arc::new(client),
            server: Arc::new(server),
        };
        Arc::new(ArcSwap::from_pointee(tls))
    }
}

async fn lay_out(authority: &Authority) -> Cluster {
    let mut cluster = Cluster::lay_out(3).await;
    for founder in &mut cluster.founders {
        founder.peer_urls[0] = founder.peer_urls[0].replace("http:", "https:");
    }
    for home in &mut cluster.homes {
        home.tls = Some(authority.member());
    }
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_speak_tls_and_a_stranger_without_their_authority_is_not_heard() {
    let authority = Authority::new();
    let mut cluster = lay_out(&authority).await;
    cluster.start_all().await;
    cluster.member(0).put("a", "1").await.unwrap();
    for at in 0..3 {
        assert_eq!(cluster.member(at).read("a").await.unwrap().unwrap(), "1");
    }
    let urls = cluster.founders[0].peer_urls.clone();
    let known = join::discover(&urls, Some(&authority.member()))
        .await
        .unwrap();
    assert_eq!(known.cluster_id, cluster.id);
    let stranger = Authority::new().member();
    join::discover(&urls, Some(&stranger)).await.unwrap_err();
    join::discover(&urls, None).await.unwrap_err();
    let plain = vec![urls[0].replace("https:", "http:")];
    join::discover(&plain, None).await.unwrap_err();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_with_a_foreign_certificate_stays_outside_until_it_has_a_good_one() {
    let authority = Authority::new();
    let mut cluster = lay_out(&authority).await;
    cluster.start_all().await;
    let outside = cluster.follower().await;
    cluster.kill(outside).await;
    cluster.homes[outside].tls = Some(Authority::new().member());
    cluster.start_member(outside).await;
    let leader = cluster.leader().await;
    assert_ne!(leader, outside);
    cluster.member(leader).put("a", "1").await.unwrap();
    assert_eq!(cluster.member(outside).get("a"), None);
    assert_eq!(cluster.replica(outside).status().leader, None);
    // Nothing is restarted: the next connection uses the certificates that are there by then.
    let renewed = authority.member();
    for home in &cluster.homes {
        home.tls.as_ref().unwrap().store(renewed.load_full());
    }
    eventually("the member to be back", || cluster.member(outside).get("a")).await;
    cluster.member(outside).put("b", "1").await.unwrap();
    cluster.converge().await;
    cluster.stop().await;
}
