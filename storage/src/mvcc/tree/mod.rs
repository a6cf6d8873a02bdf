//! A persistent ordered map: a copy-on-write B+tree.
//!
//! ```text
//!                     [ fences  f1 | f2 ]              a fence f: everything left of it is < f,
//!                     /        |        \              everything right of it is >= f
//!             w=7    /    w=5  |         \   w=6
//!        [e e e e e e e]  [e e e e e]  [e e e e e e]   leaves hold the entries, in order
//! ```
//!
//! - A clone costs one reference count. It never changes afterwards: a writer copies the nodes on the path
//!   to what it changes, unless nobody else holds them ([`Arc::make_mut`]). Readers therefore hold a root
//!   and wait for nobody.
//! - Every child carries the [`Weight`] of its subtree, so the weight of a range takes O(log n), and an
//!   iteration [`Only`] over entries that count skips whole subtrees that hold none.
//! - Leaves are short ([`LEAF_MAX`]): copying one touches the reference count of each of its entries, and
//!   at a million keys every such touch is a cache miss. Inner nodes share their fences between copies.
//!
//! An entry carries its own key; the tree keeps no second copy of it, only shortened fences.

mod edit;
mod iter;

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

pub use iter::{Ascend, Descend, Only};

/// The most entries of a leaf.
const LEAF_MAX: usize = 16;
/// The most children of an inner node.
const INNER_MAX: usize = 32;
/// A node with fewer parts than this, after a removal, is joined with a neighbour if both fit in one.
const LEAF_MIN: usize = 5;
/// As [`LEAF_MIN`], for inner nodes.
const INNER_MIN: usize = 10;

/// What an entry, or a subtree, adds up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Entries that count (for slots: keys that are alive).
    pub counted: u32,
    /// Entries that are marked (for slots: those compaction may find something to remove in).
    pub marked: u32,
}

impl Weight {
    /// An entry that counts and is not marked.
    pub const ONE: Self = Self {
        counted: 1,
        marked: 0,
    };

    fn plus(self, other: Self) -> Self {
        Self {
            counted: self.counted + other.counted,
            marked: self.marked + other.marked,
        }
    }

    /// `other` is part of `self`, so nothing can fall below zero.
    fn minus(self, other: Self) -> Self {
        Self {
            counted: self.counted.saturating_sub(other.counted),
            marked: self.marked.saturating_sub(other.marked),
        }
    }
}

/// What the tree holds.
pub trait Entry: Clone {
    /// What entries are ordered by.
    type Key: ?Sized;
    /// What inner nodes keep to tell left from right.
    type Fence: Clone;

    /// The order of this entry's key relative to `key`.
    fn compare(&self, key: &Self::Key) -> Ordering;
    /// The order of `fence` relative to `key`.
    fn compare_fence(fence: &Self::Fence, key: &Self::Key) -> Ordering;
    /// A fence above `below` and not above `at`, as short as can be. `below` lies before `at`.
    fn fence(below: &Self, at: &Self) -> Self::Fence;
    /// What the entry adds to the weight of its subtree. Changes only by [`Tree::edit`].
    fn weight(&self) -> Weight;
}

/// An ordered map with cheap clones. See the chapter above.
#[derive(Clone)]
pub struct Tree<E: Entry> {
    root: Option<Arc<Node<E>>>,
}

#[derive(Clone)]
enum Node<E: Entry> {
    /// Never empty, ascending.
    Leaf(Vec<E>),
    Inner(Inner<E>),
}

#[derive(Clone)]
struct Inner<E: Entry> {
    /// One fewer than children; `fences[i]` stands between children `i` and `i + 1`.
    fences: Arc<Vec<E::Fence>>,
    /// Never empty.
    children: Vec<Child<E>>,
}

#[derive(Clone)]
struct Child<E: Entry> {
    node: Arc<Node<E>>,
    weight: Weight,
}

impl<E: Entry> Default for Tree<E> {
    fn default() -> Self {
        Self { root: None }
    }
}

impl<E: Entry> std::fmt::Debug for Tree<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree")
            .field("weight", &self.weight())
            .finish()
    }
}

impl<E: Entry> Tree<E> {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// The weight of everything. O(children of the root).
    pub fn weight(&self) -> Weight {
        self.root
            .as_ref()
            .map_or(Weight::default(), |root| root.weight())
    }

