//! What the handle and the writer thread share: the queue, the memory, and how it ends.
//!
//! ```text
//!   append, vote, truncate --- urgent --->  jobs, in order  ---> writer: all that is there, one flush
//!   committed, purged --------- lazy --->                        and then each `done`, in order
//! ```
//!
//! - The order of the queue is the order of the log, and the memory changes under the same lock.
//! - Lazy jobs wait for the next urgent one, or until the log has been quiet for a while.
//! - The queue is bounded by bytes; an urgent caller waits for room. A `done` that calls back into the log
//!   does not wait, since nobody else could make room.
//! - Once a fault poisons the log nothing is written any more; every `done`, waiting or new, gets the fault.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use bytes::Bytes;
use meridian_domain::revision::LogId;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::memory::{ENTRY_OVERHEAD_BYTES, Memory};
use super::{Done, Entry, Settings, metrics};
use crate::fault::Fault;

/// What the part is called in [`Fault::Poisoned`].
const PART: &str = "the write-ahead log";

/// One thing to be written.
pub enum Job {
    /// Entries with their serial numbers.
    Append(Vec<(u64, Entry)>, Done),
    /// A vote.
    Vote(Bytes, Done),
    /// A truncation.
    Truncate(Option<LogId>, Done),
    /// A committed position; lazy.
    Committed(LogId),
    /// A purged position; lazy.
    Purged(LogId),
}

impl Job {
    fn bytes(&self) -> usize {
        let payload = match self {
            Job::Append(entries, _) => entries
                .iter()
                .map(|(_, e)| e.payload.len() + ENTRY_OVERHEAD_BYTES)
                .sum(),
            Job::Vote(vote, _) => vote.len(),
            _ => 0,
        };
        payload + ENTRY_OVERHEAD_BYTES
    }

    fn is_lazy(&self) -> bool {
        matches!(self, Job::Committed(_) | Job::Purged(_))
    }

    /// Who waits for it.
    pub fn done(self) -> Option<Done> {
        match self {
            Job::Append(_, done) | Job::Vote(_, done) | Job::Truncate(_, done) => Some(done),
            Job::Committed(_) | Job::Purged(_) => None,
        }
    }
}

/// What the writer does next.
pub enum Turn {
    /// Write these.
    Jobs(Vec<Job>),
    /// Nothing happened for a while.
    Settle,
    /// End; the queue is empty or must not be written.
    End,
}

/// Shared by every handle and the writer.
pub struct Shared {
    state: Mutex<State>,
    work: Condvar,
    room: Condvar,
    settings: Settings,
    writer: OnceLock<ThreadId>,
}

/// What the lock protects.
pub struct State {
    /// The log as its callers see it.
    pub memory: Memory,
    jobs: VecDeque<Job>,
    bytes: usize,
    urgent: usize,
    settle_at: Option<Instant>,
    closing: bool,
    /// The writer is gone: callers get their answers at once.
    ended: bool,
    poisoned: Option<String>,
}

impl Shared {
    /// The log as it was recovered, with nothing to do.
    pub fn new(memory: Memory, settings: Settings) -> Self {
        let state = State {
            memory,
            jobs: VecDeque::new(),
            bytes: 0,
            urgent: 0,
            settle_at: None,
            closing: false,
            ended: false,
            poisoned: None,
        };
        let (work, room, writer) = (Condvar::new(), Condvar::new(), OnceLock::new());
        Self {
            state: Mutex::new(state),
            work,
            room,
            settings,
            writer,
        }
    }

    /// The state, as soon as the lock is free.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The state, once the queue has room.
    pub fn state_with_room(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        let inside = self.on_writer();
        while !inside && !state.ended && state.bytes >= self.settings.queue_bytes {
            self.room.wait(&mut state);
        }
        state
    }

    /// Queues a job; answers it at once if there is no writer any more.
    pub fn push(&self, mut state: MutexGuard<'_, State>, job: Job) {
        if state.ended {
            let fault = state.refusal();
            drop(state);
            if let Some(done) = job.done() {
                done(Err(fault));
            }
            return;
        }
        let lazy = job.is_lazy();
        // A later position of the same kind says all that the earlier one did.
        let absorbed = match (state.jobs.back_mut(), &job) {
            (Some(Job::Committed(old)), Job::Committed(new))
            | (Some(Job::Purged(old)), Job::Purged(new)) => {
                *old = *new;
                true
            }
            _ => false,
        };
        if !absorbed {
            state.bytes += job.bytes();
            state.jobs.push_back(job);
        }
        if lazy {
            if state.settle_at.is_none() {
                state.settle_at = Some(Instant::now() + self.settings.settle_after);
                self.work.notify_one();
            }
        } else {
            state.urgent += 1;
            self.work.notify_one();
        }
    }

