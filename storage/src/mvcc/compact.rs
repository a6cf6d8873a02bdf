//! What compaction retains, and removing the rest in slices.
//!
//! Compacted to `C`, a keyspace retains of every key
//!
//! - every version at or above `C` (so a watch opened at `C` sees all that happened at `C`, deletes
//!   included: etcd's issues 18089 and 19179), and
//! - the last version below `C`, if the key was alive then and nothing happened to it at `C`.
//!
//! ```text
//!   key a:  p3    p5        d9        C = 6: keeps p5, d9        C = 9: keeps d9      C = 10: nothing left
//!   key b:  p4         p6             C = 6: keeps p6            C = 9: keeps p6      C = 10: keeps p6
//! ```
//!
//! Retention is a pure function of the versions and `C`. Removal from the index runs behind, in slices, and
//! can not be observed: reads below `C` are refused at once, hashes and snapshots ask for retention.

use std::ops::Bound;

use meridian_domain::key::Space;
use meridian_domain::revision::Revision;

use super::keyspace::Keyspace;
use super::slot::{Found, Slot};
use super::tree::Only;
use crate::row::At;

/// Where a slot's retained versions begin.
///
/// Everything at or after it is retained, everything before it is not. None: nothing is retained.
pub fn first_retained(slot: &Slot, compacted: Revision) -> Option<At> {
    let floor = At {
        revision: compacted,
        sub: 0,
    };
    if compacted <= 0 {
        return Some(floor);
    }
    match slot.last_at(compacted) {
        // Something at C itself, or nothing at or below it: the cut is exactly at C.
        None => Some(floor),
        Some(found) => {
            let (at, alive) = match found {
                Found::Newest(cell) => (cell.at(), cell.is_alive()),
                Found::Past(past) => (past.at(), past.is_alive()),
            };
            if at.revision == compacted || (!alive && slot.newest().at() > at) {
                Some(floor)
            } else if alive {
                Some(at)
            } else {
                None
            }
        }
    }
}

/// What removing from a slot came to.
#[derive(Debug)]
pub enum Pruned {
    /// Nothing could be removed.
    Unchanged,
    /// Some older versions went.
    Shorter(Slot),
    /// Nothing is left.
    Gone,
}

/// Removes what `compacted` does not retain; the places of the versions removed are added to `dropped`.
pub fn prune(slot: &Slot, compacted: Revision, dropped: &mut Vec<At>) -> Pruned {
    let already = dropped.len();
    match first_retained(slot, compacted) {
        None => {
            dropped.extend(slot.past().iter().map(super::slot::Past::at));
            dropped.push(slot.newest().at());
            Pruned::Gone
        }
        Some(first) => {
            dropped.extend(slot.past_before(first).iter().map(super::slot::Past::at));
            match dropped.get(already..) {
                None | Some([]) => Pruned::Unchanged,
                Some(gone) => Pruned::Shorter(slot.without(gone)),
            }
        }
    }
}

/// A walk over a keyspace that removes what is not retained, slice by slice.
#[derive(Clone, Debug)]
pub struct Pass {
    /// The compacted revision when the pass began. What falls due later is for the next pass.
    pub target: Revision,
    /// Where to go on: the last key that was looked at.
    next: Option<(Space, Vec<u8>)>,
}

impl Pass {
    /// A pass from the start.
    pub fn new(target: Revision) -> Self {
        Self { target, next: None }
    }

