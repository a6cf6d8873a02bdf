//! Opening: from a backend to a history, and its rows for the machine.
//!
//! Opening reads the table of contents and the runs. The blocks are looked through once, later: by the machine
//! that loads its rows, or by the first use of the history, whichever comes first. That pass builds the index
//! and checks the sum of the table of contents.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use meridian_domain::name::TenantId;
use meridian_domain::revision::LogId;
use parking_lot::Mutex;

use super::block;
use super::contents::Contents;
use super::envelope::{self, BLOCK, CONTENTS, RUN, damaged};
use super::index::{self, Index};
use super::packed::Memory;
use super::place::{Place, Slot};
use super::run::{self, Entries, Meaning, Run};
use super::state::Shared;
use crate::backend::{Backend, Step};
use crate::fault::Fault;
use crate::row::{At, Rows, Version};
use crate::seal::Seal;

/// A backend that was opened, with what was read of it.
pub struct Opened {
    pub backend: Arc<dyn Backend>,
    pub contents: Contents,
    pub runs: Vec<Run>,
    /// None if the store is empty.
    pub marks: Option<Arc<Marks>>,
}

/// What the runs say, as far as looking through the blocks needs it, and the facts for the machine.
pub struct Marks {
    contents: Contents,
    facts: Mutex<Vec<(Bytes, Bytes)>>,
    dropped: HashSet<(TenantId, At)>,
    removed: BTreeSet<TenantId>,
}

/// Opens the store at a place. One that is damaged is set aside, and an empty one made.
pub fn open(place: &Place, seal: &dyn Seal) -> Result<(Opened, Slot), Fault> {
    let try_open = || {
        let (backend, slot) = place.open()?;
        Ok((take(backend, place.path(), seal)?, slot))
    };
    match try_open() {
        Err(why @ Fault::Damaged { .. }) => place.set_aside(None, &why)?,
        other => return other,
    }
    try_open()
}

/// Reads what a backend says of itself.
pub fn take(backend: Arc<dyn Backend>, dir: &Path, seal: &dyn Seal) -> Result<Opened, Fault> {
    let Some(value) = backend.get(CONTENTS)? else {
        let mut is_empty = true;
        backend.scan(b"", b"", &mut |_, _| {
            is_empty = false;
            Ok(Step::Stop)
        })?;
        if !is_empty {
            return Err(damaged(dir, "the table of contents is gone"));
        }
        return Ok(Opened {
            backend,
            contents: Contents::default(),
            runs: Vec::new(),
            marks: None,
        });
    };
    let contents = Contents::unwrap(seal, dir, &value)?;
    let (runs, entries) = read_runs(backend.as_ref(), dir, seal)?;
    if runs.iter().map(|run| run.chunks.len() as u64).sum::<u64>() != contents.chunks {
        return Err(damaged(dir, "a chunk of a run is gone or left over"));
    }
    let mut marks = Marks {
        contents,
        facts: Mutex::default(),
        dropped: HashSet::new(),
        removed: BTreeSet::new(),
    };
    let facts = marks.facts.get_mut();
    for (key, value) in entries {
        let Some(value) = value else { continue };
        match run::meaning(&key) {
            Some(Meaning::Fact(key)) => facts.push((key, value)),
            Some(Meaning::Dropped(tenant, at)) => _ = marks.dropped.insert((tenant, at)),
            Some(Meaning::Removed(tenant)) => _ = marks.removed.insert(tenant),
            None => return Err(damaged(dir, "an entry of a run has no meaning")),
        }
    }
    Ok(Opened {
        backend,
        contents,
        runs,
        marks: Some(Arc::new(marks)),
    })
}

/// Reads every run, oldest first; later entries win.
fn read_runs(
    backend: &dyn Backend,
    dir: &Path,
    seal: &dyn Seal,
) -> Result<(Vec<Run>, Entries), Fault> {
    let mut runs: Vec<Run> = Vec::new();
    let mut entries = Entries::new();
    backend.scan(RUN, b"", &mut |key, value| {
        let Some((id, chunk)) = envelope::parse_run_key(key) else {
            return Err(damaged(dir, "a key is not that of a chunk"));
        };
        if runs.last().is_none_or(|run| run.id != id) {
            runs.push(Run {
                id,
                chunks: Vec::new(),
                bytes: 0,
            });
        }
        if let Some(run) = runs.last_mut() {
            if run.chunks.len() != chunk as usize {
                return Err(damaged(dir, "a chunk of a run is gone"));
            }
            run.chunks.push(envelope::row_hash(key, &value));
            run.bytes += value.len();
        }
        run::read(seal, dir, key, &value, Memory::Own, &mut |key, value| {
            entries.insert(key, value);
        })?;
        Ok(Step::Next)
    })?;
    Ok((runs, entries))
}

