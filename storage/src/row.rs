//! Rows: the state machine as it lies on disk.
//!
//! Everything the machine knows is a set of rows, and both the version store (sled) and snapshots hold
//! exactly these rows at one applied log position. Loading rows rebuilds the machine.
//!
//! - A [`Version`] is one change of one key. It never changes once written; compaction removes it.
//!   Ordered by `(tenant, revision, sub)`.
//! - A [`Fact`] is anything that is overwritten in place: counters, tenants, leases, request ids, alarms,
//!   members. Its key and value are encoded by `machine`; history and snapshots carry them as bytes.

use std::sync::Arc;

use bytes::Bytes;
use meridian_domain::changes::Change;
use meridian_domain::key::Space;
use meridian_domain::kv::KeyValue;
use meridian_domain::name::TenantId;
use meridian_domain::revision::{LogId, Revision};

/// Where a version lies: unique within a tenant, ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    /// The revision of the transaction.
    pub revision: Revision,
    /// The order inside the transaction.
    pub sub: u32,
}

/// One change of one key, for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Where it lies.
    pub at: At,
    /// The space of the key.
    pub space: Space,
    /// The key.
    pub key: Bytes,
    /// The version that began here; none if the key was deleted here.
    pub after: Option<Arc<KeyValue>>,
    /// Where the version it replaced lies, if the key was alive before.
    pub prev: Option<At>,
    /// When, by the clock of the edge, in milliseconds since the Unix epoch.
    pub stamp_ms: u64,
    /// Who asked.
    pub actor: Arc<str>,
}

impl Version {
    /// The version as a change, with what it replaced.
    pub fn to_change(&self, before: Option<Arc<KeyValue>>) -> Change {
        Change {
            space: self.space,
            key: self.key.clone(),
            before,
            after: self.after.clone(),
        }
    }
}

/// A row that is overwritten in place; none as value removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The key, as `machine` encodes it.
    pub key: Bytes,
    /// The value, as `machine` encodes it.
    pub value: Option<Bytes>,
}

/// What one batch of applied entries did to the rows. Written to the backend atomically.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The last entry it covers.
    pub applied: LogId,
    /// Versions made, in order, by tenant.
    pub made: Vec<(TenantId, Arc<Version>)>,
    /// Versions compaction removed.
    pub dropped: Vec<(TenantId, At)>,
    /// Tenants removed whole, with every version they had.
    pub dropped_tenants: Vec<TenantId>,
    /// Facts written or removed; a later one of the same key wins.
    pub facts: Vec<Fact>,
}

impl Batch {
    /// Whether there is nothing to write but the applied position.
    pub fn is_empty(&self) -> bool {
        self.made.is_empty()
            && self.dropped.is_empty()
            && self.dropped_tenants.is_empty()
            && self.facts.is_empty()
    }
}

/// Every row of the machine at one applied position, for loading it.
pub trait Rows {
    /// The position.
    fn applied(&self) -> LogId;
    /// Every fact. Order is free.
    fn facts(&mut self) -> Result<Vec<(Bytes, Bytes)>, crate::fault::Fault>;
    /// Every version, ordered by `(tenant, revision, sub)`, handed to `each`.
    fn versions(
        &mut self,
        each: &mut dyn FnMut(TenantId, Version) -> Result<(), crate::fault::Fault>,
    ) -> Result<(), crate::fault::Fault>;
}
