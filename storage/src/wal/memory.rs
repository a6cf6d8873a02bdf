//! What the log keeps in memory: where every entry lies, and the newest entries themselves.
//!
//! ```text
//!   purged |  places: term, segment, offset, length of every entry          | last
//!          |  0 1 2 3 4 5 6 7 8 9 . . . . . . . . . . . . . . . . . . . . . |
//!          |                               tail: the entries, newest bytes  |
//!          |                               | written ........ | not yet     |
//! ```
//!
//! - `places` is 24 bytes per entry and bounded by purging; `tail` is bounded by bytes, except that an entry
//!   which is not on the disk yet stays.
//! - An entry that is appended gets a serial number, and its place once it is written. When it was truncated
//!   and its index written anew in between, the serial numbers differ and the old place is dropped.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use meridian_domain::revision::LogId;

use super::Entry;
use super::segment::Segment;
use super::standing::{Standing, Step};

/// What an entry costs in memory besides its payload, in bytes.
pub const ENTRY_OVERHEAD_BYTES: usize = 96;

/// Where an entry lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The entry's term.
    pub term: u64,
    /// The number of its segment; 0 while it is not written.
    pub segment: u64,
    /// Where its record begins.
    pub offset: u32,
    /// Bytes of its record.
    pub len: u32,
}

/// An entry that was written: its index, its serial number, its place.
pub type Written = (u64, u64, Place);

/// The log as its callers see it.
#[derive(Debug)]
pub struct Memory {
    standing: Standing,
    /// The index of the first place.
    first: u64,
    places: VecDeque<Place>,
    tail: VecDeque<Cached>,
    tail_bytes: usize,
    tail_bytes_max: usize,
    serial: u64,
    /// The files, by number.
    pub segments: BTreeMap<u64, Segment>,
}

#[derive(Debug)]
struct Cached {
    entry: Entry,
    serial: u64,
    written: bool,
}

impl Cached {
    fn bytes(&self) -> usize {
        self.entry.payload.len() + ENTRY_OVERHEAD_BYTES
    }
}

/// Where a reader finds what it asked for.
#[derive(Debug)]
pub enum Source {
    /// Here.
    Entries(Vec<Entry>),
    /// In these files: consecutive entries from the index on.
    Files(u64, Vec<(Place, Segment)>),
}

impl Memory {
    /// An empty log that stands where `standing` says.
    pub fn new(standing: Standing, tail_bytes_max: usize) -> Self {
        Self {
            first: standing.next().unwrap_or(0),
            standing,
            places: VecDeque::new(),
            tail: VecDeque::new(),
            tail_bytes: 0,
            tail_bytes_max,
            serial: 0,
            segments: BTreeMap::new(),
        }
    }

    /// Begins at a checkpoint: the entries before it are not there.
    pub fn restart(&mut self, standing: Standing) {
        self.places.clear();
        self.tail.clear();
        self.tail_bytes = 0;
        self.first = standing.next().unwrap_or(0);
        self.standing = standing;
    }

    /// Where the log stands.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The index of the first entry that is there, or would be.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Adds an entry at the end. Its payload is copied, so that it does not keep a larger buffer alive.
    /// Returns its serial number. `place` is given if it is written already.
    pub fn append(&mut self, mut entry: Entry, place: Option<Place>) -> Result<u64, String> {
        self.standing.take(&Step::Entry(entry.log_id))?;
        if self.places.is_empty() {
            self.first = entry.log_id.index;
        }
        entry.payload = Bytes::copy_from_slice(&entry.payload);
        self.serial += 1;
        let serial = self.serial;
        let term = entry.log_id.term;
        let unwritten = Place {
            term,
            segment: 0,
            offset: 0,
            len: 0,
        };
        self.places.push_back(place.unwrap_or(unwritten));
        let cached = Cached {
            entry,
            serial,
            written: place.is_some(),
        };
        self.tail_bytes += cached.bytes();
        self.tail.push_back(cached);
        self.shrink();
        Ok(serial)
    }

