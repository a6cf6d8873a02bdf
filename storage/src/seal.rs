//! The seam for encryption at rest: every byte of content that goes to disk passes here.
//!
//! ```text
//!   record body ---- seal ----> bytes on disk ---- open ----> record body
//! ```
//!
//! Checksums are taken over the sealed bytes, so damage is found without a key. What is needed to find and
//! name a record (lengths, terms, indexes, revisions) stays outside; keys, values and names are inside.

use std::fmt;

use bytes::Bytes;

use crate::fault::Fault;

/// Turns content into what lies on disk, and back. Called from several threads at once.
pub trait Seal: Send + Sync + fmt::Debug {
    /// Content to what lies on disk. It can not fail: keys are loaded before the first byte is written.
    fn seal(&self, content: Bytes) -> Bytes;

    /// What lies on disk to content. [`Fault::Damaged`] or [`Fault::Directory`] if it was not sealed by
    /// this key.
    fn open(&self, sealed: Bytes) -> Result<Bytes, Fault>;
}

/// No encryption: content lies on disk as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Seal for Plain {
    fn seal(&self, content: Bytes) -> Bytes {
        content
    }

    fn open(&self, sealed: Bytes) -> Result<Bytes, Fault> {
        Ok(sealed)
    }
}
