//! The write-ahead log: entries and votes, in one order, durable when it says so.
//!
//! ```text
//!   raft ---- append, vote, truncate ----> queue ----> writer ----> one write, one flush ----> done, in order
//!                       |                                |
//!                       v                                v
//!                     memory <---- places ----------- segments ----> spares (zeroed ahead, recycled)
//!                       ^                                ^
//!   raft ---- read -----'---- what fell out of memory ---'
//! ```
//!
//! # Invariants
//! - Votes and entries go through one log, so neither overtakes the other.
//! - `done(Ok)` means flushed to the device. It is called in the order of the calls.
//! - A failed write or flush poisons the log for good; nothing is tried a second time.
//! - A record that had been flushed and does not verify is never skipped and never cut: [`Fault::Damaged`].
//!   Which bad records are a torn write and which are damage: see [`recover`].
//! - A file that has a segment's name has a flushed header and checkpoint, and the manifest knows of it before
//!   anything in it is acknowledged.
//!
//! # The files
//! ```text
//!   0000000000000001.wal          segments, numbered without a gap; the oldest go when they are purged
//!   manifest                      the number of the newest segment (see `manifest`)
//!   spare-0000000000000003.spare  zeros, flushed: the next segment
//!   spare-*.zeroing               being made; removed at the next start
//!   lock                          held by the process that uses the log
//! ```
//!
//! # A segment, byte by byte (format 1, little-endian)
//! ```text
//!    0  8  "MERIDWAL"
//!    8  4  format, 1
//!   12  4  capacity: the size the file was made with
//!   16  8  number of the segment
//!   24  8  salt, random: part of every checksum in this file
//!   32  4  where the segment before ended
//!   36  4  the last header checksum of the segment before
//!   40 20  zeros
//!   60  4  CRC-32 of bytes 0..60
//!   64     records, each at a multiple of 8; the first is a checkpoint; then zeros to the capacity
//! ```
//! The places of magic, format and this checksum never change, so damage is not taken for a newer format.
//!
//! # A record
//! ```text
//!    0  4  "MREC"
//!    4  1  kind: 1 entry, 2 vote, 3 committed, 4 truncated, 5 purged, 6 settled, 7 checkpoint
//!    5  1  for an entry: 0 blank, 1 normal, 2 membership; else 0
//!    6  2  flags: 1 = has a position (term and index)
//!    8  4  length of the body
//!   12  4  where this record begins in the segment
//!   16  8  number of the segment
//!   24  8  term
//!   32  8  index
//!   40  4  up to where the segment had been flushed when this was written
//!   44  4  chain: the header checksum of the record before (of the segment's header, for the first)
//!   48  4  CRC-32 of salt and body
//!   52  4  CRC-32 of salt and bytes 0..52
//!   56     body, sealed; then zeros to a multiple of 8
//! ```
//! Segment number and offset catch a sector that was written to, or read from, the wrong place; the chain
//! catches one that is stale; the header's own checksum lets a damaged body be named and fetched from a peer.
//!
//! # The body of a checkpoint
//! ```text
//!    0  8  flags: 1 vote, 2 committed, 4 purged, 8 last
//!    8 16  committed: term, index        24 16  purged        40 16  last
//!   56     vote, to the end
//! ```
//! The other bodies: an entry's is its payload, a vote's is the vote (both opaque here), the rest have none.

mod manifest;
mod memory;
mod metrics;
mod queue;
mod read;
mod record;
mod recover;
pub mod repair;
mod segment;
mod settings;
mod spares;
mod standing;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use meridian_domain::revision::LogId;
use parking_lot::Mutex;

use self::memory::Source;
use self::queue::{Job, Shared, State};
use self::spares::Spares;
use self::standing::Step;
use self::writer::{Batch, Writer};
use crate::disk::{Disk, Lock};
use crate::fault::Fault;
use crate::seal::Seal;

pub use self::settings::{OnFault, Settings};
pub use self::standing::VOTE_BYTES_MAX;

/// The smallest size of a segment, in bytes.
const SEGMENT_BYTES_MIN: u32 = 16 * 1024;

/// The largest size of a segment, in bytes: offsets stay below 4 GiB, whatever record comes last.
const SEGMENT_BYTES_MAX: u32 = 1024 * 1024 * 1024;

/// What an entry is, as the replication above means it. Opaque here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Nothing; a new leader's first entry.
    Blank = 0,
    /// A proposal.
    Normal = 1,
    /// A change of members.
    Membership = 2,
}

impl Kind {
    /// The kind with this number, if there is one.
    pub fn of(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Blank,
            1 => Self::Normal,
            2 => Self::Membership,
            _ => return None,
        })
    }
}

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub log_id: LogId,
    /// What it is.
    pub kind: Kind,
    /// Its content, opaque. At most 256 MiB less a little. An entry that was read has a buffer of its own.
    pub payload: Bytes,
}

/// Called once what was asked for is flushed, or can not be. Calls come in the order of the requests, from
/// the writer's thread (after the log ended: from the caller's). It must not block for long.
pub type Done = Box<dyn FnOnce(Result<(), Fault>) + Send>;

