//! Who leads next: handing leadership over, and to whom.

use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::{Instant, timeout_at};

use crate::membership::{Changes, MembershipError};
use crate::unavailable::Unavailable;

impl Changes {
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
}
