//! History: every version that can still be read, written behind the machine.
//!
//! The machine holds live values in memory; older versions are read from here. Nothing here is on the commit
//! path, and nothing here is the only copy: the log and the last snapshot can rebuild all of it.
//!
//! ```text
//!   machine --submit(batch)--> pending (memory, bounded)
//!                                 |  mirror thread: at 1 MiB, or after 200 ms
//!                                 v
//!            one atomic batch of the backend:
//!              blocks   versions, about 25 to a value            block.rs, packed.rs
//!              runs     facts, sorted, merged as they pile up     run.rs
//!              contents applied position and sums over the rest   contents.rs
//!
//!   version(), commits(), pin().versions()  <--  pending, then index -> block (cached)
//! ```
//!
//! Invariants:
//!
//! - The applied position and the effects of the entries up to it are in one batch. After a crash the store
//!   stands at one applied position, whole.
//! - Every value carries a checksum, and the table of contents sums over all values: a value that is wrong,
//!   missing or left over is found when the store is loaded, before the rows are used.
//! - A row that is readable stays readable until it is dropped, wherever it lies (pending, being written, in a
//!   block that is being rewritten).
//! - Damage never panics. At opening, a store that does not open or verify is set aside and an empty one is
//!   made (the caller loads from a snapshot and the log). Damage found later is a [`Fault`]: from
//!   [`Rows`] while loading (call [`History::reset`] or [`History::clear`]), from a read or
//!   the mirror thread at run time (the node stops and starts again; `Settings::on_fault` tells it).
//!
//! When things are full: pending rows are bounded and [`History::submit`] blocks (back-pressure on apply);
//! on a disk that is nearly full the mirror thread waits for space, and pending rows stay in memory. sled never
//! shrinks: once its files are several times larger than what lives in them, the store is copied into a new
//! one and replaced (`replace.rs`).
//!
//! Deliberately absent: live values (the keyspace has them), the meaning of facts, a clock.

pub mod packed;

mod block;
mod cache;
mod contents;
mod envelope;
mod index;
mod load;
mod pending;
mod pin;
mod place;
mod plan;
mod read;
mod replace;
mod run;
mod state;
mod write;

#[cfg(test)]
pub(crate) mod tests;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use meridian_domain::name::TenantId;
use meridian_domain::revision::LogId;
use parking_lot::Mutex;

pub use pin::Pin;

use crate::backend::sled;
use crate::disk::{Disk, OsDisk};
use crate::fault::Fault;
use crate::row::{Batch, Rows};
use crate::seal::{Plain, Seal};

use place::Place;
use state::Shared;

/// Called once, from the mirror thread, with the fault that stopped it.
pub type OnFault = Arc<dyn Fn(Fault) + Send + Sync>;

/// How the history is run.
#[derive(Clone)]
pub struct Settings {
    /// Bound of what is submitted and not written, in bytes; beyond it [`History::submit`] blocks.
    pub pending_bytes_max: usize,
    /// The mirror thread writes once this many bytes are pending, ...
    pub batch_bytes: usize,
    /// ... or this long after something is, in milliseconds.
    pub batch_wait_ms: u64,
    /// Bound of the cache of decoded blocks, in bytes.
    pub cache_bytes: usize,
    /// How many dropped versions may stay in their blocks before blocks are rewritten for them alone.
    pub marks_kept: u64,
    /// The mirror thread waits while the disk has less than this left, in bytes.
    pub reserve_bytes: u64,
    /// The store is replaced by a copy once it takes this many times what lives in it, ...
    pub shrink_ratio: u64,
    /// ... and at least this many bytes.
    pub shrink_floor_bytes: u64,
    /// How sled is run.
    pub sled: sled::Settings,
    /// Where the directory is.
    pub disk: Arc<dyn Disk>,
    /// Told when the mirror thread stops for a fault: the node must stop, too.
    pub on_fault: OnFault,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pending_bytes_max: 64 << 20,
            batch_bytes: 1 << 20,
            batch_wait_ms: 200,
            cache_bytes: 4 << 20,
            marks_kept: 256 << 10,
            reserve_bytes: 64 << 20,
            shrink_ratio: 4,
            shrink_floor_bytes: 256 << 20,
            sled: sled::Settings::default(),
            disk: Arc::new(OsDisk::new()),
            on_fault: Arc::new(|_| {}),
        }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("pending_bytes_max", &self.pending_bytes_max)
            .field("batch_bytes", &self.batch_bytes)
            .field("sled", &self.sled)
            .finish_non_exhaustive()
    }
}

/// The versions and facts on disk, and those on their way there. Cheap to clone; used from any thread.
///
/// When the last clone (and the last [`Pin`]) is dropped, what is pending is written, not flushed.
#[derive(Clone)]
pub struct History {
    running: Arc<Running>,
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History")
            .field("place", &self.running.shared.place)
            .finish_non_exhaustive()
    }
}

/// The mirror thread and what it shares; dropping it ends the thread.
struct Running {
    shared: Arc<Shared>,
    mirror: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(mirror) = self.mirror.get_mut().take() {
            // The thread guards itself: it has no panic to hand over.
            let _ = mirror.join();
        }
    }
}

