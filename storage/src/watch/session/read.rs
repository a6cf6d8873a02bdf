//! Reading: from what is pending to the next batch.
//!
//! Cursors that want something wait in one of three queues: `ready` (the ring should have it), `behind` (older
//! than the ring) and `parked` (marked, but above what was dispatched). Those in `behind` share the piece of the
//! past that was read last; while there are both, the two queues take turns.

use std::sync::Arc;

use meridian_domain::command::Commit;
use meridian_domain::limits::WATCH_BATCH_REVISIONS_MAX;
use meridian_domain::revision::Revision;

use super::Session;
use super::batch::{Batch, Step};
use crate::watch::cursor::{Cursor, Queue};
use crate::watch::event::Entry;
use crate::watch::metrics;

/// Commits read from the ring at a time, shared by the watches of the session that want them.
const PIECE_COMMITS_MAX: usize = 256;
/// Bytes they may be charged with, give or take one commit.
const PIECE_BYTES_MAX: usize = 256 << 10;
/// Revisions looked at before [`Step::Busy`] gives others a turn.
const LOOKS_MAX: usize = 8_192;

/// Contiguous entries.
#[derive(Debug, Default)]
pub(super) struct Piece {
    from: Revision,
    entries: Vec<Arc<Entry>>,
}

impl Piece {
    fn holds(&self, revision: Revision) -> bool {
        revision >= self.from && revision - self.from < self.entries.len() as Revision
    }

    pub(super) fn clear(&mut self) {
        self.entries = Vec::new();
    }
}

/// A batch that was found, before it is lent out.
struct Found {
    slot: u32,
    past: bool,
    first: usize,
    end: usize,
    events: usize,
    bytes: usize,
    live: Option<Revision>,
}

