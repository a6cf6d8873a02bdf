//! What somebody may do, and what ends when they may not any more.

use bytes::Bytes;
use meridian_proto::authpb::permission::Type;
use meridian_proto::etcdserverpb as pb;
use meridian_proto::etcdserverpb::lease_client::LeaseClient;
use meridian_proto::etcdserverpb::request_op::Request as Op;
use meridian_proto::etcdserverpb::watch_client::WatchClient;
use meridian_proto::etcdserverpb::watch_request::RequestUnion;
use meridian_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseTimeToLiveRequest, PutRequest, RequestOp,
    TxnRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Streaming};

use super::{Closed, log_in_as, soon, with, with_under};
use crate::requests::{assert_refused, get, put};

const DENIED: &str = "etcdserver: permission denied";
const BAD_TOKEN: &str = "etcdserver: invalid auth token";

pub struct Watching {
    say: mpsc::Sender<WatchRequest>,
    answers: Streaming<WatchResponse>,
}

impl Watching {
    pub async fn open(closed: &Closed, token: &str) -> Self {
        let (say, said) = mpsc::channel(4);
        let mut client = WatchClient::new(closed.served.channel().await);
        let request = with(token, ReceiverStream::new(said));
        let answers = client.watch(request).await.unwrap().into_inner();
        Self { say, answers }
    }

    pub async fn create(&mut self, key: &str, end: &str) -> WatchResponse {
        let create = WatchCreateRequest {
            key: key.to_owned().into(),
            range_end: end.to_owned().into(),
            ..WatchCreateRequest::default()
        };
        let union = Some(RequestUnion::CreateRequest(create));
        let request = WatchRequest {
            request_union: union,
        };
        self.say.send(request).await.unwrap();
        self.next().await
    }

