//! Reading what is past: one version, or whole revisions in order.
//!
//! A row is first looked for in memory (pending, then being written), then through the index in its block. The
//! mirror thread may rewrite that block in between: a block that is not found where the index said is looked for
//! once more with the mirror thread held off.

use std::sync::Arc;

use meridian_domain::changes::Changes;
use meridian_domain::command::Commit;
use meridian_domain::kv::KeyValue;
use meridian_domain::name::TenantId;
use meridian_domain::revision::{LogId, Revision};
use meridian_domain::stamp::Stamp;

use super::History;
use super::block::{self, Block};
use super::envelope::{self, damaged};
use super::index::Slot;
use super::state::Shared;
use crate::backend::Backend;
use crate::fault::Fault;
use crate::row::{At, Version};

/// The most rows one look into memory takes.
const PENDING_ROWS_MAX: usize = 1024;

/// Where rows were found.
enum Found {
    /// In memory.
    Rows(Vec<Arc<Version>>),
    /// In a block.
    Block {
        backend: Arc<dyn Backend>,
        first: At,
        slot: Slot,
    },
    /// Nowhere.
    Nothing,
}

impl History {
    /// The version at a place, if it is still there.
    pub fn version(&self, tenant: TenantId, at: At) -> Result<Option<Arc<Version>>, Fault> {
        let rows = self.shared().rows_from(tenant, at, 1)?;
        Ok(rows.into_iter().next().filter(|row| row.at == at))
    }

    /// The transactions of a tenant from revision `from` to `to`, both included, ascending; each whole, with
    /// what its changes replaced where that is still there.
    ///
    /// Ends after `max_revisions`, or once the keys and values are `max_bytes`; at least one is given if there
    /// is one. Which log entry a commit was is not kept: `log_id` is zero. Ask from above the
    /// compacted revision: what was dropped is left out some time after it was submitted.
    pub fn commits(
        &self,
        tenant: TenantId,
        from: Revision,
        to: Revision,
        max_revisions: usize,
        max_bytes: usize,
    ) -> Result<Vec<Commit>, Fault> {
        let mut commits: Vec<Commit> = Vec::new();
        let mut bytes = 0usize;
        let mut next = At {
            revision: from.max(0),
            sub: 0,
        };
        'rows: loop {
            let rows = self.shared().rows_from(tenant, next, PENDING_ROWS_MAX)?;
            let Some(last) = rows.last() else { break };
            let Some(after_last) = after(last.at) else {
                break;
            };
            next = after_last;
            for row in rows {
                if row.at.revision > to {
                    break 'rows;
                }
                if commits
                    .last()
                    .is_none_or(|open| open.changes.revision != row.at.revision)
                {
                    if commits.len() >= max_revisions || (bytes >= max_bytes && !commits.is_empty())
                    {
                        break 'rows;
                    }
                    commits.push(Commit {
                        tenant,
                        log_id: LogId::default(),
                        stamp: Stamp {
                            unix_ms: row.stamp_ms,
                        },
                        actor: (*row.actor).into(),
                        changes: Changes {
                            revision: row.at.revision,
                            rows: Vec::new(),
                        },
                    });
                }
                let before = self.before(tenant, &row)?;
                let change = row.to_change(before);
                let size = |kv: &Option<Arc<KeyValue>>| kv.as_ref().map_or(0, |kv| kv.value.len());
                bytes += change.key.len() + size(&change.before) + size(&change.after);
                if let Some(open) = commits.last_mut() {
                    open.changes.rows.push(change);
                }
            }
        }
        Ok(commits)
    }

    /// What a version replaced, if that is still there.
    fn before(&self, tenant: TenantId, row: &Version) -> Result<Option<Arc<KeyValue>>, Fault> {
        let Some(prev) = row.prev else {
            return Ok(None);
        };
        let version = self.version(tenant, prev)?;
        Ok(version.and_then(|version| version.after.clone()))
    }
}

/// The next place after one.
pub fn after(at: At) -> Option<At> {
    match at.sub.checked_add(1) {
        Some(sub) => Some(At {
            revision: at.revision,
            sub,
        }),
        None => Some(At {
            revision: at.revision.checked_add(1)?,
            sub: 0,
        }),
    }
}

