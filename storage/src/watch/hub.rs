//! The hub: where a tenant's commits meet its watchers.
//!
//! Locks, in the order they are taken: the desk (interest, dispatcher), then the ring (one append or one short
//! read at a time), then a mailbox. The apply thread takes the ring's alone, so it waits at most for a read
//! of a few hundred references.
//!
//! ```text
//!   publish   ring.append; head moves; wake the dispatcher if anybody watches
//!   dispatch  [dispatched+1 ..= head] -> marks; dispatched moves; wake the streams touched
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use meridian_domain::command::Commit;
use meridian_domain::key::Space;
use meridian_domain::revision::Revision;
use parking_lot::{Mutex, RwLock};

use super::cursor::Filters;
use super::event::Entry;
use super::interest::{Interest, WatcherId};
use super::mailbox::Mailbox;
use super::metrics;
use super::ring::Ring;
use super::span::Span;

/// Commits looked up under one hold of the desk.
const DISPATCH_COMMITS_MAX: usize = 64;
/// Marks made under one hold of the desk, give or take one commit's.
const DISPATCH_MARKS_MAX: usize = 4_096;
/// A ring nobody watches keeps this fraction of its bounds, for those who resume.
const UNWATCHED_FRACTION: usize = 16;
/// A ring that grows while all rings together are over their bound is cut to this fraction.
const CROWDED_FRACTION: usize = 64;

/// How much of the recent past is kept in memory.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Commits in one tenant's ring.
    pub ring_commits_max: usize,
    /// Bytes in one tenant's ring, keys and values before and after, with overhead.
    pub ring_bytes_max: usize,
    /// Bytes in the rings of all tenants whose settings are clones of this.
    pub all_rings_bytes_max: usize,
    /// Bytes in them now. Starts at zero; clones share it.
    pub all_rings_bytes: Arc<AtomicUsize>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ring_commits_max: 16_384,
            ring_bytes_max: 16 << 20,
            all_rings_bytes_max: 256 << 20,
            all_rings_bytes: Arc::default(),
        }
    }
}

/// What is called when there is something to dispatch. Called on the apply thread: must return at once.
pub type Bell = Box<dyn Fn() + Send + Sync>;

/// Where a tenant's commits meet its watchers. Shared; every method may be called from any thread and none
/// waits for anything but the locks described in the chapter.
pub struct Hub {
    settings: Settings,
    ring: RwLock<Ring>,
    head: AtomicI64,
    dispatched: AtomicI64,
    watchers: AtomicUsize,
    closed: AtomicBool,
    bell: RwLock<Option<Bell>>,
    desk: Mutex<Desk>,
}

#[derive(Default)]
struct Desk {
    interest: Interest,
    /// Every session, with or without watches, by its number.
    sessions: Vec<Option<Arc<Mailbox>>>,
    free: Vec<u32>,
    /// Kept between rounds for their room.
    entries: Vec<Arc<Entry>>,
    touched: Vec<Arc<Mailbox>>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("revision", &self.revision())
            .field("dispatched", &self.dispatched())
            .field("watchers", &self.watchers())
            .finish_non_exhaustive()
    }
}

impl Hub {
    /// A hub of a tenant that stands at `revision`, everything up to which is in history.
    pub fn new(revision: Revision, settings: Settings) -> Self {
        Self {
            settings,
            ring: RwLock::new(Ring::new(revision)),
            head: AtomicI64::new(revision),
            dispatched: AtomicI64::new(revision),
            watchers: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            bell: RwLock::new(None),
            desk: Mutex::default(),
        }
    }

    /// Takes commits in order; the tenant stands at `revision` after them. Called by the apply thread alone.
    ///
    /// If `revision`, or a commit's, does not follow what was published before (a snapshot was installed),
    /// what lies between is read from history; revisions at or below the present one are ignored.
    pub fn publish(&self, commits: Vec<Arc<Commit>>, revision: Revision) {
        {
            let mut ring = self.ring.write();
            let before = ring.bytes();
            ring.append(commits, revision);
            let (commits_max, bytes_max) = self.bounds(ring.bytes().saturating_sub(before));
            ring.shrink(commits_max, bytes_max);
            self.account(before, ring.bytes());
            // Under the lock: who has read the ring finds no older head. Sequentially consistent, as in
            // `count` and `add`: either a new watcher finds this head, or it is counted here and the
            // dispatcher is woken.
            self.head.store(ring.head(), Ordering::SeqCst);
        }
        if self.watchers.load(Ordering::SeqCst) > 0
            && let Some(bell) = &*self.bell.read()
        {
            bell();
        }
    }

