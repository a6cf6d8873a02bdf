//! Keys a transaction would write twice.
//!
//! etcd refuses a branch in which the outcome would hang on the order of two writes of one key, with one
//! exception: of two nested transactions side by side the first may put what the second deletes. Per branch
//! this collects what it puts (points) and what it deletes (intervals), the branches of nested transactions
//! included, and refuses, in this order:
//!
//! ```text
//! this level deletes k          and a nested transaction puts k
//! one nested puts or deletes k  and a later one puts k
//! a nested one puts or deletes k and this level puts k
//! this level deletes k          and this level puts k
//! this level puts k             and this level puts k again
//! ```
//!
//! The two branches of one nested transaction exclude each other and may write the same keys. Deletes may
//! overlap. A delete without an upper end counts for nothing (measured on etcd 3.4.23, whose check takes its
//! `range_end` of one zero byte for an end before the start): "delete everything, then put" is one
//! transaction that clients can send. The order of operations then decides, as it is written.
//!
//! Sets are merged smaller into larger and searched smaller in larger, so that the work is
//! `O(n log^2 n)` in the number of operations, however they nest.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use crate::key::{KeyRange, RangeEnd, Space};
use crate::rejection::Rejection;
use crate::txn::{Op, Txn};

/// Refuses a branch that writes a key twice. How deep it nests was checked before.
pub(super) fn check(branch: &[Op]) -> Result<(), Rejection> {
    if let [] | [Op::Put(_) | Op::Delete(_) | Op::Range(_)] = branch {
        return Ok(());
    }
    Writes::of(branch).map(|_| ())
}

/// A place between keys, where an interval begins or ends. Ordered as the fields stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cut<'a> {
    space: Space,
    key: &'a [u8],
    above: bool,
}

impl<'a> Cut<'a> {
    fn below(space: Space, key: &'a [u8]) -> Self {
        Self {
            space,
            key,
            above: false,
        }
    }

    fn above(space: Space, key: &'a [u8]) -> Self {
        Self {
            space,
            key,
            above: true,
        }
    }
}

/// What a branch writes.
#[derive(Default)]
struct Writes<'a> {
    /// The keys it puts, each as the cut below it.
    puts: BTreeSet<Cut<'a>>,
    /// The intervals it deletes: where one begins, and where it ends. Disjoint.
    deletes: BTreeMap<Cut<'a>, Cut<'a>>,
}

impl<'a> Writes<'a> {
    fn of(branch: &'a [Op]) -> Result<Self, Rejection> {
        let mut writes = Self::default();
        for op in branch {
            if let Op::Delete(delete) = op {
                writes.add_delete(delete.space, &delete.range);
            }
        }
        for op in branch {
            if let Op::Txn(nested) = op {
                writes.add_nested(nested)?;
            }
        }
        for op in branch {
            if let Op::Put(put) = op {
                let key = Cut::below(put.space, &put.key);
                if writes.deleted(key) || !writes.puts.insert(key) {
                    return Err(Rejection::DuplicateKey);
                }
            }
        }
        Ok(writes)
    }

    fn add_nested(&mut self, nested: &'a Txn) -> Result<(), Rejection> {
        let mut success = Self::of(&nested.success)?;
        let mut failure = Self::of(&nested.failure)?;
        if self.collides_with(&success.puts) || self.collides_with(&failure.puts) {
            return Err(Rejection::DuplicateKey);
        }
        for branch in [&mut success, &mut failure] {
            if branch.puts.len() > self.puts.len() {
                mem::swap(&mut branch.puts, &mut self.puts);
            }
            self.puts.extend(mem::take(&mut branch.puts));
            if branch.deletes.len() > self.deletes.len() {
                mem::swap(&mut branch.deletes, &mut self.deletes);
            }
            for (begin, end) in mem::take(&mut branch.deletes) {
                self.add_interval(begin, end);
            }
        }
        Ok(())
    }

    /// Whether one of `puts` is written here already.
    fn collides_with(&self, puts: &BTreeSet<Cut<'a>>) -> bool {
        let (fewer, more) = if puts.len() < self.puts.len() {
            (puts, &self.puts)
        } else {
            (&self.puts, puts)
        };
        if fewer.iter().any(|key| more.contains(key)) {
            return true;
        }
        if puts.len() < self.deletes.len() {
            puts.iter().any(|key| self.deleted(*key))
        } else {
            self.deletes
                .iter()
                .any(|(begin, end)| puts.range(begin..end).next().is_some())
        }
    }

    /// Whether the key, given as the cut below it, lies in an interval that is deleted.
    fn deleted(&self, key: Cut<'a>) -> bool {
        self.deletes
            .range(..=key)
            .next_back()
            .is_some_and(|(_, end)| key < *end)
    }

    fn add_delete(&mut self, space: Space, range: &'a KeyRange) {
        let begin = Cut::below(space, &range.start);
        let end = match &range.end {
            RangeEnd::Single => Cut::above(space, &range.start),
            RangeEnd::Before(end) => Cut::below(space, end),
            RangeEnd::Open => return,
        };
        if begin < end {
            self.add_interval(begin, end);
        }
    }

    /// Adds an interval, joined with those it touches.
    fn add_interval(&mut self, mut begin: Cut<'a>, mut end: Cut<'a>) {
        while let Some((&other_begin, &other_end)) = self.deletes.range(..=end).next_back() {
            if other_end < begin {
                break;
            }
            self.deletes.remove(&other_begin);
            begin = begin.min(other_begin);
            end = end.max(other_end);
        }
        self.deletes.insert(begin, end);
    }
}

#[cfg(test)]
mod tests;
