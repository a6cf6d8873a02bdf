//! This member's part in the cluster: everything the rest of the node sees of Raft.
//!
//! ```text
//!                 Replica
//!   propose ----> waiters -- courier --> leader's log --> quorum --> applied here --> Receipt
//!   read_barrier -> read index rounds --> leader --> quorum --> applied here
//!   change, transfer, step_down --> membership
//!   status, changed <-- leadership, roster
//!   ask_leader -> the leader's Delegate
//! ```
//!
//! [`Replica`] is a handle and cheap to clone. All of it runs on the runtime [`Replica::start`] was called on.
//! A fault of the log ends the process through the hook the WAL was given; a fault in openraft shows in
//! [`Standing::broken`], and the node should end the process then.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use futures::future::BoxFuture;
use meridian_domain::command::Receipt;
use meridian_domain::revision::LogId;
use meridian_proto::peer::{self, Lane, RefusalCode, envelope::Body};
use meridian_storage::disk::Disk;
use meridian_storage::fault::Fault;
use meridian_storage::machine::Machine;
use meridian_storage::seal::Seal;
use meridian_storage::store::Store;
use meridian_storage::wal::{Recovered, Wal};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{InitializeError, RaftError};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::leadership::{self, Contact, Leadership};
use crate::log_store::LogStore;
use crate::membership::{Change, Changes, MembershipError};
use crate::network::connection::CallError;
use crate::network::lanes::Peers;
use crate::network::receive::{self, Guests};
use crate::network::roster::{Identity, Roster};
use crate::network::send::Senders;
use crate::network::tls::SharedTls;
use crate::pressure::Pressure;
use crate::propose::{self, Courier, Proposer, Room};
use crate::read_index::{AskLeader, ReadIndex};
use crate::settings::{Founder, InvalidSettings, Settings, Start};
use crate::snapshot::Snapshots;
use crate::state_machine::{Feedback, SharedMachine, StateMachine};
use crate::status::{Standing, Status};
use crate::type_config::{self, Address, Raft};
use crate::unavailable::{Delay, Unavailable};
use crate::waiters::Waiters;
use crate::{digest, form, guard, snapshot};

/// A member of the cluster, running.
#[derive(Clone)]
pub struct Replica {
    core: Arc<Core>,
}

/// What a member keeps its state in.
pub struct Engine {
    /// The disk of the snapshots.
    pub disk: Arc<dyn Disk>,
    /// The seam for encryption at rest.
    pub seal: Arc<dyn Seal>,
    /// The log, opened.
    pub wal: Wal,
    /// What opening it found.
    pub recovered: Recovered,
    /// The state, as far as it was loaded.
    pub machine: Machine,
    /// Where snapshots lie.
    pub snapshots: PathBuf,
}

/// How a member is reached and reaches others.
pub struct Doors {
    /// Where it listens for the others, bound already.
    pub listeners: Vec<TcpListener>,
    /// Certificates, if members speak TLS.
    pub tls: Option<SharedTls>,
}

/// Why a member could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings.
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
    /// The disk.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The log or the state holds what this version does not understand.
    #[error("the log or the state of this member holds a {0}; start a newer version")]
    Malformed(#[from] form::Malformed),
    /// The log is gone, and with it what this member promised the others.
    #[error(
        "the log of this member is empty but its state is not: the log was lost, and with it what the \
         member promised the others. Remove it from the cluster and add it as a new one"
    )]
    LostLog,
    /// The log, the snapshot and the state do not fit together.
    #[error(
        "the log, the snapshot and the state of this member do not fit together: {0}. If its disk is \
         damaged, remove the member from the cluster and add it as a new one"
    )]
    Inconsistent(String),
}

/// Answers other members' questions to this one's memory, e.g. about the time a lease has left.
pub trait Delegate: Send + Sync + 'static {
    /// Answers one question. Called on the runtime; must not block.
    fn answer(
        &self,
        method: u16,
        body: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Bytes, Unavailable>>;
}

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
    proposer: Proposer,
    standing: watch::Receiver<Standing>,
    fenced: AtomicBool,
    delegate: ArcSwapOption<Box<dyn Delegate>>,
    tasks: Mutex<Vec<tokio::task::JoinHandle<()>>>,
    machine: SharedMachine,
}

