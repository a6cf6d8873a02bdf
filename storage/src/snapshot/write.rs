//! Writing: from a frozen machine and a pinned history, or from any rows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use meridian_domain::key::Space;
use meridian_domain::name::TenantId;
use meridian_domain::revision::{LogId, Revision};

use super::frame::{CHUNK_BYTES, FrameWriter, Head, Kind};
use super::{PARTIAL, SnapshotFile, file_name};
use crate::disk::Disk;
use crate::fault::Fault;
use crate::history::Pin;
use crate::history::packed::{Packer, put_bytes, put_number};
use crate::machine::Frozen;
use crate::mvcc::Keyspace;
use crate::mvcc::compact::first_retained;
use crate::row::{At, Rows, Version};
use crate::seal::Seal;

pub(super) const FACT: u8 = 1;
pub(super) const TENANT: u8 = 2;
pub(super) const VERSION: u8 = 3;

/// The state a snapshot is taken of, at one applied position.
pub trait Content {
    /// The position.
    fn applied(&self) -> LogId;
    /// The members, as Raft encodes them.
    fn membership(&self) -> Option<Bytes>;
    /// Every fact, by key, ascending.
    fn facts(&self) -> &[(Bytes, Bytes)];
    /// The tenants, ascending, each with its revision.
    fn tenants(&self) -> Vec<(TenantId, Revision)>;
    /// Whether a version belongs to the state. A pure function of it: what compaction has removed by now does
    /// not matter.
    fn retains(&self, tenant: TenantId, space: Space, key: &[u8], at: At) -> bool;
    /// How many versions of a tenant belong to the state.
    fn retained(&self, tenant: TenantId) -> u64;
}

impl Content for Frozen {
    fn applied(&self) -> LogId {
        self.applied
    }

    fn membership(&self) -> Option<Bytes> {
        self.membership.clone()
    }

    fn facts(&self) -> &[(Bytes, Bytes)] {
        &self.facts
    }

    fn tenants(&self) -> Vec<(TenantId, Revision)> {
        self.tenants
            .iter()
            .map(|(id, keyspace)| (*id, keyspace.revision()))
            .collect()
    }

    fn retains(&self, tenant: TenantId, space: Space, key: &[u8], at: At) -> bool {
        keyspace(self, tenant).is_some_and(|keyspace| keyspace.retains(space, key, at))
    }

    fn retained(&self, tenant: TenantId) -> u64 {
        let Some(keyspace) = keyspace(self, tenant) else {
            return 0;
        };
        let slots = keyspace.spaces().flat_map(|(_, slots)| slots.iter());
        slots
            .filter_map(|slot| {
                let first = first_retained(slot, keyspace.compacted())?;
                let past = slot.past().iter().filter(|past| past.at() >= first).count();
                Some(past as u64 + u64::from(slot.newest().at() >= first))
            })
            .sum()
    }
}

/// The keyspace of a tenant. They are in order.
fn keyspace(frozen: &Frozen, tenant: TenantId) -> Option<&Keyspace> {
    let found = frozen
        .tenants
        .binary_search_by_key(&tenant, |(id, _)| *id)
        .ok()?;
    frozen
        .tenants
        .get(found)
        .map(|(_, keyspace)| keyspace.as_ref())
}

/// Writes the snapshot of a state into `dir` and makes it durable. Blocks; applying goes on meanwhile.
///
/// `pin` must have been made before the machine was frozen. [`Fault::Inconsistent`] if the history lacks a
/// version that belongs to the state: then there is no snapshot, and the replica must not go on.
pub fn write(
    disk: &dyn Disk,
    seal: &Arc<dyn Seal>,
    dir: &Path,
    cluster: u64,
    content: &dyn Content,
    pin: &Pin,
) -> Result<SnapshotFile, Fault> {
    let applied = content.applied();
    let head = Head {
        cluster,
        applied,
        membership: content.membership(),
    };
    let mut writer = Writer::begin(disk, seal, dir, &head)?;
    for (key, value) in content.facts() {
        writer.fact(key, value)?;
    }
    for (tenant, revision) in content.tenants() {
        let before = writer.versions;
        pin.versions(tenant, revision, &mut |row| {
            if content.retains(tenant, row.space, &row.key, row.at) {
                writer.version(tenant, row)
            } else {
                Ok(())
            }
        })?;
        let (found, wanted) = (writer.versions - before, content.retained(tenant));
        if found != wanted {
            let what =
                format!("history has {found} versions of tenant {tenant}, the index {wanted}");
            return Err(Fault::Inconsistent { what });
        }
    }
    writer.finish(applied)
}

