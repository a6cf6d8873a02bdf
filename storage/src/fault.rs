//! "Broken here": this replica can not go on as it is.
//!
//! A fault is never returned to a client as if something had been applied. It names the operation and its
//! object, keeps its source, and says what becomes of the node.

use std::path::PathBuf;
use std::sync::Arc;

/// What is broken.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The operating system refused an operation on a file. On the log this ends the process: a failed
    /// write or flush must not be retried, since the kernel may have dropped the pages.
    #[error("{operation} of {path}: {source}")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
    /// Data that had been persisted does not verify. It is never skipped and never served.
    #[error("{path} is damaged at byte {offset}: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What does not hold.
        what: String,
    },
    /// Written by a newer version of the program.
    #[error("{path} has format {found}; this version reads up to {known}. Start a newer version")]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest this version knows.
        known: u32,
    },
    /// The space reserved for the log is all that is left. Writes are refused until there is more.
    #[error("the disk that holds {path} is full: {available} bytes left, {reserve} are kept back")]
    DiskFull {
        /// The directory.
        path: PathBuf,
        /// Bytes left.
        available: u64,
        /// Bytes kept back.
        reserve: u64,
    },
    /// An earlier fault poisoned this part; nothing is accepted any more.
    #[error("{part} stopped after an earlier fault: {cause}")]
    Poisoned {
        /// Which part.
        part: &'static str,
        /// The first fault.
        cause: String,
    },
    /// The sled database failed. It is set aside and rebuilt.
    #[error("{operation} on the version store: {source}")]
    Backend {
        /// What was attempted.
        operation: &'static str,
        /// What sled said.
        source: Arc<sled::Error>,
    },
    /// The data directory belongs to another cluster or member, or another process uses it.
    #[error("the data directory {path} can not be used: {what}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not, and what to do.
        what: String,
    },
    /// Two parts of the state disagree: a bug or silent damage. The replica stops serving.
    #[error("the state of this replica is inconsistent: {what}")]
    Inconsistent {
        /// What disagrees.
        what: String,
    },
}

impl Fault {
    /// Wraps an error of the operating system with the operation and the file.
    pub fn io(operation: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io {
            operation,
            path: path.into(),
            source: Arc::new(source),
        }
    }
}
