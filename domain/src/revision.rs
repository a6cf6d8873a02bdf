//! Revisions and log positions: the two counters everything is ordered by.

/// A tenant's revision: moves by one per transaction that changes something.
///
/// A fresh tenant stands at 1, its first write makes 2 (etcd's rule). It is signed because etcd's wire
/// has it so; inside the store it is never negative.
pub type Revision = i64;

/// The revision of a tenant nothing was ever written to.
pub const GENESIS: Revision = 1;

/// The place of an entry in the replicated log. Ordered by term, then index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The term of the leader that appended the entry.
    pub term: u64,
    /// The position in the log.
    pub index: u64,
}

impl std::fmt::Display for LogId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.term, self.index)
    }
}
