//! The keyspace of one tenant: an immutable root for readers, a working copy for the machine.

use std::sync::Arc;

use meridian_domain::key::Space;
use meridian_domain::kv::{KeyValue, LeaseId};
use meridian_domain::revision::{GENESIS, Revision};
use meridian_domain::tenant::{TenantRecord, Usage};

use super::cell::Cell;
use super::compact;
use super::lease::{self, Lease};
use super::slot::Slot;
use super::tree::Tree;
use crate::row::At;

/// Everything that is replicated of one tenant's keys and leases, at one moment. Cheap to clone; a clone
/// never changes.
#[derive(Clone, Debug)]
pub struct Keyspace {
    pub(crate) record: Arc<TenantRecord>,
    pub(crate) revision: Revision,
    pub(crate) compacted: Revision,
    pub(crate) rules_revision: u64,
    /// By space, ascending. Few: one per layer.
    spaces: Vec<(Space, Tree<Slot>)>,
    leases: Tree<Lease>,
    usage: Usage,
}

/// What a write left behind, for the state hash.
pub(crate) type Checksum = u64;

impl Keyspace {
    /// The keyspace of a tenant nothing was ever written to.
    pub fn new(record: Arc<TenantRecord>) -> Self {
        Self {
            record,
            revision: GENESIS,
            compacted: 0,
            rules_revision: 0,
            spaces: vec![],
            leases: Tree::new(),
            usage: Usage::default(),
        }
    }

    /// The tenant.
    pub fn record(&self) -> &Arc<TenantRecord> {
        &self.record
    }

    /// The current revision.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The oldest revision that can be read; zero if nothing was ever compacted.
    pub fn compacted(&self) -> Revision {
        self.compacted
    }

    /// The integer that moves when the tenant's rules do.
    pub fn rules_revision(&self) -> u64 {
        self.rules_revision
    }

    /// What the tenant uses.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// The spaces that were ever written to, ascending, with their keys.
    pub fn spaces(&self) -> impl Iterator<Item = (Space, &Tree<Slot>)> {
        self.spaces.iter().map(|(space, slots)| (*space, slots))
    }

    /// The keys of a space.
    pub fn space(&self, space: Space) -> Option<&Tree<Slot>> {
        self.spaces
            .iter()
            .find(|(at, _)| *at == space)
            .map(|(_, slots)| slots)
    }

    /// The newest version of a key, if it is alive.
    pub fn live(&self, space: Space, key: &[u8]) -> Option<&Cell> {
        self.space(space)?.get(key)?.live()
    }

    /// A lease.
    pub fn lease(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(&lease::sortable(id))
    }

    /// Every lease, by number.
    pub fn leases(&self) -> &Tree<Lease> {
        &self.leases
    }

    /// Whether compaction retains the version of `key` at `at`. False too if there is no such version.
    pub fn retains(&self, space: Space, key: &[u8], at: At) -> bool {
        let Some(slot) = self.space(space).and_then(|slots| slots.get(key)) else {
            return false;
        };
        slot.has(at)
            && compact::first_retained(slot, self.compacted).is_some_and(|first| at >= first)
    }

    fn space_mut(&mut self, space: Space) -> &mut Tree<Slot> {
        let at = match self.spaces.binary_search_by_key(&space, |(at, _)| *at) {
            Ok(at) => at,
            Err(at) => {
                self.spaces.insert(at, (space, Tree::new()));
                at
            }
        };
        #[expect(clippy::indexing_slicing, reason = "the place was just found or made")]
        &mut self.spaces[at].1
    }

    /// Writes a version that lies after all others of its key: at `kv.mod_revision` and `sub`.
    pub(crate) fn put(&mut self, space: Space, sub: u32, kv: &KeyValue) -> Checksum {
        let cell = Cell::alive(sub, kv);
        let sum = cell.checksum();
        let cost = cell.cost();
        let (old_cost, old_lease) = self.supersede(space, &kv.key, cell);
        self.usage.bytes = self.usage.bytes.saturating_sub(old_cost) + cost;
        self.usage.keys += u64::from(old_cost == 0);
        if old_lease != kv.lease {
            self.detach(old_lease, space, &kv.key);
            self.change_lease(kv.lease, |lease| lease.attach(space, &kv.key));
        }
        sum
    }

    /// Ends a key that is alive.
    pub(crate) fn delete(&mut self, space: Space, at: At, key: &[u8]) -> Checksum {
        let cell = Cell::tombstone(at, key);
        let sum = cell.checksum();
        let (old_cost, old_lease) = self.supersede(space, key, cell);
        self.usage.bytes = self.usage.bytes.saturating_sub(old_cost);
        self.usage.keys = self.usage.keys.saturating_sub(u64::from(old_cost > 0));
        self.detach(old_lease, space, key);
        sum
    }

    /// Puts a version on top of a slot; what the one below it cost, and its lease.
    fn supersede(&mut self, space: Space, key: &[u8], cell: Cell) -> (u64, LeaseId) {
        let mut old = (0, 0);
        self.space_mut(space).edit(key, |slot| {
            Some(match slot {
                None => Slot::new(cell),
                Some(slot) => {
                    old = (slot.newest().cost(), slot.newest().lease());
                    slot.superseded_by(cell)
                }
            })
        });
        old
    }

    fn detach(&mut self, lease: LeaseId, space: Space, key: &[u8]) {
        self.change_lease(lease, |lease| lease.detach(space, key));
    }

    /// Changes a lease, if it exists.
    pub(crate) fn change_lease(&mut self, id: LeaseId, change: impl FnOnce(&mut Lease)) {
        if id == 0 {
            return;
        }
        self.leases.edit(&lease::sortable(id), |lease| {
            let mut lease = lease?.clone();
            change(&mut lease);
            Some(lease)
        });
    }

    /// Makes a lease, replacing one of the same number.
    pub(crate) fn grant(&mut self, lease: Lease) {
        self.leases.insert(&lease::sortable(lease.id()), lease);
    }

    /// Forgets a lease. Its keys are deleted by the caller.
    pub(crate) fn forget_lease(&mut self, id: LeaseId) {
        self.leases.remove(&lease::sortable(id));
    }

    /// Replaces a slot by what pruning left of it. Nothing a reader can see changes.
    pub(super) fn replace(&mut self, space: Space, key: &[u8], slot: Option<Slot>) {
        self.space_mut(space).edit(key, |_| slot);
    }

    /// Sets the keys of a space, all at once, and adds them up; leases must be there already. Gives back
    /// the first key that names a lease that is not.
    pub(super) fn fill(&mut self, space: Space, slots: Vec<Slot>) -> Result<(), LeaseId> {
        for cell in slots.iter().filter_map(Slot::live) {
            self.usage.bytes += cell.cost();
            self.usage.keys += 1;
            let lease = cell.lease();
            if lease != 0 {
                if self.leases.get(&lease::sortable(lease)).is_none() {
                    return Err(lease);
                }
                self.change_lease(lease, |lease| lease.attach(space, cell.key()));
            }
        }
        *self.space_mut(space) = Tree::from_ascending(slots);
        Ok(())
    }
}
