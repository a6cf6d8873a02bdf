//! The watches of one client stream.
//!
//! A session is owned by the task of its stream and takes part in three steps, over and over:
//!
//! 1. [`Session::collect`] takes the marks and learns how far it may read;
//! 2. [`Session::next`] hands out one batch after the other: whole revisions, in order, of one watch;
//! 3. when it says [`Step::Past`], its owner reads that piece of history, wherever it may block, and gives it
//!    to [`Session::feed`]. Watches that keep up go on meanwhile.
//!
//! Watches of a stream that read the past do it together: each piece is read once, from the one furthest
//! behind on, and serves all it reaches.

mod batch;
mod read;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use meridian_domain::key::{KeyRange, Space};
use meridian_domain::revision::Revision;

pub use self::batch::{Batch, Event, Step};
use self::read::Piece;
pub use super::cursor::Filters;
use super::cursor::{Cursor, Queue};
use super::event::Form;
use super::hub::Hub;
use super::mailbox::Mailbox;
use super::metrics;
use super::span::Span;

/// What somebody wants to watch.
#[derive(Clone, Debug)]
pub struct Watch {
    /// The owner's name for it.
    pub id: i64,
    /// The space of the keys.
    pub space: Space,
    /// The keys. Not empty.
    pub range: KeyRange,
    /// The first revision wanted, past or future; zero for what comes after now.
    pub start: Revision,
    /// What its owner may have read already: for one that wants what comes after now, now is not before this.
    pub seen: Revision,
    /// Which events are not wanted.
    pub filters: Filters,
    /// What events carry.
    pub form: Form,
    /// The owner's own remarks.
    pub notes: u8,
}

/// A watch that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    /// Where it is in the session.
    pub slot: u32,
    /// The tenant's revision when it was. A watch that starts now sees what is above it.
    pub revision: Revision,
}

/// The watches of one client stream on one tenant. Dropping it removes them.
#[derive(Debug)]
pub struct Session {
    hub: Arc<Hub>,
    mailbox: Arc<Mailbox>,
    number: u32,
    cursors: Vec<Option<Cursor>>,
    free: Vec<u32>,
    /// No further than this is read.
    upto: Revision,
    compacted: Revision,
    ready: VecDeque<u32>,
    behind: VecDeque<u32>,
    parked: Vec<u32>,
    recent: Piece,
    past: Piece,
    /// The lowest revision a ready cursor wants, as a guess: a piece that begins there serves the most.
    low: Revision,
    /// A piece of the past was asked for.
    reading: bool,
    /// Whose turn it is while some keep up and some catch up.
    turn_of_past: bool,
    future: usize,
    prev: usize,
}

impl Session {
    /// A session without watches.
    pub fn open(hub: Arc<Hub>) -> Self {
        let mailbox = Arc::new(Mailbox::default());
        let number = hub.enter(mailbox.clone());
        Self {
            upto: hub.dispatched(),
            hub,
            mailbox,
            number,
            cursors: vec![],
            free: vec![],
            compacted: 0,
            ready: VecDeque::new(),
            behind: VecDeque::new(),
            parked: vec![],
            recent: Piece::default(),
            past: Piece::default(),
            low: 0,
            reading: false,
            turn_of_past: false,
            future: 0,
            prev: 0,
        }
    }

    /// The hub it belongs to.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Watches in it.
    pub fn watches(&self) -> usize {
        self.cursors.len() - self.free.len()
    }

