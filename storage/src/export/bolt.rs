//! A file as etcd's backend (bbolt) lays it out, written once, from sorted keys.
//!
//! ```text
//!   page     :=  id (8)  flags (2)  count (2)  overflow (4)  elements, then keys and values     little endian
//!   0, 1         meta: magic, version 2, page size, root bucket, free list, pages in all, transaction, FNV-1a
//!   2            the free list, empty
//!   3 ...        leaves in the order of their keys, bucket by bucket, each bucket's branches behind its leaves
//!   last         the leaf of the root: the buckets by name
//!
//!   leaf     :=  flags (4)  position (4)  key length (4)  value length (4)       flags 1: the value is a bucket
//!   branch   :=  position (4)  key length (4)  page (8)                          positions count from the element
//!   bucket   :=  page of its root (8)  sequence (8)
//! ```
//!
//! A page that is too small for one element runs on over the next ones (`overflow`). Memory: one page, and for each
//! page written its first key until the bucket ends.

use std::path::Path;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::disk::{Disk, File};
use crate::fault::Fault;

const PAGE: usize = 4096;
pub(crate) const PAGE_HEAD: usize = 16;
pub(crate) const LEAF_ELEMENT: usize = 16;
pub(crate) const BRANCH_ELEMENT: usize = 16;
pub(crate) const MAGIC: u32 = 0xED0C_DAED;
pub(crate) const VERSION: u32 = 2;
pub(crate) const BRANCH: u16 = 0x01;
pub(crate) const LEAF: u16 = 0x02;
const META: u16 = 0x04;
const FREE_LIST: u16 = 0x10;
pub(crate) const IS_BUCKET: u32 = 0x01;
/// A meta page behind its head, without its checksum.
pub(crate) const META_BYTES: usize = 56;
const FREE_LIST_PAGE: u64 = 2;
const FIRST_PAGE: u64 = 3;
/// Pages that are gathered before they are written, in bytes.
const WRITE_BYTES: usize = 1 << 20;

/// A file on its way.
pub struct Bolt {
    file: Arc<dyn File>,
    /// Whole pages that are not written yet, and where they begin.
    ready: BytesMut,
    written: u64,
    next_page: u64,
    buckets: Vec<(Bytes, u64)>,
}

/// A page's first key, and its number.
type Child = (Bytes, u64);

/// A bucket on its way: keys come in ascending order.
pub struct Bucket<'a> {
    bolt: &'a mut Bolt,
    name: Bytes,
    leaf: Vec<(Bytes, Bytes)>,
    leaf_bytes: usize,
    children: Vec<Child>,
}

impl Bolt {
    /// Begins a file.
    pub fn create(disk: &dyn Disk, path: &Path) -> Result<Self, Fault> {
        Ok(Self {
            file: disk.create(path)?,
            ready: BytesMut::new(),
            written: FIRST_PAGE * PAGE as u64,
            next_page: FIRST_PAGE,
            buckets: vec![],
        })
    }

