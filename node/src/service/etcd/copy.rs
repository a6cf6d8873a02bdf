//! A copy of everything, on its way to whoever keeps it (`Maintenance.Snapshot`).
//!
//! ```text
//!   meridian-snapshot-format: (absent)     the tenant as a file of etcd's, which etcd's tools read
//!                             meridian     the member's own snapshot: every tenant, everything
//! ```
//!
//! Both are made from a snapshot that is taken anew, and sent in pieces. What follows the file is zeroes up to a
//! multiple of 512 bytes, because etcd's clients tell a whole copy by its size, and then the SHA-256 of all that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use meridian_domain::name::TenantId;
use meridian_proto::etcdserverpb as pb;
use meridian_storage::disk::OsDisk;
use meridian_storage::export;
use meridian_storage::fault::Fault;
use meridian_storage::seal::{Plain, Seal};
use meridian_storage::snapshot::{self, Outgoing};
use sha2::{Digest, Sha256};
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::directory;
use crate::pipeline::Pipeline;
use crate::service::etcd::maintenance::blocking;
use crate::status::{Etcd, Refusal};
use crate::version;

/// Names the format.
pub const FORMAT_KEY: &str = "meridian-snapshot-format";
/// A piece, in bytes: etcd's.
const PIECE_BYTES: usize = 32 << 10;
/// A whole copy without its hash is a multiple of this: a disk's sector, as etcd's clients check.
const SECTOR_BYTES: u64 = 512;

/// Tells apart files that are made at the same time.
static MADE: AtomicU64 = AtomicU64::new(0);

/// What a copy is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// etcd's: one tenant.
    Etcd,
    /// Meridian's: everything.
    Meridian,
}

impl Format {
    /// What the caller asked for.
    pub fn asked(metadata: &MetadataMap) -> Result<Self, Refusal> {
        match metadata.get(FORMAT_KEY).map(MetadataValue::as_bytes) {
            None | Some(b"etcd") => Ok(Self::Etcd),
            Some(b"meridian") => Ok(Self::Meridian),
            Some(_) => Err(Etcd::NotSupported {
                what: "this meridian-snapshot-format (there are etcd and meridian)",
            }
            .into()),
        }
    }
}

/// A copy on its way out.
pub struct Copy {
    outgoing: Arc<Outgoing>,
    /// The file, and zeroes up to a whole sector.
    size: u64,
    sent: u64,
    hash: Sha256,
    done: bool,
}

impl Copy {
    /// Takes a snapshot and opens it, or what is made of it.
    pub async fn take(
        pipeline: &Pipeline,
        tenant: TenantId,
        format: Format,
    ) -> Result<Self, Refusal> {
        let applied = pipeline.replica.snapshot().await?;
        let dir = directory::snapshots_of(&pipeline.settings.data_dir());
        let outgoing = blocking(move || {
            let disk = OsDisk::new();
            // The one that was just taken, or one that was taken since.
            let newest = snapshot::latest(&disk, &dir)?.filter(|file| file.applied >= applied);
            let file = newest.ok_or_else(|| Fault::Inconsistent {
                what: format!("the snapshot of {applied} is gone"),
            })?;
            if format == Format::Meridian {
                return Outgoing::open(&disk, &file);
            }
            let seal: Arc<dyn Seal> = Arc::new(Plain);
            let mut rows = snapshot::open(&disk, &seal, &file.path)?;
            // Left over by a crash it is tidied away with what was received in part.
            let number = MADE.fetch_add(1, Ordering::Relaxed);
            let path = dir.join(format!("etcd-{number}.partial"));
            export::etcd(&disk, &path, &mut rows, tenant)
        })
        .await??;
        Ok(Self::new(outgoing))
    }

    fn new(outgoing: Outgoing) -> Self {
        let size = outgoing.size().next_multiple_of(SECTOR_BYTES);
        Self {
            outgoing: Arc::new(outgoing),
            size,
            sent: 0,
            hash: Sha256::new(),
            done: false,
        }
    }

    /// The next piece; none at the end.
    pub async fn next(&mut self) -> Result<Option<pb::SnapshotResponse>, Refusal> {
        if self.done {
            return Ok(None);
        }
        if self.sent == self.size {
            self.done = true;
            let hash = Bytes::copy_from_slice(&self.hash.finalize_reset());
            return Ok(Some(self.piece(hash)));
        }
        let (outgoing, at) = (Arc::clone(&self.outgoing), self.sent);
        let read = blocking(move || outgoing.read(at, PIECE_BYTES)).await??;
        let full = usize::try_from(self.size - at)
            .unwrap_or(usize::MAX)
            .min(PIECE_BYTES);
        let blob = if read.len() < full {
            let mut padded = BytesMut::from(read);
            padded.resize(full, 0);
            padded.freeze()
        } else {
            read
        };
        self.hash.update(&blob);
        self.sent += blob.len() as u64;
        Ok(Some(self.piece(blob)))
    }

    fn piece(&self, blob: Bytes) -> pb::SnapshotResponse {
        pb::SnapshotResponse {
            header: None,
            remaining_bytes: self.size - self.sent,
            blob,
            version: version::ETCD_STORAGE.into(),
        }
    }
}
