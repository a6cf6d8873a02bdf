//! The manifest: the number of the newest segment, so that its loss is seen.
//!
//! ```text
//!   slot 0 at byte 0, slot 1 at byte 4096, each:
//!    0  8  "MERIDMAN"
//!    8  4  format, 1
//!   12  8  number of the newest segment
//!   20  4  CRC-32 of bytes 0..20
//! ```
//!
//! Written in place, after a new segment is durable and before anything is acknowledged from it. The number
//! says which slot: even or odd. A write that is torn leaves the other slot, which is one behind; so the newest
//! segment may be one ahead of the manifest, never behind. In place, because a full disk must not fail it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::Fields;
use crate::disk::{Disk, File};
use crate::fault::Fault;

/// Its file name.
pub const NAME: &str = "manifest";

const NAME_NEW: &str = "manifest.new";
const MAGIC: [u8; 8] = *b"MERIDMAN";
const FORMAT: u32 = 1;
const BYTES: usize = 24;
const SLOT_BYTES: usize = 4096;

/// The manifest of one log, open.
#[derive(Debug)]
pub struct Manifest {
    file: Arc<dyn File>,
}

impl Manifest {
    /// Makes the manifest, durably, in place of what has its name.
    pub fn create(disk: &dyn Disk, dir: &Path, newest: u64) -> Result<Self, Fault> {
        let new = dir.join(NAME_NEW);
        match disk.remove(&new) {
            Err(fault) if !fault.is_not_found() => return Err(fault),
            _ => {}
        }
        let file = disk.create(&new)?;
        let mut both = slot(newest);
        both.resize(SLOT_BYTES, 0);
        both.extend_from_slice(&slot(newest));
        both.resize(2 * SLOT_BYTES, 0);
        file.write_at(&both, 0)?;
        file.sync_all()?;
        disk.rename(&new, &dir.join(NAME))?;
        disk.sync_dir(dir)?;
        Ok(Self { file })
    }

    /// Opens the manifest and reads the newest segment; none if there is no manifest.
    pub fn open(disk: &dyn Disk, dir: &Path) -> Result<Option<(Self, u64)>, Fault> {
        let path = dir.join(NAME);
        let file = match disk.open(&path) {
            Ok(file) => file,
            Err(fault) if fault.is_not_found() => return Ok(None),
            Err(fault) => return Err(fault),
        };
        let mut newest = None;
        for at in [0, SLOT_BYTES as u64] {
            let mut bytes = [0; BYTES];
            if file.read_at(&mut bytes, at)? == BYTES {
                newest = newest.max(read_slot(&bytes, &path)?);
            }
        }
        let damaged = || {
            let what = "neither of its two slots verifies".to_owned();
            Fault::Damaged {
                path: path.clone(),
                offset: 0,
                what,
            }
        };
        let newest = newest.ok_or_else(damaged)?;
        Ok(Some((Self { file }, newest)))
    }

    /// Notes the newest segment, durably.
    pub fn note(&self, newest: u64) -> Result<(), Fault> {
        self.file
            .write_at(&slot(newest), (newest % 2) * SLOT_BYTES as u64)?;
        self.file.sync_data()
    }
}

fn slot(newest: u64) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&newest.to_le_bytes());
    let sum = crc32fast::hash(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

/// The number in a slot; none if it does not verify.
fn read_slot(bytes: &[u8; BYTES], path: &Path) -> Result<Option<u64>, Fault> {
    let mut fields = Fields(bytes);
    let (magic, format, newest): ([u8; 8], _, _) = (fields.take(), fields.u32(), fields.u64());
    let (covered, _) = bytes.split_at(BYTES - 4);
    if magic != MAGIC || crc32fast::hash(covered) != fields.u32() {
        return Ok(None);
    }
    if format > FORMAT {
        let path = PathBuf::from(path);
        return Err(Fault::NewerFormat {
            path,
            found: format,
            known: FORMAT,
        });
    }
    Ok(Some(newest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::disk::FaultyDisk;

    #[test]
    fn a_torn_note_leaves_the_number_before() {
        let (disk, dir) = (FaultyDisk::new(), Path::new("/d"));
        disk.create_dir_all(dir).unwrap();
        assert!(Manifest::open(&disk, dir).unwrap().is_none());
        Manifest::create(&disk, dir, 1).unwrap();
        for seed in 0..100 {
            let (manifest, newest) = Manifest::open(&disk, dir).unwrap().unwrap();
            disk.power_off_at(disk.changes() + 2);
            assert!(manifest.note(newest + 1).is_err());
            disk.crash(seed);
            let after = Manifest::open(&disk, dir).unwrap().unwrap().1;
            assert!(after == newest || after == newest + 1);
        }
        let path = dir.join(NAME);
        disk.flip(&path, 3, 0);
        assert!(
            Manifest::open(&disk, dir).unwrap().is_some(),
            "one slot is left"
        );
        disk.flip(&path, SLOT_BYTES + 3, 0);
        assert!(matches!(
            Manifest::open(&disk, dir),
            Err(Fault::Damaged { .. })
        ));
    }
}
