//! A disk with moods: real files, but it can stand still, and it can seem full.

use std::path::Path;
use std::sync::Arc;

use meridian_storage::disk::{Disk, File, Lock, OsDisk};
use meridian_storage::fault::Fault;
use parking_lot::{Condvar, Mutex};

/// The operating system's disk, in a mood. Clones share it.
#[derive(Clone, Debug)]
pub struct Moody {
    real: OsDisk,
    mood: Arc<Mood>,
}

#[derive(Debug, Default)]
struct Mood {
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
struct Now {
    stalled: bool,
    full: bool,
}

impl Default for Moody {
    fn default() -> Self {
        Self {
            real: OsDisk::new(),
            mood: Arc::default(),
        }
    }
}

impl Moody {
    /// From now on no flush ends, until it is told otherwise.
    pub fn stall(&self, stalled: bool) {
        self.mood.now.lock().stalled = stalled;
        self.mood.changed.notify_all();
    }

    /// From now on there is no space, until it is told otherwise.
    pub fn fill(&self, full: bool) {
        self.mood.now.lock().full = full;
    }
}

impl Mood {
    fn wait_while_stalled(&self) {
        let mut now = self.now.lock();
        while now.stalled {
            self.changed.wait(&mut now);
        }
    }
}

impl Disk for Moody {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>, Fault> {
        Ok(Arc::new(MoodyFile(
            self.real.create(path)?,
            self.mood.clone(),
        )))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>, Fault> {
        Ok(Arc::new(MoodyFile(
            self.real.open(path)?,
            self.mood.clone(),
        )))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), Fault> {
        self.real.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<(), Fault> {
        self.real.remove(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> Result<(), Fault> {
        self.real.remove_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, Fault> {
        self.real.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> Result<(), Fault> {
        self.real.create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), Fault> {
        self.real.sync_dir(dir)
    }

    fn available_space(&self, dir: &Path) -> Result<u64, Fault> {
        if self.mood.now.lock().full {
            return Ok(0);
        }
        self.real.available_space(dir)
    }

    fn lock(&self, path: &Path) -> Result<Lock, Fault> {
        self.real.lock(path)
    }
}

#[derive(Debug)]
struct MoodyFile(Arc<dyn File>, Arc<Mood>);

impl File for MoodyFile {
    fn path(&self) -> &Path {
        self.0.path()
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize, Fault> {
        self.0.read_at(into, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), Fault> {
        self.0.write_at(bytes, offset)
    }

    fn size(&self) -> Result<u64, Fault> {
        self.0.size()
    }

    fn truncate(&self, size: u64) -> Result<(), Fault> {
        self.0.truncate(size)
    }

    fn sync_data(&self) -> Result<(), Fault> {
        self.1.wait_while_stalled();
        self.0.sync_data()
    }

    fn sync_all(&self) -> Result<(), Fault> {
        self.1.wait_while_stalled();
        self.0.sync_all()
    }
}
