//! A file of etcd's backend (bbolt), read page by page and believed in nothing.
//!
//! [`crate::export::bolt`] draws the pages. What an exported file never has and etcd's own have: pages of another size
//! than 4096 bytes; two different meta pages, of which the later transaction's counts if its checksum holds; pages that
//! are free and hold what they held before; and small buckets *inside* the leaf of the root:
//!
//! ```text
//!   bucket   :=  page of its root (8)  sequence (8)          the page is not 0: there
//!            |   0 (8)  sequence (8)  a leaf                 here
//! ```
//!
//! Whatever the bytes say, reading ends, in bounded memory, with an error or with keys in ascending order:
//!
//! - a page lies below the number of pages the meta page names, all of which lie in the file, and has at most
//!   [`PAGE_BYTES_MAX`] bytes with those it runs on over;
//! - a walk takes each page of the file at most once in sum, so that no cycle and no shared branch is walked for ever,
//!   and is at most [`DEPTH_MAX`] deep;
//! - elements, keys and values lie in their page.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use crate::disk::File;
use crate::export::bolt::{
    BRANCH, BRANCH_ELEMENT, IS_BUCKET, LEAF, LEAF_ELEMENT, MAGIC, META_BYTES, PAGE_HEAD, VERSION,
    fnv1a,
};
use crate::fault::Fault;
use crate::snapshot::frame as snapshot;

/// A page and those it runs on over, in bytes: twice what etcd takes for one transaction when it is told to take as
/// much as gRPC carries.
const PAGE_BYTES_MAX: u64 = 64 << 20;
/// Levels of a tree. With pages of two elements it is more keys than there are bytes.
const DEPTH_MAX: u8 = 64;
/// The sizes a page may have: powers of two from this on.
const PAGE_BYTES_LEAST: u64 = 512;
const PAGE_SIZES: u32 = 8;

/// A file that is open.
#[derive(Debug)]
pub struct Bolt {
    file: Arc<dyn File>,
    page_bytes: u64,
    pages: u64,
    root: u64,
}

/// A meta page that verifies.
struct Meta {
    page_bytes: u64,
    root: u64,
    pages: u64,
    transaction: u64,
}

/// A page with those it runs on over.
struct Page {
    bytes: Bytes,
    /// Where it begins in the file, as far as errors tell.
    offset: u64,
    leaf: bool,
    count: usize,
}

/// Takes a key, its value, and whether the value is a bucket.
type Each<'a> = dyn FnMut(Bytes, Bytes, bool) -> Result<(), Fault> + 'a;

/// A walk over one tree.
struct Walk {
    /// Pages it may still take.
    left: u64,
    last: Option<Bytes>,
}

