//! Spare segments: files full of zeros, made ahead of time so that an append never allocates.
//!
//! ```text
//!   nothing ---- made, zeroed, flushed ----> spare ---- taken by the writer ----> segment
//!                                              ^                                     |
//!                                              '------ zeroed again, flushed --------' purged
//! ```
//!
//! One thread does this, beside the writer, and looks at the free space on the way. A write into zeroed blocks
//! needs no metadata, which saves a journal block per flush; and it can not run out of space.
//!
//! When the disk is full no spare can be made. That is no fault: [`Spares::reserve`] says so, before an append
//! could fail, the thread tries again, and a writer that needs a segment waits until there is one.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::disk::{Disk, File};
use crate::fault::Fault;

/// How many spares are kept when purging gives them back; one is always made.
const KEPT: usize = 2;

/// How much is zeroed at a time, so that the writer's flushes get their turn ...
const ZERO_BYTES: usize = 256 * 1024;

/// ... and how many times as long as that took nothing is zeroed then, unless the writer waits for the spare.
const RESTS: u32 = 4;

/// How much of a spare the writer may have written before it gave it its final name, in bytes: header and
/// checkpoint, whose vote is bounded.
const TOUCHED_BYTES: u64 = 128 * 1024;

/// How often the free space is looked at, and a failed spare tried again.
const LOOK_EVERY: Duration = Duration::from_millis(250);

const READY: &str = ".spare";
const MAKING: &str = ".zeroing";

/// A file full of zeros, flushed under its name.
#[derive(Debug)]
pub struct Spare {
    /// Its name for now.
    pub path: PathBuf,
    /// It, open.
    pub file: Arc<dyn File>,
}

/// The spares of one log.
#[derive(Debug)]
pub struct Spares {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_bytes: u64,
    reserve_bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
    available: AtomicU64,
    full: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Spare>,
    retired: VecDeque<(PathBuf, Arc<dyn File>)>,
    name_next: u64,
    stopping: bool,
    hurried: bool,
    /// How many wait for a spare.
    waiting: usize,
    fault: Option<Fault>,
}

