//! Changing a tree: one primitive, [`Tree::edit`], that inserts, replaces and removes.
//!
//! The path to the entry is copied where it is shared. Going back up, each node takes in what its child
//! became: a new weight, a second half if the child grew too long, a merger if it became too short.

use std::sync::Arc;

use super::sorted::{Keyed, Sorted};
use super::{
    Child, Entry, Fence, Held, INNER_MAX, INNER_MIN, Inner, LEAF_MAX, LEAF_MIN, Node, Tree, Weight,
};

/// What an edit did below a node.
struct Edited<E: Entry> {
    removed: Weight,
    added: Weight,
    /// The node grew too long: its right half, for the parent to take in.
    split: Option<Half<E>>,
    /// The node became shorter.
    shrunk: bool,
}

/// The right half of a node that was split.
struct Half<E: Entry> {
    fence: Fence,
    child: Child<E>,
}

impl<E: Entry> Tree<E> {
    /// Replaces the entry under `key` by what `change` makes of it: none removes it, or leaves nothing
    /// where nothing was. The new entry must have the key `key`.
    pub fn edit(&mut self, key: &[u8], change: impl FnOnce(Option<&E>) -> Option<E>) {
        let Some(mut root) = self.root.take() else {
            let leaf = |entry| Node::Leaf(Sorted::new(std::iter::once(Held(entry))));
            self.root = change(None).map(|entry| Arc::new(leaf(entry)));
            return;
        };
        let edited = edit(&mut root, key, change);
        if let Some(half) = edited.split {
            let weight = root.weight();
            let children = vec![Child { node: root, weight }, half.child];
            let inner = Inner {
                fences: Arc::new(Sorted::new(std::iter::once(half.fence))),
                children,
            };
            root = Arc::new(Node::Inner(inner));
        }
        // Drop levels that no longer tell anything apart.
        loop {
            match &*root {
                Node::Leaf(entries) if entries.len() == 0 => return,
                Node::Inner(inner) if inner.children.len() == 1 => {
                    let Some(only) = inner.children.first() else {
                        return;
                    };
                    let below = Arc::clone(&only.node);
                    root = below;
                }
                Node::Leaf(_) | Node::Inner(_) => break,
            }
        }
        self.root = Some(root);
    }

    /// Puts `entry` under `key`, replacing what was there.
    pub fn insert(&mut self, key: &[u8], entry: E) {
        self.edit(key, |_| Some(entry));
    }

    /// Removes what is under `key`. Does not copy anything if there is nothing.
    pub fn remove(&mut self, key: &[u8]) {
        if self.get(key).is_some() {
            self.edit(key, |_| None);
        }
    }
}

fn edit<E: Entry, F>(node: &mut Arc<Node<E>>, key: &[u8], change: F) -> Edited<E>
where
    F: FnOnce(Option<&E>) -> Option<E>,
{
    match Arc::make_mut(node) {
        Node::Leaf(entries) => edit_leaf(entries, key, change),
        Node::Inner(inner) => edit_inner(inner, key, change),
    }
}

fn edit_leaf<E: Entry, F>(entries: &mut Sorted<Held<E>>, key: &[u8], change: F) -> Edited<E>
where
    F: FnOnce(Option<&E>) -> Option<E>,
{
    let mut edited = Edited {
        removed: Weight::default(),
        added: Weight::default(),
        split: None,
        shrunk: false,
    };
    if let Some(at) = entries.find(key) {
        let Some(Held(place)) = entries.get_mut(at) else {
            return edited;
        };
        edited.removed = place.weight();
        if let Some(entry) = change(Some(place)) {
            edited.added = entry.weight();
            *place = entry;
        } else {
            entries.remove(at);
            edited.shrunk = true;
        }
    } else {
        let Some(entry) = change(None) else {
            return edited;
        };
        edited.added = entry.weight();
        let at = entries.cut(key, false);
        entries.insert(at, Held(entry));
        if entries.len() > LEAF_MAX {
            edited.split = split_leaf(entries, at);
        }
    }
    edited
}

/// Cuts a leaf that is too long. Keys that arrive in order leave full leaves behind.
fn split_leaf<E: Entry>(entries: &mut Sorted<Held<E>>, inserted: usize) -> Option<Half<E>> {
    let middle = if inserted + 1 == entries.len() {
        inserted
    } else {
        entries.len() / 2
    };
    let right = entries.split_off(middle);
    let fence = Fence::between(entries.last()?.key(), right.first()?.key());
    let right = Node::Leaf(right);
    let weight = right.weight();
    Some(Half {
        fence,
        child: Child {
            node: Arc::new(right),
            weight,
        },
    })
}

