//! From a directory to a machine: the state is loaded from whatever is newest and whole.
//!
//! ```text
//!   history (sled)   whole, and at least as far as the newest snapshot?      load it
//!   snapshot         the newest that verifies: history is rebuilt from it    else whichever of the two is
//!   history          behind a snapshot that is damaged                       further, if the log reaches
//!   nothing          an empty state                                          back to it
//! ```
//!
//! In every case the log is replayed on top, by raft. History is never the only copy of anything, so damage to it
//! heals here without anybody's help. A log that does not verify, or that begins behind all there is to load, is
//! nothing this member can mend alone: [`Opened::Broken`], and [`crate::run::recovery`] takes over.

use std::path::PathBuf;
use std::sync::Arc;

use meridian_domain::revision::LogId;
use meridian_raft::{Engine, recovery};
use meridian_storage::disk::{Disk, OsDisk};
use meridian_storage::fault::Fault;
use meridian_storage::history::{self, History};
use meridian_storage::machine::{self, Machine};
use meridian_storage::row::Rows;
use meridian_storage::seal::{Plain, Seal};
use meridian_storage::snapshot;
use meridian_storage::wal::{self, Wal};

use crate::directory::Directory;
use crate::run::member::OnFault;

/// What opening a directory comes to.
pub enum Opened {
    /// All that is needed is whole.
    Whole(Box<Engine>),
    /// The log is damaged, or the state it builds on is lost. Nothing was changed.
    Broken(Fault),
}

/// Opens everything in a data directory. Reads and verifies all of it; blocks.
pub fn open(directory: &Directory, on_fault: &OnFault) -> Result<Opened, Fault> {
    let disk = disk();
    let seal = seal();
    let log = wal::Settings {
        on_fault: Arc::clone(on_fault),
        ..wal::Settings::default()
    };
    let opened = Wal::open(Arc::clone(&disk), Arc::clone(&seal), &directory.wal(), log);
    let (wal, recovered) = match opened {
        Ok(opened) => opened,
        Err(damage @ Fault::Damaged { .. }) => return Ok(Opened::Broken(damage)),
        Err(fault) => return Err(fault),
    };
    disk.create_dir_all(&directory.snapshots())?;
    let loading = Loading {
        directory,
        disk: &disk,
        seal: &seal,
        purged: recovered.purged.unwrap_or_default(),
    };
    let Some(machine) = loading.load(on_fault)? else {
        wal.close();
        return Ok(Opened::Broken(Fault::Inconsistent {
            what: format!(
                "the log begins after {}, and neither a snapshot nor the version store goes that far",
                loading.purged
            ),
        }));
    };
    tracing::info!(
        applied = %machine.applied(),
        last = %recovered.last.unwrap_or_default(),
        "state loaded; the log goes on from there"
    );
    Ok(Opened::Whole(Box::new(Engine {
        disk,
        seal,
        wal,
        recovered,
        machine,
        snapshots: directory.snapshots(),
    })))
}

/// The disk of a member.
pub fn disk() -> Arc<dyn Disk> {
    Arc::new(OsDisk::new())
}

/// What every byte that goes to it passes.
pub fn seal() -> Arc<dyn Seal> {
    Arc::new(Plain)
}

/// The newest snapshot of a directory that verifies.
pub fn newest_snapshot(directory: &Directory) -> Option<PathBuf> {
    let files = snapshot::list(disk().as_ref(), &directory.snapshots()).ok()?;
    let verifies =
        |path: &PathBuf| snapshot::verify(disk().as_ref(), seal().as_ref(), path).is_ok();
    files.into_iter().map(|file| file.path).find(verifies)
}

/// Where members are reached, as far as the state of a directory tells, whatever became of its log.
pub fn known_peer_urls(directory: &Directory) -> Vec<String> {
    let loading = Loading {
        directory,
        disk: &disk(),
        seal: &seal(),
        purged: LogId::default(),
    };
    let ignored: OnFault = Arc::new(|_| {});
    let machine = loading.load(&ignored).ok().flatten();
    let membership = machine.and_then(|machine| machine.membership());
    membership.map_or_else(Vec::new, |of| recovery::peer_urls_in(&of))
}

struct Loading<'a> {
    directory: &'a Directory,
    disk: &'a Arc<dyn Disk>,
    seal: &'a Arc<dyn Seal>,
    /// The state must hold everything up to here: the log does not.
    purged: LogId,
}

impl Loading<'_> {
    /// None if nothing that can be loaded goes as far as it must.
    fn load(&self, on_fault: &OnFault) -> Result<Option<Machine>, Fault> {
        let settings = history::Settings {
            disk: Arc::clone(self.disk),
            on_fault: Arc::clone(on_fault),
            ..history::Settings::default()
        };
        let (history, rows) =
            History::open(&self.directory.history(), settings, Arc::clone(self.seal))?;
        let snapshots = self.directory.snapshots();
        let newest = snapshot::latest(self.disk.as_ref(), &snapshots)?;
        let covered = newest.map(|file| file.applied).unwrap_or_default();
        let mut rows = rows.filter(|rows| rows.applied() >= self.purged);
        if let Some(rows) = rows.take_if(|rows| rows.applied() >= covered)
            && let Some(machine) = load_or_warn(rows, &history)
        {
            return Ok(Some(machine));
        }
        let file = snapshot::open_latest(self.disk.as_ref(), self.seal, &snapshots)?;
        let file = file.filter(|(file, _)| file.applied >= self.purged);
        let reached = file.as_ref().map(|(file, _)| file.applied);
        // Only what was behind a snapshot that turned out damaged is left here.
        if let Some(rows) = rows.filter(|rows| Some(rows.applied()) > reached)
            && let Some(machine) = load_or_warn(rows, &history)
        {
            return Ok(Some(machine));
        }
        if let Some((file, mut rows)) = file {
            tracing::info!(applied = %file.applied, "the version store is rebuilt from the snapshot");
            history.reset(&mut rows)?;
            return load_from(&mut rows, &history).map(Some);
        }
        if self.purged != LogId::default() {
            return Ok(None);
        }
        history.clear()?;
        Ok(Some(Machine::new(history, machine::Settings::default())))
    }
}

/// The machine of a version store; none if that turns out damaged.
fn load_or_warn(mut rows: Box<dyn Rows>, history: &History) -> Option<Machine> {
    match load_from(rows.as_mut(), history) {
        Ok(machine) => Some(machine),
        Err(fault) => {
            tracing::warn!(%fault, "the version store is damaged and will be rebuilt");
            None
        }
    }
}

fn load_from(rows: &mut dyn Rows, history: &History) -> Result<Machine, Fault> {
    Machine::load(rows, history.clone(), machine::Settings::default())
}