impl Shared {
    /// Rows of a tenant from a place on, ascending: some if there are any, at most those of one block or `most`
    /// from memory. Empty when there are none. Dropped rows are left out.
    pub fn rows_from(
        &self,
        tenant: TenantId,
        at: At,
        most: usize,
    ) -> Result<Vec<Arc<Version>>, Fault> {
        let mut at = at;
        loop {
            let (rows, last) = match self.find(tenant, at, most)? {
                Found::Nothing => return Ok(Vec::new()),
                Found::Rows(rows) => return Ok(rows),
                Found::Block {
                    backend,
                    first,
                    slot,
                } => match self.fetch(backend.as_ref(), tenant, first, &slot) {
                    Ok(block) => (alive(&block, &slot, at, most), slot.last),
                    Err(_) => match self.find_again(tenant, at, most)? {
                        (rows, Some(last)) => (rows, last),
                        (rows, None) => return Ok(rows),
                    },
                },
            };
            if !rows.is_empty() {
                return Ok(rows);
            }
            // All that is left of this block is dead.
            match after(last) {
                Some(next) => at = next,
                None => return Ok(Vec::new()),
            }
        }
    }

    /// The same with the mirror thread held off, so that what the index says is so. With the last row of the
    /// block, if the rows are from one.
    fn find_again(
        &self,
        tenant: TenantId,
        at: At,
        most: usize,
    ) -> Result<(Vec<Arc<Version>>, Option<At>), Fault> {
        let _gate = self.gate.lock();
        match self.find(tenant, at, most)? {
            Found::Nothing => Ok((Vec::new(), None)),
            Found::Rows(rows) => Ok((rows, None)),
            Found::Block {
                backend,
                first,
                slot,
            } => {
                let fetched = self.fetch(backend.as_ref(), tenant, first, &slot);
                if matches!(fetched, Err(Fault::Damaged { .. })) {
                    self.state.lock().damaged = true;
                }
                Ok((alive(&*fetched?, &slot, at, most), Some(slot.last)))
            }
        }
    }

    /// Where the rows from a place on begin. The index must be there, or it is built first.
    fn find(&self, tenant: TenantId, at: At, most: usize) -> Result<Found, Fault> {
        let state = self.state.lock();
        let Some(index) = &state.index else {
            drop(state);
            // Only before anything was written: nothing can hold the gate and wait for us.
            self.build_index_now()?;
            return self.find(tenant, at, most);
        };
        // What lies in a block is older than what is in memory.
        if let Some((first, slot)) = index.from(tenant, at) {
            if let Some(fault) = &state.poisoned {
                return Err(fault.clone());
            }
            let slot = slot.clone();
            return Ok(Found::Block {
                backend: Arc::clone(&state.backend),
                first,
                slot,
            });
        }
        let writing = state
            .writing
            .as_ref()
            .map(|w| w.rows_from(tenant, at))
            .unwrap_or_default();
        let rows = writing.iter().chain(state.pending.rows_from(tenant, at));
        let rows: Vec<_> = rows.take(most).cloned().collect();
        Ok(if rows.is_empty() {
            Found::Nothing
        } else {
            Found::Rows(rows)
        })
    }

    fn build_index_now(&self) -> Result<(), Fault> {
        // `find_again` holds the gate, but there the index is there: `find` came before it.
        let _gate = self.gate.lock();
        self.ensure_index()
    }

    /// A block, decoded: from the cache or the backend. Fails if the block is not the one the index speaks of:
    /// it is damaged, or was just rewritten.
    pub fn fetch(
        &self,
        backend: &dyn Backend,
        tenant: TenantId,
        first: At,
        slot: &Slot,
    ) -> Result<Arc<Block>, Fault> {
        if let Some(block) = self.cache.get(slot.generation) {
            return Ok(block);
        }
        let key = envelope::block_key(tenant, first);
        let Some(value) = backend.get(&key)? else {
            return Err(damaged(self.path(), "a block is gone"));
        };
        if envelope::row_hash(&key, &value) != slot.hash {
            return Err(damaged(
                self.path(),
                "a block is not the one that was written",
            ));
        }
        let block = Arc::new(block::load(self.seal.as_ref(), self.path(), &key, &value)?);
        self.cache.put(slot.generation, Arc::clone(&block));
        Ok(block)
    }
}

/// The rows of a block from a place on that are not dead.
fn alive(block: &Block, slot: &Slot, at: At, most: usize) -> Vec<Arc<Version>> {
    let rows = block.rows_from(at).iter();
    rows.filter(|row| !slot.is_dead(row.at))
        .take(most)
        .cloned()
        .collect()
}