    /// Looks at up to `budget` keys that have older versions or are deleted. Takes what it looked at off
    /// the budget; whether the pass is through.
    pub fn step(
        &mut self,
        keyspace: &mut Keyspace,
        budget: &mut usize,
        dropped: &mut Vec<At>,
    ) -> bool {
        let spaces: Vec<Space> = keyspace.spaces().map(|(space, _)| space).collect();
        for space in spaces {
            let from = match &self.next {
                Some((at, _)) if *at > space => continue,
                Some((at, key)) if *at == space => Some(key.clone()),
                _ => None,
            };
            let lower = from.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut edits = vec![];
            let mut last = None;
            if let Some(slots) = keyspace.space(space) {
                for slot in slots.ascend(lower, Bound::Unbounded, Only::Marked) {
                    if *budget == 0 {
                        break;
                    }
                    *budget -= 1;
                    last = Some(slot.key());
                    match prune(slot, self.target, dropped) {
                        Pruned::Unchanged => {}
                        Pruned::Shorter(shorter) => {
                            edits.push((slot.key().to_vec(), Some(shorter)));
                        }
                        Pruned::Gone => edits.push((slot.key().to_vec(), None)),
                    }
                }
            }
            let last = last.map(<[u8]>::to_vec);
            for (key, left) in edits {
                keyspace.replace(space, &key, left);
            }
            if let Some(last) = last {
                self.next = Some((space, last));
            }
            if *budget == 0 {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use meridian_domain::kv::KeyValue;

    use super::*;
    use crate::mvcc::cell::Cell;

    /// A slot from its history: `p3` is a put at revision 3, `d5` a delete at 5.
    fn slot(history: &str) -> Slot {
        let mut slot: Option<Slot> = None;
        for step in history.split_whitespace() {
            let revision: Revision = step[1..].parse().unwrap();
            let at = At { revision, sub: 0 };
            let cell = if step.starts_with('p') {
                Cell::alive(
                    0,
                    &KeyValue {
                        key: Bytes::from_static(b"k"),
                        create_revision: revision,
                        mod_revision: revision,
                        version: 1,
                        value: Bytes::new(),
                        lease: 0,
                    },
                )
            } else {
                Cell::tombstone(at, b"k")
            };
            slot = Some(match slot {
                None => Slot::new(cell),
                Some(slot) => slot.superseded_by(cell),
            });
        }
        slot.unwrap()
    }

    /// What is left of a history after compacting to `compacted`.
    fn left(history: &str, compacted: Revision) -> Vec<Revision> {
        let before = slot(history);
        let mut dropped = vec![];
        let after = match prune(&before, compacted, &mut dropped) {
            Pruned::Unchanged => before,
            Pruned::Shorter(slot) => slot,
            Pruned::Gone => return vec![],
        };
        let mut left: Vec<Revision> = after.past().iter().map(|p| p.at().revision).collect();
        left.push(after.newest().mod_revision());
        left
    }

    #[test]
    fn the_last_live_version_at_or_below_the_compacted_revision_stays() {
        assert_eq!(left("p3 p5 p9", 4), [3, 5, 9]);
        assert_eq!(left("p3 p5 p9", 5), [5, 9]);
        assert_eq!(left("p3 p5 p9", 8), [5, 9]);
        assert_eq!(left("p3 p5 p9", 9), [9]);
        assert_eq!(left("p3 p5 p9", 20), [9]);
    }

    #[test]
    fn a_delete_stays_at_exactly_the_compacted_revision_and_goes_after_it() {
        assert_eq!(left("p3 d5", 4), [3, 5]);
        assert_eq!(left("p3 d5", 5), [5]);
        assert_eq!(left("p3 d5", 6), [] as [Revision; 0]);
        assert_eq!(left("p3 d5 p7", 5), [5, 7]);
        assert_eq!(left("p3 d5 p7", 6), [7]);
        assert_eq!(left("p3 d5 p7 d8", 7), [7, 8]);
    }

    #[test]
    fn nothing_goes_before_anything_was_compacted() {
        assert_eq!(left("p3 d5 p7", 0), [3, 5, 7]);
        assert_eq!(left("p3 d5 p7", 2), [3, 5, 7]);
    }

    #[test]
    fn dropped_and_left_together_are_the_whole_history() {
        for history in ["p3 d5 p7 p8 p9 d10", "p2", "d4", "p2 d3 p4 d5"] {
            for compacted in 0..12 {
                let before = slot(history);
                let mut dropped = vec![];
                prune(&before, compacted, &mut dropped);
                let mut all: Vec<Revision> = dropped.iter().map(|at| at.revision).collect();
                all.extend(left(history, compacted));
                all.sort_unstable();
                let want: Vec<Revision> = history
                    .split_whitespace()
                    .map(|s| s[1..].parse().unwrap())
                    .collect();
                assert_eq!(all, want, "{history} compacted to {compacted}");
            }
        }
    }
}
