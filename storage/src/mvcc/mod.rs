//! Versioned keys: the keyspace of a tenant, as an immutable value.
//!
//! ```text
//!   Keyspace (one root: revision, compacted, usage)          a reader holds a root and waits for nobody
//!     |-- space raw    -> Tree of Slots by key
//!     |-- space config -> Tree of Slots by key               Slot: newest version (in memory, whole)
//!     |-- ...                                                      + where the older ones lie (16 bytes each)
//!     '-- leases       -> Tree of Leases by number
//!                            '-- keys attached               older values: `History`, by `At`
//! ```
//!
//! The machine owns a working copy, changes it entry by entry, and publishes clones; a clone costs a few
//! reference counts, because everything below is a persistent [`tree`].
//!
//! Invariants:
//! - the versions of a slot ascend by [`crate::row::At`]; the newest may be a tombstone;
//! - [`Keyspace::usage`] is the sum over the newest versions that are alive;
//! - a key is attached to a lease exactly if its newest version names it;
//! - what is retained after compaction is a pure function ([`compact`]); whether the rest has been removed
//!   yet can not be observed.
//!
//! Deliberately absent: locks, disk, the log, and any knowledge of what keys mean.

pub mod cell;
pub mod compact;
pub mod hash;
pub mod keyspace;
pub mod lease;
pub mod load;
pub mod range;
pub mod slot;
pub mod tree;
pub mod view;

pub use keyspace::Keyspace;
