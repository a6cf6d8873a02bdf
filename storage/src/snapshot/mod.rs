//! Snapshots: all rows at one applied position, in one file that proves itself.
//!
//! One format for everything: a member that restarts, a member that is far behind, backup and restore. It is
//! written while writes go on, from a frozen machine and a pinned history.
//!
//! ```text
//!   file    :=  "MERIDSNP"  format (4)  frame*           all numbers little endian
//!   frame   :=  position (4)  kind (1)  length (4)  CRC-32 (4)  content, sealed
//!                  the CRC is of position, kind, length and the sealed content
//!   frames  :=  head 'h' at position 0, chunks 'c', trailer 't' at the end of the file
//!
//!   head    :=  cluster id (8)  applied term (8)  applied index (8)
//!               0 | 1 and the membership, as Raft encodes it
//!   chunk   :=  record*                                  closed once it has 1 MiB
//!   record  :=  1  key length, key, value length, value         a fact
//!            |  2  tenant                                        versions of this tenant follow
//!            |  3  row                                           a version, packed (history/packed.rs)
//!   trailer :=  chunks (8)  facts (8)  versions (8)
//!               SHA-256 of: magic, format, and position, kind, length, content of each frame before, unsealed
//! ```
//!
//! Facts come first, by key; then versions, by tenant and place. A chunk names its tenant again, and its first
//! row is packed as a first one: each chunk can be read alone.
//!
//! Invariants:
//!
//! - **The same position makes the same bytes on every member.** There is no clock and no member in it; which
//!   versions belong to it is a pure function of the state (compaction's progress does not show). The
//!   hash is taken before the seal, so it stays comparable when members seal with keys of their own.
//! - **Complete or not there**: written under another name, flushed, renamed, and the directory flushed. The
//!   writer counts what the keyspaces say must be in it, and refuses to finish without.
//! - **Nothing of a file is used before all of it was verified.**
//!
//! File names are `<term>-<index>.snapshot`, both in sixteen hex digits; `.partial` is one that is being
//! written or received, `.damaged` one that did not verify. Two snapshots are kept, so that one that turns out
//! damaged leaves another.

pub mod read;
pub mod restore;
pub mod stream;
pub mod verify;
pub mod write;

pub(crate) mod frame;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use meridian_domain::revision::LogId;

use crate::disk::Disk;
use crate::fault::Fault;
use crate::seal::Seal;

pub use read::{SnapshotRows, open};
pub use stream::{Incoming, Outgoing};
pub use verify::{Inspection, inspect, verify};
pub use write::{Content, write};

/// How many snapshots are kept.
const KEPT: usize = 2;

const COMPLETE: &str = ".snapshot";
const PARTIAL: &str = ".partial";
const DAMAGED: &str = ".damaged";

/// A snapshot in a directory, by its name. What is in it is only known once it was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Where it is.
    pub path: PathBuf,
    /// The applied position it holds.
    pub applied: LogId,
    /// Its size, in bytes.
    pub bytes: u64,
}

/// The file name of the snapshot at a position.
fn file_name(applied: LogId) -> String {
    format!("{:016x}-{:016x}{COMPLETE}", applied.term, applied.index)
}

/// The position a file name stands for; none if it is not the name of a complete snapshot.
fn parse_name(name: &str) -> Option<LogId> {
    let (term, index) = name.strip_suffix(COMPLETE)?.split_once('-')?;
    let number = |hex: &str| {
        u64::from_str_radix(hex, 16)
            .ok()
            .filter(|_| hex.len() == 16)
    };
    Some(LogId {
        term: number(term)?,
        index: number(index)?,
    })
}

/// The complete snapshots of a directory, newest first. A directory that is not there has none.
pub fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<SnapshotFile>, Fault> {
    let names = match disk.list(dir) {
        Err(fault) if fault.is_not_found() => return Ok(Vec::new()),
        names => names?,
    };
    let mut found = Vec::new();
    for name in names {
        if let Some(applied) = parse_name(&name) {
            let path = dir.join(name);
            let bytes = disk.open(&path)?.size()?;
            found.push(SnapshotFile {
                path,
                applied,
                bytes,
            });
        }
    }
    found.sort_by_key(|file| std::cmp::Reverse(file.applied));
    Ok(found)
}

/// The newest complete snapshot of a directory.
pub fn latest(disk: &dyn Disk, dir: &Path) -> Result<Option<SnapshotFile>, Fault> {
    Ok(list(disk, dir)?.into_iter().next())
}

/// Opens the newest snapshot that verifies. One that does not is renamed to `.damaged` and logged, and the one
/// before it is tried: the caller checks that the log still reaches back to it.
pub fn open_latest(
    disk: &dyn Disk,
    seal: &std::sync::Arc<dyn Seal>,
    dir: &Path,
) -> Result<Option<(SnapshotFile, SnapshotRows)>, Fault> {
    for file in list(disk, dir)? {
        match open(disk, seal, &file.path) {
            Ok(rows) => return Ok(Some((file, rows))),
            Err(fault @ Fault::Damaged { .. }) => set_aside(disk, dir, &file, &fault)?,
            Err(fault) => return Err(fault),
        }
    }
    Ok(None)
}

/// Renames a snapshot of `dir` that does not verify to `.damaged`, durably, and logs `why`.
pub fn set_aside(
    disk: &dyn Disk,
    dir: &Path,
    file: &SnapshotFile,
    why: &Fault,
) -> Result<(), Fault> {
    tracing::error!(fault = %why, "a snapshot is damaged and set aside");
    let mut aside = file.path.clone().into_os_string();
    aside.push(DAMAGED);
    disk.rename(&file.path, Path::new(&aside))?;
    disk.sync_dir(dir)
}

/// Makes the directory, and removes what is not needed in it: files that were never finished, all snapshots but
/// the last two, all damaged ones but the last two. Call it when nothing is being written or received.
pub fn tidy(disk: &dyn Disk, dir: &Path) -> Result<(), Fault> {
    disk.create_dir_all(dir)?;
    let names = disk.list(dir)?;
    let partial = names
        .iter()
        .filter(|name| name.ends_with(PARTIAL))
        .map(|name| dir.join(name));
    let damaged = names
        .iter()
        .rev()
        .filter(|name| name.ends_with(DAMAGED))
        .map(|name| dir.join(name));
    let mut gone: Vec<PathBuf> = partial.chain(damaged.skip(KEPT)).collect();
    gone.extend(
        list(disk, dir)?
            .into_iter()
            .skip(KEPT)
            .map(|file| file.path),
    );
    for path in &gone {
        disk.remove(path)?;
    }
    if gone.is_empty() {
        Ok(())
    } else {
        disk.sync_dir(dir)
    }
}

/// Removes all complete snapshots but the last two. Safe while another one is being written or received.
pub fn remove_old(disk: &dyn Disk, dir: &Path) -> Result<(), Fault> {
    let old: Vec<_> = list(disk, dir)?.into_iter().skip(KEPT).collect();
    for file in &old {
        disk.remove(&file.path)?;
    }
    if old.is_empty() {
        Ok(())
    } else {
        disk.sync_dir(dir)
    }
}
