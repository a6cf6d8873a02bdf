//! The disk, as the rest of the crate sees it: the only way to files.
//!
//! ```text
//!   wal, snapshot ----> trait Disk ----> OsDisk      the operating system's
//!                                  \---> FaultyDisk  simulated: loses what was not flushed, tears,
//!                                                    flips bits, refuses, fills up
//! ```
//!
//! The seam is as low as system calls are, so that the simulated side can do to us what a real disk does:
//!
//! - what was written is durable only after [`File::sync_data`] or [`File::sync_all`];
//! - a name that was made, moved or removed is durable only after [`Disk::sync_dir`] of its directory;
//! - unflushed writes may survive a crash in part and in any order.
//!
//! Every operation blocks and answers with [`Fault::Io`] naming itself and the path. Nothing here retries:
//! after a failed flush the kernel may have dropped the pages, and a second flush would lie.
//!
//! Deliberately absent: memory maps and direct I/O (neither is needed for the figures we want, and a page
//! fault that fails can not be answered with an error).

pub mod faulty;
pub mod os;

pub use faulty::FaultyDisk;
pub use os::OsDisk;

use std::any::Any;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::fault::Fault;

/// A file system. Shared between threads; every call may block on the device.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Makes a new, empty file open for reading and writing. Fails if the name is taken. The name is
    /// durable after [`Disk::sync_dir`].
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, Fault>;

    /// Opens a file that exists, for reading and writing.
    fn open(&self, path: &Path) -> Result<Arc<dyn File>, Fault>;

    /// Moves a file within one file system, replacing what has the new name. Open files stay open.
    /// Durable after [`Disk::sync_dir`] of both directories.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), Fault>;

    /// Removes a file. Open files stay readable. Durable after [`Disk::sync_dir`].
    fn remove(&self, path: &Path) -> Result<(), Fault>;

    /// Removes a directory with everything in it; a directory that is not there is fine.
    fn remove_dir_all(&self, dir: &Path) -> Result<(), Fault>;

    /// The names of the files (not directories) in a directory, sorted.
    fn list(&self, dir: &Path) -> Result<Vec<String>, Fault>;

    /// Makes a directory and those above it, durably. A directory that is there is fine.
    fn create_dir_all(&self, dir: &Path) -> Result<(), Fault>;

    /// Flushes the names in a directory.
    fn sync_dir(&self, dir: &Path) -> Result<(), Fault>;

    /// Bytes an unprivileged process may still write to the file system that holds `dir`.
    fn available_space(&self, dir: &Path) -> Result<u64, Fault>;

    /// Takes the lock on a file, making the file if need be, or fails with [`Fault::Directory`] if somebody
    /// has it, in this process or another. It is given back when the value is dropped or the process ends.
    fn lock(&self, path: &Path) -> Result<Lock, Fault>;
}

/// A lock that is held: dropping it gives it back.
pub type Lock = Box<dyn Any + Send + Sync>;

/// An open file. Reads and writes carry their offset, so that threads can share one.
pub trait File: Send + Sync + fmt::Debug {
    /// The name it was opened by; it may have moved since.
    fn path(&self) -> &Path;

    /// Reads at `offset` until `into` is full or the file ends. Returns how many bytes were read.
    fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize, Fault>;

    /// Reads exactly `into.len()` bytes; a file that ends before is [`Fault::Damaged`].
    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> Result<(), Fault> {
        let wanted = into.len();
        let read = self.read_at(into, offset)?;
        if read == wanted {
            return Ok(());
        }
        Err(Fault::Damaged {
            path: self.path().to_path_buf(),
            offset: offset.saturating_add(read as u64),
            what: format!("the file ends {} bytes early", wanted - read),
        })
    }

    /// Writes all of `bytes` at `offset`; a file that is shorter grows. Durable after a flush.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), Fault>;

    /// How many bytes the file has.
    fn size(&self) -> Result<u64, Fault>;

    /// Cuts or extends (with zeros) the file to `size` bytes.
    fn truncate(&self, size: u64) -> Result<(), Fault>;

    /// Flushes the content and what is needed to read it back (the size), through the device's cache.
    fn sync_data(&self) -> Result<(), Fault>;

    /// Flushes the content and everything known about the file.
    fn sync_all(&self) -> Result<(), Fault>;
}

impl Fault {
    /// The kind of the operating system's error, if this is one.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Fault::Io { source, .. } => Some(source.kind()),
            _ => None,
        }
    }

    /// Whether the file was not there.
    pub fn is_not_found(&self) -> bool {
        self.io_kind() == Some(io::ErrorKind::NotFound)
    }

    /// Whether there was no space (or no quota) for it.
    pub fn is_full(&self) -> bool {
        matches!(
            self.io_kind(),
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        ) || matches!(self, Fault::DiskFull { .. })
    }
}
