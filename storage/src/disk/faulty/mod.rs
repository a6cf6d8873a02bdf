//! A simulated disk that does what real ones do on their worst days, from a seed.
//!
//! ```text
//!              write_at             sync_data                       names: the same with
//!   caller ------------> pending ------------> durable               create/rename/remove
//!              read_at <---- now = durable + pending                 and sync_dir
//!
//!   crash(seed):   durable + some of pending, by sector, torn, in any order;  open files are dead
//!   restart():     nothing is lost, open files are dead (kill -9)
//! ```
//!
//! - A failed flush behaves as on ext4: the pages count as clean afterwards, so the data stays readable, is
//!   not on the device, and a *second* flush succeeds without writing it (Rebello et al., ATC'20).
//! - [`FaultyDisk::power_off_at`] makes one call and all later ones fail without effect, so that a test can
//!   crash at every point of a run.
//! - Simplified: directories are durable once made, a whole directory is removed durably, reads do not fail
//!   unless told to.

mod world;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use self::world::{Change, Inode, NameChange, World, errno};
use super::{Disk, File, Lock};
use crate::fault::Fault;

/// The calls that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// [`File::read_at`].
    Read,
    /// [`File::write_at`] and [`File::truncate`].
    Write,
    /// [`File::sync_data`] and [`File::sync_all`].
    Sync,
    /// [`Disk::sync_dir`].
    SyncDir,
    /// [`Disk::create`], [`Disk::rename`], [`Disk::remove`].
    Name,
}

/// How a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The device failed (EIO).
    Broken,
    /// There is no space (ENOSPC).
    Full,
}

/// The simulated disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct FaultyDisk {
    world: Arc<Mutex<World>>,
}

impl FaultyDisk {
    /// An empty disk without a bound.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts the power: what was not flushed is lost, torn or kept as the seed says. Open files and locks are
    /// gone, planned refusals are forgotten, the power is on again.
    pub fn crash(&self, seed: u64) {
        self.world.lock().crash(seed);
    }

    /// Ends the process (kill -9): nothing that was written is lost, but it is not flushed either. Open files
    /// and locks are gone.
    pub fn restart(&self) {
        self.world.lock().reboot();
    }

    /// Makes the `nth` call of this kind from now (1 is the next) fail, once.
    pub fn refuse(&self, call: Call, nth: u64, refusal: Refusal) {
        self.world.lock().refusals.push((call, nth, refusal));
    }

    /// Makes the change (write, flush, name; counted by [`FaultyDisk::changes`]) with this number and
    /// everything after it fail without effect.
    pub fn power_off_at(&self, change: u64) {
        self.world.lock().power_off_at = Some(change);
    }

    /// How many changes (writes, flushes, names) were asked for so far.
    pub fn changes(&self) -> u64 {
        self.world.lock().changes
    }

    /// How many calls of this kind were asked for so far.
    pub fn count(&self, call: Call) -> u64 {
        self.world.lock().counts.get(&call).copied().unwrap_or(0)
    }