impl Session {
    /// The next batch: at most [`WATCH_BATCH_REVISIONS_MAX`] revisions and about `budget` bytes, at least one
    /// revision.
    pub fn next(&mut self, budget: usize) -> Step<'_> {
        let mut looks = 0;
        let found = loop {
            if looks > LOOKS_MAX {
                return Step::Busy;
            }
            let past_can = !self.behind.is_empty() && !self.past.entries.is_empty();
            if past_can && (self.turn_of_past || self.ready.is_empty()) {
                self.turn_of_past = false;
                if let Some(found) = self.next_of_past(budget, &mut looks) {
                    break found;
                }
                continue;
            }
            self.turn_of_past = true;
            let Some(slot) = self.ready.pop_front() else {
                self.recent.clear();
                return self.ask_for_past();
            };
            if let Some(found) = self.next_of_ring(slot, budget, &mut looks) {
                break found;
            }
        };
        metrics::EVENTS.inc_by(found.events as u64);
        self.lend(&found)
    }

    /// Gives up what is held of the ring: to be called before a pause of unknown length.
    pub fn release(&mut self) {
        self.recent.clear();
    }

    /// Takes what was read of history: contiguous revisions, the first one the `from` that was asked for.
    /// False if they are not, or there are none: then nothing was taken.
    pub fn feed(&mut self, from: Revision, mut commits: Vec<Commit>) -> bool {
        self.reading = false;
        commits.truncate(usize::try_from(self.upto + 1 - from).unwrap_or(0));
        let contiguous = (from..)
            .zip(&commits)
            .all(|(at, commit)| commit.changes.revision == at);
        if commits.is_empty() || !contiguous {
            return false;
        }
        let entries = commits
            .into_iter()
            .map(|c| Arc::new(Entry::new(Arc::new(c))))
            .collect();
        self.past = Piece { from, entries };
        true
    }

    /// History could not be read now: [`Step::Past`] will be said again.
    pub fn unread(&mut self) {
        self.reading = false;
    }

    fn next_of_ring(&mut self, slot: u32, budget: usize, looks: &mut usize) -> Option<Found> {
        let Self {
            hub,
            cursors,
            ready,
            behind,
            parked,
            recent,
            upto,
            low,
            ..
        } = self;
        let cursor = cursors.get_mut(slot as usize)?.as_mut()?;
        if cursor.next > *upto {
            rest(cursor, Queue::Parked);
            parked.push(slot);
            return None;
        }
        if !recent.holds(cursor.next) {
            let near = cursor.next - PIECE_COMMITS_MAX as Revision;
            let from = if (near..cursor.next).contains(low) {
                *low
            } else {
                cursor.next
            };
            recent.entries.clear();
            recent.from = from;
            let mut read = hub.read(
                from,
                *upto,
                PIECE_COMMITS_MAX,
                PIECE_BYTES_MAX,
                &mut recent.entries,
            );
            if read.is_err() || !recent.holds(cursor.next) {
                recent.entries.clear();
                recent.from = cursor.next;
                read = hub.read(
                    cursor.next,
                    *upto,
                    PIECE_COMMITS_MAX,
                    PIECE_BYTES_MAX,
                    &mut recent.entries,
                );
            }
            if read.is_err() {
                if !cursor.catching_up {
                    cursor.catching_up = true;
                    metrics::SLOW_WATCHERS.inc();
                }
                cursor.queue = Queue::Behind;
                behind.push_back(slot);
                return None;
            }
        }
        let found = scan(cursor, recent, *upto, self.compacted, budget, looks);
        // It reached what it waited for.
        self.future -= usize::from(std::mem::take(&mut cursor.future));
        if cursor.is_pending() {
            ready.push_back(slot);
        } else {
            rest(cursor, Queue::Rest);
        }
        found.map(|found| Found {
            slot,
            past: false,
            ..found
        })
    }

    /// Serves the first cursor the piece of the past reaches; drops the piece if it reaches none.
    fn next_of_past(&mut self, budget: usize, looks: &mut usize) -> Option<Found> {
        let Self {
            cursors,
            ready,
            behind,
            past,
            upto,
            ..
        } = self;
        for _ in 0..behind.len() {
            let slot = behind.pop_front()?;
            let Some(Some(cursor)) = cursors.get_mut(slot as usize) else {
                continue;
            };
            if !past.holds(cursor.next) {
                *looks += 1;
                behind.push_back(slot);
                continue;
            }
            let found = scan(cursor, past, *upto, self.compacted, budget, looks);
            if !cursor.is_pending() {
                rest(cursor, Queue::Rest);
            } else if past.holds(cursor.next) {
                behind.push_back(slot);
            } else {
                // The ring may reach it by now; if not, it comes back.
                cursor.queue = Queue::Ready;
                ready.push_back(slot);
            }
            if let Some(found) = found {
                return Some(Found {
                    slot,
                    past: true,
                    ..found
                });
            }
        }
        let reached = behind
            .iter()
            .any(|slot| matches!(cursors.get(*slot as usize), Some(Some(c)) if past.holds(c.next)));
        if !reached {
            past.clear();
        }
        None
    }

    fn ask_for_past(&mut self) -> Step<'_> {
        if self.reading {
            return Step::Idle;
        }
        let lowest = self
            .behind
            .iter()
            .filter_map(|slot| Some(self.cursor(*slot)?.next))
            .min();
        let Some(from) = lowest else {
            return Step::Idle;
        };
        self.reading = true;
        Step::Past {
            from,
            to: self.upto.min(self.hub.oldest() - 1).max(from),
        }
    }

    fn lend(&self, found: &Found) -> Step<'_> {
        let piece = if found.past { &self.past } else { &self.recent };
        let entries = piece.entries.get(found.first..found.end);
        match (self.cursor(found.slot), entries) {
            (Some(cursor), Some(entries)) => Step::Batch(Batch {
                slot: found.slot,
                id: cursor.id,
                live: found.live,
                events: found.events,
                bytes: found.bytes,
                cursor,
                entries,
                compacted: self.compacted,
            }),
            _ => Step::Busy,
        }
    }
}

/// The cursor has everything it may have.
fn rest(cursor: &mut Cursor, queue: Queue) {
    cursor.queue = queue;
    if std::mem::take(&mut cursor.catching_up) {
        metrics::SLOW_WATCHERS.dec();
    }
}

/// Moves the cursor over the piece, up to its last revision or `upto`, until a batch is full.
fn scan(
    cursor: &mut Cursor,
    piece: &Piece,
    upto: Revision,
    compacted: Revision,
    budget: usize,
    looks: &mut usize,
) -> Option<Found> {
    let stop = cursor.last.min(upto);
    let mut first = None;
    let mut end = 0;
    let mut revisions = 0;
    let mut events = 0;
    let mut bytes = 0;
    let mut last = 0;
    *looks += 1;
    let skip = (cursor.next - piece.from) as usize;
    for (index, entry) in piece.entries.iter().enumerate().skip(skip) {
        if entry.revision() > stop {
            break;
        }
        *looks += 1;
        let (found, more) = cursor.weigh(entry, compacted);
        if found > 0 {
            let full = bytes + more > budget || revisions == WATCH_BATCH_REVISIONS_MAX;
            if first.is_some() && full {
                break;
            }
            first.get_or_insert(index);
            revisions += 1;
            events += found;
            bytes += more;
            end = index + 1;
            last = entry.revision();
        }
        cursor.next = entry.revision() + 1;
    }
    let live = (!cursor.catching_up).then_some(last);
    first.map(|first| Found {
        slot: 0,
        past: false,
        first,
        end,
        events,
        bytes,
        live,
    })
}
