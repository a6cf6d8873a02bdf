//! The mirror thread: what is pending becomes one atomic batch of the backend.
//!
//! ```text
//!   wait for 1 MiB, 200 ms, or a flush
//!     -> take        pending becomes `writing`; rows stay readable there
//!     -> plan        new rows join the last, partly filled blocks of their tenant
//!                    some blocks with dead rows are rewritten, some of removed tenants go
//!                    facts and marks become a run, small runs are merged
//!     -> write       one batch, with the table of contents
//!     -> commit      the index says where the rows lie; `writing` is dropped; drops become marks
//! ```
//!
//! The last blocks of a tenant are merged like the digits of a binary counter: a new one swallows the one
//! before it unless that is full or more than twice as large. So a row of a tenant that writes little is
//! rewritten a handful of times, not once for each of its neighbours.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meridian_domain::name::TenantId;

use super::block::{self, BLOCK_BYTES, Block};
use super::contents::Contents;
use super::envelope::{self, CONTENTS};
use super::index::{Index, Slot};
use super::pending::Pending;
use super::run::{self, Entries, Run};
use super::state::{Shared, State};
use crate::backend::{Backend, Edit};
use crate::fault::Fault;
use crate::row::{At, Version};

/// The most blocks one batch rewrites, and the most of a removed tenant it deletes.
const REWRITES_MAX: usize = 64;
const REMOVALS_MAX: usize = 512;

/// How long the mirror thread waits before it looks again whether the disk has space.
const SPACE_WAIT: Duration = Duration::from_millis(500);

/// Blocks that go and blocks that come.
#[derive(Default)]
struct Moves {
    gone: BTreeMap<(TenantId, At), Slot>,
    made: Vec<Made>,
}

struct Made {
    tenant: TenantId,
    first: At,
    slot: Slot,
    block: Arc<Block>,
}

/// One batch while it is planned.
struct Plan {
    backend: Arc<dyn Backend>,
    writing: Arc<Pending>,
    moves: Moves,
    entries: Entries,
    runs: Vec<Run>,
    next_run: u64,
    edits: Vec<Edit>,
}

impl Shared {
    /// Runs until told to stop, or until a fault.
    pub fn run(&self) {
        while self.wait_for_work() {
            let cycle = catch_unwind(AssertUnwindSafe(|| self.cycle()));
            let fault = match cycle {
                Ok(Ok(())) => continue,
                Ok(Err(fault)) => fault,
                Err(_) => Fault::Inconsistent {
                    what: "the history's thread panicked".into(),
                },
            };
            self.poison(self.state.lock(), fault);
        }
    }

    /// Waits until there is something to write. False when the thread shall end.
    fn wait_for_work(&self) -> bool {
        let mut state = self.state.lock();
        let mut waited = false;
        loop {
            if state.poisoned.is_some() {
                return false;
            }
            if state.stop {
                return !state.pending.is_empty();
            }
            let tidy = state
                .index
                .as_ref()
                .is_some_and(|i| i.has_work(self.settings.marks_kept));
            let enough = state.pending.bytes >= self.settings.batch_bytes;
            if !state.flushes.is_empty() || enough || tidy || (waited && !state.pending.is_empty())
            {
                drop(state);
                return self.wait_for_space();
            }
            if state.pending.is_empty() {
                self.work.wait(&mut state);
            } else {
                let pause = Duration::from_millis(self.settings.batch_wait_ms);
                waited = self.work.wait_for(&mut state, pause).timed_out();
            }
        }
    }

    /// Waits while the disk is nearly full; whoever waits for a flush is told. False when the thread shall end.
    fn wait_for_space(&self) -> bool {
        let super::place::Place::Directory { disk, dir, .. } = &self.place else {
            return true;
        };
        let reserve = self.settings.reserve_bytes;
        let mut warned = false;
        loop {
            let available = match disk.available_space(dir) {
                Ok(available) if available < reserve => available,
                _ => return true,
            };
            let mut state = self.state.lock();
            for answer in state.flushes.drain(..) {
                let path = dir.clone();
                let _ = answer.try_send(Err(Fault::DiskFull {
                    path,
                    available,
                    reserve,
                }));
            }
            if state.stop {
                return false;
            }
            if !warned {
                warned = true;
                tracing::warn!(dir = %dir.display(), available, reserve,
                    "the version store waits for space on its disk");
            }
            self.work.wait_for(&mut state, SPACE_WAIT);
        }
    }