impl History {
    /// Opens the history in `dir`, or makes an empty one.
    ///
    /// Gives the rows that were there, at one applied position, or none if there were none. A store that is
    /// damaged is renamed to `<dir>.damaged-1` (the one before it to `-2`, the one before that is removed),
    /// counted in `meridian_storage_backend_rebuilds_total`, and an empty one made: then there are no rows.
    ///
    /// The rows are read once, by [`Rows::versions`]; damage found then is [`Fault::Damaged`]: throw away what
    /// was loaded and call [`History::reset`] with another source, or [`History::clear`].
    /// [`Fault::Directory`] if another process uses the store; [`Fault::NewerFormat`] if a newer version of the
    /// program wrote it.
    pub fn open(
        dir: &Path,
        settings: Settings,
        seal: Arc<dyn Seal>,
    ) -> Result<(Self, Option<Box<dyn Rows>>), Fault> {
        let place = Place::Directory {
            disk: Arc::clone(&settings.disk),
            dir: dir.to_path_buf(),
            sled: settings.sled.clone(),
        };
        let (opened, slot) = load::open(&place, seal.as_ref())?;
        Self::start(Shared::new(place, slot, settings, seal, opened))
    }

    /// A history that is nowhere but in memory.
    pub fn in_memory(settings: Settings) -> Result<Self, Fault> {
        let place = Place::Memory;
        let seal = Arc::new(Plain);
        let (opened, slot) = load::open(&place, seal.as_ref())?;
        Ok(Self::start(Shared::new(place, slot, settings, seal, opened))?.0)
    }

    /// A history over a backend that is open, with the rows in it. Replacing it makes one in memory.
    #[cfg(test)]
    fn over(
        backend: Arc<dyn crate::backend::Backend>,
        settings: Settings,
    ) -> Result<(Self, Option<Box<dyn Rows>>), Fault> {
        let seal = Arc::new(Plain);
        let opened = load::take(backend, Place::Memory.path(), seal.as_ref())?;
        Self::start(Shared::new(
            Place::Memory,
            place::Slot::A,
            settings,
            seal,
            opened,
        ))
    }

    fn start(shared: Shared) -> Result<(Self, Option<Box<dyn Rows>>), Fault> {
        let shared = Arc::new(shared);
        let rows = load::Loading::new(&shared);
        let mirror = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("history".into())
            .spawn(move || mirror.run())
            .map_err(|e| Fault::io("start of the mirror thread", shared.path(), e))?;
        let running = Running {
            shared,
            mirror: Mutex::new(Some(thread)),
        };
        let rows = rows.map(|rows| Box::new(rows) as Box<dyn Rows>);
        Ok((
            Self {
                running: Arc::new(running),
            },
            rows,
        ))
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.running.shared
    }

    /// Takes a batch. Its rows can be read when this returns; they reach the disk later. Batches come in the
    /// order of their applied positions, rows of a tenant in theirs.
    ///
    /// Blocks while [`Settings::pending_bytes_max`] are pending. After a fault of the mirror thread batches are
    /// thrown away: the node is about to stop, and the log has them.
    pub fn submit(&self, batch: Batch) {
        self.shared().submit(batch);
    }

    /// Writes everything submitted before this call and makes it durable: flush and `fsync`. Returns the
    /// position that is durable. Blocks.
    pub fn flush(&self) -> Result<LogId, Fault> {
        let (answer, answered) = sync_channel(1);
        self.shared().ask_flush(answer)?;
        answered.recv().unwrap_or_else(|_| {
            Err(Fault::Poisoned {
                part: "the history",
                cause: "its thread has ended".into(),
            })
        })
    }

    /// Replaces everything by other rows, durably: after a snapshot was installed, or when the store was found
    /// damaged while it was loaded (it is then set aside and counted). What was pending is thrown away. Blocks;
    /// reads wait. If it fails, the history is poisoned and the node must stop.
    pub fn reset(&self, rows: &mut dyn Rows) -> Result<(), Fault> {
        self.shared().reset(rows)
    }

    /// Replaces everything by nothing.
    pub fn clear(&self) -> Result<(), Fault> {
        self.reset(&mut Nothing)
    }

    /// The last position submitted.
    pub fn applied(&self) -> LogId {
        self.shared().state.lock().submitted
    }

    /// Keeps every version that is there now readable until the pin is dropped: versions dropped meanwhile stay.
    /// For snapshots: *first* pin, *then* freeze the machine, both in the apply task.
    pub fn pin(&self) -> Pin {
        Pin::new(self)
    }

    /// The fault that stopped the mirror thread, if one did.
    pub fn poisoned(&self) -> Option<Fault> {
        self.shared().state.lock().poisoned.clone()
    }
}

/// No rows at all.
struct Nothing;

impl Rows for Nothing {
    fn applied(&self) -> LogId {
        LogId::default()
    }

    fn facts(&mut self) -> Result<Vec<(bytes::Bytes, bytes::Bytes)>, Fault> {
        Ok(Vec::new())
    }

    fn versions(
        &mut self,
        _each: &mut dyn FnMut(TenantId, crate::row::Version) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        Ok(())
    }
}
