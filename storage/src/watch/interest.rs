//! Who watches what: from a key to the watchers interested in it.
//!
//! A watcher of a single key lies in a hash map, one of a range in an interval tree ([`super::ranges`]), so
//! the cost of a commit follows the number of watchers it concerns, not the number there are.

use std::collections::HashMap;
use std::sync::Arc;

use meridian_domain::key::Space;
use smallvec::SmallVec;

use super::cursor::Filters;
use super::event::Entry;
use super::mailbox::Mailbox;
use super::ranges::Ranges;
use super::span::Span;

/// The number of a watcher in its hub; given again after the watcher is gone.
pub(super) type WatcherId = u32;

/// The watchers of one key or one range.
pub(super) type Members = SmallVec<[Member; 1]>;

const NO_PUT: u32 = 1 << 31;
const NO_DELETE: u32 = 1 << 30;

/// One watcher, where it is found.
#[derive(Debug)]
pub(super) struct Member {
    /// Where its session collects marks.
    pub(super) mailbox: Arc<Mailbox>,
    /// Its slot there, and its filters in the two highest bits.
    slot: u32,
    watcher: WatcherId,
}

impl Member {
    /// Its slot in the mailbox.
    pub(super) fn slot(&self) -> u32 {
        self.slot & !(NO_PUT | NO_DELETE)
    }

    fn wants(&self, is_delete: bool) -> bool {
        self.slot & (if is_delete { NO_DELETE } else { NO_PUT }) == 0
    }
}

#[derive(Debug)]
struct Keys {
    single: HashMap<Arc<[u8]>, Members>,
    ranges: Ranges,
}

/// Every watcher of a tenant.
#[derive(Debug, Default)]
pub(super) struct Interest {
    /// Few: one per space anybody watches.
    spaces: Vec<(Space, Keys)>,
    /// Where in its `Members` each watcher stands, by id.
    places: Vec<u32>,
    free: Vec<WatcherId>,
}

impl Interest {
    /// Adds a watcher. `slot` must be below 2^30.
    pub(super) fn add(
        &mut self,
        space: Space,
        span: &Span,
        filters: Filters,
        mailbox: Arc<Mailbox>,
        slot: u32,
    ) -> WatcherId {
        let watcher = self.free.pop().unwrap_or_else(|| {
            self.places.push(0);
            self.places.len() as u32 - 1
        });
        if !self.spaces.iter().any(|(s, _)| *s == space) {
            self.spaces.push((
                space,
                Keys {
                    single: HashMap::new(),
                    ranges: Ranges::new(),
                },
            ));
        }
        let Some((_, keys)) = self.spaces.iter_mut().find(|(s, _)| *s == space) else {
            return watcher;
        };
        let members = match span.single() {
            Some(key) => keys.single.entry(key.clone()).or_default(),
            None => keys.ranges.entry(span),
        };
        let mut packed = slot;
        if filters.no_put {
            packed |= NO_PUT;
        }
        if filters.no_delete {
            packed |= NO_DELETE;
        }
        if let Some(place) = self.places.get_mut(watcher as usize) {
            *place = members.len() as u32;
        }
        members.push(Member {
            mailbox,
            slot: packed,
            watcher,
        });
        watcher
    }

    /// Removes a watcher that was added with this space and span.
    pub(super) fn remove(&mut self, space: Space, span: &Span, watcher: WatcherId) {
        let Some(at) = self.spaces.iter().position(|(s, _)| *s == space) else {
            return;
        };
        let Some((_, keys)) = self.spaces.get_mut(at) else {
            return;
        };
        let members = match span.single() {
            Some(key) => keys.single.get_mut(key),
            None => keys.ranges.get_mut(span),
        };
        let Some(members) = members else { return };
        let place = self
            .places
            .get(watcher as usize)
            .map_or(usize::MAX, |p| *p as usize);
        if members.get(place).is_none_or(|m| m.watcher != watcher) {
            return;
        }
        members.swap_remove(place);
        if let Some(moved) = members.get(place)
            && let Some(p) = self.places.get_mut(moved.watcher as usize)
        {
            *p = place as u32;
        }
        if members.spilled() && members.len() * 4 < members.capacity() {
            members.shrink_to_fit();
        }
        if members.is_empty() {
            match span.single() {
                Some(key) => {
                    keys.single.remove(key);
                    if keys.single.len() * 8 < keys.single.capacity() {
                        keys.single.shrink_to_fit();
                    }
                }
                None => keys.ranges.remove(span),
            }
        }
        if keys.single.is_empty() && keys.ranges.is_empty() {
            self.spaces.swap_remove(at);
        }
        self.free.push(watcher);
    }