    /// Writes what is pending.
    fn cycle(&self) -> Result<(), Fault> {
        let _gate = self.gate.lock();
        self.ensure_index()?;
        let (mut plan, waiting) = self.take();
        self.plan_rows(&mut plan)?;
        self.plan_removals(&mut plan);
        self.plan_rewrites(&mut plan)?;
        self.plan_run(&mut plan)?;
        let written = plan.writing.applied;
        let backend = Arc::clone(&plan.backend);
        self.write(plan)?;
        if waiting > 0 {
            backend.flush()?;
            let mut state = self.state.lock();
            let answered = waiting.min(state.flushes.len());
            for answer in state.flushes.drain(..answered) {
                // One place for one answer: it can not be full.
                let _ = answer.try_send(Ok(written));
            }
        }
        self.shrink_if_bloated()
    }

    /// Takes what is pending, and how many wait for it to be flushed.
    fn take(&self) -> (Plan, usize) {
        let mut state = self.state.lock();
        let mut pending = std::mem::take(&mut state.pending);
        let mut entries = std::mem::take(&mut pending.facts);
        // Nothing may be pending: then blocks are tidied, or flushed, at the position reached before.
        pending.applied = state.submitted;
        let writing = Arc::new(pending);
        state.writing = Some(Arc::clone(&writing));
        for (tenant, at) in &writing.dropped {
            entries.insert(run::dropped_key(*tenant, *at), Some(Bytes::new()));
        }
        for tenant in &writing.removed {
            entries.insert(run::removed_key(*tenant), Some(Bytes::new()));
        }
        for stale in std::mem::take(&mut state.stale) {
            entries.entry(stale).or_insert(None);
        }
        let plan = Plan {
            backend: Arc::clone(&state.backend),
            writing,
            moves: Moves::default(),
            entries,
            runs: state.runs.clone(),
            next_run: state.next_run,
            edits: Vec::new(),
        };
        (plan, state.flushes.len())
    }

    /// New rows become blocks, together with the rows of the last blocks that are not full.
    fn plan_rows(&self, plan: &mut Plan) -> Result<(), Fault> {
        let writing = Arc::clone(&plan.writing);
        for (tenant, new) in &writing.rows {
            let mut size: usize = new.iter().map(|row| row_bytes(row)).take(1 << 16).sum();
            let mut parts: Vec<Vec<Arc<Version>>> = Vec::new();
            let mut before: Option<At> = None;
            let last = self.last_block(*tenant, None).map(|(_, slot)| slot.last);
            if last
                .zip(new.first())
                .is_some_and(|(last, first)| last >= first.at)
            {
                let what = format!("versions of tenant {tenant} were submitted twice");
                return Err(Fault::Inconsistent { what });
            }
            while let Some((first, slot)) = self.last_block(*tenant, before) {
                if slot.bytes >= BLOCK_BYTES || slot.bytes > size.saturating_mul(2) {
                    break;
                }
                size += slot.bytes;
                parts.push(self.retire(plan, *tenant, first, slot)?);
                before = Some(first);
            }
            let rows = parts
                .into_iter()
                .rev()
                .flatten()
                .chain(new.iter().cloned())
                .collect();
            self.make(plan, *tenant, rows);
        }
        Ok(())
    }

    /// A slice of the blocks of a tenant that was removed goes.
    fn plan_removals(&self, plan: &mut Plan) {
        let mut state = self.state.lock();
        let Some(index) = state.index.as_mut() else {
            return;
        };
        let Some((tenant, blocks)) = index.removed_blocks(REMOVALS_MAX) else {
            return;
        };
        let whole = blocks.len() < REMOVALS_MAX;
        for first in blocks {
            let Some(slot) = index.get(tenant, first) else {
                continue;
            };
            for at in &slot.dead {
                plan.entries.insert(run::dropped_key(tenant, *at), None);
            }
            plan.moves.gone.insert((tenant, first), slot.clone());
        }
        // Blocks made in this very batch (nothing writes to a tenant that is gone) would be found next time.
        if whole && !plan.writing.rows.contains_key(&tenant) {
            index.forget_removed(tenant);
            plan.entries.insert(run::removed_key(tenant), None);
        }
    }