impl Spares {
    /// Takes over the spares that lie in the directory. Those that were not finished are removed.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        segment_bytes: u64,
        reserve_bytes: u64,
    ) -> Result<Self, Fault> {
        let mut state = State::default();
        let mut removed = false;
        for name in disk.list(dir)? {
            let path = dir.join(&name);
            let number = name
                .strip_prefix("spare-")
                .and_then(|rest| rest.split('.').next());
            let number = number.and_then(|digits| u64::from_str_radix(digits, 16).ok());
            let Some(number) = number else { continue };
            state.name_next = state.name_next.max(number.saturating_add(1));
            if name.ends_with(READY) && state.ready.len() < KEPT {
                let file = disk.open(&path)?;
                if file.size()? == segment_bytes {
                    zero(&*file, 0, TOUCHED_BYTES.min(segment_bytes))?;
                    file.sync_data()?;
                    state.ready.push_back(Spare { path, file });
                    continue;
                }
            }
            disk.remove(&path)?;
            removed = true;
        }
        if removed {
            disk.sync_dir(dir)?;
        }
        let available = AtomicU64::new(disk.available_space(dir)?);
        let dir = dir.to_path_buf();
        let (state, changed, full) = (Mutex::new(state), Condvar::new(), AtomicBool::new(false));
        Ok(Self {
            disk,
            dir,
            segment_bytes,
            reserve_bytes,
            state,
            changed,
            available,
            full,
        })
    }

    /// Refuses once less than the reserve is left, or there is no space for a spare. Reads two numbers.
    pub fn reserve(&self) -> Result<(), Fault> {
        let (available, reserve) = (self.available.load(Ordering::Relaxed), self.reserve_bytes);
        if available >= reserve && !self.full.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(Fault::DiskFull {
            path: self.dir.clone(),
            available,
            reserve,
        })
    }

    /// Takes a spare, waiting for one. With `patient`, a full disk is waited out too. None when stopping.
    pub fn take(&self, patient: bool) -> Result<Option<Spare>, Fault> {
        let mut state = self.state.lock();
        let mut told = false;
        loop {
            if let Some(spare) = state.ready.pop_front() {
                self.changed.notify_all();
                return Ok(Some(spare));
            }
            if let Some(fault) = &state.fault {
                return Err(fault.clone());
            }
            if state.stopping {
                return Ok(None);
            }
            if (!patient || state.hurried) && self.full.load(Ordering::Relaxed) {
                let (available, reserve) =
                    (self.available.load(Ordering::Relaxed), self.segment_bytes);
                return Err(Fault::DiskFull {
                    path: self.dir.clone(),
                    available,
                    reserve,
                });
            }
            state.waiting += 1;
            if !std::mem::replace(&mut told, true) {
                // Whoever makes one need not rest.
                self.changed.notify_all();
            }
            self.changed.wait(&mut state);
            state.waiting -= 1;
        }
    }

    /// Gives back a segment that is not needed any more; oldest first.
    pub fn retire(&self, path: PathBuf, file: Arc<dyn File>) {
        self.state.lock().retired.push_back((path, file));
        self.changed.notify_all();
    }

    /// From now on nobody waits for a full disk.
    pub fn hurry(&self) {
        self.state.lock().hurried = true;
        self.changed.notify_all();
    }

    /// Ends [`Spares::run`] and everybody who waits.
    pub fn stop(&self) {
        self.state.lock().stopping = true;
        self.changed.notify_all();
    }

    /// The thread: makes, zeroes, looks, until it is stopped or the disk fails. Returns the failure.
    pub fn run(&self) -> Option<Fault> {
        loop {
            match self.turn() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(fault) => {
                    self.state.lock().fault = Some(fault.clone());
                    self.changed.notify_all();
                    return Some(fault);
                }
            }
        }
    }

    /// Does one thing. False when stopping.
    fn turn(&self) -> Result<bool, Fault> {
        let mut state = self.state.lock();
        if state.stopping {
            return Ok(false);
        }
        if let Some((path, file)) = state.retired.pop_front() {
            let keep = state.ready.len() < KEPT;
            let name = state.take_name();
            drop(state);
            return self.recycle(&path, file, keep, name).map(|()| true);
        }
        if state.ready.is_empty() {
            let name = state.take_name();
            drop(state);
            match self.make(name) {
                Ok(()) => {
                    self.full.store(false, Ordering::Relaxed);
                    return Ok(true);
                }
                // Nothing of the log was in it: a full disk is waited out, not a reason to stop.
                Err(fault) if fault.is_full() => {
                    if !self.full.swap(true, Ordering::Relaxed) {
                        tracing::error!(%fault, "no space for the next segment of the log");
                    }
                    self.drop_unfinished(name)?;
                }
                Err(fault) => return Err(fault),
            }
            state = self.state.lock();
            // Whoever is not patient learns of it.
            self.changed.notify_all();
        }
        // A failure to look is not a failure to write: the last figure stands.
        if let Ok(available) = self.disk.available_space(&self.dir) {
            self.available.store(available, Ordering::Relaxed);
        }
        if !state.stopping && state.retired.is_empty() {
            self.changed.wait_for(&mut state, LOOK_EVERY);
        }
        Ok(true)
    }

    fn make(&self, name: u64) -> Result<(), Fault> {
        let path = self.path(name, MAKING);
        let file = self.disk.create(&path)?;
        self.finish(name, &path, file, self.segment_bytes)
    }

    /// Turns a segment into a spare, or removes it. The directory is flushed before the next one is touched,
    /// so that a crash never leaves a gap between segments.
    fn recycle(
        &self,
        path: &Path,
        file: Arc<dyn File>,
        keep: bool,
        name: u64,
    ) -> Result<(), Fault> {
        if !keep {
            self.disk.remove(path)?;
            return self.disk.sync_dir(&self.dir);
        }
        let making = self.path(name, MAKING);
        self.disk.rename(path, &making)?;
        self.disk.sync_dir(&self.dir)?;
        if file.size()? > self.segment_bytes {
            file.truncate(self.segment_bytes)?;
        }
        self.finish(name, &making, file, self.segment_bytes)
    }

    /// Zeroes, flushes, and gives the name of a spare.
    fn finish(
        &self,
        name: u64,
        making: &Path,
        file: Arc<dyn File>,
        bytes: u64,
    ) -> Result<(), Fault> {
        let mut at = 0;
        while at < bytes {
            let len = (bytes - at).min(ZERO_BYTES as u64);
            let begun = Instant::now();
            zero(&*file, at, len)?;
            file.sync_data()?;
            at += len;
            let mut state = self.state.lock();
            if !state.stopping && state.waiting == 0 && at < bytes {
                self.changed.wait_for(&mut state, begun.elapsed() * RESTS);
            }
            if state.stopping {
                // Unfinished under its name; removed when the log is opened again.
                return Ok(());
            }
        }
        file.sync_all()?;
        let path = self.path(name, READY);
        self.disk.rename(making, &path)?;
        self.disk.sync_dir(&self.dir)?;
        self.state.lock().ready.push_back(Spare { path, file });
        self.changed.notify_all();
        Ok(())
    }

    fn drop_unfinished(&self, name: u64) -> Result<(), Fault> {
        match self.disk.remove(&self.path(name, MAKING)) {
            Err(fault) if !fault.is_not_found() => Err(fault),
            _ => self.disk.sync_dir(&self.dir),
        }
    }

    fn path(&self, name: u64, ending: &str) -> PathBuf {
        self.dir.join(format!("spare-{name:016x}{ending}"))
    }
}

impl State {
    fn take_name(&mut self) -> u64 {
        self.name_next += 1;
        self.name_next - 1
    }
}

/// Writes zeros, a slice at a time.
fn zero(file: &dyn File, from: u64, len: u64) -> Result<(), Fault> {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    let mut done = 0;
    while done < len {
        let slice = (len - done).min(ZEROS.len() as u64);
        file.write_at(ZEROS.get(..slice as usize).unwrap_or(&ZEROS), from + done)?;
        done += slice;
    }
    Ok(())
}
