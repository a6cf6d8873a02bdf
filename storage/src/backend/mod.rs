//! The ordered map of bytes under the history: a seam with two real sides.
//!
//! ```text
//!   history ----> trait Backend ----> Sled       on disk; what the log can rebuild
//!                              |            behind Pieces, which cuts large values
//!                              \----> Memory     nothing on disk: tests, simulation, trying things
//!                              \----> Mirror     tests: both at once, every answer compared
//! ```
//!
//! A backend knows nothing of versions or facts: keys and values are bytes, ordered by key. A batch is
//! atomic: after a crash it is there whole or not at all, and never without the batches before it. It is
//! durable only after [`Backend::flush`].
//!
//! One thread writes; any thread reads, also while a batch is written.

pub mod memory;
pub mod mirror;
pub mod pieces;
pub mod sled;

use std::fmt;

use bytes::Bytes;

use crate::fault::Fault;

/// A change of one key: its new value, or none to remove it.
pub type Edit = (Bytes, Option<Bytes>);

/// Is shown the rows of a scan: key and value.
pub type EachRow<'a> = &'a mut dyn FnMut(&[u8], Bytes) -> Result<Step, Fault>;

/// What a scan says after each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Show the next row.
    Next,
    /// Enough.
    Stop,
}

/// An ordered map of bytes.
pub trait Backend: Send + Sync + fmt::Debug {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault>;

    /// Shows every row whose key begins with `prefix` and is at least `from`, in key order. The values shown
    /// may be copies; rows written meanwhile may be shown or not.
    fn scan(&self, prefix: &[u8], from: &[u8], each: EachRow<'_>) -> Result<(), Fault>;

    /// Applies all edits or none. Readers see them when this returns; durable after [`Backend::flush`].
    fn write(&self, edits: Vec<Edit>) -> Result<(), Fault>;

    /// Makes everything written durable, through the device's cache.
    fn flush(&self) -> Result<(), Fault>;

    /// Bytes it takes on disk.
    fn size_on_disk(&self) -> Result<u64, Fault>;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use proptest::prelude::*;

    use super::memory::Memory;
    use super::mirror::Mirror;
    use super::sled::{Settings, Sled};
    use super::*;
    use crate::disk::OsDisk;

    type Rows = Vec<(Vec<u8>, Option<Vec<u8>>)>;

    fn edits() -> impl Strategy<Value = Vec<Rows>> {
        let key = proptest::collection::vec(0u8..3, 1..4);
        let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
        proptest::collection::vec(proptest::collection::vec((key, value), 0..12), 1..6)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

        #[test]
        fn sled_and_memory_agree_on_every_operation(batches in edits()) {
            let dir = tempfile::tempdir().unwrap();
            let sled =
                Sled::open(Arc::new(OsDisk::new()), &dir.path().join("a"), &Settings::default()).unwrap();
            let both = Mirror::new(Arc::new(sled), Arc::new(Memory::new()));
            for batch in batches {
                let batch: Vec<Edit> =
                    batch.into_iter().map(|(k, v)| (k.into(), v.map(Into::into))).collect();
                both.write(batch).unwrap();
                // The mirror itself compares the two answers and fails if they differ.
                for prefix in [&b""[..], b"\0", b"\x01\x02"] {
                    let mut rows = 0;
                    both.scan(prefix, b"\0\x01", &mut |key, _| {
                        rows += usize::from(key.starts_with(prefix));
                        Ok(if rows > 5 { Step::Stop } else { Step::Next })
                    })
                    .unwrap();
                }
                both.get(b"\x01").unwrap();
                both.get(b"\x02\x02").unwrap();
                both.flush().unwrap();
            }
        }
    }
}