    /// Blocks that are mostly dead are rewritten without their dead rows, together with small ones that
    /// follow.
    fn plan_rewrites(&self, plan: &mut Plan) -> Result<(), Fault> {
        let ripe = {
            let state = self.state.lock();
            let index = state.index.as_ref();
            index
                .map(|i| i.to_rewrite(REWRITES_MAX, self.settings.marks_kept))
                .unwrap_or_default()
        };
        for (tenant, first) in ripe {
            let Some(slot) = self.block(tenant, first) else {
                continue;
            };
            if plan.moves.gone.contains_key(&(tenant, first)) {
                continue;
            }
            let mut rows = self.retire(plan, tenant, first, slot.clone())?;
            let mut size: usize = rows.iter().map(|row| row_bytes(row)).sum();
            let mut last = slot.last;
            while size < BLOCK_BYTES {
                let Some((next, slot)) = self.block_after(tenant, last) else {
                    break;
                };
                if plan.moves.gone.contains_key(&(tenant, next))
                    || slot.live_bytes() > BLOCK_BYTES / 2
                {
                    break;
                }
                last = slot.last;
                size += slot.live_bytes();
                rows.extend(self.retire(plan, tenant, next, slot)?);
            }
            self.make(plan, tenant, rows);
        }
        Ok(())
    }

    /// A block goes; its rows that are alive are given back, the marks of the others go with it.
    fn retire(
        &self,
        plan: &mut Plan,
        tenant: TenantId,
        first: At,
        slot: Slot,
    ) -> Result<Vec<Arc<Version>>, Fault> {
        let mut rows = Vec::new();
        if slot.dead.len() < slot.rows || slot.rows == 0 {
            let block = self.fetch(plan.backend.as_ref(), tenant, first, &slot)?;
            rows.extend(
                block
                    .rows
                    .iter()
                    .filter(|row| !slot.is_dead(row.at))
                    .cloned(),
            );
        }
        for at in &slot.dead {
            plan.entries.insert(run::dropped_key(tenant, *at), None);
        }
        plan.moves.gone.insert((tenant, first), slot);
        Ok(rows)
    }

    /// Rows become blocks.
    fn make(&self, plan: &mut Plan, tenant: TenantId, rows: Vec<Arc<Version>>) {
        for packed in block::pack(self.seal.as_ref(), tenant, rows) {
            let slot = Slot {
                last: packed.last,
                rows: packed.rows,
                bytes: packed.value.len(),
                hash: envelope::row_hash(&packed.key, &packed.value),
                generation: self.generation(),
                dead: Vec::new(),
            };
            let block = Arc::new(packed.block);
            plan.moves.made.push(Made {
                tenant,
                first: packed.first,
                slot,
                block,
            });
            plan.edits.push((packed.key, Some(packed.value)));
        }
    }

    /// Facts and marks become a run; small runs before it are merged into it.
    fn plan_run(&self, plan: &mut Plan) -> Result<(), Fault> {
        if plan.entries.is_empty() {
            return Ok(());
        }
        let (seal, backend) = (self.seal.as_ref(), Arc::clone(&plan.backend));
        let mut size: usize = plan.entries.iter().map(entry_bytes).sum();
        let mut older = Vec::new();
        while let Some(run) = plan.runs.pop_if(|run| run.bytes <= size * 2) {
            size += run.bytes;
            let chunks = 0..run.chunks.len() as u32;
            plan.edits
                .extend(chunks.map(|chunk| (envelope::run_key(run.id, chunk), None)));
            older.push(run::Reader::new(backend.as_ref(), seal, self.path(), run));
        }
        older.reverse();
        let mut packing = run::Packing::new(seal, plan.next_run);
        let entries = std::mem::take(&mut plan.entries);
        run::merge(older, entries, plan.runs.is_empty(), &mut packing)?;
        if let Some((run, rows)) = packing.finish() {
            plan.next_run += 1;
            plan.runs.push(run);
            plan.edits
                .extend(rows.into_iter().map(|(key, value)| (key, Some(value))));
        }
        Ok(())
    }

