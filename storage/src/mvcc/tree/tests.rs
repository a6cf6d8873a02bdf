//! The tree against an ordered map of the standard library, and against its own past.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A key with a number; odd numbers count, multiples of three are marked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pair(Arc<[u8]>, u32);

impl Entry for Pair {
    type Head = u64;

    fn key(&self) -> &[u8] {
        &self.0
    }

    fn weight(&self) -> Weight {
        Weight {
            counted: self.1 % 2,
            marked: u32::from(self.1.is_multiple_of(3)),
        }
    }
}

type Model = BTreeMap<Vec<u8>, u32>;

fn insert(tree: &mut Tree<Pair>, key: &[u8], value: u32) {
    tree.insert(key, Pair(Arc::from(key), value));
}

fn sum<'a>(values: impl Iterator<Item = &'a u32>) -> Weight {
    values.fold(Weight::default(), |sum, v| {
        sum.plus(Pair(Arc::from([]), *v).weight())
    })
}

/// Checks the shape: order, fences, weights, equal depth, nothing empty, nothing too long.
fn check_shape(tree: &Tree<Pair>) {
    fn walk(node: &Node<Pair>, low: Option<&[u8]>, high: Option<&[u8]>) -> (usize, Weight) {
        match node {
            Node::Leaf(entries) => {
                assert!(entries.len() > 0 && entries.len() <= LEAF_MAX);
                assert!(
                    entries
                        .items()
                        .windows(2)
                        .all(|w| w[0].value.0.0 < w[1].value.0.0)
                );
                assert!(
                    entries
                        .items()
                        .iter()
                        .map(|i| &i.value.0)
                        .all(|e| low.is_none_or(|l| &*e.0 >= l))
                );
                assert!(
                    entries
                        .items()
                        .iter()
                        .map(|i| &i.value.0)
                        .all(|e| high.is_none_or(|h| &*e.0 < h))
                );
                (1, sum(entries.items().iter().map(|i| &i.value.0.1)))
            }
            Node::Inner(inner) => {
                assert!(!inner.children.is_empty() && inner.children.len() <= INNER_MAX);
                assert_eq!(inner.fences.len() + 1, inner.children.len());
                let mut depth = None;
                let mut total = Weight::default();
                for (i, child) in inner.children.iter().enumerate() {
                    let low = if i == 0 {
                        low
                    } else {
                        Some(inner.fences.items()[i - 1].value.key())
                    };
                    let high = inner.fences.items().get(i).map(|f| f.value.key()).or(high);
                    let (d, w) = walk(&child.node, low, high);
                    assert_eq!(w, child.weight);
                    assert_eq!(*depth.get_or_insert(d), d, "leaves lie equally deep");
                    total = total.plus(w);
                }
                (depth.unwrap() + 1, total)
            }
        }
    }
    if let Some(root) = &tree.root {
        walk(root, None, None);
    }
}

fn check_equal(tree: &Tree<Pair>, model: &Model) {
    let got: Vec<(Vec<u8>, u32)> = tree.iter().map(|e| (e.0.to_vec(), e.1)).collect();
    let want: Vec<(Vec<u8>, u32)> = model.iter().map(|(k, v)| (k.clone(), *v)).collect();
    assert_eq!(got, want);
    assert_eq!(tree.weight(), sum(model.values()));
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![
        Just(Bound::Unbounded),
        key().prop_map(Bound::Included),
        key().prop_map(Bound::Excluded),
    ]
}

/// Short keys over few letters, so that prefixes of each other and repeats are frequent.
fn key() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(
        prop_oneof![Just(0u8), Just(b'a'), Just(b'b'), Just(255u8)],
        0..6,
    )
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    match bound {
        Bound::Unbounded => Bound::Unbounded,
        Bound::Included(k) => Bound::Included(k),
        Bound::Excluded(k) => Bound::Excluded(k),
    }
}

