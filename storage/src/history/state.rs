//! What the mirror thread and everybody else share, and the hand-over between them.
//!
//! Two locks, taken in this order: the *gate* (held while a batch is written or the store replaced: there is
//! one writer) and the *state* (held for moments only).

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use meridian_domain::name::TenantId;
use meridian_domain::revision::LogId;
use parking_lot::{Condvar, Mutex, MutexGuard};
use prometheus::{IntCounter, IntGauge, register_int_counter, register_int_gauge};

use super::Settings;
use super::cache::Cache;
use super::index::Index;
use super::load::{Marks, Opened};
use super::pending::Pending;
use super::place::{Place, Slot};
use super::run::Run;
use crate::backend::Backend;
use crate::fault::Fault;
use crate::row::{At, Batch};
use crate::seal::Seal;

static PENDING_BYTES: LazyLock<IntGauge> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the name is valid and registered once")]
    register_int_gauge!(
        "meridian_storage_history_pending_bytes",
        "Bytes of applied versions and facts that the version store does not hold yet."
    )
    .expect("a valid metric")
});

static SUBMIT_WAITS: LazyLock<IntCounter> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the name is valid and registered once")]
    register_int_counter!(
        "meridian_storage_history_submit_waits_total",
        "How often apply waited because too much was pending for the version store."
    )
    .expect("a valid metric")
});

/// Who waits for a flush.
pub type Answer = SyncSender<Result<LogId, Fault>>;

/// The most flushes that may wait at a time; beyond it a flush is refused. One is made for all that wait.
const FLUSHES_MAX: usize = 1024;

/// Everything the threads share.
pub struct Shared {
    pub place: Place,
    pub settings: Settings,
    pub seal: Arc<dyn Seal>,
    pub cache: Cache,
    /// Held by whoever changes the backend or the index.
    pub gate: Mutex<()>,
    pub state: Mutex<State>,
    /// There is something to do for the mirror thread.
    pub work: Condvar,
    /// There is room for pending rows again.
    pub room: Condvar,
    generations: AtomicU64,
}

/// What changes.
pub struct State {
    pub backend: Arc<dyn Backend>,
    pub slot: Slot,
    /// None until the blocks were looked through once.
    pub index: Option<Index>,
    /// What was read at opening and is needed for looking through the blocks.
    pub marks: Option<Arc<Marks>>,
    pub runs: Vec<Run>,
    pub next_run: u64,
    /// Submitted, waiting.
    pub pending: Pending,
    /// Taken by the mirror thread, being written.
    pub writing: Option<Arc<Pending>>,
    pub submitted: LogId,
    /// Drops that came while something was pinned.
    pub held_drops: Vec<(TenantId, At)>,
    pub held_removals: Vec<TenantId>,
    /// Entries of runs that mean nothing any more and go with the next batch.
    pub stale: Vec<Bytes>,
    pub pins: usize,
    /// How many batches were written.
    pub writes: u64,
    /// The size of the files after they were last copied to give space back.
    pub copied_bytes: u64,
    /// Whether anything was written since opening.
    pub changed: bool,
    /// Moves when the store is replaced by other rows.
    pub epoch: u64,
    pub flushes: Vec<Answer>,
    pub stop: bool,
    pub poisoned: Option<Fault>,
    /// Whether a read or the loading found the store damaged.
    pub damaged: bool,
}

impl Shared {
    pub fn new(
        place: Place,
        slot: Slot,
        settings: Settings,
        seal: Arc<dyn Seal>,
        opened: Opened,
    ) -> Self {
        let Opened {
            backend,
            contents,
            runs,
            marks,
        } = opened;
        let state = State {
            backend,
            slot,
            index: marks.is_none().then(Index::default),
            marks,
            runs,
            next_run: contents.next_run,
            pending: Pending::default(),
            writing: None,
            submitted: contents.applied,
            held_drops: Vec::new(),
            held_removals: Vec::new(),
            stale: Vec::new(),
            writes: 0,
            copied_bytes: 0,
            changed: false,
            pins: 0,
            epoch: 0,
            flushes: Vec::new(),
            stop: false,
            poisoned: None,
            damaged: false,
        };
        Self {
            cache: Cache::new(settings.cache_bytes),
            place,
            settings,
            seal,
            gate: Mutex::new(()),
            state: Mutex::new(state),
            work: Condvar::new(),
            room: Condvar::new(),
            generations: AtomicU64::new(1),
        }
    }

