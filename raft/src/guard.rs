//! Gray failures: a leader whose disk stands still while its network is well.
//!
//! Such a leader keeps everybody from electing another and commits nothing. So a heartbeat has to stand for the
//! disk too: when something has waited for the disk longer than an election timeout, while a majority of the
//! others has it on theirs, the leader hands leadership to the voter whose log is furthest and falls silent, in
//! case that does not arrive. Where the others' disks stand still as well (they may be the same), nobody could
//! do better, and an election would only add to the load. A member whose disk stands still does not campaign.
//! When the disk moves again, all is as before.
//!
//! A disk that moves but takes more than half an election timeout for every flush, over three of them, makes a
//! leader hand over too, under the same condition.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::leadership::Leadership;
use crate::log_store::Flushes;
use crate::membership::Changes;
use crate::metrics;
use crate::type_config::Raft;

/// How long to wait before handing over again because of a slow disk.
const SLOW_PAUSE: Duration = Duration::from_secs(30);

/// Watches the disk of the log until the member stops.
pub async fn watch(
    raft: Raft,
    changes: Arc<Changes>,
    flushes: Arc<Flushes>,
    leadership: tokio::sync::watch::Receiver<Leadership>,
    election_timeout: Duration,
    may_campaign: impl Fn() -> bool + Send,
) {
    let mut stands_still = false;
    let mut silent = false;
    let mut slow_since: Option<Instant> = None;
    let mut handed_over: Option<Instant> = None;
    loop {
        tokio::time::sleep(election_timeout / 8).await;
        let leads = leadership.borrow().here;
        let stalled = flushes.stalled();
        if stalled > election_timeout {
            if !stands_still {
                tracing::warn!(
                    stalled_ms = stalled.as_millis() as u64,
                    "the disk of the log makes no progress; this member does not campaign"
                );
                stands_still = true;
                raft.runtime_config().elect(false);
            }
            if leads && !silent && changes.others_are_ahead(flushes.flushed()) {
                tracing::error!(
                    stalled_ms = stalled.as_millis() as u64,
                    "the disk of the log makes no progress, others' do; this member gives up leading"
                );
                silent = true;
                metrics::STEPPED_DOWN_FOR_DISK.inc();
                hand_over(&raft, &changes).await;
                raft.runtime_config().heartbeat(false);
            }
            continue;
        }
        if stands_still {
            tracing::info!("the disk of the log makes progress again");
            stands_still = false;
        }
        if silent {
            silent = false;
            raft.runtime_config().heartbeat(true);
        }
        raft.runtime_config().elect(may_campaign());
        let slow = leads && flushes.smoothed() > election_timeout / 2;
        slow_since = if slow {
            slow_since.or_else(|| Some(Instant::now()))
        } else {
            None
        };
        let long = slow_since.is_some_and(|since| since.elapsed() > election_timeout * 3);
        let again = handed_over.is_none_or(|at| at.elapsed() > SLOW_PAUSE);
        if long && again && changes.others_are_ahead(flushes.flushed()) {
            tracing::warn!(
                flush_ms = flushes.smoothed().as_millis() as u64,
                "the disk of the log is slow; this member hands leadership over"
            );
            metrics::STEPPED_DOWN_FOR_DISK.inc();
            handed_over = Some(Instant::now());
            hand_over(&raft, &changes).await;
        }
    }
}

async fn hand_over(raft: &Raft, changes: &Changes) {
    if let Some(to) = changes.successor() {
        // openraft stops meanwhile or it does not: nothing to do about it here.
        let _ = raft.trigger().transfer_leader(to).await;
    }
}
