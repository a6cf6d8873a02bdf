//! A short ascending run of keyed things, searched without following pointers.
//!
//! ```text
//!   skip = 14                       head: the 8 bytes behind what all keys have in common
//!   "/registry/pods/ns-007/web-1"   [  "/ns-007/"  ] -> ...
//!   "/registry/pods/ns-009/web-1"   [  "/ns-009/"  ] -> ...
//!                  ^skip
//! ```
//!
//! The keys of a store lie anywhere in memory, and each one looked at is a cache miss or two; beginnings are
//! mostly alike. So each item carries a *head*, and only equal heads are settled by whole keys. A search
//! looks at one key for what all have in common and at one for the end.

/// Has a key.
pub(super) trait Keyed: Clone {
    type Head: Head;
    fn key(&self) -> &[u8];
}

/// What is kept of a key beside it. It orders like the keys, save that different keys may have equal heads.
pub trait Head: Copy + Ord + std::fmt::Debug {
    /// Whether it tells anything.
    const TELLS: bool;
    /// The head of `key` behind its first `skip` bytes.
    fn of(key: &[u8], skip: usize) -> Self;
}

impl Head for u64 {
    const TELLS: bool = true;

    fn of(key: &[u8], skip: usize) -> Self {
        let rest = key.get(skip..).unwrap_or_default();
        if let Some(whole) = rest.first_chunk::<8>() {
            return Self::from_be_bytes(*whole);
        }
        let mut short = [0; 8];
        for (to, from) in short.iter_mut().zip(rest) {
            *to = *from;
        }
        Self::from_be_bytes(short)
    }
}

/// For keys that lie beside each other anyway.
impl Head for () {
    const TELLS: bool = false;

    fn of(_: &[u8], _: usize) {}
}

/// Items in ascending order of their keys, without equal ones.
#[derive(Clone, Debug)]
pub(super) struct Sorted<T: Keyed> {
    /// No more than what all keys have in common.
    skip: u32,
    items: Vec<Item<T>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Item<T: Keyed> {
    head: T::Head,
    pub(super) value: T,
}

impl<T: Keyed> Sorted<T> {
    /// From values in ascending order.
    pub(super) fn new(values: impl Iterator<Item = T>) -> Self {
        let items = values
            .map(|value| Item {
                head: T::Head::of(&[], 0),
                value,
            })
            .collect();
        let mut sorted = Self {
            skip: u32::MAX,
            items,
        };
        sorted.fit();
        sorted
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn items(&self) -> &[Item<T>] {
        &self.items
    }

    pub(super) fn first(&self) -> Option<&T> {
        self.items.first().map(|item| &item.value)
    }

    pub(super) fn last(&self) -> Option<&T> {
        self.items.last().map(|item| &item.value)
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.items.get_mut(at).map(|item| &mut item.value)
    }

    /// How many keys lie below `key`, or at it if `inclusive`.
    pub(super) fn cut(&self, key: &[u8], inclusive: bool) -> usize {
        let skip = self.skip as usize;
        let Some(first) = self.items.first() else {
            return 0;
        };
        let shared = first.value.key().get(..skip).unwrap_or_default();
        match key.get(..skip).unwrap_or(key).cmp(shared) {
            std::cmp::Ordering::Less => return 0,
            std::cmp::Ordering::Greater => return self.items.len(),
            std::cmp::Ordering::Equal => {}
        }
        self.cut_behind_shared(key, inclusive)
    }

    fn cut_behind_shared(&self, key: &[u8], inclusive: bool) -> usize {
        let head = T::Head::of(key, self.skip as usize);
        self.items.partition_point(|item| {
            let order = item.head.cmp(&head).then_with(|| item.value.key().cmp(key));
            if inclusive {
                order.is_le()
            } else {
                order.is_lt()
            }
        })
    }

    /// The place of `key`, if it is there.
    pub(super) fn find(&self, key: &[u8]) -> Option<usize> {
        // A key that lacks what all have in common leads anywhere, and is not found there.
        let at = self.cut_behind_shared(key, false);
        let item = self.items.get(at)?;
        (item.value.key() == key).then_some(at)
    }

    /// Puts a value before the one at `at`, where it belongs.
    pub(super) fn insert(&mut self, at: usize, value: T) {
        if self.items.len() == self.items.capacity() {
            // Grow by a little: most runs are copied, at their exact length, before they grow again.
            self.items.reserve_exact(2);
        }
        let skip = self.skip as usize;
        let fits = self.items.first().is_some_and(|first| {
            let shared = first.value.key().get(..skip);
            shared.is_some() && shared == value.key().get(..skip)
        });
        let head = T::Head::of(value.key(), skip);
        self.items.insert(at, Item { head, value });
        if !fits {
            self.fit();
        }
    }

    pub(super) fn remove(&mut self, at: usize) -> T {
        self.items.remove(at).value
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        self.items.pop().map(|item| item.value)
    }

    /// Takes off the items from `at` on.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let mut items = Vec::with_capacity(self.items.len() - at + 1);
        items.extend(self.items.drain(at..));
        let mut right = Self {
            skip: self.skip,
            items,
        };
        right.fit();
        self.fit();
        right
    }

