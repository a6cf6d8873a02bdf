//! One member as the client sees it: its channels, and how well it has been answering.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tonic::transport::Channel;

/// How long a member that failed is passed over, at first. Doubles with every failure.
const REST_FIRST: Duration = Duration::from_millis(100);
/// The longest a member is passed over.
const REST_MAX: Duration = Duration::from_secs(5);

/// One member: several channels, and what is known of its health.
#[derive(Debug)]
pub(crate) struct Member {
    url: Arc<str>,
    channels: Vec<Channel>,
    next: AtomicUsize,
    in_flight: AtomicU32,
    /// Moving average, in microseconds; zero until the first answer.
    latency_us: AtomicU64,
    failures: AtomicU32,
    /// Milliseconds after `epoch` before which the member is passed over.
    rests_until_ms: AtomicU64,
    leader: AtomicBool,
    learner: AtomicBool,
    epoch: Instant,
}

impl Member {
    pub(crate) fn new(url: Arc<str>, channels: Vec<Channel>) -> Self {
        Self {
            url,
            channels,
            next: AtomicUsize::new(0),
            in_flight: AtomicU32::new(0),
            latency_us: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            rests_until_ms: AtomicU64::new(0),
            leader: AtomicBool::new(false),
            learner: AtomicBool::new(false),
            epoch: Instant::now(),
        }
    }

    /// Its endpoint.
    pub(crate) fn url(&self) -> &Arc<str> {
        &self.url
    }

    /// The next of its channels.
    pub(crate) fn channel(&self) -> Channel {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        #[expect(clippy::indexing_slicing, reason = "a member has at least one channel")]
        self.channels[turn % self.channels.len()].clone()
    }

    /// Counts a request until the guard is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight {
            member: self.clone(),
        }
    }

    /// Notes an answer that took `elapsed`.
    pub(crate) fn answered(&self, elapsed: Duration) {
        self.well();
        let sample = u64::try_from(elapsed.as_micros())
            .unwrap_or(u64::MAX)
            .max(1);
        let old = self.latency_us.load(Ordering::Relaxed);
        // Two writers at a time lose one sample; the average does not mind.
        let new = if old == 0 {
            sample
        } else {
            (old * 7 + sample) / 8
        };
        self.latency_us.store(new.max(1), Ordering::Relaxed);
    }

    /// Notes that it answers.
    pub(crate) fn well(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.rests_until_ms.store(0, Ordering::Relaxed);
    }

    /// Notes a failure: the member is passed over for a while.
    pub(crate) fn failed(&self) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).min(16);
        let rest = REST_FIRST.saturating_mul(1 << failures).min(REST_MAX);
        let until = self.epoch.elapsed() + rest;
        self.rests_until_ms.store(
            u64::try_from(until.as_millis()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
        self.leader.store(false, Ordering::Relaxed);
    }

    /// Notes what a probe learned.
    pub(crate) fn is_known_as(&self, leader: bool, learner: bool) {
        self.leader.store(leader, Ordering::Relaxed);
        self.learner.store(learner, Ordering::Relaxed);
    }

    /// Whether the last probe found it leading.
    pub(crate) fn is_leader(&self) -> bool {
        self.leader.load(Ordering::Relaxed)
    }

    /// Whether the last probe found it without a vote.
    pub(crate) fn is_learner(&self) -> bool {
        self.learner.load(Ordering::Relaxed)
    }

    /// How long it is still passed over; zero if it is not.
    pub(crate) fn rests_for(&self) -> Duration {
        let until = Duration::from_millis(self.rests_until_ms.load(Ordering::Relaxed));
        until.saturating_sub(self.epoch.elapsed())
    }

    /// The average latency; zero until known.
    pub(crate) fn latency(&self) -> Duration {
        Duration::from_micros(self.latency_us.load(Ordering::Relaxed))
    }

    /// What one more request costs here, in no unit: less is better.
    pub(crate) fn load(&self) -> u64 {
        let waiting = u64::from(self.in_flight.load(Ordering::Relaxed)) + 1;
        waiting.saturating_mul(self.latency_us.load(Ordering::Relaxed).max(50))
    }
}

/// One request under way.
#[derive(Debug)]
pub(crate) struct InFlight {
    member: Arc<Member>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.member.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
