//! The backend on disk: sled 0.34.7, inside a guard.
//!
//! What sled needs to be trusted with a cache of the log, each measured:
//!
//! - **One tree, one writer.** Batches are atomic and ordered; nothing else of sled is used.
//! - **`flush()` is not durable**: on Linux it is `sync_file_range`. A durable checkpoint is `flush()`, then
//!   `fsync` of the database file, then of the directory.
//! - **A panic inside sled is damage**, not the end of the process: every call is guarded. After one, the
//!   handle is never used again, not even dropped (its locks may be held for ever).
//! - **Its cache does not evict by itself.** sled looks at its cache bound only after 64 accesses to one of
//!   256 shards; with large values a whole database fits in between. [`Sled::touch`] looks a key up a few more
//!   times after it was read or written, which costs about 2 us and keeps the cache at its bound (measured:
//!   330 MiB scanned with 40 MiB resident instead of 340, and twice as fast).
//!
//! Deliberately absent: compression, transactions, several trees, merge operators.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::{Backend, EachRow, Edit, Step};
use crate::disk::Disk;
use crate::fault::Fault;

/// How many extra look-ups keep sled's cache near its bound, for each row written or scanned (16 neighbours lie
/// in one page, and are written or scanned together) ...
const TOUCHES: usize = 6;
/// ... and for each row read alone.
const TOUCHES_ALONE: usize = 24;

/// How often, and how far apart, opening waits for a lock that an ending process still holds.
const LOCK_TRIES: usize = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// How sled is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bound of its page cache, in bytes.
    pub cache_bytes: u64,
    /// How often it hands written rows to the system on its own, in milliseconds.
    pub flush_every_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cache_bytes: 6 << 20,
            flush_every_ms: 1000,
        }
    }
}

/// A sled database.
pub struct Sled {
    /// Taken out only to be leaked after a panic.
    db: Option<sled::Db>,
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    broken: AtomicBool,
}

impl std::fmt::Debug for Sled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sled")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl Sled {
    /// Opens the database in `dir`, or makes one. Waits up to a second for a process that is just ending.
    ///
    /// [`Fault::Directory`] if another process holds it; [`Fault::Damaged`] if sled says so or panics: the
    /// caller sets the directory aside.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, settings: &Settings) -> Result<Self, Fault> {
        disk.create_dir_all(dir)?;
        let mut tries = 0;
        loop {
            match guarded(dir, "open", || configured(dir, settings).open()) {
                Err(Fault::Backend { source, .. }) if is_locked(&source) => {
                    tries += 1;
                    if tries == LOCK_TRIES {
                        return Err(Fault::Directory {
                            path: dir.to_path_buf(),
                            what: "another process uses the version store; stop it first".into(),
                        });
                    }
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(fault) => return Err(fault),
                Ok(db) => {
                    let dir = dir.to_path_buf();
                    return Ok(Self {
                        db: Some(db),
                        dir,
                        disk,
                        broken: AtomicBool::new(false),
                    });
                }
            }
        }
    }

    /// Runs one operation on the database, guarded.
    fn with<T>(
        &self,
        operation: &'static str,
        run: impl FnOnce(&sled::Db) -> Result<T, sled::Error>,
    ) -> Result<T, Fault> {
        let poisoned = || Fault::Poisoned {
            part: "the version store",
            cause: "it panicked or found damage".into(),
        };
        if self.broken.load(Ordering::Acquire) {
            return Err(poisoned());
        }
        let db = self.db.as_ref().ok_or_else(poisoned)?;
        let done = guarded(&self.dir, operation, || run(db));
        if done.is_err() {
            self.broken.store(true, Ordering::Release);
        }
        done
    }

    /// Looks a key up a few times more, so that sled counts the accesses and evicts.
    fn touch(db: &sled::Db, key: &[u8], times: usize) -> Result<(), sled::Error> {
        for _ in 0..times {
            db.contains_key(key)?;
        }
        Ok(())
    }
}

impl Drop for Sled {
    fn drop(&mut self) {
        let Some(db) = self.db.take() else { return };
        if self.broken.load(Ordering::Acquire) {
            std::mem::forget(db);
        } else if catch_unwind(AssertUnwindSafe(|| drop(db))).is_err() {
            tracing::warn!(dir = %self.dir.display(), "sled panicked while it was closed");
        }
    }
}

fn configured(dir: &Path, settings: &Settings) -> sled::Config {
    sled::Config::new()
        .path(dir)
        .cache_capacity(settings.cache_bytes.max(1 << 20))
        .flush_every_ms(Some(settings.flush_every_ms.max(1)))
        .use_compression(false)
        .mode(sled::Mode::HighThroughput)
}

/// Runs `run`; a panic or an error that means damage becomes [`Fault::Damaged`].
fn guarded<T>(
    dir: &Path,
    operation: &'static str,
    run: impl FnOnce() -> Result<T, sled::Error>,
) -> Result<T, Fault> {
    let damaged = |what: String| Fault::Damaged {
        path: dir.to_path_buf(),
        offset: 0,
        what,
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) if is_damage(&source) => {
            Err(damaged(format!("sled could not {operation} it: {source}")))
        }
        Ok(Err(source)) => Err(Fault::Backend {
            operation,
            source: Arc::new(source),
        }),
        Err(panic) => {
            let said = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(damaged(format!("sled panicked in {operation}: {said}")))
        }
    }
}

