//! Other ways to prove who one is: API tokens and certificates.

use meridian_domain::access::change::AccessChange;
use meridian_domain::access::grant::Permission as Right;
use meridian_domain::access::grant::PermissionKind;
use meridian_domain::access::key;
use meridian_domain::access::principal::Subject;
use meridian_domain::access::role::Assignment;
use meridian_domain::access::token::Token;
use meridian_domain::intent::Intent;
use meridian_domain::key::KeyRange;
use meridian_domain::name::TenantId;
use meridian_node::authn::{token, unix_ms};
use meridian_proto::authpb::permission::Type;
use meridian_proto::etcdserverpb as pb;
use meridian_proto::etcdserverpb::auth_client::AuthClient;
use meridian_proto::etcdserverpb::kv_client::KvClient;
use rcgen::{CertificateParams, DnType, KeyPair, KeyUsagePurpose, SanType};
use tonic::transport::{Channel, Endpoint, Identity};
use tonic::{Code, Request};

use super::rights::Watching;
use super::{Closed, close, grant, log_in, role, user, with};
use crate::requests::{assert_refused, get, put};
use crate::served::Served;
use crate::tls::{self, Authority};

const DENIED: &str = "etcdserver: permission denied";
const BAD_TOKEN: &str = "etcdserver: invalid auth token";

/// Changes rules as the holder of a session.
async fn change(served: &Served, session: &str, change: AccessChange) {
    let pipeline = &served.member().pipeline;
    let request = with(session, ());
    let ctx = pipeline.context(&request).unwrap();
    pipeline.write(&ctx, Intent::Access(change)).await.unwrap();
}

