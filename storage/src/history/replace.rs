//! Replacing the store: by other rows (a snapshot was installed, or it was damaged), or by a copy of itself
//! (sled's files never shrink).
//!
//! The new store is made beside the old, flushed, and only then named the current one (`place.rs`).

use std::sync::Arc;

use bytes::Bytes;
use meridian_domain::name::TenantId;

use super::block::{self, BLOCK_BYTES, Packed};
use super::contents::Contents;
use super::envelope::{self, CONTENTS};
use super::index::{Index, Slot};
use super::pending::Pending;
use super::run::{self, Run};
use super::state::Shared;
use crate::backend::{Backend, Edit, Step};
use crate::fault::Fault;
use crate::row::{Rows, Version};

/// A batch is written once it has this many bytes.
const BATCH_BYTES: usize = 1 << 20;

/// How many writes there are between two looks at the size of the files.
const WRITES_BETWEEN_LOOKS: u64 = 64;

/// Collects edits and writes them in batches.
struct Batches {
    backend: Arc<dyn Backend>,
    edits: Vec<Edit>,
    bytes: usize,
}

impl Batches {
    fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            edits: Vec::new(),
            bytes: 0,
        }
    }

    fn put(&mut self, key: Bytes, value: Bytes) -> Result<(), Fault> {
        self.bytes += key.len() + value.len();
        self.edits.push((key, Some(value)));
        if self.bytes >= BATCH_BYTES {
            self.write()
        } else {
            Ok(())
        }
    }

    fn write(&mut self) -> Result<(), Fault> {
        self.bytes = 0;
        self.backend.write(std::mem::take(&mut self.edits))
    }
}

/// A store that was just made.
struct Fresh {
    index: Index,
    runs: Vec<Run>,
    contents: Contents,
}

impl Shared {
    /// See [`super::History::reset`].
    pub fn reset(&self, rows: &mut dyn Rows) -> Result<(), Fault> {
        let gate = self.gate.lock();
        let (used, damaged) = {
            let state = self.state.lock();
            if let Some(fault) = &state.poisoned {
                return Err(fault.clone());
            }
            (state.slot, state.damaged)
        };
        let replaced = self.place.fresh(used).and_then(|(backend, slot)| {
            let fresh = self.fill(&backend, rows)?;
            backend.flush()?;
            self.place.switch(slot)?;
            Ok((backend, slot, fresh))
        });
        let (backend, slot, fresh) = match replaced {
            Ok(replaced) => replaced,
            Err(fault) => {
                drop(gate);
                self.poison(self.state.lock(), fault.clone());
                return Err(fault);
            }
        };
        let old = {
            let mut state = self.state.lock();
            state.index = Some(fresh.index);
            state.runs = fresh.runs;
            state.next_run = fresh.contents.next_run;
            state.submitted = fresh.contents.applied;
            state.pending = Pending::default();
            state.writing = None;
            state.marks = None;
            state.held_drops.clear();
            state.held_removals.clear();
            state.stale.clear();
            state.changed = true;
            state.damaged = false;
            state.epoch += 1;
            state.slot = slot;
            state.measure();
            std::mem::replace(&mut state.backend, backend)
        };
        self.cache.clear();
        self.room.notify_all();
        drop(old);
        if damaged {
            let what = "found while it was loaded or read".into();
            let why = Fault::Damaged {
                path: self.path().to_path_buf(),
                offset: 0,
                what,
            };
            return self.place.set_aside(Some(used), &why);
        }
        self.place.discard(used)
    }