    /// Adds a watch, unless the tenant has `limit` on this member already (zero: no limit).
    pub fn add(&mut self, watch: &Watch, limit: u64) -> Option<Added> {
        if !self.hub.count(limit) {
            return None;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            if self.cursors.len() < 4 {
                self.cursors.reserve_exact(1);
            }
            self.cursors.push(None);
            self.cursors.len() as u32 - 1
        });
        self.mailbox.reserve(self.cursors.len());
        self.mailbox.clear(slot);
        let span = Span::new(&watch.range);
        let place = (watch.space, &span);
        let (watcher, present) = self
            .hub
            .add(place, watch.filters, self.mailbox.clone(), slot);
        self.upto = self.upto.max(present);
        let now = present.max(watch.seen);
        let mut cursor = Cursor::new(watch, span, watcher, present);
        self.future += usize::from(cursor.future);
        self.prev += usize::from(cursor.wants_prev());
        if cursor.catching_up {
            metrics::SLOW_WATCHERS.inc();
            cursor.queue = Queue::Ready;
            self.ready.push_back(slot);
        }
        if let Some(place) = self.cursors.get_mut(slot as usize) {
            *place = Some(cursor);
        }
        Some(Added {
            slot,
            revision: now,
        })
    }

    /// Removes a watch. What was handed out stays handed out; nothing more comes.
    pub fn remove(&mut self, slot: u32) {
        let Some(cursor) = self.cursors.get_mut(slot as usize).and_then(Option::take) else {
            return;
        };
        match cursor.queue {
            Queue::Rest => {}
            Queue::Ready => self.ready.retain(|s| *s != slot),
            Queue::Behind => self.behind.retain(|s| *s != slot),
            Queue::Parked => self.parked.retain(|s| *s != slot),
        }
        self.future -= usize::from(cursor.future);
        self.prev -= usize::from(cursor.wants_prev());
        if cursor.catching_up {
            metrics::SLOW_WATCHERS.dec();
        }
        self.hub.remove(cursor.place(), cursor.watcher);
        self.mailbox.clear(slot);
        self.free.push(slot);
        if self.behind.is_empty() {
            self.past.clear();
        }
    }

    /// The owner's name for a watch.
    pub fn id(&self, slot: u32) -> Option<i64> {
        self.cursor(slot).map(|cursor| cursor.id)
    }

    /// What a watch looks at.
    pub fn range(&self, slot: u32) -> Option<KeyRange> {
        self.cursor(slot).map(Cursor::range)
    }

    /// The watches by slot, with the owner's names and remarks.
    pub fn each(&self) -> impl Iterator<Item = (u32, i64, u8)> {
        self.cursors
            .iter()
            .enumerate()
            .filter_map(|(slot, c)| c.as_ref().map(|c| (slot as u32, c.id, c.notes)))
    }

    /// Changes the owner's remarks on a watch.
    pub fn set_notes(&mut self, slot: u32, notes: u8) {
        if let Some(Some(cursor)) = self.cursors.get_mut(slot as usize) {
            cursor.notes = notes;
        }
    }

    /// Whether an event may carry what was before: then [`Self::collect`] needs to know what was compacted.
    pub fn wants_prev(&self) -> bool {
        self.prev > 0
    }

    /// Takes the marks. `waker` is called when there are new ones, from now on. Events at or below `compacted`
    /// come without what was before.
    pub fn collect(&mut self, waker: &Waker, compacted: Revision) {
        self.mailbox.register(waker);
        self.compacted = self.compacted.max(compacted);
        // In this order: what was marked for a revision at or below `dispatched` lies in the mailbox.
        self.upto = self.upto.max(self.hub.dispatched());
        if self.ready.is_empty() {
            self.low = 0;
        }
        let Self {
            mailbox,
            cursors,
            ready,
            low,
            ..
        } = self;
        mailbox.collect(|slot, mark| {
            let Some(Some(cursor)) = cursors.get_mut(slot as usize) else {
                return;
            };
            cursor.take(mark);
            if cursor.is_pending() && cursor.queue == Queue::Rest {
                cursor.queue = Queue::Ready;
                ready.push_back(slot);
                *low = if *low == 0 {
                    cursor.next
                } else {
                    cursor.next.min(*low)
                };
            }
        });
        for slot in self.parked.drain(..) {
            if let Some(Some(cursor)) = self.cursors.get_mut(slot as usize) {
                cursor.queue = Queue::Ready;
                self.ready.push_back(slot);
            }
        }
        if self.future > 0 {
            for cursor in self.cursors.iter_mut().flatten() {
                if cursor.future && cursor.next <= self.upto {
                    cursor.future = false;
                    self.future -= 1;
                }
            }
        }
    }

    /// Dispatches what was published before the call, so that [`Self::collect`] reaches the present.
    pub fn hurry(&self) {
        self.hub.dispatch_to_present();
    }

    /// The watches whose next revision was compacted away: to be canceled.
    pub fn lost(&self, compacted: Revision) -> Vec<u32> {
        let lost = |slot: &u32| self.cursor(*slot).is_some_and(|c| c.next < compacted);
        self.behind.iter().copied().filter(lost).collect()
    }

    /// Whether a watch is older than the ring: a piece of history is read, held, or about to be asked for.
    pub fn reads_past(&self) -> bool {
        self.reading || !self.behind.is_empty()
    }

    /// Whether no watch reads the past (or falls behind) now.
    pub fn is_synced(&self) -> bool {
        !self.cursors.iter().flatten().any(|c| c.catching_up)
    }

    /// The revision up to which every watch has everything: none while one has something to look at, or
    /// waits for a revision above it.
    pub fn settled(&self) -> Option<Revision> {
        let settled = self.ready.is_empty() && self.behind.is_empty() && self.future == 0;
        settled.then_some(self.upto)
    }

    /// As [`Self::settled`], of one watch.
    pub fn settled_of(&self, slot: u32) -> Option<Revision> {
        let cursor = self.cursor(slot)?;
        let rests = matches!(cursor.queue, Queue::Rest | Queue::Parked);
        (rests && !cursor.future).then_some(self.upto)
    }

    fn cursor(&self, slot: u32) -> Option<&Cursor> {
        self.cursors.get(slot as usize)?.as_ref()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let slow = self
            .cursors
            .iter()
            .flatten()
            .filter(|c| c.catching_up)
            .count();
        metrics::SLOW_WATCHERS.sub(slow as i64);
        let watches = self
            .cursors
            .iter()
            .flatten()
            .map(|c| (c.place(), c.watcher));
        self.hub.leave(self.number, watches);
    }
}