    /// Bounds the disk: all files together.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.world.lock().capacity = bytes;
    }

    /// Makes flushes succeed without doing anything, as some devices do. For showing that a check can fail.
    pub fn lie_about_flushes(&self, lies: bool) {
        self.world.lock().lies = lies;
    }

    /// The content of a file as a reader sees it; none if there is no such file.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let world = self.world.lock();
        let inode = world.names.get(path)?;
        world.inodes.get(inode).map(|inode| inode.now.clone())
    }

    /// Changes bytes at rest: bit rot, a misdirected write, a stale sector. Bytes past the end are dropped.
    pub fn overwrite(&self, path: &Path, offset: usize, bytes: &[u8]) {
        let mut world = self.world.lock();
        let Some(inode) = world.names.get(path).copied() else {
            return;
        };
        let Some(inode) = world.inodes.get_mut(&inode) else {
            return;
        };
        for content in [&mut inode.now, &mut inode.durable] {
            for (to, from) in content.iter_mut().skip(offset).zip(bytes) {
                *to = *from;
            }
        }
    }

    /// Flips one bit at rest.
    pub fn flip(&self, path: &Path, byte: usize, bit: u8) {
        let old = self
            .content(path)
            .and_then(|content| content.get(byte).copied());
        if let Some(old) = old {
            self.overwrite(path, byte, &[old ^ (1 << (bit & 7))]);
        }
    }

    /// Cuts a file at rest, durably.
    pub fn cut(&self, path: &Path, size: usize) {
        let mut world = self.world.lock();
        let Some(inode) = world.names.get(path).copied() else {
            return;
        };
        if let Some(inode) = world.inodes.get_mut(&inode) {
            inode.now.truncate(size);
            inode.durable.truncate(size);
            inode.pending.clear();
        }
    }

    /// Every file with its content, for copying a disk into another.
    #[must_use]
    pub fn fork(&self) -> FaultyDisk {
        let world = self.world.lock();
        let mut copy = World {
            inode_next: world.inode_next,
            ..World::default()
        };
        copy.dirs.clone_from(&world.dirs);
        copy.names.clone_from(&world.names);
        copy.names_durable.clone_from(&world.names);
        for (id, inode) in &world.inodes {
            let (now, durable) = (inode.now.clone(), inode.now.clone());
            copy.inodes.insert(
                *id,
                Inode {
                    now,
                    durable,
                    pending: Vec::new(),
                },
            );
        }
        FaultyDisk {
            world: Arc::new(Mutex::new(copy)),
        }
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, Fault> {
        let mut world = self.world.lock();
        world
            .admit(Call::Name, None)
            .map_err(|e| Fault::io("create", path, e))?;
        if world.names.contains_key(path) {
            return Err(Fault::io(
                "create",
                path,
                io::ErrorKind::AlreadyExists.into(),
            ));
        }
        if !path.parent().is_some_and(|dir| world.dirs.contains(dir)) {
            return Err(Fault::io("create", path, io::ErrorKind::NotFound.into()));
        }
        world.inode_next += 1;
        let inode = world.inode_next;
        world.inodes.insert(inode, Inode::default());
        world.name(NameChange::Make(path.to_path_buf(), inode));
        Ok(self.handle(path, inode, world.era))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>, Fault> {
        let world = self.world.lock();
        if world.off {
            return Err(Fault::io("open", path, errno(5)));
        }
        let Some(inode) = world.names.get(path).copied() else {
            return Err(Fault::io("open", path, io::ErrorKind::NotFound.into()));
        };
        Ok(self.handle(path, inode, world.era))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), Fault> {
        let mut world = self.world.lock();
        world
            .admit(Call::Name, None)
            .map_err(|e| Fault::io("rename", from, e))?;
        let Some(inode) = world.names.get(from).copied() else {
            return Err(Fault::io("rename", from, io::ErrorKind::NotFound.into()));
        };
        world.name(NameChange::Move(
            from.to_path_buf(),
            to.to_path_buf(),
            inode,
        ));
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), Fault> {
        let mut world = self.world.lock();
        world
            .admit(Call::Name, None)
            .map_err(|e| Fault::io("remove", path, e))?;
        if !world.names.contains_key(path) {
            return Err(Fault::io("remove", path, io::ErrorKind::NotFound.into()));
        }
        world.name(NameChange::Remove(path.to_path_buf()));
        Ok(())
    }

    fn remove_dir_all(&self, dir: &Path) -> Result<(), Fault> {
        let mut world = self.world.lock();
        world
            .admit(Call::Name, None)
            .map_err(|e| Fault::io("remove directory", dir, e))?;
        world.names.retain(|path, _| !path.starts_with(dir));
        world.names_durable.retain(|path, _| !path.starts_with(dir));
        world.dirs.retain(|path| !path.starts_with(dir));
        world.names_pending.retain(|change| match change {
            NameChange::Make(path, _) | NameChange::Remove(path) => !path.starts_with(dir),
            NameChange::Move(_, to, _) => !to.starts_with(dir),
        });
        Ok(())
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, Fault> {
        let world = self.world.lock();
        if world.off || !world.dirs.contains(dir) {
            let kind = if world.off {
                io::ErrorKind::Other
            } else {
                io::ErrorKind::NotFound
            };
            return Err(Fault::io("list", dir, kind.into()));
        }
        let inside = world.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect())
    }

    fn create_dir_all(&self, dir: &Path) -> Result<(), Fault> {
        let mut world = self.world.lock();
        if world.off {
            return Err(Fault::io("create directory", dir, errno(5)));
        }
        world.dirs.extend(dir.ancestors().map(Path::to_path_buf));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), Fault> {
        let mut world = self.world.lock();
        let admitted = world.admit(Call::SyncDir, None);
        admitted.map_err(|e| Fault::io("flush of directory", dir, e))?;
        if !world.lies {
            world.sync_names(dir);
        }
        Ok(())
    }

    fn available_space(&self, _dir: &Path) -> Result<u64, Fault> {
        let world = self.world.lock();
        Ok(world
            .capacity
            .map_or(u64::MAX, |capacity| capacity.saturating_sub(world.used())))
    }

    fn lock(&self, path: &Path) -> Result<Lock, Fault> {
        let mut world = self.world.lock();
        if !world.locks.insert(path.to_path_buf()) {
            return Err(Fault::Directory {
                path: path.parent().unwrap_or(path).to_path_buf(),
                what: "another process uses it; stop that one or choose another directory".into(),
            });
        }
        let (disk, path, era) = (self.clone(), path.to_path_buf(), world.era);
        Ok(Box::new(Held { disk, path, era }))
    }
}

impl FaultyDisk {
    fn handle(&self, path: &Path, inode: u64, era: u64) -> Arc<dyn File> {
        Arc::new(Handle {
            disk: self.clone(),
            path: path.to_path_buf(),
            inode,
            era,
        })
    }
}

struct Held {
    disk: FaultyDisk,
    path: PathBuf,
    era: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut world = self.disk.world.lock();
        if world.era == self.era {
            world.locks.remove(&self.path);
        }
    }
}