/// What the log said when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The last vote.
    pub vote: Option<Bytes>,
    /// The last position that was known to be committed; may be older than the truth.
    pub committed: Option<LogId>,
    /// The last position a snapshot covers.
    pub purged: Option<LogId>,
    /// The last entry; `purged` if there is none after it.
    pub last: Option<LogId>,
}

/// The log. Cheap to clone; closed when the last clone is dropped, or by [`Wal::close`].
///
/// Every method may be called from any thread. None but [`Wal::read`], [`Wal::open`] and [`Wal::close`] waits
/// for the disk, except that those with a `done` wait while the queue is full. The order of the log is the
/// order of the calls.
#[derive(Clone)]
pub struct Wal {
    owner: Arc<Owner>,
}

struct Owner {
    shared: Arc<Shared>,
    spares: Arc<Spares>,
    seal: Arc<dyn Seal>,
    dir: PathBuf,
    running: Mutex<Option<Running>>,
}

/// What runs while the log is open.
struct Running {
    writer: JoinHandle<()>,
    zeroer: JoinHandle<()>,
    _lock: Lock,
}

impl fmt::Debug for Wal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wal")
            .field("dir", &self.owner.dir)
            .finish_non_exhaustive()
    }
}

impl Wal {
    /// Opens the log in `dir`, or begins one, and says where it stands. Reads and verifies every record. What
    /// is reported is durable when this returns.
    pub fn open(
        disk: Arc<dyn Disk>,
        seal: Arc<dyn Seal>,
        dir: &Path,
        settings: Settings,
    ) -> Result<(Self, Recovered), Fault> {
        let segment_bytes = settings
            .segment_bytes
            .clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        disk.create_dir_all(dir)?;
        let lock = disk.lock(&dir.join("lock"))?;
        // A process that was killed may have left names that are seen but not flushed.
        disk.sync_dir(dir)?;
        let reserve = settings.reserve_bytes;
        let spares = Spares::open(Arc::clone(&disk), dir, u64::from(segment_bytes), reserve)?;
        let spares = Arc::new(spares);
        // The first segment is made by the thread that makes the spares; it has nobody to tell yet.
        let slot: Arc<Mutex<Option<Arc<Shared>>>> = Arc::default();
        let (running, told) = (Arc::clone(&spares), Arc::clone(&slot));
        let zeroer = thread("wal-spares", dir, move || {
            if let Some(fault) = running.run()
                && let Some(shared) = told.lock().take()
            {
                shared.poison(fault);
            }
        })?;
        let tail = settings.tail_bytes;
        let found = match recover::open(&*disk, &*seal, dir, &spares, segment_bytes, tail) {
            Ok(found) => found,
            Err(fault) => {
                spares.stop();
                join(zeroer);
                return Err(fault);
            }
        };
        let standing = found.memory.standing().clone();
        let shared = Arc::new(Shared::new(found.memory, settings));
        *slot.lock() = Some(Arc::clone(&shared));
        let writer = Writer {
            shared: Arc::clone(&shared),
            spares: Arc::clone(&spares),
            disk,
            seal: Arc::clone(&seal),
            dir: dir.to_path_buf(),
            segment_bytes,
            standing: standing.clone(),
            tip: found.tip,
            older: found.older,
            manifest: found.manifest,
            batch: Batch::default(),
            pause: std::time::Duration::ZERO,
        };
        let writer = thread("wal-writer", dir, move || writer.run())?;
        let running = Mutex::new(Some(Running {
            writer,
            zeroer,
            _lock: lock,
        }));
        let owner = Owner {
            shared,
            spares,
            seal,
            dir: dir.to_path_buf(),
            running,
        };
        let standing::Standing {
            vote,
            committed,
            purged,
            last,
        } = standing;
        Ok((
            Self {
                owner: Arc::new(owner),
            },
            Recovered {
                vote,
                committed,
                purged,
                last,
            },
        ))
    }

    /// Appends entries. They can be read when this returns; `done` follows when they are flushed.
    ///
    /// The first may have the index of an entry that is there: that one and all after it are truncated. A
    /// hole, or a term that goes back, poisons the log: whoever asks for it is broken.
    pub fn append(&self, entries: Vec<Entry>, done: Done) {
        let mut state = self.owner.shared.state_with_room();
        if let Some(first) = entries.first() {
            match state.memory.make_way(first.log_id.index) {
                Err(what) => return self.refuse(state, what, done),
                Ok(Some(Step::Truncated(to))) => {
                    state.queue(Job::Truncate(to, Box::new(|_| {})));
                }
                Ok(_) => {}
            }
        }
        let mut numbered = Vec::with_capacity(entries.len());
        for entry in entries {
            let appended = state.memory.append(entry, None);
            match appended {
                Err(what) => return self.refuse(state, what, done),
                Ok(serial) => {
                    numbered.extend(state.memory.newest().map(|entry| (serial, entry.clone())));
                }
            }
        }
        self.owner.shared.push(state, Job::Append(numbered, done));
    }

