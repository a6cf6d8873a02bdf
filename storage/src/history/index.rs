//! The index: which block of the backend holds which rows, and which of those rows are dead.
//!
//! It is small (about 100 bytes for each block of 25 rows), lives in memory, and is built by the one pass
//! over the blocks that loading makes anyway. A dropped version is only *marked* here (and in a run, see
//! `run.rs`); its block is rewritten once half of it is dead, or when marks pile up everywhere.
//!
//! Blocks of a tenant never overlap: each covers its rows from `first` to `last`.

use std::collections::{BTreeMap, BTreeSet};

use meridian_domain::name::TenantId;

use crate::row::At;

/// What is known of a block without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its last row.
    pub last: At,
    /// How many rows it holds, dead ones included.
    pub rows: usize,
    /// The size of its value.
    pub bytes: usize,
    /// What it counts for in the sum of the table of contents.
    pub hash: u64,
    /// Changes whenever the block is rewritten; unique in this process.
    pub generation: u64,
    /// The rows in it that were dropped, ascending.
    pub dead: Vec<At>,
}

impl Slot {
    fn is_ripe(&self) -> bool {
        self.dead.len() * 2 >= self.rows
    }

    /// Whether the row at `at` was dropped.
    pub fn is_dead(&self, at: At) -> bool {
        self.dead.binary_search(&at).is_ok()
    }

    /// About how many bytes a rewrite would leave.
    pub fn live_bytes(&self) -> usize {
        let live = self.rows.saturating_sub(self.dead.len());
        self.bytes.saturating_mul(live) / self.rows.max(1)
    }
}

/// Every block, by tenant and first row.
#[derive(Clone, Debug, Default)]
pub struct Index {
    tenants: BTreeMap<TenantId, BTreeMap<At, Slot>>,
    /// Blocks with dead rows.
    marked: BTreeSet<(TenantId, At)>,
    /// Those of them that are at least half dead.
    ripe: BTreeSet<(TenantId, At)>,
    /// Tenants that were removed and still have blocks.
    removed: BTreeSet<TenantId>,
    totals: Totals,
}

/// Sums over all blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many blocks.
    pub blocks: u64,
    /// How many rows they hold, dead ones included.
    pub rows: u64,
    /// The bytes of their values.
    pub bytes: u64,
    /// How many of their rows are dead.
    pub dead: u64,
    /// The wrapping sum of their hashes.
    pub hash: u64,
}

impl Index {
    /// Adds a block.
    pub fn insert(&mut self, tenant: TenantId, first: At, slot: Slot) {
        self.remove(tenant, first);
        self.totals.blocks += 1;
        self.totals.rows += slot.rows as u64;
        self.totals.bytes += slot.bytes as u64;
        self.totals.dead += slot.dead.len() as u64;
        self.totals.hash = self.totals.hash.wrapping_add(slot.hash);
        if !slot.dead.is_empty() {
            self.marked.insert((tenant, first));
            if slot.is_ripe() {
                self.ripe.insert((tenant, first));
            }
        }
        self.tenants.entry(tenant).or_default().insert(first, slot);
    }

    /// Forgets a block.
    pub fn remove(&mut self, tenant: TenantId, first: At) -> Option<Slot> {
        let blocks = self.tenants.get_mut(&tenant)?;
        let slot = blocks.remove(&first)?;
        if blocks.is_empty() {
            self.tenants.remove(&tenant);
        }
        self.totals.blocks -= 1;
        self.totals.rows -= slot.rows as u64;
        self.totals.bytes -= slot.bytes as u64;
        self.totals.dead -= slot.dead.len() as u64;
        self.totals.hash = self.totals.hash.wrapping_sub(slot.hash);
        self.marked.remove(&(tenant, first));
        self.ripe.remove(&(tenant, first));
        Some(slot)
    }

    /// The block that holds `at`, or the first one after it.
    pub fn from(&self, tenant: TenantId, at: At) -> Option<(At, &Slot)> {
        let blocks = self.tenants.get(&tenant)?;
        let around = blocks
            .range(..=at)
            .next_back()
            .filter(|(_, slot)| slot.last >= at);
        around
            .or_else(|| blocks.range(at..).next())
            .map(|(first, slot)| (*first, slot))
    }

    /// The last block of a tenant that begins before `before` (or the last of all).
    pub fn last_before(&self, tenant: TenantId, before: Option<At>) -> Option<(At, &Slot)> {
        let blocks = self.tenants.get(&tenant)?;
        let found = match before {
            Some(before) => blocks.range(..before).next_back(),
            None => blocks.last_key_value(),
        };
        found.map(|(first, slot)| (*first, slot))
    }

    /// The block that begins at `first`.
    pub fn get(&self, tenant: TenantId, first: At) -> Option<&Slot> {
        self.tenants.get(&tenant)?.get(&first)
    }

