//! One record: a header that names it, and a sealed body.
//!
//! The layout is drawn in the chapter of [`super`]. The header has a checksum of its own, so that a record
//! whose body is damaged can still be named by term and index and fetched from a peer. Its checksum is also
//! the link of the chain: the next record carries it.

use meridian_domain::revision::LogId;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 56;

/// Records begin at multiples of this many bytes.
pub const ALIGNMENT: usize = 8;

/// What every record begins with, so that a scan can find it.
pub const MARK: [u8; 4] = *b"MREC";

/// The largest body, in bytes. Far above any entry; a bound for buffers and for 32-bit offsets.
pub const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;

const FLAG_HAS_LOG_ID: u16 = 1;

/// What a record is about. The numbers are the format's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// An entry of the replicated log.
    Entry = 1,
    /// A vote; the body is opaque.
    Vote = 2,
    /// Entries up to here are known to be committed.
    Committed = 3,
    /// Entries after here are gone.
    Truncated = 4,
    /// Entries up to here are covered by a snapshot.
    Purged = 5,
    /// Nothing happened for a while: proves that everything before it had been flushed.
    Settled = 6,
    /// Everything but the entries, at the beginning of a segment.
    Checkpoint = 7,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Entry,
            2 => Self::Vote,
            3 => Self::Committed,
            4 => Self::Truncated,
            5 => Self::Purged,
            6 => Self::Settled,
            7 => Self::Checkpoint,
            _ => return None,
        })
    }
}

/// What ties a record to its file: a sector that belongs elsewhere, or to an earlier life of the file, does
/// not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The number of the segment.
    pub segment: u64,
    /// The random number the segment was made with.
    pub salt: u64,
}

/// A header, decoded and verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the record is about.
    pub kind: Kind,
    /// For entries, what the entry is; 0 otherwise.
    pub entry_kind: u8,
    /// Bytes of the sealed body.
    pub body_len: u32,
    /// Where the record begins in its segment.
    pub offset: u32,
    /// The position it is about, if it is about one.
    pub log_id: Option<LogId>,
    /// Up to where the segment had been flushed when this was written.
    pub flushed: u32,
    /// The header checksum of the record before.
    pub chain: u32,
    /// The checksum of the sealed body.
    pub body_sum: u32,
    /// The checksum of this header, the next record's `chain`.
    pub sum: u32,
}

impl Header {
    /// Bytes of the whole record with its padding.
    pub fn record_len(&self) -> usize {
        record_len(self.body_len as usize)
    }

    /// Where the next record begins.
    pub fn end(&self) -> u64 {
        u64::from(self.offset) + self.record_len() as u64
    }
}

/// Bytes of a record with a body of `body_len` bytes, padded.
pub fn record_len(body_len: usize) -> usize {
    (HEADER_BYTES + body_len).next_multiple_of(ALIGNMENT)
}

/// What stands at a place where a record may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Zeros: nothing was written here.
    Empty,
    /// A header that verifies; the body is not looked at.
    Header(Header),
    /// Neither.
    Invalid(&'static str),
}

/// What the caller says of a record to be written; the rest follows.
#[derive(Clone, Copy, Debug)]
pub struct Draft {
    /// What the record is about.
    pub kind: Kind,
    /// For entries, what the entry is.
    pub entry_kind: u8,
    /// The position it is about.
    pub log_id: Option<LogId>,
    /// Where it will lie in its segment.
    pub offset: u32,
    /// Up to where the segment has been flushed.
    pub flushed: u32,
    /// The header checksum of the record before.
    pub chain: u32,
}

/// Appends a record to `out`. Returns its header checksum, which is the next record's `chain`.
pub fn encode(out: &mut Vec<u8>, binding: Binding, draft: &Draft, body: &[u8]) -> u32 {
    let start = out.len();
    let log_id = draft.log_id.unwrap_or_default();
    let flags = if draft.log_id.is_some() {
        FLAG_HAS_LOG_ID
    } else {
        0
    };
    out.extend_from_slice(&MARK);
    out.push(draft.kind as u8);
    out.push(draft.entry_kind);
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&draft.offset.to_le_bytes());
    out.extend_from_slice(&binding.segment.to_le_bytes());
    out.extend_from_slice(&log_id.term.to_le_bytes());
    out.extend_from_slice(&log_id.index.to_le_bytes());
    out.extend_from_slice(&draft.flushed.to_le_bytes());
    out.extend_from_slice(&draft.chain.to_le_bytes());
    out.extend_from_slice(&checksum(binding, body).to_le_bytes());
    let sum = checksum(binding, out.get(start..).unwrap_or(&[]));
    out.extend_from_slice(&sum.to_le_bytes());
    out.extend_from_slice(body);
    out.resize(start + record_len(body.len()), 0);
    sum
}