impl Replica {
    /// Starts a member.
    pub async fn start(
        settings: Settings,
        engine: Engine,
        doors: Doors,
    ) -> Result<Self, StartError> {
        settings.validate()?;
        let config = Arc::new(settings.to_openraft()?);
        let Engine {
            disk,
            seal,
            wal,
            recovered,
            machine,
            snapshots,
        } = engine;
        let store = machine.store();
        let cluster = settings.cluster_id;
        let (machine, snapshots) = snapshot::run(move || {
            let mut machine = machine;
            let snapshots = Snapshots::open(disk, seal, snapshots, cluster, &mut machine)?;
            Ok((machine, snapshots))
        })
        .await?;
        let empty_log = recovered.last.is_none() && recovered.vote.is_none();
        let empty_state = machine.applied() == LogId::default();
        let fresh = empty_log && empty_state;
        if empty_log && !empty_state && settings.start != Start::Restore {
            return Err(StartError::LostLog);
        }
        if recovered
            .purged
            .is_some_and(|purged| purged.index > machine.applied().index)
        {
            let text = format!(
                "the log begins after {}, the state ends at {}",
                recovered.purged.unwrap_or_default(),
                machine.applied()
            );
            return Err(StartError::Inconsistent(text));
        }
        let log = LogStore::new(wal.clone(), &recovered, snapshots.clone())?;
        let flushes = log.flushes();

        let identity = Identity {
            cluster_id: settings.cluster_id,
            member_id: settings.member_id,
            instance: settings.instance,
        };
        let membership = form::decode_stored_membership(machine.membership().as_ref())?;
        let roster = Roster::new(identity, store.clone(), membership);
        let pressure = Arc::new(Pressure::new(wal, roster.clone()));

        let waiters = Arc::new(Waiters::new(settings.member_id));
        let wake = Arc::new(Notify::new());
        let (heard, woken) = (waiters.clone(), wake.clone());
        let pushed = Arc::new(move |_, body| {
            if let Body::ProposeRefused(refusal) = body {
                propose::hear_refusal(&heard, &woken, &refusal);
            }
        });
        let peers = Arc::new(Peers::new(roster.clone(), doors.tls.clone(), pushed));

        let (applied, applied_here) = watch::channel(machine.applied());
        let machine: SharedMachine = Arc::new(Mutex::new(machine));
        let feedback = Feedback {
            waiters: waiters.clone(),
            applied: Arc::new(applied),
            resend: wake.clone(),
        };
        let state_machine = StateMachine::new(machine.clone(), snapshots.clone(), feedback);
        let senders = Senders {
            peers: peers.clone(),
            snapshots: snapshots.clone(),
            pressure: pressure.clone(),
            append_time: settings.election_timeout() * 4,
        };
        let raft = Raft::new(settings.member_id, config, senders, log, state_machine)
            .await
            .map_err(|error| StartError::Inconsistent(error.to_string()))?;

        let (leadership_tx, leadership) = watch::channel(Leadership::default());
        let (standing_tx, standing) = watch::channel(Standing::default());
        let changes = Arc::new(Changes::new(
            raft.clone(),
            roster.clone(),
            settings.learners_max,
            settings.strict_reconfiguration,
            settings.election_timeout() * 2,
        ));
        let read_index = Arc::new(ReadIndex::new(
            leadership.clone(),
            applied_here,
            settings.election_timeout() * 2,
        ));
        let proposer = Proposer {
            waiters: waiters.clone(),
            room: Room::new(
                settings.writes_waiting_max,
                settings.write_bytes_waiting_max,
            ),
            wake: wake.clone(),
            leadership: leadership.clone(),
        };
        let core = Arc::new(Core {
            raft: raft.clone(),
            store,
            peers: peers.clone(),
            tls: doors.tls,
            guests: Guests::default(),
            contact: Contact::default(),
            pressure: pressure.clone(),
            snapshots: snapshots.clone(),
            changes: changes.clone(),
            read_index: read_index.clone(),
            leadership: leadership.clone(),
            stopping: CancellationToken::new(),
            proposer,
            standing,
            fenced: AtomicBool::new(false),
            delegate: ArcSwapOption::empty(),
            tasks: Mutex::default(),
            machine: machine.clone(),
        });

        let following = leadership::Follow {
            raft: raft.clone(),
            roster,
            contact: core.contact.clone(),
            election_timeout: settings.election_timeout(),
            expelled: peers.expelled(),
            leadership: leadership_tx,
            standing: standing_tx,
        };
        let followed = peers.clone();
        core.spawn(following.run(move || followed.follow_membership()));
        core.spawn(
            Courier {
                raft: raft.clone(),
                peers: peers.clone(),
                waiters,
                pressure,
                wake,
                leadership: leadership.clone(),
            }
            .run(),
        );
        let ask = AskLeader {
            raft: raft.clone(),
            peers,
            leadership: leadership.clone(),
        };
        core.spawn(read_index.run(ask));
        for listener in doors.listeners {
            core.spawn(receive::accept(core.clone(), listener));
        }
        let watched = Arc::downgrade(&core);
        core.spawn(guard::watch(
            raft.clone(),
            changes.clone(),
            flushes,
            leadership,
            settings.election_timeout(),
            move || watched.upgrade().is_some_and(|core| !core.is_fenced()),
        ));
        core.spawn(digest::watch(core.clone(), settings.digest_interval));
        core.spawn(async move { changes.promote_joining().await });
        let (made, log_bytes) = (raft, settings.snapshot_log_bytes);
        let made = move || {
            let raft = made.clone();
            async move {
                // openraft looks for itself what the newest snapshot is.
                let _ = raft.trigger().snapshot().await;
            }
        };
        let fenced = core.clone();
        let broken = move || {
            let core = fenced.clone();
            async move { core.fence().await }
        };
        core.spawn(snapshots.keep_making(machine, log_bytes, made, broken));
        if let (true, Start::Found(founders)) = (fresh, settings.start) {
            let time = Duration::from_millis(settings.election_timeout_ms);
            core.spawn(found(core.clone(), founders, time));
        }
        Ok(Self { core })
    }

