//! Versions packed one after another: the encoding that blocks and snapshot chunks share.
//!
//! Each row says only how it differs from the one before, so a row of 64 + 256 bytes takes about 15 bytes
//! more than its key and value. Numbers are variable length (seven bits a byte, lowest first); signed ones are
//! folded first (0, -1, 1, -2, ... as 0, 1, 2, 3, ...).
//!
//! ```text
//! row :=  revision - previous row's revision
//!         sub
//!         flags             one byte, below
//!         [space]           one byte, if SPACE; else 0
//!         key length, key
//!         stamp - previous row's stamp, signed
//!         [actor length, actor]                    if ACTOR; else the previous row's
//!         [revision - prev's revision, prev's sub] if PREV
//!         [revision - create revision, signed      if AFTER
//!          revision - mod revision, signed
//!          version, signed
//!          lease, signed                           if LEASE; else 0
//!          value length, value]
//! ```
//!
//! The first row of a block or chunk differs from zeros and an empty actor, so each can be read alone. The
//! encoding is canonical: the same rows make the same bytes on every member.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use meridian_domain::key::Space;
use meridian_domain::kv::KeyValue;

use crate::row::{At, Version};

const AFTER: u8 = 1;
const PREV: u8 = 2;
const ACTOR: u8 = 4;
const SPACE: u8 = 8;
const LEASE: u8 = 16;
const KNOWN: u8 = AFTER | PREV | ACTOR | SPACE | LEASE;

/// Packs rows.
#[derive(Debug)]
pub struct Packer {
    out: Vec<u8>,
    revision: i64,
    stamp_ms: u64,
    actor: Arc<str>,
}

impl Packer {
    /// A packer that appends to `out`.
    pub fn new(out: Vec<u8>) -> Self {
        Self {
            out,
            revision: 0,
            stamp_ms: 0,
            actor: Arc::from(""),
        }
    }

    /// Appends a row. Its key and that of the value after are one and the same.
    pub fn push(&mut self, row: &Version) {
        let at = row.at;
        put_number(
            &mut self.out,
            at.revision.wrapping_sub(self.revision) as u64,
        );
        put_number(&mut self.out, u64::from(at.sub));
        let new_actor = *row.actor != *self.actor;
        let lease = row.after.as_ref().map_or(0, |kv| kv.lease);
        let flag = |on: bool, flag: u8| if on { flag } else { 0 };
        self.out.push(
            flag(row.after.is_some(), AFTER)
                | flag(row.prev.is_some(), PREV)
                | flag(new_actor, ACTOR)
                | flag(row.space.0 != 0, SPACE)
                | flag(lease != 0, LEASE),
        );
        if row.space.0 != 0 {
            self.out.push(row.space.0);
        }
        put_bytes(&mut self.out, &row.key);
        put_signed(
            &mut self.out,
            row.stamp_ms.wrapping_sub(self.stamp_ms) as i64,
        );
        if new_actor {
            put_bytes(&mut self.out, row.actor.as_bytes());
            self.actor = Arc::clone(&row.actor);
        }
        if let Some(prev) = row.prev {
            put_number(
                &mut self.out,
                at.revision.wrapping_sub(prev.revision) as u64,
            );
            put_number(&mut self.out, u64::from(prev.sub));
        }
        if let Some(kv) = &row.after {
            put_signed(&mut self.out, at.revision.wrapping_sub(kv.create_revision));
            put_signed(&mut self.out, at.revision.wrapping_sub(kv.mod_revision));
            put_signed(&mut self.out, kv.version);
            if lease != 0 {
                put_signed(&mut self.out, lease);
            }
            put_bytes(&mut self.out, &kv.value);
        }
        self.revision = at.revision;
        self.stamp_ms = row.stamp_ms;
    }

    /// Starts over: the next row is packed as the first one.
    pub fn forget_previous(&mut self) {
        (self.revision, self.stamp_ms) = (0, 0);
        self.actor = Arc::from("");
    }

    /// What was packed so far, with what was there before.
    pub fn bytes(&self) -> &[u8] {
        &self.out
    }

    /// To append something that is not a row.
    pub fn raw(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Gives the bytes away.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// Whether rows that are read share the memory they are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// They do: right for a block that is held anyway. One row keeps the whole block alive.
    Shared,
    /// Keys and values are copies of their own: right for rows that outlive their neighbours.
    Own,
}

/// Reads packed rows. Total: any bytes give rows or an error, never a panic.
#[derive(Debug)]
pub struct Unpacker {
    rest: Bytes,
    memory: Memory,
    revision: i64,
    stamp_ms: u64,
    actor: Arc<str>,
}

/// Says what does not hold of packed bytes.
pub type Malformed = &'static str;

impl Unpacker {
    /// Reads from `bytes`.
    pub fn new(bytes: Bytes, memory: Memory) -> Self {
        Self {
            rest: bytes,
            memory,
            revision: 0,
            stamp_ms: 0,
            actor: Arc::from(""),
        }
    }

