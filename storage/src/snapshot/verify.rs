//! Verifying: every byte of a snapshot, and what is in it.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use bytes::Bytes;
use meridian_domain::key::Space;
use meridian_domain::name::TenantId;
use meridian_domain::revision::{LogId, Revision};

use super::frame::{FrameReader, Head, Next, Trailer};
use super::read::{Record, records};
use crate::disk::{Disk, File};
use crate::fault::Fault;
use crate::history::packed::Memory;
use crate::seal::Seal;

/// What a snapshot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The cluster it was taken of.
    pub cluster: u64,
    /// The applied position.
    pub applied: LogId,
    /// The members, as Raft encodes them.
    pub membership: Option<Bytes>,
    /// The size of the file, in bytes.
    pub bytes: u64,
    /// SHA-256 of its content: equal on every member at equal positions.
    pub hash: [u8; 32],
    /// How many chunks.
    pub chunks: u64,
    /// How many facts.
    pub facts: u64,
    /// What it holds of each tenant with a version.
    pub tenants: Vec<TenantInspection>,
}

/// What a snapshot holds of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantInspection {
    /// Which.
    pub tenant: TenantId,
    /// The revision of its last version.
    pub revision: Revision,
    /// How many keys are alive at that revision.
    pub keys: u64,
    /// How many versions.
    pub versions: u64,
    /// The bytes of their keys and values.
    pub bytes: u64,
}

/// Verifies a snapshot: every checksum, the hash over all of it, and that it can be read. Returns the hash.
pub fn verify(disk: &dyn Disk, seal: &dyn Seal, path: &Path) -> Result<[u8; 32], Fault> {
    let file = disk.open(path)?;
    let (_, trailer) = check(file.as_ref(), seal, &mut |_| Ok(()))?;
    Ok(trailer.hash)
}

/// Verifies a snapshot and says what is in it. Takes memory for the keys that are alive.
pub fn inspect(disk: &dyn Disk, seal: &dyn Seal, path: &Path) -> Result<Inspection, Fault> {
    let file = disk.open(path)?;
    let mut tenants: BTreeMap<TenantId, TenantInspection> = BTreeMap::new();
    let mut alive: HashSet<(Space, Bytes)> = HashSet::new();
    let mut of = None;
    let (head, trailer) = check(file.as_ref(), seal, &mut |record| {
        let Record::Version(tenant, version) = record else {
            return Ok(());
        };
        if of != Some(tenant) {
            of = Some(tenant);
            alive.clear();
        }
        let entry = tenants.entry(tenant).or_insert(TenantInspection {
            tenant,
            revision: 0,
            keys: 0,
            versions: 0,
            bytes: 0,
        });
        entry.revision = version.at.revision;
        entry.versions += 1;
        let value = version.after.as_ref().map_or(0, |kv| kv.value.len());
        entry.bytes += (version.key.len() + value) as u64;
        let key = (version.space, Bytes::copy_from_slice(&version.key));
        if version.after.is_some() {
            alive.insert(key);
        } else {
            alive.remove(&key);
        }
        entry.keys = alive.len() as u64;
        Ok(())
    })?;
    Ok(Inspection {
        cluster: head.cluster,
        applied: head.applied,
        membership: head.membership,
        bytes: file.size()?,
        hash: trailer.hash,
        chunks: trailer.chunks,
        facts: trailer.facts,
        tenants: tenants.into_values().collect(),
    })
}

/// Reads a file from end to end, checks everything that can be checked, and shows every record.
pub(super) fn check(
    file: &dyn File,
    seal: &dyn Seal,
    each: &mut dyn FnMut(Record) -> Result<(), Fault>,
) -> Result<(Head, Trailer), Fault> {
    let (mut frames, head) = FrameReader::begin(file, seal, true)?;
    let (mut facts, mut versions) = (0, 0);
    let mut last = None;
    loop {
        match frames.next(Memory::Shared)? {
            Next::Chunk(mut chunk) => {
                records(&frames, &mut chunk, &mut last, &mut |record| {
                    match record {
                        Record::Fact(..) => facts += 1,
                        Record::Version(..) => versions += 1,
                    }
                    each(record)
                })?;
            }
            Next::End(trailer) if (trailer.facts, trailer.versions) == (facts, versions) => {
                return Ok((head, trailer));
            }
            Next::End(_) => return Err(frames.damaged("it holds more or less than it says")),
        }
    }
}