    /// The newest revision published.
    pub fn revision(&self) -> Revision {
        self.head.load(Ordering::SeqCst)
    }

    /// Up to here every session has been told what concerns it.
    pub fn dispatched(&self) -> Revision {
        self.dispatched.load(Ordering::SeqCst)
    }

    /// The oldest revision that need not be read from history.
    pub fn oldest(&self) -> Revision {
        self.ring.read().oldest()
    }

    /// Watches open.
    pub fn watchers(&self) -> usize {
        self.watchers.load(Ordering::SeqCst)
    }

    /// Sets what is called after a commit was published while anybody watches; replaces what was set before.
    /// Whoever is called sees to it that [`Self::dispatch`] runs, on another thread.
    pub fn set_bell(&self, bell: Bell) {
        *self.bell.write() = Some(bell);
    }

    /// Whether a bell is set.
    pub fn has_bell(&self) -> bool {
        self.bell.read().is_some()
    }

    /// Tells sessions about what was published, a bounded piece at a time. True while there is more.
    pub fn dispatch(&self) -> bool {
        let mut desk = self.desk.lock();
        self.dispatch_piece(&mut desk);
        self.dispatched() < self.revision()
    }

    /// Dispatches everything published before the call.
    pub(super) fn dispatch_to_present(&self) {
        let present = self.revision();
        while self.dispatched() < present {
            self.dispatch();
        }
    }

