//! What stands around every value of the version store: its format and a checksum, then the seal.
//!
//! ```text
//!  byte 0   format   1
//!       1   kind     'b' block, 'r' chunk of a run, 'm' the table of contents
//!       2   CRC-32 (IEEE, little endian) of: key, format, kind, sealed content
//!       6   content, sealed
//! ```
//!
//! The key is part of the checksum, so that a value under a wrong key is found out. Keys:
//!
//! ```text
//!  'b' tenant (4) revision (8) sub (4)    a block, by its first row
//!  'm'                                    the table of contents
//!  'r' run (8) chunk (4)                  a chunk of a run of facts
//! ```
//!
//! all numbers big endian, so that the order of the keys is the order of the rows.

use std::path::Path;

use bytes::Bytes;
use meridian_domain::name::TenantId;

use crate::fault::Fault;
use crate::row::At;
use crate::seal::Seal;

/// The format of the version store this version of the program writes, and the newest it reads.
pub const FORMAT: u8 = 1;

const HEADER_BYTES: usize = 6;

/// The key of the table of contents.
pub const CONTENTS: &[u8] = b"m";
/// What the keys of blocks begin with.
pub const BLOCK: &[u8] = b"b";
/// What the keys of chunks of runs begin with.
pub const RUN: &[u8] = b"r";

/// The key of a block.
pub fn block_key(tenant: TenantId, first: At) -> Bytes {
    let mut key = Vec::with_capacity(17);
    key.extend_from_slice(BLOCK);
    key.extend_from_slice(&tenant.0.to_be_bytes());
    key.extend_from_slice(&first.revision.to_be_bytes());
    key.extend_from_slice(&first.sub.to_be_bytes());
    key.into()
}

/// What the key of a block says; none if it is no such key.
pub fn parse_block_key(key: &[u8]) -> Option<(TenantId, At)> {
    let rest = key.strip_prefix(BLOCK)?;
    let (tenant, rest) = rest.split_first_chunk::<4>()?;
    let (revision, rest) = rest.split_first_chunk::<8>()?;
    let sub: [u8; 4] = rest.try_into().ok()?;
    let revision = i64::from_be_bytes(*revision);
    let at = At {
        revision,
        sub: u32::from_be_bytes(sub),
    };
    (revision >= 0).then_some((TenantId(u32::from_be_bytes(*tenant)), at))
}

/// The key of a chunk of a run.
pub fn run_key(run: u64, chunk: u32) -> Bytes {
    let mut key = Vec::with_capacity(13);
    key.extend_from_slice(RUN);
    key.extend_from_slice(&run.to_be_bytes());
    key.extend_from_slice(&chunk.to_be_bytes());
    key.into()
}

/// What the key of a chunk says; none if it is no such key.
pub fn parse_run_key(key: &[u8]) -> Option<(u64, u32)> {
    let (run, rest) = key.strip_prefix(RUN)?.split_first_chunk::<8>()?;
    let chunk: [u8; 4] = rest.try_into().ok()?;
    Some((u64::from_be_bytes(*run), u32::from_be_bytes(chunk)))
}

/// Wraps the content of a value for its key.
pub fn wrap(seal: &dyn Seal, key: &[u8], content: Vec<u8>) -> Bytes {
    let kind = key.first().copied().unwrap_or_default();
    let sealed = seal.seal(content.into());
    let mut out = Vec::with_capacity(HEADER_BYTES + sealed.len());
    out.extend_from_slice(&[FORMAT, kind]);
    out.extend_from_slice(&checksum(key, kind, &sealed).to_le_bytes());
    out.extend_from_slice(&sealed);
    out.into()
}

/// Checks a value and takes its content out. `dir` is named in the error.
pub fn unwrap(seal: &dyn Seal, dir: &Path, key: &[u8], value: &Bytes) -> Result<Bytes, Fault> {
    let damaged = |what: &str| damaged(dir, what);
    let kind = key.first().copied().unwrap_or_default();
    let Some((&[format, written_kind, a, b, c, d], sealed)) =
        value.split_first_chunk::<HEADER_BYTES>()
    else {
        return Err(damaged("a value is shorter than its header"));
    };
    if u32::from_le_bytes([a, b, c, d]) != checksum_of(format, key, written_kind, sealed) {
        return Err(damaged("the checksum of a value does not match"));
    }
    if format == 0 {
        return Err(damaged("a value has no format"));
    }
    if format > FORMAT {
        return Err(Fault::NewerFormat {
            path: dir.to_path_buf(),
            found: u32::from(format),
            known: u32::from(FORMAT),
        });
    }
    if written_kind != kind {
        return Err(damaged("a value is of another kind than its key says"));
    }
    seal.open(value.slice(HEADER_BYTES..))
}

/// The fault of a store that does not verify.
pub fn damaged(dir: &Path, what: &str) -> Fault {
    Fault::Damaged {
        path: dir.to_path_buf(),
        offset: 0,
        what: what.into(),
    }
}

/// What a row counts for in the sum of the table of contents.
pub fn row_hash(key: &[u8], value: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(value, xxhash_rust::xxh3::xxh3_64(key))
}

fn checksum(key: &[u8], kind: u8, sealed: &[u8]) -> u32 {
    checksum_of(FORMAT, key, kind, sealed)
}

fn checksum_of(format: u8, key: &[u8], kind: u8, sealed: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(&[format, kind]);
    hasher.update(sealed);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;
    use crate::seal::Plain;

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_value_is_found() {
        let (dir, key) = (Path::new("x"), run_key(7, 1));
        let value = wrap(&Plain, &key, b"hello world".to_vec());
        assert_eq!(unwrap(&Plain, dir, &key, &value).unwrap(), "hello world");
        for bit in 0..value.len() * 8 {
            let mut flipped = value.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(
                unwrap(&Plain, dir, &key, &flipped.into()).is_err(),
                "bit {bit}"
            );
        }
        for length in 0..value.len() {
            assert!(
                unwrap(&Plain, dir, &key, &value.slice(..length)).is_err(),
                "length {length}"
            );
        }
        assert!(
            unwrap(&Plain, dir, &run_key(7, 2), &value).is_err(),
            "under another key"
        );
    }

    #[test]
    fn a_newer_format_is_told_apart_from_damage() {
        let (dir, key) = (Path::new("x"), run_key(7, 1));
        let mut value = wrap(&Plain, &key, b"hello".to_vec()).to_vec();
        value[0] = 2;
        let sum = checksum_of(2, &key, b'r', b"hello");
        value[2..6].copy_from_slice(&sum.to_le_bytes());
        let read = unwrap(&Plain, dir, &key, &value.into());
        assert!(matches!(
            read,
            Err(Fault::NewerFormat {
                found: 2,
                known: 1,
                ..
            })
        ));
    }

    #[test]
    fn keys_are_ordered_as_the_rows_are() {
        let at = |revision, sub| At { revision, sub };
        let ordered = [
            block_key(TenantId(0), at(300, 0)),
            block_key(TenantId(1), at(2, 0)),
            block_key(TenantId(1), at(2, 1)),
            block_key(TenantId(1), at(256, 0)),
            block_key(TenantId(256), at(1, 0)),
            CONTENTS.into(),
            run_key(1, 0),
            run_key(1, 1),
            run_key(256, 0),
        ];
        assert!(ordered.is_sorted());
        assert_eq!(
            parse_block_key(&ordered[3]),
            Some((TenantId(1), at(256, 0)))
        );
        assert_eq!(parse_run_key(&ordered[7]), Some((1, 1)));
        assert_eq!(parse_block_key(b"bshort"), None);
    }
}