    /// For the writer: waits for something to do and takes up to a batch of it.
    ///
    /// When entries came in while the last flush ran, more are on their way: they get `pause` to arrive, so that
    /// one flush serves them all. A write that finds the log idle never waits.
    pub fn turn(&self, pause: Duration) -> Turn {
        let mut state = self.state.lock();
        if !pause.is_zero() && state.is_gathering(self.settings.batch_bytes) {
            drop(state);
            std::thread::sleep(pause);
            state = self.state.lock();
        }
        loop {
            if state.poisoned.is_some() {
                return Turn::End;
            }
            if state.urgent > 0 || (state.closing && !state.jobs.is_empty()) {
                return Turn::Jobs(self.take(&mut state));
            }
            if state.closing {
                return Turn::End;
            }
            let Some(at) = state.settle_at else {
                self.work.wait(&mut state);
                continue;
            };
            if Instant::now() < at {
                self.work.wait_until(&mut state, at);
                continue;
            }
            state.settle_at = None;
            // Lazy jobs prove as much as a record of nothing.
            if state.jobs.is_empty() {
                return Turn::Settle;
            }
            return Turn::Jobs(self.take(&mut state));
        }
    }

    fn take(&self, state: &mut State) -> Vec<Job> {
        let (mut taken, mut bytes) = (Vec::with_capacity(state.jobs.len()), 0);
        if state.urgent > 0 {
            state.settle_at = Some(Instant::now() + self.settings.settle_after);
        }
        while let Some(job) = state.jobs.pop_front() {
            bytes += job.bytes();
            state.urgent -= usize::from(!job.is_lazy());
            taken.push(job);
            if bytes >= self.settings.batch_bytes {
                break;
            }
        }
        state.bytes = state.bytes.saturating_sub(bytes);
        self.room.notify_all();
        taken
    }

    /// Stops the log for good and tells the owner, once.
    pub fn poison(&self, fault: Fault) {
        let mut state = self.state.lock();
        if state.poisoned.is_some() {
            return;
        }
        state.poisoned = Some(fault.to_string());
        let closing = state.closing;
        drop(state);
        self.work.notify_all();
        metrics::POISONED.set(1);
        if closing {
            tracing::warn!(%fault, "the log was closed before everything was written");
        } else {
            tracing::error!(%fault, "the log stops");
            (self.settings.on_fault)(fault);
        }
    }

    /// The fault that poisoned the log.
    pub fn poisoned(&self) -> Option<Fault> {
        let state = self.state.lock();
        state.poisoned.is_some().then(|| state.refusal())
    }

    /// Asks the writer to write what is queued and end.
    pub fn close(&self) {
        self.state.lock().closing = true;
        self.work.notify_all();
    }

    /// Notes which thread the writer is. Called once, from it.
    pub fn writer_begins(&self) {
        // A second writer does not exist; if it did, the first would stay noted.
        let _ = self.writer.set(std::thread::current().id());
    }

    /// Whether this is the writer's thread.
    pub fn on_writer(&self) -> bool {
        self.writer.get() == Some(&std::thread::current().id())
    }

    /// For the writer, last: answers everything that was not written, in order.
    pub fn writer_ends(&self) {
        loop {
            let mut state = self.state.lock();
            let jobs = std::mem::take(&mut state.jobs);
            (state.bytes, state.urgent) = (0, 0);
            if jobs.is_empty() {
                state.ended = true;
                self.room.notify_all();
                return;
            }
            let fault = state.refusal();
            drop(state);
            for done in jobs.into_iter().filter_map(Job::done) {
                done(Err(fault.clone()));
            }
        }
    }
}

impl State {
    /// Whether what is queued is entries alone, and so few that a flush should wait for more.
    fn is_gathering(&self, batch_bytes: usize) -> bool {
        self.urgent > 0
            && !self.closing
            && self.poisoned.is_none()
            && self.bytes < batch_bytes / 4
            && self
                .jobs
                .iter()
                .all(|job| matches!(job, Job::Append(..) | Job::Committed(_)))
    }

    /// Queues an urgent job whose caller queues another one at once.
    pub fn queue(&mut self, job: Job) {
        if !self.ended {
            self.bytes += job.bytes();
            self.urgent += 1;
            self.jobs.push_back(job);
        }
    }

    /// What a caller is told when nothing is written any more.
    pub fn refusal(&self) -> Fault {
        let cause = self
            .poisoned
            .clone()
            .unwrap_or_else(|| "it was closed".into());
        Fault::Poisoned { part: PART, cause }
    }
}
