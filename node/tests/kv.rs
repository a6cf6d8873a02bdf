//! KV over real sockets: what etcd's clients rely on, on a cluster of one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod member;

use bytes::Bytes;
use meridian_proto::api::v1::tenant_service_client::TenantServiceClient;
use meridian_proto::api::v1::{
    CreateTenantRequest, DeleteTenantRequest, ListTenantsRequest, Quota,
};
use meridian_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use meridian_proto::etcdserverpb::request_op::Request as Asked;
use meridian_proto::etcdserverpb::response_op::Response as Answered;
use meridian_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use tonic::{Code, Request, Status};

use member::Served;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..PutRequest::default()
    }
}

fn get(key: &str) -> RangeRequest {
    RangeRequest {
        key: bytes(key),
        ..RangeRequest::default()
    }
}

fn prefix(key: &str, end: &str) -> RangeRequest {
    RangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        ..RangeRequest::default()
    }
}

fn op(request: Asked) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn version_is(key: &str, version: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Version.into(),
        key: bytes(key),
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::Version(version)),
    }
}

fn under<T>(tenant: &'static str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("meridian-tenant", tenant.parse().unwrap());
    request
}

fn assert_refused(status: &Status, code: Code, text: &str) {
    assert_eq!((status.code(), status.message()), (code, text));
    assert!(
        status.metadata().contains_key("meridian-code"),
        "{text} has no stable code"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_move_the_revision_by_one_and_reads_see_them() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    let first = kv.put(put("k", "1")).await.unwrap().into_inner();
    let header = first.header.unwrap();
    assert_eq!(header.revision, 2);
    assert!(header.cluster_id != 0 && header.member_id != 0 && header.raft_term != 0);
    let second = PutRequest {
        prev_kv: true,
        ..put("k", "2")
    };
    let second = kv.put(second).await.unwrap().into_inner();
    assert_eq!(second.prev_kv.unwrap().value, bytes("1"));

    let read = kv.range(get("k")).await.unwrap().into_inner();
    assert_eq!(
        (read.count, read.more, read.header.unwrap().revision),
        (1, false, 3)
    );
    let kv_read = &read.kvs[0];
    assert_eq!(
        (
            kv_read.create_revision,
            kv_read.mod_revision,
            kv_read.version
        ),
        (2, 3, 2)
    );
    let old = RangeRequest {
        revision: 2,
        ..get("k")
    };
    let old = kv.range(old).await.unwrap().into_inner();
    assert_eq!(
        (old.kvs[0].value.clone(), old.header.unwrap().revision),
        (bytes("1"), 3)
    );

    let nothing = DeleteRangeRequest {
        key: bytes("x"),
        ..DeleteRangeRequest::default()
    };
    let nothing = kv.delete_range(nothing).await.unwrap().into_inner();
    assert_eq!((nothing.deleted, nothing.header.unwrap().revision), (0, 3));
    let gone = DeleteRangeRequest {
        key: bytes("k"),
        prev_kv: true,
        ..DeleteRangeRequest::default()
    };
    let gone = kv.delete_range(gone).await.unwrap().into_inner();
    assert_eq!(
        (
            gone.deleted,
            gone.prev_kvs.len(),
            gone.header.unwrap().revision
        ),
        (1, 1, 4)
    );
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_limited_ordered_and_counted_as_in_etcd() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    for key in ["a1", "a2", "a3", "b"] {
        kv.put(put(key, key)).await.unwrap();
    }
    let limited = RangeRequest {
        limit: 2,
        ..prefix("a", "b")
    };
    let limited = kv.range(limited).await.unwrap().into_inner();
    assert_eq!(
        (limited.kvs.len(), limited.more, limited.count),
        (2, true, 3)
    );
    let counted = RangeRequest {
        count_only: true,
        ..prefix("a", "\0")
    };
    let counted = kv.range(counted).await.unwrap().into_inner();
    assert_eq!((counted.kvs.len(), counted.count), (0, 4));
    let newest = RangeRequest {
        sort_order: 2,
        sort_target: 3,
        limit: 1,
        ..prefix("a", "\0")
    };
    let newest = kv.range(newest).await.unwrap().into_inner();
    assert_eq!((newest.kvs[0].key.clone(), newest.more), (bytes("b"), true));
    let names = RangeRequest {
        keys_only: true,
        serializable: true,
        ..prefix("a", "b")
    };
    let names = kv.range(names).await.unwrap().into_inner();
    assert!(names.kvs.iter().all(|kv| kv.value.is_empty()));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_compares_and_changes_at_once() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    let create = |value| TxnRequest {
        compare: vec![version_is("lock", 0)],
        success: vec![op(Asked::RequestPut(put("lock", value)))],
        failure: vec![op(Asked::RequestRange(get("lock")))],
    };
    let won = kv.txn(create("me")).await.unwrap().into_inner();
    assert_eq!((won.succeeded, won.header.unwrap().revision), (true, 2));
    let lost = kv.txn(create("you")).await.unwrap().into_inner();
    assert_eq!((lost.succeeded, lost.header.unwrap().revision), (false, 2));
    let Some(Answered::ResponseRange(found)) = &lost.responses[0].response else {
        unreachable!("a range was asked for")
    };
    assert_eq!(found.kvs[0].value, bytes("me"));

    let nested = TxnRequest {
        success: vec![
            op(Asked::RequestTxn(TxnRequest {
                success: vec![op(Asked::RequestPut(put("n", "1")))],
                ..TxnRequest::default()
            })),
            op(Asked::RequestRange(get("n"))),
        ],
        ..TxnRequest::default()
    };
    let nested = kv.txn(nested).await.unwrap().into_inner();
    let Some(Answered::ResponseRange(found)) = &nested.responses[1].response else {
        unreachable!("a range was asked for")
    };
    assert_eq!((found.count, found.header.unwrap().revision), (1, 3));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_is_refused_in_etcds_words() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    let no_key = kv.put(put("", "v")).await.unwrap_err();
    assert_refused(
        &no_key,
        Code::InvalidArgument,
        "etcdserver: key is not provided",
    );
    let no_lease = PutRequest {
        lease: 77,
        ..put("k", "v")
    };
    let no_lease = kv.put(no_lease).await.unwrap_err();
    assert_refused(
        &no_lease,
        Code::NotFound,
        "etcdserver: requested lease not found",
    );
    let missing = PutRequest {
        ignore_value: true,
        ..put("k", "")
    };
    let missing = kv.put(missing).await.unwrap_err();
    assert_refused(&missing, Code::InvalidArgument, "etcdserver: key not found");
    let future = RangeRequest {
        revision: 99,
        ..get("k")
    };
    let future = kv.range(future).await.unwrap_err();
    assert_refused(
        &future,
        Code::OutOfRange,
        "etcdserver: mvcc: required revision is a future revision",
    );
    let sort = RangeRequest {
        sort_order: 9,
        ..get("k")
    };
    let sort = kv.range(sort).await.unwrap_err();
    assert_refused(
        &sort,
        Code::InvalidArgument,
        "etcdserver: invalid sort option",
    );
    let twice = TxnRequest {
        success: vec![
            op(Asked::RequestPut(put("k", "1"))),
            op(Asked::RequestPut(put("k", "2"))),
        ],
        ..TxnRequest::default()
    };
    let twice = kv.txn(twice).await.unwrap_err();
    assert_refused(
        &twice,
        Code::InvalidArgument,
        "etcdserver: duplicate key given in txn request",
    );
    let many = TxnRequest {
        success: (0..129)
            .map(|n| op(Asked::RequestPut(put(&n.to_string(), ""))))
            .collect(),
        ..TxnRequest::default()
    };
    let many = kv.txn(many).await.unwrap_err();
    assert_refused(
        &many,
        Code::InvalidArgument,
        "etcdserver: too many operations in txn request",
    );

    let large = kv.put(put("k", &"x".repeat(1_572_864))).await.unwrap_err();
    assert_refused(
        &large,
        Code::InvalidArgument,
        "etcdserver: request is too large",
    );
    let huge = kv.put(put("k", &"x".repeat(3 << 20))).await.unwrap_err();
    assert_eq!(huge.code(), Code::ResourceExhausted);
    let text = huge.message();
    assert!(
        text.starts_with("grpc: received message larger than max (31457"),
        "{text}"
    );
    assert!(text.ends_with(" vs. 2097152)"), "{text}");

    let read = kv.range(get("k")).await.unwrap().into_inner();
    assert_eq!(
        (read.count, read.header.unwrap().revision),
        (0, 1),
        "a refusal left a trace"
    );
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_forgets_what_was_superseded_and_says_so() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    for value in ["1", "2", "3"] {
        kv.put(put("k", value)).await.unwrap();
    }
    let compact = |revision| CompactionRequest {
        revision,
        physical: true,
    };
    kv.compact(compact(3)).await.unwrap();
    let at = |revision| RangeRequest {
        revision,
        ..get("k")
    };
    assert_eq!(
        kv.range(at(3)).await.unwrap().into_inner().kvs[0].value,
        bytes("2")
    );
    let text = "etcdserver: mvcc: required revision has been compacted";
    assert_refused(&kv.range(at(2)).await.unwrap_err(), Code::OutOfRange, text);
    assert_refused(
        &kv.compact(compact(3)).await.unwrap_err(),
        Code::OutOfRange,
        text,
    );
    let future = kv.compact(compact(99)).await.unwrap_err();
    assert_refused(
        &future,
        Code::OutOfRange,
        "etcdserver: mvcc: required revision is a future revision",
    );
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_a_range_holds_one_revision_and_counts_at_the_end() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    for n in 0..57 {
        kv.put(put(&format!("k{n:03}"), "v")).await.unwrap();
    }
    let mut stream = kv
        .range_stream(prefix("k", "l"))
        .await
        .unwrap()
        .into_inner();
    let mut keys = vec![];
    let mut pieces = vec![];
    while let Some(piece) = stream.message().await.unwrap() {
        if pieces.is_empty() {
            kv.put(put("k000", "later")).await.unwrap();
        }
        let piece = piece.range_response.unwrap();
        keys.extend(piece.kvs.iter().map(|kv| kv.key.clone()));
        pieces.push(piece);
    }
    let mut sorted = keys.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!((keys.len(), &sorted), (57, &keys));
    assert_eq!(pieces[0].kvs.len(), 10);
    let (last, before) = pieces.split_last().unwrap();
    assert!(
        before
            .iter()
            .all(|piece| piece.header.is_none() && piece.count == 0)
    );
    assert_eq!((last.count, last.header.unwrap().revision), (57, 58));
    let sorted = RangeRequest {
        sort_order: 2,
        ..prefix("k", "l")
    };
    let refused = kv.range_stream(sorted).await.unwrap_err();
    assert_eq!(
        refused.message(),
        "RangeStream does not support custom sort orders"
    );
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_have_keys_revisions_and_quotas_of_their_own() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    let mut tenants = TenantServiceClient::new(served.channel().await);
    let unknown = kv.put(under("team-a", put("k", "v"))).await.unwrap_err();
    assert_refused(
        &unknown,
        Code::NotFound,
        "meridian: tenant \"team-a\" does not exist",
    );
    let create = CreateTenantRequest {
        name: "team-a".into(),
        quota: Some(Quota {
            keys: 2,
            requests_per_second: 1000,
            ..Quota::default()
        }),
        retention: None,
    };
    let made = tenants
        .create(create.clone())
        .await
        .unwrap()
        .into_inner()
        .tenant
        .unwrap();
    assert_eq!((made.name.as_str(), made.revision), ("team-a", 1));
    assert_eq!(
        tenants.create(create).await.unwrap_err().code(),
        Code::AlreadyExists
    );

    kv.put(put("k", "default's")).await.unwrap();
    kv.put(put("k2", "default's")).await.unwrap();
    let own = kv
        .put(under("team-a", put("k", "a's")))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(own.header.unwrap().revision, 2);
    let read = kv
        .range(under("team-a", prefix("\0", "\0")))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((read.count, read.kvs[0].value.clone()), (1, bytes("a's")));

    kv.put(under("team-a", put("k2", ""))).await.unwrap();
    let full = kv.put(under("team-a", put("k3", ""))).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);
    let hint = full
        .metadata()
        .get("meridian-hint")
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        hint.contains("team-a") && hint.contains("of 2 keys"),
        "{hint}"
    );
    let gone = DeleteRangeRequest {
        key: bytes("k2"),
        ..DeleteRangeRequest::default()
    };
    kv.delete_range(under("team-a", gone)).await.unwrap();

    let all = tenants
        .list(ListTenantsRequest {})
        .await
        .unwrap()
        .into_inner()
        .tenants;
    let names: Vec<_> = all.iter().map(|tenant| tenant.name.as_str()).collect();
    assert_eq!(names, ["default", "team-a"]);
    assert_eq!(all[1].usage.unwrap().keys, 1);
    tenants
        .delete(DeleteTenantRequest {
            name: "team-a".into(),
        })
        .await
        .unwrap();
    assert_eq!(
        kv.range(under("team-a", get("k")))
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );
    let kept = tenants
        .delete(DeleteTenantRequest {
            name: "default".into(),
        })
        .await
        .unwrap_err();
    assert_eq!(kept.code(), Code::FailedPrecondition);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_over_its_rate_is_told_so() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    let mut tenants = TenantServiceClient::new(served.channel().await);
    let quota = Some(Quota {
        requests_per_second: 3,
        ..Quota::default()
    });
    let create = CreateTenantRequest {
        name: "slow".into(),
        quota,
        retention: None,
    };
    tenants.create(create).await.unwrap();
    let mut refusal = None;
    for _ in 0..100 {
        if let Err(status) = kv.range(under("slow", get("k"))).await {
            refusal = Some(status);
            break;
        }
    }
    let refusal = refusal.unwrap();
    assert_refused(
        &refusal,
        Code::ResourceExhausted,
        "etcdserver: too many requests",
    );
    let hint = refusal
        .metadata()
        .get("meridian-hint")
        .unwrap()
        .to_str()
        .unwrap();
    assert!(
        hint.contains("slow") && hint.contains("3 requests per second"),
        "{hint}"
    );
    kv.range(get("k")).await.unwrap();
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_with_a_request_id_is_applied_once() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    let named = || {
        let mut request = Request::new(put("k", "v"));
        request
            .metadata_mut()
            .insert("meridian-request-id", "once".parse().unwrap());
        request
    };
    let first = kv.put(named()).await.unwrap().into_inner().header.unwrap();
    let second = kv.put(named()).await.unwrap().into_inner().header.unwrap();
    assert_eq!((first.revision, second.revision), (2, 2));
    let read = kv.range(get("k")).await.unwrap().into_inner();
    assert_eq!(read.kvs[0].version, 1);
    let served = served.restart().await;
    let mut kv = served.kv().await;
    let third = kv.put(named()).await.unwrap().into_inner().header.unwrap();
    assert_eq!(third.revision, 2);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_there_after_a_restart() {
    let mut served = Served::start().await;
    for round in 0..3 {
        let mut kv = served.kv().await;
        for n in 0..20 {
            kv.put(put(&format!("k{n}"), &round.to_string()))
                .await
                .unwrap();
        }
        served = served.restart().await;
    }
    let mut kv = served.kv().await;
    let read = kv.range(prefix("k", "l")).await.unwrap().into_inner();
    assert_eq!((read.count, read.header.unwrap().revision), (20, 61));
    assert!(
        read.kvs
            .iter()
            .all(|kv| kv.value == bytes("2") && kv.version == 3)
    );
    let old = RangeRequest {
        revision: 21,
        ..prefix("k", "l")
    };
    let old = kv.range(old).await.unwrap().into_inner();
    assert!(old.kvs.iter().all(|kv| kv.value == bytes("0")));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_makes_no_sense_is_refused() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    let mut request = Request::new(get("k"));
    let not_text = tonic::metadata::AsciiMetadataValue::try_from(&b"\xff\xfe"[..]).unwrap();
    request
        .metadata_mut()
        .insert("client-api-version", not_text);
    let refused = kv.range(request).await.unwrap_err();
    assert_refused(
        &refused,
        Code::InvalidArgument,
        "etcdserver: invalid client api version",
    );
    let refused = kv.range(under("No-Tenant", get("k"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let mut request = Request::new(put("k", "v"));
    request
        .metadata_mut()
        .insert("meridian-request-id", "x".repeat(129).parse().unwrap());
    assert_eq!(
        kv.put(request).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    served.stop().await;
}
