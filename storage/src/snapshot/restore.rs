//! Restoring: the rows of a snapshot, changed on the way.
//!
//! A cluster that is restored from a backup is a new cluster: other members, another id. And clients may have
//! seen revisions the backup does not have: so that time does not go back for them, revisions can be raised
//! above anything they saw, and what lies below marked as compacted, so that their watches and caches start
//! afresh. All of that is in facts (counters, members); versions stay as they are.
//!
//! ```text
//!   snapshot --> Restored (facts through a function of the machine's) --> write_rows --> a new data directory
//! ```

use bytes::Bytes;
use meridian_domain::name::TenantId;
use meridian_domain::revision::LogId;

use crate::fault::Fault;
use crate::row::{Rows, Version};

/// Changes all facts at once; knows what they mean.
pub type ChangeFacts<'a> =
    Box<dyn FnMut(Vec<(Bytes, Bytes)>) -> Result<Vec<(Bytes, Bytes)>, Fault> + 'a>;

/// Rows with other facts, at another position.
pub struct Restored<'a> {
    rows: &'a mut dyn Rows,
    applied: LogId,
    change: ChangeFacts<'a>,
}

impl<'a> Restored<'a> {
    /// The rows of `rows`, at `applied`, with the facts `change` makes of theirs.
    pub fn new(rows: &'a mut dyn Rows, applied: LogId, change: ChangeFacts<'a>) -> Self {
        Self {
            rows,
            applied,
            change,
        }
    }
}

impl Rows for Restored<'_> {
    fn applied(&self) -> LogId {
        self.applied
    }

    fn facts(&mut self) -> Result<Vec<(Bytes, Bytes)>, Fault> {
        let facts = self.rows.facts()?;
        (self.change)(facts)
    }

    fn versions(
        &mut self,
        each: &mut dyn FnMut(TenantId, Version) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.rows.versions(each)
    }
}
