//! Requests as etcd's clients would write them, for the tests of several services.

use bytes::Bytes;
use meridian_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use meridian_proto::etcdserverpb::request_op::Request as Asked;
use meridian_proto::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp};
use tonic::{Code, Request, Status};

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..PutRequest::default()
    }
}

pub fn get(key: &str) -> RangeRequest {
    RangeRequest {
        key: bytes(key),
        ..RangeRequest::default()
    }
}

pub fn prefix(key: &str, end: &str) -> RangeRequest {
    RangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        ..RangeRequest::default()
    }
}

pub fn op(request: Asked) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

pub fn version_is(key: &str, version: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Version.into(),
        key: bytes(key),
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::Version(version)),
    }
}

pub fn under<T>(tenant: &'static str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("meridian-tenant", tenant.parse().unwrap());
    request
}

pub fn assert_refused(status: &Status, code: Code, text: &str) {
    assert_eq!((status.code(), status.message()), (code, text));
    assert!(
        status.metadata().contains_key("meridian-code"),
        "{text} has no stable code"
    );
}
