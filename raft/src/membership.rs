//! Changes of the membership: one at a time, on the leader, with etcd's checks and etcd's refusals.
//!
//! A new member is a learner first, whatever it is to become: a voter that has not caught up would stand in the
//! way of every commit. One that was added as a voter is promoted by the leader as soon as it is in sync; until
//! then it is marked as joining, and lists show it as the voter it is about to be.
//!
//! Changes are serialised and each is committed before the next begins; quick successions under elections are
//! where openraft is weakest (#1544).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meridian_domain::limits;
use meridian_domain::revision::LogId;
use meridian_proto::peer;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, Instant as _};
use tokio::time::{Instant, timeout_at};

use crate::metrics;
use crate::network::dial::PeerAddress;
use crate::network::roster::Roster;
use crate::status::Peer;
use crate::type_config::{self, Address, Raft};
use crate::unavailable::{Delay, Unavailable};

/// How far a learner's log may be behind to be promoted on request: nine tenths of the leader's, as etcd.
const IN_SYNC_PERCENT: u64 = 90;
/// How many entries a joining member may be behind to be promoted by itself.
const JOINING_LAG: u64 = 1_000;
/// How often joining members are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Why a change of the membership was not made. `Display` is etcd's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// No such member, now.
    #[error("etcdserver: member not found")]
    NotFound,
    /// The id is taken.
    #[error("etcdserver: member ID already exist")]
    IdExists,
    /// Another member is reached at the same URL.
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlExists,
    /// A URL can not be dialled.
    #[error("etcdserver: given member URLs are invalid")]
    InvalidUrls,
    /// As many learners as the settings allow.
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    /// As many members as a cluster can have.
    #[error("meridian: the cluster has as many members as it can have")]
    TooManyMembers,
    /// The member is a voter already.
    #[error("etcdserver: can only promote a learner member")]
    NotLearner,
    /// The learner's log is too far behind.
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    /// Too few voters would be left that have started.
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    /// Too few voters are connected.
    #[error("etcdserver: unhealthy cluster")]
    Unhealthy,
    /// Leadership can not go there: not a voter, or not a member.
    #[error("etcdserver: bad leader transferee")]
    BadTransferee,
    /// Leadership did not arrive in time.
    #[error("etcdserver: request timed out, leader transfer took too long")]
    TransferTimedOut,
    /// This member does not lead.
    #[error("etcdserver: not leader")]
    NotLeader,
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl MembershipError {
    const CODES: [Self; 13] = [
        Self::NotFound,
        Self::IdExists,
        Self::PeerUrlExists,
        Self::InvalidUrls,
        Self::TooManyLearners,
        Self::TooManyMembers,
        Self::NotLearner,
        Self::LearnerNotReady,
        Self::NotEnoughStarted,
        Self::Unhealthy,
        Self::BadTransferee,
        Self::TransferTimedOut,
        Self::NotLeader,
    ];

    /// The number members tell each other; zero is "no refusal".
    pub(crate) fn to_wire(self) -> u32 {
        let place = Self::CODES.iter().position(|code| *code == self);
        place.map_or(u32::MAX, |place| place as u32 + 1)
    }

    /// The way back.
    pub(crate) fn from_wire(code: u32) -> Self {
        let place = (code as usize).wrapping_sub(1);
        Self::CODES
            .get(place)
            .copied()
            .unwrap_or(Self::Unavailable(Unavailable::OutcomeUnknown))
    }
}

/// A change of the membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adds a member.
    Add {
        /// Its id, not used before.
        id: u64,
        /// Where the others reach it.
        peer_urls: Vec<String>,
        /// Whether it stays a learner.
        learner: bool,
    },
    /// Makes a learner a voter.
    Promote(u64),
    /// Removes a member for good.
    Remove(u64),
    /// Says where a member is reached from now on.
    Update {
        /// Which.
        id: u64,
        /// Where.
        peer_urls: Vec<String>,
    },
}

impl Change {
    /// As members send it.
    pub(crate) fn to_wire(&self, timeout_ms: u64) -> peer::MembershipChange {
        use peer::membership_change::Change as Wire;
        let peer = |id: u64, peer_urls: &[String]| peer::Peer {
            id,
            peer_urls: peer_urls.to_vec(),
            ..peer::Peer::default()
        };
        let change = match self {
            Self::Add {
                id,
                peer_urls,
                learner,
            } => Wire::Add(peer::AddMember {
                peer: Some(peer(*id, peer_urls)),
                learner: *learner,
            }),
            Self::Promote(id) => Wire::Promote(*id),
            Self::Remove(id) => Wire::Remove(*id),
            Self::Update { id, peer_urls } => Wire::Update(peer(*id, peer_urls)),
        };
        peer::MembershipChange {
            change: Some(change),
            timeout_ms,
        }
    }