/// Issues a token with the role `r`.
async fn issue(closed: &Closed, expires_ms: u64) -> token::Made {
    let pipeline = &closed.served.member().pipeline;
    let key = pipeline.own_key(key::TOKEN).await.unwrap();
    let made = token::make(&key, TenantId::DEFAULT);
    let token = Token {
        id: made.id.clone(),
        digest: made.digest,
        holder: "the build".into(),
        roles: vec![Assignment::of("r")],
        issued_ms: unix_ms() - 1000,
        expires_ms,
        networks: vec![],
        bound_to: None,
    };
    change(
        &closed.served,
        &closed.root,
        AccessChange::TokenIssue(token),
    )
    .await;
    made
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_with_the_token_that_opened_it() {
    let closed = Closed::start().await;
    closed.permit(Type::Readwrite, "a", "b").await;
    let made = issue(&closed, unix_ms() + 3_000).await;
    let mut watching = Watching::open(&closed, &made.text).await;
    assert!(!watching.create("a", "b").await.canceled);
    let ended = watching.next().await;
    assert!(ended.canceled, "{ended:?}");
    assert!(ended.cancel_reason.ends_with(BAD_TOKEN), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_token_has_its_roles_until_it_is_revoked() {
    let closed = Closed::start().await;
    closed.permit(Type::Readwrite, "a", "b").await;
    let pipeline = &closed.served.member().pipeline;
    let key = pipeline.own_key(key::TOKEN).await.unwrap();
    let made = issue(&closed, unix_ms() + 600_000).await;
    let over = issue(&closed, unix_ms()).await;
    let bearer = |text: &str, key: &str| {
        let mut request = Request::new(put(key, "v"));
        let value = format!("Bearer {text}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        request
    };
    let mut kv = closed.served.kv().await;
    kv.put(bearer(&made.text, "a")).await.unwrap();
    kv.put(with(&made.text, put("a", "bare"))).await.unwrap();
    let refused = kv.put(bearer(&made.text, "x")).await.unwrap_err();
    assert_refused(&refused, Code::PermissionDenied, DENIED);
    let stranger = token::make(&key, TenantId::DEFAULT).text;
    for bad in [over.text.as_str(), stranger.as_str(), "mrd_t_1-2_3"] {
        let refused = kv.put(bearer(bad, "a")).await.unwrap_err();
        assert_refused(&refused, Code::Unauthenticated, BAD_TOKEN);
    }
    let revoke = AccessChange::TokenRevoke { id: made.id };
    change(&closed.served, &closed.root, revoke).await;
    let refused = kv.put(bearer(&made.text, "a")).await.unwrap_err();
    assert_refused(&refused, Code::Unauthenticated, BAD_TOKEN);
}

/// A channel that shows a certificate with these names.
async fn channel(served: &Served, ours: &Authority, common: &str, uris: &[&str]) -> Channel {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(DnType::CommonName, common);
    let uri = |uri: &&str| SanType::URI((*uri).try_into().unwrap());
    params.subject_alt_names = uris.iter().map(uri).collect();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, ours).unwrap().pem();
    let identity = Identity::from_pem(certificate, key.serialize_pem());
    let tls = tls::client(ours).identity(identity);
    let url = format!("https://{}", served.authority());
    let endpoint = Endpoint::from_shared(url).unwrap().tls_config(tls).unwrap();
    endpoint.connect().await.unwrap()
}

/// A member that knows clients by one kind of name.
async fn serve(ours: &Authority, dir: &std::path::Path, naming: &str) -> Served {
    tls::write(dir, &tls::issue(ours));
    let ca = dir.join("ca.pem");
    std::fs::write(&ca, ours.pem()).unwrap();
    let ca = ca.display().to_string();
    let flags = [
        ("trusted-ca-file", ca.as_str()),
        ("client-cert-auth", "true"),
        ("client-cert-identity", naming),
    ];
    tls::serve(dir, &flags).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_common_name_is_a_user_where_the_settings_say_so() {
    let (ours, dir) = (tls::authority(), tempfile::tempdir().unwrap());
    let served = serve(&ours, dir.path(), "cn").await;
    let mut auth = AuthClient::new(channel(&served, &ours, "anybody", &[]).await);
    let alice = pb::AuthUserAddRequest {
        options: Some(meridian_proto::authpb::UserAddOptions { no_password: true }),
        ..user("alice")
    };
    auth.user_add(alice).await.unwrap();
    auth.role_add(pb::AuthRoleAddRequest { name: "r".into() })
        .await
        .unwrap();
    let right = role("r", Type::Readwrite, "a", "b");
    auth.role_grant_permission(right).await.unwrap();
    auth.user_grant_role(grant("alice", "r")).await.unwrap();
    close(&mut auth, "default").await;

    let mut alice = KvClient::new(channel(&served, &ours, "alice", &[]).await);
    alice.put(put("a", "v")).await.unwrap();
    let refused = alice.put(put("x", "v")).await.unwrap_err();
    assert_refused(&refused, Code::PermissionDenied, DENIED);
    // A token goes before a certificate, and one that does not hold is not passed over.
    let refused = alice.put(with("mrs_1_", put("a", "v"))).await.unwrap_err();
    assert_refused(&refused, Code::Unauthenticated, BAD_TOKEN);
    let mut nobody = KvClient::new(channel(&served, &ours, "eve", &[]).await);
    let refused = nobody.range(get("a")).await.unwrap_err();
    assert_refused(&refused, Code::Unauthenticated, BAD_TOKEN);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spiffe_id_has_the_roles_that_are_bound_to_it() {
    let (ours, dir) = (tls::authority(), tempfile::tempdir().unwrap());
    let served = serve(&ours, dir.path(), "spiffe").await;
    let id = "spiffe://prod.example/payments/api";
    let payments = channel(&served, &ours, "root", &[id]).await;
    let mut auth = AuthClient::new(payments.clone());
    close(&mut auth, "default").await;
    let root = log_in(&mut auth, "default", "root").await.unwrap();
    let steps = [
        AccessChange::RoleAdd { name: "r".into() },
        AccessChange::PermissionGrant {
            role: "r".into(),
            permission: Some(Right {
                kind: PermissionKind::ReadWrite,
                range: KeyRange::prefix("a".into()),
            }),
        },
        AccessChange::Assign {
            subject: Subject::Certificate(id.into()),
            assignment: Assignment::of("r"),
        },
    ];
    for step in steps {
        change(&served, &root, step).await;
    }
    let mut kv = KvClient::new(payments);
    kv.put(put("a", "v")).await.unwrap();
    let refused = kv.put(put("x", "v")).await.unwrap_err();
    assert_refused(&refused, Code::PermissionDenied, DENIED);
    let other = "spiffe://prod.example/other";
    let mut other = KvClient::new(channel(&served, &ours, "root", &[other]).await);
    let refused = other.range(get("a")).await.unwrap_err();
    assert_refused(&refused, Code::PermissionDenied, DENIED);
    // Two names are none, whatever the common name says.
    let both = [id, "spiffe://prod.example/other"];
    let mut both = KvClient::new(channel(&served, &ours, "root", &both).await);
    let refused = both.range(get("a")).await.unwrap_err();
    assert_refused(
        &refused,
        Code::InvalidArgument,
        "etcdserver: user name is empty",
    );
    served.stop().await;
}
