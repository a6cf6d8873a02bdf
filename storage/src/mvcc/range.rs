//! Reading a range: etcd's rules for revisions, count, filters, order and limit.
//!
//! 1. the revision: at or below zero is the current one; future and compacted ones are refused;
//! 2. `count` is what the range holds at that revision, whatever limit and bounds say. Now it is a
//!    difference of two subtree weights; at an older revision the index is walked, without values;
//! 3. bounds filter, then the order, then the limit; what was cut off sets `more`;
//! 4. etcd's quirk, kept because clients can see it: with no order but a target other than the key the
//!    limit is applied in key order first, and what is left is sorted.
//!
//! Sorting is stable over key order, so equal targets come in key order.

use std::ops::Bound;
use std::sync::Arc;

use meridian_domain::key::{KeyRange, RangeEnd};
use meridian_domain::kv::{KeyValue, Order, Range, RangeReply, Target};
use meridian_domain::rejection::Rejection;
use meridian_domain::revision::Revision;

use super::cell::Cell;
use super::keyspace::Keyspace;
use super::slot::{Found, Past, Slot};
use super::tree::{Only, Tree};
use crate::fault::Fault;

/// Why a read came to nothing.
#[derive(Clone, Debug)]
pub enum Unread {
    /// No.
    Rejected(Rejection),
    /// Broken here: history did not give what the index promises.
    Broken(Fault),
}

impl From<Rejection> for Unread {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<Fault> for Unread {
    fn from(fault: Fault) -> Self {
        Self::Broken(fault)
    }
}

/// Fetches the content of an older version.
pub type Fetch<'a> = &'a dyn Fn(Past) -> Result<Arc<KeyValue>, Unread>;

/// Checks a version that came out of history against what the index remembers of it.
pub fn verified(past: Past, kv: Arc<KeyValue>) -> Result<Arc<KeyValue>, Unread> {
    if Past::of(&Cell::alive(past.at().sub, &kv)) == past {
        return Ok(kv);
    }
    let at = past.at();
    let what = format!(
        "history holds other content at {}.{} than was applied",
        at.revision, at.sub
    );
    Err(Fault::Inconsistent { what }.into())
}

/// The revision a plain read asks for, judged: none is the current one.
pub fn judge(keyspace: &Keyspace, asked: Revision) -> Result<Option<Revision>, Rejection> {
    if asked <= 0 {
        return Ok(None);
    }
    if asked > keyspace.revision() {
        return Err(Rejection::FutureRevision {
            current: keyspace.revision(),
        });
    }
    if asked < keyspace.compacted() {
        return Err(Rejection::Compacted {
            compacted: keyspace.compacted(),
        });
    }
    Ok((asked < keyspace.revision()).then_some(asked))
}

/// Reads a range at a revision that was judged; none is the newest state of `keyspace`.
pub fn read(
    keyspace: &Keyspace,
    range: &Range,
    at: Option<Revision>,
    fetch: Fetch<'_>,
) -> Result<RangeReply, Unread> {
    let Some(slots) = keyspace.space(range.space) else {
        return Ok(RangeReply::default());
    };
    let reader = Reader {
        slots,
        keys: &range.range,
        at,
    };
    let count = reader.count();
    if range.count_only || count == 0 {
        return Ok(RangeReply {
            kvs: vec![],
            more: false,
            count,
        });
    }
    let limit = usize::try_from(range.limit).ok().filter(|limit| *limit > 0);
    let sorts = range.target != Target::Key;
    // Sorting needs everything, unless etcd cuts before it sorts.
    let cuts_first = !sorts || (range.order == Order::Unordered && range.bounds.is_off());
    let wanted = limit
        .filter(|_| cuts_first)
        .map_or(usize::MAX, |limit| limit.saturating_add(1));

    let mut found = Vec::with_capacity(wanted.min(count as usize).min(1024));
    let backwards = range.order == Order::Descend && !sorts;
    reader.walk(backwards, &mut |held| {
        let row = match held {
            Held::Cell(cell) => Row::Cell(cell),
            Held::Past(past) => Row::Fetched(fetch(past)?),
        };
        if range.bounds.is_off() || range.bounds.admit(&row.numbers()) {
            found.push(row);
        }
        Ok(found.len() < wanted)
    })?;

    if sorts {
        sort(&mut found, range.target, range.order);
    }
    let more = limit.is_some_and(|limit| found.len() > limit);
    found.truncate(limit.unwrap_or(usize::MAX));
    let kvs = found.iter().map(|row| row.give(range.keys_only)).collect();
    Ok(RangeReply { kvs, more, count })
}

/// A row of the answer, before it is given.
enum Row<'a> {
    Cell(&'a Cell),
    Fetched(Arc<KeyValue>),
}

enum Held<'a> {
    Cell(&'a Cell),
    Past(Past),
}

impl Row<'_> {
    fn numbers(&self) -> KeyValue {
        match self {
            Self::Cell(cell) => cell.to_numbers(),
            Self::Fetched(kv) => KeyValue::clone(kv),
        }
    }