    /// Proposes an encoded proposal and waits until it is committed and applied on this member, so that
    /// whoever asked can read here what it wrote. Works on every member.
    pub async fn propose(&self, record: Bytes, deadline: Instant) -> Result<Receipt, Unavailable> {
        self.core.check_serving()?;
        self.core.proposer.propose(&record, false, deadline).await
    }

    /// As [`Replica::propose`], for what frees space, keeps leases alive or keeps the cluster going: it has
    /// room of its own, and is taken when disks are full.
    pub async fn propose_urgent(
        &self,
        record: Bytes,
        deadline: Instant,
    ) -> Result<Receipt, Unavailable> {
        self.core.check_serving()?;
        self.core.proposer.propose(&record, true, deadline).await
    }

    /// Returns when this member's state holds everything that was acknowledged anywhere before the call.
    /// Works on every member, learners too. Answers with the applied position.
    pub async fn read_barrier(&self, deadline: Instant) -> Result<LogId, Unavailable> {
        self.core.check_serving()?;
        self.core.read_index.barrier(deadline).await
    }

    /// What this member knows about itself and the cluster.
    pub fn status(&self) -> Status {
        self.core.status()
    }

    /// The parts of the status that move seldom, to wait on.
    pub fn changed(&self) -> watch::Receiver<Standing> {
        self.core.standing.clone()
    }

    /// Adds a member that stays a learner until it is promoted. `id` must never have been used; see
    /// [`crate::identity::random_id`].
    pub async fn add_learner(
        &self,
        id: u64,
        peer_urls: Vec<String>,
        deadline: Instant,
    ) -> Result<(), MembershipError> {
        self.change(
            Change::Add {
                id,
                peer_urls,
                learner: true,
            },
            deadline,
        )
        .await
    }

    /// Adds a member that votes as soon as it has caught up.
    pub async fn add_voter(
        &self,
        id: u64,
        peer_urls: Vec<String>,
        deadline: Instant,
    ) -> Result<(), MembershipError> {
        self.change(
            Change::Add {
                id,
                peer_urls,
                learner: false,
            },
            deadline,
        )
        .await
    }

    /// Makes a learner a voter.
    pub async fn promote(&self, id: u64, deadline: Instant) -> Result<(), MembershipError> {
        self.change(Change::Promote(id), deadline).await
    }

    /// Removes a member for good. Its id is never used again.
    pub async fn remove(&self, id: u64, deadline: Instant) -> Result<(), MembershipError> {
        self.change(Change::Remove(id), deadline).await
    }

    /// Says where a member is reached from now on.
    pub async fn update(
        &self,
        id: u64,
        peer_urls: Vec<String>,
        deadline: Instant,
    ) -> Result<(), MembershipError> {
        self.change(Change::Update { id, peer_urls }, deadline)
            .await
    }

    /// Hands leadership to a voter and waits until it has it. Only the leader can.
    pub async fn transfer_leader(&self, to: u64, deadline: Instant) -> Result<(), MembershipError> {
        self.core.changes.transfer(to, deadline).await
    }