#[derive(Debug)]
struct Handle {
    disk: FaultyDisk,
    path: PathBuf,
    inode: u64,
    era: u64,
}

impl Handle {
    fn sync(&self) -> Result<(), Fault> {
        let mut world = self.disk.world.lock();
        let admitted = world.admit(Call::Sync, Some(self.era));
        let (off, lies) = (world.off || world.era != self.era, world.lies);
        let Some(inode) = world.inodes.get_mut(&self.inode) else {
            return Err(Fault::io("flush", &self.path, errno(5)));
        };
        match admitted {
            Ok(()) if lies => {}
            Ok(()) => {
                for change in inode.pending.drain(..) {
                    world::apply(&mut inode.durable, &change);
                }
            }
            // No power: nothing happens to the pages either.
            Err(e) if off => return Err(Fault::io("flush", &self.path, e)),
            // The kernel marks the pages clean: readable, not on the device, never written again.
            Err(e) => {
                inode.pending.clear();
                return Err(Fault::io("flush", &self.path, e));
            }
        }
        Ok(())
    }
}

impl File for Handle {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize, Fault> {
        let mut world = self.disk.world.lock();
        let admitted = world.admit(Call::Read, Some(self.era));
        admitted.map_err(|e| Fault::io("read", &self.path, e))?;
        let content = world
            .inodes
            .get(&self.inode)
            .map_or(&[][..], |inode| &inode.now);
        let rest = content.get(offset as usize..).unwrap_or(&[]);
        let read = rest.len().min(into.len());
        for (to, from) in into.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), Fault> {
        let change = Change::Write(offset as usize, bytes.to_vec());
        let changed = self.disk.world.lock().change(self.inode, self.era, change);
        changed.map_err(|e| Fault::io("write", &self.path, e))
    }

    fn size(&self) -> Result<u64, Fault> {
        let world = self.disk.world.lock();
        Ok(world
            .inodes
            .get(&self.inode)
            .map_or(0, |inode| inode.now.len() as u64))
    }

    fn truncate(&self, size: u64) -> Result<(), Fault> {
        let change = Change::Size(size as usize);
        let changed = self.disk.world.lock().change(self.inode, self.era, change);
        changed.map_err(|e| Fault::io("truncate", &self.path, e))
    }

    fn sync_data(&self) -> Result<(), Fault> {
        self.sync()
    }

    fn sync_all(&self) -> Result<(), Fault> {
        self.sync()
    }
}

#[cfg(test)]
mod tests;
