//! What etcd makes of a transaction on the wire.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use meridian_domain::kv::{KeyValue, RangeReply, compare};
use prost::Message;

use super::*;
use crate::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};

fn k() -> Bytes {
    Bytes::from_static(b"k")
}

fn one(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn read(key: &'static [u8]) -> RequestOp {
    let key = Bytes::from_static(key);
    one(Request::RequestRange(RangeRequest {
        key,
        ..RangeRequest::default()
    }))
}

fn nested(request: TxnRequest) -> RequestOp {
    one(Request::RequestTxn(request))
}

fn reads(count: usize) -> TxnRequest {
    TxnRequest {
        success: vec![read(b"k"); count],
        ..TxnRequest::default()
    }
}

fn on_k(result: i32, target: i32, union: Option<TargetUnion>) -> etcdserverpb::Compare {
    etcdserverpb::Compare {
        result,
        target,
        key: k(),
        range_end: Bytes::new(),
        target_union: union,
    }
}

fn kv(version: i64) -> KeyValue {
    KeyValue {
        key: k(),
        create_revision: 5,
        mod_revision: 6,
        version,
        value: Bytes::from_static(b"v"),
        lease: 0,
    }
}

/// Whether a compare holds for a key that is there and for one that is not.
fn outcome(wire: etcdserverpb::Compare) -> (bool, bool) {
    match super::compare(wire).unwrap() {
        None => (true, true),
        Some(read) => (compare::holds(&read, [&kv(2)]), compare::holds(&read, [])),
    }
}

#[test]
fn an_operation_without_content_is_answered_as_key_not_found() {
    let request = TxnRequest {
        failure: vec![RequestOp { request: None }],
        ..TxnRequest::default()
    };
    assert_eq!(txn(request), Err(Rejection::KeyNotFound));
}

#[test]
fn the_count_is_judged_before_keys_and_compares_before_operations() {
    let mut request = reads(129);
    request.compare = vec![etcdserverpb::Compare::default()];
    assert_eq!(txn(request.clone()), Err(Rejection::TooManyOps));
    request.success = vec![RequestOp { request: None }];
    assert_eq!(txn(request.clone()), Err(Rejection::EmptyKey));
    request.compare.clear();
    assert_eq!(txn(request), Err(Rejection::KeyNotFound));
}

#[test]
fn the_success_branch_is_judged_before_the_failure_branch() {
    let put = PutRequest {
        key: k(),
        value: k(),
        ignore_value: true,
        ..PutRequest::default()
    };
    let request = TxnRequest {
        compare: vec![],
        success: vec![one(Request::RequestPut(put))],
        failure: vec![read(b"")],
    };
    assert_eq!(txn(request), Err(Rejection::ValueProvided));
}

#[test]
fn a_nested_transaction_has_what_the_level_around_it_leaves() {
    let around = |inner, beside: usize| {
        let mut request = reads(beside);
        request.failure.push(nested(inner));
        request
    };
    assert!(txn(around(reads(126), 2)).is_ok());
    assert_eq!(txn(around(reads(127), 2)), Err(Rejection::TooManyOps));
    // At no budget left an empty nested transaction is still one.
    assert!(txn(around(reads(0), 128)).is_ok());
    assert_eq!(txn(around(reads(1), 128)), Err(Rejection::TooManyOps));
}

#[test]
fn nesting_is_bounded() {
    let tower = |levels: usize| {
        (1..levels).fold(reads(1), |inner, _| TxnRequest {
            success: vec![nested(inner)],
            ..TxnRequest::default()
        })
    };
    assert!(txn(tower(limits::TXN_DEPTH_MAX)).is_ok());
    assert_eq!(
        txn(tower(limits::TXN_DEPTH_MAX + 1)),
        Err(Rejection::TxnTooDeep)
    );
    // What may nest also survives the wire.
    let bytes = tower(limits::TXN_DEPTH_MAX).encode_to_vec();
    assert!(TxnRequest::decode(bytes.as_slice()).is_ok());
}

#[test]
fn an_operand_that_is_not_the_targets_counts_as_zero_or_empty() {
    let mismatched = on_k(0, 2, Some(TargetUnion::Version(9)));
    assert_eq!(
        super::compare(mismatched).unwrap().unwrap().operand,
        Operand::Mod(0)
    );
    let absent = on_k(0, 3, None);
    assert_eq!(
        super::compare(absent).unwrap().unwrap().operand,
        Operand::Value(Bytes::new())
    );
    let fitting = on_k(3, 4, Some(TargetUnion::Lease(-4)));
    let read = super::compare(fitting).unwrap().unwrap();
    assert_eq!(
        (read.relation, read.operand),
        (Relation::NotEqual, Operand::Lease(-4))
    );
}

#[test]
fn an_unknown_relation_always_holds_save_for_a_value_of_nothing() {
    assert_eq!(
        outcome(on_k(9, 0, Some(TargetUnion::Version(5)))),
        (true, true)
    );
    assert_eq!(
        outcome(on_k(9, 3, Some(TargetUnion::Value(k())))),
        (true, false)
    );
}

#[test]
fn an_unknown_target_compares_as_equal() {
    let five = Some(TargetUnion::Version(5));
    assert_eq!(outcome(on_k(0, 9, five.clone())), (true, true));
    assert_eq!(outcome(on_k(1, 9, five.clone())), (false, false));
    assert_eq!(outcome(on_k(2, 9, five.clone())), (false, false));
    assert_eq!(outcome(on_k(3, 9, five)), (false, false));
    assert_eq!(outcome(on_k(9, 9, None)), (true, true));
}

#[test]
fn every_kind_of_operation_is_read() {
    let delete = DeleteRangeRequest {
        key: k(),
        prev_kv: true,
        ..DeleteRangeRequest::default()
    };
    let put = PutRequest {
        key: k(),
        ..PutRequest::default()
    };
    let request = TxnRequest {
        compare: vec![on_k(1, 1, Some(TargetUnion::CreateRevision(3)))],
        success: vec![one(Request::RequestPut(put)), read(b"k")],
        failure: vec![one(Request::RequestDeleteRange(delete)), nested(reads(1))],
    };
    let read = txn(request).unwrap();
    assert_eq!(read.compares.len(), 1);
    assert!(matches!(
        read.success.as_slice(),
        [Op::Put(_), Op::Range(_)]
    ));
    assert!(matches!(
        read.failure.as_slice(),
        [Op::Delete(_), Op::Txn(_)]
    ));
}

#[test]
fn a_transaction_is_serializable_if_it_reads_and_every_read_says_so() {
    let loose = || {
        let request = RangeRequest {
            key: k(),
            serializable: true,
            ..RangeRequest::default()
        };
        one(Request::RequestRange(request))
    };
    let of = |success, failure| TxnRequest {
        compare: vec![],
        success,
        failure,
    };
    assert!(is_serializable(&of(vec![loose()], vec![loose()])));
    assert!(!is_serializable(&of(vec![loose()], vec![read(b"k")])));
    assert!(!is_serializable(&of(vec![], vec![])));
    assert!(!is_serializable(&of(
        vec![nested(of(vec![loose()], vec![]))],
        vec![]
    )));
}

#[test]
fn inner_headers_carry_the_revision_and_a_nested_one_is_empty() {
    let inner = TxnReply {
        succeeded: true,
        replies: vec![
            OpReply::Put {
                revision: 3,
                prev_kv: Some(kv(1)),
            },
            OpReply::Range {
                revision: 3,
                reply: RangeReply {
                    kvs: vec![],
                    more: true,
                    count: 2,
                },
            },
        ],
    };
    let reply = TxnReply {
        succeeded: false,
        replies: vec![
            OpReply::Delete {
                revision: 2,
                deleted: 1,
                prev_kvs: vec![kv(1)],
            },
            OpReply::Txn(inner),
        ],
    };
    let header = ResponseHeader {
        cluster_id: 1,
        member_id: 2,
        revision: 3,
        raft_term: 4,
    };
    let written = txn_response(header, reply);
    assert_eq!((written.header, written.succeeded), (Some(header), false));
    let [first, second] = written.responses.as_slice() else {
        panic!("not two answers")
    };
    let Some(Response::ResponseDeleteRange(delete)) = &first.response else {
        panic!("no delete")
    };
    assert_eq!(delete.header, Some(inner_header(2)));
    assert_eq!((delete.deleted, delete.prev_kvs.len()), (1, 1));
    let Some(Response::ResponseTxn(nested)) = &second.response else {
        panic!("no transaction")
    };
    assert_eq!(nested.header, Some(ResponseHeader::default()));
    let Some(Response::ResponsePut(put)) = &nested.responses[0].response else {
        panic!("no put")
    };
    assert_eq!(put.header, Some(inner_header(3)));
    let Some(Response::ResponseRange(range)) = &nested.responses[1].response else {
        panic!("no range")
    };
    assert_eq!(
        (range.header, range.more, range.count),
        (Some(inner_header(3)), true, 2)
    );
}
