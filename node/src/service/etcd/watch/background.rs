//! What runs beside the streams: one dispatcher per tenant that is watched, one task that looks for the leader, and
//! one that looks whether rules moved.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use meridian_storage::watch::Hub;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use super::Shared;
use super::source::{Member, Seen};

/// After so many checks in a row without a leader, streams that need one end: etcd's number.
const LEADERLESS_CHECKS_MAX: u32 = 3;
/// How often it is looked whether rules moved.
const RULES_INTERVAL: Duration = Duration::from_millis(200);
/// Reads of history that run at a time, over all streams.
const READS_MAX: usize = 2;

/// The state of what runs beside the streams.
pub(super) struct Background {
    hubs: Mutex<Vec<Weak<Hub>>>,
    running: AtomicBool,
    stopped: AtomicBool,
    /// How often the leader was lost for good.
    losses: AtomicU64,
    term: AtomicU64,
    /// Lets [`READS_MAX`] streams read history.
    pub(super) reads: Arc<Semaphore>,
    /// Streams that read history, or want to.
    pub(super) readers: Arc<AtomicUsize>,
}

impl Default for Background {
    fn default() -> Self {
        Self {
            hubs: Mutex::default(),
            running: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            losses: AtomicU64::new(0),
            term: AtomicU64::new(0),
            reads: Arc::new(Semaphore::new(READS_MAX)),
            readers: Arc::default(),
        }
    }
}

impl Background {
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.wake_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Moves each time there was no leader for [`LEADERLESS_CHECKS_MAX`] checks.
    pub(super) fn losses(&self) -> u64 {
        self.losses.load(Ordering::SeqCst)
    }

    /// The term for headers; as old as the last check at most.
    pub(super) fn term(&self) -> u64 {
        self.term.load(Ordering::Relaxed)
    }

    pub(super) fn note_term(&self, term: u64) {
        self.term.fetch_max(term, Ordering::Relaxed);
    }

    fn wake_all(&self) {
        let hubs: Vec<_> = self.hubs.lock().iter().filter_map(Weak::upgrade).collect();
        for hub in hubs {
            hub.wake_all();
        }
    }
}

/// Sees to it that the hub has a dispatcher, and that somebody looks for the leader. Must be called within
/// the runtime.
pub(super) fn watch_over<M: Member>(shared: &Arc<Shared<M>>, hub: &Arc<Hub>) {
    let background = &shared.background;
    if !background.running.swap(true, Ordering::SeqCst) {
        tokio::spawn(look_for_leader(Arc::downgrade(shared)));
        tokio::spawn(look_at_rules(Arc::downgrade(shared)));
    }
    if hub.has_bell() {
        return;
    }
    let mut hubs = background.hubs.lock();
    if hub.has_bell() {
        return;
    }
    hubs.retain(|hub| hub.strong_count() > 0);
    hubs.push(Arc::downgrade(hub));
    let bell = Bell(Arc::new(Notify::new()));
    let heard = Arc::clone(&bell.0);
    hub.set_bell(Box::new(move || bell.0.notify_one()));
    tokio::spawn(dispatch(Arc::downgrade(hub), heard));
}

/// Rings a last time when the hub that holds it goes.
struct Bell(Arc<Notify>);

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// Tells streams what concerns them, until the hub is closed or gone.
async fn dispatch(hub: Weak<Hub>, bell: Arc<Notify>) {
    loop {
        bell.notified().await;
        loop {
            let Some(hub) = hub.upgrade() else { return };
            if hub.is_closed() {
                return;
            }
            if !hub.dispatch() {
                break;
            }
            drop(hub);
            tokio::task::yield_now().await;
        }
    }
}

/// Wakes the streams of a tenant whose rules moved, so that quiet ones look at their rights too.
async fn look_at_rules<M: Member>(shared: Weak<Shared<M>>) {
    let mut seen = Seen::default();
    loop {
        tokio::time::sleep(RULES_INTERVAL).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        for hub in shared.member.moved(&mut seen) {
            hub.wake_all();
        }
    }
}

async fn look_for_leader<M: Member>(shared: Weak<Shared<M>>) {
    let mut missed = 0;
    loop {
        let Some(strong) = shared.upgrade() else {
            return;
        };
        let interval = strong.settings.election_timeout;
        drop(strong);
        tokio::time::sleep(interval).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        shared.background.note_term(shared.member.term());
        missed = if shared.member.has_leader() {
            0
        } else {
            missed + 1
        };
        if missed == LEADERLESS_CHECKS_MAX {
            shared.background.losses.fetch_add(1, Ordering::SeqCst);
            shared.background.wake_all();
        }
    }
}