    /// Truncates so that an entry with this index can be appended, if one is there. Returns that
    /// step, if there was one.
    pub fn make_way(&mut self, index: u64) -> Result<Option<Step>, String> {
        if self.standing.next().is_none_or(|next| next <= index) {
            return Ok(None);
        }
        let purged = self.standing.purged;
        let to = match index.checked_sub(1) {
            None => None,
            Some(before) => match self.log_id(before) {
                Some(kept) => Some(kept),
                None if purged.is_some_and(|purged| purged.index == before) => purged,
                None if self.first == index && purged.is_none() => None,
                None => {
                    return Err(format!(
                        "entry {index} is purged; it can not be written again"
                    ));
                }
            },
        };
        let step = Step::Truncated(to);
        self.follow(&step)?;
        Ok(Some(step))
    }

    /// The entry added last, as it is kept.
    pub fn newest(&self) -> Option<&Entry> {
        self.tail.back().map(|cached| &cached.entry)
    }

    /// Follows a record that is no entry.
    pub fn follow(&mut self, step: &Step) -> Result<(), String> {
        self.standing.take(step)?;
        match step {
            Step::Truncated(to) => {
                let keep = to
                    .map_or(0, |to| to.index.saturating_add(1))
                    .saturating_sub(self.first);
                while self.places.len() as u64 > keep {
                    self.places.pop_back();
                    if let Some(cached) = self.tail.pop_back() {
                        self.tail_bytes -= cached.bytes();
                    }
                }
            }
            Step::Purged(upto) => {
                while self.first <= upto.index && !self.places.is_empty() {
                    if self.tail.len() == self.places.len()
                        && let Some(cached) = self.tail.pop_front()
                    {
                        self.tail_bytes -= cached.bytes();
                    }
                    self.places.pop_front();
                    self.first += 1;
                }
            }
            _ => {}
        }
        if self.places.is_empty() {
            self.first = self.standing.next().unwrap_or(0);
        }
        Ok(())
    }

    /// Notes where entries were written. Those that are gone by now are passed over.
    pub fn settle(&mut self, written: &[Written]) {
        for (index, serial, place) in written {
            let Some(position) = index.checked_sub(self.first) else {
                continue;
            };
            let position = position as usize;
            let tail_start = self.places.len() - self.tail.len();
            let cached = position
                .checked_sub(tail_start)
                .and_then(|at| self.tail.get_mut(at));
            if let (Some(cached), Some(slot)) = (cached, self.places.get_mut(position))
                && cached.serial == *serial
            {
                cached.written = true;
                *slot = *place;
            }
        }
        self.shrink();
    }

    /// Finds entries from `from` on, up to and without `to`, of at most `bytes_max` bytes but at least one.
    /// Nothing if `from` is purged or not there yet.
    pub fn find(&self, from: u64, to: u64, bytes_max: usize) -> Source {
        let Some(start) = from.checked_sub(self.first) else {
            return Source::Entries(Vec::new());
        };
        let end = to.saturating_sub(self.first).min(self.places.len() as u64);
        if start >= end {
            return Source::Entries(Vec::new());
        }
        let (start, end) = (start as usize, end as usize);
        let tail_start = self.places.len() - self.tail.len();
        let mut bytes = 0;
        if start >= tail_start {
            let wanted = self.tail.range(start - tail_start..end - tail_start);
            let fits = wanted.enumerate().take_while(|(i, cached)| {
                bytes += cached.entry.payload.len();
                *i == 0 || bytes <= bytes_max
            });
            return Source::Entries(fits.map(|(_, cached)| cached.entry.clone()).collect());
        }
        let wanted = self.places.range(start..end.min(tail_start));
        let fits = wanted.enumerate().take_while(|(i, place)| {
            bytes += place.len as usize;
            *i == 0 || bytes <= bytes_max
        });
        let found =
            fits.map_while(|(_, place)| Some((*place, self.segments.get(&place.segment)?.clone())));
        Source::Files(from, found.collect())
    }

    /// The position of an entry that is there.
    pub fn log_id(&self, index: u64) -> Option<LogId> {
        let position = index.checked_sub(self.first)?;
        self.places.get(position as usize).map(|place| LogId {
            term: place.term,
            index,
        })
    }

