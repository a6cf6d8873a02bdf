//! Where the log stands, without its entries: vote, committed, purged, last.
//!
//! One rule, [`Standing::take`], says what a record does to it. The writer follows it record by record as it
//! writes, recovery as it reads, and the handle as it is called, so they can not disagree. A segment begins
//! with a checkpoint of it; that is how a vote outlives the segment it was written in.

use bytes::Bytes;
use meridian_domain::revision::LogId;

use super::record::Fields;

/// The longest vote, in bytes. It is repeated at the beginning of each segment.
pub const VOTE_BYTES_MAX: usize = 64 * 1024;

const HEAD_BYTES: usize = 56;

/// Everything the log says besides the entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The last vote, opaque.
    pub vote: Option<Bytes>,
    /// The last position known to be committed.
    pub committed: Option<LogId>,
    /// The last position that a snapshot covers.
    pub purged: Option<LogId>,
    /// The last entry; `purged` if there is none after it.
    pub last: Option<LogId>,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// An entry was appended.
    Entry(LogId),
    /// A vote was cast.
    Vote(Bytes),
    /// Entries up to here are committed.
    Committed(LogId),
    /// Entries after here are gone; all of them if none.
    Truncated(Option<LogId>),
    /// Entries up to here are covered by a snapshot.
    Purged(LogId),
    /// Nothing.
    Settled,
}

impl Standing {
    /// Follows one record. The error says which rule of the log it breaks; nothing has changed then.
    pub fn take(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Entry(log_id) => {
                if let Some(last) = self.last
                    && (log_id.index != last.index.wrapping_add(1) || log_id.term < last.term)
                {
                    return Err(format!("entry {log_id} does not follow {last}"));
                }
                self.last = Some(*log_id);
            }
            Step::Vote(vote) => {
                if vote.len() > VOTE_BYTES_MAX {
                    return Err(format!("a vote of {} bytes is too long", vote.len()));
                }
                self.vote = Some(vote.clone());
            }
            Step::Committed(log_id) => self.committed = Some(*log_id),
            Step::Truncated(to) => {
                if index_after(*to) < index_after(self.purged) {
                    return Err(format!(
                        "truncation to {} reaches into the purged",
                        shown(*to)
                    ));
                }
                // A committed entry is on a quorum; whoever asks for this is wrong (openraft #511).
                if index_after(*to) < index_after(self.last)
                    && index_after(*to) < index_after(self.committed)
                {
                    return Err(format!(
                        "truncation to {} would remove committed entries, up to {}",
                        shown(*to),
                        shown(self.committed)
                    ));
                }
                if index_after(*to) < index_after(self.last) {
                    self.last = if to.is_none() { self.purged } else { *to };
                }
            }
            Step::Purged(upto) => {
                if index_after(self.purged) <= upto.index {
                    self.purged = Some(*upto);
                    if index_after(self.last) <= upto.index.saturating_add(1) {
                        self.last = Some(*upto);
                    }
                }
            }
            Step::Settled => {}
        }
        Ok(())
    }

    /// The index the next entry has, if there was ever one.
    pub fn next(&self) -> Option<u64> {
        self.last.map(|last| last.index.saturating_add(1))
    }

    /// The body of a checkpoint: see the chapter of [`super`].
    pub fn encode(&self) -> Bytes {
        let positions = [self.committed, self.purged, self.last];
        let mut flags = u64::from(self.vote.is_some());
        for (i, position) in positions.iter().enumerate() {
            flags |= u64::from(position.is_some()) << (i + 1);
        }
        let mut out = flags.to_le_bytes().to_vec();
        for position in positions {
            let LogId { term, index } = position.unwrap_or_default();
            out.extend_from_slice(&term.to_le_bytes());
            out.extend_from_slice(&index.to_le_bytes());
        }
        out.extend_from_slice(self.vote.as_deref().unwrap_or(&[]));
        out.into()
    }

    /// Reads what [`Standing::encode`] wrote; none if it did not.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let (head, vote) = body.split_at_checked(HEAD_BYTES)?;
        let mut fields = Fields(head);
        let flags = fields.u64();
        let mut position = |bit: u32| {
            let log_id = LogId {
                term: fields.u64(),
                index: fields.u64(),
            };
            (flags & (1 << bit) != 0).then_some(log_id)
        };
        let (committed, purged, last) = (position(1), position(2), position(3));
        let has_vote = flags & 1 != 0;
        if flags >= 16 || vote.len() > VOTE_BYTES_MAX || (!has_vote && !vote.is_empty()) {
            return None;
        }
        let vote = has_vote.then(|| Bytes::copy_from_slice(vote));
        Some(Self {
            vote,
            committed,
            purged,
            last,
        })
    }
}

