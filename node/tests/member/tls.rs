//! TLS on the client port: both protocols, client certificates, certificates replaced while running.

use std::path::Path;

use meridian_proto::etcdserverpb::RangeRequest;
use meridian_proto::etcdserverpb::kv_client::KvClient;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::served::Served;

pub type Authority = CertifiedIssuer<'static, KeyPair>;

pub fn authority() -> Authority {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for localhost and its key, as PEM.
pub fn issue(authority: &Authority) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let params = CertificateParams::new(names).unwrap();
    (
        params.signed_by(&key, authority).unwrap().pem(),
        key.serialize_pem(),
    )
}

pub fn write(dir: &Path, (cert, key): &(String, String)) {
    std::fs::write(dir.join("cert.pem"), cert).unwrap();
    std::fs::write(dir.join("key.pem"), key).unwrap();
}

pub fn client(authority: &Authority) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()))
}

async fn reads(served: &Served, tls: ClientTlsConfig) -> bool {
    let url = format!("https://{}", served.authority());
    let endpoint = Endpoint::from_shared(url).unwrap().tls_config(tls).unwrap();
    let Ok(channel) = endpoint.connect().await else {
        return false;
    };
    let request = RangeRequest {
        key: "k".into(),
        ..RangeRequest::default()
    };
    KvClient::new(channel).range(request).await.is_ok()
}

pub async fn serve(dir: &Path, more: &[(&'static str, &str)]) -> Served {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let path = |name: &str| dir.join(name).display().to_string();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    let mut flags = vec![
        ("listen-client-urls", "https://127.0.0.1:0"),
        ("cert-file", cert.as_str()),
        ("key-file", key.as_str()),
    ];
    flags.extend_from_slice(more);
    Served::with(&flags).await
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_replaced_while_the_member_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (authority(), authority());
    write(dir.path(), &issue(&old));
    let served = serve(dir.path(), &[]).await;
    assert!(reads(&served, client(&old)).await);
    assert!(
        !reads(&served, client(&new)).await,
        "an authority nobody trusts was accepted"
    );

    std::fs::write(dir.path().join("cert.pem"), "half a certi").unwrap();
    served.member().reload_certificates();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(
        reads(&served, client(&old)).await,
        "a broken file took the port down"
    );

    write(dir.path(), &issue(&new));
    served.member().reload_certificates();
    let mut tries = 0;
    while !reads(&served, client(&new)).await {
        tries += 1;
        assert!(tries < 200, "the new certificate was never served");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(!reads(&served, client(&old)).await);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_certificate_is_turned_away_where_one_is_demanded() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, strangers) = (authority(), authority());
    write(dir.path(), &issue(&ours));
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, ours.pem()).unwrap();
    let ca = ca.display().to_string();
    let demanded = [
        ("trusted-ca-file", ca.as_str()),
        ("client-cert-auth", "true"),
    ];
    let served = serve(dir.path(), &demanded).await;
    let with =
        |(cert, key): (String, String)| client(&ours).identity(Identity::from_pem(cert, key));
    assert!(!reads(&served, client(&ours)).await);
    assert!(!reads(&served, with(issue(&strangers))).await);
    assert!(reads(&served, with(issue(&ours))).await);
    served.stop().await;

    let served = serve(dir.path(), &[("trusted-ca-file", ca.as_str())]).await;
    assert!(
        reads(&served, client(&ours)).await,
        "a certificate is optional here"
    );
    assert!(!reads(&served, with(issue(&strangers))).await);
    served.stop().await;
}
