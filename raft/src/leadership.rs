//! Who leads, as this member can know it.
//!
//! openraft tells whom this member voted for or follows; that the leader is alive is another matter. A
//! follower knows it from the leader's last message, a leader from the last quorum that answered. After an
//! election timeout without either, there is no leader as far as anybody should rely on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{Instant as _, ServerState};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::metrics;
use crate::network::roster::Roster;
use crate::status::{Expelled, Standing};
use crate::type_config::{self, Raft};

/// The leader of a term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader, as openraft follows it; it may have gone silent.
    pub leader: Option<u64>,
    /// The term.
    pub term: u64,
    /// Whether it is this member.
    pub here: bool,
}

/// When the leader was last heard of. Shared with who receives from it.
#[derive(Clone, Default)]
pub struct Contact(Arc<Mutex<Option<(u64, Instant)>>>);

impl Contact {
    /// A message of the leader of a term arrived.
    pub fn heard(&self, term: u64) {
        *self.0.lock() = Some((term, Instant::now()));
    }

    /// Whether the leader of a term was heard of within so long.
    pub fn within(&self, term: u64, time: Duration) -> bool {
        self.0
            .lock()
            .is_some_and(|(of, at)| of == term && at.elapsed() <= time)
    }
}

/// Follows openraft and tells everybody who leads.
pub struct Follow {
    /// openraft.
    pub raft: Raft,
    /// Is given the newest membership.
    pub roster: Roster,
    /// When the leader was heard of.
    pub contact: Contact,
    /// How long that counts, about.
    pub election_timeout: Duration,
    /// Whether the others refuse this member.
    pub expelled: watch::Receiver<Option<Expelled>>,
    /// Whether this member fenced itself.
    pub fenced: Arc<AtomicBool>,
    /// Told who leads.
    pub leadership: watch::Sender<Leadership>,
    /// Told the rest.
    pub standing: watch::Sender<Standing>,
}

impl Follow {
    /// Follows until openraft stops. `membership_moved` is called after the roster has a new membership.
    pub async fn run(self, membership_moved: impl Fn() + Send + 'static) {
        let Self {
            raft,
            roster,
            contact,
            election_timeout,
            expelled,
            fenced,
            leadership,
            standing,
        } = self;
        let mut server = raft.server_metrics();
        let mut led_by: Option<u64> = None;
        let id = roster.identity().member_id;
        // What it published of itself is forgotten only after it was removed.
        let mut belonged = roster.is_published(id);
        let mut removed = false;
        let mut ended = false;
        loop {
            let (now, membership, learner) = {
                let metrics = server.borrow_watched();
                let leader = metrics.current_leader;
                let here = leader == Some(id) && metrics.state == ServerState::Leader;
                let now = Leadership {
                    leader,
                    term: metrics.vote.leader_id().term,
                    here,
                };
                let learner = metrics.state == ServerState::Learner;
                (now, metrics.membership_config.clone(), learner)
            };
            // Until openraft has looked at its log it tells of no membership: that is no news.
            let told = membership.log_id().is_some();
            if told && roster.membership().log_id() != membership.log_id() {
                roster.update(membership);
                membership_moved();
            }
            leadership.send_if_modified(|was| {
                let moved = *was != now;
                *was = now;
                moved
            });
            let committed = raft.data_metrics().borrow_watched().local_committed;
            let committed = type_config::to_domain_or_zero(committed.as_ref()).index;
            metrics::PROPOSALS_COMMITTED.set(committed as i64);
            let (broken, quorum_age) = {
                let all = raft.metrics();
                let all = all.borrow_watched();
                let age = all.last_quorum_acked.map(|at| at.elapsed());
                (
                    all.running_state.as_ref().err().map(ToString::to_string),
                    age,
                )
            };
            // A panic in openraft ends it without a state that says so.
            let broken = broken.or_else(|| ended.then(|| "openraft ended; see the log".into()));
            // A single voter is its own quorum and is not asked.
            let alone = roster.membership().voter_ids().count() <= 1;
            let alive = if now.here {
                alone || quorum_age.is_some_and(|age| age <= election_timeout * 2)
            } else {
                now.leader.is_some() && contact.within(now.term, election_timeout * 2)
            };
            let belongs = roster.membership().membership().get_node(&id).is_some();
            // A change that is not committed may still be taken back: see `eviction`.
            let certain = committed >= roster.membership_index();
            removed |= told && belonged && !belongs && certain;
            belonged |= belongs;
            let leader = now.leader.filter(|_| alive && broken.is_none());
            if leader.is_some() && leader != led_by {
                if led_by.is_some() || metrics::HAS_LEADER.get() == 1 {
                    metrics::LEADER_CHANGES.inc();
                }
                tracing::info!(
                    leader = format_args!("{:x}", leader.unwrap_or_default()),
                    term = now.term,
                    "a leader is known"
                );
                led_by = leader;
            }
            metrics::HAS_LEADER.set(i64::from(leader.is_some()));
            metrics::IS_LEADER.set(i64::from(now.here && alive));
            metrics::IS_LEARNER.set(i64::from(learner));
            standing.send_if_modified(|was| {
                let mut is = was.clone();
                is.leader = leader;
                is.term = now.term;
                is.is_leader = now.here && leader.is_some();
                is.membership_index = roster.membership_index();
                is.broken.clone_from(&broken);
                let seen = removed.then_some(Expelled::Removed);
                is.expelled = expelled.borrow().or(seen);
                is.fenced = fenced.load(Ordering::Acquire);
                let moved = *was != is;
                *was = is;
                moved
            });
            if broken.is_some() {
                leadership.send_replace(Leadership {
                    leader: None,
                    term: now.term,
                    here: false,
                });
                return;
            }
            let pause = election_timeout / 4;
            tokio::select! {
                changed = server.changed() => {
                    ended = changed.is_err();
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}
