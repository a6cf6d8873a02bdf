//! Range, put and delete requests, and their answers.

use meridian_domain::key::{KeyRange, Space};
use meridian_domain::kv::{
    Delete, KeyValue, Order, Put, Range, RangeReply, RevisionBounds, Target,
};
use meridian_domain::rejection::Rejection;
use meridian_domain::txn::{OpReply, TxnReply};

use crate::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    ResponseHeader,
};
use crate::mvccpb;

/// Reads a range request: a key is needed, then the order must be one.
pub fn range(request: RangeRequest) -> Result<Range, Rejection> {
    if request.key.is_empty() {
        return Err(Rejection::EmptyKey);
    }
    let order = match SortOrder::try_from(request.sort_order) {
        Ok(SortOrder::None) => Order::Unordered,
        Ok(SortOrder::Ascend) => Order::Ascend,
        Ok(SortOrder::Descend) => Order::Descend,
        Err(_) => return Err(Rejection::InvalidSortOption),
    };
    let target = match SortTarget::try_from(request.sort_target) {
        Ok(SortTarget::Key) => Target::Key,
        Ok(SortTarget::Version) => Target::Version,
        Ok(SortTarget::Create) => Target::Create,
        Ok(SortTarget::Mod) => Target::Mod,
        Ok(SortTarget::Value) => Target::Value,
        Err(_) => return Err(Rejection::InvalidSortOption),
    };
    Ok(Range {
        space: Space::RAW,
        range: KeyRange::from_wire(request.key, request.range_end),
        revision: request.revision,
        limit: request.limit,
        order,
        target,
        keys_only: request.keys_only,
        count_only: request.count_only,
        bounds: RevisionBounds {
            mod_min: request.min_mod_revision,
            mod_max: request.max_mod_revision,
            create_min: request.min_create_revision,
            create_max: request.max_create_revision,
        },
    })
}

/// Reads a put request: a key is needed, then no value beside `ignore_value`, then no lease beside
/// `ignore_lease`.
pub fn put(request: PutRequest) -> Result<Put, Rejection> {
    if request.key.is_empty() {
        return Err(Rejection::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Rejection::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Rejection::LeaseProvided);
    }
    Ok(Put {
        space: Space::RAW,
        key: request.key,
        value: (!request.ignore_value).then_some(request.value),
        lease: (!request.ignore_lease).then_some(request.lease),
        prev_kv: request.prev_kv,
    })
}

/// Reads a delete request: a key is needed.
pub fn delete(request: DeleteRangeRequest) -> Result<Delete, Rejection> {
    if request.key.is_empty() {
        return Err(Rejection::EmptyKey);
    }
    Ok(Delete {
        space: Space::RAW,
        range: KeyRange::from_wire(request.key, request.range_end),
        prev_kv: request.prev_kv,
    })
}

/// Writes a version of a key.
pub fn key_value(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value,
        lease: kv.lease,
    }
}

/// Writes versions of keys.
pub fn key_values(kvs: Vec<KeyValue>) -> Vec<mvccpb::KeyValue> {
    kvs.into_iter().map(key_value).collect()
}

/// Writes the answer to a range request.
pub fn range_response(header: ResponseHeader, reply: RangeReply) -> RangeResponse {
    RangeResponse {
        header: Some(header),
        kvs: key_values(reply.kvs),
        more: reply.more,
        count: reply.count,
    }
}

/// Writes the answer to a put request, which ran as a transaction of one operation. None if `reply` answers
/// something else.
pub fn put_response(header: ResponseHeader, reply: TxnReply) -> Option<PutResponse> {
    match only(reply)? {
        OpReply::Put { prev_kv, .. } => Some(PutResponse {
            header: Some(header),
            prev_kv: prev_kv.map(key_value),
        }),
        _ => None,
    }
}

