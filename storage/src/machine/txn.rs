//! Running a transaction.
//!
//! 1. the compares of every level choose a path, all on the state before;
//! 2. everything on that path that can fail is checked: first puts (a key that must exist, a lease that must),
//!    then the revisions ranges ask for, in etcd's order;
//! 3. the operations run in order, each seeing what the ones before it wrote. What only shows here (the
//!    quota, a key deleted a moment ago) undoes the whole transaction.

use std::sync::Arc;

use meridian_domain::kv::{Delete, KeyValue, Put, Range, compare, read};
use meridian_domain::rejection::Rejection;
use meridian_domain::txn::{Compare, Op, OpReply, Operand, Txn, TxnReply};

use super::work::Work;
use crate::mvcc::Keyspace;
use crate::mvcc::cell::Cell;
use crate::mvcc::range::{self, Fetch, Unread};
use crate::mvcc::tree::Only;

/// The branches that were chosen, level by level.
struct Path<'a> {
    succeeded: bool,
    ops: &'a [Op],
    /// One for each nested transaction among `ops`, in order.
    nested: Vec<Path<'a>>,
}

/// Runs a transaction: whole, or not at all.
pub(super) fn run(work: &mut Work<'_>, txn: &Txn, fetch: Fetch<'_>) -> Result<TxnReply, Unread> {
    let path = Path::choose(work.keyspace(), txn);
    path.check(&|op| check_put(work.keyspace(), op))?;
    path.check(&|op| check_range(work.keyspace(), op))?;
    // One operation fails before it writes; only several have to be undone, or read around.
    let before = (path.length() > 1).then(|| work.keyspace().clone());
    let ran = run_path(work, &path, before.as_ref(), fetch);
    if let (Err(_), Some(before)) = (&ran, before) {
        work.roll_back(before);
    }
    ran
}

impl<'a> Path<'a> {
    /// Nesting is bounded by the record's format.
    fn choose(keyspace: &Keyspace, txn: &'a Txn) -> Self {
        let succeeded = txn.compares.iter().all(|compare| holds(keyspace, compare));
        let ops = if succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        let nested = ops.iter().filter_map(|op| match op {
            Op::Txn(inner) => Some(Self::choose(keyspace, inner)),
            Op::Put(_) | Op::Delete(_) | Op::Range(_) => None,
        });
        Self {
            succeeded,
            ops,
            nested: nested.collect(),
        }
    }

    fn length(&self) -> usize {
        self.ops.len() + self.nested.iter().map(Self::length).sum::<usize>()
    }

    /// Lets `check` judge every operation on the path, in order.
    fn check(&self, check: &dyn Fn(&Op) -> Result<(), Rejection>) -> Result<(), Rejection> {
        let mut nested = self.nested.iter();
        for op in self.ops {
            match op {
                Op::Txn(_) => nested.next().map_or(Ok(()), |inner| inner.check(check))?,
                Op::Put(_) | Op::Delete(_) | Op::Range(_) => check(op)?,
            }
        }
        Ok(())
    }
}

fn holds(keyspace: &Keyspace, compare: &Compare) -> bool {
    let numbers_only = !matches!(compare.operand, Operand::Value(_));
    let row = |cell: &Cell| {
        if numbers_only {
            cell.to_numbers()
        } else {
            cell.to_key_value()
        }
    };
    let nothing = || compare::holds(compare, None::<&KeyValue>);
    let keys = &compare.range;
    if keys.is_single() {
        let found = keyspace.live(compare.space, &keys.start).map(row);
        return compare::holds(compare, found.as_ref());
    }
    let (lower, upper) = range::bounds(keys);
    let Some(slots) = keyspace.space(compare.space) else {
        return nothing();
    };
    let mut found = slots
        .ascend(lower, upper, Only::Counted)
        .map(|slot| row(slot.newest()))
        .peekable();
    if found.peek().is_none() {
        return nothing();
    }
    found.all(|kv| compare::holds(compare, Some(&kv)))
}

fn check_put(keyspace: &Keyspace, op: &Op) -> Result<(), Rejection> {
    let Op::Put(put) = op else { return Ok(()) };
    let keeps = put.value.is_none() || put.lease.is_none();
    if keeps && keyspace.live(put.space, &put.key).is_none() {
        return Err(Rejection::KeyNotFound);
    }
    match put.lease {
        Some(id) if id != 0 && keyspace.lease(id).is_none() => Err(Rejection::LeaseNotFound),
        Some(_) | None => Ok(()),
    }
}

fn check_range(keyspace: &Keyspace, op: &Op) -> Result<(), Rejection> {
    let Op::Range(range) = op else { return Ok(()) };
    read::revision_in_txn(range.revision, keyspace.revision(), keyspace.compacted())
}

fn run_path(
    work: &mut Work<'_>,
    path: &Path<'_>,
    before: Option<&Keyspace>,
    fetch: Fetch<'_>,
) -> Result<TxnReply, Unread> {
    let mut replies = Vec::with_capacity(path.ops.len());
    let mut nested = path.nested.iter();
    for op in path.ops {
        replies.push(match op {
            Op::Put(put) => run_put(work, put)?,
            Op::Delete(delete) => run_delete(work, delete),
            Op::Range(range) => run_range(work, range, before, fetch)?,
            Op::Txn(_) => {
                let Some(inner) = nested.next() else { continue };
                OpReply::Txn(run_path(work, inner, before, fetch)?)
            }
        });
    }
    Ok(TxnReply {
        succeeded: path.succeeded,
        replies,
    })
}

fn run_put(work: &mut Work<'_>, put: &Put) -> Result<OpReply, Rejection> {
    let replaced = work.put(put)?;
    let prev_kv = replaced
        .filter(|_| put.prev_kv)
        .map(|kv| KeyValue::clone(&kv));
    Ok(OpReply::Put {
        revision: work.revision(),
        prev_kv,
    })
}

fn run_delete(work: &mut Work<'_>, delete: &Delete) -> OpReply {
    let keys = &delete.range;
    let cells: Vec<Cell> = if keys.is_single() {
        work.keyspace()
            .live(delete.space, &keys.start)
            .cloned()
            .into_iter()
            .collect()
    } else {
        let (lower, upper) = range::bounds(keys);
        let slots = work.keyspace().space(delete.space);
        let live = slots.map(|slots| slots.ascend(lower, upper, Only::Counted));
        live.into_iter()
            .flatten()
            .map(|slot| slot.newest().clone())
            .collect()
    };
    let mut prev_kvs = Vec::with_capacity(if delete.prev_kv { cells.len() } else { 0 });
    for cell in &cells {
        let held = work.delete(delete.space, cell);
        if delete.prev_kv {
            prev_kvs.push(Arc::unwrap_or_clone(held));
        }
    }
    OpReply::Delete {
        revision: work.revision(),
        deleted: cells.len() as i64,
        prev_kvs,
    }
}

/// Reads now, with what was written before in the same transaction, or at an older revision, without.
fn run_range(
    work: &Work<'_>,
    range: &Range,
    before: Option<&Keyspace>,
    fetch: Fetch<'_>,
) -> Result<OpReply, Unread> {
    let reply = if range.revision <= 0 {
        range::read(work.keyspace(), range, None, fetch)?
    } else {
        let keyspace = before.unwrap_or(work.keyspace());
        let at = range::judge(keyspace, range.revision)?;
        range::read(keyspace, range, at, fetch)?
    };
    Ok(OpReply::Range {
        revision: work.revision(),
        reply,
    })
}
