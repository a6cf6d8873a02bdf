//! Changes of the membership: one at a time, on the leader, with etcd's checks and etcd's refusals.
//!
//! A new member is a learner first, whatever it is to become: a voter that has not caught up would stand in the
//! way of every commit. One that was added as a voter is promoted by the leader as soon as it is in sync; until
//! then it is marked as joining, and lists show it as the voter it is about to be.
//!
//! Changes are serialised and each is committed before the next begins; quick successions under elections are
//! where openraft is weakest (#1544).

mod change;
mod check;
mod leader;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meridian_domain::revision::LogId;
use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use tokio::time::{Instant, timeout_at};

use crate::metrics;
use crate::network::roster::Roster;
use crate::type_config::{self, Address, Raft};
use crate::unavailable::{Delay, Unavailable};

pub use self::change::{Change, MembershipError};
use self::check::taken;

/// How many entries a joining member may be behind to be promoted by itself.
const JOINING_LAG: u64 = 1_000;
/// How often joining members are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Makes changes, on the leader.
pub struct Changes {
    raft: Raft,
    roster: Roster,
    learners_max: usize,
    strict: bool,
    connected_within: Duration,
    one: tokio::sync::Mutex<()>,
}

impl Changes {
    /// Ready to make changes whenever this member leads.
    pub fn new(
        raft: Raft,
        roster: Roster,
        learners_max: usize,
        strict: bool,
        connected_within: Duration,
    ) -> Self {
        Self {
            raft,
            roster,
            learners_max,
            strict,
            connected_within,
            one: tokio::sync::Mutex::default(),
        }
    }

    /// Makes a change and waits until it is committed. Answers with where it stands in the log.
    pub async fn make(&self, change: Change, deadline: Instant) -> Result<LogId, MembershipError> {
        let late = |_| MembershipError::Unavailable(Unavailable::TimedOut(Delay::Plain));
        let _one = timeout_at(deadline, self.one.lock()).await.map_err(late)?;
        let promotes = matches!(change, Change::Promote(_));
        let result = timeout_at(deadline, self.try_for_a_while(change))
            .await
            .map_err(late)?;
        if promotes {
            match &result {
                Ok(_) => metrics::LEARNER_PROMOTIONS.inc(),
                Err(_) => metrics::LEARNER_PROMOTIONS_FAILED.inc(),
            }
        }
        result
    }

    /// A leader that just began has not heard of everybody yet: being unhealthy has to last to count.
    async fn try_for_a_while(&self, change: Change) -> Result<LogId, MembershipError> {
        let began = Instant::now();
        loop {
            match self.check_and_submit(change.clone()).await {
                Err(MembershipError::Unhealthy) if began.elapsed() < self.connected_within => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                result => return result,
            }
        }
    }

    async fn check_and_submit(&self, change: Change) -> Result<LogId, MembershipError> {
        if !self.raft.is_leader() {
            return Err(MembershipError::NotLeader);
        }
        self.catch_up().await;
        let peers = self.roster.peers();
        match change {
            Change::Add {
                id,
                peer_urls,
                learner,
            } => {
                self.check_add(&peers, id, &peer_urls, learner)?;
                let address = Address {
                    name: String::new(),
                    peer_urls,
                    joining: !learner,
                };
                self.submit(ChangeMembers::AddNodes(BTreeMap::from([(id, address)])))
                    .await
            }
            Change::Promote(id) => {
                self.check_promote(&peers, id)?;
                self.submit(ChangeMembers::AddVoterIds(BTreeSet::from([id])))
                    .await
            }
            Change::Remove(id) => {
                let peer = self.check_remove(&peers, id)?;
                let ids = BTreeSet::from([id]);
                let change = if peer.voter {
                    ChangeMembers::RemoveVoters(ids)
                } else {
                    ChangeMembers::RemoveNodes(ids)
                };
                self.submit(change).await
            }
            Change::Update { id, peer_urls } => {
                let membership = self.roster.membership();
                let address = membership.membership().get_node(&id);
                let address = address.ok_or(MembershipError::NotFound)?;
                if taken(&peers, &peer_urls, id) {
                    return Err(MembershipError::PeerUrlExists);
                }
                let address = Address {
                    peer_urls,
                    ..address.clone()
                };
                self.submit(ChangeMembers::SetNodes(BTreeMap::from([(id, address)])))
                    .await
            }
        }
    }

