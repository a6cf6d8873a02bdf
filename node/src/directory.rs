//! The data directory: whose it is, and that nobody else uses it.
//!
//! ```text
//!   <data-dir>/
//!     LOCK         held by the process that uses the directory
//!     identity     who the member is; written once, JSON
//!     begun        there was a log: one that is gone was lost      (run/recovery)
//!     recovering   it forgot what it acknowledged, and does not vote until it has it again
//!     wal/         the log and the votes                          (storage)
//!     wal.damaged-1, -2   logs that were set aside: the last time, and the time before
//!     history/     versions, rebuilt from log and snapshot        (storage)
//!     snapshots/   states at one position of the log              (storage)
//! ```
//!
//! The identity outlives flags: after the first start the directory says which cluster and member this is. A
//! directory of another cluster, of a newer format, or in use is refused before anything in it is touched.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::pipeline::Ids;

/// The newest format of the identity file this version reads and writes.
const FORMAT: u32 = 1;
/// An identity is a few hundred bytes; anything much larger is not one.
const IDENTITY_BYTES_MAX: u64 = 64 << 10;

/// Why a data directory can not be used. `Display` says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The system refused.
    #[error("{operation} {path}: {source}", path = path.display())]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has it.
    #[error(
        "the data directory {path} is in use by another process; stop that one, or use another --data-dir",
        path = path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// Written by a newer version.
    #[error(
        "the data directory {path} has format {found}; this version reads up to {FORMAT}. Start a newer version",
        path = path.display()
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The identity can not be read though it is there, or data is there without one.
    #[error(
        "the data directory {path} can not be trusted: {what}. Restore it, or remove this member, use an empty \
         directory and add it anew",
        path = path.display()
    )]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// What does not hold.
        what: String,
    },
    /// It belongs to somebody else.
    #[error(
        "the data directory {path} belongs to {owner}, but the settings speak of {meant}; use another --data-dir \
         or correct the settings",
        path = path.display()
    )]
    Another {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: String,
        /// Whose it should be.
        meant: String,
    },
}

/// Who the member is, as its directory remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The format of this file.
    pub format: u32,
    /// The cluster, hexadecimal.
    pub cluster_id: String,
    /// The member, hexadecimal.
    pub member_id: String,
    /// A random number drawn when the directory was made, hexadecimal: a disk that was lost is not this one.
    pub instance: String,
    /// The member's name at the first start.
    pub name: String,
    /// The token the cluster was founded with.
    pub token: String,
    /// The peer URLs of all members at the first start.
    pub peer_urls: Vec<String>,
}

impl Identity {
    /// An identity for a new directory.
    pub fn new(ids: Ids, name: &str, token: &str, peer_urls: Vec<String>) -> Self {
        Self {
            format: FORMAT,
            cluster_id: format!("{:x}", ids.cluster),
            member_id: format!("{:x}", ids.member),
            instance: format!("{:x}", ids.instance),
            name: name.to_owned(),
            token: token.to_owned(),
            peer_urls,
        }
    }

    /// The ids as numbers. None if the text is not one.
    pub fn ids(&self) -> Option<Ids> {
        let number = |text: &str| u64::from_str_radix(text, 16).ok().filter(|id| *id != 0);
        Some(Ids {
            cluster: number(&self.cluster_id)?,
            member: number(&self.member_id)?,
            instance: number(&self.instance)?,
        })
    }
}

/// Where versions lie in a data directory.
pub fn history_of(path: &Path) -> PathBuf {
    path.join("history")
}

/// Where snapshots lie in a data directory.
pub fn snapshots_of(path: &Path) -> PathBuf {
    path.join("snapshots")
}

/// The sizes of all files in a directory, four levels deep, in bytes. What goes away meanwhile is passed over.
pub fn bytes_below(path: &Path) -> u64 {
    fn add(path: &Path, depth: usize) -> u64 {
        let Ok(entries) = fs::read_dir(path) else {
            return 0;
        };
        let sizes = entries
            .filter_map(Result::ok)
            .map(|entry| match entry.metadata() {
                Ok(found) if found.is_dir() && depth > 0 => add(&entry.path(), depth - 1),
                Ok(found) => found.len(),
                Err(_) => 0,
            });
        sizes.sum()
    }
    add(path, 3)
}