    /// Writes rows into an empty backend.
    fn fill(&self, backend: &Arc<dyn Backend>, rows: &mut dyn Rows) -> Result<Fresh, Fault> {
        let seal = self.seal.as_ref();
        let mut batches = Batches::new(Arc::clone(backend));
        let mut index = Index::default();
        let mut open: Vec<Arc<Version>> = Vec::new();
        let mut open_tenant = TenantId::SYSTEM;
        let mut open_bytes = 0;
        {
            let mut close = |tenant: TenantId, rows: Vec<Arc<Version>>| -> Result<(), Fault> {
                for packed in block::pack(seal, tenant, rows) {
                    let Packed {
                        first,
                        last,
                        rows,
                        key,
                        value,
                        ..
                    } = packed;
                    let slot = Slot {
                        last,
                        rows,
                        bytes: value.len(),
                        hash: envelope::row_hash(&key, &value),
                        generation: self.generation(),
                        dead: Vec::new(),
                    };
                    index.insert(tenant, first, slot);
                    batches.put(key, value)?;
                }
                Ok(())
            };
            rows.versions(&mut |tenant, row| {
                if tenant != open_tenant || open_bytes >= BLOCK_BYTES * 16 {
                    close(open_tenant, std::mem::take(&mut open))?;
                    open_bytes = 0;
                }
                let in_order = open.last().is_none_or(|last| last.at < row.at);
                if tenant < open_tenant || !in_order {
                    let what = "rows to load are out of order".into();
                    return Err(Fault::Inconsistent { what });
                }
                open_tenant = tenant;
                open_bytes += row.key.len() + row.after.as_ref().map_or(0, |kv| kv.value.len());
                open.push(Arc::new(row));
                Ok(())
            })?;
            close(open_tenant, open)?;
        }
        let mut facts = rows.facts()?;
        facts.sort_unstable();
        let mut packing = run::Packing::new(seal, 1);
        for (key, value) in &facts {
            packing.push(&run::fact_key(key), Some(value));
        }
        let mut runs = Vec::new();
        if let Some((run, chunks)) = packing.finish() {
            runs.push(run);
            for (key, value) in chunks {
                batches.put(key, value)?;
            }
        }
        let chunks = || runs.iter().flat_map(|run| &run.chunks);
        let totals = index.totals();
        let contents = Contents {
            applied: rows.applied(),
            next_run: 2,
            blocks: totals.blocks,
            rows: totals.rows,
            chunks: chunks().count() as u64,
            hash: chunks().fold(totals.hash, |sum, hash| sum.wrapping_add(*hash)),
        };
        batches.put(Bytes::from_static(CONTENTS), contents.wrap(seal))?;
        batches.write()?;
        Ok(Fresh {
            index,
            runs,
            contents,
        })
    }

    /// Copies the store into a new one when its files are much larger than what lives in them. The gate must
    /// be held; submitted rows wait in memory meanwhile.
    pub fn shrink_if_bloated(&self) -> Result<(), Fault> {
        let (backend, used, live, copied) = {
            let mut state = self.state.lock();
            state.writes += 1;
            if state.writes % WRITES_BETWEEN_LOOKS != 1 {
                return Ok(());
            }
            let blocks = state.index.as_ref().map_or(0, |index| index.totals().bytes);
            let runs: usize = state.runs.iter().map(|run| run.bytes).sum();
            (
                Arc::clone(&state.backend),
                state.slot,
                blocks + runs as u64,
                state.copied_bytes,
            )
        };
        let size = backend.size_on_disk()?;
        let bound = live.saturating_mul(self.settings.shrink_ratio);
        // A copy that came out large must double before it is copied again.
        let bound = bound
            .max(self.settings.shrink_floor_bytes)
            .max(copied.saturating_mul(2));
        if size < bound {
            return Ok(());
        }
        tracing::info!(size, live, "the version store is copied to give space back");
        let (fresh, slot) = self.place.fresh(used)?;
        let mut batches = Batches::new(Arc::clone(&fresh));
        backend.scan(b"", b"", &mut |key, value| {
            batches.put(Bytes::copy_from_slice(key), value)?;
            Ok(Step::Next)
        })?;
        batches.write()?;
        fresh.flush()?;
        self.place.switch(slot)?;
        let copied = fresh.size_on_disk()?;
        let old = {
            let mut state = self.state.lock();
            state.slot = slot;
            state.copied_bytes = copied;
            std::mem::replace(&mut state.backend, fresh)
        };
        drop(old);
        drop(backend);
        self.place.discard(used)
    }
}
