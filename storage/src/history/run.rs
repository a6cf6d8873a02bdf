//! Runs: facts and marks, written many at a time.
//!
//! A fact is overwritten in place, but one value of the backend for each would cost its 20 us for every
//! request id and every counter of every batch. So each batch of facts is written as one sorted *run*, and
//! runs are merged as they pile up: a later run wins over an earlier one, and a run swallows the one before it
//! unless that is more than twice as large. So there are never more than about twenty, and a fact is
//! rewritten a logarithmic number of times.
//!
//! ```text
//!   run 3 (large) | run 7 | run 9 | run 10 (newest)      run 10 >= half of run 9: merged into run 11
//! ```
//!
//! A run is cut into chunks, one value each: entries `key length, key, 0` (removed) or
//! `key length, key, 1, value length, value`, ascending by key, numbers as in `packed.rs`. The first byte of
//! an entry's key says what it is:
//!
//! ```text
//!  0  a fact; the rest is its key
//!  1  a mark: the version at tenant (4) revision (8) sub (4) was dropped, though its block still holds it
//!  2  a mark: tenant (4) was removed, though blocks of it are still there
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use meridian_domain::name::TenantId;

use super::envelope::{self, damaged};
use super::packed::{Memory, Unpacker, put_bytes};
use crate::fault::Fault;
use crate::row::At;
use crate::seal::Seal;

/// A chunk of a run is closed once it has this many bytes.
const CHUNK_BYTES: usize = 8 << 10;

const FACT: u8 = 0;
const DROPPED: u8 = 1;
const REMOVED: u8 = 2;

/// Entries by key; none removes.
pub type Entries = BTreeMap<Bytes, Option<Bytes>>;

/// A run that lies in the backend.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its number; later ones are newer.
    pub id: u64,
    /// What each chunk counts for in the sum of the table of contents, in order.
    pub chunks: Vec<u64>,
    /// Its size, in bytes.
    pub bytes: usize,
}

/// The entry of a fact.
pub fn fact_key(key: &[u8]) -> Bytes {
    [&[FACT], key].concat().into()
}

/// The entry that says a version was dropped.
pub fn dropped_key(tenant: TenantId, at: At) -> Bytes {
    let mut key = Vec::with_capacity(17);
    key.push(DROPPED);
    key.extend_from_slice(&tenant.0.to_be_bytes());
    key.extend_from_slice(&at.revision.to_be_bytes());
    key.extend_from_slice(&at.sub.to_be_bytes());
    key.into()
}

/// The entry that says a tenant was removed.
pub fn removed_key(tenant: TenantId) -> Bytes {
    let [a, b, c, d] = tenant.0.to_be_bytes();
    Bytes::copy_from_slice(&[REMOVED, a, b, c, d])
}

/// What an entry is.
#[derive(Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A fact, by its key.
    Fact(Bytes),
    /// A version that was dropped.
    Dropped(TenantId, At),
    /// A tenant that was removed.
    Removed(TenantId),
}

/// What the key of an entry says.
pub fn meaning(key: &Bytes) -> Option<Meaning> {
    let (kind, rest) = key.split_first()?;
    match *kind {
        FACT => Some(Meaning::Fact(key.slice(1..))),
        REMOVED => Some(Meaning::Removed(TenantId(u32::from_be_bytes(
            rest.try_into().ok()?,
        )))),
        DROPPED => {
            let (tenant, rest) = rest.split_first_chunk::<4>()?;
            let (revision, rest) = rest.split_first_chunk::<8>()?;
            let sub = u32::from_be_bytes(rest.try_into().ok()?);
            let at = At {
                revision: i64::from_be_bytes(*revision),
                sub,
            };
            Some(Meaning::Dropped(TenantId(u32::from_be_bytes(*tenant)), at))
        }
        _ => None,
    }
}

/// Packs entries into the chunks of a run: keys and values for the backend.
pub fn pack(seal: &dyn Seal, id: u64, entries: &Entries) -> (Run, Vec<(Bytes, Bytes)>) {
    let mut run = Run {
        id,
        chunks: Vec::new(),
        bytes: 0,
    };
    let mut rows = Vec::new();
    let mut content = Vec::new();
    let mut close = |content: &mut Vec<u8>| {
        let key = envelope::run_key(id, rows.len() as u32);
        let value = envelope::wrap(seal, &key, std::mem::take(content));
        run.chunks.push(envelope::row_hash(&key, &value));
        run.bytes += value.len();
        rows.push((key, value));
    };
    for (key, value) in entries {
        put_bytes(&mut content, key);
        match value {
            None => content.push(0),
            Some(value) => {
                content.push(1);
                put_bytes(&mut content, value);
            }
        }
        if content.len() >= CHUNK_BYTES {
            close(&mut content);
        }
    }
    if !content.is_empty() {
        close(&mut content);
    }
    (run, rows)
}

/// Checks a chunk and adds its entries to `into`, where later ones win.
pub fn read(
    seal: &dyn Seal,
    dir: &Path,
    key: &[u8],
    value: &Bytes,
    into: &mut Entries,
) -> Result<(), Fault> {
    let content = envelope::unwrap(seal, dir, key, value)?;
    let malformed = |what| damaged(dir, what);
    let mut rest = Unpacker::new(content, Memory::Own);
    while !rest.is_empty() {
        let key = rest.bytes().map_err(malformed)?;
        let value = match rest.byte().map_err(malformed)? {
            0 => None,
            1 => Some(rest.bytes().map_err(malformed)?),
            _ => return Err(malformed("an entry is neither there nor removed")),
        };
        into.insert(key, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::seal::Plain;

    #[test]
    fn a_run_is_cut_into_chunks_and_read_back() {
        let entries: Entries = (0..2000u32)
            .map(|n| {
                let value = (n % 3 != 0).then(|| Bytes::from(vec![n as u8; (n % 50) as usize]));
                (fact_key(&n.to_be_bytes()), value)
            })
            .collect();
        let (run, rows) = pack(&Plain, 9, &entries);
        assert!(run.chunks.len() > 3);
        assert_eq!(run.chunks.len(), rows.len());
        let mut back = Entries::new();
        for (key, value) in &rows {
            read(&Plain, Path::new("x"), key, value, &mut back).unwrap();
        }
        assert_eq!(back, entries);
    }

    #[test]
    fn an_entry_says_what_it_is() {
        let at = At {
            revision: 77,
            sub: 3,
        };
        let tenant = TenantId(5);
        assert_eq!(
            meaning(&fact_key(b"abc")),
            Some(Meaning::Fact("abc".into()))
        );
        assert_eq!(
            meaning(&dropped_key(tenant, at)),
            Some(Meaning::Dropped(tenant, at))
        );
        assert_eq!(
            meaning(&removed_key(tenant)),
            Some(Meaning::Removed(tenant))
        );
        assert_eq!(meaning(&Bytes::from_static(b"\x01abc")), None);
        assert_eq!(meaning(&Bytes::new()), None);
    }
}