/// Writes the answer to a delete request, which ran as a transaction of one operation. None if `reply`
/// answers something else.
pub fn delete_response(header: ResponseHeader, reply: TxnReply) -> Option<DeleteRangeResponse> {
    match only(reply)? {
        OpReply::Delete {
            deleted, prev_kvs, ..
        } => Some(DeleteRangeResponse {
            header: Some(header),
            deleted,
            prev_kvs: key_values(prev_kvs),
        }),
        _ => None,
    }
}

/// The answer to the one operation of a transaction.
fn only(reply: TxnReply) -> Option<OpReply> {
    let mut replies = reply.replies.into_iter();
    let first = replies.next()?;
    replies.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bytes::Bytes;
    use meridian_domain::key::RangeEnd;

    use super::*;

    fn k() -> Bytes {
        Bytes::from_static(b"k")
    }

    #[test]
    fn a_put_is_judged_in_etcds_order() {
        let mut request = PutRequest {
            key: Bytes::new(),
            value: k(),
            lease: 7,
            prev_kv: false,
            ignore_value: true,
            ignore_lease: true,
        };
        assert_eq!(put(request.clone()), Err(Rejection::EmptyKey));
        request.key = k();
        assert_eq!(put(request.clone()), Err(Rejection::ValueProvided));
        request.value.clear();
        assert_eq!(put(request.clone()), Err(Rejection::LeaseProvided));
        request.lease = 0;
        let read = put(request).unwrap();
        assert_eq!((read.value, read.lease), (None, None));
    }

    #[test]
    fn an_empty_value_is_a_value_and_lease_zero_is_no_lease() {
        let read = put(PutRequest {
            key: k(),
            ..PutRequest::default()
        })
        .unwrap();
        assert_eq!((read.value, read.lease), (Some(Bytes::new()), Some(0)));
    }

    #[test]
    fn an_order_outside_the_enumeration_is_refused_after_the_missing_key() {
        let mut request = RangeRequest {
            sort_order: 3,
            ..RangeRequest::default()
        };
        assert_eq!(range(request.clone()), Err(Rejection::EmptyKey));
        request.key = k();
        assert_eq!(range(request.clone()), Err(Rejection::InvalidSortOption));
        request.sort_order = 2;
        request.sort_target = 5;
        assert_eq!(range(request.clone()), Err(Rejection::InvalidSortOption));
        request.sort_target = -1;
        assert_eq!(range(request.clone()), Err(Rejection::InvalidSortOption));
        request.sort_target = 4;
        let read = range(request).unwrap();
        assert_eq!((read.order, read.target), (Order::Descend, Target::Value));
    }

    #[test]
    fn a_range_keeps_everything_that_was_asked() {
        let request = RangeRequest {
            key: k(),
            range_end: Bytes::from_static(b"\0"),
            limit: 2,
            revision: -3,
            sort_order: 0,
            sort_target: 0,
            serializable: true,
            keys_only: true,
            count_only: true,
            min_mod_revision: 4,
            max_mod_revision: 5,
            min_create_revision: 6,
            max_create_revision: 7,
        };
        let read = range(request).unwrap();
        assert_eq!(
            read.range,
            KeyRange {
                start: k(),
                end: RangeEnd::Open
            }
        );
        assert_eq!((read.limit, read.revision), (2, -3));
        assert!(read.keys_only && read.count_only);
        let bounds = RevisionBounds {
            mod_min: 4,
            mod_max: 5,
            create_min: 6,
            create_max: 7,
        };
        assert_eq!(read.bounds, bounds);
    }

    #[test]
    fn a_put_is_answered_from_its_own_transaction_only() {
        let put = OpReply::Put {
            revision: 2,
            prev_kv: None,
        };
        let reply = |replies| TxnReply {
            succeeded: true,
            replies,
        };
        let header = ResponseHeader {
            revision: 2,
            ..ResponseHeader::default()
        };
        assert!(put_response(header, reply(vec![put.clone()])).is_some());
        assert!(put_response(header, reply(vec![put.clone(), put.clone()])).is_none());
        assert!(put_response(header, reply(vec![])).is_none());
        assert!(delete_response(header, reply(vec![put])).is_none());
    }
}
