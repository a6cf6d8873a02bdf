//! Proofs: that a record stands in a tree, and that one tree grew out of another.
//!
//! Both are a few hashes, about twice the logarithm of the size, and are checked with nothing but a root that is
//! trusted. What makes them needs the hashes of subtrees; [`Subtrees`] says where from.

use crate::audit::tree::{Hash, leaf_hash, node_hash};

/// Where the hashes of a tree come from.
pub trait Subtrees {
    /// The root of the full subtree of `2^level` leaves that is the `index`-th of its level.
    fn full(&self, level: u32, index: u64) -> Option<Hash>;
}

/// All leaves in memory: for exports, and tests.
impl Subtrees for [Hash] {
    fn full(&self, level: u32, index: u64) -> Option<Hash> {
        if level == 0 {
            return self.get(usize::try_from(index).ok()?).copied();
        }
        let left = self.full(level - 1, index.checked_mul(2)?)?;
        let right = self.full(level - 1, index.checked_mul(2)?.checked_add(1)?)?;
        Some(node_hash(&left, &right))
    }
}

/// The root over the leaves `from..to`, where `from` is a multiple of the smallest power of two at or above their number.
fn root_over(trees: &(impl Subtrees + ?Sized), from: u64, to: u64) -> Option<Hash> {
    let count = to.checked_sub(from).filter(|count| *count > 0)?;
    if count.is_power_of_two() {
        let level = count.trailing_zeros();
        return trees.full(level, from >> level);
    }
    let split = from + split_of(count);
    let left = root_over(trees, from, split)?;
    Some(node_hash(&left, &root_over(trees, split, to)?))
}

/// The largest power of two below a number above one.
fn split_of(count: u64) -> u64 {
    1 << (u64::BITS - 1 - (count - 1).leading_zeros())
}

/// The path of leaf `number` in the tree of the first `size` leaves (RFC 6962, 2.1.1); none if a hash is missing.
pub fn inclusion(trees: &(impl Subtrees + ?Sized), number: u64, size: u64) -> Option<Vec<Hash>> {
    if number >= size {
        return None;
    }
    let (mut from, mut to) = (0, size);
    let mut path = vec![];
    while to - from > 1 {
        let split = from + split_of(to - from);
        if number < split {
            path.push(root_over(trees, split, to)?);
            to = split;
        } else {
            path.push(root_over(trees, from, split)?);
            from = split;
        }
    }
    path.reverse();
    Some(path)
}

/// That the tree of `size` leaves begins with the tree of `before` (RFC 6962, 2.1.2); none if a hash is missing, or
/// there is nothing to prove.
pub fn consistency(trees: &(impl Subtrees + ?Sized), before: u64, size: u64) -> Option<Vec<Hash>> {
    if before == 0 || before > size {
        return None;
    }
    let (mut from, mut to) = (0, size);
    let mut path = vec![];
    // Whether everything on the way went right: then the verifier knows the old root already.
    let mut known = true;
    while before != to {
        let split = from + split_of(to - from);
        if before <= split {
            path.push(root_over(trees, split, to)?);
            to = split;
        } else {
            path.push(root_over(trees, from, split)?);
            from = split;
            known = false;
        }
    }
    if !known {
        path.push(root_over(trees, from, to)?);
    }
    path.reverse();
    Some(path)
}

/// Whether `record` stands as leaf `number` in the tree of `size` leaves with this root.
pub fn verify_inclusion(record: &[u8], number: u64, size: u64, path: &[Hash], root: &Hash) -> bool {
    root_from_inclusion(leaf_hash(record), number, size, path).as_ref() == Some(root)
}

