//! RangeStream: a range in pieces, all of one revision.
//!
//! The first piece has ten keys; later ones grow or shrink towards [`PIECE_BYTES`]. Header, count and `more`
//! stand on the last piece alone. Each piece is read when the one before it was taken, so a client that reads
//! slowly holds one piece in memory and not the range.

use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use meridian_domain::answer::{Answer, Found};
use meridian_domain::key::{KeyRange, RangeEnd};
use meridian_domain::kv::{Order, Range, RangeReply, Target};
use meridian_domain::query::Query;
use meridian_proto::etcd;
use meridian_proto::etcdserverpb::{RangeRequest, RangeResponse, RangeStreamResponse};
use meridian_storage::store::Tenant;
use tonic::{Code, Status};

use crate::pipeline::{Pipeline, RequestContext};
use crate::service::etcd::kv::consistency;
use crate::status::Refusal;

/// What a piece should come to, in bytes of keys and values.
const PIECE_BYTES: usize = 512 << 10;
/// The keys of the first piece.
const FIRST_KEYS: i64 = 10;
/// The most keys of a piece.
const KEYS_MAX: i64 = 10_000;

/// The answer.
pub type RangeStream = Pin<Box<dyn Stream<Item = Result<RangeStreamResponse, Status>> + Send>>;

/// Where a stream stands.
struct Walk {
    pipeline: Arc<Pipeline>,
    tenant: Arc<Tenant>,
    ctx: RequestContext,
    /// What is left, at a fixed revision.
    range: Range,
    /// Keys still wanted; none is all.
    left: Option<i64>,
    piece_keys: i64,
    /// For the last piece.
    revision: i64,
    count: i64,
    done: bool,
}

/// Judges the request, fixes the revision, and begins.
pub async fn open(
    pipeline: &Arc<Pipeline>,
    ctx: RequestContext,
    request: RangeRequest,
) -> Result<RangeStream, Status> {
    let fresh = consistency(request.serializable);
    let range = etcd::kv::range(request).map_err(Refusal::from)?;
    if range.order == Order::Descend || range.target != Target::Key {
        return Err(Status::new(
            Code::Unimplemented,
            "RangeStream does not support custom sort orders",
        ));
    }
    if !range.bounds.is_off() {
        return Err(Status::new(
            Code::Unimplemented,
            "RangeStream does not support revision filters",
        ));
    }
    let count = Range {
        count_only: true,
        limit: 0,
        ..range.clone()
    };
    let answer = pipeline.read(&ctx, &Query::Range(count), fresh).await?;
    let tenant = pipeline.tenant(&ctx, &mut true).await?;
    let (revision, counted) = unpack(answer)?;
    if range.count_only {
        let response = etcd::kv::range_response(pipeline.header(revision), counted);
        return Ok(Box::pin(futures::stream::iter([Ok(piece(response))])));
    }
    let at = if range.revision > 0 {
        range.revision
    } else {
        revision
    };
    let walk = Walk {
        pipeline: Arc::clone(pipeline),
        tenant,
        ctx,
        left: (range.limit > 0).then_some(range.limit),
        range: Range {
            revision: at,
            ..range
        },
        piece_keys: FIRST_KEYS,
        revision,
        count: counted.count,
        done: false,
    };
    Ok(Box::pin(futures::stream::try_unfold(walk, next)))
}

/// The next piece, if the caller still may. Asynchronous because the stream that drives it is.
#[allow(clippy::unused_async, reason = "`try_unfold` wants a future")]
async fn next(mut walk: Walk) -> Result<Option<(RangeStreamResponse, Walk)>, Status> {
    if walk.done {
        return Ok(None);
    }
    let limit = walk
        .left
        .map_or(walk.piece_keys, |left| left.min(walk.piece_keys));
    let query = Query::Range(Range {
        limit,
        ..walk.range.clone()
    });
    let answer = walk.pipeline.look(&walk.tenant, &walk.ctx, &query)?;
    let (_, reply) = unpack(answer)?;
    if let Some(left) = &mut walk.left {
        *left -= reply.kvs.len() as i64;
    }
    let enough = walk.left.is_some_and(|left| left <= 0);
    walk.done = enough || !reply.more;
    let bytes: usize = reply
        .kvs
        .iter()
        .map(|kv| kv.key.len() + kv.value.len())
        .sum();
    walk.piece_keys = if bytes > PIECE_BYTES {
        (walk.piece_keys / 2).max(1)
    } else if bytes < PIECE_BYTES / 2 {
        (walk.piece_keys * 2).min(KEYS_MAX)
    } else {
        walk.piece_keys
    };
    if let Some(last) = reply.kvs.last() {
        walk.range.range = after(&walk.range.range, &last.key);
    }
    let response = if walk.done {
        let header = walk.pipeline.header(walk.revision);
        let reply = RangeReply {
            count: walk.count,
            ..reply
        };
        etcd::kv::range_response(header, reply)
    } else {
        RangeResponse {
            kvs: etcd::kv::key_values(reply.kvs),
            ..RangeResponse::default()
        }
    };
    Ok(Some((piece(response), walk)))
}

/// What of `range` lies behind `key`.
fn after(range: &KeyRange, key: &Bytes) -> KeyRange {
    let mut start = BytesMut::with_capacity(key.len() + 1);
    start.extend_from_slice(key);
    start.extend_from_slice(&[0]);
    let start = start.freeze();
    // Nothing lies behind a single key; the walk has ended then and does not ask.
    let end = match &range.end {
        RangeEnd::Single => RangeEnd::Before(start.clone()),
        end => end.clone(),
    };
    KeyRange { start, end }
}

fn unpack(answer: Answer) -> Result<(i64, RangeReply), Status> {
    match answer {
        Answer {
            revision,
            found: Found::Range(reply),
        } => Ok((revision, reply)),
        _ => Err(Status::internal(
            "meridian: the answer does not fit the question",
        )),
    }
}

fn piece(response: RangeResponse) -> RangeStreamResponse {
    RangeStreamResponse {
        range_response: Some(response),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_a_range_begins_right_behind_the_last_key() {
        let range = KeyRange::from_wire(Bytes::from_static(b"a"), Bytes::from_static(b"c"));
        let rest = after(&range, &Bytes::from_static(b"b"));
        assert!(!rest.contains(b"b") && rest.contains(b"b\0") && !rest.contains(b"c"));
        let single = after(
            &KeyRange::single(Bytes::from_static(b"b")),
            &Bytes::from_static(b"b"),
        );
        assert!(single.is_empty());
    }
}