fn edit_inner<E: Entry, F>(inner: &mut Inner<E>, key: &[u8], change: F) -> Edited<E>
where
    F: FnOnce(Option<&E>) -> Option<E>,
{
    let at = inner.child_for(key);
    let mut edited = Edited {
        removed: Weight::default(),
        added: Weight::default(),
        split: None,
        shrunk: false,
    };
    let Some(child) = inner.children.get_mut(at) else {
        return edited;
    };
    let below = edit(&mut child.node, key, change);
    child.weight = child.weight.plus(below.added).minus(below.removed);
    edited.removed = below.removed;
    edited.added = below.added;
    if let Some(half) = below.split {
        child.weight = child.weight.minus(half.child.weight);
        inner.children.insert(at + 1, half.child);
        Arc::make_mut(&mut inner.fences).insert(at, half.fence);
        if inner.children.len() > INNER_MAX {
            edited.split = split_inner(inner, at + 1);
        }
    } else if below.shrunk && child.node.is_short() {
        edited.shrunk = inner.join(at);
    }
    edited
}

/// Cuts an inner node that is too long.
fn split_inner<E: Entry>(inner: &mut Inner<E>, inserted: usize) -> Option<Half<E>> {
    let length = inner.children.len();
    let middle = if inserted + 1 == length {
        length - 2
    } else {
        length / 2
    };
    let children: Vec<Child<E>> = inner.children.drain(middle..).collect();
    let fences = Arc::make_mut(&mut inner.fences);
    let right = fences.split_off(middle);
    let fence = fences.pop()?;
    let right = Node::Inner(Inner {
        fences: Arc::new(right),
        children,
    });
    let weight = right.weight();
    Some(Half {
        fence,
        child: Child {
            node: Arc::new(right),
            weight,
        },
    })
}

impl<E: Entry> Inner<E> {
    /// Joins the child at `at`, which is short, with a neighbour if they fit in one node. Whether there is
    /// one child fewer now.
    fn join(&mut self, at: usize) -> bool {
        let empty = self
            .children
            .get(at)
            .is_some_and(|child| child.node.is_empty());
        if empty {
            self.children.remove(at);
            let fences = Arc::make_mut(&mut self.fences);
            if fences.len() > 0 {
                fences.remove(at.saturating_sub(1));
            }
            return true;
        }
        for left in [at.checked_sub(1), Some(at)].into_iter().flatten() {
            if self.try_join(left) {
                return true;
            }
        }
        false
    }

    /// Appends the child right of `left` to the one at `left`, if both fit.
    fn try_join(&mut self, left: usize) -> bool {
        let (Some(a), Some(b)) = (self.children.get(left), self.children.get(left + 1)) else {
            return false;
        };
        if !a.node.fits_with(&b.node) {
            return false;
        }
        let right = self.children.remove(left + 1);
        let fence = Arc::make_mut(&mut self.fences).remove(left);
        if let Some(child) = self.children.get_mut(left) {
            child.weight = child.weight.plus(right.weight);
            Arc::make_mut(&mut child.node).append(fence, &right.node);
        }
        true
    }
}

impl<E: Entry> Node<E> {
    fn is_empty(&self) -> bool {
        match self {
            Self::Leaf(entries) => entries.len() == 0,
            Self::Inner(inner) => inner.children.is_empty(),
        }
    }

    fn is_short(&self) -> bool {
        match self {
            Self::Leaf(entries) => entries.len() < LEAF_MIN,
            Self::Inner(inner) => inner.children.len() < INNER_MIN,
        }
    }

    fn fits_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Leaf(a), Self::Leaf(b)) => a.len() + b.len() <= LEAF_MAX,
            (Self::Inner(a), Self::Inner(b)) => a.children.len() + b.children.len() <= INNER_MAX,
            (Self::Leaf(_), Self::Inner(_)) | (Self::Inner(_), Self::Leaf(_)) => false,
        }
    }

    /// Takes in the node to the right of it; `fence` stood between them.
    fn append(&mut self, fence: Fence, right: &Self) {
        match (self, right) {
            (Self::Leaf(a), Self::Leaf(b)) => a.append(b),
            (Self::Inner(a), Self::Inner(b)) => {
                let fences = Arc::make_mut(&mut a.fences);
                fences.push(fence);
                fences.append(&b.fences);
                a.children.extend_from_slice(&b.children);
            }
            (Self::Leaf(_), Self::Inner(_)) | (Self::Inner(_), Self::Leaf(_)) => {}
        }
    }
}
