//! The keys one proposal writes: all at one revision, in order.

use std::sync::Arc;

use bytes::Bytes;
use meridian_domain::changes::{Change, Changes};
use meridian_domain::key::Space;
use meridian_domain::kv::{KeyValue, LeaseId, Put};
use meridian_domain::rejection::Rejection;
use meridian_domain::revision::Revision;
use meridian_domain::stamp::Stamp;
use meridian_domain::tenant::QuotaKind;

use crate::mvcc::Keyspace;
use crate::mvcc::cell::{self, Cell};
use crate::row::{At, Version};

/// A proposal at work on a keyspace.
pub(super) struct Work<'a> {
    keyspace: &'a mut Keyspace,
    rows: Vec<Row>,
}

/// One change, with what history and the state hash want to know of it.
struct Row {
    change: Change,
    prev: Option<At>,
    sum: u64,
}

/// What a proposal changed; never empty.
pub(super) struct Changed {
    revision: Revision,
    rows: Vec<Row>,
}

impl<'a> Work<'a> {
    pub(super) fn new(keyspace: &'a mut Keyspace) -> Self {
        Self {
            keyspace,
            rows: vec![],
        }
    }

    /// The state, with what was written so far. Its revision is still the one before.
    pub(super) fn keyspace(&self) -> &Keyspace {
        self.keyspace
    }

    /// Whether something was written.
    pub(super) fn has_written(&self) -> bool {
        !self.rows.is_empty()
    }

    /// The revision a reader within the proposal sees: the next one once something was written.
    pub(super) fn revision(&self) -> Revision {
        self.keyspace.revision() + Revision::from(self.has_written())
    }

    fn next_at(&self) -> At {
        At {
            revision: self.keyspace.revision() + 1,
            sub: self.rows.len() as u32,
        }
    }

    /// Undoes everything: `before` is a clone from before the first write.
    pub(super) fn roll_back(&mut self, before: Keyspace) {
        *self.keyspace = before;
        self.rows.clear();
    }

    /// Writes a key, if the quota allows it; gives back what it replaced. Writes nothing if it refuses.
    pub(super) fn put(&mut self, put: &Put) -> Result<Option<Arc<KeyValue>>, Rejection> {
        let at = self.next_at();
        let old = self.keyspace.live(put.space, &put.key);
        let prev = old.map(Cell::at);
        let old_cost = old.map_or(0, Cell::cost);
        let old = old.map(|cell| Arc::new(cell.to_key_value()));
        let value = kept(put.value.as_ref(), old.as_deref(), |kv| kv.value.clone())?;
        let lease = kept(put.lease.as_ref(), old.as_deref(), |kv| kv.lease)?;
        if lease != 0 && self.keyspace.lease(lease).is_none() {
            return Err(Rejection::LeaseNotFound);
        }
        self.check_quota(old_cost, cell::cost(put.key.len(), value.len()))?;

        let after = Arc::new(KeyValue {
            key: put.key.clone(),
            create_revision: old.as_ref().map_or(at.revision, |kv| kv.create_revision),
            mod_revision: at.revision,
            version: old.as_ref().map_or(0, |kv| kv.version) + 1,
            value,
            lease,
        });
        let sum = self.keyspace.put(put.space, at.sub, &after);
        let change = Change {
            space: put.space,
            key: put.key.clone(),
            before: old.clone(),
            after: Some(after),
        };
        self.rows.push(Row { change, prev, sum });
        Ok(old)
    }

    /// Deletes a key that is alive; gives back what it held.
    pub(super) fn delete(&mut self, space: Space, old: &Cell) -> Arc<KeyValue> {
        let at = self.next_at();
        let before = Arc::new(old.to_key_value());
        let key = Bytes::copy_from_slice(old.key());
        let sum = self.keyspace.delete(space, at, &key);
        let change = Change {
            space,
            key,
            before: Some(Arc::clone(&before)),
            after: None,
        };
        self.rows.push(Row {
            change,
            prev: Some(old.at()),
            sum,
        });
        before
    }

    /// Forgets a lease whose keys were deleted.
    pub(super) fn forget_lease(&mut self, id: LeaseId) {
        self.keyspace.forget_lease(id);
    }

    /// Refuses what would grow the tenant beyond its quota. What does not grow it passes, so that a tenant
    /// above a quota that was lowered can still work its way down.
    fn check_quota(&self, old_cost: u64, new_cost: u64) -> Result<(), Rejection> {
        let usage = self.keyspace.usage();
        let record = self.keyspace.record();
        let exceeded = |kind, used, limit| {
            Err(Rejection::QuotaExceeded {
                tenant: record.name.clone(),
                kind,
                used,
                limit,
            })
        };
        let bytes = usage
            .bytes
            .saturating_sub(old_cost)
            .saturating_add(new_cost);
        if record.quota.bytes > 0 && new_cost > old_cost && bytes > record.quota.bytes {
            return exceeded(QuotaKind::Bytes, bytes, record.quota.bytes);
        }
        let keys = usage.keys + u64::from(old_cost == 0);
        if record.quota.keys > 0 && old_cost == 0 && keys > record.quota.keys {
            return exceeded(QuotaKind::Keys, keys, record.quota.keys);
        }
        Ok(())
    }

    /// Moves the revision if something was written, and gives back what.
    pub(super) fn finish(self) -> Option<Changed> {
        if self.rows.is_empty() {
            return None;
        }
        self.keyspace.revision += 1;
        Some(Changed {
            revision: self.keyspace.revision,
            rows: self.rows,
        })
    }
}

/// The new part if there is one, else the present one; a key that does not exist has none.
fn kept<T: Clone>(
    new: Option<&T>,
    old: Option<&KeyValue>,
    present: impl FnOnce(&KeyValue) -> T,
) -> Result<T, Rejection> {
    match (new, old) {
        (Some(new), _) => Ok(new.clone()),
        (None, Some(old)) => Ok(present(old)),
        (None, None) => Err(Rejection::KeyNotFound),
    }
}

impl Changed {
    /// The revision everything was written at.
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// Space and content sum of every row, in order.
    pub(super) fn sums(&self) -> impl Iterator<Item = (Space, u64)> {
        self.rows.iter().map(|row| (row.change.space, row.sum))
    }

    /// The rows as history keeps them.
    pub(super) fn versions(
        &self,
        stamp: Stamp,
        actor: &Arc<str>,
    ) -> impl Iterator<Item = Arc<Version>> {
        self.rows.iter().zip(0u32..).map(move |(row, sub)| {
            Arc::new(Version {
                at: At {
                    revision: self.revision,
                    sub,
                },
                space: row.change.space,
                key: row.change.key.clone(),
                after: row.change.after.clone(),
                prev: row.prev,
                stamp_ms: stamp.unix_ms,
                actor: Arc::clone(actor),
            })
        })
    }

    /// The rows as watchers receive them.
    pub(super) fn into_changes(self) -> Changes {
        let rows = self.rows.into_iter().map(|row| row.change).collect();
        Changes {
            revision: self.revision,
            rows,
        }
    }
}
