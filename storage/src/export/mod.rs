//! A tenant as a file of etcd's: what `etcdctl snapshot save` expects to get, `snapshot status` to read, and
//! `snapshot restore` to turn into an etcd cluster.
//!
//! ```text
//!   bucket   key                                          value
//!   key      revision (8) '_' sub (8), 't' if a deletion   mvccpb.KeyValue
//!   lease    id (8)                                        leasepb.Lease
//!   meta     consistent_index, term                        number (8)
//!            scheduledCompactRev, finishedCompactRev       revision (8) '_' sub (8)
//! ```
//!
//! Numbers in it are big endian. It holds the keys etcd's clients see, every version that is retained, at the
//! revisions they have here; not what layers keep in other spaces, not other tenants, not who the members are. It is
//! made from a snapshot, page by page ([`bolt`]).

pub(crate) mod bolt;

use std::path::Path;

use bytes::{BufMut, Bytes, BytesMut};
use meridian_domain::key::Space;
use meridian_domain::kv::KeyValue;
use meridian_domain::name::TenantId;
use meridian_proto::mvccpb;
use prost::Message;

use crate::disk::Disk;
use crate::fault::Fault;
use crate::machine::outline::Outline;
use crate::row::{At, Rows, Version};
use crate::snapshot::Outgoing;
use bolt::Bolt;

/// etcd's record of a lease.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Lease {
    /// Its number, once more.
    #[prost(int64, tag = "1")]
    pub(crate) id: i64,
    /// In seconds, as granted.
    #[prost(int64, tag = "2")]
    pub(crate) ttl: i64,
    /// In seconds, at the last checkpoint; zero if never taken.
    #[prost(int64, tag = "3")]
    pub(crate) remaining_ttl: i64,
}

/// Writes a tenant into a file at `path` and opens it. The file's name is gone when this returns.
pub fn etcd(
    disk: &dyn Disk,
    path: &Path,
    rows: &mut dyn Rows,
    tenant: TenantId,
) -> Result<Outgoing, Fault> {
    let outline = Outline::read(rows, tenant)?;
    let written = write(disk, path, rows, tenant, &outline);
    let removed = disk.remove(path);
    let outgoing = written?;
    removed.map(|()| outgoing)
}

fn write(
    disk: &dyn Disk,
    path: &Path,
    rows: &mut dyn Rows,
    tenant: TenantId,
    outline: &Outline,
) -> Result<Outgoing, Fault> {
    let applied = rows.applied();
    let mut bolt = Bolt::create(disk, path)?;
    for empty in ["alarm", "cluster"] {
        bolt.bucket(empty).end()?;
    }

    let mut keys = bolt.bucket("key");
    rows.versions(&mut |of, version| {
        if of == tenant && version.space == Space::RAW {
            keys.put(place(&version), value(&version))?;
        }
        Ok(())
    })?;
    keys.end()?;

    let mut leases = bolt.bucket("lease");
    for (id, ttl, remaining_ttl) in &outline.leases {
        let lease = Lease {
            id: *id,
            ttl: *ttl,
            remaining_ttl: *remaining_ttl,
        };
        leases.put(number(*id as u64), lease.encode_to_vec().into())?;
    }
    leases.end()?;

    for empty in ["members", "members_removed"] {
        bolt.bucket(empty).end()?;
    }

    let mut meta = bolt.bucket("meta");
    meta.put("consistent_index".into(), number(applied.index))?;
    if outline.compacted > 0 {
        let at = revision(At {
            revision: outline.compacted,
            sub: 0,
        });
        meta.put("finishedCompactRev".into(), at.clone().freeze())?;
        meta.put("scheduledCompactRev".into(), at.freeze())?;
    }
    meta.put("term".into(), number(applied.term))?;
    meta.end()?;
    Outgoing::of(bolt.finish()?)
}

fn number(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

fn revision(at: At) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(18);
    bytes.put_i64(at.revision);
    bytes.put_u8(b'_');
    bytes.put_i64(i64::from(at.sub));
    bytes
}

fn place(version: &Version) -> Bytes {
    let mut place = revision(version.at);
    if version.after.is_none() {
        place.put_u8(b't');
    }
    place.freeze()
}

fn value(version: &Version) -> Bytes {
    let wire = match version.after.as_deref() {
        None => mvccpb::KeyValue {
            key: version.key.clone(),
            ..mvccpb::KeyValue::default()
        },
        Some(KeyValue {
            key,
            create_revision,
            mod_revision,
            version,
            value,
            lease,
        }) => mvccpb::KeyValue {
            key: key.clone(),
            create_revision: *create_revision,
            mod_revision: *mod_revision,
            version: *version,
            value: value.clone(),
            lease: *lease,
        },
    };
    wire.encode_to_vec().into()
}