    pub async fn next(&mut self) -> WatchResponse {
        soon(self.answers.message()).await.unwrap().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_when_its_right_does_and_others_go_on() {
    let closed = Closed::start().await;
    closed.permit(Type::Readwrite, "a", "b").await;
    closed.permit(Type::Read, "c", "d").await;
    let alice = closed.log_in("alice").await;
    let mut watching = Watching::open(&closed, &alice).await;
    let first = watching.create("a", "b").await;
    assert!(first.created && !first.canceled);
    let second = watching.create("c", "d").await;
    assert!(second.created && !second.canceled);
    let third = watching.create("a", "\0").await;
    assert!(third.canceled && third.watch_id == -1, "{third:?}");
    assert!(third.cancel_reason.ends_with(DENIED), "{third:?}");

    closed.forbid("a", "b").await;
    let ended = watching.next().await;
    assert!(ended.canceled, "{ended:?}");
    assert_eq!(ended.watch_id, first.watch_id);
    let reason = format!("rpc error: code = PermissionDenied desc = {DENIED}");
    assert_eq!(ended.cancel_reason, reason);

    let mut kv = closed.served.kv().await;
    kv.put(with(&closed.root, put("a", "secret")))
        .await
        .unwrap();
    kv.put(with(&closed.root, put("c", "shown"))).await.unwrap();
    let shown = watching.next().await;
    assert_eq!(shown.watch_id, second.watch_id);
    assert_eq!(shown.events[0].kv.as_ref().unwrap().value, "shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_of_nobody_end_when_authentication_is_switched_on() {
    let closed = Closed::start().await;
    let mut auth = closed.auth().await;
    let off = with(&closed.root, pb::AuthDisableRequest {});
    auth.auth_disable(off).await.unwrap();
    let (say, said) = mpsc::channel(4);
    let mut client = WatchClient::new(closed.served.channel().await);
    let request = Request::new(ReceiverStream::new(said));
    let answers = client.watch(request).await.unwrap().into_inner();
    let mut watching = Watching { say, answers };
    assert!(!watching.create("a", "").await.canceled);
    auth.auth_enable(pb::AuthEnableRequest {}).await.unwrap();
    let ended = watching.next().await;
    assert!(ended.canceled, "{ended:?}");
    assert!(
        ended
            .cancel_reason
            .ends_with("etcdserver: user name is empty")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_or_no_user_ends_what_the_old_one_got() {
    let closed = Closed::start().await;
    closed.permit(Type::Readwrite, "a", "b").await;
    let alice = closed.log_in("alice").await;
    let mut kv = closed.served.kv().await;
    kv.put(with(&alice, put("a", "1"))).await.unwrap();
    let mut watching = Watching::open(&closed, &alice).await;
    assert!(!watching.create("a", "").await.canceled);

    let mut auth = closed.auth().await;
    let change = pb::AuthUserChangePasswordRequest {
        name: "alice".into(),
        password: "another password".into(),
        ..Default::default()
    };
    auth.user_change_password(with(&closed.root, change))
        .await
        .unwrap();
    let refused = kv.put(with(&alice, put("a", "2"))).await.unwrap_err();
    assert_refused(&refused, Code::Unauthenticated, BAD_TOKEN);
    assert!(watching.next().await.canceled);

    let again = log_in_as(&mut auth, "default", "alice", "another password").await;
    let again = again.unwrap();
    kv.put(with(&again, put("a", "3"))).await.unwrap();
    let delete = pb::AuthUserDeleteRequest {
        name: "alice".into(),
    };
    auth.user_delete(with(&closed.root, delete)).await.unwrap();
    let refused = kv.range(with(&again, get("a"))).await.unwrap_err();
    assert_refused(&refused, Code::Unauthenticated, BAD_TOKEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_known_after_a_restart() {
    let mut closed = Closed::start().await;
    closed.served = closed.served.restart().await;
    let mut kv = closed.served.kv().await;
    kv.put(with(&closed.root, put("a", "1"))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hides_in_a_transaction_or_behind_a_lease_needs_rights_too() {
    let closed = Closed::start().await;
    closed.permit(Type::Write, "a", "b").await;
    closed.permit(Type::Read, "r", "s").await;
    let alice = closed.log_in("alice").await;
    let mut kv = closed.served.kv().await;
    kv.put(with(&alice, put("a", "1"))).await.unwrap();
    let op = |op| RequestOp { request: Some(op) };
    let own = || op(Op::RequestPut(put("a", "2")));
    let foreign = || op(Op::RequestPut(put("x", "2")));
    let previous = || {
        let prev_kv = PutRequest {
            prev_kv: true,
            ..put("a", "2")
        };
        op(Op::RequestPut(prev_kv))
    };
    let nest = |inner: RequestOp| {
        op(Op::RequestTxn(TxnRequest {
            failure: vec![inner],
            ..TxnRequest::default()
        }))
    };
    let txn = |ops: Vec<RequestOp>| TxnRequest {
        success: ops,
        ..TxnRequest::default()
    };
    kv.txn(with(&alice, txn(vec![own()]))).await.unwrap();
    for bad in [
        vec![own(), foreign()],
        vec![nest(foreign())],
        vec![nest(nest(foreign()))],
        vec![previous()],
        vec![nest(previous())],
    ] {
        let refused = kv.txn(with(&alice, txn(bad))).await.unwrap_err();
        assert_refused(&refused, Code::PermissionDenied, DENIED);
    }

    let mut leases = LeaseClient::new(closed.served.channel().await);
    let lease = LeaseGrantRequest { ttl: 600, id: 9 };
    leases.lease_grant(with(&closed.root, lease)).await.unwrap();
    let attached = |key: &str| PutRequest {
        lease: 9,
        ..put(key, "v")
    };
    kv.put(with(&closed.root, attached("x"))).await.unwrap();
    kv.put(with(&closed.root, attached("r"))).await.unwrap();
    let refused = kv.put(with(&alice, attached("a"))).await.unwrap_err();
    assert_refused(&refused, Code::PermissionDenied, DENIED);
    let revoke = pb::LeaseRevokeRequest { id: 9 };
    let refused = leases.lease_revoke(with(&alice, revoke)).await.unwrap_err();
    assert_refused(&refused, Code::PermissionDenied, DENIED);
    let look = LeaseTimeToLiveRequest { id: 9, keys: true };
    let seen = leases.lease_time_to_live(with(&alice, look)).await;
    assert_eq!(seen.unwrap().into_inner().keys, [Bytes::from("r")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_keeps_a_lease_alive_ends_when_the_right_does() {
    let closed = Closed::start().await;
    closed.permit(Type::Readwrite, "a", "b").await;
    let alice = closed.log_in("alice").await;
    let mut leases = LeaseClient::new(closed.served.channel().await);
    let lease = LeaseGrantRequest { ttl: 600, id: 9 };
    leases.lease_grant(with(&alice, lease)).await.unwrap();
    let (say, said) = mpsc::channel(4);
    let request = with(&alice, ReceiverStream::new(said));
    let answers = leases.lease_keep_alive(request).await.unwrap();
    let mut answers = answers.into_inner();
    say.send(LeaseKeepAliveRequest { id: 9 }).await.unwrap();
    assert_eq!(soon(answers.message()).await.unwrap().unwrap().ttl, 600);
    closed.forbid("a", "b").await;
    say.send(LeaseKeepAliveRequest { id: 9 }).await.unwrap();
    let refused = soon(answers.message()).await.unwrap_err();
    assert_refused(&refused, Code::PermissionDenied, DENIED);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_wrong_passwords_lock_a_user_for_the_address_they_came_from() {
    let closed = Closed::start().await;
    let mut auth = closed.auth().await;
    const FAILED: &str = "etcdserver: authentication failed, invalid user ID or password";
    for name in ["alice", "not there"] {
        for _ in 0..10 {
            let failed = log_in_as(&mut auth, "default", name, "wrong").await;
            assert_refused(&failed.unwrap_err(), Code::InvalidArgument, FAILED);
        }
        let locked = log_in_as(&mut auth, "default", name, "alice's password").await;
        let text = "etcdserver: too many requests";
        assert_refused(&locked.unwrap_err(), Code::ResourceExhausted, text);
    }
    closed.log_in("nobody").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_another_tenant_exists_is_not_said() {
    let closed = Closed::start().await;
    let mut kv = closed.served.kv().await;
    let alice = closed.log_in("alice").await;
    let refused = kv.range(with_under(&alice, "nowhere", get("a"))).await;
    assert_refused(&refused.unwrap_err(), Code::PermissionDenied, DENIED);
    let unknown = log_in_as(&mut closed.auth().await, "nowhere", "root", "x").await;
    let text = "etcdserver: authentication failed, invalid user ID or password";
    assert_refused(&unknown.unwrap_err(), Code::InvalidArgument, text);
}