    /// Marks a row as dead. False if no block can hold it, or it was dead before.
    pub fn mark(&mut self, tenant: TenantId, at: At) -> bool {
        let Some(blocks) = self.tenants.get_mut(&tenant) else {
            return false;
        };
        let Some((first, slot)) = blocks.range_mut(..=at).next_back() else {
            return false;
        };
        if slot.last < at {
            return false;
        }
        let Err(place) = slot.dead.binary_search(&at) else {
            return false;
        };
        slot.dead.insert(place, at);
        self.totals.dead += 1;
        self.marked.insert((tenant, *first));
        if slot.is_ripe() {
            self.ripe.insert((tenant, *first));
        }
        true
    }

    /// Notes that a tenant was removed. False if it has no blocks.
    pub fn mark_removed(&mut self, tenant: TenantId) -> bool {
        self.tenants.contains_key(&tenant) && self.removed.insert(tenant)
    }

    /// A removed tenant that still has blocks, and the first `most` of them.
    pub fn removed_blocks(&self, most: usize) -> Option<(TenantId, Vec<At>)> {
        let tenant = *self.removed.first()?;
        let blocks = self.tenants.get(&tenant);
        Some((
            tenant,
            blocks
                .into_iter()
                .flat_map(BTreeMap::keys)
                .take(most)
                .copied()
                .collect(),
        ))
    }

    /// Forgets that a tenant was removed, once it has no blocks.
    pub fn forget_removed(&mut self, tenant: TenantId) {
        self.removed.remove(&tenant);
    }

    /// Blocks to rewrite, up to `most`: those half dead, and any with dead rows while more than a quarter of
    /// all rows (and more than `marks_kept`) are dead.
    pub fn to_rewrite(&self, most: usize, marks_kept: u64) -> Vec<(TenantId, At)> {
        let too_many = self.totals.dead > marks_kept && self.totals.dead * 4 > self.totals.rows;
        let set = if self.ripe.is_empty() && too_many {
            &self.marked
        } else {
            &self.ripe
        };
        set.iter().take(most).copied().collect()
    }

    /// Whether anything waits to be removed or rewritten.
    pub fn has_work(&self, marks_kept: u64) -> bool {
        !self.removed.is_empty() || !self.to_rewrite(1, marks_kept).is_empty()
    }

    /// The sums.
    pub fn totals(&self) -> Totals {
        self.totals
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const T: TenantId = TenantId(1);

    fn at(revision: i64) -> At {
        At { revision, sub: 0 }
    }

    fn index() -> Index {
        let mut index = Index::default();
        for (first, last) in [(2, 5), (6, 9), (20, 23)] {
            let slot = Slot {
                last: at(last),
                rows: 4,
                bytes: 100,
                hash: first as u64,
                generation: 0,
                dead: vec![],
            };
            index.insert(T, at(first), slot);
        }
        index
    }

    #[test]
    fn a_row_is_found_in_its_block_or_the_next_one() {
        let index = index();
        let first = |from| index.from(T, at(from)).map(|(first, _)| first.revision);
        assert_eq!(first(0), Some(2));
        assert_eq!(first(5), Some(2));
        assert_eq!(first(6), Some(6));
        assert_eq!(first(12), Some(20));
        assert_eq!(first(24), None);
        assert!(index.from(TenantId(2), at(0)).is_none());
        assert_eq!(index.last_before(T, Some(at(20))).unwrap().0, at(6));
    }

    #[test]
    fn a_block_is_rewritten_once_half_of_it_is_dead() {
        let mut index = index();
        assert!(index.mark(T, at(7)));
        assert!(!index.mark(T, at(7)), "it was dead before");
        assert!(!index.mark(T, at(15)), "no block can hold it");
        assert!(index.to_rewrite(9, 100).is_empty());
        assert!(index.mark(T, at(8)));
        assert_eq!(index.to_rewrite(9, 100), [(T, at(6))]);
        index.remove(T, at(6));
        assert!(index.to_rewrite(9, 0).is_empty());
        assert_eq!(
            index.totals(),
            Totals {
                blocks: 2,
                rows: 8,
                bytes: 200,
                dead: 0,
                hash: 22
            }
        );
    }

    #[test]
    fn any_block_with_dead_rows_is_rewritten_when_there_are_too_many() {
        let mut index = index();
        for revision in [2, 6, 20] {
            index.mark(T, at(revision));
        }
        assert!(
            index.to_rewrite(9, 0).is_empty(),
            "a quarter is not more than a quarter"
        );
        index.remove(T, at(20));
        index.insert(
            T,
            at(20),
            Slot {
                last: at(20),
                rows: 3,
                bytes: 9,
                hash: 0,
                generation: 1,
                dead: vec![at(20)],
            },
        );
        assert_eq!(index.to_rewrite(9, 0).len(), 3);
        assert!(index.to_rewrite(9, 3).is_empty());
    }
}