    /// Hands every watcher with an interest in the commit to `each`; one with several may come several
    /// times.
    pub(super) fn matching(&self, entry: &Entry, mut each: impl FnMut(&Member)) {
        for change in entry.changes() {
            let is_delete = change.is_delete();
            for (space, keys) in &self.spaces {
                if *space != change.space {
                    continue;
                }
                let mut offer = |members: &Members| {
                    members
                        .iter()
                        .filter(|m| m.wants(is_delete))
                        .for_each(&mut each);
                };
                if let Some(members) = keys.single.get(change.key.as_ref()) {
                    offer(members);
                }
                keys.ranges.containing(&change.key, offer);
            }
        }
    }

    /// Hands every watcher to `each`.
    pub(super) fn all(&self, mut each: impl FnMut(&Member)) {
        for (_, keys) in &self.spaces {
            keys.single.values().flatten().for_each(&mut each);
            keys.ranges
                .all(|members| members.iter().for_each(&mut each));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use std::collections::BTreeSet;

    use bytes::Bytes;
    use meridian_domain::key::KeyRange;
    use proptest::prelude::*;

    use super::super::model::commit_of;
    use super::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0_u8..4, 1..4)
    }

    fn ends(start: &[u8], end: Option<Vec<u8>>) -> KeyRange {
        let end = end.unwrap_or_default();
        KeyRange::from_wire(Bytes::copy_from_slice(start), Bytes::from(end))
    }

    fn found(interest: &Interest, key: &[u8]) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        interest.matching(&Entry::new(Arc::new(commit_of(2, key))), |m| {
            assert!(
                found.insert(m.slot()),
                "watcher {} was found twice",
                m.slot()
            );
        });
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        #[test]
        fn a_key_finds_exactly_the_watchers_whose_range_contains_it(
            ranges in proptest::collection::vec((key(), proptest::option::of(key())), 1..60),
            removals in proptest::collection::vec(any::<prop::sample::Index>(), 0..60),
            probes in proptest::collection::vec(key(), 1..20),
        ) {
            let mailbox = Arc::new(Mailbox::default());
            let mut interest = Interest::default();
            let mut alive = vec![];
            for (slot, (start, end)) in ranges.into_iter().enumerate() {
                let range = ends(&start, end);
                if range.is_empty() {
                    continue;
                }
                let span = Span::new(&range);
                let id = interest.add(
                    Space::RAW, &span, Filters::default(), mailbox.clone(), slot as u32,
                );
                alive.push((range, span, id, slot as u32));
            }
            for (round, removal) in removals.iter().enumerate() {
                if !alive.is_empty() {
                    let (_, span, id, _) = alive.swap_remove(removal.index(alive.len()));
                    interest.remove(Space::RAW, &span, id);
                }
                let probe = &probes[round % probes.len()];
                let expected: BTreeSet<u32> =
                    alive.iter().filter(|(r, ..)| r.contains(probe)).map(|(.., s)| *s).collect();
                prop_assert_eq!(found(&interest, probe), expected);
            }
            let mut all = 0;
            interest.all(|_| all += 1);
            prop_assert_eq!(all, alive.len());
            for probe in &probes {
                let expected: BTreeSet<u32> =
                    alive.iter().filter(|(r, ..)| r.contains(probe)).map(|(.., s)| *s).collect();
                prop_assert_eq!(found(&interest, probe), expected);
            }
        }
    }

    #[test]
    fn watchers_of_another_space_and_filtered_ones_are_not_found() {
        let mailbox = Arc::new(Mailbox::default());
        let mut interest = Interest::default();
        let span = Span::new(&KeyRange::single(Bytes::from_static(b"k")));
        // What `found` looks up is a deletion.
        let no_delete = Filters {
            no_put: false,
            no_delete: true,
        };
        let no_put = Filters {
            no_put: true,
            no_delete: false,
        };
        interest.add(Space(3), &span, Filters::default(), mailbox.clone(), 0);
        interest.add(Space::RAW, &span, no_delete, mailbox.clone(), 1);
        assert!(found(&interest, b"k").is_empty());
        let id = interest.add(Space::RAW, &span, no_put, mailbox, 2);
        assert_eq!(found(&interest, b"k"), BTreeSet::from([2]));
        interest.remove(Space::RAW, &span, id);
        assert!(found(&interest, b"k").is_empty());
    }
}
