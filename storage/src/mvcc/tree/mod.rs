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
//! An entry carries its own key; the tree keeps no second copy of it, only shortened fences, and heads of
//! eight bytes ([`sorted`]), so that a search follows few pointers.

mod edit;
mod iter;
mod sorted;

use std::ops::Bound;
use std::sync::Arc;

pub use iter::{Ascend, Descend, Only};
pub use sorted::Head;

use sorted::{Keyed, Sorted};

/// The most entries of a leaf.
const LEAF_MAX: usize = 16;
/// The most children of an inner node.
const INNER_MAX: usize = 16;
/// A node with fewer parts than this, after a removal, is joined with a neighbour if both fit in one.
const LEAF_MIN: usize = 5;
/// As [`LEAF_MIN`], for inner nodes.
const INNER_MIN: usize = 5;

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
    /// What is kept of a key beside the entry: `u64` where the key lies elsewhere, `()` where it lies in it.
    type Head: Head;

    /// What entries are ordered by.
    fn key(&self) -> &[u8];

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
    /// Never empty.
    Leaf(Sorted<Held<E>>),
    Inner(Inner<E>),
}

/// An entry in a leaf.
#[derive(Clone)]
struct Held<E: Entry>(E);

impl<E: Entry> Keyed for Held<E> {
    type Head = E::Head;

    fn key(&self) -> &[u8] {
        self.0.key()
    }
}

#[derive(Clone)]
struct Inner<E: Entry> {
    /// One fewer than children; the fence at `i` stands between children `i` and `i + 1`.
    fences: Arc<Sorted<Fence>>,
    /// Never empty.
    children: Vec<Child<E>>,
}

/// The shortest key that tells what is left of it (below) from what is right of it (not below).
#[derive(Clone, Debug)]
struct Fence(Arc<[u8]>);

impl Fence {
    /// `below` lies before `at`.
    fn between(below: &[u8], at: &[u8]) -> Self {
        let shared = below.iter().zip(at).take_while(|(b, a)| b == a).count();
        Self(Arc::from(at.get(..=shared).unwrap_or(at)))
    }
}

impl Keyed for Fence {
    type Head = u64;

    fn key(&self) -> &[u8] {
        &self.0
    }
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
    pub fn get(&self, key: &[u8]) -> Option<&E> {
        let mut node = self.root.as_deref()?;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let found = entries.items().get(entries.find(key)?)?;
                    return Some(&found.value.0);
                }
                Node::Inner(inner) => node = &inner.children.get(inner.child_for(key))?.node,
            }
        }
    }

    /// The weight of everything between two bounds. O(log n).
    pub fn weight_within(&self, lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> Weight {
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
    fn weight_before(&self, key: &[u8], inclusive: bool) -> Weight {
        let mut sum = Weight::default();
        let mut next = self.root.as_deref();
        while let Some(node) = next {
            next = match node {
                Node::Leaf(entries) => {
                    let before = entries.items().iter().take(entries.cut(key, inclusive));
                    sum = before.fold(sum, |sum, item| sum.plus(item.value.0.weight()));
                    None
                }
                Node::Inner(inner) => {
                    let at = inner.child_for(key);
                    sum = total(sum, inner.children.iter().take(at));
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
        const INNER_FILL: usize = INNER_MAX - 2;

        let mut level: Vec<Child<E>> = vec![];
        let mut fences: Vec<Fence> = vec![];
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            let mut leaf = Sorted::new(entries.by_ref().take(LEAF_FILL).map(Held));
            leaf.shrink();
            if let (Some(last), Some(next)) = (leaf.last(), entries.peek()) {
                fences.push(Fence::between(last.key(), next.key()));
            }
            level.push(Node::Leaf(leaf).into_child());
        }
        while level.len() > 1 {
            let mut above = Vec::with_capacity(level.len() / INNER_FILL + 1);
            let mut fences_above = vec![];
            let mut nodes = level.into_iter().peekable();
            let mut between = fences.into_iter();
            while nodes.peek().is_some() {
                let children: Vec<Child<E>> = nodes.by_ref().take(INNER_FILL).collect();
                let own = Sorted::new(between.by_ref().take(children.len() - 1));
                fences_above.extend(between.next());
                above.push(
                    Node::Inner(Inner {
                        fences: Arc::new(own),
                        children,
                    })
                    .into_child(),
                );
            }
            level = above;
            fences = fences_above;
        }
        Self {
            root: level.pop().map(|child| child.node),
        }
    }
}

fn total<'a, E: Entry + 'a>(sum: Weight, children: impl Iterator<Item = &'a Child<E>>) -> Weight {
    children.fold(sum, |sum, child| sum.plus(child.weight))
}

impl<E: Entry> Node<E> {
    fn into_child(self) -> Child<E> {
        let weight = self.weight();
        Child {
            node: Arc::new(self),
            weight,
        }
    }

    /// The sum over its parts.
    fn weight(&self) -> Weight {
        let zero = Weight::default();
        match self {
            Self::Leaf(entries) => entries
                .items()
                .iter()
                .fold(zero, |sum, item| sum.plus(item.value.0.weight())),
            Self::Inner(inner) => total(zero, inner.children.iter()),
        }
    }
}

impl<E: Entry> Inner<E> {
    /// The place of the child that `key` belongs to.
    fn child_for(&self, key: &[u8]) -> usize {
        self.fences.cut(key, true)
    }
}

#[cfg(test)]
mod tests;
