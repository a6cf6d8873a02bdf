//! Reading: the rows of a snapshot, once all of the file was verified.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use meridian_domain::name::TenantId;
use meridian_domain::revision::LogId;

use super::frame::{FrameReader, Head, Next};
use super::verify;
use super::write::{FACT, TENANT, VERSION};
use crate::disk::{Disk, File};
use crate::fault::Fault;
use crate::history::packed::{Memory, Unpacker};
use crate::row::{At, Rows, Version};
use crate::seal::Seal;

/// Opens a snapshot: verifies every byte of it, then gives its rows. They can be read any number of times.
///
/// [`Fault::Damaged`] if it is not what was written, [`Fault::NewerFormat`] if a newer version of the program
/// wrote it.
pub fn open(disk: &dyn Disk, seal: &Arc<dyn Seal>, path: &Path) -> Result<SnapshotRows, Fault> {
    let file = disk.open(path)?;
    let (head, _) = verify::check(file.as_ref(), seal.as_ref(), &mut |_| Ok(()))?;
    Ok(SnapshotRows {
        file,
        seal: Arc::clone(seal),
        head,
    })
}

/// The rows of a verified snapshot.
#[derive(Debug)]
pub struct SnapshotRows {
    file: Arc<dyn File>,
    seal: Arc<dyn Seal>,
    head: Head,
}

impl SnapshotRows {
    /// The cluster it was taken of.
    pub fn cluster(&self) -> u64 {
        self.head.cluster
    }

    /// The members at its position, as Raft encodes them.
    pub fn membership(&self) -> Option<Bytes> {
        self.head.membership.clone()
    }
}

impl Rows for SnapshotRows {
    fn applied(&self) -> LogId {
        self.head.applied
    }

    fn facts(&mut self) -> Result<Vec<(Bytes, Bytes)>, Fault> {
        let (mut frames, _) = FrameReader::begin(self.file.as_ref(), self.seal.as_ref(), false)?;
        let mut facts = Vec::new();
        // Facts come first: a chunk that holds a tenant is the last that can hold one.
        while let Next::Chunk(mut chunk) = frames.next(Memory::Own)? {
            let mut more = true;
            records(&frames, &mut chunk, &mut None, &mut |record| {
                match record {
                    Record::Fact(key, value) => facts.push((key, value)),
                    Record::Version(..) => more = false,
                }
                Ok(())
            })?;
            if !more {
                break;
            }
        }
        Ok(facts)
    }

    fn versions(
        &mut self,
        each: &mut dyn FnMut(TenantId, Version) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let (mut frames, _) = FrameReader::begin(self.file.as_ref(), self.seal.as_ref(), false)?;
        let mut last = None;
        while let Next::Chunk(mut chunk) = frames.next(Memory::Own)? {
            records(&frames, &mut chunk, &mut last, &mut |record| match record {
                Record::Fact(..) => Ok(()),
                Record::Version(tenant, version) => each(tenant, version),
            })?;
        }
        Ok(())
    }
}

/// What a chunk holds.
pub(super) enum Record {
    Fact(Bytes, Bytes),
    Version(TenantId, Version),
}

/// Shows the records of a chunk. `last` is the last version of the chunks before, and then of this one.
pub(super) fn records(
    frames: &FrameReader<'_>,
    chunk: &mut Unpacker,
    last: &mut Option<(TenantId, At)>,
    each: &mut dyn FnMut(Record) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let malformed = |what| frames.damaged(what);
    let mut tenant = None;
    while !chunk.is_empty() {
        match chunk.byte().map_err(malformed)? {
            FACT if last.is_none() => {
                let key = chunk.bytes().map_err(malformed)?;
                each(Record::Fact(key, chunk.bytes().map_err(malformed)?))?;
            }
            TENANT => {
                tenant = Some(TenantId(chunk.small_number().map_err(malformed)?));
                chunk.forget_previous();
            }
            VERSION => {
                let version = chunk.row().map_err(malformed)?;
                let Some(tenant) = tenant else {
                    return Err(malformed("a version has no tenant"));
                };
                if last.is_some_and(|last| last >= (tenant, version.at)) {
                    return Err(malformed("versions are out of order"));
                }
                *last = Some((tenant, version.at));
                each(Record::Version(tenant, version))?;
            }
            _ => return Err(malformed("a record is of an unknown kind")),
        }
    }
    Ok(())
}