    fn shrink(&mut self) {
        while self.tail_bytes > self.tail_bytes_max
            && self.tail.front().is_some_and(|cached| cached.written)
        {
            if let Some(cached) = self.tail.pop_front() {
                self.tail_bytes -= cached.bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;
    use crate::wal::Kind;

    fn entry(term: u64, index: u64, len: usize) -> Entry {
        let log_id = LogId { term, index };
        Entry {
            log_id,
            kind: Kind::Normal,
            payload: vec![index as u8; len].into(),
        }
    }

    fn place(term: u64, offset: u32) -> Place {
        Place {
            term,
            segment: 1,
            offset,
            len: 10,
        }
    }

    fn indexes(source: Source) -> Vec<u64> {
        match source {
            Source::Entries(entries) => entries.iter().map(|e| e.log_id.index).collect(),
            Source::Files(..) => panic!("not in memory"),
        }
    }

    #[test]
    fn entries_not_yet_written_stay_whatever_the_bound() {
        let mut memory = Memory::new(Standing::default(), 0);
        let serials: Vec<u64> = (0..4)
            .map(|i| memory.append(entry(1, i, 100), None).unwrap())
            .collect();
        assert_eq!(indexes(memory.find(0, 9, usize::MAX)), [0, 1, 2, 3]);
        memory.settle(&[
            (0, serials[0], place(1, 64)),
            (1, serials[1], place(1, 128)),
        ]);
        assert!(matches!(memory.find(0, 9, usize::MAX), Source::Files(0, _)));
        assert_eq!(indexes(memory.find(2, 9, usize::MAX)), [2, 3]);
    }

    #[test]
    fn a_place_of_an_entry_that_was_replaced_is_dropped() {
        let mut memory = Memory::new(Standing::default(), 1 << 20);
        let old = memory.append(entry(1, 0, 1), None).unwrap();
        memory.follow(&Step::Truncated(None)).unwrap();
        let new = memory.append(entry(1, 0, 1), None).unwrap();
        memory.settle(&[(0, old, place(1, 64))]);
        assert_eq!(memory.places[0].segment, 0);
        memory.settle(&[(0, new, place(1, 128))]);
        assert_eq!(memory.places[0].offset, 128);
    }

    #[test]
    fn a_read_returns_at_least_one_entry_and_stops_at_the_bytes() {
        let mut memory = Memory::new(Standing::default(), 1 << 20);
        for i in 5..10 {
            memory.append(entry(1, i, 100), None).unwrap();
        }
        assert_eq!(indexes(memory.find(5, 10, 0)), [5]);
        assert_eq!(indexes(memory.find(6, 10, 250)), [6, 7]);
        assert_eq!(indexes(memory.find(4, 10, 250)), Vec::<u64>::new());
        assert_eq!(indexes(memory.find(10, 11, 250)), Vec::<u64>::new());
        assert_eq!(indexes(memory.find(7, 7, 250)), Vec::<u64>::new());
    }

    #[test]
    fn purging_and_truncating_keep_places_and_tail_aligned() {
        let mut memory = Memory::new(Standing::default(), 1 << 20);
        for i in 0..10 {
            memory.append(entry(1, i, 10), None).unwrap();
        }
        memory
            .follow(&Step::Purged(LogId { term: 1, index: 3 }))
            .unwrap();
        memory
            .follow(&Step::Truncated(Some(LogId { term: 1, index: 6 })))
            .unwrap();
        assert_eq!(indexes(memory.find(4, 99, usize::MAX)), [4, 5, 6]);
        assert_eq!(memory.log_id(6), Some(LogId { term: 1, index: 6 }));
        assert_eq!((memory.log_id(3), memory.log_id(7)), (None, None));
        memory
            .follow(&Step::Purged(LogId { term: 2, index: 50 }))
            .unwrap();
        assert_eq!((memory.first(), memory.tail_bytes), (51, 0));
        assert!(memory.append(entry(2, 50, 1), None).is_err());
        memory.append(entry(2, 51, 1), None).unwrap();
    }

    #[test]
    fn a_small_payload_does_not_keep_its_large_buffer_alive() {
        let mut memory = Memory::new(Standing::default(), 1 << 20);
        let buffer = Bytes::from(vec![7; 1 << 16]);
        let small = Entry {
            payload: buffer.slice(0..8),
            ..entry(1, 0, 0)
        };
        memory.append(small, None).unwrap();
        assert!(buffer.is_unique());
    }
}
