//! What the parts of a member share, and what they do together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use meridian_domain::revision::LogId;
use meridian_proto::peer::{self, Lane, RefusalCode, envelope::Body};
use meridian_storage::store::Store;
use openraft::async_runtime::watch::WatchReceiver as _;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::form;
use crate::leadership::{Contact, Leadership};
use crate::log_store::LogStore;
use crate::membership::{Change, Changes, MembershipError};
use crate::network::connection::CallError;
use crate::network::lanes::Peers;
use crate::network::receive::Guests;
use crate::network::tls::SharedTls;
use crate::pressure::Pressure;
use crate::propose::Proposer;
use crate::read_index::ReadIndex;
use crate::replica::Delegate;
use crate::snapshot::Snapshots;
use crate::state_machine::SharedMachine;
use crate::status::{Standing, Status};
use crate::type_config::{self, Raft};
use crate::unavailable::{Delay, Unavailable};

/// How often to look whether something is on the disk.
const FLUSH_LOOK: Duration = Duration::from_millis(5);

/// What the parts of a member share.
pub struct Core {
    pub(crate) raft: Raft,
    pub(crate) store: Store,
    pub(crate) peers: Arc<Peers>,
    pub(crate) tls: Option<SharedTls>,
    pub(crate) guests: Guests,
    pub(crate) contact: Contact,
    pub(crate) pressure: Arc<Pressure>,
    pub(crate) snapshots: Snapshots,
    pub(crate) changes: Arc<Changes>,
    pub(crate) read_index: Arc<ReadIndex>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) stopping: CancellationToken,
    pub(super) proposer: Proposer,
    pub(super) standing: watch::Receiver<Standing>,
    pub(super) fenced: Arc<AtomicBool>,
    pub(super) recovering: AtomicBool,
    pub(crate) log: LogStore,
    pub(super) delegate: ArcSwapOption<Box<dyn Delegate>>,
    pub(super) tasks: Mutex<Vec<tokio::task::JoinHandle<()>>>,
    pub(super) machine: SharedMachine,
}