/// The one field every format of the identity has.
#[derive(Deserialize)]
struct Any {
    format: u32,
}

/// A data directory, held until dropped.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes the directory if need be, readable for its owner alone, and takes it for this process.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        let failed = |operation| failed(operation, path);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed("making the data directory"))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("LOCK"))
            .map_err(failed("opening the lock of"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(DirectoryError::InUse { path: path.into() }),
            Err(error) => Err(failed("locking")(error.into())),
        }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the log lies.
    pub fn wal(&self) -> PathBuf {
        self.path.join("wal")
    }

    /// Where versions lie.
    pub fn history(&self) -> PathBuf {
        history_of(&self.path)
    }

    /// Where snapshots lie.
    pub fn snapshots(&self) -> PathBuf {
        snapshots_of(&self.path)
    }

    /// Who the member is; none in a new directory. Data without an identity is refused.
    pub fn identity(&self) -> Result<Option<Identity>, DirectoryError> {
        let path = self.path.join("identity");
        let damaged = |what: String| DirectoryError::Damaged {
            path: self.path.clone(),
            what,
        };
        match fs::metadata(&path) {
            Ok(found) if found.len() > IDENTITY_BYTES_MAX => {
                return Err(damaged("its identity is not one".into()));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.wal().exists() || self.history().exists() || self.snapshots().exists() {
                    return Err(damaged(
                        "there is data in it, but the file `identity` is missing".into(),
                    ));
                }
                return Ok(None);
            }
            Err(error) => return Err(failed("reading", &path)(error)),
        }
        let bytes = fs::read(&path).map_err(failed("reading", &path))?;
        let any: Any = serde_json::from_slice(&bytes)
            .map_err(|error| damaged(format!("its identity can not be read: {error}")))?;
        if any.format > FORMAT {
            return Err(DirectoryError::Newer {
                path: self.path.clone(),
                found: any.format,
            });
        }
        let identity: Identity = serde_json::from_slice(&bytes)
            .map_err(|error| damaged(format!("its identity can not be read: {error}")))?;
        if identity.ids().is_none() {
            return Err(damaged(
                "its identity holds ids that are not numbers".into(),
            ));
        }
        Ok(Some(identity))
    }

    /// Writes who the member is, durably, before anything else is written to the directory.
    pub fn write_identity(&self, identity: &Identity) -> Result<(), DirectoryError> {
        let path = self.path.join("identity");
        let new = self.path.join("identity.new");
        let text = serde_json::to_vec_pretty(identity)
            .map_err(|error| failed("writing", &path)(io::Error::other(error)))?;
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(failed("writing", &path))
    }
}

fn failed(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |source| DirectoryError::Io {
        operation,
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn identity() -> Identity {
        let ids = Ids {
            cluster: 0xc,
            member: 0xab,
            instance: 0xffff_ffff_ffff_ffff,
        };
        Identity::new(ids, "m1", "token", vec!["http://127.0.0.1:2380".into()])
    }

    #[test]
    fn an_identity_is_read_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(&dir.path().join("a/b")).unwrap();
        assert_eq!(directory.identity().unwrap(), None);
        directory.write_identity(&identity()).unwrap();
        let read = directory.identity().unwrap().unwrap();
        assert_eq!(read, identity());
        assert_eq!(read.ids().unwrap().member, 0xab);
    }

    #[test]
    fn a_directory_has_one_user_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = Directory::open(dir.path()).unwrap();
        let error = Directory::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("in use"), "{error}");
        drop(first);
        Directory::open(dir.path()).unwrap();
    }

    #[test]
    fn newer_formats_damage_and_orphaned_data_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        let path = dir.path().join("identity");
        let error = |directory: &Directory| directory.identity().unwrap_err().to_string();
        fs::write(&path, "{\"format\": 9, \"something\": 1}").unwrap();
        assert!(error(&directory).contains("newer version"));
        fs::write(&path, "{\"format\": 1}").unwrap();
        assert!(error(&directory).contains("can not be read"));
        fs::write(&path, [0xff; 10]).unwrap();
        assert!(error(&directory).contains("can not be read"));
        fs::remove_file(&path).unwrap();
        fs::create_dir(directory.wal()).unwrap();
        assert!(error(&directory).contains("identity"));
    }
}
