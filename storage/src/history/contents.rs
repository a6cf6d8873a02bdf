//! The table of contents: where the store stands, and what must be in it.
//!
//! Written in the same batch as what it speaks of. sled may lose a value without a word (a flipped byte in
//! its log looks like the end of a segment), so the table counts the values and sums their hashes: a value that is
//! wrong, missing or left over does not add up.
//!
//! ```text
//!  0  applied term (8)   8 applied index (8)
//! 16  the next run's number (8)
//! 24  blocks (8)        32 rows in them (8)
//! 40  chunks of runs (8)
//! 48  wrapping sum of the hashes of all blocks and chunks (8)        all little endian
//! ```

use std::path::Path;

use bytes::Bytes;
use meridian_domain::revision::LogId;

use super::envelope::{self, CONTENTS, damaged};
use crate::fault::Fault;
use crate::seal::Seal;

/// What must be in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The applied position.
    pub applied: LogId,
    /// The next run's number.
    pub next_run: u64,
    /// How many blocks.
    pub blocks: u64,
    /// How many rows they hold.
    pub rows: u64,
    /// How many chunks of runs.
    pub chunks: u64,
    /// The sum of the hashes of all of them.
    pub hash: u64,
}

impl Contents {
    /// The value for the backend.
    pub fn wrap(&self, seal: &dyn Seal) -> Bytes {
        let mut content = Vec::with_capacity(56);
        for number in [
            self.applied.term,
            self.applied.index,
            self.next_run,
            self.blocks,
            self.rows,
            self.chunks,
            self.hash,
        ] {
            content.extend_from_slice(&number.to_le_bytes());
        }
        envelope::wrap(seal, CONTENTS, content)
    }

    /// Checks and reads the value.
    pub fn unwrap(seal: &dyn Seal, dir: &Path, value: &Bytes) -> Result<Self, Fault> {
        let content = envelope::unwrap(seal, dir, CONTENTS, value)?;
        let (numbers, rest) = content.as_chunks::<8>();
        let [term, index, next_run, blocks, rows, chunks, hash] = *numbers else {
            return Err(damaged(dir, "the table of contents has another size"));
        };
        if !rest.is_empty() {
            return Err(damaged(dir, "the table of contents has another size"));
        }
        let number = u64::from_le_bytes;
        Ok(Self {
            applied: LogId {
                term: number(term),
                index: number(index),
            },
            next_run: number(next_run),
            blocks: number(blocks),
            rows: number(rows),
            chunks: number(chunks),
            hash: number(hash),
        })
    }
}
