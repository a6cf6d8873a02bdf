//! Transactions that only read, evaluated on a view.

use crate::kv::{Range, compare};
use crate::rejection::Rejection;
use crate::revision::Revision;
use crate::txn::{Compare, Op, OpReply, Txn, TxnReply};
use crate::view::View;

/// Evaluates a transaction whose branches only read. Any other operation is refused as malformed: the
/// caller sends those through the log.
pub fn txn(view: &dyn View, txn: &Txn) -> Result<TxnReply, Rejection> {
    let mut succeeded = true;
    for compare in &txn.compares {
        succeeded &= compare_holds(view, compare)?;
    }
    let branch = if succeeded {
        &txn.success
    } else {
        &txn.failure
    };
    let mut replies = Vec::with_capacity(branch.len());
    for op in branch {
        let Op::Range(range) = op else {
            return Err(Rejection::UnknownProposal);
        };
        revision_in_txn(range.revision, view.revision(), view.compacted())?;
        let reply = view.range(range)?;
        replies.push(OpReply::Range {
            revision: view.revision(),
            reply,
        });
    }
    Ok(TxnReply { succeeded, replies })
}

fn compare_holds(view: &dyn View, compare: &Compare) -> Result<bool, Rejection> {
    let found = view.range(&Range::of(compare.space, compare.range.clone()))?;
    Ok(compare::holds(compare, &found.kvs))
}

/// Judges the revision a range inside a transaction asks for, as etcd does: above the current one is the
/// future; non-zero and below the compacted one is compacted. A store that never compacted counts as
/// compacted at -1, so there -1 means the current revision and -2 is refused.
pub fn revision_in_txn(
    asked: Revision,
    current: Revision,
    compacted: Revision,
) -> Result<(), Rejection> {
    let floor = if compacted == 0 { -1 } else { compacted };
    if asked > current {
        return Err(Rejection::FutureRevision { current });
    }
    if asked != 0 && asked < floor {
        return Err(Rejection::Compacted { compacted });
    }
    Ok(())
}
