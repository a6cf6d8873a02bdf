//! Linearizable reads on every member: how far one must have applied to read now.
//!
//! ```text
//! readers   r1 r2        r3 r4 r5 r6                    r7
//! rounds       |--- 1 ---|------- 2 -------|    ...     |--- 3
//!              r1 r2      r3 r4 r5 r6                    r7
//! ```
//!
//! One round serves everybody who waits when it begins. Who comes while a round runs joins the *next* one: the
//! running one may have been confirmed before that reader asked, and its answer could be too old. Each round
//! is a new question with a number of its own; a late answer to an earlier one finds nobody.
//!
//! On the leader a round is openraft's read index: the commit index, at least the leader's own first entry,
//! valid once a quorum confirmed the leader afterwards. On other members it is a question to the leader, which
//! joins the leader's next round. Then one waits until that much is applied here.

use std::sync::Arc;
use std::time::Duration;

use meridian_domain::revision::LogId;
use meridian_proto::peer::{self, Lane, RefusalCode, envelope::Body};
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::{LinearizerOption, ReadPolicy};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::leadership::Leadership;
use crate::metrics;
use crate::network::connection::CallError;
use crate::network::lanes::Peers;
use crate::type_config::{self, Raft};
use crate::unavailable::{Delay, Unavailable};

/// The most readers that wait at a time; more are refused.
const READERS_MAX: usize = 100_000;
/// The pause after a round that failed.
const PAUSE: Duration = Duration::from_millis(5);

/// The read rounds of a member. Shared.
pub struct ReadIndex {
    waiting: Mutex<Vec<Reader>>,
    wake: Notify,
    leadership: watch::Receiver<Leadership>,
    applied: watch::Receiver<LogId>,
    round_time: Duration,
    rounds: std::sync::atomic::AtomicU64,
}

struct Reader {
    deadline: Instant,
    answer: oneshot::Sender<Result<LogId, Unavailable>>,
}

/// Asks one round; the seam that lets tests say what a leader would.
pub trait Ask: Send + Sync + 'static {
    /// How far one must have applied to read at the time of the call.
    fn ask(
        &self,
        round: u64,
        deadline: Instant,
    ) -> impl Future<Output = Result<LogId, Unavailable>> + Send;
}

impl ReadIndex {
    /// Nobody waits yet. [`ReadIndex::run`] must be spawned.
    pub fn new(
        leadership: watch::Receiver<Leadership>,
        applied: watch::Receiver<LogId>,
        round_time: Duration,
    ) -> Self {
        Self {
            waiting: Mutex::default(),
            wake: Notify::new(),
            leadership,
            applied,
            round_time,
            rounds: std::sync::atomic::AtomicU64::new(rand::random()),
        }
    }

