//! Blocks read lately, decoded: so that catching up and repeated old reads decode a block once.
//!
//! Bounded by bytes; the one unused for longest goes first. A block is known by its generation, which changes
//! whenever it is rewritten, so nothing stale is ever found.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::block::Block;

/// Decoded rows take about this many times the bytes of their block.
const DECODED_FACTOR: usize = 2;

/// Decoded blocks by generation.
#[derive(Debug)]
pub struct Cache {
    bytes_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    blocks: HashMap<u64, (u64, Arc<Block>)>,
    by_use: BTreeMap<u64, u64>,
    uses: u64,
    bytes: usize,
}

impl Cache {
    /// A cache that holds about `bytes_max`.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            inner: Mutex::default(),
        }
    }

    /// The block of a generation.
    pub fn get(&self, generation: u64) -> Option<Arc<Block>> {
        let mut inner = self.inner.lock();
        inner.uses += 1;
        let now = inner.uses;
        let (used, block) = inner.blocks.get_mut(&generation)?;
        let before = std::mem::replace(used, now);
        let block = Arc::clone(block);
        inner.by_use.remove(&before);
        inner.by_use.insert(now, generation);
        Some(block)
    }

    /// Keeps a block. One that is larger than an eighth of the cache is not kept.
    pub fn put(&self, generation: u64, block: Arc<Block>) {
        let cost = block.bytes * DECODED_FACTOR;
        if cost > self.bytes_max / 8 {
            return;
        }
        let mut inner = self.inner.lock();
        inner.uses += 1;
        let now = inner.uses;
        if let Some((used, old)) = inner.blocks.insert(generation, (now, block)) {
            inner.by_use.remove(&used);
            inner.bytes -= old.bytes * DECODED_FACTOR;
        }
        inner.by_use.insert(now, generation);
        inner.bytes += cost;
        while inner.bytes > self.bytes_max {
            let Some((_, oldest)) = inner.by_use.pop_first() else {
                break;
            };
            if let Some((_, gone)) = inner.blocks.remove(&oldest) {
                inner.bytes -= gone.bytes * DECODED_FACTOR;
            }
        }
    }

    /// Forgets a block that was rewritten or removed.
    pub fn forget(&self, generation: u64) {
        let mut inner = self.inner.lock();
        if let Some((used, gone)) = inner.blocks.remove(&generation) {
            inner.by_use.remove(&used);
            inner.bytes -= gone.bytes * DECODED_FACTOR;
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.inner.lock() = Inner::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_unused_for_longest_goes_first() {
        let block = || {
            Arc::new(Block {
                rows: vec![],
                bytes: 10,
            })
        };
        let cache = Cache::new(160);
        for generation in 0..8 {
            cache.put(generation, block());
        }
        assert!(cache.get(0).is_some());
        cache.put(8, block());
        assert!(cache.get(0).is_some());
        assert!(cache.get(1).is_none());
        assert!(cache.get(8).is_some());
        cache.forget(8);
        assert!(cache.get(8).is_none());
        assert_eq!(cache.inner.lock().bytes, 140);
        cache.put(
            9,
            Arc::new(Block {
                rows: vec![],
                bytes: 11,
            }),
        );
        assert!(cache.get(9).is_none(), "too large to be kept");
    }
}
