//! Large values, cut into pieces that the backend on disk holds like any others.
//!
//! sled puts a page that grows beyond some 128 KB into a file of its own, keeps it in memory beside its cache, and
//! several generations of it on disk. So nothing large reaches it:
//!
//! ```text
//!   key                             value up to 12 KiB that does not begin with F5    as it is
//!   key                             F5  generation (8)  pieces (4)  length (8)        everything else
//!   FF key generation (8) n (4)     the n-th piece
//! ```
//!
//! Numbers are big endian. A generation is never used twice for a key, so a reader that meets a value which is
//! replaced meanwhile finds its pieces whole or gone, never those of another value. Keys that begin with `FF` belong
//! to this module; nobody sees them.

use std::collections::HashMap;
use std::path::PathBuf;

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;

use super::{Backend, EachRow, Edit, Step};
use crate::fault::Fault;

/// Values up to this many bytes are kept as they are: a block of history is closed at 8 KiB, with a row more.
pub const WHOLE_BYTES_MAX: usize = 12 << 10;
/// Larger ones are cut into pieces of this many.
pub const PIECE_BYTES: usize = 8 << 10;
/// Begins the value that stands for pieces.
const STANDS_FOR: u8 = 0xF5;
/// Begins the keys of pieces.
const PIECES: u8 = 0xFF;
/// How often a value that is replaced while it is read is read again.
const READS_MAX: usize = 16;

/// A backend whose large values are cut.
#[derive(Debug)]
pub struct Pieces<B> {
    inner: B,
    /// Named in faults.
    path: PathBuf,
    written: Mutex<Written>,
}

/// What lies in pieces. Changed by the one thread that writes.
#[derive(Debug, Default)]
struct Written {
    large: HashMap<Bytes, Cut>,
    generation: u64,
}

/// How a value was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    generation: u64,
    pieces: u32,
}

/// The key of a piece taken apart: whose, of which generation, and its number.
fn parse(key: &[u8]) -> Option<(Bytes, u64, u32)> {
    let rest = key.strip_prefix(&[PIECES])?;
    let (rest, n) = rest.split_last_chunk::<4>()?;
    let (of, generation) = rest.split_last_chunk::<8>()?;
    let of = Bytes::copy_from_slice(of);
    Some((of, u64::from_be_bytes(*generation), u32::from_be_bytes(*n)))
}

impl Cut {
    fn encode(self, bytes: usize) -> Bytes {
        let mut value = BytesMut::with_capacity(21);
        value.put_u8(STANDS_FOR);
        value.put_u64(self.generation);
        value.put_u32(self.pieces);
        value.put_u64(bytes as u64);
        value.freeze()
    }

    /// With the bytes of the whole. None if the value stands for itself.
    fn decode(value: &[u8]) -> Option<Result<(Self, u64), ()>> {
        let rest = value.strip_prefix(&[STANDS_FOR])?;
        let parse = || {
            let (generation, rest) = rest.split_first_chunk::<8>()?;
            let (pieces, rest) = rest.split_first_chunk::<4>()?;
            let bytes: [u8; 8] = rest.try_into().ok()?;
            let cut = Self {
                generation: u64::from_be_bytes(*generation),
                pieces: u32::from_be_bytes(*pieces),
            };
            Some((cut, u64::from_be_bytes(bytes)))
        };
        Some(parse().ok_or(()))
    }

    fn key(self, of: &[u8], n: u32) -> Bytes {
        let mut key = BytesMut::with_capacity(1 + of.len() + 12);
        key.put_u8(PIECES);
        key.put_slice(of);
        key.put_u64(self.generation);
        key.put_u32(n);
        key.freeze()
    }
}

impl<B: Backend> Pieces<B> {
    /// Over a backend that was opened; `path` is named in faults. Looks at every piece once, at nothing else.
    pub fn open(inner: B, path: PathBuf) -> Result<Self, Fault> {
        let mut written = Written::default();
        inner.scan(&[PIECES], &[], &mut |key, _| {
            if let Some((of, generation, _)) = parse(key) {
                written.generation = written.generation.max(generation);
                let cut = written.large.entry(of).or_insert(Cut {
                    generation,
                    pieces: 0,
                });
                // Counted, not believed: a damaged number must not become a loop.
                cut.pieces = cut.pieces.saturating_add(1);
            }
            Ok(Step::Next)
        })?;
        Ok(Self {
            inner,
            path,
            written: Mutex::new(written),
        })
    }

    fn damaged(&self, what: &str) -> Fault {
        Fault::Damaged {
            path: self.path.clone(),
            offset: 0,
            what: what.into(),
        }
    }

    /// The value that is kept as `value` under `key`; none if it was replaced meanwhile.
    fn whole(&self, key: &[u8], value: Bytes) -> Result<Option<Bytes>, Fault> {
        let (cut, bytes) = match Cut::decode(&value) {
            None => return Ok(Some(value)),
            Some(Ok(cut)) => cut,
            Some(Err(())) => return Err(self.damaged("a large value can not be read")),
        };
        let mut whole = BytesMut::new();
        for n in 0..cut.pieces {
            let Some(piece) = self.inner.get(&cut.key(key, n))? else {
                return Ok(None);
            };
            whole.put_slice(&piece);
        }
        if whole.len() as u64 != bytes {
            return Err(self.damaged("a large value is not as long as it was"));
        }
        Ok(Some(whole.freeze()))
    }