    /// Hands leadership to the voter whose log is furthest, if this member leads: so that stopping it costs no
    /// election. Does nothing on others and where there is nobody else.
    pub async fn step_down(&self, deadline: Instant) -> Result<(), MembershipError> {
        self.core.step_down(deadline).await
    }

    /// Asks the leader's [`Delegate`]; this member's own if it leads.
    pub async fn ask_leader(
        &self,
        method: u16,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Unavailable> {
        let now = *self.core.leadership.borrow();
        match now.leader {
            None => Err(Unavailable::NoLeader),
            Some(_) if now.here => self.core.ask_here(method, body, deadline).await,
            Some(leader) => {
                self.core
                    .ask_there(leader, true, method, body, deadline)
                    .await
            }
        }
    }

    /// Asks a member's [`Delegate`], whether it leads or not.
    pub async fn ask_member(
        &self,
        id: u64,
        method: u16,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Unavailable> {
        if id == self.core.id() {
            return self.core.ask_here(method, body, deadline).await;
        }
        self.core.ask_there(id, false, method, body, deadline).await
    }

    /// Sets who answers other members' questions here.
    pub fn set_delegate(&self, delegate: impl Delegate) {
        self.core.delegate.store(Some(Arc::new(Box::new(delegate))));
    }

    /// Makes a snapshot now, whatever the log's size, and waits until it is on disk.
    pub async fn snapshot(&self) -> Result<LogId, Fault> {
        let view = self.core.snapshots.view(&self.core.machine).await?;
        let made = self.core.snapshots.build(view).await?;
        let _ = self.core.raft.trigger().snapshot().await;
        Ok(made.snapshot.applied())
    }

    /// Stops taking part. Everybody who waits is told. The log and the state may be closed afterwards.
    pub async fn shutdown(&self) {
        self.core.shutdown().await;
    }

    async fn change(&self, change: Change, deadline: Instant) -> Result<(), MembershipError> {
        let at = self.core.change(change, deadline).await?;
        // So that who asked sees the new list here.
        let mut standing = self.changed();
        let seen = standing.wait_for(|standing| standing.membership_index >= at.index);
        match tokio::time::timeout_at(deadline, seen).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Unavailable::TimedOut(Delay::Apply).into()),
        }
    }
}

impl Core {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
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
        !self.is_fenced()
    }

    fn check_serving(&self) -> Result<(), Unavailable> {
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

    async fn step_down(&self, deadline: Instant) -> Result<(), MembershipError> {
        if !self.raft.is_leader() {
            return Ok(());
        }
        match self.changes.successor() {
            None => Ok(()),
            Some(to) => self.changes.transfer(to, deadline).await,
        }
    }

    fn status(&self) -> Status {
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

    async fn ask_there(
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
    async fn change(&self, change: Change, deadline: Instant) -> Result<LogId, MembershipError> {
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

    async fn shutdown(&self) {
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
    }
}

/// What a question that failed means to who asked.
fn unavailable(error: &CallError) -> Unavailable {
    match error {
        CallError::NotSent(_) | CallError::Lost => Unavailable::TimedOut(Delay::ConnectionLost),
        CallError::TimedOut => Unavailable::TimedOut(Delay::Plain),
        CallError::Refused(refusal) => match refusal.code() {
            RefusalCode::Stopped => Unavailable::LeaderChanged,
            code => Unavailable::from_wire(code),
        },
    }
}

/// Founds the cluster with the others that were given the same list. The first of them does it; the next ones
/// only if the first does not come, so that founders do not run against each other.
async fn found(core: Arc<Core>, founders: Vec<Founder>, election_timeout: Duration) {
    let own = core.id();
    let mut ids: Vec<u64> = founders.iter().map(|founder| founder.id).collect();
    ids.sort_unstable();
    let rank = ids.iter().position(|id| *id == own).unwrap_or_default();
    if rank > 0 {
        let patience = election_timeout * (1 + rank as u32);
        let wait = core.raft.wait(Some(patience));
        if wait
            .metrics(|metrics| metrics.last_log_index.is_some(), "founded")
            .await
            .is_ok()
        {
            return;
        }
    }
    let members: BTreeMap<u64, Address> = founders
        .into_iter()
        .map(
            |Founder {
                 id,
                 name,
                 peer_urls,
             }| {
                (
                    id,
                    Address {
                        name,
                        peer_urls,
                        joining: false,
                    },
                )
            },
        )
        .collect();
    match core.raft.initialize(members).await {
        Ok(()) => tracing::info!("founding the cluster"),
        // Somebody else was faster.
        Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
        Err(error) => tracing::error!(%error, "the cluster could not be founded"),
    }
}