/// The index after a position; 0 before the first.
fn index_after(position: Option<LogId>) -> u64 {
    position.map_or(0, |position| position.index.saturating_add(1))
}

fn shown(position: Option<LogId>) -> String {
    position.map_or_else(|| "nothing".into(), |position| position.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn id(term: u64, index: u64) -> LogId {
        LogId { term, index }
    }

    fn after(steps: &[Step]) -> Result<Standing, String> {
        let mut standing = Standing::default();
        for step in steps {
            standing.take(step)?;
        }
        Ok(standing)
    }

    #[test]
    fn entries_follow_each_other_without_a_hole() {
        assert!(after(&[Step::Entry(id(1, 0)), Step::Entry(id(1, 1))]).is_ok());
        assert!(after(&[Step::Entry(id(1, 1)), Step::Entry(id(1, 3))]).is_err());
        assert!(after(&[Step::Entry(id(1, 1)), Step::Entry(id(1, 1))]).is_err());
        assert!(after(&[Step::Entry(id(2, 1)), Step::Entry(id(1, 2))]).is_err());
        let purged = after(&[Step::Purged(id(3, 9)), Step::Entry(id(3, 10))]).unwrap();
        assert_eq!(purged.last, Some(id(3, 10)));
        assert!(after(&[Step::Purged(id(3, 9)), Step::Entry(id(3, 9))]).is_err());
    }

    #[test]
    fn truncation_stops_at_the_purged_and_at_the_committed() {
        let log = [
            Step::Entry(id(1, 0)),
            Step::Entry(id(1, 1)),
            Step::Entry(id(1, 2)),
        ];
        let with = |more: &[Step]| after(&[&log[..], more].concat());
        assert_eq!(
            with(&[Step::Truncated(Some(id(1, 0)))]).unwrap().last,
            Some(id(1, 0))
        );
        assert_eq!(with(&[Step::Truncated(None)]).unwrap().last, None);
        assert_eq!(
            with(&[Step::Truncated(Some(id(9, 9)))]).unwrap().last,
            Some(id(1, 2))
        );
        assert!(with(&[Step::Committed(id(1, 1)), Step::Truncated(Some(id(1, 0)))]).is_err());
        assert!(with(&[Step::Committed(id(1, 1)), Step::Truncated(Some(id(1, 1)))]).is_ok());
        assert!(with(&[Step::Purged(id(1, 1)), Step::Truncated(Some(id(1, 0)))]).is_err());
        let none_left = with(&[Step::Purged(id(1, 1)), Step::Truncated(Some(id(1, 1)))]).unwrap();
        assert_eq!(none_left.last, Some(id(1, 1)));
    }

    #[test]
    fn a_purge_beyond_the_end_moves_the_end() {
        let standing = after(&[Step::Entry(id(1, 0)), Step::Purged(id(4, 100))]).unwrap();
        assert_eq!(
            (standing.purged, standing.last),
            (Some(id(4, 100)), Some(id(4, 100)))
        );
        let mut again = standing.clone();
        again.take(&Step::Purged(id(1, 7))).unwrap();
        assert_eq!(again, standing, "a purge never goes back");
    }

    #[test]
    fn a_checkpoint_comes_back_as_it_was_written() {
        let full = Standing {
            vote: Some(Bytes::from_static(b"vote")),
            committed: Some(id(1, 2)),
            purged: Some(id(3, 4)),
            last: Some(id(5, 6)),
        };
        let empty_vote = Standing {
            vote: Some(Bytes::new()),
            ..Standing::default()
        };
        for standing in [full, empty_vote, Standing::default()] {
            assert_eq!(Standing::decode(&standing.encode()), Some(standing));
        }
        assert_eq!(Standing::decode(&[0; 55]), None);
        assert_eq!(
            Standing::decode(&[0; 57]),
            None,
            "bytes of a vote without a vote"
        );
        assert_eq!(Standing::decode(&[16; 56]), None);
    }
}
