//! Full disks: who has one, and what the leader still takes.
//!
//! Each member keeps a reserve on the disk of its log. When a member's reserve is all it has left:
//!
//! - one that follows refuses entries, as if it were away, and catches up when there is space again;
//! - one that leads, or whose majority of voters refuses, takes only what frees space or keeps leases alive.
//!   Such entries are marked, and everybody takes them out of the reserve.
//!
//! So a full disk ends in a clear answer before the log could fail, and nobody has to restart anything.

use std::collections::BTreeSet;

use meridian_storage::wal::Wal;
use parking_lot::Mutex;

use crate::network::roster::Roster;

/// What this member knows about full disks. Shared.
pub struct Pressure {
    wal: Wal,
    roster: Roster,
    full: Mutex<BTreeSet<u64>>,
}

impl Pressure {
    /// Nobody's disk is known to be full.
    pub fn new(wal: Wal, roster: Roster) -> Self {
        Self {
            wal,
            roster,
            full: Mutex::default(),
        }
    }

    /// Whether this member's disk has only the reserve left.
    pub fn is_full_here(&self) -> bool {
        self.wal.reserve_ok().is_err()
    }

    /// A member answered entries, saying whether its disk is full.
    pub fn reported(&self, member: u64, full: bool) {
        let mut members = self.full.lock();
        if full {
            if members.insert(member) {
                tracing::warn!(
                    member = format_args!("{member:x}"),
                    "the disk of a member is full"
                );
            }
        } else if !members.is_empty() && members.remove(&member) {
            tracing::info!(
                member = format_args!("{member:x}"),
                "the disk of a member has space again"
            );
        }
    }

    /// Whether this member, as a leader, takes only what frees space or keeps leases alive.
    pub fn takes_urgent_only(&self) -> bool {
        if self.is_full_here() {
            return true;
        }
        let full = self.full.lock();
        if full.is_empty() {
            return false;
        }
        let membership = self.roster.membership();
        membership
            .membership()
            .get_joint_config()
            .iter()
            .any(|voters| {
                let without = voters.iter().filter(|id| full.contains(id)).count();
                voters.len() - without < voters.len() / 2 + 1
            })
    }
}