/// Reads the header that should stand at `offset` of the segment. `bytes` begin there and are at least
/// [`HEADER_BYTES`] long, else it is invalid.
pub fn parse(bytes: &[u8], binding: Binding, offset: u64) -> Parsed {
    let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Parsed::Invalid("a header does not fit in what is left");
    };
    if head == &[0; HEADER_BYTES] {
        return Parsed::Empty;
    }
    let mut fields = Fields(head);
    if fields.take() != MARK {
        return Parsed::Invalid("no record begins here");
    }
    let (covered, _) = head.split_at(HEADER_BYTES - 4);
    let [kind, entry_kind] = fields.take();
    let flags = u16::from_le_bytes(fields.take());
    let body_len = fields.u32();
    let own_offset = fields.u32();
    let segment = fields.u64();
    let log_id = LogId {
        term: fields.u64(),
        index: fields.u64(),
    };
    let flushed = fields.u32();
    let chain = fields.u32();
    let body_sum = fields.u32();
    let sum = fields.u32();
    if checksum(binding, covered) != sum {
        return Parsed::Invalid("the header's checksum does not hold");
    }
    if segment != binding.segment || u64::from(own_offset) != offset {
        return Parsed::Invalid("the record belongs to another place");
    }
    if flags & !FLAG_HAS_LOG_ID != 0 || body_len as usize > BODY_BYTES_MAX {
        return Parsed::Invalid("the header is not one this format has");
    }
    let Some(kind) = Kind::of(kind) else {
        return Parsed::Invalid("the record is of an unknown kind");
    };
    let log_id = (flags & FLAG_HAS_LOG_ID != 0).then_some(log_id);
    let offset = own_offset;
    Parsed::Header(Header {
        kind,
        entry_kind,
        body_len,
        offset,
        log_id,
        flushed,
        chain,
        body_sum,
        sum,
    })
}

/// The sealed body of a record whose header was verified; `bytes` begin at the header. None if the body or
/// its padding is not what was written.
pub fn body<'a>(bytes: &'a [u8], binding: Binding, header: &Header) -> Option<&'a [u8]> {
    let record = bytes.get(..header.record_len())?;
    let (body, padding) = record
        .get(HEADER_BYTES..)?
        .split_at_checked(header.body_len as usize)?;
    let whole = checksum(binding, body) == header.body_sum && padding.iter().all(|b| *b == 0);
    whole.then_some(body)
}

/// CRC-32 (IEEE) of the segment's salt followed by `bytes`.
pub fn checksum(binding: Binding, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&binding.salt.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// Takes little-endian fields off the front; what is missing reads as zero (callers check lengths first).
pub struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    /// The next `N` bytes.
    pub fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk::<N>() {
            Some((field, rest)) => {
                self.0 = rest;
                *field
            }
            None => [0; N],
        }
    }

    /// The next 32-bit number.
    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    /// The next 64-bit number.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    const BINDING: Binding = Binding {
        segment: 7,
        salt: 0xfeed,
    };

    fn sample(body: &[u8]) -> Vec<u8> {
        let draft = Draft {
            kind: Kind::Entry,
            entry_kind: 1,
            log_id: Some(LogId { term: 3, index: 9 }),
            offset: 4096,
            flushed: 4000,
            chain: 0xabcd,
        };
        let mut out = Vec::new();
        encode(&mut out, BINDING, &draft, body);
        out
    }

    fn verifies(bytes: &[u8], binding: Binding, offset: u64) -> bool {
        match parse(bytes, binding, offset) {
            Parsed::Header(header) => body(bytes, binding, &header).is_some(),
            _ => false,
        }
    }

    #[test]
    fn a_record_verifies_only_at_its_own_place() {
        let bytes = sample(b"hello");
        assert!(verifies(&bytes, BINDING, 4096));
        assert!(!verifies(&bytes, BINDING, 4104), "misdirected");
        assert!(
            !verifies(
                &bytes,
                Binding {
                    segment: 8,
                    ..BINDING
                },
                4096
            ),
            "another segment"
        );
        assert!(
            !verifies(&bytes, Binding { salt: 1, ..BINDING }, 4096),
            "an earlier life"
        );
    }

    #[test]
    fn every_flipped_bit_is_seen_and_a_damaged_body_keeps_its_name() {
        let good = sample(b"hello");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!verifies(&bad, BINDING, 4096), "bit {bit}");
            if bit / 8 >= HEADER_BYTES {
                let Parsed::Header(header) = parse(&bad, BINDING, 4096) else {
                    panic!("bit {bit}")
                };
                assert_eq!(header.log_id, Some(LogId { term: 3, index: 9 }));
            }
        }
    }

    proptest! {
        #[test]
        fn a_record_comes_back_as_it_was_written(
            payload in prop::collection::vec(any::<u8>(), 0..200),
            term: u64, index: u64, offset: u32, flushed: u32, chain: u32, salt: u64, segment: u64,
        ) {
            let binding = Binding { segment, salt };
            let log_id = Some(LogId { term, index });
            let draft =
                Draft { kind: Kind::Truncated, entry_kind: 0, log_id, offset, flushed, chain };
            let mut out = vec![1, 2, 3];
            let sum = encode(&mut out, binding, &draft, &payload);
            let bytes = &out[3..];
            prop_assert_eq!(bytes.len() % ALIGNMENT, 0);
            let Parsed::Header(header) = parse(bytes, binding, u64::from(offset)) else {
                panic!("does not parse")
            };
            prop_assert_eq!((header.kind, header.log_id), (Kind::Truncated, log_id));
            prop_assert_eq!((header.flushed, header.chain, header.sum), (flushed, chain, sum));
            prop_assert_eq!(body(bytes, binding, &header), Some(&payload[..]));
        }

        #[test]
        fn parsing_garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Parsed::Header(header) = parse(&bytes, BINDING, 0) {
                body(&bytes, BINDING, &header);
            }
        }
    }
}