fn within(key: &[u8], lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> bool {
    let above = match lower {
        Bound::Unbounded => true,
        Bound::Included(l) => key >= l,
        Bound::Excluded(l) => key > l,
    };
    let below = match upper {
        Bound::Unbounded => true,
        Bound::Included(u) => key <= u,
        Bound::Excluded(u) => key < u,
    };
    above && below
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn it_agrees_with_a_btreemap_and_old_clones_stay_as_they_were(
        steps in proptest::collection::vec((key(), proptest::option::weighted(0.6, 0u32..100)), 1..600),
        ranges in proptest::collection::vec((bound(), bound()), 12),
    ) {
        let mut tree = Tree::new();
        let mut model = Model::new();
        let mut kept: Vec<(Tree<Pair>, Model)> = vec![];
        for (i, (key, value)) in steps.iter().enumerate() {
            if let Some(value) = value {
                    insert(&mut tree, key, *value);
                    model.insert(key.clone(), *value);
                } else {
                    tree.remove(key);
                    model.remove(key);
                }
            prop_assert_eq!(tree.get(key).map(|e| e.1), model.get(key).copied());
            if i % 97 == 0 {
                kept.push((tree.clone(), model.clone()));
            }
        }
        check_shape(&tree);
        kept.push((tree, model));
        for (tree, model) in &kept {
            check_equal(tree, model);
            for (lower, upper) in &ranges {
                let (lower, upper) = (as_slice(lower), as_slice(upper));
                for only in [Only::All, Only::Counted, Only::Marked] {
                    let mut want: Vec<u32> = model
                        .iter()
                        .filter(|(k, _)| within(k, lower, upper))
                        .map(|(_, v)| *v)
                        .filter(|v| only.admits(Pair(Arc::from([]), *v).weight()) )
                        .collect();
                    let got: Vec<u32> = tree.ascend(lower, upper, only).map(|e| e.1).collect();
                    prop_assert_eq!(&got, &want);
                    want.reverse();
                    let got: Vec<u32> = tree.descend(lower, upper, only).map(|e| e.1).collect();
                    prop_assert_eq!(&got, &want);
                }
                let inside = model.iter().filter(|(k, _)| within(k, lower, upper)).map(|(_, v)| v);
                let crossed = model.keys().all(|k| !within(k, lower, upper));
                let weight = tree.weight_within(lower, upper);
                prop_assert_eq!(weight, sum(inside), "crossed: {}", crossed);
            }
        }
    }

    #[test]
    fn a_tree_built_from_sorted_entries_equals_one_that_grew(
        keys in proptest::collection::btree_map(proptest::collection::vec(any::<u8>(), 0..4), 0u32..100, 0..3000),
    ) {
        let tree = Tree::from_ascending(keys.iter().map(|(k, v)| Pair(Arc::from(&k[..]), *v)));
        check_shape(&tree);
        check_equal(&tree, &keys);
    }
}

#[test]
fn a_large_tree_stays_in_shape_through_growth_and_removal() {
    let mut tree = Tree::new();
    let mut model = Model::new();
    for i in 0..20_000u32 {
        let key = (i.wrapping_mul(2_654_435_761)).to_be_bytes();
        insert(&mut tree, &key, i);
        model.insert(key.to_vec(), i);
    }
    check_shape(&tree);
    check_equal(&tree, &model);
    for i in (0..20_000u32).filter(|i| i % 16 != 0) {
        let key = (i.wrapping_mul(2_654_435_761)).to_be_bytes();
        tree.remove(&key);
        model.remove(&key[..]);
    }
    check_shape(&tree);
    check_equal(&tree, &model);
    for key in model.keys() {
        tree.remove(key);
    }
    assert!(tree.is_empty());
}

fn leaves(node: &Node<Pair>) -> usize {
    match node {
        Node::Leaf(_) => 1,
        Node::Inner(inner) => inner.children.iter().map(|c| leaves(&c.node)).sum(),
    }
}

#[test]
fn keys_in_order_leave_full_leaves() {
    let mut tree = Tree::new();
    for i in 0..16_000u32 {
        insert(&mut tree, &i.to_be_bytes(), i);
    }
    check_shape(&tree);
    assert_eq!(leaves(tree.root.as_ref().unwrap()), 16_000 / LEAF_MAX);
}

#[test]
fn a_fence_is_the_shortest_key_that_tells_two_apart() {
    assert_eq!(&*between(b"abc", b"abd"), b"abd");
    assert_eq!(&*between(b"abc", b"b"), b"b");
    assert_eq!(&*between(b"a", b"abcdef"), b"ab");
    assert_eq!(&*between(b"", b"x"), b"x");
}

fn between(below: &[u8], at: &[u8]) -> Arc<[u8]> {
    Fence::between(below, at).0
}