/// Whether sled's error says that the files are not what it wrote, as opposed to what the system refused.
fn is_damage(error: &sled::Error) -> bool {
    use std::io::ErrorKind;
    match error {
        sled::Error::Io(source) => {
            let refused = matches!(
                source.kind(),
                ErrorKind::PermissionDenied
                    | ErrorKind::StorageFull
                    | ErrorKind::QuotaExceeded
                    | ErrorKind::ReadOnlyFilesystem
                    | ErrorKind::WouldBlock
                    | ErrorKind::OutOfMemory
            );
            !refused && source.raw_os_error().is_none() && !is_locked(error)
                || matches!(
                    source.kind(),
                    ErrorKind::NotFound
                        | ErrorKind::UnexpectedEof
                        | ErrorKind::InvalidData
                        | ErrorKind::NotADirectory
                        | ErrorKind::IsADirectory
                        | ErrorKind::InvalidInput
                )
        }
        _ => true,
    }
}

/// Whether somebody else holds sled's lock. It says so in words only.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(source) if source.to_string().contains("could not acquire lock"))
}

impl Backend for Sled {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        self.with("get", |db| {
            let value = db.get(key)?;
            if value.is_some() {
                Self::touch(db, key, TOUCHES_ALONE)?;
            }
            Ok(value.map(|value| Bytes::copy_from_slice(&value)))
        })
    }

    fn scan(&self, prefix: &[u8], from: &[u8], each: EachRow<'_>) -> Result<(), Fault> {
        let mut refused = Ok(());
        self.with("scan", |db| {
            for row in db.range(from.max(prefix)..) {
                let (key, value) = row?;
                if !key.starts_with(prefix) {
                    break;
                }
                Self::touch(db, &key, TOUCHES)?;
                match each(&key, Bytes::copy_from_slice(&value)) {
                    Ok(Step::Next) => {}
                    Ok(Step::Stop) => break,
                    Err(fault) => {
                        refused = Err(fault);
                        break;
                    }
                }
            }
            Ok(())
        })?;
        refused
    }

    fn write(&self, edits: Vec<Edit>) -> Result<(), Fault> {
        self.with("write", |db| {
            let mut batch = sled::Batch::default();
            let mut written = Vec::with_capacity(edits.len());
            for (key, value) in edits {
                match value {
                    Some(value) => {
                        batch.insert(key.as_ref(), value.as_ref());
                        written.push(key);
                    }
                    None => batch.remove(key.as_ref()),
                }
            }
            db.apply_batch(batch)?;
            written
                .iter()
                .try_for_each(|key| Self::touch(db, key, TOUCHES))
        })
    }

    fn flush(&self) -> Result<(), Fault> {
        self.with("flush", |db| db.flush())?;
        self.disk.open(&self.dir.join("db"))?.sync_all()?;
        // Values beyond sled's inline bound lie in files of their own, which sled flushes itself.
        let blobs = self.dir.join("blobs");
        match self.disk.sync_dir(&blobs) {
            Err(fault) if !fault.is_not_found() => return Err(fault),
            _ => {}
        }
        self.disk.sync_dir(&self.dir)
    }

    fn size_on_disk(&self) -> Result<u64, Fault> {
        self.with("size", sled::Db::size_on_disk)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::disk::OsDisk;

    fn open(disk: &OsDisk, dir: &Path) -> Result<Sled, Fault> {
        Sled::open(Arc::new(disk.clone()), dir, &Settings::default())
    }

    #[test]
    fn a_flush_reaches_the_device_for_the_file_and_for_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let disk = OsDisk::new();
        let sled = open(&disk, &dir.path().join("a")).unwrap();
        sled.write(vec![("k".into(), Some("v".into()))]).unwrap();
        let (files, dirs) = (disk.file_syncs(), disk.dir_syncs());
        sled.flush().unwrap();
        assert!(disk.file_syncs() > files && disk.dir_syncs() > dirs);
    }

    #[test]
    fn a_database_in_use_is_not_taken_for_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let disk = OsDisk::new();
        let held = open(&disk, dir.path()).unwrap();
        assert!(matches!(
            open(&disk, dir.path()),
            Err(Fault::Directory { .. })
        ));
        drop(held);
        open(&disk, dir.path()).unwrap();
    }

    #[test]
    fn garbage_in_place_of_the_database_is_damage_and_not_a_panic() {
        for garbage in [vec![0xa5; 4096], vec![0; 600_000]] {
            let dir = tempfile::tempdir().unwrap();
            let disk = OsDisk::new();
            drop(open(&disk, dir.path()).unwrap());
            std::fs::write(dir.path().join("conf"), &garbage).unwrap();
            let opened = open(&disk, dir.path());
            assert!(matches!(opened, Err(Fault::Damaged { .. })), "{opened:?}");
        }
    }

    #[test]
    fn a_panic_inside_is_damage_and_ends_the_use_of_the_handle() {
        let dir = tempfile::tempdir().unwrap();
        let sled = open(&OsDisk::new(), dir.path()).unwrap();
        let fault = sled.with("get", |_| -> Result<(), sled::Error> {
            panic!("as sled does")
        });
        assert!(matches!(fault, Err(Fault::Damaged { .. })));
        assert!(matches!(sled.get(b"k"), Err(Fault::Poisoned { .. })));
    }
}
