//! The Merkle tree of RFC 6962: a hash per record, combined in pairs, one root over all.
//!
//! ```text
//!   leaf  = SHA-256(0x00 | record)       node = SHA-256(0x01 | left | right)       empty = SHA-256("")
//!
//!   size 7:         root
//!                 /      \
//!               o          o          the compact range holds the roots of the full trees, largest first:
//!             /   \      /   \        here of 4, 2 and 1 leaves
//!            o     o    o    [6]
//!           0 1   2 3  4 5
//! ```
//!
//! A tree that grows is its compact range: at most 64 hashes, whatever its size. It only ever appends.

use sha2::{Digest, Sha256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// The root of the tree without leaves.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The hash of a record, exactly as it is kept.
pub fn leaf_hash(record: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update([0x00]);
    hash.update(record);
    hash.finalize().into()
}

/// The hash over two trees side by side.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update([0x01]);
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}

/// A tree by its compact range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    /// The roots of the full trees it is made of, largest first: one per bit set in the size.
    roots: Vec<Hash>,
}

impl Tree {
    /// A tree of so many leaves from its kept roots, largest first; none if there are not as many as its size says.
    pub fn from_parts(size: u64, roots: Vec<Hash>) -> Option<Self> {
        (roots.len() == size.count_ones() as usize).then_some(Self { size, roots })
    }

    /// How many leaves it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of its full trees, largest first.
    pub fn roots(&self) -> &[Hash] {
        &self.roots
    }

    /// Appends a record; gives back the number of its leaf.
    pub fn append(&mut self, record: &[u8]) -> u64 {
        self.append_leaf(leaf_hash(record))
    }

    /// Appends a leaf by its hash; gives back its number.
    pub fn append_leaf(&mut self, leaf: Hash) -> u64 {
        let number = self.size;
        let mut hash = leaf;
        // As in adding one to a number: every bit that is set carries.
        for _ in 0..number.trailing_ones() {
            if let Some(left) = self.roots.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.roots.push(hash);
        self.size += 1;
        number
    }

    /// The root over everything.
    pub fn root(&self) -> Hash {
        let mut smallest_first = self.roots.iter().rev();
        let Some(last) = smallest_first.next() else {
            return empty_root();
        };
        smallest_first.fold(*last, |right, left| node_hash(left, &right))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audit::proof::tests::{RFC_LEAVES, RFC_ROOTS, hex, naive_root};

    #[test]
    fn hashes_are_those_published() {
        let sha = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hex(&empty_root()), sha);
        let leaf = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
        assert_eq!(hex(&leaf_hash(b"")), leaf);
        let leaf = "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56";
        assert_eq!(hex(&leaf_hash(b"L123456")), leaf);
        let mut node = Sha256::new();
        node.update(b"\x01N123N456");
        let published = "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb";
        assert_eq!(hex(&node.finalize().into()), published);
    }

    #[test]
    fn roots_are_those_published() {
        let mut tree = Tree::default();
        assert_eq!(tree.root(), empty_root());
        for (leaf, root) in RFC_LEAVES.iter().zip(RFC_ROOTS) {
            tree.append(leaf);
            assert_eq!(hex(&tree.root()), root, "at size {}", tree.size());
        }
    }

    #[test]
    fn parts_that_do_not_fit_the_size_are_refused() {
        let mut tree = Tree::default();
        for n in 0..13u8 {
            tree.append(&[n]);
        }
        let roots = tree.roots().to_vec();
        assert_eq!(roots.len(), 3);
        assert_eq!(Tree::from_parts(13, roots.clone()), Some(tree));
        assert_eq!(Tree::from_parts(12, roots), None);
    }

    proptest! {
        #[test]
        fn the_compact_range_agrees_with_the_definition(size in 0usize..300) {
            let mut tree = Tree::default();
            let leaves: Vec<Hash> = (0..size).map(|n| leaf_hash(&n.to_be_bytes())).collect();
            for (number, leaf) in leaves.iter().enumerate() {
                prop_assert_eq!(tree.append_leaf(*leaf), number as u64);
            }
            prop_assert_eq!(tree.root(), naive_root(&leaves));
            prop_assert!(tree.roots().len() <= 64);
        }
    }
}
