//! From a directory to a machine: the state is loaded from whatever is newest and whole.
//!
//! ```text
//!   history (sled)   whole, and not behind the snapshot or the log's beginning?   load it
//!   snapshot         else, if there is one: history is rebuilt from it, then load it
//!   nothing          else, if the log goes back to the beginning: an empty state
//! ```
//!
//! In every case the log is replayed on top, by raft. History is never the only copy of anything, so damage to it
//! heals here without anybody's help.

use std::sync::Arc;

use meridian_raft::Engine;
use meridian_storage::disk::{Disk, OsDisk};
use meridian_storage::fault::Fault;
use meridian_storage::history::{self, History};
use meridian_storage::machine::{self, Machine};
use meridian_storage::row::Rows;
use meridian_storage::seal::{Plain, Seal};
use meridian_storage::snapshot;
use meridian_storage::wal::{self, Recovered, Wal};

use crate::directory::Directory;
use crate::run::member::OnFault;

/// Opens everything in a data directory. Reads and verifies all of it; blocks.
pub fn open(directory: &Directory, on_fault: &OnFault) -> Result<Engine, Fault> {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new());
    let seal: Arc<dyn Seal> = Arc::new(Plain);
    let log = wal::Settings {
        on_fault: Arc::clone(on_fault),
        ..wal::Settings::default()
    };
    let (wal, recovered) = Wal::open(Arc::clone(&disk), Arc::clone(&seal), &directory.wal(), log)?;
    disk.create_dir_all(&directory.snapshots())?;
    let machine = load(directory, &disk, &seal, &recovered, on_fault)?;
    tracing::info!(
        applied = %machine.applied(),
        last = %recovered.last.unwrap_or_default(),
        "state loaded; the log goes on from there"
    );
    Ok(Engine {
        disk,
        seal,
        wal,
        recovered,
        machine,
        snapshots: directory.snapshots(),
    })
}

fn load(
    directory: &Directory,
    disk: &Arc<dyn Disk>,
    seal: &Arc<dyn Seal>,
    recovered: &Recovered,
    on_fault: &OnFault,
) -> Result<Machine, Fault> {
    let settings = history::Settings {
        disk: Arc::clone(disk),
        on_fault: Arc::clone(on_fault),
        ..history::Settings::default()
    };
    let (history, rows) = History::open(&directory.history(), settings, Arc::clone(seal))?;
    let newest = snapshot::latest(disk.as_ref(), &directory.snapshots())?;
    let covered = newest.as_ref().map(|file| file.applied).unwrap_or_default();
    let floor = covered.max(recovered.purged.unwrap_or_default());
    if let Some(mut rows) = rows.filter(|rows| rows.applied() >= floor) {
        match load_from(rows.as_mut(), &history) {
            Ok(machine) => return Ok(machine),
            Err(fault) => {
                tracing::warn!(%fault, "the version store is damaged and will be rebuilt");
            }
        }
    }
    if let Some(file) = newest {
        tracing::info!(applied = %file.applied, "the version store is rebuilt from the snapshot");
        let mut rows = snapshot::open(disk.as_ref(), seal, &file.path)?;
        history.reset(&mut rows)?;
        let mut rows = snapshot::open(disk.as_ref(), seal, &file.path)?;
        return load_from(&mut rows, &history);
    }
    if let Some(purged) = recovered.purged {
        return Err(Fault::Inconsistent {
            what: format!(
                "the log begins after {purged}, but there is neither a snapshot nor a version store that goes \
                 so far; remove this member, give it an empty directory and add it anew"
            ),
        });
    }
    history.clear()?;
    Ok(Machine::new(history, machine::Settings::default()))
}

fn load_from(rows: &mut dyn Rows, history: &History) -> Result<Machine, Fault> {
    Machine::load(rows, history.clone(), machine::Settings::default())
}