    /// The next row.
    pub fn row(&mut self) -> Result<Version, Malformed> {
        let at = At {
            revision: self.revision.wrapping_add(self.number()? as i64),
            sub: self.small_number()?,
        };
        if at.revision < 0 {
            return Err("a revision is out of range");
        }
        let flags = self.byte()?;
        if flags & !KNOWN != 0 {
            return Err("a row has an unknown flag");
        }
        let space = Space(if flags & SPACE == 0 { 0 } else { self.byte()? });
        let key = self.bytes()?;
        let stamp_ms = self.stamp_ms.wrapping_add(self.signed()? as u64);
        if flags & ACTOR != 0 {
            let actor = self.slice()?;
            let actor = std::str::from_utf8(&actor).map_err(|_| "an actor is not text")?;
            self.actor = Arc::from(actor);
        }
        let prev = if flags & PREV == 0 {
            None
        } else {
            let revision = at.revision.wrapping_sub(self.number()? as i64);
            Some(At {
                revision,
                sub: self.small_number()?,
            })
        };
        let after = if flags & AFTER == 0 {
            None
        } else {
            Some(Arc::new(KeyValue {
                key: key.clone(),
                create_revision: at.revision.wrapping_sub(self.signed()?),
                mod_revision: at.revision.wrapping_sub(self.signed()?),
                version: self.signed()?,
                lease: if flags & LEASE == 0 {
                    0
                } else {
                    self.signed()?
                },
                value: self.bytes()?,
            }))
        };
        (self.revision, self.stamp_ms) = (at.revision, stamp_ms);
        Ok(Version {
            at,
            space,
            key,
            after,
            prev,
            stamp_ms,
            actor: Arc::clone(&self.actor),
        })
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        self.rest.try_get_u8().map_err(|_| "it ends inside a row")
    }

    /// The next number.
    pub fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a number is out of range")
    }

    /// The next number, which fits 32 bits.
    pub fn small_number(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.number()?).map_err(|_| "a number is out of range")
    }

    fn signed(&mut self) -> Result<i64, Malformed> {
        let folded = self.number()?;
        Ok((folded >> 1) as i64 ^ -((folded & 1) as i64))
    }

    /// The next byte string, in the memory asked for.
    pub fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let shared = self.slice()?;
        Ok(match self.memory {
            Memory::Shared => shared,
            Memory::Own => Bytes::copy_from_slice(&shared),
        })
    }

    fn slice(&mut self) -> Result<Bytes, Malformed> {
        let length = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        if length > self.rest.len() {
            return Err("it ends inside a row");
        }
        Ok(self.rest.split_to(length))
    }

    /// Starts over, as [`Packer::forget_previous`] does.
    pub fn forget_previous(&mut self) {
        (self.revision, self.stamp_ms) = (0, 0);
        self.actor = Arc::from("");
    }
}

/// Appends a number, seven bits a byte, lowest first.
pub fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_number(out, ((number << 1) ^ (number >> 63)) as u64);
}

/// Appends a length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn row()(
            step in 0i64..1 << 40, sub in any::<u32>(), space in any::<u8>(),
            key in proptest::collection::vec(any::<u8>(), 0..20),
            value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..50)),
            prev in proptest::option::of((0i64..1 << 50, any::<u32>())),
            numbers in any::<(i64, i64, i64, i64)>(),
            stamp_ms in any::<u64>(), actor in "[a-c]{0,2}",
        ) -> Version {
            let key = Bytes::from(key);
            let (create_revision, mod_revision, version, lease) = numbers;
            let after = value.map(|value| Arc::new(KeyValue {
                key: key.clone(), create_revision, mod_revision, version, lease, value: value.into(),
            }));
            let prev = prev.map(|(revision, sub)| At { revision, sub });
            let at = At { revision: step, sub };
            Version { at, space: Space(space), key, after, prev, stamp_ms, actor: actor.into() }
        }
    }

    proptest! {
           #[test]
           fn what_was_packed_is_read_back(mut rows in proptest::collection::vec(row(), 1..8)) {
               let mut revision = 0;
               for row in &mut rows {
                   revision += row.at.revision;
                   row.at.revision = revision;
               }
               let mut packer = Packer::new(Vec::new());
               for row in &rows {
    packer.push(row);
    }
               let packed = Bytes::from(packer.finish());
               for memory in [Memory::Shared, Memory::Own] {
                   let mut unpacker = Unpacker::new(packed.clone(), memory);
                   for row in &rows {
                       prop_assert_eq!(&unpacker.row().unwrap(), row);
                   }
                   prop_assert!(unpacker.is_empty());
               }
           }

           #[test]
           fn any_bytes_give_rows_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
               let mut unpacker = Unpacker::new(bytes.into(), Memory::Shared);
               while !unpacker.is_empty() {
                   if unpacker.row().is_err() {
                       break;
                   }
               }
           }
       }

    #[test]
    fn numbers_of_every_length_are_read_back() {
        for number in (0..64)
            .flat_map(|bit| [1u64 << bit, (1 << bit) - 1])
            .chain([u64::MAX])
        {
            let mut out = Vec::new();
            put_number(&mut out, number);
            assert_eq!(
                Unpacker::new(out.into(), Memory::Shared).number().unwrap(),
                number
            );
        }
        let too_long = Bytes::from_static(&[0xff; 11]);
        assert!(Unpacker::new(too_long, Memory::Shared).number().is_err());
    }
}
