//! openraft's log, kept by the WAL.
//!
//! ```text
//! append      wal.append        readable at once, the callback runs in order after the flush
//! save_vote   wal.save_vote     awaited: a vote is a promise
//! committed   wal.save_committed  rides with the next flush
//! truncate    wal.truncate_after  in the same ordered log, before whatever is appended next
//! purge       wal.purge         openraft asks only after a snapshot that covers it is on disk
//! ```
//!
//! Reads are cut by bytes, never empty for a range that is there. A read that may touch the disk is taken off
//! the runtime's threads.
//!
//! The store also keeps the time since which something waits for the disk: see [`Flushes`].

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, stream};
use meridian_domain::revision::LogId;
use meridian_storage::fault::Fault;
use meridian_storage::wal::{self, Recovered, Wal};
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::form;
use crate::snapshot::Snapshots;
use crate::type_config::{self, Entry, RaftLogId, TypeConfig, Vote};

/// The most bytes of entries in one read; one entry may be larger.
pub const READ_BYTES: usize = 1024 * 1024;

/// What an entry costs in the log beside its payload, about.
const RECORD_OVERHEAD_BYTES: usize = 48;

/// Reads of the last so many entries do not touch the disk.
const RECENT_ENTRIES: u64 = 2048;

/// The log. Cheap to clone.
#[derive(Clone)]
pub struct LogStore {
    wal: Wal,
    vote: Arc<Mutex<Option<Vote>>>,
    committed: Option<RaftLogId>,
    flushes: Arc<Flushes>,
    snapshots: Snapshots,
}

/// What waits for the disk, and how long flushes take: a heartbeat must not say "all is well" for a disk that
/// stands still.
#[derive(Default)]
pub struct Flushes {
    state: Mutex<FlushState>,
}

#[derive(Default)]
struct FlushState {
    waiting: u64,
    /// When the disk last finished something, or began to have something to do.
    moved: Option<Instant>,
    /// Smoothed time a flush takes.
    smoothed: Duration,
    /// The last index that is on the disk, as far as appending went.
    flushed: u64,
}

impl Flushes {
    fn begin(&self) -> Instant {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.waiting == 0 {
            state.moved = Some(now);
        }
        state.waiting += 1;
        now
    }

    fn end(&self, begun: Instant) {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.waiting = state.waiting.saturating_sub(1);
        state.moved = Some(now);
        let took = now - begun;
        state.smoothed = (state.smoothed * 7 + took) / 8;
    }

    /// How long the disk has not finished anything although something waits; zero if nothing does.
    pub fn stalled(&self) -> Duration {
        let state = self.state.lock();
        match state.moved {
            Some(moved) if state.waiting > 0 => moved.elapsed(),
            _ => Duration::ZERO,
        }
    }

    fn reached(&self, index: u64) {
        self.state.lock().flushed = index;
    }

    /// The last index that is on the disk.
    pub fn flushed(&self) -> u64 {
        self.state.lock().flushed
    }

    /// How long a flush takes, smoothed over the last ones.
    pub fn smoothed(&self) -> Duration {
        self.state.lock().smoothed
    }
}

impl LogStore {
    /// The log over an opened WAL.
    pub fn new(
        wal: Wal,
        recovered: &Recovered,
        snapshots: Snapshots,
    ) -> Result<Self, form::Malformed> {
        let vote = recovered.vote.as_ref().map(form::decode_vote).transpose()?;
        let committed = recovered.committed.and_then(type_config::to_raft);
        let vote = Arc::new(Mutex::new(vote));
        Ok(Self {
            wal,
            vote,
            committed,
            flushes: Arc::default(),
            snapshots,
        })
    }

    /// What waits for the disk.
    pub fn flushes(&self) -> Arc<Flushes> {
        self.flushes.clone()
    }

    /// The entry at a position, as the WAL has it; none if it does not.
    pub async fn entry(&self, at: LogId) -> io::Result<Option<wal::Entry>> {
        let log = self.wal.clone();
        let read = tokio::task::spawn_blocking(move || {
            let found = log.read(at.index, at.index.saturating_add(1), READ_BYTES)?;
            Ok::<_, Fault>(found.into_iter().find(|entry| entry.log_id == at))
        });
        read.await
            .map_err(io::Error::other)?
            .map_err(io::Error::other)
    }

    /// Whether an entry is so new that the WAL has it in memory, almost surely.
    fn is_recent(&self, index: u64) -> bool {
        self.wal
            .state()
            .1
            .is_some_and(|last| index + RECENT_ENTRIES > last.index)
    }

