//! The commit ring: the recent past, kept for watchers.
//!
//! ```text
//!   oldest                    head
//!     |  r41 r42 r43 r44 r45    |
//!            ^ cursor
//! ```
//!
//! Revisions in it are contiguous. The newest commit is always kept, however large; everything else goes,
//! oldest first, when there are too many commits or bytes. A revision that does not follow the newest one
//! (a snapshot was installed) empties it; it never goes back.

use std::collections::VecDeque;
use std::sync::Arc;

use meridian_domain::command::Commit;
use meridian_domain::revision::Revision;

use super::event::Entry;

/// The last commits of a tenant, oldest first.
#[derive(Debug)]
pub(super) struct Ring {
    entries: VecDeque<Arc<Entry>>,
    head: Revision,
    bytes: usize,
}

impl Ring {
    /// Empty, with everything up to `head` in history.
    pub(super) fn new(head: Revision) -> Self {
        Self {
            entries: VecDeque::new(),
            head,
            bytes: 0,
        }
    }

    /// The newest revision published, held or not.
    pub(super) fn head(&self) -> Revision {
        self.head
    }

    /// The oldest revision held; above `head` if none is.
    pub(super) fn oldest(&self) -> Revision {
        self.head + 1 - self.entries.len() as Revision
    }

    /// What is held is charged with so many bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends commits in order and lets the head stand at `revision`. What is not above the head is
    /// ignored.
    pub(super) fn append(&mut self, commits: Vec<Arc<Commit>>, revision: Revision) {
        for commit in commits {
            let at = commit.changes.revision;
            if at <= self.head {
                continue;
            }
            if at > self.head + 1 {
                self.empty();
            }
            let entry = Arc::new(Entry::new(commit));
            self.bytes += entry.charge();
            self.entries.push_back(entry);
            self.head = at;
        }
        if revision > self.head {
            self.empty();
            self.head = revision;
        }
    }

    /// Drops the oldest until at most `commits` and `bytes` are left, or one commit.
    pub(super) fn shrink(&mut self, commits: usize, bytes: usize) {
        while self.entries.len() > 1 && (self.entries.len() > commits || self.bytes > bytes) {
            if let Some(oldest) = self.entries.pop_front() {
                self.bytes -= oldest.charge();
            }
        }
        // A ring that was shrunk to a fraction gives its room back.
        if self.entries.capacity() > 1024 && self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }

    /// Adds to `into` the entries from `from` (which must be held) to `to`, at most `count`.
    pub(super) fn read(
        &self,
        from: Revision,
        to: Revision,
        count: usize,
        into: &mut Vec<Arc<Entry>>,
    ) {
        let oldest = self.oldest();
        if from < oldest || to < from {
            return;
        }
        let skip = (from - oldest) as usize;
        let wanted = ((to - from + 1) as usize).min(count);
        into.extend(
            self.entries
                .range(skip.min(self.entries.len())..)
                .take(wanted)
                .cloned(),
        );
    }

    fn empty(&mut self) {
        self.entries = VecDeque::new();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::model::commit_of;
    use super::*;

    fn ring(revisions: std::ops::RangeInclusive<Revision>) -> Ring {
        let mut ring = Ring::new(revisions.start() - 1);
        let head = *revisions.end();
        ring.append(
            revisions.map(|r| Arc::new(commit_of(r, b"k"))).collect(),
            head,
        );
        ring
    }

    fn revisions(ring: &Ring, from: Revision, to: Revision, count: usize) -> Vec<Revision> {
        let mut read = vec![];
        ring.read(from, to, count, &mut read);
        read.iter().map(|e| e.revision()).collect()
    }

    #[test]
    fn a_ring_holds_contiguous_revisions_and_reads_them_by_number() {
        let ring = ring(5..=9);
        assert_eq!((ring.oldest(), ring.head()), (5, 9));
        assert_eq!(revisions(&ring, 6, 8, 100), [6, 7, 8]);
        assert_eq!(revisions(&ring, 5, 100, 2), [5, 6]);
        assert!(revisions(&ring, 4, 9, 100).is_empty());
        assert!(revisions(&ring, 10, 12, 100).is_empty());
    }

    #[test]
    fn the_oldest_go_first_and_the_newest_stays_whatever_it_weighs() {
        let mut ring = ring(5..=9);
        ring.shrink(3, usize::MAX);
        assert_eq!(ring.oldest(), 7);
        ring.shrink(100, 1);
        assert_eq!((ring.oldest(), ring.head()), (9, 9));
        assert!(ring.bytes() > 1);
    }

    #[test]
    fn a_jump_empties_the_ring_and_the_past_is_ignored() {
        let mut ring = ring(5..=9);
        ring.append(vec![Arc::new(commit_of(7, b"k"))], 7);
        assert_eq!((ring.oldest(), ring.head()), (5, 9));
        ring.append(vec![], 20);
        assert_eq!((ring.oldest(), ring.head(), ring.bytes()), (21, 20, 0));
        ring.append(vec![Arc::new(commit_of(25, b"k"))], 25);
        assert_eq!((ring.oldest(), ring.head()), (25, 25));
    }
}
