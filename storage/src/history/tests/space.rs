//! Space: files that are given back, and a disk that is full.

use std::sync::Arc;

use meridian_domain::name::TenantId;
use parking_lot::Mutex;

use super::naive::{Maker, Naive, small};
use crate::disk::{Disk, File, Lock, OsDisk};
use crate::fault::Fault;
use crate::history::{History, Settings};
use crate::seal::Plain;

#[test]
fn files_much_larger_than_what_lives_in_them_are_given_back() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("versions");
    let settings = || Settings {
        shrink_floor_bytes: 4 << 20,
        shrink_ratio: 2,
        ..small()
    };
    let (history, _) = History::open(&dir, settings(), Arc::new(Plain)).unwrap();
    let mut maker = Maker::new(1);
    maker.value_bytes = 4000;
    let mut naive = Naive::default();
    let size = |history: &History| {
        history
            .shared()
            .state
            .lock()
            .backend
            .size_on_disk()
            .unwrap()
    };
    let mut largest = 0;
    let mut replaced = false;
    for round in 0..200 {
        let batch = maker.batch(TenantId(1), 40);
        naive.absorb(&batch);
        history.submit(batch);
        let batch = maker.compact(TenantId(1));
        naive.absorb(&batch);
        history.submit(batch);
        if round % 4 == 0 {
            history.flush().unwrap();
            largest = size(&history).max(largest);
        }
        replaced |= history.shared().state.lock().copied_bytes > 0;
    }
    history.flush().unwrap();
    assert!(replaced, "largest {largest}");
    naive.check(&history);
    drop(history);
    let (_history, rows) = History::open(&dir, settings(), Arc::new(Plain)).unwrap();
    assert_eq!(Naive::of(rows.unwrap().as_mut()), naive);
}

#[test]
fn a_reset_survives_a_restart_and_forgets_what_was_there() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("versions");
    let (history, _) = History::open(&dir, small(), Arc::new(Plain)).unwrap();
    history.submit(Maker::new(1).batch(TenantId(1), 50));
    let pin = history.pin();
    let mut other = Naive::default();
    let mut maker = Maker::new(2);
    for _ in 0..40 {
        other.absorb(&maker.batch(TenantId(2), 30));
    }
    history.reset(&mut other.clone()).unwrap();
    other.check(&history);
    assert_eq!(history.applied(), other.applied);
    assert_eq!(history.commits(TenantId(1), 0, 99, 99, 9999).unwrap(), []);
    let stale = pin.versions(TenantId(2), 99, &mut |_| Ok(()));
    assert!(matches!(stale, Err(Fault::Inconsistent { .. })));
    drop(pin);
    // It goes on from there.
    let batch = maker.batch(TenantId(2), 30);
    other.absorb(&batch);
    history.submit(batch);
    history.flush().unwrap();
    drop(history);
    let (history, rows) = History::open(&dir, small(), Arc::new(Plain)).unwrap();
    assert_eq!(Naive::of(rows.unwrap().as_mut()), other);
    history.clear().unwrap();
    drop(history);
    let (_history, rows) = History::open(&dir, small(), Arc::new(Plain)).unwrap();
    assert_eq!(
        rows.map(|mut rows| Naive::of(rows.as_mut()))
            .unwrap_or_default(),
        Naive::default()
    );
}

/// The system's disk with as much space as a test says.
#[derive(Clone, Debug)]
struct Cramped {
    disk: OsDisk,
    available: Arc<Mutex<u64>>,
}

impl Disk for Cramped {
    fn create(&self, path: &std::path::Path) -> Result<Arc<dyn File>, Fault> {
        self.disk.create(path)
    }
    fn open(&self, path: &std::path::Path) -> Result<Arc<dyn File>, Fault> {
        self.disk.open(path)
    }
    fn rename(&self, from: &std::path::Path, to: &std::path::Path) -> Result<(), Fault> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &std::path::Path) -> Result<(), Fault> {
        self.disk.remove(path)
    }
    fn remove_dir_all(&self, dir: &std::path::Path) -> Result<(), Fault> {
        self.disk.remove_dir_all(dir)
    }
    fn list(&self, dir: &std::path::Path) -> Result<Vec<String>, Fault> {
        self.disk.list(dir)
    }
    fn create_dir_all(&self, dir: &std::path::Path) -> Result<(), Fault> {
        self.disk.create_dir_all(dir)
    }
    fn sync_dir(&self, dir: &std::path::Path) -> Result<(), Fault> {
        self.disk.sync_dir(dir)
    }
    fn available_space(&self, _dir: &std::path::Path) -> Result<u64, Fault> {
        Ok(*self.available.lock())
    }
    fn lock(&self, path: &std::path::Path) -> Result<Lock, Fault> {
        self.disk.lock(path)
    }
}

#[test]
fn a_full_disk_is_waited_out_and_reads_go_on() {
    let parent = tempfile::tempdir().unwrap();
    let available = Arc::new(Mutex::new(0));
    let disk = Cramped {
        disk: OsDisk::new(),
        available: Arc::clone(&available),
    };
    let settings = Settings {
        disk: Arc::new(disk),
        reserve_bytes: 1000,
        ..small()
    };
    let (history, _) =
        History::open(&parent.path().join("versions"), settings, Arc::new(Plain)).unwrap();
    let mut maker = Maker::new(1);
    let mut naive = Naive::default();
    for _ in 0..10 {
        let batch = maker.batch(TenantId(1), 20);
        naive.absorb(&batch);
        history.submit(batch);
    }
    assert!(matches!(
        history.flush(),
        Err(Fault::DiskFull {
            available: 0,
            reserve: 1000,
            ..
        })
    ));
    naive.check(&history);
    *available.lock() = 1000;
    assert_eq!(history.flush().unwrap(), naive.applied);
    naive.check(&history);
    assert!(history.poisoned().is_none());
}