    /// Appends items that lie behind all others.
    pub(super) fn append(&mut self, right: &Self) {
        self.items.extend_from_slice(&right.items);
        // The heads of the two halves stand behind different beginnings.
        self.skip = u32::MAX;
        self.fit();
    }

    /// Appends a value that lies behind all others.
    pub(super) fn push(&mut self, value: T) {
        self.insert(self.items.len(), value);
    }

    /// Gives back room that is not used.
    pub(super) fn shrink(&mut self) {
        self.items.shrink_to_fit();
    }

    /// Sets `skip` to what all keys have in common, and the heads to it.
    fn fit(&mut self) {
        let skip = match (self.items.first(), self.items.last()) {
            (Some(first), Some(last)) if T::Head::TELLS => {
                let pairs = first.value.key().iter().zip(last.value.key());
                pairs.take_while(|(a, b)| a == b).count() as u32
            }
            _ => 0,
        };
        if skip != self.skip {
            self.skip = skip;
            for item in &mut self.items {
                item.head = T::Head::of(item.value.key(), skip as usize);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    struct Word(Vec<u8>);

    impl Keyed for Word {
        type Head = u64;

        fn key(&self) -> &[u8] {
            &self.0
        }
    }

    fn word() -> impl Strategy<Value = Vec<u8>> {
        let tail =
            proptest::collection::vec(prop_oneof![Just(0u8), Just(b'a'), Just(255u8)], 0..12);
        (prop_oneof![Just(""), Just("aa"), Just("aaaaaaaaaa")], tail)
            .prop_map(|(begin, tail)| [begin.as_bytes(), &tail].concat())
    }

    proptest! {
        #[test]
        fn a_search_by_heads_finds_what_a_search_by_keys_finds(
            words in proptest::collection::btree_set(word(), 0..40),
            inserted in proptest::collection::vec(word(), 0..10),
            asked in proptest::collection::vec(word(), 20),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut sorted = Sorted::new(words.iter().map(|w| Word(w.clone())));
            let mut plain: Vec<Vec<u8>> = words.into_iter().collect();
            for word in inserted {
                if let Err(at) = plain.binary_search(&word) {
                    plain.insert(at, word.clone());
                    prop_assert_eq!(sorted.cut(&word, false), at);
                    sorted.insert(at, Word(word));
                }
            }
            if !plain.is_empty() {
                let at = cut.index(plain.len());
                let mut right = sorted.split_off(at);
                if at % 2 == 0 {
                    right.remove(0);
                    plain.remove(at);
                }
                sorted.append(&right);
            }
            for key in asked.iter().chain(&plain) {
                prop_assert_eq!(sorted.find(key), plain.binary_search(key).ok());
                prop_assert_eq!(sorted.cut(key, false), plain.partition_point(|p| p < key));
                prop_assert_eq!(sorted.cut(key, true), plain.partition_point(|p| p <= key));
            }
        }
    }
}