    /// Writes the batch and says so.
    fn write(&self, plan: Plan) -> Result<(), Fault> {
        let Plan {
            backend,
            writing,
            moves,
            runs,
            next_run,
            edits: made,
            ..
        } = plan;
        // What goes comes first: a block may be made under the key of one that goes.
        let gone = moves.gone.keys();
        let mut edits: Vec<Edit> = gone
            .map(|(tenant, first)| (envelope::block_key(*tenant, *first), None))
            .collect();
        edits.extend(made);
        let mut totals = {
            let state = self.state.lock();
            state.index.as_ref().map(Index::totals).unwrap_or_default()
        };
        for slot in moves.gone.values() {
            totals.blocks -= 1;
            totals.rows -= slot.rows as u64;
            totals.hash = totals.hash.wrapping_sub(slot.hash);
        }
        for made in &moves.made {
            totals.blocks += 1;
            totals.rows += made.slot.rows as u64;
            totals.hash = totals.hash.wrapping_add(made.slot.hash);
        }
        let chunks = || runs.iter().flat_map(|run| &run.chunks);
        let contents = Contents {
            applied: writing.applied,
            next_run,
            blocks: totals.blocks,
            rows: totals.rows,
            chunks: chunks().count() as u64,
            hash: chunks().fold(totals.hash, |sum, hash| sum.wrapping_add(*hash)),
        };
        edits.push((
            Bytes::from_static(CONTENTS),
            Some(contents.wrap(self.seal.as_ref())),
        ));
        backend.write(edits)?;
        self.commit(&writing, moves, runs, next_run);
        Ok(())
    }

    /// The batch is in the backend: rows are found there from now on.
    fn commit(&self, writing: &Pending, moves: Moves, runs: Vec<Run>, next_run: u64) {
        let mut state = self.state.lock();
        let State {
            index: Some(index), ..
        } = &mut *state
        else {
            return;
        };
        for ((tenant, first), slot) in moves.gone {
            index.remove(tenant, first);
            self.cache.forget(slot.generation);
        }
        for Made {
            tenant,
            first,
            slot,
            block,
        } in moves.made
        {
            // A block that is not full is read again when the next rows come.
            if slot.bytes < BLOCK_BYTES {
                self.cache.put(slot.generation, block);
            }
            index.insert(tenant, first, slot);
        }
        state.runs = runs;
        state.next_run = next_run;
        state.changed = true;
        state.marks = None;
        state.writing = None;
        state.held_drops.extend_from_slice(&writing.dropped);
        state.held_removals.extend_from_slice(&writing.removed);
        state.mark_held();
        state.measure();
        drop(state);
        self.room.notify_all();
    }

    fn last_block(&self, tenant: TenantId, before: Option<At>) -> Option<(At, Slot)> {
        let state = self.state.lock();
        let (first, slot) = state.index.as_ref()?.last_before(tenant, before)?;
        Some((first, slot.clone()))
    }

    fn block(&self, tenant: TenantId, first: At) -> Option<Slot> {
        self.state
            .lock()
            .index
            .as_ref()?
            .get(tenant, first)
            .cloned()
    }

    fn block_after(&self, tenant: TenantId, last: At) -> Option<(At, Slot)> {
        let state = self.state.lock();
        let after = At {
            revision: last.revision,
            sub: last.sub.checked_add(1)?,
        };
        let (first, slot) = state.index.as_ref()?.from(tenant, after)?;
        Some((first, slot.clone()))
    }
}

impl State {
    /// Drops take effect, unless somebody reads at a moment of the past. They are in the backend already.
    pub fn mark_held(&mut self) {
        if self.is_pinned() {
            return;
        }
        let Some(index) = self.index.as_mut() else {
            return;
        };
        for (tenant, at) in std::mem::take(&mut self.held_drops) {
            if !index.mark(tenant, at) {
                self.stale.push(run::dropped_key(tenant, at));
            }
        }
        for tenant in std::mem::take(&mut self.held_removals) {
            if !index.mark_removed(tenant) {
                self.stale.push(run::removed_key(tenant));
            }
        }
    }
}

/// About how many bytes a row takes in a block.
fn row_bytes(row: &Version) -> usize {
    row.key.len() + row.after.as_ref().map_or(0, |kv| kv.value.len()) + 20
}

fn entry_bytes((key, value): (&Bytes, &Option<Bytes>)) -> usize {
    key.len() + value.as_ref().map_or(0, Bytes::len) + 8
}
