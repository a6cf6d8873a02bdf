//! What the simulated disk holds, now and durably, and what a crash leaves of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::{Call, Refusal};

/// What a device writes whole or not at all, in bytes.
const SECTOR: usize = 512;

#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) era: u64,
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) inode_next: u64,
    pub(super) names: BTreeMap<PathBuf, u64>,
    pub(super) names_durable: BTreeMap<PathBuf, u64>,
    pub(super) names_pending: Vec<NameChange>,
    pub(super) dirs: BTreeSet<PathBuf>,
    pub(super) locks: BTreeSet<PathBuf>,
    pub(super) refusals: Vec<(Call, u64, Refusal)>,
    pub(super) counts: BTreeMap<Call, u64>,
    pub(super) changes: u64,
    pub(super) power_off_at: Option<u64>,
    pub(super) off: bool,
    pub(super) capacity: Option<u64>,
    pub(super) lies: bool,
}

#[derive(Debug, Default)]
pub(super) struct Inode {
    pub(super) now: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<Change>,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Write(usize, Vec<u8>),
    Size(usize),
}

#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Make(PathBuf, u64),
    Move(PathBuf, PathBuf, u64),
    Remove(PathBuf),
}

/// What becomes of the unflushed at a crash.
#[derive(Clone, Copy)]
enum Fate {
    Lost,
    Kept,
    Scattered,
    Prefix,
}

impl World {
    /// Cuts the power.
    pub(super) fn crash(&mut self, seed: u64) {
        let mut dice = Dice(seed);
        for inode in self.inodes.values_mut() {
            let fate = dice.fate();
            survive(
                &mut inode.durable,
                &std::mem::take(&mut inode.pending),
                fate,
                &mut dice,
            );
            inode.now = inode.durable.clone();
        }
        let pending = std::mem::take(&mut self.names_pending);
        let fate = dice.fate();
        let cut = dice.below(pending.len() + 1);
        for (i, change) in pending.iter().enumerate() {
            let kept = match fate {
                Fate::Lost => false,
                Fate::Kept => true,
                Fate::Scattered => dice.below(2) == 0,
                Fate::Prefix => i < cut,
            };
            if kept {
                apply_name(&mut self.names_durable, change);
            }
        }
        self.names = self.names_durable.clone();
        self.reboot();
    }

    /// Flushes the names in a directory.
    pub(super) fn sync_names(&mut self, dir: &Path) {
        for change in std::mem::take(&mut self.names_pending) {
            let here = match &change {
                NameChange::Make(path, _) | NameChange::Remove(path) => path.parent() == Some(dir),
                NameChange::Move(_, to, _) => to.parent() == Some(dir),
            };
            if here {
                apply_name(&mut self.names_durable, &change);
            } else {
                self.names_pending.push(change);
            }
        }
    }

    pub(super) fn reboot(&mut self) {
        self.era += 1;
        self.off = false;
        self.power_off_at = None;
        self.refusals.clear();
        self.locks.clear();
        let live: BTreeSet<u64> = self
            .names
            .values()
            .chain(self.names_durable.values())
            .copied()
            .collect();
        self.inodes.retain(|id, _| live.contains(id));
    }

    /// Counts a call and decides whether it is refused.
    pub(super) fn admit(&mut self, call: Call, era: Option<u64>) -> io::Result<()> {
        if era.is_some_and(|era| era != self.era) {
            return Err(errno(5));
        }
        *self.counts.entry(call).or_default() += 1;
        if call != Call::Read {
            self.changes += 1;
            if self.power_off_at.is_some_and(|at| self.changes >= at) {
                self.off = true;
            }
        }
        if self.off {
            return Err(errno(5));
        }
        let mut refused = None;
        self.refusals.retain_mut(|(kind, nth, refusal)| {
            if *kind == call {
                *nth = nth.saturating_sub(1);
                if *nth == 0 {
                    refused = Some(*refusal);
                    return false;
                }
            }
            true
        });
        match refused {
            None => Ok(()),
            Some(Refusal::Broken) => Err(errno(5)),
            Some(Refusal::Full) => Err(errno(28)),
        }
    }