impl Core {
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().push(tokio::spawn(task));
    }

    pub(crate) fn id(&self) -> u64 {
        self.peers.roster().identity().member_id
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Acquire)
    }

    /// Whether this member may run for leader.
    pub(crate) fn may_campaign(&self) -> bool {
        !self.is_fenced() && !self.abstains()
    }

    /// Whether this member gives nobody its vote, since it may have forgotten what it acknowledged.
    pub(crate) fn abstains(&self) -> bool {
        self.recovering.load(Ordering::Acquire)
    }

    /// Votes and campaigns like everybody else from now on.
    pub(super) fn recovered(&self) {
        self.recovering.store(false, Ordering::Release);
        crate::metrics::RECOVERING.set(0);
        self.raft.runtime_config().elect(self.may_campaign());
    }

    /// Returns once all this member has appended, up to what it has applied now, is on its disk.
    pub(super) async fn durable(&self, deadline: Instant) -> Result<LogId, Unavailable> {
        let applied = self.store.applied();
        let flushes = self.log.flushes();
        while flushes.flushed().max(self.snapshots.covers().index) < applied.index {
            if Instant::now() >= deadline {
                return Err(Unavailable::TimedOut(Delay::Plain));
            }
            tokio::time::sleep(FLUSH_LOOK).await;
        }
        Ok(applied)
    }

    pub(super) fn check_serving(&self) -> Result<(), Unavailable> {
        if self.is_fenced() {
            return Err(Unavailable::Fenced);
        }
        if self.stopping.is_cancelled() {
            return Err(Unavailable::Stopped);
        }
        Ok(())
    }

    /// The last entry of the log, as far as openraft said.
    pub(crate) fn last_log_id(&self) -> LogId {
        let metrics = self.raft.data_metrics();
        let metrics = metrics.borrow_watched();
        type_config::to_domain_or_zero(metrics.last_log.as_ref())
    }

    /// Serves nothing any more, and leads no more.
    pub(crate) async fn fence(&self) {
        self.fenced.store(true, Ordering::Release);
        crate::metrics::FENCED.set(1);
        self.raft.runtime_config().elect(false);
        let deadline = Instant::now() + Duration::from_secs(5);
        if let Err(error) = self.step_down(deadline).await {
            tracing::warn!(%error, "a fenced leader could not hand leadership over");
            self.raft.runtime_config().heartbeat(false);
        }
    }

    pub(super) async fn step_down(&self, deadline: Instant) -> Result<(), MembershipError> {
        if !self.raft.is_leader() {
            return Ok(());
        }
        match self.changes.successor() {
            None => Ok(()),
            Some(to) => self.changes.transfer(to, deadline).await,
        }
    }

    pub(super) fn status(&self) -> Status {
        let standing = self.standing.borrow().clone();
        let members = self.peers.roster().peers();
        let id = self.id();
        let data = self.raft.data_metrics();
        let data = data.borrow_watched();
        let domain =
            |id: &Option<type_config::RaftLogId>| type_config::to_domain_or_zero(id.as_ref());
        Status {
            cluster_id: self.peers.roster().identity().cluster_id,
            id,
            leader: standing.leader,
            term: standing.term,
            last_index: domain(&data.last_log).index,
            commit_index: domain(&data.local_committed).index,
            applied: self.store.applied(),
            snapshot: self.snapshots.covers(),
            purged: domain(&data.purged),
            is_leader: standing.is_leader,
            is_learner: members.iter().any(|peer| peer.id == id && peer.learner),
            fenced: self.is_fenced(),
            recovering: self.abstains(),
            expelled: standing.expelled,
            members,
        }
    }

    pub(crate) async fn ask_here(
        &self,
        method: u16,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Unavailable> {
        let Some(delegate) = self.delegate.load_full() else {
            return Err(Unavailable::NotCapable);
        };
        match tokio::time::timeout_at(deadline, delegate.answer(method, body, deadline)).await {
            Ok(answer) => answer,
            Err(_) => Err(Unavailable::TimedOut(Delay::Plain)),
        }
    }

    pub(super) async fn ask_leader(
        &self,
        method: u16,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Unavailable> {
        let mut leadership = self.leadership.clone();
        loop {
            let now = *leadership.borrow_and_update();
            let result = match now.leader {
                None => Err(Unavailable::NoLeader),
                Some(_) if now.here => return self.ask_here(method, body, deadline).await,
                Some(leader) => {
                    self.ask_there(leader, true, method, body.clone(), deadline)
                        .await
                }
            };
            let again = matches!(
                result,
                Err(Unavailable::NoLeader | Unavailable::LeaderChanged)
            );
            if !again || Instant::now() >= deadline {
                return result;
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
                _ = leadership.changed() => {}
            }
        }
    }

    pub(super) async fn ask_there(
        &self,
        id: u64,
        leader_only: bool,
        method: u16,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Unavailable> {
        let link = self.peers.link_of(id).ok_or(Unavailable::NoLeader)?;
        let timeout_ms = deadline
            .saturating_duration_since(Instant::now())
            .as_millis() as u64;
        let question = Body::Ask(peer::Ask {
            method: method.into(),
            body,
            timeout_ms,
            leader_only,
        });
        match self
            .peers
            .call(&link, Lane::Requests, question, deadline)
            .await
        {
            Ok(Body::AskReply(reply)) => Ok(reply.body),
            Ok(_) => Err(Unavailable::NotCapable),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// Makes a change here or on the leader; answers with where it stands in the log.
    pub(super) async fn change(
        &self,
        change: Change,
        deadline: Instant,
    ) -> Result<LogId, MembershipError> {
        loop {
            let now = *self.leadership.borrow();
            let result = match now.leader {
                Some(_) if now.here => self.changes.make(change.clone(), deadline).await,
                Some(leader) => self.change_there(leader, &change, deadline).await,
                None => Err(MembershipError::NotLeader),
            };
            match result {
                Err(MembershipError::NotLeader) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(MembershipError::NotLeader) => return Err(Unavailable::NoLeader.into()),
                Err(MembershipError::Unavailable(_)) if self.shows(&change) => {
                    // The answer was lost, the change was not.
                    let index = self.peers.roster().membership_index();
                    return Ok(LogId { term: 0, index });
                }
                result => return result,
            }
        }
    }

    /// Whether the members, as known here, are as a removal leaves them.
    fn shows(&self, change: &Change) -> bool {
        let Change::Remove(id) = change else {
            return false;
        };
        self.peers
            .roster()
            .membership()
            .membership()
            .get_node(id)
            .is_none()
    }

    async fn change_there(
        &self,
        leader: u64,
        change: &Change,
        deadline: Instant,
    ) -> Result<LogId, MembershipError> {
        let link = self
            .peers
            .link_of(leader)
            .ok_or(MembershipError::NotLeader)?;
        let timeout_ms = deadline
            .saturating_duration_since(Instant::now())
            .as_millis() as u64;
        let question = Body::Change(change.to_wire(timeout_ms));
        match self
            .peers
            .call(&link, Lane::Requests, question, deadline)
            .await
        {
            Ok(Body::ChangeReply(reply)) if reply.refusal == 0 => {
                Ok(form::parse_log_id(reply.log_id.as_ref()))
            }
            Ok(Body::ChangeReply(reply)) => Err(MembershipError::from_wire(reply.refusal)),
            Ok(_) => Err(Unavailable::NotCapable.into()),
            Err(CallError::NotSent(_)) => Err(MembershipError::NotLeader),
            Err(error) => Err(unavailable(&error).into()),
        }
    }

    pub(super) async fn shutdown(&self) {
        self.stopping.cancel();
        self.proposer.waiters.stop();
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "openraft did not end well");
        }
        self.peers.end();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in &tasks {
            task.abort();
        }
        for task in tasks {
            let _ = task.await;
        }
        self.proposer.waiters.stop();
        // Who answers other members may hold what holds this.
        self.delegate.store(None);
    }
}

/// What a question that failed means to who asked.
fn unavailable(error: &CallError) -> Unavailable {
    match error {
        CallError::NotSent(_) => Unavailable::NoLeader,
        CallError::Lost => Unavailable::TimedOut(Delay::ConnectionLost),
        CallError::TimedOut => Unavailable::TimedOut(Delay::Plain),
        CallError::Refused(refusal) => match refusal.code() {
            RefusalCode::Stopped => Unavailable::LeaderChanged,
            code => Unavailable::from_wire(code),
        },
    }
}