    /// Saves a vote of at most [`VOTE_BYTES_MAX`] bytes; `done` follows when it is flushed.
    pub fn save_vote(&self, vote: Bytes, done: Done) {
        self.step(&Step::Vote(vote.clone()), Job::Vote(vote, done));
    }

    /// Notes how far the log is known to be committed. Lazy: it is flushed with what comes next, or when the
    /// log has been quiet for a while.
    pub fn save_committed(&self, committed: LogId) {
        let state = self.owner.shared.state();
        self.step_in(
            state,
            &Step::Committed(committed),
            Job::Committed(committed),
        );
    }

    /// Removes the entries after `last`, all of them if none. They can not be read when this returns; `done`
    /// follows when that is flushed. Asking to remove purged or committed entries poisons the log.
    pub fn truncate_after(&self, last: Option<LogId>, done: Done) {
        self.step(&Step::Truncated(last), Job::Truncate(last, done));
    }

    /// Forgets the entries up to `upto`, which a snapshot that is on the disk covers. May be beyond the last:
    /// the log then goes on behind it. Lazy; segments are given back after it is flushed.
    pub fn purge(&self, upto: LogId) {
        let state = self.owner.shared.state();
        if state
            .memory
            .standing()
            .purged
            .is_some_and(|purged| upto.index <= purged.index)
        {
            return;
        }
        self.step_in(state, &Step::Purged(upto), Job::Purged(upto));
    }

    /// Reads entries from index `from` on, up to and without `to_exclusive`: about `max_bytes` bytes, but at
    /// least one if it is there. Fewer than asked for is no end. Empty if `from` is purged or not there yet.
    ///
    /// Newer entries come from memory; older ones are read from the files (this blocks) and verified.
    pub fn read(
        &self,
        from: u64,
        to_exclusive: u64,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, Fault> {
        let found = self
            .owner
            .shared
            .state()
            .memory
            .find(from, to_exclusive, max_bytes);
        let (first, places) = match found {
            Source::Entries(entries) => return Ok(entries),
            Source::Files(first, places) => (first, places),
        };
        let read = read::entries(first, &places, &*self.owner.seal);
        // A segment is zeroed once it is purged; whoever was reading it then gets what a later caller gets.
        match read {
            Err(_) if self.owner.shared.state().memory.first() > first => Ok(Vec::new()),
            read => read,
        }
    }

    /// The position of the last purged and of the last entry, as called for (not as flushed). The last is the
    /// last purged one if there are no entries behind it.
    pub fn state(&self) -> (Option<LogId>, Option<LogId>) {
        let state = self.owner.shared.state();
        let standing = state.memory.standing();
        (standing.purged, standing.last)
    }

    /// The position of the entry with this index, if it is there.
    pub fn log_id(&self, index: u64) -> Option<LogId> {
        self.owner.shared.state().memory.log_id(index)
    }

    /// The fault that stopped the log, as [`Fault::Poisoned`].
    pub fn poisoned(&self) -> Option<Fault> {
        self.owner.shared.poisoned()
    }

    /// Refuses with [`Fault::DiskFull`] once less than the reserve is left, so that a write is turned down
    /// before it could fail. The figure is at most about a quarter of a second old; reading it is cheap.
    pub fn reserve_ok(&self) -> Result<(), Fault> {
        self.owner.spares.reserve()
    }

    /// Writes what is queued, ends the threads, gives the lock back. What is asked for later is refused. On the
    /// writer's own thread (in a `done`) it only asks for the end.
    pub fn close(&self) {
        self.owner.close();
    }

    fn step(&self, step: &Step, job: Job) {
        let state = self.owner.shared.state_with_room();
        self.step_in(state, step, job);
    }

    fn step_in(&self, mut state: parking_lot::MutexGuard<'_, State>, step: &Step, job: Job) {
        match state.memory.follow(step) {
            Ok(()) => self.owner.shared.push(state, job),
            Err(what) => {
                let done = job.done().unwrap_or_else(|| Box::new(|_| {}));
                self.refuse(state, what, done);
            }
        }
    }

    /// Poisons the log because of what the caller asked for, and answers it in its turn.
    fn refuse(&self, state: parking_lot::MutexGuard<'_, State>, what: String, done: Done) {
        drop(state);
        self.owner.shared.poison(Fault::Inconsistent { what });
        let state = self.owner.shared.state();
        self.owner.shared.push(state, Job::Append(Vec::new(), done));
    }
}

impl Owner {
    fn close(&self) {
        self.shared.close();
        self.spares.hurry();
        if self.shared.on_writer() {
            return;
        }
        let mut running = self.running.lock();
        if let Some(Running {
            writer,
            zeroer,
            _lock,
        }) = running.take()
        {
            join(writer);
            self.spares.stop();
            join(zeroer);
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.close();
        self.spares.stop();
    }
}

fn thread(
    name: &str,
    dir: &Path,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, Fault> {
    let spawned = std::thread::Builder::new().name(name.into()).spawn(body);
    spawned.map_err(|e| Fault::io("start of the log's thread", dir, e))
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the log panicked");
    }
}