    pub(super) fn used(&self) -> u64 {
        let live: BTreeSet<u64> = self.names.values().copied().collect();
        let sizes = self.inodes.iter().filter(|(id, _)| live.contains(id));
        sizes.map(|(_, inode)| inode.now.len() as u64).sum()
    }

    pub(super) fn change(&mut self, inode: u64, era: u64, change: Change) -> io::Result<()> {
        self.admit(Call::Write, Some(era))?;
        let used = self.used();
        let capacity = self.capacity;
        let inode = self.inodes.get_mut(&inode).ok_or_else(|| errno(5))?;
        let end = match &change {
            Change::Write(offset, bytes) => offset + bytes.len(),
            Change::Size(size) => *size,
        };
        let growth = end.saturating_sub(inode.now.len()) as u64;
        if growth > 0 && capacity.is_some_and(|capacity| used + growth > capacity) {
            return Err(errno(28));
        }
        apply(&mut inode.now, &change);
        inode.pending.push(change);
        Ok(())
    }

    pub(super) fn name(&mut self, change: NameChange) {
        apply_name(&mut self.names, &change);
        self.names_pending.push(change);
    }
}

pub(super) fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

pub(super) fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Size(size) => content.resize(*size, 0),
        Change::Write(offset, bytes) => {
            let end = offset + bytes.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            for (to, from) in content.iter_mut().skip(*offset).zip(bytes) {
                *to = *from;
            }
        }
    }
}

fn apply_name(names: &mut BTreeMap<PathBuf, u64>, change: &NameChange) {
    match change {
        NameChange::Make(path, inode) => {
            names.insert(path.clone(), *inode);
        }
        NameChange::Move(from, to, inode) => {
            if names.get(from) == Some(inode) {
                names.remove(from);
            }
            names.insert(to.clone(), *inode);
        }
        NameChange::Remove(path) => {
            names.remove(path);
        }
    }
}

/// Lets some of the unflushed changes of a file survive.
fn survive(durable: &mut Vec<u8>, pending: &[Change], fate: Fate, dice: &mut Dice) {
    let cut = dice.below(pending.len() + 1);
    for (i, change) in pending.iter().enumerate() {
        match (fate, change) {
            (Fate::Kept, _) => apply(durable, change),
            (Fate::Prefix, _) if i < cut => apply(durable, change),
            (Fate::Prefix, Change::Write(offset, bytes)) if i == cut => {
                let torn = bytes.get(..dice.below(bytes.len() + 1)).unwrap_or(&[]);
                apply(durable, &Change::Write(*offset, torn.to_vec()));
            }
            (Fate::Lost | Fate::Prefix, _) => {}
            (Fate::Scattered, Change::Size(_)) => {
                if dice.below(2) == 0 {
                    apply(durable, change);
                }
            }
            (Fate::Scattered, Change::Write(offset, bytes)) => {
                // Sectors are aligned in the file, not in the write.
                let mut at = 0;
                while at < bytes.len() {
                    let len = (SECTOR - (offset + at) % SECTOR).min(bytes.len() - at);
                    if let Some(sector) = bytes.get(at..at + len).filter(|_| dice.below(2) == 0) {
                        apply(durable, &Change::Write(offset + at, sector.to_vec()));
                    }
                    at += len;
                }
            }
        }
    }
}

/// A small generator (splitmix64, Steele et al. 2014): the same seed, the same fate.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
    }

    fn fate(&mut self) -> Fate {
        match self.below(8) {
            0 => Fate::Lost,
            1 => Fate::Kept,
            2 | 3 => Fate::Prefix,
            _ => Fate::Scattered,
        }
    }
}
