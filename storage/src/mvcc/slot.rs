//! The index of one key: its newest version, whole, and where the older ones lie.

use std::ops::Bound;

use meridian_domain::revision::Revision;

use super::cell::Cell;
use super::tree::{Entry, Only, Tree, Weight};
use crate::row::At;

/// Everything the index knows of a key.
#[derive(Clone, Debug)]
pub struct Slot {
    newest: Cell,
    past: Tree<Past>,
}

/// An older version: where it lies, whether the key was alive, and a sum over its content. 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    place: Place,
    /// The low half of [`Cell::checksum`], its last bit replaced by whether the key was alive.
    sum: u32,
}

/// A place as a sortable key: revision, then sub, big-endian.
type Place = [u8; 12];

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
        let sum = cell.checksum() as u32 & !1 | u32::from(cell.is_alive());
        Self {
            place: place(cell.at()),
            sum,
        }
    }

    /// Where it lies.
    pub fn at(&self) -> At {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.place;
        let revision = Revision::from_be_bytes([a, b, c, d, e, f, g, h]);
        At {
            revision,
            sub: u32::from_be_bytes(rest),
        }
    }

    /// Whether the key was alive.
    pub fn is_alive(&self) -> bool {
        self.sum & 1 == 1
    }

    /// The sum over its content, and whether the key was alive.
    pub fn sum(&self) -> u32 {
        self.sum
    }
}

/// Revisions are never negative, so they sort as bytes.
fn place(at: At) -> Place {
    let mut place = [0; 12];
    let bytes = at
        .revision
        .to_be_bytes()
        .into_iter()
        .chain(at.sub.to_be_bytes());
    place
        .iter_mut()
        .zip(bytes)
        .for_each(|(to, from)| *to = from);
    place
}

impl Entry for Past {
    type Head = ();

    fn key(&self) -> &[u8] {
        &self.place
    }

    fn weight(&self) -> Weight {
        Weight::ONE
    }
}

impl Entry for Slot {
    type Head = u64;

    fn key(&self) -> &[u8] {
        self.newest.key()
    }

    fn weight(&self) -> Weight {
        let alive = self.newest.is_alive();
        Weight {
            counted: u32::from(alive),
            marked: u32::from(!alive || !self.past.is_empty()),
        }
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
        past.insert(&old.place, old);
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

    /// Whether it has a version at `at`, alive or not.
    pub fn has(&self, at: At) -> bool {
        self.newest.at() == at || self.past.get(&place(at)).is_some()
    }

    /// The older versions before `at`, ascending.
    pub fn past_before(&self, at: At) -> Vec<Past> {
        let upper = place(at);
        let before = self
            .past
            .ascend(Bound::Unbounded, Bound::Excluded(&upper), Only::All);
        before.copied().collect()
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
        let upper = place(At {
            revision,
            sub: u32::MAX,
        });
        self.past
            .descend(Bound::Unbounded, Bound::Included(&upper), Only::All)
            .next()
            .copied()
    }

    /// The slot without some of its older versions.
    pub(super) fn without(&self, gone: &[At]) -> Self {
        let mut slot = self.clone();
        for at in gone {
            slot.past.remove(&place(*at));
        }
        slot
    }
}
