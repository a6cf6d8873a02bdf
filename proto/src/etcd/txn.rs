//! Transactions, and their answers.

use bytes::Bytes;
use meridian_domain::key::{KeyRange, Space};
use meridian_domain::limits;
use meridian_domain::rejection::Rejection;
use meridian_domain::txn::{Compare, Op, OpReply, Operand, Relation, Txn, TxnReply};

use super::{inner_header, kv};
use crate::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::etcdserverpb::request_op::Request;
use crate::etcdserverpb::response_op::Response;
use crate::etcdserverpb::{
    self, DeleteRangeResponse, PutResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest,
    TxnResponse,
};

/// Reads a transaction, both branches. Per level: the number of operations, each compare, each operation on
/// its own, nested ones with what the level leaves of [`limits::TXN_OPS_MAX`]. Keys written twice are found
/// by [`meridian_domain::kv::check::txn`].
pub fn txn(request: TxnRequest) -> Result<Txn, Rejection> {
    level(request, limits::TXN_OPS_MAX, 1)
}

/// Whether a transaction that only reads may be answered from what this member has: it reads, and every
/// read says so. (etcd also answers one without any operation so; here that one is linearizable.)
pub fn is_serializable(request: &TxnRequest) -> bool {
    let mut reads = request.success.iter().chain(&request.failure).peekable();
    reads.peek().is_some()
        && reads.all(|op| matches!(&op.request, Some(Request::RequestRange(r)) if r.serializable))
}

fn level(request: TxnRequest, budget: usize, depth: usize) -> Result<Txn, Rejection> {
    if depth > limits::TXN_DEPTH_MAX {
        return Err(Rejection::TxnTooDeep);
    }
    let count = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    let rest = budget.checked_sub(count).ok_or(Rejection::TooManyOps)?;
    let mut compares = Vec::with_capacity(request.compare.len());
    for one in request.compare {
        compares.extend(compare(one)?);
    }
    let branch = |ops: Vec<RequestOp>| {
        ops.into_iter()
            .map(|one| op(one, rest, depth))
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(Txn {
        compares,
        success: branch(request.success)?,
        failure: branch(request.failure)?,
    })
}

fn op(op: RequestOp, rest: usize, depth: usize) -> Result<Op, Rejection> {
    Ok(match op.request {
        Some(Request::RequestRange(request)) => Op::Range(kv::range(request)?),
        Some(Request::RequestPut(request)) => Op::Put(kv::put(request)?),
        Some(Request::RequestDeleteRange(request)) => Op::Delete(kv::delete(request)?),
        Some(Request::RequestTxn(request)) => Op::Txn(level(request, rest, depth + 1)?),
        None => return Err(Rejection::KeyNotFound),
    })
}

/// Reads a compare; none if it holds whatever is stored.
///
/// An operand that is not the target's counts as zero or empty. What stands outside the enumerations means
/// what it means in etcd (measured on 3.4.23): an unknown target always compares as equal; an unknown
/// relation always holds, save that a value compare still needs a key to be there.
fn compare(compare: etcdserverpb::Compare) -> Result<Option<Compare>, Rejection> {
    if compare.key.is_empty() {
        return Err(Rejection::EmptyKey);
    }
    let relation = match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => Some(Relation::Equal),
        Ok(CompareResult::Greater) => Some(Relation::Greater),
        Ok(CompareResult::Less) => Some(Relation::Less),
        Ok(CompareResult::NotEqual) => Some(Relation::NotEqual),
        Err(_) => None,
    };
    let operand = CompareTarget::try_from(compare.target)
        .ok()
        .map(|target| operand(target, compare.target_union));
    let (relation, operand) = match (relation, operand) {
        (Some(relation), Some(operand)) => (relation, operand),
        // A key that is there has a version above zero, a missing one compares as zero.
        (None, Some(Operand::Value(_))) => (Relation::Greater, Operand::Version(0)),
        (None, _) | (Some(Relation::Equal), None) => return Ok(None),
        // Equal, and asked for anything else: never.
        (Some(_), None) => (Relation::Less, Operand::Version(i64::MIN)),
    };
    let range = KeyRange::from_wire(compare.key, compare.range_end);
    Ok(Some(Compare {
        space: Space::RAW,
        range,
        relation,
        operand,
    }))
}

fn operand(target: CompareTarget, union: Option<TargetUnion>) -> Operand {
    match (target, union) {
        (CompareTarget::Version, Some(TargetUnion::Version(n))) => Operand::Version(n),
        (CompareTarget::Version, _) => Operand::Version(0),
        (CompareTarget::Create, Some(TargetUnion::CreateRevision(n))) => Operand::Create(n),
        (CompareTarget::Create, _) => Operand::Create(0),
        (CompareTarget::Mod, Some(TargetUnion::ModRevision(n))) => Operand::Mod(n),
        (CompareTarget::Mod, _) => Operand::Mod(0),
        (CompareTarget::Value, Some(TargetUnion::Value(value))) => Operand::Value(value),
        (CompareTarget::Value, _) => Operand::Value(Bytes::new()),
        (CompareTarget::Lease, Some(TargetUnion::Lease(n))) => Operand::Lease(n),
        (CompareTarget::Lease, _) => Operand::Lease(0),
    }
}

/// Writes the answer to a transaction. Answers inside it carry the revision alone in their headers; the
/// header of a nested transaction is there and empty, as etcd has it.
pub fn txn_response(header: ResponseHeader, reply: TxnReply) -> TxnResponse {
    TxnResponse {
        header: Some(header),
        succeeded: reply.succeeded,
        responses: reply.replies.into_iter().map(response_op).collect(),
    }
}

fn response_op(reply: OpReply) -> ResponseOp {
    let response = match reply {
        OpReply::Put { revision, prev_kv } => Response::ResponsePut(PutResponse {
            header: Some(inner_header(revision)),
            prev_kv: prev_kv.map(kv::key_value),
        }),
        OpReply::Delete {
            revision,
            deleted,
            prev_kvs,
        } => Response::ResponseDeleteRange(DeleteRangeResponse {
            header: Some(inner_header(revision)),
            deleted,
            prev_kvs: kv::key_values(prev_kvs),
        }),
        OpReply::Range { revision, reply } => {
            Response::ResponseRange(kv::range_response(inner_header(revision), reply))
        }
        OpReply::Txn(reply) => {
            Response::ResponseTxn(txn_response(ResponseHeader::default(), reply))
        }
    };
    ResponseOp {
        response: Some(response),
    }
}

#[cfg(test)]
mod tests;