    /// The entry under `key`.
    pub fn get(&self, key: &E::Key) -> Option<&E> {
        let mut node = self.root.as_deref()?;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let at = entries.binary_search_by(|e| e.compare(key)).ok()?;
                    return entries.get(at);
                }
                Node::Inner(inner) => node = &inner.children.get(inner.child_for(key))?.node,
            }
        }
    }

    /// The weight of everything between two bounds. O(log n).
    pub fn weight_within(&self, lower: Bound<&E::Key>, upper: Bound<&E::Key>) -> Weight {
        let whole = match upper {
            Bound::Unbounded => self.weight(),
            Bound::Included(key) => self.weight_before(key, true),
            Bound::Excluded(key) => self.weight_before(key, false),
        };
        let before = match lower {
            Bound::Unbounded => Weight::default(),
            Bound::Included(key) => self.weight_before(key, false),
            Bound::Excluded(key) => self.weight_before(key, true),
        };
        whole.minus(before)
    }

    /// The weight of everything below `key`, and of the entry at it if `inclusive`.
    fn weight_before(&self, key: &E::Key, inclusive: bool) -> Weight {
        let mut sum = Weight::default();
        let mut next = self.root.as_deref();
        while let Some(node) = next {
            next = match node {
                Node::Leaf(entries) => {
                    let end = entries.partition_point(|e| match e.compare(key) {
                        Ordering::Less => true,
                        Ordering::Equal => inclusive,
                        Ordering::Greater => false,
                    });
                    sum = entries
                        .iter()
                        .take(end)
                        .fold(sum, |sum, e| sum.plus(e.weight()));
                    None
                }
                Node::Inner(inner) => {
                    let at = inner.child_for(key);
                    sum = inner
                        .children
                        .iter()
                        .take(at)
                        .fold(sum, |sum, c| sum.plus(c.weight));
                    inner.children.get(at).map(|child| &*child.node)
                }
            };
        }
        sum
    }

    /// Builds a tree from entries in ascending order without equal keys.
    pub fn from_ascending(entries: impl IntoIterator<Item = E>) -> Self {
        /// Some room is left in each node, so that the first writes after loading need no split.
        const LEAF_FILL: usize = LEAF_MAX - 2;
        const INNER_FILL: usize = INNER_MAX - 4;

        let mut level: Vec<(Arc<Node<E>>, Weight)> = vec![];
        let mut fences: Vec<E::Fence> = vec![];
        let mut leaf: Vec<E> = Vec::with_capacity(LEAF_FILL);
        for entry in entries {
            if leaf.len() == LEAF_FILL {
                if let Some(last) = leaf.last() {
                    fences.push(E::fence(last, &entry));
                }
                level.push(Node::sealed_leaf(std::mem::replace(
                    &mut leaf,
                    Vec::with_capacity(LEAF_FILL),
                )));
            }
            leaf.push(entry);
        }
        if leaf.is_empty() {
            return Self::default();
        }
        leaf.shrink_to_fit();
        level.push(Node::sealed_leaf(leaf));

        while level.len() > 1 {
            let mut above = Vec::with_capacity(level.len() / INNER_FILL + 1);
            let mut fences_above = vec![];
            let mut nodes = level.into_iter().peekable();
            let mut between = fences.into_iter();
            while nodes.peek().is_some() {
                let children: Vec<Child<E>> = nodes
                    .by_ref()
                    .take(INNER_FILL)
                    .map(|(node, weight)| Child { node, weight })
                    .collect();
                let own: Vec<E::Fence> = between.by_ref().take(children.len() - 1).collect();
                fences_above.extend(between.next());
                let weight = children
                    .iter()
                    .fold(Weight::default(), |s, c| s.plus(c.weight));
                let inner = Inner {
                    fences: Arc::new(own),
                    children,
                };
                above.push((Arc::new(Node::Inner(inner)), weight));
            }
            level = above;
            fences = fences_above;
        }
        Self {
            root: level.pop().map(|(node, _)| node),
        }
    }
}

impl<E: Entry> Node<E> {
    fn sealed_leaf(entries: Vec<E>) -> (Arc<Self>, Weight) {
        let leaf = Self::Leaf(entries);
        let weight = leaf.weight();
        (Arc::new(leaf), weight)
    }

    /// The sum over its parts.
    fn weight(&self) -> Weight {
        match self {
            Self::Leaf(entries) => entries
                .iter()
                .fold(Weight::default(), |sum, e| sum.plus(e.weight())),
            Self::Inner(inner) => inner
                .children
                .iter()
                .fold(Weight::default(), |sum, c| sum.plus(c.weight)),
        }
    }
}

impl<E: Entry> Inner<E> {
    /// The place of the child that `key` belongs to.
    fn child_for(&self, key: &E::Key) -> usize {
        self.fences
            .partition_point(|fence| E::compare_fence(fence, key).is_le())
    }
}

/// The shortest prefix of `at` that lies above `below`; `below < at`. The fence of byte keys.
pub fn shortest_between(below: &[u8], at: &[u8]) -> Arc<[u8]> {
    let shared = below.iter().zip(at).take_while(|(b, a)| b == a).count();
    Arc::from(at.get(..=shared).unwrap_or(at))
}

#[cfg(test)]
mod tests;
