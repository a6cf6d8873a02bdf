//! A member that finds itself left out of the cluster asks the others whether it is so.
//!
//! A leader stops speaking to a member it removed, often before that member learns that its removal is committed; and
//! a removal that is not committed may be taken back by the next leader. So the member decides nothing by itself: it
//! dials the others until one that knows says it was removed ([`Peers::call_upon`]), or a leader is heard again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::network::lanes::Peers;

/// Asks every so often, while this member is left out, until it knows.
pub async fn watch(peers: Arc<Peers>, pause: Duration) {
    let expelled = peers.expelled();
    loop {
        tokio::time::sleep(pause).await;
        if expelled.borrow().is_some() {
            return;
        }
        let roster = peers.roster();
        let id = roster.identity().member_id;
        let membership = roster.membership();
        let told = membership.log_id().is_some();
        if !told || membership.membership().get_node(&id).is_some() {
            continue;
        }
        let voters: Vec<u64> = membership.voter_ids().collect();
        for voter in voters {
            if let Some(link) = peers.link_of(voter) {
                peers.call_upon(&link, Instant::now() + pause).await;
            }
        }
    }
}
