//! TLS between members, as processes: one authority for all of them, renewed without a restart.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustix::process::Signal;

use crate::processes::Processes;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes a new certificate of an authority where a member looks for its own.
fn issue(authority: &Authority, dir: &Path) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    std::fs::write(dir.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
    std::fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn members_trust_their_authority_alone_and_take_new_certificates_without_a_restart() {
    let mut all = Processes::lay_out(3, "https");
    let ours = authority();
    let mut folders = vec![];
    for at in 0..3 {
        let folder = all.dir.path().join(format!("tls-{at}"));
        std::fs::create_dir(&folder).unwrap();
        issue(&ours, &folder);
        let path = |name: &str| folder.join(name).display().to_string();
        let (cert, key, ca) = (path("cert.pem"), path("key.pem"), path("ca.pem"));
        let flags = [
            ("peer-cert-file", cert.as_str()),
            ("peer-key-file", key.as_str()),
            ("peer-trusted-ca-file", ca.as_str()),
        ];
        all.flags(at, &flags);
        folders.push(folder);
    }
    all.start_all();
    all.put(0, "k", "1").await;
    all.converge().await;

    let outside = all.follower().await;
    all.kill(outside);
    issue(&authority(), &folders[outside]);
    all.spawn(outside);
    all.put(all.leader().await, "k", "2").await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert!(!all.is_ready(outside), "a stranger's certificate was taken");
    let status = all.status(outside).await;
    assert!(status.is_none_or(|status| status.leader == 0), "it is led");

    for (at, folder) in folders.iter().enumerate() {
        issue(&ours, folder);
        all.signal(at, Signal::HUP);
    }
    all.ready(outside);
    all.converge().await;
    let leader = all.leader().await;
    all.kill((leader + 1) % 3);
    all.put(leader, "k", "3").await;
}
