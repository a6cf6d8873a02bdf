//! KV over real sockets: what etcd's clients rely on, on a cluster of one.

use meridian_proto::etcdserverpb::request_op::Request as Asked;
use meridian_proto::etcdserverpb::response_op::Response as Answered;
use meridian_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest,
};
use tonic::{Code, Request};

use crate::requests::{assert_refused, bytes, get, op, prefix, put, under, version_is};
use crate::served::Served;

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
