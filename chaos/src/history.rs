//! What clients saw: operations with when they began and ended, events, renewals.

use std::sync::Mutex;
use std::time::Instant;

use bytes::Bytes;

/// Nanoseconds since the run began, by one monotonic clock for all clients.
pub type Time = u64;

/// One operation on one register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which client.
    pub client: usize,
    /// Which register.
    pub key: Bytes,
    /// What was asked.
    pub ask: Ask,
    /// What came back; none if nobody knows whether it took effect.
    pub outcome: Option<Outcome>,
    /// When it was sent.
    pub begun: Time,
    /// When the answer came; for an unknown outcome this means nothing.
    pub ended: Time,
}

/// What was asked. Every value written is unique in the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Write a value.
    Write(Bytes),
    /// Read.
    Read,
    /// Write `new` if the value is `expected` (none: if there is no value).
    CompareAndSet {
        /// What must be there.
        expected: Option<Bytes>,
        /// What is written then.
        new: Bytes,
    },
}

/// What came back, with the store's revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The revision in the header.
    pub revision: i64,
    /// What was found: the value read, or for a compare that failed what was there instead.
    pub found: Option<Bytes>,
    /// For a compare-and-set, whether it was set.
    pub set: bool,
}

/// One event as a watcher got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: Bytes,
    /// Its new value; none if it was deleted.
    pub value: Option<Bytes>,
    /// The revision.
    pub revision: i64,
    /// When it came.
    pub at: Time,
}

/// Everything one watcher got, over all its connections.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// The revision it asked to start from.
    pub from: i64,
    /// The messages, in order; the events of one message came together.
    pub messages: Vec<Vec<Event>>,
    /// How often it had to connect again.
    pub reconnects: usize,
}

/// One lease from its grant to the last renewal that was answered.
#[derive(Clone, Debug)]
pub struct Leased {
    /// The key that was attached.
    pub key: Bytes,
    /// Its time to live, in nanoseconds.
    pub ttl: Time,
    /// When the last renewal that succeeded was *sent*: the lease must live at least `ttl` from then.
    pub renewed: Time,
    /// Whether a later renewal said that the lease is gone, and when.
    pub gone: Option<Time>,
}

/// The history of a run.
#[derive(Debug)]
pub struct History {
    start: Instant,
    log: Mutex<Log>,
}

/// What was recorded.
#[derive(Debug, Default)]
pub struct Log {
    /// Operations on registers.
    pub operations: Vec<Operation>,
    /// Watchers.
    pub watched: Vec<Watched>,
    /// Leases.
    pub leased: Vec<Leased>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            log: Mutex::default(),
        }
    }
}

impl History {
    /// Now.
    pub fn now(&self) -> Time {
        self.start.elapsed().as_nanos() as Time
    }

    /// Adds to the record.
    pub fn record(&self, add: impl FnOnce(&mut Log)) {
        add(&mut self
            .log
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    /// Takes the record out, at the end.
    pub fn take(&self) -> Log {
        std::mem::take(
            &mut *self
                .log
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }
}
