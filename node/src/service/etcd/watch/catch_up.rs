//! Reading history for watches that are older than the ring, in slices, where it may block.
//!
//! A few slices are read at a time over all streams, and the more streams want them the smaller they are: what
//! they hold in memory together is bounded, and so is what they take from the disk and the processors.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use meridian_domain::command::Commit;
use meridian_domain::limits::WATCH_BATCH_REVISIONS_MAX;
use meridian_domain::revision::Revision;
use meridian_storage::fault::Fault;
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use super::background::Background;
use super::source::Source;

/// What all slices together should not exceed, in bytes.
const ALL_SLICES_BYTES: usize = 32 << 20;
/// The largest slice.
const SLICE_BYTES_MAX: usize = 256 << 10;
/// The smallest.
const SLICE_BYTES_MIN: usize = 16 << 10;
/// How long to wait for revisions that history does not show yet: the batch they came with is still on its way.
const PATIENCE: Duration = Duration::from_millis(20);
/// How often.
const TRIES_MAX: u32 = 250;

/// A stream's reading of the past.
pub(super) struct Reading {
    _share: Share,
    tries: u32,
    state: State,
}

enum State {
    Still,
    Read { from: Revision, slice: Slice },
    Wait(Pin<Box<Sleep>>),
}

type Slice = JoinHandle<Result<Vec<Commit>, Fault>>;

/// What came of a [`Reading`].
pub(super) enum Outcome {
    /// The revisions from `from` on.
    Slice {
        /// The first.
        from: Revision,
        /// The commits.
        commits: Vec<Commit>,
    },
    /// Ask again.
    Again,
    /// This member can not read it.
    Broken(Fault),
}

/// Counts the stream among those that read.
struct Share(Arc<AtomicUsize>);

impl Drop for Share {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Reading {
    pub(super) fn new(background: &Background) -> Self {
        let readers = Arc::clone(&background.readers);
        readers.fetch_add(1, Ordering::Relaxed);
        Self {
            _share: Share(readers),
            tries: 0,
            state: State::Still,
        }
    }

    /// Begins to read `from..=to`, or a first part of it.
    pub(super) fn read(
        &mut self,
        background: &Background,
        source: Arc<dyn Source>,
        from: Revision,
        to: Revision,
    ) {
        let reads = Arc::clone(&background.reads);
        let readers = background.readers.load(Ordering::Relaxed).max(1);
        let bytes = (ALL_SLICES_BYTES / readers).clamp(SLICE_BYTES_MIN, SLICE_BYTES_MAX);
        let slice = tokio::spawn(async move {
            let permit = reads.acquire_owned().await;
            let read = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                source.commits(from, to, WATCH_BATCH_REVISIONS_MAX, bytes)
            });
            read.await.unwrap_or_else(|_| Err(lost()))
        });
        self.state = State::Read { from, slice };
    }

    /// Waits a little before the same is asked for again; the fault if it was asked for too often.
    pub(super) fn postpone(&mut self, missing: Revision) -> Option<Fault> {
        self.tries += 1;
        if self.tries > TRIES_MAX {
            let what = format!("revision {missing} was published but is not in history");
            return Some(Fault::Inconsistent { what });
        }
        self.state = State::Wait(Box::pin(tokio::time::sleep(PATIENCE)));
        None
    }

    /// What was asked for was there.
    pub(super) fn succeed(&mut self) {
        self.tries = 0;
    }

    /// Pending also while nothing is being read.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let outcome = match &mut self.state {
            State::Still => return Poll::Pending,
            State::Wait(sleep) => {
                ready!(sleep.as_mut().poll(cx));
                Outcome::Again
            }
            State::Read { from, slice } => {
                match ready!(Pin::new(slice).poll(cx)).unwrap_or_else(|_| Err(lost())) {
                    Ok(commits) => Outcome::Slice {
                        from: *from,
                        commits,
                    },
                    Err(fault) => Outcome::Broken(fault),
                }
            }
        };
        self.state = State::Still;
        Poll::Ready(outcome)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let State::Read { slice, .. } = &self.state {
            slice.abort();
        }
    }
}

/// The task that read is gone: the runtime is being stopped.
fn lost() -> Fault {
    Fault::Poisoned {
        part: "reading history",
        cause: "the process is stopping".into(),
    }
}