    /// The position that has to be applied for a read that begins now.
    pub async fn position(&self, deadline: Instant) -> Result<LogId, Unavailable> {
        let (answer, answered) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock();
            if waiting.len() >= READERS_MAX {
                return Err(Unavailable::Overloaded);
            }
            waiting.push(Reader { deadline, answer });
        }
        self.wake.notify_one();
        match timeout_at(deadline, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Unavailable::Stopped),
            Err(_) if self.leadership.borrow().leader.is_none() => Err(Unavailable::NoLeader),
            Err(_) => Err(Unavailable::TimedOut(Delay::Plain)),
        }
    }

    /// Returns when this member's state is fresh enough for a read that begins now.
    pub async fn barrier(&self, deadline: Instant) -> Result<LogId, Unavailable> {
        let result = self.barrier_once(deadline).await;
        if result.is_err() {
            metrics::READ_INDEXES_FAILED.inc();
        }
        result
    }

    async fn barrier_once(&self, deadline: Instant) -> Result<LogId, Unavailable> {
        let position = self.position(deadline).await?;
        let mut applied = self.applied.clone();
        let reached = applied.wait_for(|applied| applied.index >= position.index);
        match timeout_at(deadline, reached).await {
            Ok(Ok(applied)) => Ok(*applied),
            Ok(Err(_)) => Err(Unavailable::Stopped),
            Err(_) => Err(Unavailable::TimedOut(Delay::Apply)),
        }
    }

    /// Runs the rounds, one after the other, until the member stops.
    pub async fn run(self: Arc<Self>, ask: impl Ask) {
        loop {
            let mut readers = std::mem::take(&mut *self.waiting.lock());
            readers.retain(|reader| !reader.answer.is_closed());
            if readers.is_empty() {
                self.wake.notified().await;
                continue;
            }
            let round = self
                .rounds
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let last = readers.iter().map(|reader| reader.deadline).max();
            let started = Instant::now();
            let deadline = last.unwrap_or(started).min(started + self.round_time);
            let result = match timeout_at(deadline, ask.ask(round, deadline)).await {
                Ok(result) => result,
                Err(_) => Err(Unavailable::TimedOut(Delay::Plain)),
            };
            if started.elapsed() > self.round_time / 2 {
                metrics::SLOW_READ_INDEXES.inc();
            }
            match result {
                Ok(position) => {
                    for reader in readers {
                        let _ = reader.answer.send(Ok(position));
                    }
                }
                Err(Unavailable::Stopped) => {
                    for reader in readers {
                        let _ = reader.answer.send(Err(Unavailable::Stopped));
                    }
                }
                Err(_) => {
                    // They join the next round, before those that came meanwhile.
                    let now = Instant::now();
                    readers.retain(|reader| reader.deadline > now);
                    self.put_back(readers);
                    self.pause().await;
                }
            }
        }
    }

    fn put_back(&self, mut readers: Vec<Reader>) {
        let mut waiting = self.waiting.lock();
        readers.append(&mut waiting);
        *waiting = readers;
    }

    async fn pause(&self) {
        let mut leadership = self.leadership.clone();
        leadership.mark_unchanged();
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = leadership.changed() => {}
        }
    }
}

/// Asks openraft if this member leads, else the leader.
pub struct AskLeader {
    /// openraft.
    pub raft: Raft,
    /// The others.
    pub peers: Arc<Peers>,
    /// Who leads.
    pub leadership: watch::Receiver<Leadership>,
}

impl Ask for AskLeader {
    async fn ask(&self, round: u64, deadline: Instant) -> Result<LogId, Unavailable> {
        let now = *self.leadership.borrow();
        match now.leader {
            None => Err(Unavailable::NoLeader),
            Some(_) if now.here => ask_raft(&self.raft, deadline).await,
            Some(leader) => self.ask_member(leader, round, deadline).await,
        }
    }
}

/// openraft's read index on the leader.
async fn ask_raft(raft: &Raft, deadline: Instant) -> Result<LogId, Unavailable> {
    let time = deadline.saturating_duration_since(Instant::now());
    let option = LinearizerOption::from(ReadPolicy::ReadIndex).with_wait_timeout(time);
    match raft.get_read_linearizer(option).await {
        Ok(linearizer) => Ok(type_config::to_domain(linearizer.read_log_id().log_id())),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => {
            Err(Unavailable::LeaderChanged)
        }
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
            Err(Unavailable::NoLeader)
        }
        Err(RaftError::Fatal(_)) => Err(Unavailable::Stopped),
    }
}

