//! The bucket `key`, read in order, each version with the place of the one it replaced.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use meridian_domain::key::Space;
use meridian_domain::kv::{KeyValue, LeaseId};
use meridian_proto::mvccpb;
use prost::Message;

use super::REVISION_MAX;
use super::bolt::Bolt;
use crate::fault::Fault;
use crate::row::{At, Version};

/// What was read so far.
#[derive(Default)]
pub struct Versions {
    /// How many.
    pub read: u64,
    /// The keys that are alive, and the change that made them so.
    last: HashMap<Bytes, (At, LeaseId)>,
}

impl Versions {
    /// Reads all of them, in order.
    pub fn read(
        &mut self,
        bolt: &Bolt,
        each: &mut dyn FnMut(Version) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let nobody: Arc<str> = Arc::from("");
        bolt.bucket("key", &mut |key, value| {
            let version = self
                .next(&key, value, &nobody)
                .map_err(|what| bolt.damaged(0, what))?;
            self.read += 1;
            each(version)
        })
    }

    /// How many keys are alive.
    pub fn alive(&self) -> u64 {
        self.last.len() as u64
    }

    /// The leases keys that are alive hang on, once for each key.
    pub fn leases(&self) -> impl Iterator<Item = LeaseId> {
        let leases = self.last.values().map(|(_, lease)| *lease);
        leases.filter(|lease| *lease != 0)
    }

    fn next(
        &mut self,
        key: &Bytes,
        value: Bytes,
        nobody: &Arc<str>,
    ) -> Result<Version, &'static str> {
        let (at, deleted) = place(key).ok_or("the place of a version can not be read")?;
        let wire = mvccpb::KeyValue::decode(value).map_err(|_| "a version can not be read")?;
        if at.revision > REVISION_MAX || wire.key.is_empty() {
            return Err("a version is not one of etcd's");
        }
        let mut version = Version {
            at,
            space: Space::RAW,
            key: wire.key.clone(),
            after: None,
            prev: None,
            stamp_ms: 0,
            actor: Arc::clone(nobody),
        };
        if deleted {
            version.prev = self.last.remove(&wire.key).map(|(at, _)| at);
            return Ok(version);
        }
        let counted = wire.mod_revision == at.revision
            && (1..=at.revision).contains(&wire.create_revision)
            && wire.version >= 1;
        if !counted {
            return Err("a version contradicts its place");
        }
        // A copy: what is remembered must not keep the page it was read from.
        let place = (at, wire.lease);
        version.prev = match self.last.get_mut(&wire.key) {
            Some(last) => Some(std::mem::replace(last, place).0),
            None => {
                self.last.insert(Bytes::copy_from_slice(&wire.key), place);
                None
            }
        };
        version.after = Some(Arc::new(KeyValue {
            key: wire.key,
            create_revision: wire.create_revision,
            mod_revision: wire.mod_revision,
            version: wire.version,
            value: wire.value,
            lease: wire.lease,
        }));
        Ok(version)
    }
}

/// A place as etcd writes it: revision, `_`, the order inside the transaction, and `t` behind it for a deletion.
pub fn place(mut bytes: &[u8]) -> Option<(At, bool)> {
    let revision = bytes.try_get_i64().ok().filter(|revision| *revision >= 0)?;
    let separated = bytes.try_get_u8().ok()? == b'_';
    let sub = u32::try_from(bytes.try_get_i64().ok()?).ok()?;
    let deleted = match bytes {
        [] => false,
        [b't'] => true,
        _ => return None,
    };
    separated.then_some((At { revision, sub }, deleted))
}
