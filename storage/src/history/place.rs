//! Where the version store lies, and how one replaces another.
//!
//! ```text
//!   versions/                 the directory
//!     current                 which of the two below is in use: `a` or `b`, and a newline
//!     a/  b/                  sled databases; the one not in use is absent, or half made and worthless
//!   versions.damaged-1        what was set aside last; versions.damaged-2 the time before
//! ```
//!
//! A store is replaced by making a new one in the free slot, flushing it, and then moving a new `current` over
//! the old. So a crash leaves the old store or the new one, never a mixture.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use prometheus::{IntCounter, register_int_counter};

use crate::backend::Backend;
use crate::backend::memory::Memory;
use crate::backend::pieces::Pieces;
use crate::backend::sled::{self, Sled};
use crate::disk::Disk;
use crate::fault::Fault;

/// How often the version store was set aside and begun anew.
pub static REBUILDS: LazyLock<IntCounter> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the name is valid and registered once")]
    register_int_counter!(
        "meridian_storage_backend_rebuilds_total",
        "How often the version store was damaged, set aside and rebuilt."
    )
    .expect("a valid metric")
});

const POINTER: &str = "current";
const POINTER_NEW: &str = "current.new";

fn on_disk(
    disk: &Arc<dyn Disk>,
    path: PathBuf,
    settings: &sled::Settings,
) -> Result<Arc<dyn Backend>, Fault> {
    let sled = Sled::open(Arc::clone(disk), &path, settings)?;
    Ok(Arc::new(Pieces::open(sled, path)?))
}

/// One of the two places a store can lie in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The directory `a`.
    A,
    /// The directory `b`.
    B,
}

impl Slot {
    fn name(self) -> &'static str {
        match self {
            Slot::A => "a",
            Slot::B => "b",
        }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }
}

/// Where stores are made.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a directory, with sled.
    Directory {
        /// The disk.
        disk: Arc<dyn Disk>,
        /// The directory.
        dir: PathBuf,
        /// How sled is run.
        sled: sled::Settings,
    },
    /// In memory.
    Memory,
}

impl Place {
    /// The path named in errors.
    pub fn path(&self) -> &Path {
        match self {
            Place::Directory { dir, .. } => dir,
            Place::Memory => Path::new("memory"),
        }
    }

    /// Opens the store in use; makes an empty one if there was none. [`Fault::Damaged`] if it is not what was
    /// written: call [`Place::set_aside`] with `None` and open again.
    pub fn open(&self) -> Result<(Arc<dyn Backend>, Slot), Fault> {
        let Place::Directory { disk, dir, sled } = self else {
            return Ok((Arc::new(Memory::new()), Slot::A));
        };
        disk.create_dir_all(dir)?;
        if let Some(slot) = self.pointer()? {
            disk.remove_dir_all(&dir.join(slot.other().name()))?;
            let path = dir.join(slot.name());
            if let Err(fault) = disk.list(&path) {
                let gone = fault.is_not_found();
                let what = "the database is gone".to_string();
                return Err(if gone {
                    Fault::Damaged {
                        path,
                        offset: 0,
                        what,
                    }
                } else {
                    fault
                });
            }
            return Ok((on_disk(disk, path, sled)?, slot));
        }
        let leftover = [Slot::A, Slot::B].map(|slot| disk.list(&dir.join(slot.name())).is_ok());
        if leftover.contains(&true) {
            let path = dir.join(POINTER);
            return Err(Fault::Damaged {
                path,
                offset: 0,
                what: "it is gone".into(),
            });
        }
        let (backend, slot) = self.fresh(Slot::B)?;
        self.switch(slot)?;
        Ok((backend, slot))
    }

    /// Makes an empty store in the slot that `used` is not.
    pub fn fresh(&self, used: Slot) -> Result<(Arc<dyn Backend>, Slot), Fault> {
        let slot = used.other();
        let Place::Directory { disk, dir, sled } = self else {
            return Ok((Arc::new(Memory::new()), slot));
        };
        let path = dir.join(slot.name());
        disk.remove_dir_all(&path)?;
        Ok((on_disk(disk, path, sled)?, slot))
    }

    /// From now on `slot` is in use, durably. What lies in it must have been flushed.
    pub fn switch(&self, slot: Slot) -> Result<(), Fault> {
        let Place::Directory { disk, dir, .. } = self else {
            return Ok(());
        };
        let new = dir.join(POINTER_NEW);
        match disk.remove(&new) {
            Err(fault) if !fault.is_not_found() => return Err(fault),
            _ => {}
        }
        let file = disk.create(&new)?;
        file.write_at(format!("{}\n", slot.name()).as_bytes(), 0)?;
        file.sync_all()?;
        disk.rename(&new, &dir.join(POINTER))?;
        disk.sync_dir(dir)
    }

    /// Removes what lies in a slot that is no longer in use.
    pub fn discard(&self, slot: Slot) -> Result<(), Fault> {
        let Place::Directory { disk, dir, .. } = self else {
            return Ok(());
        };
        disk.remove_dir_all(&dir.join(slot.name()))
    }

    /// Moves a damaged store out of the way, for people to look at: one slot, or the whole directory. The last
    /// two are kept. Counted.
    pub fn set_aside(&self, slot: Option<Slot>, why: &Fault) -> Result<(), Fault> {
        REBUILDS.inc();
        let Place::Directory { disk, dir, .. } = self else {
            return Ok(());
        };
        tracing::warn!(dir = %dir.display(), %why, "the version store is set aside and rebuilt");
        let aside = |n: u32| {
            let mut name = dir.file_name().unwrap_or_default().to_os_string();
            name.push(format!(".damaged-{n}"));
            dir.with_file_name(name)
        };
        let from = slot.map_or_else(|| dir.clone(), |slot| dir.join(slot.name()));
        disk.remove_dir_all(&aside(2))?;
        for (from, to) in [(aside(1), aside(2)), (from, aside(1))] {
            match disk.rename(&from, &to) {
                Err(fault) if !fault.is_not_found() => return Err(fault),
                _ => {}
            }
        }
        match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => disk.sync_dir(parent),
            _ => Ok(()),
        }
    }

    /// What the pointer says; none if there is no pointer.
    fn pointer(&self) -> Result<Option<Slot>, Fault> {
        let Place::Directory { disk, dir, .. } = self else {
            return Ok(None);
        };
        let path = dir.join(POINTER);
        let file = match disk.open(&path) {
            Ok(file) => file,
            Err(fault) if fault.is_not_found() => return Ok(None),
            Err(fault) => return Err(fault),
        };
        let mut text = [0; 3];
        let read = file.read_at(&mut text, 0)?;
        match text.get(..read) {
            Some(b"a\n") => Ok(Some(Slot::A)),
            Some(b"b\n") => Ok(Some(Slot::B)),
            _ => Err(Fault::Damaged {
                path,
                offset: 0,
                what: "it names no slot".into(),
            }),
        }
    }
}
