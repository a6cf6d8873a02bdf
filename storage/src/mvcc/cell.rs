//! One version of a key, packed into one allocation.
//!
//! ```text
//!   0        8        16       24       32     36      40          40+k
//!   | create | mod    | version| lease  | sub  | k     | key ...   | value ...
//! ```
//!
//! Numbers are little-endian. A tombstone has version 0 and no value. The layout never leaves memory; it
//! exists because a million separate keys, values and structs would cost a third more. It is the same on
//! every machine, so that its checksum may be compared between members.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use meridian_domain::kv::{KeyValue, LeaseId};
use meridian_domain::limits::PUT_OVERHEAD_BYTES;
use meridian_domain::revision::Revision;
use xxhash_rust::xxh3::xxh3_64;

use crate::row::At;

const HEADER: usize = 40;

/// One version of a key: alive, or a tombstone. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Cell(Arc<[u8]>);

impl std::fmt::Debug for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the value: it may be a secret.
        f.debug_struct("Cell")
            .field("at", &self.at())
            .field("alive", &self.is_alive())
            .finish()
    }
}

impl AsRef<[u8]> for Cell {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Cell {
    /// A version that is alive. It lies at `kv.mod_revision` and `sub`.
    pub fn alive(sub: u32, kv: &KeyValue) -> Self {
        Self::pack(
            [kv.create_revision, kv.mod_revision, kv.version, kv.lease],
            sub,
            &kv.key,
            &kv.value,
        )
    }

    /// The end of a generation of `key`.
    pub fn tombstone(at: At, key: &[u8]) -> Self {
        Self::pack([0, at.revision, 0, 0], at.sub, key, &[])
    }

    fn pack(numbers: [i64; 4], sub: u32, key: &[u8], value: &[u8]) -> Self {
        let mut packed = Vec::with_capacity(HEADER + key.len() + value.len());
        for number in numbers {
            packed.extend_from_slice(&number.to_le_bytes());
        }
        packed.extend_from_slice(&sub.to_le_bytes());
        packed.extend_from_slice(&(key.len() as u32).to_le_bytes());
        packed.extend_from_slice(key);
        packed.extend_from_slice(value);
        Self(Arc::from(packed))
    }

    fn number(&self, place: usize) -> i64 {
        let bytes = self
            .0
            .get(place * 8..)
            .and_then(|rest| rest.first_chunk::<8>());
        bytes.map_or(0, |b| i64::from_le_bytes(*b))
    }

    fn short(&self, at: usize) -> u32 {
        let bytes = self.0.get(at..).and_then(|rest| rest.first_chunk::<4>());
        bytes.map_or(0, |b| u32::from_le_bytes(*b))
    }

    fn key_len(&self) -> usize {
        self.short(36) as usize
    }

    /// The revision the generation began at; zero for a tombstone.
    pub fn create_revision(&self) -> Revision {
        self.number(0)
    }

    /// The revision of this version.
    pub fn mod_revision(&self) -> Revision {
        self.number(1)
    }

    /// The writes the generation has seen; zero for a tombstone.
    pub fn version(&self) -> i64 {
        self.number(2)
    }

    /// The lease, or zero.
    pub fn lease(&self) -> LeaseId {
        self.number(3)
    }

    /// Where the version lies.
    pub fn at(&self) -> At {
        At {
            revision: self.mod_revision(),
            sub: self.short(32),
        }
    }

    /// Whether this is not a tombstone.
    pub fn is_alive(&self) -> bool {
        self.version() != 0
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        self.0
            .get(HEADER..HEADER + self.key_len())
            .unwrap_or_default()
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        self.0.get(HEADER + self.key_len()..).unwrap_or_default()
    }

    /// What it costs against the tenant's quota, in bytes; nothing for a tombstone.
    pub fn cost(&self) -> u64 {
        if self.is_alive() {
            cost(self.key().len(), self.value().len())
        } else {
            0
        }
    }

    /// A sum over everything in it, equal on every member.
    pub fn checksum(&self) -> u64 {
        xxh3_64(&self.0)
    }

    /// The version as the rest of the system knows it. Key and value share this cell's memory.
    pub fn to_key_value(&self) -> KeyValue {
        let mut rest = Bytes::from_owner(self.clone());
        rest.advance(HEADER.min(rest.len()));
        let key = rest.split_to(self.key_len().min(rest.len()));
        self.with(key, rest)
    }

    /// As [`Cell::to_key_value`], without the value.
    pub fn to_key_only(&self) -> KeyValue {
        self.with(Bytes::copy_from_slice(self.key()), Bytes::new())
    }

    /// The numbers alone, with neither key nor value: for compares that look at numbers.
    pub fn to_numbers(&self) -> KeyValue {
        self.with(Bytes::new(), Bytes::new())
    }

    fn with(&self, key: Bytes, value: Bytes) -> KeyValue {
        KeyValue {
            key,
            create_revision: self.create_revision(),
            mod_revision: self.mod_revision(),
            version: self.version(),
            value,
            lease: self.lease(),
        }
    }
}

/// What a key costs against a quota, in bytes.
pub fn cost(key: usize, value: usize) -> u64 {
    key as u64 + value as u64 + PUT_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> KeyValue {
        KeyValue {
            key: Bytes::from_static(b"key"),
            create_revision: 7,
            mod_revision: i64::MAX,
            version: 3,
            value: Bytes::from_static(b"\0value"),
            lease: -9,
        }
    }

    #[test]
    fn a_cell_gives_back_what_was_packed() {
        let cell = Cell::alive(5, &sample());
        assert_eq!(cell.to_key_value(), sample());
        assert_eq!(
            cell.at(),
            At {
                revision: i64::MAX,
                sub: 5
            }
        );
        assert_eq!((cell.key(), cell.value()), (&b"key"[..], &b"\0value"[..]));
        assert!(cell.is_alive());
        assert_eq!(cell.cost(), 3 + 6 + 256);
    }

    #[test]
    fn a_tombstone_has_a_key_and_costs_nothing() {
        let cell = Cell::tombstone(
            At {
                revision: 9,
                sub: 1,
            },
            b"key",
        );
        assert!(!cell.is_alive());
        assert_eq!(
            (cell.key(), cell.value(), cell.cost()),
            (&b"key"[..], &b""[..], 0)
        );
        assert_eq!(
            cell.at(),
            At {
                revision: 9,
                sub: 1
            }
        );
    }

    #[test]
    fn the_checksum_sees_every_field() {
        let base = Cell::alive(0, &sample()).checksum();
        let mut others = vec![sample(); 6];
        others[0].key = Bytes::from_static(b"kez");
        others[1].create_revision += 1;
        others[2].mod_revision -= 1;
        others[3].version += 1;
        others[4].value = Bytes::from_static(b"\0valuf");
        others[5].lease += 1;
        for other in &others {
            assert_ne!(Cell::alive(0, other).checksum(), base);
        }
        assert_ne!(Cell::alive(1, &sample()).checksum(), base);
    }
}
