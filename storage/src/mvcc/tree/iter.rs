//! Walking a tree in order, either way, from a bound.
//!
//! A walk keeps the path of inner nodes above it and a slice of the present leaf. A step allocates nothing;
//! the path fits in place for any tree that fits in memory.

use std::ops::Bound;

use smallvec::SmallVec;

use super::sorted::{Item, Sorted};
use super::{Child, Entry, Held, Inner, Node, Tree, Weight};

/// Inner nodes above a leaf: 32^6 leaves before the path has to be moved to the heap.
type Path<'a, E> = SmallVec<[std::slice::Iter<'a, Child<E>>; 6]>;

/// Which entries a walk visits. Subtrees without any are skipped whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// Every entry.
    All,
    /// Entries that count.
    Counted,
    /// Entries that are marked.
    Marked,
}

impl Only {
    pub(super) fn admits(self, weight: Weight) -> bool {
        match self {
            Self::All => true,
            Self::Counted => weight.counted > 0,
            Self::Marked => weight.marked > 0,
        }
    }
}

/// A walk in ascending order.
pub struct Ascend<'a, E: Entry> {
    path: Path<'a, E>,
    leaf: std::slice::Iter<'a, Item<Held<E>>>,
    upper: Bound<&'a [u8]>,
    only: Only,
    /// The upper bound lies in the present leaf or before it.
    last: bool,
}

/// A walk in descending order.
pub struct Descend<'a, E: Entry> {
    path: Path<'a, E>,
    leaf: std::slice::Iter<'a, Item<Held<E>>>,
    lower: Bound<&'a [u8]>,
    only: Only,
    /// The lower bound lies in the present leaf or after it.
    last: bool,
}

impl<E: Entry> Tree<E> {
    /// Walks the entries between two bounds, ascending.
    pub fn ascend<'a>(
        &'a self,
        lower: Bound<&[u8]>,
        upper: Bound<&'a [u8]>,
        only: Only,
    ) -> Ascend<'a, E> {
        let mut walk = Ascend {
            path: Path::new(),
            leaf: [].iter(),
            upper,
            only,
            last: self.is_empty(),
        };
        let mut next = self.root.as_deref();
        while let Some(node) = next {
            next = match node {
                Node::Leaf(entries) => {
                    let begin = below(entries, lower);
                    walk.enter(entries, begin);
                    None
                }
                Node::Inner(inner) => {
                    let at = child_at(inner, lower, 0);
                    walk.path
                        .push(inner.children.get(at + 1..).unwrap_or_default().iter());
                    inner.children.get(at).map(|child| &*child.node)
                }
            };
        }
        walk
    }

    /// Walks the entries between two bounds, descending.
    pub fn descend<'a>(
        &'a self,
        lower: Bound<&'a [u8]>,
        upper: Bound<&[u8]>,
        only: Only,
    ) -> Descend<'a, E> {
        let mut walk = Descend {
            path: Path::new(),
            leaf: [].iter(),
            lower,
            only,
            last: self.is_empty(),
        };
        let mut next = self.root.as_deref();
        while let Some(node) = next {
            next = match node {
                Node::Leaf(entries) => {
                    let end = not_above(entries, upper);
                    walk.enter(entries, end);
                    None
                }
                Node::Inner(inner) => {
                    let at = child_at(inner, upper, inner.children.len().saturating_sub(1));
                    walk.path
                        .push(inner.children.get(..at).unwrap_or_default().iter());
                    inner.children.get(at).map(|child| &*child.node)
                }
            };
        }
        walk
    }

    /// Walks everything, ascending.
    pub fn iter(&self) -> Ascend<'_, E> {
        self.ascend(Bound::Unbounded, Bound::Unbounded, Only::All)
    }
}

impl<'a, E: Entry> IntoIterator for &'a Tree<E> {
    type Item = &'a E;
    type IntoIter = Ascend<'a, E>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The child a bound falls into; `open` if there is no bound.
fn child_at<E: Entry>(inner: &Inner<E>, bound: Bound<&[u8]>, open: usize) -> usize {
    match bound {
        Bound::Unbounded => open,
        Bound::Included(key) | Bound::Excluded(key) => inner.child_for(key),
    }
}

/// How many entries lie before a lower bound.
fn below<E: Entry>(entries: &Sorted<Held<E>>, lower: Bound<&[u8]>) -> usize {
    match lower {
        Bound::Unbounded => 0,
        Bound::Included(key) => entries.cut(key, false),
        Bound::Excluded(key) => entries.cut(key, true),
    }
}

/// How many entries do not lie behind an upper bound.
fn not_above<E: Entry>(entries: &Sorted<Held<E>>, upper: Bound<&[u8]>) -> usize {
    match upper {
        Bound::Unbounded => entries.len(),
        Bound::Included(key) => entries.cut(key, true),
        Bound::Excluded(key) => entries.cut(key, false),
    }
}

impl<'a, E: Entry> Ascend<'a, E> {
    /// Goes on with `entries[begin..]`, cut at the upper bound.
    fn enter(&mut self, entries: &'a Sorted<Held<E>>, begin: usize) {
        let end = not_above(entries, self.upper);
        self.last = end < entries.len();
        self.leaf = entries.items().get(begin..end).unwrap_or_default().iter();
    }

    /// Enters the next leaf that may hold something. Whether there is one.
    fn next_leaf(&mut self) -> bool {
        while let Some(level) = self.path.last_mut() {
            let only = self.only;
            let Some(child) = level.find(|child| only.admits(child.weight)) else {
                self.path.pop();
                continue;
            };
            match &*child.node {
                Node::Inner(inner) => self.path.push(inner.children.iter()),
                Node::Leaf(entries) => {
                    self.enter(entries, 0);
                    return true;
                }
            }
        }
        false
    }
}

impl<'a, E: Entry> Iterator for Ascend<'a, E> {
    type Item = &'a E;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            for Item {
                value: Held(entry), ..
            } in self.leaf.by_ref()
            {
                if self.only == Only::All || self.only.admits(entry.weight()) {
                    return Some(entry);
                }
            }
            if self.last || !self.next_leaf() {
                self.last = true;
                return None;
            }
        }
    }
}

impl<'a, E: Entry> Descend<'a, E> {
    /// Goes on with `entries[..end]` from its end, cut at the lower bound.
    fn enter(&mut self, entries: &'a Sorted<Held<E>>, end: usize) {
        let begin = below(entries, self.lower);
        self.last = begin > 0;
        self.leaf = entries.items().get(begin..end).unwrap_or_default().iter();
    }

    /// Enters the leaf before that may hold something. Whether there is one.
    fn next_leaf(&mut self) -> bool {
        while let Some(level) = self.path.last_mut() {
            let only = self.only;
            let Some(child) = level.rfind(|child| only.admits(child.weight)) else {
                self.path.pop();
                continue;
            };
            match &*child.node {
                Node::Inner(inner) => self.path.push(inner.children.iter()),
                Node::Leaf(entries) => {
                    self.enter(entries, entries.len());
                    return true;
                }
            }
        }
        false
    }
}

impl<'a, E: Entry> Iterator for Descend<'a, E> {
    type Item = &'a E;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            while let Some(Item {
                value: Held(entry), ..
            }) = self.leaf.next_back()
            {
                if self.only == Only::All || self.only.admits(entry.weight()) {
                    return Some(entry);
                }
            }
            if self.last || !self.next_leaf() {
                self.last = true;
                return None;
            }
        }
    }
}