    async fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        if from >= to {
            return Ok(vec![]);
        }
        // openraft counts from zero, the WAL from one.
        let (from, to) = (from + 1, to + 1);
        let read = if self.is_recent(from) {
            self.wal.read(from, to, bytes_max)
        } else {
            let wal = self.wal.clone();
            tokio::task::spawn_blocking(move || wal.read(from, to, bytes_max))
                .await
                .map_err(io::Error::other)?
        };
        read.map_err(io::Error::other)?
            .into_iter()
            .map(|entry| form::entry_from_wal(entry).map_err(io::Error::other))
            .collect()
    }
}

/// Turns a range of any form into `[from, to)`.
fn ends(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(at) => *at,
        Bound::Excluded(at) => at + 1,
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(at) => at + 1,
        Bound::Excluded(at) => *at,
        Bound::Unbounded => u64::MAX - 1,
    };
    (from, to)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result<Vec<Entry>, io::Error>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = ends(&range);
        let mut entries: Vec<Entry> = vec![];
        loop {
            let next = entries.last().map_or(from, |last| last.log_id.index() + 1);
            let more = self.read(next, to, READ_BYTES).await?;
            if more.is_empty() {
                return Ok(entries);
            }
            entries.extend(more);
        }
    }

    async fn entries_stream<R>(
        &mut self,
        range: R,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        // In pieces: after a restart this may be the whole log.
        struct Cursor {
            log: LogStore,
            at: u64,
            to: u64,
            ready: std::vec::IntoIter<Entry>,
        }
        let (from, to) = ends(&range);
        let cursor = Cursor {
            log: self.clone(),
            at: from,
            to,
            ready: vec![].into_iter(),
        };
        Box::pin(stream::try_unfold(cursor, |mut cursor| async move {
            if cursor.ready.len() == 0 {
                let piece = cursor.log.read(cursor.at, cursor.to, READ_BYTES).await?;
                cursor.ready = piece.into_iter();
            }
            let Some(entry) = cursor.ready.next() else {
                if cursor.at < cursor.to && cursor.to < u64::MAX - 1 {
                    return Err(io::Error::other(format!(
                        "the log has no entry {}",
                        cursor.at
                    )));
                }
                return Ok(None);
            };
            cursor.at = entry.log_id.index() + 1;
            Ok(Some((entry, cursor)))
        }))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(*self.vote.lock())
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        let entries = self.read(start, end, READ_BYTES).await?;
        if entries.is_empty() && start < end {
            return Err(io::Error::other(format!("the log has no entry {start}")));
        }
        Ok(entries)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let (purged, last) = self.wal.state();
        let last_purged_log_id = purged.and_then(type_config::to_raft);
        let last_log_id = last.and_then(type_config::to_raft).or(last_purged_log_id);
        Ok(LogState {
            last_purged_log_id,
            last_log_id,
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (done, flushed) = oneshot::channel();
        let begun = self.flushes.begin();
        let disk = self.flushes.clone();
        let vote = *vote;
        let kept = self.vote.clone();
        self.wal.save_vote(
            form::encode_vote(&vote),
            Box::new(move |result| {
                disk.end(begun);
                if result.is_ok() {
                    *kept.lock() = Some(vote);
                }
                let _ = done.send(result);
            }),
        );
        flushed
            .await
            .map_err(io::Error::other)?
            .map_err(io::Error::other)
    }

    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> Result<(), io::Error> {
        if let Some(committed) = committed {
            self.wal.save_committed(type_config::to_domain(&committed));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<RaftLogId>, io::Error> {
        Ok(self.committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().map(form::entry_to_wal).collect();
        let bytes: usize = entries
            .iter()
            .map(|e| e.payload.len() + RECORD_OVERHEAD_BYTES)
            .sum();
        self.snapshots.log_grew(bytes as u64);
        let begun = self.flushes.begin();
        let disk = self.flushes.clone();
        let last = entries.last().map_or(0, |entry| entry.log_id.index);
        self.wal.append(
            entries,
            Box::new(move |result| {
                disk.end(begun);
                disk.reached(last);
                callback.io_completed(result.map_err(io::Error::other));
            }),
        );
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> Result<(), io::Error> {
        // Ordered before whatever comes next; a failure poisons the log and ends the process.
        let last = last.as_ref().map(type_config::to_domain);
        self.wal
            .truncate_after(last, Box::new(|_: Result<(), Fault>| ()));
        Ok(())
    }

    async fn purge(&mut self, upto: RaftLogId) -> Result<(), io::Error> {
        self.wal.purge(type_config::to_domain(&upto));
        Ok(())
    }
}