    /// Ends every session: the tenant is gone. Their next poll finds [`Self::is_closed`].
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.wake_all();
        if let Some(bell) = &*self.bell.read() {
            bell();
        }
    }

    /// Wakes every session, whether there is something for it or not.
    pub fn wake_all(&self) {
        let desk = self.desk.lock();
        desk.sessions
            .iter()
            .flatten()
            .for_each(|mailbox| mailbox.wake());
    }

    /// Whether the tenant is gone.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Adds a session; its number.
    pub(super) fn enter(&self, mailbox: Arc<Mailbox>) -> u32 {
        metrics::STREAMS.inc();
        let mut desk = self.desk.lock();
        let number = desk.free.pop().unwrap_or(desk.sessions.len() as u32);
        match desk.sessions.get_mut(number as usize) {
            Some(place) => *place = Some(mailbox),
            None => desk.sessions.push(Some(mailbox)),
        }
        number
    }

    /// Removes a session with all its watches.
    pub(super) fn leave<'a>(
        &self,
        number: u32,
        watches: impl Iterator<Item = ((Space, &'a Span), WatcherId)>,
    ) {
        metrics::STREAMS.dec();
        let mut desk = self.desk.lock();
        for ((space, span), watcher) in watches {
            self.discount();
            desk.interest.remove(space, span, watcher);
        }
        if let Some(place) = desk.sessions.get_mut(number as usize) {
            *place = None;
            desk.free.push(number);
        }
        if desk.free.len() == desk.sessions.len() {
            desk.sessions = Vec::new();
            desk.free = Vec::new();
        }
    }

    /// Counts one more watch, unless there are `limit` (zero: no limit).
    pub(super) fn count(&self, limit: u64) -> bool {
        let before = self.watchers.fetch_add(1, Ordering::SeqCst);
        metrics::WATCHERS.inc();
        let within = limit == 0 || (before as u64) < limit;
        if !within {
            self.discount();
        }
        within
    }

    fn discount(&self) {
        self.watchers.fetch_sub(1, Ordering::SeqCst);
        metrics::WATCHERS.dec();
    }

    /// Adds a watch that was counted. From the revision returned on (exclusive) it will be marked; what lies
    /// at or before it is for the watch itself to look at.
    pub(super) fn add(
        &self,
        (space, span): (Space, &Span),
        filters: Filters,
        mailbox: Arc<Mailbox>,
        slot: u32,
    ) -> (WatcherId, Revision) {
        let mut desk = self.desk.lock();
        let present = self.revision();
        while self.dispatched() < present {
            self.dispatch_piece(&mut desk);
        }
        let watcher = desk.interest.add(space, span, filters, mailbox, slot);
        (watcher, self.dispatched())
    }

    /// Removes a watch.
    pub(super) fn remove(&self, (space, span): (Space, &Span), watcher: WatcherId) {
        self.discount();
        self.desk.lock().interest.remove(space, span, watcher);
    }

    /// Reads the ring from `from` to `to`: at most `count` entries, or about `bytes`, at least one. The
    /// oldest revision that is held if `from` is older.
    pub(super) fn read(
        &self,
        from: Revision,
        to: Revision,
        count: usize,
        bytes: usize,
        into: &mut Vec<Arc<Entry>>,
    ) -> Result<(), Revision> {
        {
            let ring = self.ring.read();
            if from < ring.oldest() {
                return Err(ring.oldest());
            }
            ring.read(from, to, count, into);
        }
        let mut charged = 0;
        let fit = into.iter().position(|entry| {
            let over = charged > bytes;
            charged += entry.charge();
            over
        });
        into.truncate(fit.unwrap_or(into.len()));
        Ok(())
    }

    fn dispatch_piece(&self, desk: &mut Desk) {
        let Desk {
            interest,
            entries,
            touched,
            ..
        } = desk;
        let from = self.dispatched() + 1;
        let (head, oldest) = {
            let ring = self.ring.read();
            ring.read(from, ring.head(), DISPATCH_COMMITS_MAX, entries);
            (ring.head(), ring.oldest())
        };
        if from > head {
            return;
        }
        let mut ring_bell = |mailbox: &Arc<Mailbox>, slot, from, last| {
            if mailbox.mark(slot, from, last) {
                touched.push(mailbox.clone());
            }
        };
        let mut done = from - 1;
        if from < oldest {
            // The ring was reset, or overrun before this came to run: everybody looks for themselves.
            done = oldest - 1;
            interest.all(|member| ring_bell(&member.mailbox, member.slot(), from, done));
        } else if self.watchers() == 0 {
            done = head;
        } else {
            let mut marks = 0;
            for entry in &*entries {
                done = entry.revision();
                interest.matching(entry, |member| {
                    marks += 1;
                    ring_bell(&member.mailbox, member.slot(), done, done);
                });
                if marks > DISPATCH_MARKS_MAX {
                    break;
                }
            }
        }
        entries.clear();
        self.dispatched.store(done, Ordering::SeqCst);
        touched.drain(..).for_each(|mailbox| mailbox.wake());
        if touched.capacity() > 4 * DISPATCH_MARKS_MAX {
            *touched = Vec::new();
        }
    }

    /// How large the ring may be now, after it grew by `grown` bytes.
    fn bounds(&self, grown: usize) -> (usize, usize) {
        let Settings {
            ring_commits_max,
            ring_bytes_max,
            all_rings_bytes_max,
            all_rings_bytes,
        } = &self.settings;
        if self.watchers() == 0 {
            return (
                ring_commits_max / UNWATCHED_FRACTION,
                ring_bytes_max / UNWATCHED_FRACTION,
            );
        }
        if all_rings_bytes.load(Ordering::Relaxed) + grown > *all_rings_bytes_max {
            return (*ring_commits_max, ring_bytes_max / CROWDED_FRACTION);
        }
        (*ring_commits_max, *ring_bytes_max)
    }

    fn account(&self, before: usize, after: usize) {
        let all = &self.settings.all_rings_bytes;
        if after >= before {
            all.fetch_add(after - before, Ordering::Relaxed);
        } else {
            all.fetch_sub(before - after, Ordering::Relaxed);
        }
        metrics::RING_BYTES.add(after as i64 - before as i64);
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let held = self.ring.get_mut().bytes();
        self.account(held, 0);
    }
}