impl Bolt {
    /// Whether a file says it is one, and not a snapshot of ours, in which clients may have written anything. It may be
    /// damaged all the same.
    pub fn is(file: &dyn File) -> Result<bool, Fault> {
        let mut start = [0; snapshot::MAGIC.len()];
        file.read_at(&mut start, 0)?;
        if start == *snapshot::MAGIC {
            return Ok(false);
        }
        for page_bytes in sizes() {
            for offset in [0, page_bytes] {
                let mut magic = [0; 4];
                let read = file.read_at(&mut magic, offset + PAGE_HEAD as u64)?;
                if read == magic.len() && u32::from_le_bytes(magic) == MAGIC {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Opens a file at the later one of its meta pages that verify.
    pub fn open(file: Arc<dyn File>) -> Result<Self, Fault> {
        let Some(meta) = Meta::find(file.as_ref())? else {
            return Err(damaged(file.as_ref(), 0, "no meta page verifies"));
        };
        let size = file.size()?;
        if meta.pages > size / meta.page_bytes {
            return Err(damaged(
                file.as_ref(),
                size,
                "the file ends before its last page",
            ));
        }
        Ok(Self {
            file,
            page_bytes: meta.page_bytes,
            pages: meta.pages,
            root: meta.root,
        })
    }

    /// An error about a place in the file.
    pub fn damaged(&self, offset: u64, what: &str) -> Fault {
        damaged(self.file.as_ref(), offset, what)
    }

    /// Hands every key of a bucket to `each`, in ascending order, with its value. A bucket that is not there is empty.
    pub fn bucket(
        &self,
        name: &str,
        each: &mut dyn FnMut(Bytes, Bytes) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut found = None;
        self.walk(self.root, &mut |key, value, is_bucket| {
            if key == name && is_bucket {
                found = Some(value);
            }
            Ok(())
        })?;
        let Some(mut bucket) = found else {
            return Ok(());
        };
        let mut plain = |key, value, is_bucket| {
            if is_bucket {
                return Err(self.damaged(0, &format!("the bucket {name:?} holds a bucket")));
            }
            each(key, value)
        };
        let (Ok(root), Ok(_sequence)) = (bucket.try_get_u64_le(), bucket.try_get_u64_le()) else {
            return Err(self.damaged(0, &format!("the bucket {name:?} is cut short")));
        };
        if root != 0 {
            return self.walk(root, &mut plain);
        }
        let page = self.page_in(bucket, 0)?;
        if !page.leaf {
            return Err(self.damaged(0, &format!("the bucket {name:?} is no leaf")));
        }
        let mut walk = Walk {
            left: 0,
            last: None,
        };
        self.leaf(&page, &mut walk, &mut plain)
    }

    /// Walks the tree below a page.
    fn walk(&self, root: u64, each: &mut Each<'_>) -> Result<(), Fault> {
        let mut walk = Walk {
            left: self.pages,
            last: None,
        };
        // Of each level at most the children of one page, of which there are at most 65,535.
        let mut ahead = vec![(root, 0)];
        while let Some((number, depth)) = ahead.pop() {
            let page = self.page(number, &mut walk)?;
            if page.leaf {
                self.leaf(&page, &mut walk, each)?;
                continue;
            }
            if depth == DEPTH_MAX {
                return Err(self.damaged(page.offset, "the tree is too deep"));
            }
            for element in (0..page.count).rev() {
                let at = PAGE_HEAD + element * BRANCH_ELEMENT;
                let Some(child) = number_at(&page.bytes, at + 8) else {
                    return Err(self.damaged(page.offset, "a branch is cut short"));
                };
                ahead.push((child, depth + 1));
            }
        }
        Ok(())
    }

    /// Hands out what a leaf holds.
    fn leaf(&self, page: &Page, walk: &mut Walk, each: &mut Each<'_>) -> Result<(), Fault> {
        for number in 0..page.count {
            let at = PAGE_HEAD + number * LEAF_ELEMENT;
            let Some((key, value, is_bucket)) = element(&page.bytes, at) else {
                return Err(self.damaged(page.offset, "an element does not lie in its page"));
            };
            if walk.last.as_ref().is_some_and(|last| *last >= key) {
                return Err(self.damaged(page.offset, "keys are out of order"));
            }
            walk.last = Some(key.clone());
            each(key, value, is_bucket)?;
        }
        Ok(())
    }

    /// Reads a page of the file.
    fn page(&self, number: u64, walk: &mut Walk) -> Result<Page, Fault> {
        let first = number
            .checked_mul(self.page_bytes)
            .filter(|_| number < self.pages);
        let Some(offset) = first else {
            return Err(self.damaged(0, &format!("page {number} does not exist")));
        };
        let mut bytes = vec![0; self.page_bytes as usize];
        self.file.read_exact_at(&mut bytes, offset)?;
        let more = half_at(&bytes, 12).unwrap_or(0);
        let pages = 1 + u64::from(more);
        if number + pages > self.pages || pages * self.page_bytes > PAGE_BYTES_MAX {
            return Err(self.damaged(offset, "a page is too long"));
        }
        walk.left = match walk.left.checked_sub(pages) {
            Some(left) => left,
            None => return Err(self.damaged(offset, "a page is used twice")),
        };
        if more > 0 {
            let first = bytes.len();
            bytes.resize((pages * self.page_bytes) as usize, 0);
            let rest = bytes.get_mut(first..).unwrap_or_default();
            self.file.read_exact_at(rest, offset + self.page_bytes)?;
        }
        if number_at(&bytes, 0) != Some(number) {
            return Err(self.damaged(offset, "a page has another page's number"));
        }
        self.page_in(bytes.into(), offset)
    }

    /// Takes bytes for a page.
    fn page_in(&self, bytes: Bytes, offset: u64) -> Result<Page, Fault> {
        let (Some(flags), Some(count)) = (short_at(&bytes, 8), short_at(&bytes, 10)) else {
            return Err(self.damaged(offset, "a page is cut short"));
        };
        let leaf = match flags {
            LEAF => true,
            BRANCH => false,
            _ => return Err(self.damaged(offset, "a page is neither leaf nor branch")),
        };
        Ok(Page {
            bytes,
            offset,
            leaf,
            count: usize::from(count),
        })
    }
}

impl Meta {
    /// The later one that verifies. Where the second one lies the first one says; only if that does not verify all
    /// sizes of a page are tried, since what lies there in a file of smaller pages is anything clients wrote.
    fn find(file: &dyn File) -> Result<Option<Self>, Fault> {
        let first = Self::read(file, 0)?.filter(|meta| sizes().any(|size| size == meta.page_bytes));
        if let Some(first) = first {
            let second = Self::read(file, first.page_bytes)?;
            let later = second.filter(|second| {
                second.page_bytes == first.page_bytes && second.transaction > first.transaction
            });
            return Ok(Some(later.unwrap_or(first)));
        }
        for page_bytes in sizes() {
            let second = Self::read(file, page_bytes)?;
            if let Some(second) = second.filter(|meta| meta.page_bytes == page_bytes) {
                return Ok(Some(second));
            }
        }
        Ok(None)
    }

    /// Reads the meta page at `offset`; none if it does not verify.
    fn read(file: &dyn File, offset: u64) -> Result<Option<Self>, Fault> {
        let mut bytes = [0; META_BYTES + 8];
        let read = file.read_at(&mut bytes, offset + PAGE_HEAD as u64)?;
        if read < bytes.len() {
            return Ok(None);
        }
        let (body, sum) = bytes.split_at(META_BYTES);
        let half = |at| half_at(body, at);
        let number = |at| number_at(body, at).unwrap_or(0);
        let verifies = half(0) == Some(MAGIC)
            && half(4) == Some(VERSION)
            && number_at(sum, 0) == Some(fnv1a(body));
        Ok(verifies.then(|| Self {
            page_bytes: u64::from(half(8).unwrap_or(0)),
            root: number(16),
            pages: number(40),
            transaction: number(48),
        }))
    }
}

fn sizes() -> impl Iterator<Item = u64> {
    (0..PAGE_SIZES).map(|double| PAGE_BYTES_LEAST << double)
}

fn damaged(file: &dyn File, offset: u64, what: &str) -> Fault {
    Fault::Damaged {
        path: file.path().to_path_buf(),
        offset,
        what: what.into(),
    }
}

/// An element of a leaf: key, value, and whether that is a bucket. None if any of it lies elsewhere.
fn element(page: &Bytes, at: usize) -> Option<(Bytes, Bytes, bool)> {
    let half = |place: usize| half_at(page, at + place).map(|half| half as usize);
    let is_bucket = match half_at(page, at)? {
        0 => false,
        IS_BUCKET => true,
        _ => return None,
    };
    // Three numbers of 32 bits and a place in a page can be added.
    let key = at + half(4)?;
    let value = key + half(8)?;
    let end = value + half(12)?;
    (end <= page.len()).then(|| (page.slice(key..value), page.slice(value..end), is_bucket))
}

fn short_at(bytes: &[u8], at: usize) -> Option<u16> {
    let found = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_le_bytes(*found))
}

fn half_at(bytes: &[u8], at: usize) -> Option<u32> {
    let found = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*found))
}

fn number_at(bytes: &[u8], at: usize) -> Option<u64> {
    let found = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*found))
}
