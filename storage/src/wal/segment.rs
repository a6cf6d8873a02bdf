//! A segment: a file of records, made full of zeros, bound to its number.
//!
//! A file gets its final name only when its header and its checkpoint are flushed, so a segment without them
//! is damaged and never "just being made". The header also says where and with which checksum the segment
//! before ended: a segment that is cut short, or lost, is seen.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::record::{self, Binding, Draft, Fields, HEADER_BYTES, Header, Kind, Parsed};
use super::spares::Spare;
use super::standing::Standing;
use crate::disk::{Disk, File};
use crate::fault::Fault;
use crate::seal::Seal;

/// The newest format this version reads and writes.
pub const FORMAT: u32 = 1;

/// Bytes of the segment's header.
pub const HEAD_BYTES: usize = 64;

/// What every segment begins with.
pub const MAGIC: [u8; 8] = *b"MERIDWAL";

/// How much is read at a time while walking.
const WINDOW_BYTES: usize = 1024 * 1024;

/// A segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Number and salt.
    pub binding: Binding,
    /// The size the file was made with, in bytes.
    pub capacity: u32,
    /// Where the segment before ended; 0 if this is the first.
    pub before_end: u32,
    /// The last header checksum of the segment before.
    pub before_chain: u32,
}

impl Head {
    /// The header's bytes, and its checksum, where the chain of the segment begins.
    pub fn encode(&self) -> (Vec<u8>, u32) {
        let mut out = Vec::with_capacity(HEAD_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&self.capacity.to_le_bytes());
        out.extend_from_slice(&self.binding.segment.to_le_bytes());
        out.extend_from_slice(&self.binding.salt.to_le_bytes());
        out.extend_from_slice(&self.before_end.to_le_bytes());
        out.extend_from_slice(&self.before_chain.to_le_bytes());
        out.resize(HEAD_BYTES - 4, 0);
        let sum = crc32fast::hash(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        (out, sum)
    }

    /// Reads and verifies the header of the segment that should be `number`. The place of the format and of
    /// the checksum is the same in every format, so that damage is never taken for a newer format.
    pub fn read(file: &dyn File, number: u64) -> Result<(Self, u32), Fault> {
        let damaged = |what: &str| Fault::Damaged {
            path: file.path().to_path_buf(),
            offset: 0,
            what: what.into(),
        };
        let mut bytes = [0; HEAD_BYTES];
        file.read_exact_at(&mut bytes, 0)?;
        let mut fields = Fields(&bytes);
        let magic: [u8; 8] = fields.take();
        let format = fields.u32();
        let capacity = fields.u32();
        let binding = Binding {
            segment: fields.u64(),
            salt: fields.u64(),
        };
        let (before_end, before_chain) = (fields.u32(), fields.u32());
        let reserved: [u8; 20] = fields.take();
        let sum = fields.u32();
        let (covered, _) = bytes.split_at(HEAD_BYTES - 4);
        if magic != MAGIC {
            return Err(damaged("it does not begin like a segment of the log"));
        }
        if crc32fast::hash(covered) != sum {
            return Err(damaged(
                "the checksum of the segment's header does not hold",
            ));
        }
        if format > FORMAT {
            let path = file.path().to_path_buf();
            return Err(Fault::NewerFormat {
                path,
                found: format,
                known: FORMAT,
            });
        }
        if format == 0 || reserved != [0; 20] || binding.segment != number {
            return Err(damaged(
                "the header is another segment's, or of no known format",
            ));
        }
        if file.size()? < u64::from(capacity) {
            return Err(damaged(&format!(
                "the file is shorter than its {capacity} bytes"
            )));
        }
        Ok((
            Self {
                binding,
                capacity,
                before_end,
                before_chain,
            },
            sum,
        ))
    }
}

/// A segment that is open.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Its header.
    pub head: Head,
    /// Its file.
    pub file: Arc<dyn File>,
}