    /// Reads a value again and again until nobody replaces it meanwhile.
    fn settled(&self, key: &[u8], mut value: Option<Bytes>) -> Result<Option<Bytes>, Fault> {
        for _ in 0..READS_MAX {
            let Some(kept) = value else { return Ok(None) };
            if let Some(whole) = self.whole(key, kept.clone())? {
                return Ok(Some(whole));
            }
            value = self.inner.get(key)?;
            if value.as_ref() == Some(&kept) {
                break;
            }
        }
        Err(self.damaged("a piece of a large value is gone"))
    }
}

impl<B: Backend> Backend for Pieces<B> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        self.settled(key, self.inner.get(key)?)
    }

    fn scan(&self, prefix: &[u8], from: &[u8], each: EachRow<'_>) -> Result<(), Fault> {
        self.inner.scan(prefix, from, &mut |key, value| {
            if key.first() == Some(&PIECES) {
                return Ok(Step::Stop);
            }
            match self.settled(key, Some(value))? {
                Some(whole) => each(key, whole),
                None => Ok(Step::Next),
            }
        })
    }

    fn write(&self, edits: Vec<Edit>) -> Result<(), Fault> {
        let mut written = self.written.lock();
        let mut kept = Vec::with_capacity(edits.len());
        for (key, value) in edits {
            if let Some(old) = written.large.remove(&key) {
                kept.extend((0..old.pieces).map(|n| (old.key(&key, n), None)));
            }
            match value {
                Some(value)
                    if value.len() > WHOLE_BYTES_MAX || value.first() == Some(&STANDS_FOR) =>
                {
                    written.generation += 1;
                    let cut = Cut {
                        generation: written.generation,
                        pieces: value.len().div_ceil(PIECE_BYTES) as u32,
                    };
                    let piece = |n: u32| {
                        let from = n as usize * PIECE_BYTES;
                        value.slice(from..value.len().min(from + PIECE_BYTES))
                    };
                    kept.extend((0..cut.pieces).map(|n| (cut.key(&key, n), Some(piece(n)))));
                    kept.push((key.clone(), Some(cut.encode(value.len()))));
                    written.large.insert(key, cut);
                }
                value => kept.push((key, value)),
            }
        }
        self.inner.write(kept)
    }

    fn flush(&self) -> Result<(), Fault> {
        self.inner.flush()
    }

    fn size_on_disk(&self) -> Result<u64, Fault> {
        self.inner.size_on_disk()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::path::Path;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::sled::{Settings, Sled};
    use super::*;
    use crate::disk::OsDisk;

    fn open(dir: &Path) -> Pieces<Sled> {
        let sled = Sled::open(Arc::new(OsDisk::new()), dir, &Settings::default()).unwrap();
        Pieces::open(sled, dir.to_path_buf()).unwrap()
    }

    fn rows(backend: &dyn Backend) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = vec![];
        let each = &mut |key: &[u8], value: Bytes| {
            rows.push((key.to_vec(), value.to_vec()));
            Ok(Step::Next)
        };
        backend.scan(&[], &[], each).unwrap();
        rows
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
        #[test]
        fn values_of_every_size_come_back_and_leave_nothing_behind(
            batches in proptest::collection::vec(proptest::collection::vec(
                (0_u8..6, proptest::option::of((prop_oneof![0..40_usize, 12_286..12_292_usize, 0..70_000_usize], any::<u8>()))),
                1..6), 1..8),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut backend = open(dir.path());
            let mut model = std::collections::BTreeMap::new();
            for (turn, batch) in batches.into_iter().enumerate() {
                let mut seen = std::collections::BTreeSet::new();
                let edits: Vec<Edit> = batch
                    .into_iter()
                    .filter(|(key, _)| seen.insert(*key))
                    .map(|(key, value)| {
                        let value = value.map(|(length, fill)| vec![fill; length]);
                        match &value {
                            Some(value) => model.insert(vec![key], value.clone()),
                            None => model.remove(&vec![key]),
                        };
                        (vec![key].into(), value.map(Into::into))
                    })
                    .collect();
                backend.write(edits).unwrap();
                if turn % 3 == 2 {
                    backend.flush().unwrap();
                    drop(backend);
                    backend = open(dir.path());
                }
                let expected: Vec<_> = model.clone().into_iter().collect();
                prop_assert_eq!(rows(&backend), expected);
                for (key, value) in &model {
                    prop_assert_eq!(&backend.get(key).unwrap().unwrap()[..], &value[..]);
                }
            }
            let pieces: usize = model.values().map(|value| match value.first() {
                Some(&STANDS_FOR) => value.len().div_ceil(PIECE_BYTES),
                _ if value.len() > WHOLE_BYTES_MAX => value.len().div_ceil(PIECE_BYTES),
                _ => 0,
            }).sum();
            prop_assert_eq!(rows(&backend.inner).len(), model.len() + pieces);
        }
    }

    #[test]
    fn a_piece_that_is_gone_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let backend = open(dir.path());
        let large: Edit = ("k".into(), Some(vec![1; 30_000].into()));
        backend.write(vec![large]).unwrap();
        let piece = rows(&backend.inner).pop().unwrap().0;
        backend.inner.write(vec![(piece.into(), None)]).unwrap();
        assert!(matches!(backend.get(b"k"), Err(Fault::Damaged { .. })));
    }
}
