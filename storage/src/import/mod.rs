//! A file of etcd's as rows: what `etcdctl snapshot save` made, of Meridian or of etcd 3.4 and later.
//!
//! ```text
//!   file saved of a cluster     :=  pages (bolt)  SHA-256 of them (32)       its size is 32 more than whole sectors
//!   file of a data directory    :=  pages (bolt)                             member/snap/db; nothing proves it
//!
//!   bucket key   -->  versions of the tenant `default`, in order
//!          lease -->  its leases
//!          meta  -->  how far it is compacted                                 [`crate::export`] draws the buckets
//! ```
//!
//! The revision is that of the last change, or of the compaction if that took the last change away: etcd counts on from
//! there as well. What a version replaced is not written in such a file; it is found by remembering where each key was
//! changed last. Who asked and when is not known. Members, alarms, users and roles are not taken over.
//!
//! Nothing is used before all of it was read once: places ascend, every version is the one its place says, and every
//! key that is alive and has a lease has one that is there.

mod bolt;
mod versions;

#[cfg(test)]
mod tests;

use std::path::Path;

use bytes::{Buf, Bytes};
use meridian_domain::kv::LeaseId;
use meridian_domain::name::TenantId;
use meridian_domain::revision::{GENESIS, LogId, Revision};
use prost::Message;
use sha2::{Digest, Sha256};

use crate::disk::{Disk, File};
use crate::export::Lease;
use crate::fault::Fault;
use crate::machine::outline::Outline;
use crate::row::{Rows, Version};
use bolt::Bolt;
use versions::Versions;

/// What the size of pages is a multiple of: a disk's sector.
const SECTOR_BYTES: u64 = 512;
/// SHA-256.
const SUM_BYTES: u64 = 32;
/// How much is read at once for the sum.
const READ_BYTES: usize = 1 << 20;
/// Behind this no revision is counted: it leaves room for as many again.
const REVISION_MAX: Revision = 1 << 62;

/// What the end of a file says of the rest of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// It is this one's.
    Right([u8; 32]),
    /// It is another one's.
    Wrong,
    /// There is none: the file was not saved of a cluster, but copied from a data directory.
    Missing,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Its size, in bytes.
    pub bytes: u64,
    /// What its end says.
    pub sum: Sum,
    /// The revision.
    pub revision: Revision,
    /// What was superseded at or before it is forgotten; zero if nothing ever was.
    pub compacted: Revision,
    /// How many keys are alive.
    pub keys: u64,
    /// How many versions, deletions included.
    pub versions: u64,
    /// How many leases.
    pub leases: u64,
    /// Whether etcd asked who its clients are: by users and roles, which are not taken over.
    pub auth: bool,
}

/// The rows of a file.
#[derive(Debug)]
pub struct EtcdRows {
    bolt: Bolt,
    outline: Outline,
    inspection: Inspection,
}

/// Whether a file is, or was, one of etcd's.
pub fn is_etcd(disk: &dyn Disk, path: &Path) -> Result<bool, Fault> {
    Bolt::is(disk.open(path)?.as_ref())
}

/// Opens a file, having read all of it. Takes memory for its keys. A sum that is wrong or missing is left to the caller
/// to judge; anything else that can not be is [`Fault::Damaged`].
pub fn open(disk: &dyn Disk, path: &Path) -> Result<EtcdRows, Fault> {
    let file = disk.open(path)?;
    let bytes = file.size()?;
    let sum = sum(file.as_ref(), bytes)?;
    let bolt = Bolt::open(file)?;
    let mut compacted = 0;
    bolt.bucket("meta", &mut |key, value| {
        // One that was scheduled and did not end is ended by whoever reads the versions.
        if key == "finishedCompactRev" || key == "scheduledCompactRev" {
            let place = versions::place(&value)
                .filter(|place| place.0.revision <= REVISION_MAX)
                .ok_or_else(|| bolt.damaged(0, "the compaction can not be read"))?;
            compacted = compacted.max(place.0.revision);
        }
        Ok(())
    })?;
    let mut auth = false;
    bolt.bucket("auth", &mut |key, value| {
        auth |= key == "authEnabled" && value == [1][..];
        Ok(())
    })?;
    let leases = leases(&bolt)?;
    let mut versions = Versions::default();
    let mut revision = compacted.max(GENESIS);
    versions.read(&bolt, &mut |version| {
        revision = revision.max(version.at.revision);
        Ok(())
    })?;
    let granted = |lease: LeaseId| leases.binary_search_by_key(&(lease as u64), |of| of.0 as u64);
    if let Some(lease) = versions.leases().find(|lease| granted(*lease).is_err()) {
        let what = format!("a key hangs on lease {lease:x}, which is not there");
        return Err(bolt.damaged(0, &what));
    }
    let inspection = Inspection {
        bytes,
        sum,
        revision,
        compacted,
        keys: versions.alive(),
        versions: versions.read,
        leases: leases.len() as u64,
        auth,
    };
    Ok(EtcdRows {
        bolt,
        outline: Outline {
            revision,
            compacted,
            leases,
        },
        inspection,
    })
}

impl EtcdRows {
    /// What the file holds.
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }
}

impl Rows for EtcdRows {
    /// It has none in any log of ours.
    fn applied(&self) -> LogId {
        LogId::default()
    }

    fn facts(&mut self) -> Result<Vec<(Bytes, Bytes)>, Fault> {
        self.outline.as_default_tenant()
    }

    fn versions(
        &mut self,
        each: &mut dyn FnMut(TenantId, Version) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut versions = Versions::default();
        versions.read(&self.bolt, &mut |version| each(TenantId::DEFAULT, version))
    }
}

/// The leases, in the order of their ids as unsigned numbers.
fn leases(bolt: &Bolt) -> Result<Vec<(LeaseId, i64, i64)>, Fault> {
    let mut leases = vec![];
    bolt.bucket("lease", &mut |mut key, value| {
        let id = key.try_get_u64().ok().filter(|_| key.is_empty());
        let lease = Lease::decode(value).ok().filter(|lease| {
            Some(lease.id as u64) == id && lease.ttl >= 0 && lease.remaining_ttl >= 0
        });
        let lease = lease.ok_or_else(|| bolt.damaged(0, "a lease can not be read"))?;
        leases.push((lease.id, lease.ttl, lease.remaining_ttl));
        Ok(())
    })?;
    Ok(leases)
}

/// Reads the sum at the end of a file, if there is one, and what it should be.
fn sum(file: &dyn File, bytes: u64) -> Result<Sum, Fault> {
    if bytes % SECTOR_BYTES != SUM_BYTES {
        return Ok(Sum::Missing);
    }
    let end = bytes - SUM_BYTES;
    let mut hash = Sha256::new();
    let mut piece = vec![0; READ_BYTES];
    let mut at = 0;
    while at < end {
        let length = (end - at).min(READ_BYTES as u64);
        let piece = piece.get_mut(..length as usize).unwrap_or_default();
        file.read_exact_at(piece, at)?;
        hash.update(&*piece);
        at += length;
    }
    let mut found = [0; 32];
    file.read_exact_at(&mut found, end)?;
    let wanted: [u8; 32] = hash.finalize().into();
    Ok(if found == wanted {
        Sum::Right(wanted)
    } else {
        Sum::Wrong
    })
}
