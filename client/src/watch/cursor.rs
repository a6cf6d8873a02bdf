//! The place of a watch in history, and what a response is worth from there.

use meridian_proto::mvccpb;
use meridian_proto::mvccpb::event::EventType;

use crate::kv::key_value;
use crate::watch::{Changes, Event};

/// The next revision a watch wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Zero until the watch is open: from now on.
    next: i64,
}

impl Cursor {
    /// A watch that starts at `revision`; zero is now.
    pub(super) fn at(revision: i64) -> Self {
        Self { next: revision }
    }

    /// The revision to start at when the watch is made again.
    pub(super) fn next(self) -> i64 {
        self.next
    }

    /// The watch was made at a member that stands at `revision`. "Now" becomes the one after it.
    pub(super) fn made(&mut self, revision: i64) {
        if self.next == 0 {
            self.next = revision + 1;
        }
    }

    /// What a response adds to what was delivered, and the place after it. None if it adds nothing.
    pub(super) fn cut(self, events: Vec<mvccpb::Event>, revision: i64) -> Option<(Changes, Self)> {
        if events.is_empty() {
            // Progress: everything up to `revision` was delivered.
            let news = revision >= self.next.saturating_sub(1);
            return news.then(|| {
                (
                    Changes {
                        events: vec![],
                        revision,
                    },
                    Self {
                        next: self.next.max(revision + 1),
                    },
                )
            });
        }
        let events: Vec<_> = events
            .into_iter()
            .filter_map(event)
            .filter(|e| e.revision() >= self.next)
            .collect();
        let revision = events.last()?.revision();
        Some((Changes { events, revision }, Self { next: revision + 1 }))
    }
}

/// An event from the wire; none if it names no key.
fn event(event: mvccpb::Event) -> Option<Event> {
    let deleted = event.r#type() == EventType::Delete;
    let kv = event.kv?;
    let prev_kv = event.prev_kv.map(key_value);
    Some(if deleted {
        Event::Delete {
            key: kv.key,
            mod_revision: kv.mod_revision,
            prev_kv,
        }
    } else {
        Event::Put {
            kv: key_value(kv),
            prev_kv,
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn puts(revisions: &[i64]) -> Vec<mvccpb::Event> {
        let kv = |revision: &i64| mvccpb::KeyValue {
            key: b"k".as_slice().into(),
            mod_revision: *revision,
            ..Default::default()
        };
        revisions
            .iter()
            .map(|r| mvccpb::Event {
                kv: Some(kv(r)),
                ..Default::default()
            })
            .collect()
    }

    fn revisions(changes: &Changes) -> Vec<i64> {
        changes.events.iter().map(Event::revision).collect()
    }

    #[test]
    fn now_becomes_the_revision_after_the_one_the_watch_was_made_at() {
        let mut cursor = Cursor::at(0);
        cursor.made(7);
        assert_eq!(cursor.next(), 8);
        // Made again on a member that lags: the cursor never goes back.
        cursor.made(3);
        assert_eq!(cursor.next(), 8);
    }

    #[test]
    fn events_seen_before_are_dropped_and_whole_revisions_kept() {
        let (changes, after) = Cursor::at(5).cut(puts(&[3, 4, 5, 5, 6]), 9).unwrap();
        assert_eq!(revisions(&changes), [5, 5, 6]);
        assert_eq!((changes.revision, after.next()), (6, 7));
        assert!(after.cut(puts(&[5, 6]), 9).is_none());
    }

    #[test]
    fn progress_moves_the_cursor_and_old_progress_is_dropped() {
        let (changes, after) = Cursor::at(5).cut(vec![], 9).unwrap();
        assert_eq!((changes.revision, after.next()), (9, 10));
        assert!(after.cut(vec![], 9).is_some());
        assert!(after.cut(vec![], 8).is_none());
    }
}
