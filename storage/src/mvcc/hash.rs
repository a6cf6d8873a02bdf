//! A hash over the keys of a tenant at a revision, equal on every member.
//!
//! It covers every version retained at or below the revision: key, place, whether it is alive, and a sum
//! over its content. Which versions are retained is a pure function of the state, so a member that has
//! removed superseded versions and one that has not yet agree.

use meridian_domain::rejection::Rejection;
use meridian_domain::revision::Revision;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::compact;
use super::keyspace::Keyspace;
use super::slot::Past;

/// A hash and what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    /// The hash.
    pub hash: u32,
    /// The compacted revision it was made under.
    pub compacted: Revision,
    /// The revision it goes up to.
    pub revision: Revision,
}

/// Hashes the versions retained at or below `revision`; zero or less is the current one.
pub fn hash_kv(keyspace: &Keyspace, revision: Revision) -> Result<KvHash, Rejection> {
    let compacted = keyspace.compacted();
    let revision = super::range::judge(keyspace, revision)?.unwrap_or(keyspace.revision());
    let mut hash = Xxh3::new();
    for (space, slots) in keyspace.spaces() {
        for slot in slots {
            let Some(first) = compact::first_retained(slot, compacted) else {
                continue;
            };
            let key = xxh3_64(slot.key());
            let mut add = |version: Past| {
                let at = version.at();
                if at >= first && at.revision <= revision {
                    hash.update(&[space.0, u8::from(version.is_alive())]);
                    hash.update(&key.to_le_bytes());
                    hash.update(&at.revision.to_le_bytes());
                    hash.update(&at.sub.to_le_bytes());
                    hash.update(&version.sum().to_le_bytes());
                }
            };
            for past in slot.past() {
                add(*past);
            }
            add(Past::of(slot.newest()));
        }
    }
    let hash = hash.digest();
    Ok(KvHash {
        hash: (hash ^ (hash >> 32)) as u32,
        compacted,
        revision,
    })
}
