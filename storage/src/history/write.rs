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

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::block::BLOCK_BYTES;
use super::contents::Contents;
use super::envelope::{self, CONTENTS};
use super::index::Index;
use super::pending::Pending;
use super::plan::{Made, Moves, Plan};
use super::run::{self, Run};
use super::state::{Shared, State};
use crate::backend::Edit;
use crate::fault::Fault;

/// How long the mirror thread waits before it looks again whether the disk has space.
const SPACE_WAIT: Duration = Duration::from_millis(500);

/// What is added to the nice value of the mirror thread.
const NICE: i32 = 5;

impl Shared {
    /// Runs until told to stop, or until a fault.
    pub fn run(&self) {
        // Nobody waits for this thread, nor for those sled starts from it; whoever does is served first.
        if let Err(error) = rustix::process::nice(NICE) {
            tracing::debug!(%error, "the mirror thread keeps its priority");
        }
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
