//! What a session hands out: steps, batches, events.

use std::sync::Arc;

use bytes::Bytes;
use meridian_domain::revision::Revision;

use crate::watch::cursor::Cursor;
use crate::watch::event::{Entry, Form};

/// What comes next.
#[derive(Debug)]
pub enum Step<'a> {
    /// Nothing until the session is woken.
    Idle,
    /// Much was looked at and nothing found yet: come back after others had a turn.
    Busy,
    /// Events of one watch.
    Batch(Batch<'a>),
    /// Read history `from..=to` (or a first part of it, whole revisions) and [`super::Session::feed`] it. Said
    /// once until it is fed or [`super::Session::unread`].
    Past {
        /// The first revision.
        from: Revision,
        /// The last one.
        to: Revision,
    },
}

/// Consecutive events of one watch: whole revisions, never empty.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The watch's slot.
    pub slot: u32,
    /// The owner's name for it.
    pub id: i64,
    /// The revision of the last event, if the watch keeps up; none if it is catching up.
    pub live: Option<Revision>,
    /// How many events.
    pub events: usize,
    /// Their encoded bytes.
    pub bytes: usize,
    pub(super) cursor: &'a Cursor,
    pub(super) entries: &'a [Arc<Entry>],
    pub(super) compacted: Revision,
}

impl Batch<'_> {
    /// The owner's own remarks on the watch.
    pub fn notes(&self) -> u8 {
        self.cursor.notes
    }

    /// The events, in order.
    pub fn events(&self) -> impl Iterator<Item = Event<'_>> {
        self.entries.iter().flat_map(move |entry| {
            let form = self.cursor.form(entry.revision(), self.compacted);
            entry
                .changes()
                .iter()
                .enumerate()
                .filter(|(_, change)| self.cursor.wants(change))
                .map(move |(index, _)| Event { entry, index, form })
        })
    }
}

/// One event of a [`Batch`], in the form its watch asked for.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    entry: &'a Entry,
    index: usize,
    form: Form,
}

impl<'a> Event<'a> {
    /// The revision it belongs to.
    pub fn revision(&self) -> Revision {
        self.entry.revision()
    }

    /// Its bytes: one field `events` of a `WatchResponse`.
    pub fn bytes(&self) -> &'a [u8] {
        self.entry.encoded(self.index, self.form)
    }

    /// The same bytes, to be kept: shared, not copied.
    pub fn shared(&self) -> Bytes {
        self.entry.encoded_shared(self.index, self.form)
    }
}
