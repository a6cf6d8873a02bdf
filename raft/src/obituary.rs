//! A leader whose process is gone is replaced at once, not after a timeout.
//!
//! When a process dies the kernel ends its connections and its address refuses new ones. That is proof as far
//! as one member can see; but a network between only two members can look the same, and deposing a leader the
//! others can reach well would start a quarrel without end. So:
//!
//! ```text
//! the leader's heartbeat connection ends
//!   -> its address refuses a new one?                          no: wait for the timeout, as ever
//!   -> do enough others see the same to make a majority?       no: likewise
//!   -> is my log the furthest of those who agree?              no: somebody else will run
//!   -> run, as if the leader had handed leadership over: the voters need not wait for its lease to end
//! ```
//!
//! Safety does not depend on any of this: it is an ordinary election, begun early. Leases guard no reads here.

use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use meridian_domain::revision::LogId;
use meridian_proto::peer::{self, Lane, envelope::Body};
use openraft::raft::TransferLeaderRequest;
use tokio::time::Instant;

use crate::form;
use crate::replica::Core;
use crate::type_config::to_raft;

/// How long the whole inquiry may take.
const INQUIRY: Duration = Duration::from_millis(300);
/// A process that is ending may close its connections a moment before its address.
const CLOSING: Duration = Duration::from_millis(5);
/// How often the address is tried.
const TRIES: usize = 8;

impl Core {
    /// The heartbeat connection of a member ended. If it led, it may be time for another leader.
    pub fn bereaved(self: &std::sync::Arc<Self>, member: u64) {
        let now = *self.leadership.borrow();
        if now.leader != Some(member) || now.here || self.stopping.is_cancelled() {
            return;
        }
        let core = self.clone();
        tokio::spawn(async move {
            let inquiry = core.inquire(member, now.term);
            if tokio::time::timeout(INQUIRY, inquiry).await.is_err() {
                tracing::debug!("nothing certain is known about the leader");
            }
        });
    }

    /// Whether, as far as this member can see, the process of its leader is gone.
    pub async fn is_leader_gone(&self, leader: u64, term: u64) -> bool {
        let now = *self.leadership.borrow();
        if now.leader != Some(leader) || now.term != term || now.here {
            return false;
        }
        let Some(link) = self.peers.link_of(leader) else {
            return false;
        };
        for _ in 0..TRIES {
            let deadline = Instant::now() + INQUIRY;
            let connected = self.guests.has(leader, Lane::Heartbeat);
            if !connected && self.peers.is_gone(&link, deadline).await {
                return true;
            }
            tokio::time::sleep(CLOSING).await;
        }
        false
    }

    async fn inquire(&self, leader: u64, term: u64) {
        if !self.is_leader_gone(leader, term).await || !self.may_campaign() {
            return;
        }
        let own = self.peers.roster().identity().member_id;
        let membership = self.peers.roster().membership();
        let voters: Vec<u64> = membership.voter_ids().collect();
        if !voters.contains(&own) {
            return;
        }
        let mut asked: FuturesUnordered<_> = voters
            .iter()
            .filter(|id| **id != own && **id != leader)
            .map(|id| self.ask_about(*id, leader, term))
            .collect();
        let furthest = (self.last_log_id(), own);
        let mut agreed = vec![own];
        while let Some(answer) = asked.next().await {
            let Some((id, last)) = answer else { continue };
            if (last, id) > furthest {
                // It sees the same and is further: it will run.
                return;
            }
            agreed.push(id);
        }
        // While two sets of voters change over, each must agree.
        let enough = membership
            .membership()
            .get_joint_config()
            .iter()
            .all(|set| set.iter().filter(|id| agreed.contains(id)).count() > set.len() / 2);
        if enough {
            self.run_early(leader, term).await;
        }
    }

    async fn ask_about(&self, id: u64, leader: u64, term: u64) -> Option<(u64, LogId)> {
        let link = self.peers.link_of(id)?;
        let body = Body::Obituary(peer::Obituary { leader, term });
        let deadline = Instant::now() + INQUIRY;
        let answer = self
            .peers
            .call(&link, Lane::Heartbeat, body, deadline)
            .await;
        match answer {
            Ok(Body::ObituaryReply(reply)) if reply.gone => {
                Some((id, form::parse_log_id(reply.last_log_id.as_ref())))
            }
            _ => None,
        }
    }

    async fn run_early(&self, leader: u64, term: u64) {
        let vote = self.raft.with_raft_state(|state| *state.vote_ref()).await;
        let Ok(vote) = vote else { return };
        if vote.leader_id().term != term || vote.leader_id().voted_for != leader {
            return;
        }
        tracing::info!(
            leader = format_args!("{leader:x}"),
            term,
            "the leader's process is gone, as a majority sees it; running for leader"
        );
        let own = self.peers.roster().identity().member_id;
        let request = TransferLeaderRequest::new(vote, own, to_raft(self.last_log_id()));
        match self.raft.handle_transfer_leader(request).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "did not run for leader"),
            Err(error) => tracing::debug!(%error, "did not run for leader"),
        }
    }
}
