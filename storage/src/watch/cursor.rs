//! A watcher: what it looks at, and which revisions it still has to.
//!
//! ```text
//!             next        last
//!   delivered | to look at  |  nothing for it that is known
//!   ----------+-------------+------------------------------> revision
//! ```
//!
//! `next` never goes back. A cursor with `next > last` is at rest; when it is marked again at revision m, there
//! was nothing for it before m, so `next` moves there.

use meridian_domain::changes::Change;
use meridian_domain::key::{KeyRange, Space};
use meridian_domain::revision::{GENESIS, Revision};

use super::event::{Entry, Form};
use super::interest::WatcherId;
use super::mailbox::Mark;
use super::session::Watch;
use super::span::Span;

/// Which events a watcher does not want.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// No writes.
    pub no_put: bool,
    /// No deletions.
    pub no_delete: bool,
}

/// Where a cursor stands in its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    /// Nothing to look at.
    Rest,
    /// Something in the ring.
    Ready,
    /// Something older than the ring.
    Behind,
    /// Marked beyond what the session may read yet.
    Parked,
}

/// One watcher. Idle ones are many: 64 bytes and the span.
#[derive(Debug)]
pub(super) struct Cursor {
    span: Span,
    pub(super) id: i64,
    pub(super) next: Revision,
    pub(super) last: Revision,
    pub(super) watcher: WatcherId,
    space: Space,
    filters: Filters,
    form: Form,
    /// The owner's own.
    pub(super) notes: u8,
    pub(super) queue: Queue,
    /// It looks at what was there before it came, or it fell out of the ring.
    pub(super) catching_up: bool,
    /// It waits for a revision that was not there when it came.
    pub(super) future: bool,
}

impl Cursor {
    /// What it looks at.
    pub(super) fn range(&self) -> KeyRange {
        self.span.range()
    }

    pub(super) fn new(watch: &Watch, span: Span, watcher: WatcherId, present: Revision) -> Self {
        // Nothing was ever written at the revision a tenant begins with.
        let next = if watch.start > 0 {
            watch.start.max(GENESIS + 1)
        } else {
            present.max(watch.seen) + 1
        };
        Self {
            span,
            id: watch.id,
            next,
            last: if next <= present { present } else { 0 },
            watcher,
            space: watch.space,
            filters: watch.filters,
            form: watch.form,
            notes: watch.notes,
            queue: Queue::Rest,
            catching_up: next <= present,
            future: watch.start > present,
        }
    }

    pub(super) fn place(&self) -> (Space, &Span) {
        (self.space, &self.span)
    }

    pub(super) fn wants_prev(&self) -> bool {
        self.form.prev
    }

    /// Whether there is something to look at.
    pub(super) fn is_pending(&self) -> bool {
        self.next <= self.last
    }

    pub(super) fn take(&mut self, mark: Mark) {
        if !self.is_pending() {
            self.next = self.next.max(mark.from);
        }
        self.last = self.last.max(mark.last);
    }

    /// Whether a change is an event of this watcher.
    pub(super) fn wants(&self, change: &Change) -> bool {
        let filtered = if change.is_delete() {
            self.filters.no_delete
        } else {
            self.filters.no_put
        };
        !filtered && change.space == self.space && self.span.contains(&change.key)
    }

    /// The form of its events of `revision`. What was before a revision is shown while the revision before
    /// it can be read.
    pub(super) fn form(&self, revision: Revision, compacted: Revision) -> Form {
        Form {
            prev: self.form.prev && revision > compacted,
            ..self.form
        }
    }

    /// How many events an entry has for it, and how many bytes they have encoded.
    pub(super) fn weigh(&self, entry: &Entry, compacted: Revision) -> (usize, usize) {
        let form = self.form(entry.revision(), compacted);
        let mut events = 0;
        let mut bytes = 0;
        for (index, change) in entry.changes().iter().enumerate() {
            if self.wants(change) {
                events += 1;
                bytes += entry.encoded(index, form).len();
            }
        }
        (events, bytes)
    }
}