    /// Begins a bucket. Buckets come in the order of their names.
    pub fn bucket(&mut self, name: &'static str) -> Bucket<'_> {
        Bucket {
            bolt: self,
            name: Bytes::from_static(name.as_bytes()),
            leaf: vec![],
            leaf_bytes: 0,
            children: vec![],
        }
    }

    /// Writes what is left and gives the file back; nothing is flushed.
    pub fn finish(mut self) -> Result<Arc<dyn File>, Fault> {
        let buckets = std::mem::take(&mut self.buckets);
        let elements = buckets.into_iter().map(|(name, root)| {
            let mut bucket = BytesMut::new();
            bucket.put_u64_le(root);
            bucket.put_u64_le(0);
            (name, bucket.freeze())
        });
        let root = self.leaf_page(&elements.collect::<Vec<_>>(), IS_BUCKET)?;
        self.write_out()?;
        let mut head = BytesMut::new();
        for number in 0..2 {
            head.extend_from_slice(&meta(number, root, self.next_page));
        }
        head.extend_from_slice(&page(FREE_LIST_PAGE, FREE_LIST, 0, &[]));
        self.file.write_at(&head, 0)?;
        Ok(self.file)
    }

    /// Puts a page behind the others; gives back its number.
    fn add(&mut self, flags: u16, count: usize, body: &[u8]) -> Result<u64, Fault> {
        let number = self.next_page;
        let bytes = page(number, flags, count as u16, body);
        self.next_page += (bytes.len() / PAGE) as u64;
        self.ready.extend_from_slice(&bytes);
        if self.ready.len() >= WRITE_BYTES {
            self.write_out()?;
        }
        Ok(number)
    }

    fn write_out(&mut self) -> Result<(), Fault> {
        self.file.write_at(&self.ready, self.written)?;
        self.written += self.ready.len() as u64;
        self.ready.clear();
        Ok(())
    }

    fn leaf_page(&mut self, elements: &[(Bytes, Bytes)], flags: u32) -> Result<u64, Fault> {
        let mut body = BytesMut::new();
        let mut position = elements.len() * LEAF_ELEMENT;
        for (number, (key, value)) in elements.iter().enumerate() {
            body.put_u32_le(flags);
            body.put_u32_le((position - number * LEAF_ELEMENT) as u32);
            body.put_u32_le(key.len() as u32);
            body.put_u32_le(value.len() as u32);
            position += key.len() + value.len();
        }
        for (key, value) in elements {
            body.put_slice(key);
            body.put_slice(value);
        }
        self.add(LEAF, elements.len(), &body)
    }

    fn branch_page(&mut self, children: &[Child]) -> Result<u64, Fault> {
        let mut body = BytesMut::new();
        let mut position = children.len() * BRANCH_ELEMENT;
        for (number, (key, page)) in children.iter().enumerate() {
            body.put_u32_le((position - number * BRANCH_ELEMENT) as u32);
            body.put_u32_le(key.len() as u32);
            body.put_u64_le(*page);
            position += key.len();
        }
        for (key, _) in children {
            body.put_slice(key);
        }
        self.add(BRANCH, children.len(), &body)
    }
}

impl Bucket<'_> {
    /// Puts a key behind the others.
    pub fn put(&mut self, key: Bytes, value: Bytes) -> Result<(), Fault> {
        let bytes = LEAF_ELEMENT + key.len() + value.len();
        if !self.leaf.is_empty() && PAGE_HEAD + self.leaf_bytes + bytes > PAGE {
            self.close_leaf()?;
        }
        self.leaf_bytes += bytes;
        self.leaf.push((key, value));
        Ok(())
    }

    /// Ends the bucket.
    pub fn end(mut self) -> Result<(), Fault> {
        if !self.leaf.is_empty() || self.children.is_empty() {
            self.close_leaf()?;
        }
        let mut level = std::mem::take(&mut self.children);
        while level.len() > 1 {
            level = self.branches_over(&level)?;
        }
        let root = level.first().map_or(0, |(_, page)| *page);
        self.bolt.buckets.push((self.name, root));
        Ok(())
    }

    fn close_leaf(&mut self) -> Result<(), Fault> {
        let leaf = std::mem::take(&mut self.leaf);
        self.leaf_bytes = 0;
        let number = self.bolt.leaf_page(&leaf, 0)?;
        let first = leaf.into_iter().next().map(|(key, _)| key);
        self.children.push((first.unwrap_or_default(), number));
        Ok(())
    }

    fn branches_over(&mut self, level: &[Child]) -> Result<Vec<Child>, Fault> {
        let mut above = vec![];
        let mut rest = level;
        while let Some((first, _)) = rest.first() {
            let mut bytes = PAGE_HEAD;
            // At least two, or the level above would not be shorter.
            let fitting = rest
                .iter()
                .take_while(|(key, _)| {
                    bytes += BRANCH_ELEMENT + key.len();
                    bytes <= PAGE
                })
                .count()
                .max(2)
                .min(rest.len());
            let (these, others) = rest.split_at(fitting);
            above.push((first.clone(), self.bolt.branch_page(these)?));
            rest = others;
        }
        Ok(above)
    }
}