    fn number(&self, target: Target) -> i64 {
        let numbers = match self {
            Self::Cell(cell) => (cell.version(), cell.create_revision(), cell.mod_revision()),
            Self::Fetched(kv) => (kv.version, kv.create_revision, kv.mod_revision),
        };
        match target {
            Target::Version => numbers.0,
            Target::Create => numbers.1,
            Target::Mod => numbers.2,
            Target::Key | Target::Value => 0,
        }
    }

    fn value(&self) -> &[u8] {
        match self {
            Self::Cell(cell) => cell.value(),
            Self::Fetched(kv) => &kv.value,
        }
    }

    fn give(&self, keys_only: bool) -> KeyValue {
        match (self, keys_only) {
            (Self::Cell(cell), false) => cell.to_key_value(),
            (Self::Cell(cell), true) => cell.to_key_only(),
            (Self::Fetched(kv), false) => KeyValue::clone(kv),
            (Self::Fetched(kv), true) => KeyValue {
                value: bytes::Bytes::new(),
                ..KeyValue::clone(kv)
            },
        }
    }
}

fn sort(rows: &mut [Row<'_>], target: Target, order: Order) {
    rows.sort_by(|a, b| {
        let ordering = match target {
            Target::Value => a.value().cmp(b.value()),
            _ => a.number(target).cmp(&b.number(target)),
        };
        if order == Order::Descend {
            ordering.reverse()
        } else {
            ordering
        }
    });
}

/// One range of one space at one revision.
struct Reader<'a> {
    slots: &'a Tree<Slot>,
    keys: &'a KeyRange,
    at: Option<Revision>,
}

/// The bounds of a range that is not a single key.
pub fn bounds(keys: &KeyRange) -> (Bound<&[u8]>, Bound<&[u8]>) {
    let upper: Bound<&[u8]> = match &keys.end {
        RangeEnd::Single => Bound::Included(&keys.start),
        RangeEnd::Before(end) => Bound::Excluded(end),
        RangeEnd::Open => Bound::Unbounded,
    };
    (Bound::Included(&keys.start), upper)
}

impl<'a> Reader<'a> {
    fn held(&self, slot: &'a Slot) -> Option<Held<'a>> {
        let found = match self.at {
            None => slot.live().map(Found::Newest),
            Some(revision) => slot.alive_at(revision),
        };
        found.map(|found| match found {
            Found::Newest(cell) => Held::Cell(cell),
            Found::Past(past) => Held::Past(past),
        })
    }

    /// How many keys the range holds.
    fn count(&self) -> i64 {
        if self.keys.is_single() {
            let held = self
                .slots
                .get(&self.keys.start)
                .and_then(|slot| self.held(slot));
            return i64::from(held.is_some());
        }
        let (lower, upper) = bounds(self.keys);
        if self.at.is_none() {
            return i64::from(self.slots.weight_within(lower, upper).counted);
        }
        let slots = self.slots.ascend(lower, upper, Only::All);
        slots.filter(|slot| self.held(slot).is_some()).count() as i64
    }

    /// Hands every key the range holds to `take`, in key order or against it, until it says no.
    fn walk(
        &self,
        backwards: bool,
        take: &mut dyn FnMut(Held<'a>) -> Result<bool, Unread>,
    ) -> Result<(), Unread> {
        if self.keys.is_single() {
            if let Some(held) = self
                .slots
                .get(&self.keys.start)
                .and_then(|slot| self.held(slot))
            {
                take(held)?;
            }
            return Ok(());
        }
        let only = if self.at.is_none() {
            Only::Counted
        } else {
            Only::All
        };
        let (lower, upper) = bounds(self.keys);
        if backwards {
            self.walk_over(self.slots.descend(lower, upper, only), take)
        } else {
            self.walk_over(self.slots.ascend(lower, upper, only), take)
        }
    }

    fn walk_over(
        &self,
        slots: impl Iterator<Item = &'a Slot>,
        take: &mut dyn FnMut(Held<'a>) -> Result<bool, Unread>,
    ) -> Result<(), Unread> {
        for slot in slots {
            if let Some(held) = self.held(slot)
                && !take(held)?
            {
                break;
            }
        }
        Ok(())
    }
}