/// The bytes a new segment begins with: header and checkpoint. Also returns the chain after them.
pub fn opening(head: &Head, standing: &Standing, seal: &dyn Seal) -> (Vec<u8>, u32) {
    let (mut out, chain) = head.encode();
    let draft = Draft {
        kind: Kind::Checkpoint,
        entry_kind: 0,
        log_id: None,
        offset: HEAD_BYTES as u32,
        flushed: 0,
        chain,
    };
    let body = seal.seal(standing.encode());
    let chain = record::encode(&mut out, head.binding, &draft, &body);
    (out, chain)
}

/// What a segment that was just begun looks like.
#[derive(Debug)]
pub struct Begun {
    /// The segment.
    pub segment: Segment,
    /// Where its first record after the checkpoint will begin.
    pub end: u32,
    /// The chain there.
    pub chain: u32,
}

/// Turns a spare into a segment: writes header and checkpoint, flushes them, then gives it its name.
pub fn begin(
    disk: &dyn Disk,
    dir: &Path,
    spare: Spare,
    head: Head,
    standing: &Standing,
    seal: &dyn Seal,
) -> Result<Begun, Fault> {
    let (bytes, chain) = opening(&head, standing, seal);
    spare.file.write_at(&bytes, 0)?;
    spare.file.sync_data()?;
    disk.rename(&spare.path, &path(dir, head.binding.segment))?;
    disk.sync_dir(dir)?;
    Ok(Begun {
        segment: Segment {
            head,
            file: spare.file,
        },
        end: bytes.len() as u32,
        chain,
    })
}

/// A number nobody can guess, so that no value a client writes can look like a record.
pub fn salt() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// The file name of a segment.
pub fn name(number: u64) -> String {
    format!("{number:016x}.wal")
}

/// The path of a segment.
pub fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(name(number))
}

/// The number in a segment's file name; none if it is not one.
pub fn number_of(file_name: &str) -> Option<u64> {
    let digits = file_name
        .strip_suffix(".wal")
        .filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16)
        .ok()
        .filter(|number| name(*number) == file_name)
}

/// What a walk meets next.
#[derive(Debug)]
pub enum Met {
    /// A record that verifies, with its sealed body.
    Record(Header, Bytes),
    /// Zeros, or the end of the file.
    Nothing,
    /// Something that does not verify; with its header if that does.
    Bad(Option<Header>, &'static str),
}

/// Reads a segment from its first record on, in order.
#[derive(Debug)]
pub struct Walk<'a> {
    segment: &'a Segment,
    size: u64,
    position: u64,
    chain: u32,
    window: Vec<u8>,
    window_at: u64,
}

impl<'a> Walk<'a> {
    /// A walk that begins behind the header, whose checksum is `chain`.
    pub fn new(segment: &'a Segment, chain: u32) -> Result<Self, Fault> {
        let size = segment.file.size()?.min(u64::from(u32::MAX));
        let (window, window_at) = (Vec::new(), 0);
        let position = HEAD_BYTES as u64;
        Ok(Self {
            segment,
            size,
            position,
            chain,
            window,
            window_at,
        })
    }

    /// Where the next record begins.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The header checksum of the last record.
    pub fn chain(&self) -> u32 {
        self.chain
    }

    /// What comes next. Moves on only over a record that verifies and continues the chain.
    pub fn step(&mut self) -> Result<Met, Fault> {
        let binding = self.segment.head.binding;
        let position = self.position;
        let head = self.bytes(position, HEADER_BYTES)?;
        let header = match record::parse(head, binding, position) {
            Parsed::Empty => return Ok(Met::Nothing),
            Parsed::Invalid(_) if head.iter().all(|b| *b == 0) => return Ok(Met::Nothing),
            Parsed::Invalid(why) => return Ok(Met::Bad(None, why)),
            Parsed::Header(header) => header,
        };
        if header.chain != self.chain {
            return Ok(Met::Bad(
                Some(header),
                "the record does not continue the one before",
            ));
        }
        let whole = self.bytes(position, header.record_len())?;
        let Some(body) = record::body(whole, binding, &header) else {
            return Ok(Met::Bad(
                Some(header),
                "the checksum of the body does not hold",
            ));
        };
        let body = Bytes::copy_from_slice(body);
        self.pass(&header);
        Ok(Met::Record(header, body))
    }

