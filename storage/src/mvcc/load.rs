//! Building keyspaces from rows, fast.
//!
//! Versions arrive by `(tenant, revision, sub)`, the index wants them by key. Each is put on top of its key,
//! found by a hash, so that of superseded versions only their place and sum are held; at the end the keys are
//! sorted and the trees built bottom-up.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};

use meridian_domain::key::Space;
use meridian_domain::name::TenantId;

use super::cell::Cell;
use super::compact::{self, Pruned};
use super::keyspace::Keyspace;
use super::slot::{Past, Slot};
use crate::fault::Fault;
use crate::row::{At, Version};

/// Takes in versions in order and turns them into keyspaces.
pub struct Loader {
    tenants: BTreeMap<TenantId, Building>,
    strangers: BTreeSet<TenantId>,
}

/// What loading came to.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The keyspaces.
    pub keyspaces: BTreeMap<TenantId, Keyspace>,
    /// Versions compaction does not retain, still in the rows.
    pub unretained: Vec<(TenantId, At)>,
    /// Tenants that no longer exist and have versions in the rows.
    pub strangers: Vec<TenantId>,
}

struct Building {
    keyspace: Keyspace,
    last: At,
    keys: Vec<Growing>,
    /// From a hash of space and key to the last of `keys` that has it. The hash is seeded, so that nobody
    /// can choose keys that collide.
    by_hash: HashMap<u64, u32>,
    hasher: RandomState,
}

struct Growing {
    space: Space,
    newest: Cell,
    past: Vec<Past>,
    /// Another key of the same hash, or itself.
    next: u32,
}

fn inconsistent(what: String) -> Fault {
    Fault::Inconsistent { what }
}

impl Loader {
    /// Starts with keyspaces that have everything but keys: revisions, leases.
    pub fn new(keyspaces: BTreeMap<TenantId, Keyspace>) -> Self {
        let building = |(id, keyspace)| {
            let last = At::default();
            let (keys, by_hash, hasher) = (vec![], HashMap::new(), RandomState::new());
            (
                id,
                Building {
                    keyspace,
                    last,
                    keys,
                    by_hash,
                    hasher,
                },
            )
        };
        Self {
            tenants: keyspaces.into_iter().map(building).collect(),
            strangers: BTreeSet::new(),
        }
    }

    /// Takes in the next version. Fails if it can not belong to this state.
    pub fn add(&mut self, tenant: TenantId, version: &Version) -> Result<(), Fault> {
        let Some(building) = self.tenants.get_mut(&tenant) else {
            self.strangers.insert(tenant);
            return Ok(());
        };
        building.add(tenant, version)
    }

    /// Builds the trees.
    pub fn finish(self) -> Result<Loaded, Fault> {
        let mut loaded = Loaded {
            strangers: self.strangers.into_iter().collect(),
            ..Loaded::default()
        };
        for (id, building) in self.tenants {
            let mut unretained = vec![];
            let keyspace = building.finish(id, &mut unretained)?;
            loaded
                .unretained
                .extend(unretained.into_iter().map(|at| (id, at)));
            loaded.keyspaces.insert(id, keyspace);
        }
        Ok(loaded)
    }
}

impl Building {
    fn add(&mut self, tenant: TenantId, version: &Version) -> Result<(), Fault> {
        let at = version.at;
        if at <= self.last || at.revision > self.keyspace.revision() {
            return Err(inconsistent(format!(
                "a version of tenant {tenant} at {}.{} follows {}.{}; the tenant stands at {}",
                at.revision,
                at.sub,
                self.last.revision,
                self.last.sub,
                self.keyspace.revision()
            )));
        }
        self.last = at;
        let cell = match &version.after {
            Some(kv) if kv.key == version.key && kv.mod_revision == at.revision => {
                Cell::alive(at.sub, kv)
            }
            Some(_) => {
                return Err(inconsistent(format!(
                    "the version of tenant {tenant} at {}.{} contradicts its row",
                    at.revision, at.sub
                )));
            }
            None => Cell::tombstone(at, &version.key),
        };
        let hash = self.hasher.hash_one((version.space.0, cell.key()));
        let place = self.keys.len() as u32;
        let head = self.by_hash.get(&hash).copied();
        let mut next = head;
        while let Some(known) = next {
            let Some(key) = self.keys.get_mut(known as usize) else {
                break;
            };
            if key.space == version.space && key.newest.key() == cell.key() {
                key.past.push(Past::of(&key.newest));
                key.newest = cell;
                return Ok(());
            }
            next = (key.next != known).then_some(key.next);
        }
        self.by_hash.insert(hash, place);
        let next = head.unwrap_or(place);
        self.keys.push(Growing {
            space: version.space,
            newest: cell,
            past: vec![],
            next,
        });
        Ok(())
    }

    fn finish(self, tenant: TenantId, unretained: &mut Vec<At>) -> Result<Keyspace, Fault> {
        let Self {
            mut keyspace,
            keys,
            by_hash,
            ..
        } = self;
        drop(by_hash);
        let compacted = keyspace.compacted();
        let mut spaces: BTreeMap<Space, Vec<Slot>> = BTreeMap::new();
        for key in keys {
            let mut slot = Slot::with_past(key.newest, key.past);
            match compact::prune(&slot, compacted, unretained) {
                Pruned::Unchanged => {}
                Pruned::Shorter(shorter) => slot = shorter,
                Pruned::Gone => continue,
            }
            spaces.entry(key.space).or_default().push(slot);
        }
        for (space, slots) in spaces {
            keyspace.fill(space, in_order(slots)).map_err(|lease| {
                inconsistent(format!(
                    "a key of tenant {tenant} hangs on lease {lease}, which does not exist"
                ))
            })?;
        }
        Ok(keyspace)
    }
}

/// Sorts slots by key. Keys of a store begin alike, so the comparison looks at sixteen bytes behind what all
/// have in common, kept beside the slot, before it follows a pointer.
fn in_order(slots: Vec<Slot>) -> Vec<Slot> {
    let Some(first) = slots.first() else {
        return slots;
    };
    let shared = slots.iter().fold(first.key().len(), |shared, slot| {
        let pairs = slot.key().iter().zip(first.key()).take(shared);
        pairs.take_while(|(a, b)| a == b).count()
    });
    let head = |slot: &Slot| {
        let mut head = [0; 16];
        for (to, from) in head.iter_mut().zip(slot.key().iter().skip(shared)) {
            *to = *from;
        }
        u128::from_be_bytes(head)
    };
    let mut sorted: Vec<(u128, Slot)> = slots.into_iter().map(|slot| (head(&slot), slot)).collect();
    sorted.sort_unstable_by(|(a, x), (b, y)| match a.cmp(b) {
        Ordering::Equal => x.key().cmp(y.key()),
        unequal => unequal,
    });
    sorted.into_iter().map(|(_, slot)| slot).collect()
}
