//! Every method of every service, asked by everybody: nobody, a forger, a user without rights, another tenant's root,
//! and root.
//!
//! The table is the review: a method that is not in it fails the test.

use bytes::{Buf, BufMut, Bytes};
use meridian_node::service::gateway::json;
use meridian_proto::api::v1::CreateTenantRequest;
use meridian_proto::api::v1::tenant_service_client::TenantServiceClient;
use meridian_proto::etcdserverpb::auth_client::AuthClient;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::{Closed, close, log_in, soon, with};

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    /// Everybody, whatever they show.
    Always,
    /// Everybody who does not show something false.
    ToHonest,
    /// Whoever has the right.
    No,
    /// The same; and a user about themselves, which is what the request asks.
    NotToOthers,
}

/// Each method, who may call it, and a request that is well-formed.
const TABLE: &[(&str, Open, &str)] = &[
    ("etcdserverpb.KV/Range", Open::No, r#"{"key":"YQ=="}"#),
    ("etcdserverpb.KV/RangeStream", Open::No, r#"{"key":"YQ=="}"#),
    ("etcdserverpb.KV/Put", Open::No, r#"{"key":"YQ=="}"#),
    ("etcdserverpb.KV/DeleteRange", Open::No, r#"{"key":"YQ=="}"#),
    (
        "etcdserverpb.KV/Txn",
        Open::No,
        r#"{"success":[{"request_range":{"key":"YQ=="}}]}"#,
    ),
    ("etcdserverpb.KV/Compact", Open::No, r#"{"revision":"1"}"#),
    (
        "etcdserverpb.Watch/Watch",
        Open::No,
        r#"{"create_request":{"key":"YQ=="}}"#,
    ),
    (
        "etcdserverpb.Lease/LeaseGrant",
        Open::No,
        r#"{"TTL":"60","ID":"77"}"#,
    ),
    ("etcdserverpb.Lease/LeaseRevoke", Open::No, r#"{"ID":"7"}"#),
    (
        "etcdserverpb.Lease/LeaseKeepAlive",
        Open::No,
        r#"{"ID":"7"}"#,
    ),
    (
        "etcdserverpb.Lease/LeaseTimeToLive",
        Open::No,
        r#"{"ID":"7"}"#,
    ),
    ("etcdserverpb.Lease/LeaseLeases", Open::No, "{}"),
    (
        "etcdserverpb.Cluster/MemberAdd",
        Open::No,
        r#"{"peerURLs":["no url"]}"#,
    ),
    (
        "etcdserverpb.Cluster/MemberRemove",
        Open::No,
        r#"{"ID":"7"}"#,
    ),
    (
        "etcdserverpb.Cluster/MemberUpdate",
        Open::No,
        r#"{"ID":"7"}"#,
    ),
    ("etcdserverpb.Cluster/MemberList", Open::No, "{}"),
    (
        "etcdserverpb.Cluster/MemberPromote",
        Open::No,
        r#"{"ID":"7"}"#,
    ),
    ("etcdserverpb.Maintenance/Alarm", Open::No, "{}"),
    ("etcdserverpb.Maintenance/Status", Open::No, "{}"),
    ("etcdserverpb.Maintenance/Defragment", Open::No, "{}"),
    ("etcdserverpb.Maintenance/Hash", Open::No, "{}"),
    ("etcdserverpb.Maintenance/HashKV", Open::No, "{}"),
    ("etcdserverpb.Maintenance/Snapshot", Open::No, "{}"),
    (
        "etcdserverpb.Maintenance/MoveLeader",
        Open::No,
        r#"{"targetID":"7"}"#,
    ),
    ("etcdserverpb.Maintenance/Downgrade", Open::No, "{}"),
    ("etcdserverpb.Auth/AuthEnable", Open::No, "{}"),
    ("etcdserverpb.Auth/AuthStatus", Open::ToHonest, "{}"),
    (
        "etcdserverpb.Auth/Authenticate",
        Open::Always,
        r#"{"name":"x","password":"x"}"#,
    ),
    (
        "etcdserverpb.Auth/UserAdd",
        Open::No,
        r#"{"name":"u","password":"x"}"#,
    ),
    (
        "etcdserverpb.Auth/UserGet",
        Open::NotToOthers,
        r#"{"name":"nobody"}"#,
    ),
    ("etcdserverpb.Auth/UserList", Open::No, "{}"),
    ("etcdserverpb.Auth/UserDelete", Open::No, r#"{"name":"u"}"#),
    (
        "etcdserverpb.Auth/UserChangePassword",
        Open::No,
        r#"{"name":"u","password":"y"}"#,
    ),
    (
        "etcdserverpb.Auth/UserGrantRole",
        Open::No,
        r#"{"user":"u","role":"r"}"#,
    ),
    (
        "etcdserverpb.Auth/UserRevokeRole",
        Open::No,
        r#"{"name":"u","role":"r"}"#,
    ),
    ("etcdserverpb.Auth/RoleAdd", Open::No, r#"{"name":"s"}"#),
    ("etcdserverpb.Auth/RoleGet", Open::No, r#"{"role":"r"}"#),
    ("etcdserverpb.Auth/RoleList", Open::No, "{}"),
    ("etcdserverpb.Auth/RoleDelete", Open::No, r#"{"role":"s"}"#),
    (
        "etcdserverpb.Auth/RoleGrantPermission",
        Open::No,
        r#"{"name":"s","perm":{"key":"YQ=="}}"#,
    ),
    (
        "etcdserverpb.Auth/RoleRevokePermission",
        Open::No,
        r#"{"role":"s","key":"YQ=="}"#,
    ),
    ("v3lockpb.Lock/Lock", Open::No, r#"{"name":"bG9jaw=="}"#),
    ("v3lockpb.Lock/Unlock", Open::No, r#"{"key":"bG9jaw=="}"#),
    (
        "v3electionpb.Election/Campaign",
        Open::No,
        r#"{"name":"ZWw=","value":"eA=="}"#,
    ),
    (
        "v3electionpb.Election/Proclaim",
        Open::No,
        r#"{"leader":{"name":"ZWw=","key":"ZWwvMQ==","rev":"1","lease":"7"}}"#,
    ),
    (
        "v3electionpb.Election/Leader",
        Open::No,
        r#"{"name":"ZWw="}"#,
    ),
    (
        "v3electionpb.Election/Observe",
        Open::No,
        r#"{"name":"ZWw="}"#,
    ),
    (
        "v3electionpb.Election/Resign",
        Open::No,
        r#"{"leader":{"name":"ZWw=","key":"ZWwvMQ==","rev":"1","lease":"7"}}"#,
    ),
    ("grpc.health.v1.Health/Check", Open::Always, "{}"),
    ("grpc.health.v1.Health/Watch", Open::Always, "{}"),
    (
        "meridian.v1.TenantService/Create",
        Open::No,
        r#"{"name":"made"}"#,
    ),
    ("meridian.v1.TenantService/List", Open::No, "{}"),
    (
        "meridian.v1.TenantService/Get",
        Open::No,
        r#"{"name":"default"}"#,
    ),
    (
        "meridian.v1.TenantService/Change",
        Open::No,
        r#"{"name":"made"}"#,
    ),
    (
        "meridian.v1.TenantService/Delete",
        Open::No,
        r#"{"name":"made"}"#,
    ),
    ("meridian.v1.ClusterService/Status", Open::No, "{}"),
    // Last: it opens the door.
    ("etcdserverpb.Auth/AuthDisable", Open::No, "{}"),
];

const NO_NAME: &str = "etcdserver: user name is empty";
const NO_RIGHT: &str = "etcdserver: permission denied";
const NO_TOKEN: &str = "etcdserver: invalid auth token";
const NO_ACCESS: [&str; 3] = [NO_NAME, NO_RIGHT, NO_TOKEN];

/// Messages as bytes.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Calls a method; why it was refused, if it was. Of a stream the first answer counts.
async fn refusal(
    channel: &Channel,
    method: &str,
    token: Option<&str>,
    text: &str,
) -> Option<String> {
    let (service, name) = method.split_once('/').unwrap();
    let service = meridian_proto::descriptors()
        .get_service_by_name(service)
        .unwrap();
    let of = service
        .methods()
        .find(|method| method.name() == name)
        .unwrap();
    let message = json::read(&of.input(), text.as_bytes()).unwrap();
    // What is open stays open on both sides, as of a client that has more to say.
    let messages = tokio_stream::iter([message]);
    let mut request = Request::new(messages);
    let metadata = request.metadata_mut();
    metadata.insert("meridian-tenant", "default".parse().unwrap());
    if let Some(token) = token {
        metadata.insert("token", token.parse().unwrap());
    }
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let path = format!("/{method}").parse().unwrap();
    let mut answers = match grpc.streaming(request, path, Raw).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return Some(status.message().to_owned()),
    };
    match answers.message().await {
        Err(status) => Some(status.message().to_owned()),
        Ok(None) => None,
        Ok(Some(answer)) => {
            // A watch is refused within its stream.
            let text = String::from_utf8_lossy(&answer).into_owned();
            let refused = method.ends_with("Watch/Watch") && text.contains("desc = ");
            refused.then(|| text.split("desc = ").nth(1).unwrap().to_owned())
        }
    }
}

#[test]
fn every_method_says_who_may_call_it() {
    let mut known: Vec<String> = meridian_proto::descriptors()
        .services()
        .flat_map(|service| {
            let methods = service.methods();
            let name = |method: prost_reflect::MethodDescriptor| {
                format!("{}/{}", method.parent_service().full_name(), method.name())
            };
            methods.map(name).collect::<Vec<_>>()
        })
        .collect();
    let mut listed: Vec<String> = TABLE.iter().map(|row| row.0.to_owned()).collect();
    known.sort();
    listed.sort();
    assert_eq!(known, listed);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_is_closed_to_whoever_has_no_right_to_it_and_open_to_root() {
    let closed = Closed::start().await;
    let channel = closed.served.channel().await;
    let create = CreateTenantRequest {
        name: "other".into(),
        ..Default::default()
    };
    let mut tenants = TenantServiceClient::new(channel.clone());
    tenants.create(with(&closed.root, create)).await.unwrap();
    let mut auth = AuthClient::new(channel.clone());
    close(&mut auth, "other").await;
    let foreign = log_in(&mut auth, "other", "root").await.unwrap();
    let powerless = closed.log_in("nobody").await;
    let forged = format!("{}0", closed.root.trim_end_matches('0'));

    let callers: [(&str, Option<&str>, &str); 4] = [
        ("nobody", None, NO_NAME),
        ("a forger", Some(&forged), NO_TOKEN),
        ("a user without rights", Some(&powerless), NO_RIGHT),
        ("another tenant's root", Some(&foreign), NO_RIGHT),
    ];
    for (method, open, text) in TABLE {
        for (who, token, reason) in callers {
            let said = soon(refusal(&channel, method, token, text)).await;
            let honest = !matches!(who, "a forger" | "another tenant's root");
            let is_open = match open {
                Open::Always => true,
                Open::ToHonest => honest,
                Open::NotToOthers => who == "a user without rights",
                Open::No => false,
            };
            let refused = said
                .as_deref()
                .is_some_and(|said| NO_ACCESS.contains(&said));
            assert_eq!(refused, !is_open, "{method} by {who}: {said:?}");
            if refused {
                assert_eq!(said.as_deref(), Some(reason), "{method} by {who}");
            }
        }
        let said = soon(refusal(&channel, method, Some(&closed.root), text)).await;
        let refused = said
            .as_deref()
            .is_some_and(|said| NO_ACCESS.contains(&said));
        assert!(!refused, "{method} by root: {said:?}");
    }
    // With the door open again nothing is asked.
    for (method, _, text) in TABLE.iter().take(5) {
        assert_eq!(
            refusal(&channel, method, None, text).await,
            None,
            "{method}"
        );
        assert_eq!(
            refusal(&channel, method, Some(&forged), text).await,
            None,
            "{method}"
        );
    }
}