/// The root a path leads to (RFC 9162, 2.1.3.2); none if the path has the wrong length.
pub fn root_from_inclusion(leaf: Hash, number: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if number >= size {
        return None;
    }
    let (mut at, mut last) = (number, size - 1);
    let mut hash = leaf;
    for sibling in path {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

/// Whether the tree of `size` leaves with `root` begins with the tree of `before` leaves with `old_root`
/// (RFC 9162, 2.1.4.2). Every tree begins with the empty one; nothing proves that, and nothing has to.
pub fn verify_consistency(
    before: u64,
    size: u64,
    old_root: &Hash,
    root: &Hash,
    path: &[Hash],
) -> bool {
    if before > size {
        return false;
    }
    if before == 0 {
        return path.is_empty() && *old_root == crate::audit::tree::empty_root();
    }
    if before == size {
        return path.is_empty() && old_root == root;
    }
    let mut rest = path.iter();
    let first = if before.is_power_of_two() {
        Some(old_root)
    } else {
        rest.next()
    };
    let Some(first) = first else { return false };
    let (mut at, mut last) = (before - 1, size - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut old, mut new) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            old = node_hash(sibling, &old);
            new = node_hash(sibling, &new);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            new = node_hash(&new, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && old == *old_root && new == *root
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use proptest::prelude::*;

    use super::*;
    use crate::audit::tree::{Tree, empty_root};

    /// The leaves of the test vectors of Certificate Transparency.
    pub const RFC_LEAVES: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];

    /// The roots over the first 1, 2, ... of them.
    pub const RFC_ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    /// A hash in hexadecimal.
    pub fn hex(hash: &Hash) -> String {
        hash.iter().fold(String::new(), |mut text, byte| {
            text.push_str(&format!("{byte:02x}"));
            text
        })
    }

    /// The root as the RFC defines it.
    pub fn naive_root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [one] => *one,
            many => {
                let split = many.len().next_power_of_two() / 2;
                node_hash(&naive_root(&many[..split]), &naive_root(&many[split..]))
            }
        }
    }

    fn vectors() -> Vec<Hash> {
        RFC_LEAVES.iter().map(|leaf| leaf_hash(leaf)).collect()
    }

    #[test]
    fn paths_are_those_published() {
        let cases: [(u64, u64, &[&str]); 4] = [
            (0, 8, &["96a296d2", "5f083f0a", "6b47aaf2"]),
            (5, 8, &["bc1a0643", "ca854ea1", "d37ee418"]),
            (1, 5, &["6e340b9c", "5f083f0a", "bc1a0643"]),
            (2, 3, &["fac54203"]),
        ];
        for (number, size, published) in cases {
            let path = inclusion(vectors().as_slice(), number, size).unwrap();
            let begins: Vec<String> = path.iter().map(|hash| hex(hash)[..8].to_owned()).collect();
            assert_eq!(begins, published, "leaf {number} of {size}");
        }
    }

    #[test]
    fn a_proof_of_another_leaf_size_or_root_is_refused() {
        let leaves = vectors();
        let root = naive_root(&leaves);
        let path = inclusion(leaves.as_slice(), 5, 8).unwrap();
        let holds = |number, size, path: &[Hash], root: &Hash| {
            verify_inclusion(RFC_LEAVES[5], number, size, path, root)
        };
        assert!(holds(5, 8, &path, &root));
        assert!(!holds(4, 8, &path, &root));
        assert!(!holds(5, 6, &path, &root));
        assert!(!holds(13, 8, &path, &root));
        assert!(!holds(5, 8, &path[..2], &root));
        assert!(!holds(5, 8, &[path.clone(), vec![root]].concat(), &root));
        assert!(!holds(5, 8, &path, &empty_root()));
        assert!(!verify_inclusion(RFC_LEAVES[4], 5, 8, &path, &root));
        assert!(!verify_consistency(0, 8, &root, &root, &[]));
        assert!(verify_consistency(0, 8, &empty_root(), &root, &[]));
        assert!(!verify_consistency(9, 8, &root, &root, &[]));
    }

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    proptest! {
        #[test]
        fn every_leaf_is_proven_and_a_flipped_bit_is_not(
            size in 1u64..260,
            number in any::<prop::sample::Index>(),
            flip in any::<(prop::sample::Index, u8)>(),
        ) {
            let number = number.index(size as usize) as u64;
            let leaves = leaves(size);
            let root = naive_root(&leaves);
            let path = inclusion(leaves.as_slice(), number, size).unwrap();
            let record = number.to_be_bytes();
            prop_assert!(verify_inclusion(&record, number, size, &path, &root));
            if !path.is_empty() {
                let mut bent = path.clone();
                let place = flip.0.index(path.len() * 32);
                bent[place / 32][place % 32] ^= 1 << (flip.1 % 8);
                prop_assert!(!verify_inclusion(&record, number, size, &bent, &root));
            }
        }

        #[test]
        fn every_growth_is_proven_and_a_flipped_bit_is_not(
            before in 1u64..260,
            more in 0u64..260,
            flip in any::<(prop::sample::Index, u8)>(),
        ) {
            let size = before + more;
            let leaves = leaves(size);
            let root = naive_root(&leaves);
            let old = naive_root(&leaves[..before as usize]);
            let path = consistency(leaves.as_slice(), before, size).unwrap();
            prop_assert!(verify_consistency(before, size, &old, &root, &path));
            if more > 0 {
                prop_assert!(!verify_consistency(before, size, &root, &root, &path));
                prop_assert!(!verify_consistency(before, size, &old, &old, &path));
            }
            if !path.is_empty() {
                let mut bent = path.clone();
                let place = flip.0.index(path.len() * 32);
                bent[place / 32][place % 32] ^= 1 << (flip.1 % 8);
                prop_assert!(!verify_consistency(before, size, &old, &root, &bent));
                prop_assert!(!verify_consistency(before, size, &old, &root, &path[1..]));
            }
        }

        #[test]
        fn the_compact_range_and_the_proofs_speak_of_one_tree(size in 1u64..100) {
            let mut tree = Tree::default();
            for leaf in leaves(size) {
                tree.append_leaf(leaf);
            }
            let path = inclusion(leaves(size).as_slice(), size - 1, size).unwrap();
            let record = (size - 1).to_be_bytes();
            prop_assert!(verify_inclusion(&record, size - 1, size, &path, &tree.root()));
        }
    }
}