/// Is shown every version while the blocks are looked through.
pub type Each<'a> = &'a mut dyn FnMut(TenantId, Version) -> Result<(), Fault>;

impl Shared {
    /// Makes sure that the index is there. The gate must be held.
    pub fn ensure_index(&self) -> Result<(), Fault> {
        if self.state.lock().index.is_some() {
            return Ok(());
        }
        self.look_through(None)
    }

    /// Looks through all blocks: checks them and their sum, builds the index, and shows the versions that were
    /// not dropped. The gate must be held.
    pub fn look_through(&self, each: Option<Each<'_>>) -> Result<(), Fault> {
        let (backend, marks, runs_hash, changed) = {
            let state = self.state.lock();
            let runs = state.runs.iter().flat_map(|run| &run.chunks);
            let hash = runs.fold(0u64, |sum, hash| sum.wrapping_add(*hash));
            (
                Arc::clone(&state.backend),
                state.marks.clone(),
                hash,
                state.changed,
            )
        };
        let Some(marks) = marks.filter(|_| !changed) else {
            let what = "rows were to be loaded from a history that is in use".into();
            return Err(Fault::Inconsistent { what });
        };
        let looked = self.build_index(backend.as_ref(), &marks, runs_hash, each);
        let mut state = self.state.lock();
        match looked {
            Ok((index, meaningless)) => {
                if state.index.is_none() {
                    state.index = Some(index);
                    state.stale.extend(meaningless);
                }
                Ok(())
            }
            Err(fault) => {
                state.damaged |= matches!(fault, Fault::Damaged { .. });
                Err(fault)
            }
        }
    }

    /// The index, and the marks that mean nothing any more.
    fn build_index(
        &self,
        backend: &dyn Backend,
        marks: &Marks,
        runs_hash: u64,
        mut each: Option<Each<'_>>,
    ) -> Result<(Index, Vec<Bytes>), Fault> {
        let (dir, seal) = (self.path(), self.seal.as_ref());
        let mut index = Index::default();
        let mut before: Option<(TenantId, At)> = None;
        backend.scan(BLOCK, b"", &mut |key, value| {
            let Some((tenant, first)) = envelope::parse_block_key(key) else {
                return Err(damaged(dir, "a key is not that of a block"));
            };
            if before.is_some_and(|before| before >= (tenant, first)) {
                return Err(damaged(dir, "two blocks overlap"));
            }
            let found = match each.as_mut().filter(|_| !marks.removed.contains(&tenant)) {
                None => block::header(seal, dir, key, &value)?.0,
                Some(each) => block::read(seal, dir, key, &value, Memory::Own, &mut |row| {
                    if marks.dropped.contains(&(tenant, row.at)) {
                        return Ok(());
                    }
                    each(tenant, row)
                })?,
            };
            before = Some((tenant, found.last));
            let slot = index::Slot {
                last: found.last,
                rows: found.rows,
                bytes: value.len(),
                hash: envelope::row_hash(key, &value),
                generation: self.generation(),
                dead: Vec::new(),
            };
            index.insert(tenant, first, slot);
            Ok(Step::Next)
        })?;
        let (found, known) = (index.totals(), &marks.contents);
        if (found.blocks, found.rows) != (known.blocks, known.rows)
            || found.hash.wrapping_add(runs_hash) != known.hash
        {
            return Err(damaged(
                dir,
                "its values do not add up to its table of contents",
            ));
        }
        let mut stale = Vec::new();
        for (tenant, at) in &marks.dropped {
            if !index.mark(*tenant, *at) {
                stale.push(run::dropped_key(*tenant, *at));
            }
        }
        for tenant in &marks.removed {
            if !index.mark_removed(*tenant) {
                stale.push(run::removed_key(*tenant));
            }
        }
        Ok((index, stale))
    }
}

/// The rows of a history that was just opened.
pub struct Loading {
    shared: Arc<Shared>,
    marks: Arc<Marks>,
}

impl Loading {
    /// The rows, if there are any.
    pub fn new(shared: &Arc<Shared>) -> Option<Self> {
        let marks = shared.state.lock().marks.clone()?;
        Some(Self {
            shared: Arc::clone(shared),
            marks,
        })
    }
}

impl Rows for Loading {
    fn applied(&self) -> LogId {
        self.marks.contents.applied
    }

    fn facts(&mut self) -> Result<Vec<(Bytes, Bytes)>, Fault> {
        Ok(self.marks.facts.lock().clone())
    }

    fn versions(
        &mut self,
        each: &mut dyn FnMut(TenantId, Version) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let _gate = self.shared.gate.lock();
        self.shared.look_through(Some(each))
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        // The facts were handed over; only the index needs the marks from here on.
        self.marks.facts.lock().clear();
        let mut state = self.shared.state.lock();
        if state.index.is_some() {
            state.marks = None;
        }
    }
}