    /// Goes on behind a record, whatever its body is.
    pub fn pass(&mut self, header: &Header) {
        self.position = header.end();
        self.chain = header.sum;
    }

    /// Goes on at a header found by [`Walk::find`], as if what precedes it had been read.
    pub fn jump(&mut self, header: &Header) {
        self.position = u64::from(header.offset);
        self.chain = header.chain;
    }

    /// The first header that verifies at or behind `from`. Zeros are passed quickly. Also says where the
    /// last byte that is not zero ended, over what was looked at.
    pub fn find(&mut self, from: u64) -> Result<(Option<Header>, u64), Fault> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let binding = self.segment.head.binding;
        let mut at = from.next_multiple_of(record::ALIGNMENT as u64);
        let mut written_to = from;
        while at < self.size {
            let chunk = self.bytes(at, ZEROS.len())?;
            if ZEROS.starts_with(chunk) {
                at += ZEROS.len() as u64;
                continue;
            }
            let step = chunk.get(..record::ALIGNMENT).unwrap_or(chunk);
            if let Some(last) = step.iter().rposition(|b| *b != 0) {
                written_to = at + last as u64 + 1;
                if step.starts_with(&record::MARK) {
                    let head = self.bytes(at, HEADER_BYTES)?;
                    if let Parsed::Header(header) = record::parse(head, binding, at) {
                        return Ok((Some(header), written_to));
                    }
                }
            }
            at += record::ALIGNMENT as u64;
        }
        Ok((None, written_to))
    }

    /// Up to `len` bytes of the file from `at`; fewer at its end.
    fn bytes(&mut self, at: u64, len: usize) -> Result<&[u8], Fault> {
        let end = (at + len as u64).min(self.size);
        if at < self.window_at || end > self.window_at + self.window.len() as u64 {
            let wanted = (len.max(WINDOW_BYTES) as u64).min(self.size.saturating_sub(at));
            self.window.clear();
            self.window.resize(wanted as usize, 0);
            self.window_at = at;
            self.segment.file.read_exact_at(&mut self.window, at)?;
        }
        let start = (at - self.window_at) as usize;
        let stop = (end.max(at) - self.window_at) as usize;
        Ok(self.window.get(start..stop).unwrap_or(&[]))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::disk::FaultyDisk;

    #[test]
    fn only_exact_names_are_segments() {
        assert_eq!(number_of(&name(0x2a)), Some(0x2a));
        for other in [
            "2a.wal",
            "000000000000002A.wal",
            "000000000000002a.wa",
            "+00000000000002a.wal",
        ] {
            assert_eq!(number_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let disk = FaultyDisk::new();
        disk.create_dir_all(Path::new("/d")).unwrap();
        let path = path(Path::new("/d"), 1);
        let file = disk.create(&path).unwrap();
        let binding = Binding {
            segment: 1,
            salt: 5,
        };
        let head = Head {
            binding,
            capacity: 64,
            before_end: 0,
            before_chain: 0,
        };
        let (bytes, sum) = head.encode();
        file.write_at(&bytes, 0).unwrap();
        assert_eq!(Head::read(&*file, 1).unwrap(), (head, sum));
        assert!(matches!(Head::read(&*file, 2), Err(Fault::Damaged { .. })));
        for bit in 0..HEAD_BYTES * 8 {
            let bad = disk.fork();
            bad.flip(&path, bit / 8, (bit % 8) as u8);
            let file = bad.open(&path).unwrap();
            assert!(
                matches!(Head::read(&*file, 1), Err(Fault::Damaged { .. })),
                "bit {bit}"
            );
        }
        let mut newer = bytes;
        if let Some(format) = newer.get_mut(8) {
            *format = 2;
        }
        newer.truncate(HEAD_BYTES - 4);
        let sum = crc32fast::hash(&newer);
        newer.extend_from_slice(&sum.to_le_bytes());
        file.write_at(&newer, 0).unwrap();
        assert!(matches!(
            Head::read(&*file, 1),
            Err(Fault::NewerFormat { found: 2, .. })
        ));
    }
}
