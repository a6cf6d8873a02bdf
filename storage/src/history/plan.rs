//! What one batch changes: which blocks go and come, and which runs.
//!
//! The last blocks of a tenant are merged like the digits of a binary counter: a new one swallows the one
//! before it unless that is full or more than twice as large. So a row of a tenant that writes little is
//! rewritten a handful of times, not once for each of its neighbours.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use meridian_domain::name::TenantId;

use super::block::{self, BLOCK_BYTES, Block};
use super::envelope;
use super::index::Slot;
use super::pending::Pending;
use super::run::{self, Entries, Run};
use super::state::Shared;
use crate::backend::{Backend, Edit};
use crate::fault::Fault;
use crate::row::{At, Version};

/// The most blocks one batch rewrites, and the most of a removed tenant it deletes.
const REWRITES_MAX: usize = 64;
const REMOVALS_MAX: usize = 512;

/// Blocks that go and blocks that come.
#[derive(Default)]
pub struct Moves {
    pub gone: BTreeMap<(TenantId, At), Slot>,
    pub made: Vec<Made>,
}

pub struct Made {
    pub tenant: TenantId,
    pub first: At,
    pub slot: Slot,
    pub block: Arc<Block>,
}

/// One batch while it is planned.
pub struct Plan {
    pub backend: Arc<dyn Backend>,
    pub writing: Arc<Pending>,
    pub moves: Moves,
    pub entries: Entries,
    pub runs: Vec<Run>,
    pub next_run: u64,
    pub edits: Vec<Edit>,
}

impl Shared {
    /// New rows become blocks, together with the rows of the last blocks that are not full.
    pub fn plan_rows(&self, plan: &mut Plan) -> Result<(), Fault> {
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
    pub fn plan_removals(&self, plan: &mut Plan) {
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
    pub fn plan_rewrites(&self, plan: &mut Plan) -> Result<(), Fault> {
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
    pub fn plan_run(&self, plan: &mut Plan) -> Result<(), Fault> {
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

/// About how many bytes a row takes in a block.
fn row_bytes(row: &Version) -> usize {
    row.key.len() + row.after.as_ref().map_or(0, |kv| kv.value.len()) + 20
}

fn entry_bytes((key, value): (&Bytes, &Option<Bytes>)) -> usize {
    key.len() + value.as_ref().map_or(0, Bytes::len) + 8
}
