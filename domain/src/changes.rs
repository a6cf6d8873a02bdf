//! What an applied transaction changed: the one currency after the decision.
//!
//! Watchers receive changes, history keeps them, audit hashes them, rollback inverts them. They are
//! ordered; all changes of a transaction share its revision and differ in `sub`, their order inside it.

use std::sync::Arc;

use bytes::Bytes;

use crate::key::Space;
use crate::kv::KeyValue;
use crate::revision::Revision;

/// One key that went from `before` to `after`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The space the key is in.
    pub space: Space,
    /// The key.
    pub key: Bytes,
    /// The version before, if the key was alive.
    pub before: Option<Arc<KeyValue>>,
    /// The version after; none if the key was deleted.
    pub after: Option<Arc<KeyValue>>,
}

impl Change {
    /// Whether the key was deleted.
    pub fn is_delete(&self) -> bool {
        self.after.is_none()
    }
}

/// All changes of one transaction, in the order they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The revision they share.
    pub revision: Revision,
    /// In order; the index is the change's `sub`.
    pub rows: Vec<Change>,
}
