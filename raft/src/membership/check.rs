//! etcd's checks: a change that would leave too few members that work is refused before it is proposed.

use std::collections::BTreeSet;

use meridian_domain::limits;
use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver as _;

use crate::membership::{Changes, MembershipError};
use crate::network::dial::PeerAddress;
use crate::status::Peer;
use crate::type_config;

/// How far a learner's log may be behind to be promoted on request: nine tenths of the leader's, as etcd.
const IN_SYNC_PERCENT: u64 = 90;

impl Changes {
    pub(super) fn check_add(
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

    pub(super) fn check_promote(&self, peers: &[Peer], id: u64) -> Result<(), MembershipError> {
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

    pub(super) fn check_remove(&self, peers: &[Peer], id: u64) -> Result<Peer, MembershipError> {
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
    pub(super) fn check_started(
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

    pub(super) fn check_connected(&self, peers: &[Peer]) -> Result<(), MembershipError> {
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
    pub(super) fn connected(&self) -> BTreeSet<u64> {
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
    pub(super) fn matched(&self, id: u64) -> (u64, u64) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let matched = metrics
            .replication
            .as_ref()
            .and_then(|all| all.get(&id).copied().flatten());
        let last = metrics.last_log_index.map_or(0, |index| index + 1);
        (type_config::to_domain_or_zero(matched.as_ref()).index, last)
    }
}

/// Whether somebody else is reached at one of the URLs.
pub(super) fn taken(peers: &[Peer], peer_urls: &[String], id: u64) -> bool {
    peers
        .iter()
        .filter(|peer| peer.id != id)
        .any(|peer| peer.peer_urls.iter().any(|url| peer_urls.contains(url)))
}