impl AskLeader {
    async fn ask_member(
        &self,
        leader: u64,
        round: u64,
        deadline: Instant,
    ) -> Result<LogId, Unavailable> {
        let link = self.peers.link_of(leader).ok_or(Unavailable::NoLeader)?;
        let timeout_ms = deadline
            .saturating_duration_since(Instant::now())
            .as_millis() as u64;
        let body = Body::ReadIndex(peer::ReadIndex { round, timeout_ms });
        match self.peers.call(&link, Lane::Requests, body, deadline).await {
            Ok(Body::ReadIndexReply(reply)) if reply.round == round => reply
                .log_id
                .map(|id| LogId {
                    term: id.term,
                    index: id.index,
                })
                .ok_or(Unavailable::LeaderChanged),
            Ok(_) => Err(Unavailable::LeaderChanged),
            Err(CallError::Refused(refusal)) => Err(match refusal.code() {
                // The leader stops, this member does not.
                RefusalCode::Stopped => Unavailable::LeaderChanged,
                code => Unavailable::from_wire(code),
            }),
            Err(CallError::TimedOut) => Err(Unavailable::TimedOut(Delay::Plain)),
            Err(CallError::NotSent(_) | CallError::Lost) => {
                Err(Unavailable::TimedOut(Delay::ConnectionLost))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A leader whose answers the test lets go one by one.
    struct Scripted {
        commit: Arc<AtomicU64>,
        begun: tokio::sync::mpsc::Sender<u64>,
        go: Arc<tokio::sync::Semaphore>,
    }

    impl Ask for Scripted {
        async fn ask(&self, round: u64, _deadline: Instant) -> Result<LogId, Unavailable> {
            let index = self.commit.load(Ordering::SeqCst);
            self.begun.send(round).await.unwrap();
            self.go.acquire().await.unwrap().forget();
            Ok(LogId { term: 1, index })
        }
    }

    struct World {
        read_index: Arc<ReadIndex>,
        commit: Arc<AtomicU64>,
        begun: tokio::sync::mpsc::Receiver<u64>,
        go: Arc<tokio::sync::Semaphore>,
        applied: watch::Sender<LogId>,
        _leadership: watch::Sender<Leadership>,
    }

    fn world() -> World {
        let (leadership, leads) = watch::channel(Leadership {
            leader: Some(1),
            term: 1,
            here: true,
        });
        let (applied, applied_rx) = watch::channel(LogId::default());
        let read_index = Arc::new(ReadIndex::new(leads, applied_rx, Duration::from_mins(1)));
        let commit = Arc::new(AtomicU64::new(1));
        let (begun_tx, begun) = tokio::sync::mpsc::channel(100);
        let go = Arc::new(tokio::sync::Semaphore::new(0));
        let ask = Scripted {
            commit: commit.clone(),
            begun: begun_tx,
            go: go.clone(),
        };
        tokio::spawn(read_index.clone().run(ask));
        World {
            read_index,
            commit,
            begun,
            go,
            applied,
            _leadership: leadership,
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_mins(1)
    }

    #[tokio::test]
    async fn a_late_reader_joins_the_next_round_and_sees_what_was_committed_before_it_asked() {
        let mut world = world();
        let first = tokio::spawn({
            let read_index = world.read_index.clone();
            async move { read_index.position(soon()).await }
        });
        let round_1 = world.begun.recv().await.unwrap();
        // A write commits while the first round runs; then somebody else reads.
        world.commit.store(7, Ordering::SeqCst);
        let mut late = vec![];
        for _ in 0..50 {
            let read_index = world.read_index.clone();
            late.push(tokio::spawn(
                async move { read_index.position(soon()).await },
            ));
        }
        tokio::task::yield_now().await;
        world.go.add_permits(1);
        assert_eq!(first.await.unwrap().unwrap().index, 1);
        let round_2 = world.begun.recv().await.unwrap();
        assert_ne!(round_1, round_2);
        world.go.add_permits(1);
        for reader in late {
            assert_eq!(reader.await.unwrap().unwrap().index, 7);
        }
        assert!(
            world.begun.try_recv().is_err(),
            "one round served all late readers"
        );
    }

    #[tokio::test]
    async fn a_barrier_waits_until_the_position_is_applied_here() {
        let mut world = world();
        world.commit.store(5, Ordering::SeqCst);
        let barrier = tokio::spawn({
            let read_index = world.read_index.clone();
            async move { read_index.barrier(soon()).await }
        });
        world.begun.recv().await.unwrap();
        world.go.add_permits(1);
        world.applied.send(LogId { term: 1, index: 4 }).unwrap();
        tokio::task::yield_now().await;
        assert!(!barrier.is_finished());
        world.applied.send(LogId { term: 1, index: 6 }).unwrap();
        assert_eq!(barrier.await.unwrap().unwrap().index, 6);
    }

    #[tokio::test]
    async fn a_barrier_that_can_not_be_met_in_time_says_what_it_waited_for() {
        let mut world = world();
        world.commit.store(5, Ordering::SeqCst);
        world.go.add_permits(1);
        let deadline = Instant::now() + Duration::from_millis(50);
        let result = world.read_index.barrier(deadline).await;
        assert_eq!(result, Err(Unavailable::TimedOut(Delay::Apply)));
        world.begun.recv().await.unwrap();
    }
}
