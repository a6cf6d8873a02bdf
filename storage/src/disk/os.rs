//! The operating system's disk.
//!
//! `sync_data` is `fdatasync`, `sync_all` is `fsync`, `sync_dir` is `fsync` of the directory. The flushes are
//! counted where they are issued, so that a test can hold "one flush per durable batch" against the count.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock, statvfs};

use super::{Disk, File, Lock};
use crate::fault::Fault;

/// The file system of this machine. Cheap to clone; clones share the counters.
#[derive(Clone, Debug, Default)]
pub struct OsDisk {
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    file_syncs: AtomicU64,
    dir_syncs: AtomicU64,
    writes: AtomicU64,
}

impl OsDisk {
    /// The disk, with its counters at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many flushes of files (`fdatasync` and `fsync`) succeeded.
    pub fn file_syncs(&self) -> u64 {
        self.counters.file_syncs.load(Ordering::Relaxed)
    }

    /// How many flushes of directories succeeded.
    pub fn dir_syncs(&self) -> u64 {
        self.counters.dir_syncs.load(Ordering::Relaxed)
    }

    /// How many writes were asked for.
    pub fn writes(&self) -> u64 {
        self.counters.writes.load(Ordering::Relaxed)
    }

    fn wrap(&self, path: &Path, file: fs::File) -> Arc<dyn File> {
        Arc::new(OsFile {
            path: path.to_path_buf(),
            file,
            counters: Arc::clone(&self.counters),
        })
    }
}

impl Disk for OsDisk {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, Fault> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path);
        Ok(self.wrap(path, file.map_err(|e| Fault::io("create", path, e))?))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>, Fault> {
        let file = fs::OpenOptions::new().read(true).write(true).open(path);
        Ok(self.wrap(path, file.map_err(|e| Fault::io("open", path, e))?))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), Fault> {
        fs::rename(from, to).map_err(|e| Fault::io("rename", from, e))
    }

    fn remove(&self, path: &Path) -> Result<(), Fault> {
        fs::remove_file(path).map_err(|e| Fault::io("remove", path, e))
    }

    fn remove_dir_all(&self, dir: &Path) -> Result<(), Fault> {
        match fs::remove_dir_all(dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Fault::io("remove directory", dir, e))
            }
            _ => Ok(()),
        }
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, Fault> {
        let fault = |e| Fault::io("list", dir, e);
        let mut names = Vec::new();
        for entry in fs::read_dir(dir).map_err(fault)? {
            let entry = entry.map_err(fault)?;
            if entry.file_type().map_err(fault)?.is_dir() {
                continue;
            }
            // Our own names are ASCII; a name that is not text is not ours.
            if let Ok(name) = entry.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir_all(&self, dir: &Path) -> Result<(), Fault> {
        if dir.is_dir() {
            return Ok(());
        }
        // The parent first, so that each new name can be flushed in a directory that is durable itself.
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if !parent.is_dir() {
            self.create_dir_all(parent)?;
        }
        match fs::create_dir(dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Fault::io("create directory", dir, e));
            }
            _ => {}
        }
        self.sync_dir(parent)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), Fault> {
        let handle = fs::File::open(dir).map_err(|e| Fault::io("open directory", dir, e))?;
        handle
            .sync_all()
            .map_err(|e| Fault::io("flush of directory", dir, e))?;
        self.counters.dir_syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn available_space(&self, dir: &Path) -> Result<u64, Fault> {
        let stat = statvfs(dir).map_err(|e| Fault::io("statvfs", dir, e.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path) -> Result<Lock, Fault> {
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let file = file.map_err(|e| Fault::io("open", path, e))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Box::new(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Fault::Directory {
                path: path.parent().unwrap_or(path).to_path_buf(),
                what: "another process uses it; stop that one or choose another directory".into(),
            }),
            Err(e) => Err(Fault::io("lock", path, e.into())),
        }
    }
}

#[derive(Debug)]
struct OsFile {
    path: PathBuf,
    file: fs::File,
    counters: Arc<Counters>,
}

impl File for OsFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize, Fault> {
        let mut read = 0;
        while let Some(rest) = into.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + read as u64) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Fault::io("read", &self.path, e)),
            }
        }
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), Fault> {
        self.counters.writes.fetch_add(1, Ordering::Relaxed);
        self.file
            .write_all_at(bytes, offset)
            .map_err(|e| Fault::io("write", &self.path, e))
    }

    fn size(&self) -> Result<u64, Fault> {
        Ok(self
            .file
            .metadata()
            .map_err(|e| Fault::io("stat", &self.path, e))?
            .len())
    }

    fn truncate(&self, size: u64) -> Result<(), Fault> {
        self.file
            .set_len(size)
            .map_err(|e| Fault::io("truncate", &self.path, e))
    }

    fn sync_data(&self) -> Result<(), Fault> {
        self.file
            .sync_data()
            .map_err(|e| Fault::io("flush", &self.path, e))?;
        self.counters.file_syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn sync_all(&self) -> Result<(), Fault> {
        self.file
            .sync_all()
            .map_err(|e| Fault::io("flush", &self.path, e))?;
        self.counters.file_syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    #[test]
    fn a_lock_is_exclusive_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let disk = OsDisk::new();
        let path = dir.path().join("lock");
        let held = disk.lock(&path).unwrap();
        assert!(matches!(disk.lock(&path), Err(Fault::Directory { .. })));
        drop(held);
        disk.lock(&path).unwrap();
    }

    #[test]
    fn files_are_written_read_moved_and_listed() {
        let dir = tempfile::tempdir().unwrap();
        let disk = OsDisk::new();
        let deep = dir.path().join("a/b/c");
        disk.create_dir_all(&deep).unwrap();
        disk.create_dir_all(&deep).unwrap();
        let file = disk.create(&deep.join("one")).unwrap();
        assert!(disk.create(&deep.join("one")).is_err(), "the name is taken");
        file.write_at(b"hello", 3).unwrap();
        file.sync_data().unwrap();
        disk.rename(&deep.join("one"), &deep.join("two")).unwrap();
        disk.sync_dir(&deep).unwrap();
        assert_eq!(disk.list(&deep).unwrap(), ["two"]);
        let file = disk.open(&deep.join("two")).unwrap();
        let mut bytes = [9; 16];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 8);
        assert_eq!(&bytes[..8], b"\0\0\0hello");
        assert!(matches!(
            file.read_exact_at(&mut bytes, 0),
            Err(Fault::Damaged { offset: 8, .. })
        ));
        file.truncate(4).unwrap();
        assert_eq!(file.size().unwrap(), 4);
        assert!(disk.open(&deep.join("one")).unwrap_err().is_not_found());
        assert_eq!(disk.file_syncs(), 1);
        assert!(disk.available_space(&deep).unwrap() > 0);
        disk.remove(&deep.join("two")).unwrap();
        disk.remove_dir_all(&deep).unwrap();
        disk.remove_dir_all(&deep).unwrap();
    }
}