/// Writes a snapshot of any rows: for restore, where they are those of another snapshot, changed on the way.
pub fn write_rows(
    disk: &dyn Disk,
    seal: &Arc<dyn Seal>,
    dir: &Path,
    cluster: u64,
    membership: Option<Bytes>,
    rows: &mut dyn Rows,
) -> Result<SnapshotFile, Fault> {
    let applied = rows.applied();
    let mut writer = Writer::begin(
        disk,
        seal,
        dir,
        &Head {
            cluster,
            applied,
            membership,
        },
    )?;
    let mut facts = rows.facts()?;
    facts.sort_unstable();
    for (key, value) in &facts {
        writer.fact(key, value)?;
    }
    rows.versions(&mut |tenant, row| writer.version(tenant, &row))?;
    writer.finish(applied)
}

/// A snapshot that is being written. Dropped before it is finished, it is removed.
struct Writer<'a> {
    disk: &'a dyn Disk,
    dir: PathBuf,
    partial: PathBuf,
    frames: Option<FrameWriter>,
    chunk: Packer,
    /// The tenant the open chunk names.
    named: Option<TenantId>,
    last: Option<(TenantId, At)>,
    last_fact: Option<Bytes>,
    facts: u64,
    versions: u64,
}

impl<'a> Writer<'a> {
    fn begin(
        disk: &'a dyn Disk,
        seal: &Arc<dyn Seal>,
        dir: &Path,
        head: &Head,
    ) -> Result<Self, Fault> {
        disk.create_dir_all(dir)?;
        let partial = dir.join(format!("{}{PARTIAL}", file_name(head.applied)));
        let file = create_anew(disk, &partial)?;
        let mut writer = Self {
            disk,
            dir: dir.to_path_buf(),
            partial,
            frames: None,
            chunk: new_chunk(),
            named: None,
            last: None,
            last_fact: None,
            facts: 0,
            versions: 0,
        };
        writer.frames = Some(FrameWriter::begin(file, Arc::clone(seal), head)?);
        Ok(writer)
    }

    /// Adds a fact. They come by key, and before versions.
    fn fact(&mut self, key: &Bytes, value: &[u8]) -> Result<(), Fault> {
        if self.last.is_some() || self.last_fact.as_ref().is_some_and(|last| last >= key) {
            return Err(Fault::Inconsistent {
                what: "facts are out of order".into(),
            });
        }
        self.last_fact = Some(key.clone());
        self.facts += 1;
        let out = self.chunk.raw();
        out.push(FACT);
        put_bytes(out, key);
        put_bytes(out, value);
        self.close_if_full()
    }

    /// Adds a version. They come by tenant and place.
    fn version(&mut self, tenant: TenantId, row: &Version) -> Result<(), Fault> {
        if self.last.is_some_and(|last| last >= (tenant, row.at)) {
            return Err(Fault::Inconsistent {
                what: "versions are out of order".into(),
            });
        }
        self.last = Some((tenant, row.at));
        self.versions += 1;
        if self.named != Some(tenant) {
            self.named = Some(tenant);
            self.chunk.forget_previous();
            self.chunk.raw().push(TENANT);
            put_number(self.chunk.raw(), u64::from(tenant.0));
        }
        self.chunk.raw().push(VERSION);
        self.chunk.push(row);
        self.close_if_full()
    }

    fn close_if_full(&mut self) -> Result<(), Fault> {
        if self.chunk.bytes().len() >= CHUNK_BYTES {
            self.close()
        } else {
            Ok(())
        }
    }

    fn close(&mut self) -> Result<(), Fault> {
        self.named = None;
        let full = std::mem::replace(&mut self.chunk, new_chunk());
        match &mut self.frames {
            Some(frames) if !full.bytes().is_empty() => frames.frame(Kind::Chunk, full.finish()),
            _ => Ok(()),
        }
    }

    fn finish(mut self, applied: LogId) -> Result<SnapshotFile, Fault> {
        self.close()?;
        let bytes = match self.frames.take() {
            Some(frames) => frames.finish(self.facts, self.versions)?.0,
            None => 0,
        };
        let path = self.dir.join(file_name(applied));
        self.disk.rename(&self.partial, &path)?;
        self.disk.sync_dir(&self.dir)?;
        Ok(SnapshotFile {
            path,
            applied,
            bytes,
        })
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if self.frames.take().is_some() {
            // What can not be removed now is removed at the next start.
            let _ = self.disk.remove(&self.partial);
        }
    }
}

fn new_chunk() -> Packer {
    Packer::new(Vec::with_capacity(CHUNK_BYTES + 4096))
}

/// Makes an empty file, in place of one of this name.
pub(super) fn create_anew(
    disk: &dyn Disk,
    path: &Path,
) -> Result<Arc<dyn crate::disk::File>, Fault> {
    match disk.remove(path) {
        Err(fault) if !fault.is_not_found() => return Err(fault),
        _ => {}
    }
    disk.create(path)
}
