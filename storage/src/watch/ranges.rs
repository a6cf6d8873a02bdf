//! Ranges by the keys they contain: an interval tree.
//!
//! A treap ordered by `(start, end)`, each node knowing the largest end below it, so that a lookup visits only
//! subtrees that can contain the key. The nodes lie in one vector and name each other by index. Watchers
//! of equal ranges share a node.
#![expect(
    clippy::indexing_slicing,
    reason = "links name only nodes of this tree's own vector"
)]

use std::cmp::Ordering;
use std::hash::{BuildHasher, RandomState};

use super::interest::Members;
use super::span::Span;

/// No node.
const NIL: u32 = u32::MAX;

#[derive(Debug)]
struct Node {
    span: Span,
    members: Members,
    left: u32,
    right: u32,
    /// The node below (or this one) whose span ends last.
    longest: u32,
    /// Heap order keeps the tree flat: random, so that nobody can choose keys that make it deep.
    priority: u32,
}

/// The ranges being watched in one space.
#[derive(Debug)]
pub(super) struct Ranges {
    nodes: Vec<Node>,
    free: Vec<u32>,
    root: u32,
    random: RandomState,
    made: u64,
}

impl Ranges {
    pub(super) fn new() -> Self {
        Self {
            nodes: vec![],
            free: vec![],
            root: NIL,
            random: RandomState::new(),
            made: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.root == NIL
    }

    /// The watchers of exactly this span, made if there are none.
    pub(super) fn entry(&mut self, span: &Span) -> &mut Members {
        let at = match self.find(span) {
            NIL => {
                let node = self.make(span.clone());
                self.root = self.insert(self.root, node);
                node
            }
            at => at,
        };
        &mut self.nodes[at as usize].members
    }

    /// The watchers of exactly this span.
    pub(super) fn get_mut(&mut self, span: &Span) -> Option<&mut Members> {
        match self.find(span) {
            NIL => None,
            at => Some(&mut self.nodes[at as usize].members),
        }
    }

    /// Forgets a span whose watchers are gone.
    pub(super) fn remove(&mut self, span: &Span) {
        if self.find(span) != NIL {
            self.root = self.cut(self.root, span);
        }
        if self.is_empty() {
            self.nodes = vec![];
            self.free = vec![];
        }
    }

    /// Hands the watchers of every range that contains `key` to `each`.
    pub(super) fn containing<'a>(&'a self, key: &[u8], mut each: impl FnMut(&'a Members)) {
        let mut open = smallvec::SmallVec::<[u32; 64]>::new();
        open.push(self.root);
        while let Some(at) = open.pop() {
            if at == NIL {
                continue;
            }
            let node = &self.nodes[at as usize];
            if !self.nodes[node.longest as usize].span.ends_above(key) {
                continue;
            }
            open.push(node.left);
            if node.span.start() <= key {
                open.push(node.right);
                if node.span.ends_above(key) {
                    each(&node.members);
                }
            }
        }
    }

    /// Hands all watchers to `each`.
    pub(super) fn all<'a>(&'a self, mut each: impl FnMut(&'a Members)) {
        let mut open = vec![self.root];
        while let Some(at) = open.pop() {
            if at != NIL {
                let node = &self.nodes[at as usize];
                open.extend([node.left, node.right]);
                each(&node.members);
            }
        }
    }

    fn find(&self, span: &Span) -> u32 {
        let mut at = self.root;
        while at != NIL {
            let node = &self.nodes[at as usize];
            at = match span.compare(&node.span) {
                Ordering::Equal => return at,
                Ordering::Less => node.left,
                Ordering::Greater => node.right,
            };
        }
        NIL
    }

    fn make(&mut self, span: Span) -> u32 {
        self.made += 1;
        let priority = self.random.hash_one(self.made) as u32;
        let at = self.free.pop().unwrap_or(self.nodes.len() as u32);
        let node = Node {
            span,
            members: Members::new(),
            left: NIL,
            right: NIL,
            longest: at,
            priority,
        };
        if at as usize == self.nodes.len() {
            self.nodes.push(node);
        } else {
            self.nodes[at as usize] = node;
        }
        at
    }

    /// Puts `new`, whose span is not in the tree, below `at`; the new top.
    fn insert(&mut self, at: u32, new: u32) -> u32 {
        if at == NIL {
            return new;
        }
        let (at_i, new_i) = (at as usize, new as usize);
        if self.nodes[new_i].span.compare(&self.nodes[at_i].span) == Ordering::Less {
            let left = self.insert(self.nodes[at_i].left, new);
            self.nodes[at_i].left = left;
            if self.nodes[left as usize].priority > self.nodes[at_i].priority {
                self.nodes[at_i].left = self.nodes[left as usize].right;
                self.nodes[left as usize].right = at;
                self.measure(at);
                self.measure(left);
                return left;
            }
        } else {
            let right = self.insert(self.nodes[at_i].right, new);
            self.nodes[at_i].right = right;
            if self.nodes[right as usize].priority > self.nodes[at_i].priority {
                self.nodes[at_i].right = self.nodes[right as usize].left;
                self.nodes[right as usize].left = at;
                self.measure(at);
                self.measure(right);
                return right;
            }
        }
        self.measure(at);
        at
    }

    /// Takes the node of `span`, which is below `at`, out of the tree; the new top.
    fn cut(&mut self, at: u32, span: &Span) -> u32 {
        if at == NIL {
            return NIL;
        }
        let at_i = at as usize;
        match span.compare(&self.nodes[at_i].span) {
            Ordering::Less => {
                self.nodes[at_i].left = self.cut(self.nodes[at_i].left, span);
            }
            Ordering::Greater => {
                self.nodes[at_i].right = self.cut(self.nodes[at_i].right, span);
            }
            Ordering::Equal => {
                let joined = self.join(self.nodes[at_i].left, self.nodes[at_i].right);
                self.nodes[at_i].members = Members::new();
                self.free.push(at);
                return joined;
            }
        }
        self.measure(at);
        at
    }

    /// Joins two trees, everything in `left` below everything in `right`.
    fn join(&mut self, left: u32, right: u32) -> u32 {
        if left == NIL {
            return right;
        }
        if right == NIL {
            return left;
        }
        if self.nodes[left as usize].priority > self.nodes[right as usize].priority {
            let below = self.join(self.nodes[left as usize].right, right);
            self.nodes[left as usize].right = below;
            self.measure(left);
            left
        } else {
            let below = self.join(left, self.nodes[right as usize].left);
            self.nodes[right as usize].left = below;
            self.measure(right);
            right
        }
    }

    /// Finds `longest` of a node again from its children.
    fn measure(&mut self, at: u32) {
        let mut longest = at;
        for child in [self.nodes[at as usize].left, self.nodes[at as usize].right] {
            if child != NIL {
                let candidate = self.nodes[child as usize].longest;
                let ends = &self.nodes[candidate as usize].span;
                if ends.compare_end(&self.nodes[longest as usize].span) == Ordering::Greater {
                    longest = candidate;
                }
            }
        }
        self.nodes[at as usize].longest = longest;
    }
}