    /// The way back; none if it says nothing.
    pub(crate) fn from_wire(change: peer::MembershipChange) -> Option<Self> {
        use peer::membership_change::Change as Wire;
        Some(match change.change? {
            Wire::Add(add) => {
                let peer = add.peer?;
                Self::Add {
                    id: peer.id,
                    peer_urls: peer.peer_urls,
                    learner: add.learner,
                }
            }
            Wire::Promote(id) => Self::Promote(id),
            Wire::Remove(id) => Self::Remove(id),
            Wire::Update(peer) => Self::Update {
                id: peer.id,
                peer_urls: peer.peer_urls,
            },
        })
    }
}

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
        let result = timeout_at(deadline, self.check_and_submit(change))
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

    async fn check_and_submit(&self, change: Change) -> Result<LogId, MembershipError> {
        if !self.raft.is_leader() {
            return Err(MembershipError::NotLeader);
        }
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

    // ---- etcd's checks ----------------------------------------------------------------------

    fn check_add(
        &self,
        peers: &[Peer],
        id: u64,
        peer_urls: &[String],
        learner: bool,
    ) -> Result<(), MembershipError> {
        if peer_urls.is_empty() || peer_urls.iter().any(|url| PeerAddress::parse(url).is_err()) {
            return Err(MembershipError::InvalidUrls);
        }
        if taken(peers, peer_urls, id) {
            return Err(MembershipError::PeerUrlExists);
        }
        if id == 0 || peers.iter().any(|peer| peer.id == id) {
            return Err(MembershipError::IdExists);
        }
        if peers.len() >= limits::MEMBERS_MAX {
            return Err(MembershipError::TooManyMembers);
        }
        if learner && peers.iter().filter(|peer| peer.learner).count() >= self.learners_max {
            return Err(MembershipError::TooManyLearners);
        }
        if self.strict && !learner {
            self.check_started(peers, None, None)?;
            self.check_connected(peers)?;
        }
        Ok(())
    }

    fn check_promote(&self, peers: &[Peer], id: u64) -> Result<(), MembershipError> {
        let peer = peers
            .iter()
            .find(|peer| peer.id == id)
            .ok_or(MembershipError::NotFound)?;
        if !peer.learner {
            return Err(MembershipError::NotLearner);
        }
        let (matched, last) = self.matched(id);
        if matched.saturating_mul(100) < last.saturating_mul(IN_SYNC_PERCENT) {
            return Err(MembershipError::LearnerNotReady);
        }
        if self.strict {
            self.check_started(peers, None, Some(id))?;
        }
        Ok(())
    }

    fn check_remove(&self, peers: &[Peer], id: u64) -> Result<Peer, MembershipError> {
        let peer = peers
            .iter()
            .find(|peer| peer.id == id)
            .ok_or(MembershipError::NotFound)?;
        let voters: Vec<&Peer> = peers.iter().filter(|peer| peer.voter).collect();
        if peer.voter && voters.len() == 1 {
            return Err(MembershipError::NotEnoughStarted);
        }
        if self.strict && peer.voter {
            self.check_started(peers, Some(id), None)?;
            let connected = self.connected();
            let alive = |peer: &&&Peer| connected.contains(&peer.id);
            // One that is down may go: it makes the quorum smaller and takes nothing away.
            if connected.contains(&id) {
                let left = voters
                    .iter()
                    .filter(alive)
                    .filter(|peer| peer.id != id)
                    .count();
                if left < (voters.len() - 1) / 2 + 1 {
                    return Err(MembershipError::Unhealthy);
                }
            }
        }
        Ok(peer.clone())
    }

    /// Whether, of the voters without one and with another, a majority has started.
    #[expect(clippy::unused_self, reason = "one of the checks")]
    fn check_started(
        &self,
        peers: &[Peer],
        without: Option<u64>,
        with: Option<u64>,
    ) -> Result<(), MembershipError> {
        let voters = peers.iter().filter(|peer| {
            (peer.voter || Some(peer.id) == with || !peer.learner) && Some(peer.id) != without
        });
        let (mut all, mut started) = (0, 0);
        for voter in voters {
            all += 1;
            started += usize::from(voter.started || Some(voter.id) == with);
        }
        if all == 1 && started == 1 && without.is_none() {
            return Ok(());
        }
        if started < all / 2 + 1 {
            Err(MembershipError::NotEnoughStarted)
        } else {
            Ok(())
        }
    }

    fn check_connected(&self, peers: &[Peer]) -> Result<(), MembershipError> {
        let connected = self.connected();
        let all = peers
            .iter()
            .filter(|p| p.voter)
            .all(|peer| connected.contains(&peer.id));
        if all {
            Ok(())
        } else {
            Err(MembershipError::Unhealthy)
        }
    }

    /// Who answered lately, this member included.
    fn connected(&self) -> BTreeSet<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let mut connected: BTreeSet<u64> = metrics
            .heartbeat
            .iter()
            .flatten()
            .filter(|(_, at)| at.is_some_and(|at| at.elapsed() <= self.connected_within))
            .map(|(id, _)| *id)
            .collect();
        connected.insert(metrics.id);
        connected
    }

    /// How far a member's log matches the leader's, and how far the leader's goes.
    fn matched(&self, id: u64) -> (u64, u64) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let matched = metrics
            .replication
            .as_ref()
            .and_then(|all| all.get(&id).copied().flatten());
        let last = metrics.last_log_index.map_or(0, |index| index + 1);
        (type_config::to_domain_or_zero(matched.as_ref()).index, last)
    }

    // ---- leadership -------------------------------------------------------------------------

    /// Hands leadership to a voter and waits until it has it.
    pub async fn transfer(&self, to: u64, deadline: Instant) -> Result<(), MembershipError> {
        if !self.raft.is_leader() {
            return Err(MembershipError::NotLeader);
        }
        let voter = self
            .roster
            .peers()
            .iter()
            .any(|peer| peer.id == to && peer.voter);
        if !voter {
            return Err(MembershipError::BadTransferee);
        }
        if to == self.roster.identity().member_id {
            return Ok(());
        }
        let _one = timeout_at(deadline, self.one.lock())
            .await
            .map_err(|_| MembershipError::TransferTimedOut)?;
        let stopped = |_| MembershipError::Unavailable(Unavailable::Stopped);
        self.raft
            .trigger()
            .transfer_leader(to)
            .await
            .map_err(stopped)?;
        let mut server = self.raft.server_metrics();
        let arrived = async {
            loop {
                if server.borrow_watched().current_leader == Some(to) {
                    return;
                }
                if server.changed().await.is_err() {
                    return;
                }
            }
        };
        timeout_at(deadline, arrived)
            .await
            .map_err(|_| MembershipError::TransferTimedOut)
    }

    /// The voter whose log is furthest, of those that answered lately.
    pub fn successor(&self) -> Option<u64> {
        let connected = self.connected();
        let own = self.roster.identity().member_id;
        let voters: Vec<u64> = self.roster.membership().voter_ids().collect();
        voters
            .into_iter()
            .filter(|id| *id != own && connected.contains(id))
            .max_by_key(|id| self.matched(*id).0)
    }

    /// Whether a majority of the other voters has more on disk than `index`.
    pub fn others_are_ahead(&self, index: u64) -> bool {
        let own = self.roster.identity().member_id;
        let others: Vec<u64> = self
            .roster
            .membership()
            .voter_ids()
            .filter(|id| *id != own)
            .collect();
        let ahead = others
            .iter()
            .filter(|id| self.matched(**id).0 > index)
            .count();
        !others.is_empty() && ahead > others.len() / 2
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
}

impl Changes {
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

/// Whether somebody else is reached at one of the URLs.
fn taken(peers: &[Peer], peer_urls: &[String], id: u64) -> bool {
    peers
        .iter()
        .filter(|peer| peer.id != id)
        .any(|peer| peer.peer_urls.iter().any(|url| peer_urls.contains(url)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn refusals_survive_the_wire() {
        for error in MembershipError::CODES {
            assert_ne!(error.to_wire(), 0);
            assert_eq!(MembershipError::from_wire(error.to_wire()), error);
        }
        let unknown = MembershipError::from_wire(99);
        assert!(matches!(unknown, MembershipError::Unavailable(_)));
    }

    #[test]
    fn changes_survive_the_wire() {
        let urls = vec!["http://a:1".to_owned()];
        for change in [
            Change::Add {
                id: 1,
                peer_urls: urls.clone(),
                learner: true,
            },
            Change::Promote(2),
            Change::Remove(3),
            Change::Update {
                id: 4,
                peer_urls: urls,
            },
        ] {
            assert_eq!(Change::from_wire(change.to_wire(5)).unwrap(), change);
        }
        assert!(Change::from_wire(peer::MembershipChange::default()).is_none());
    }
}
