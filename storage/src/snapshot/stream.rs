//! Sending and receiving: a snapshot file as a stream of bytes between members.
//!
//! What is received lies under a `.partial` name and is worth nothing until [`Incoming::finish`] verified all of
//! it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::{PARTIAL, SnapshotFile, file_name, verify};
use crate::disk::{Disk, File};
use crate::fault::Fault;
use crate::seal::Seal;

/// Tells apart files that are received at the same time.
static RECEIVED: AtomicU64 = AtomicU64::new(0);

/// A snapshot that is being sent. Stays readable when the file is removed meanwhile.
#[derive(Clone, Debug)]
pub struct Outgoing {
    file: Arc<dyn File>,
    size: u64,
}

impl Outgoing {
    /// Opens a snapshot for sending. It is not verified: the receiver does that.
    pub fn open(disk: &dyn Disk, snapshot: &SnapshotFile) -> Result<Self, Fault> {
        let file = disk.open(&snapshot.path)?;
        let size = file.size()?;
        Ok(Self { file, size })
    }

    /// A file that was written to be sent.
    pub(crate) fn of(file: Arc<dyn File>) -> Result<Self, Fault> {
        let size = file.size()?;
        Ok(Self { file, size })
    }

    /// Its size, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Up to `max_bytes` from `offset` on; empty at the end.
    pub fn read(&self, offset: u64, max_bytes: usize) -> Result<Bytes, Fault> {
        let left = self.size.saturating_sub(offset);
        let mut bytes = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(max_bytes)];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }
}

/// A snapshot that is being received. Dropped before it is finished, it is removed.
#[derive(Debug)]
pub struct Incoming {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    partial: PathBuf,
    file: Arc<dyn File>,
    written: u64,
    finished: bool,
}

impl Incoming {
    /// Begins to receive into `dir`.
    pub fn begin(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, Fault> {
        disk.create_dir_all(dir)?;
        let number = RECEIVED.fetch_add(1, Ordering::Relaxed);
        let partial = dir.join(format!("received-{number}{PARTIAL}"));
        let file = super::write::create_anew(disk.as_ref(), &partial)?;
        Ok(Self {
            disk,
            dir: dir.to_path_buf(),
            partial,
            file,
            written: 0,
            finished: false,
        })
    }

    /// How many bytes are here: where the sender goes on.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Takes the next bytes. Those that are here already are not taken twice; [`Fault::Inconsistent`] if some
    /// in between are missing.
    pub fn append(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
        let known = self
            .written
            .checked_sub(offset)
            .and_then(|known| usize::try_from(known).ok());
        let Some(known) = known else {
            let what = format!(
                "a snapshot was sent from {offset}, and is here to {}",
                self.written
            );
            return Err(Fault::Inconsistent { what });
        };
        let Some(new) = bytes.get(known..) else {
            return Ok(());
        };
        self.file.write_at(new, self.written)?;
        self.written += new.len() as u64;
        Ok(())
    }

    /// Verifies what was received, makes it durable and gives it its name. A snapshot of this position that was
    /// here before is replaced.
    pub fn finish(mut self, seal: &dyn Seal) -> Result<SnapshotFile, Fault> {
        self.file.sync_all()?;
        let (head, _) = verify::check(self.file.as_ref(), seal, &mut |_| Ok(()))?;
        let path = self.dir.join(file_name(head.applied));
        self.disk.rename(&self.partial, &path)?;
        self.finished = true;
        self.disk.sync_dir(&self.dir)?;
        Ok(SnapshotFile {
            path,
            applied: head.applied,
            bytes: self.written,
        })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.finished {
            // What can not be removed now is removed at the next start.
            let _ = self.disk.remove(&self.partial);
        }
    }
}