    /// The path named in errors.
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    /// A number no block had before.
    pub fn generation(&self) -> u64 {
        self.generations.fetch_add(1, Ordering::Relaxed)
    }

    pub fn submit(&self, batch: Batch) {
        let mut state = self.state.lock();
        if state.pending_bytes() >= self.settings.pending_bytes_max && state.poisoned.is_none() {
            SUBMIT_WAITS.inc();
            self.work.notify_all();
            while state.pending_bytes() >= self.settings.pending_bytes_max
                && state.poisoned.is_none()
                && !state.stop
            {
                self.room.wait(&mut state);
            }
        }
        if state.poisoned.is_some() {
            return;
        }
        if batch.applied < state.submitted {
            let what = format!(
                "a batch at {} was submitted after one at {}",
                batch.applied, state.submitted
            );
            self.poison(state, Fault::Inconsistent { what });
            return;
        }
        state.submitted = batch.applied;
        let (was_idle, before) = (state.pending.is_empty(), state.pending.bytes);
        if let Err((tenant, at)) = state.pending.absorb(batch) {
            let what = format!(
                "version {}.{} of tenant {tenant} was submitted after a later one",
                at.revision, at.sub
            );
            self.poison(state, Fault::Inconsistent { what });
            return;
        }
        let enough = self.settings.batch_bytes;
        let after = state.pending.bytes;
        PENDING_BYTES.set(state.pending_bytes() as i64);
        drop(state);
        if was_idle || (before < enough && after >= enough) {
            self.work.notify_all();
        }
    }

    pub fn ask_flush(&self, answer: Answer) -> Result<(), Fault> {
        let mut state = self.state.lock();
        if let Some(fault) = &state.poisoned {
            return Err(fault.clone());
        }
        if state.flushes.len() >= FLUSHES_MAX {
            return Err(Fault::Poisoned {
                part: "the history",
                cause: format!("{FLUSHES_MAX} flushes wait for a disk that does not answer"),
            });
        }
        state.flushes.push(answer);
        self.work.notify_all();
        Ok(())
    }

    /// Ends the mirror thread, once what is pending is written.
    pub fn stop(&self) {
        self.state.lock().stop = true;
        self.work.notify_all();
        self.room.notify_all();
    }

    /// From now on nothing is written; the first fault is kept and told.
    pub fn poison(&self, mut state: MutexGuard<'_, State>, fault: Fault) {
        if state.poisoned.is_some() {
            return;
        }
        state.poisoned = Some(fault.clone());
        state.damaged |= matches!(fault, Fault::Damaged { .. });
        for answer in state.flushes.drain(..) {
            // One place for one answer: it can not be full.
            let _ = answer.try_send(Err(fault.clone()));
        }
        drop(state);
        self.work.notify_all();
        self.room.notify_all();
        tracing::error!(%fault, "the history stopped");
        (self.settings.on_fault)(fault);
    }
}

impl State {
    /// Bytes that wait or are being written.
    pub fn pending_bytes(&self) -> usize {
        self.pending.bytes + self.writing.as_ref().map_or(0, |writing| writing.bytes)
    }

    /// Whether somebody reads at a moment of the past.
    pub fn is_pinned(&self) -> bool {
        self.pins > 0
    }

    /// Shows the gauge what is pending.
    pub fn measure(&self) {
        PENDING_BYTES.set(self.pending_bytes() as i64);
    }
}