    /// What the others published counts as soon as it is committed: applies that first.
    async fn catch_up(&self) {
        let committed = self
            .raft
            .metrics()
            .borrow_watched()
            .local_committed
            .map(|id| id.index());
        let wait = self.raft.wait(Some(Duration::from_secs(1)));
        if wait
            .applied_index_at_least(committed, "what was committed")
            .await
            .is_err()
        {
            tracing::debug!("a change of the membership is checked on an older state");
        }
    }

    async fn submit(&self, change: ChangeMembers<u64, Address>) -> Result<LogId, MembershipError> {
        loop {
            let error = match self.raft.change_membership(change.clone(), false).await {
                Ok(done) => return Ok(type_config::to_domain(&done.log_id)),
                Err(RaftError::Fatal(_)) => return Err(Unavailable::Stopped.into()),
                Err(RaftError::APIError(error)) => error,
            };
            match error {
                ClientWriteError::ForwardToLeader(_) => return Err(MembershipError::NotLeader),
                ClientWriteError::ChangeMembershipError(
                    ChangeMembershipError::InProgress(_)
                    | ChangeMembershipError::UncommittedLeaderLog(_),
                ) => tokio::time::sleep(Duration::from_millis(10)).await,
                ClientWriteError::ChangeMembershipError(
                    ChangeMembershipError::LearnerNotFound(_),
                ) => return Err(MembershipError::NotFound),
                ClientWriteError::ChangeMembershipError(error) => {
                    tracing::warn!(%error, "openraft refuses a change of the membership");
                    return Err(MembershipError::NotEnoughStarted);
                }
                ClientWriteError::LogEntryDiscarded(_)
                | ClientWriteError::PreconditionFailed(_) => {
                    return Err(Unavailable::OutcomeUnknown.into());
                }
            }
        }
    }

    /// Promotes members that were added as voters as soon as they have caught up, whenever this member
    /// leads, for as long as it lives.
    pub async fn promote_joining(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            if !self.raft.is_leader() {
                continue;
            }
            let membership = self.roster.membership();
            if membership.membership().get_joint_config().len() > 1 {
                self.finish_joint().await;
                continue;
            }
            let voters: BTreeSet<u64> = membership.voter_ids().collect();
            let connected = self.connected();
            let ready = membership
                .membership()
                .nodes()
                .filter(|(id, address)| address.joining && !voters.contains(id))
                .map(|(id, _)| *id)
                .find(|id| {
                    let (matched, last) = self.matched(*id);
                    connected.contains(id) && matched > 0 && matched + JOINING_LAG >= last
                });
            let Some(id) = ready else { continue };
            let _one = self.one.lock().await;
            let change = ChangeMembers::AddVoterIds(BTreeSet::from([id]));
            let time = Duration::from_secs(10);
            match tokio::time::timeout(time, self.submit(change)).await {
                Ok(Ok(_)) => {
                    metrics::LEARNER_PROMOTIONS.inc();
                    tracing::info!(
                        member = format_args!("{id:x}"),
                        "a new member caught up and votes"
                    );
                }
                Ok(Err(error)) => {
                    metrics::LEARNER_PROMOTIONS_FAILED.inc();
                    tracing::warn!(member = format_args!("{id:x}"), %error, "a new member was not promoted");
                }
                Err(_) => metrics::LEARNER_PROMOTIONS_FAILED.inc(),
            }
        }
    }

    /// Completes a change whose second half was never proposed, because its leader was lost in between.
    async fn finish_joint(&self) {
        // Held while a change is under way here: then its second half comes by itself.
        let Ok(_one) = self.one.try_lock() else {
            return;
        };
        let change = ChangeMembers::AddVoterIds(BTreeSet::new());
        match tokio::time::timeout(Duration::from_secs(10), self.submit(change)).await {
            Ok(Ok(at)) => tracing::info!(%at, "completed a change of the membership"),
            Ok(Err(error)) => tracing::warn!(%error, "a change of the membership is half done"),
            Err(_) => tracing::warn!("a change of the membership is half done"),
        }
    }
}
