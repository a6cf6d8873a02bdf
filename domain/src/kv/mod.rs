//! Raw keys: what a key, a read and a write are, as etcd means them.
//!
//! A key lives in *generations*: created, overwritten any number of times, deleted. `version` counts the
//! writes of the current generation, `create_revision` is the revision it began at, `mod_revision` the
//! revision of the last write.

pub mod check;
pub mod compare;
mod duplicate;
pub mod read;

use bytes::Bytes;

use crate::key::{KeyRange, Space};
use crate::revision::Revision;

/// The number of a lease. Zero means none. May be negative: clients choose it.
pub type LeaseId = i64;

/// One version of a key that is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The revision at which the current generation of the key began.
    pub create_revision: Revision,
    /// The revision of this version.
    pub mod_revision: Revision,
    /// How many writes the current generation has seen, this one included.
    pub version: i64,
    /// The value.
    pub value: Bytes,
    /// The lease the key is attached to, or zero.
    pub lease: LeaseId,
}

/// A write of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The space the key is in.
    pub space: Space,
    /// The key; never empty.
    pub key: Bytes,
    /// The new value, or none to keep the present one (the key must exist).
    pub value: Option<Bytes>,
    /// The new lease (zero: none), or none to keep the present one (the key must exist).
    pub lease: Option<LeaseId>,
    /// Whether the answer carries the version that was replaced.
    pub prev_kv: bool,
}

/// A deletion of a range of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// The space the keys are in.
    pub space: Space,
    /// The keys.
    pub range: KeyRange,
    /// Whether the answer carries what was deleted.
    pub prev_kv: bool,
}

/// A read of a range of keys at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_field_names,
    reason = "a read has a range of keys; both words are etcd's"
)]
pub struct Range {
    /// The space the keys are in.
    pub space: Space,
    /// The keys.
    pub range: KeyRange,
    /// The revision to read at, as asked: zero is the current one. Below zero is the current one for a
    /// plain read, and judged against the compacted revision inside a transaction.
    pub revision: Revision,
    /// The most keys to return; zero or below is no limit.
    pub limit: i64,
    /// The order of the answer.
    pub order: Order,
    /// What the order compares.
    pub target: Target,
    /// Leave out the values.
    pub keys_only: bool,
    /// Return the count alone.
    pub count_only: bool,
    /// Bounds on revisions, inclusive, zero is off.
    pub bounds: RevisionBounds,
}

impl Range {
    /// A plain read of everything in `range` now.
    pub fn of(space: Space, range: KeyRange) -> Self {
        Self {
            space,
            range,
            revision: 0,
            limit: 0,
            order: Order::Unordered,
            target: Target::Key,
            keys_only: false,
            count_only: false,
            bounds: RevisionBounds::default(),
        }
    }
}

/// Inclusive bounds on the revisions of the keys to return; zero is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RevisionBounds {
    /// Lowest `mod_revision`.
    pub mod_min: Revision,
    /// Highest `mod_revision`.
    pub mod_max: Revision,
    /// Lowest `create_revision`.
    pub create_min: Revision,
    /// Highest `create_revision`.
    pub create_max: Revision,
}

impl RevisionBounds {
    /// Whether no bound is set.
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a version lies within the bounds.
    pub fn admit(&self, kv: &KeyValue) -> bool {
        (self.mod_min <= 0 || kv.mod_revision >= self.mod_min)
            && (self.mod_max <= 0 || kv.mod_revision <= self.mod_max)
            && (self.create_min <= 0 || kv.create_revision >= self.create_min)
            && (self.create_max <= 0 || kv.create_revision <= self.create_max)
    }
}

/// The order of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// As they lie in the store (by key), unless a target other than the key is given.
    #[default]
    Unordered,
    /// Ascending by the target.
    Ascend,
    /// Descending by the target.
    Descend,
}

/// What an order or a comparison looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// The key.
    #[default]
    Key,
    /// The version within the generation.
    Version,
    /// The revision the generation began at.
    Create,
    /// The revision of the version.
    Mod,
    /// The value.
    Value,
}

/// The answer to a [`Range`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeReply {
    /// What was found, in order, cut to the limit.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit cut something off.
    pub more: bool,
    /// How many keys the range holds at that revision, whatever limit and bounds say.
    pub count: i64,
}
