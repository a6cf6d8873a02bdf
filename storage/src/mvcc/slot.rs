//! The index of one key: its newest version, whole, and where the older ones lie.

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use meridian_domain::revision::Revision;

use super::cell::Cell;
use super::tree::{Entry, Only, Tree, Weight, shortest_between};
use crate::row::At;

/// Everything the index knows of a key.
#[derive(Clone, Debug)]
pub struct Slot {
    newest: Cell,
    past: Tree<Past>,
}

/// An older version: where it lies, whether the key was alive, and a sum over its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    revision: Revision,
    /// `sub * 2 + alive`.
    order: u32,
    /// The low half of [`Cell::checksum`].
    sum: u32,
}

/// A version found in a slot.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// The newest one, in memory.
    Newest(&'a Cell),
    /// An older one; its content is in history.
    Past(Past),
}

impl Past {
    /// What is kept of a version that was superseded.
    pub fn of(cell: &Cell) -> Self {
        let at = cell.at();
        Self {
            revision: at.revision,
            order: at.sub << 1 | u32::from(cell.is_alive()),
            sum: cell.checksum() as u32,
        }
    }

    /// Where it lies.
    pub fn at(&self) -> At {
        At {
            revision: self.revision,
            sub: self.order >> 1,
        }
    }

    /// Whether the key was alive.
    pub fn is_alive(&self) -> bool {
        self.order & 1 == 1
    }

    /// The sum over its content.
    pub fn sum(&self) -> u32 {
        self.sum
    }
}

impl Entry for Past {
    type Key = At;
    type Fence = At;

    fn compare(&self, key: &At) -> Ordering {
        self.at().cmp(key)
    }

    fn compare_fence(fence: &At, key: &At) -> Ordering {
        fence.cmp(key)
    }

    fn fence(_below: &Self, at: &Self) -> At {
        at.at()
    }

    fn weight(&self) -> Weight {
        Weight::ONE
    }
}

impl Entry for Slot {
    type Key = [u8];
    type Fence = Arc<[u8]>;

    fn compare(&self, key: &[u8]) -> Ordering {
        self.newest.key().cmp(key)
    }

    fn compare_fence(fence: &Arc<[u8]>, key: &[u8]) -> Ordering {
        (**fence).cmp(key)
    }

    fn fence(below: &Self, at: &Self) -> Arc<[u8]> {
        shortest_between(below.key(), at.key())
    }

    fn weight(&self) -> Weight {
        let alive = self.newest.is_alive();
        Weight {
            counted: u32::from(alive),
            marked: u32::from(!alive || !self.past.is_empty()),
        }
    }
}

/// The bound that takes in every version at or before a revision.
fn through(revision: Revision) -> At {
    At {
        revision,
        sub: u32::MAX,
    }
}

impl Slot {
    /// A key with one version.
    pub fn new(newest: Cell) -> Self {
        Self {
            newest,
            past: Tree::new(),
        }
    }

    /// A key with a newest version and older ones, ascending.
    pub fn with_past(newest: Cell, past: Vec<Past>) -> Self {
        Self {
            newest,
            past: Tree::from_ascending(past),
        }
    }

    /// The slot after one more version, which lies after all others.
    #[must_use]
    pub fn superseded_by(&self, newest: Cell) -> Self {
        let mut past = self.past.clone();
        let old = Past::of(&self.newest);
        past.insert(&old.at(), old);
        Self { newest, past }
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        self.newest.key()
    }

    /// The newest version, alive or not.
    pub fn newest(&self) -> &Cell {
        &self.newest
    }

    /// The newest version if the key is alive.
    pub fn live(&self) -> Option<&Cell> {
        self.newest.is_alive().then_some(&self.newest)
    }

    /// Older versions, ascending.
    pub fn past(&self) -> &Tree<Past> {
        &self.past
    }

    /// The last version at or before `revision`, alive or not.
    pub fn last_at(&self, revision: Revision) -> Option<Found<'_>> {
        if self.newest.mod_revision() <= revision {
            return Some(Found::Newest(&self.newest));
        }
        self.last_past_at(revision).map(Found::Past)
    }

    /// The version a reader at `revision` sees, if the key was alive then.
    pub fn alive_at(&self, revision: Revision) -> Option<Found<'_>> {
        self.last_at(revision).filter(|found| match found {
            Found::Newest(cell) => cell.is_alive(),
            Found::Past(past) => past.is_alive(),
        })
    }

    /// The last of the older versions at or before `revision`.
    pub(super) fn last_past_at(&self, revision: Revision) -> Option<Past> {
        if self.past.is_empty() {
            return None;
        }
        let upper = through(revision);
        self.past
            .descend(Bound::Unbounded, Bound::Included(&upper), Only::All)
            .next()
            .copied()
    }

    /// The slot without some of its older versions.
    pub(super) fn without(&self, gone: &[At]) -> Self {
        let mut slot = self.clone();
        for at in gone {
            slot.past.remove(at);
        }
        slot
    }
}