/// A page, filled up with zeroes.
fn page(number: u64, flags: u16, count: u16, body: &[u8]) -> BytesMut {
    let whole = (PAGE_HEAD + body.len()).next_multiple_of(PAGE);
    let mut page = BytesMut::with_capacity(whole);
    page.put_u64_le(number);
    page.put_u16_le(flags);
    page.put_u16_le(count);
    page.put_u32_le((whole / PAGE - 1) as u32);
    page.put_slice(body);
    page.resize(whole, 0);
    page
}

/// The meta page `number`; the file has `pages` in all.
fn meta(number: u64, root: u64, pages: u64) -> BytesMut {
    let mut meta = BytesMut::new();
    meta.put_u32_le(MAGIC);
    meta.put_u32_le(VERSION);
    meta.put_u32_le(PAGE as u32);
    meta.put_u32_le(0);
    meta.put_u64_le(root);
    meta.put_u64_le(0);
    meta.put_u64_le(FREE_LIST_PAGE);
    meta.put_u64_le(pages);
    // The transaction; the higher one of the two counts.
    meta.put_u64_le(number);
    let sum = fnv1a(&meta);
    meta.put_u64_le(sum);
    page(number, META, 0, &meta)
}

/// The checksum of a meta page.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use proptest::prelude::*;

    use super::*;
    use crate::disk::OsDisk;

    fn word(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    fn half(bytes: &[u8], at: usize) -> usize {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
    }

    fn count(bytes: &[u8], at: usize) -> usize {
        usize::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()))
    }

    /// Reads a tree the way bbolt does: by page numbers and positions alone.
    fn read(file: &[u8], number: u64, into: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        let at = number as usize * PAGE;
        assert_eq!(word(file, at), number);
        let flags = count(file, at + 8);
        for n in 0..count(file, at + 10) {
            if flags == usize::from(LEAF) {
                let element = at + PAGE_HEAD + n * LEAF_ELEMENT;
                let key = element + half(file, element + 4);
                let value = key + half(file, element + 8);
                let end = value + half(file, element + 12);
                assert!(end <= at + (half(file, at + 12) + 1) * PAGE);
                into.push((file[key..value].to_vec(), file[value..end].to_vec()));
            } else {
                assert_eq!(flags, usize::from(BRANCH));
                let element = at + PAGE_HEAD + n * BRANCH_ELEMENT;
                let key = element + half(file, element);
                let key = &file[key..key + half(file, element + 4)];
                let below = into.len();
                read(file, word(file, element + 8), into);
                assert_eq!(into[below].0, key, "a branch names its child's first key");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn what_was_put_is_found_by_page_and_position(
            small in proptest::collection::btree_map(any::<[u8; 6]>(), proptest::collection::vec(any::<u8>(), 0..90), 0..900),
            large in proptest::collection::btree_map(
                proptest::collection::vec(any::<u8>(), 1..3000), proptest::collection::vec(any::<u8>(), 0..9000), 0..20),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            let mut bolt = Bolt::create(&OsDisk::new(), &path).unwrap();
            let mut bucket = bolt.bucket("large");
            for (key, value) in &large {
                bucket.put(key.clone().into(), value.clone().into()).unwrap();
            }
            bucket.end().unwrap();
            let mut bucket = bolt.bucket("small");
            for (key, value) in &small {
                bucket.put(Bytes::copy_from_slice(key), value.clone().into()).unwrap();
            }
            bucket.end().unwrap();
            drop(bolt.finish().unwrap());

            let file = std::fs::read(&path).unwrap();
            let meta = PAGE + PAGE_HEAD;
            prop_assert_eq!(file.len() as u64, word(&file, meta + 40) * PAGE as u64);
            prop_assert_eq!(word(&file, meta + 56), fnv1a(&file[meta..meta + 56]));
            let mut buckets = vec![];
            read(&file, word(&file, meta + 16), &mut buckets);
            let mut found = vec![];
            for (name, bucket) in &buckets {
                let mut pairs = vec![];
                read(&file, word(bucket, 0), &mut pairs);
                found.push((String::from_utf8(name.clone()).unwrap(), pairs));
            }
            let small: Vec<_> = small.into_iter().map(|(k, v)| (k.to_vec(), v)).collect();
            let large: Vec<_> = large.into_iter().collect();
            prop_assert_eq!(found, [("large".to_owned(), large), ("small".to_owned(), small)]);
        }
    }
}
