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
use crate::backend::Backend;
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

/// Packs ascending entries into the chunks of a run.
pub struct Packing<'a> {
    seal: &'a dyn Seal,
    run: Run,
    content: Vec<u8>,
    rows: Vec<(Bytes, Bytes)>,
}

impl<'a> Packing<'a> {
    /// An empty run.
    pub fn new(seal: &'a dyn Seal, id: u64) -> Self {
        let run = Run {
            id,
            chunks: Vec::new(),
            bytes: 0,
        };
        Self {
            seal,
            run,
            content: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Adds an entry, which lies after all before.
    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        put_bytes(&mut self.content, key);
        match value {
            None => self.content.push(0),
            Some(value) => {
                self.content.push(1);
                put_bytes(&mut self.content, value);
            }
        }
        if self.content.len() >= CHUNK_BYTES {
            self.close();
        }
    }

    fn close(&mut self) {
        let key = envelope::run_key(self.run.id, self.rows.len() as u32);
        let value = envelope::wrap(self.seal, &key, std::mem::take(&mut self.content));
        self.run.chunks.push(envelope::row_hash(&key, &value));
        self.run.bytes += value.len();
        self.rows.push((key, value));
    }

    /// The run, and the keys and values of its chunks for the backend. Nothing if it is empty.
    pub fn finish(mut self) -> Option<(Run, Vec<(Bytes, Bytes)>)> {
        if !self.content.is_empty() {
            self.close();
        }
        (!self.rows.is_empty()).then_some((self.run, self.rows))
    }
}

/// An entry: its key, and its value or none if it is removed.
type Entry = (Bytes, Option<Bytes>);

/// Reads a run from the backend, one chunk in memory at a time.
pub struct Reader<'a> {
    backend: &'a dyn Backend,
    seal: &'a dyn Seal,
    dir: &'a Path,
    run: Run,
    next_chunk: usize,
    entries: std::vec::IntoIter<Entry>,
}

impl<'a> Reader<'a> {
    /// Begins at the first entry.
    pub fn new(backend: &'a dyn Backend, seal: &'a dyn Seal, dir: &'a Path, run: Run) -> Self {
        Self {
            backend,
            seal,
            dir,
            run,
            next_chunk: 0,
            entries: Vec::new().into_iter(),
        }
    }

    fn next(&mut self) -> Result<Option<Entry>, Fault> {
        loop {
            if let Some(entry) = self.entries.next() {
                return Ok(Some(entry));
            }
            if self.next_chunk == self.run.chunks.len() {
                return Ok(None);
            }
            let key = envelope::run_key(self.run.id, self.next_chunk as u32);
            let Some(value) = self.backend.get(&key)? else {
                return Err(damaged(self.dir, "a chunk of a run is gone"));
            };
            let mut entries = Vec::new();
            read(
                self.seal,
                self.dir,
                &key,
                &value,
                Memory::Shared,
                &mut |key, value| {
                    entries.push((key, value));
                },
            )?;
            self.entries = entries.into_iter();
            self.next_chunk += 1;
        }
    }
}

/// Merges runs, oldest first, and the newest entries on top of them into one run; of equal keys the newest wins.
/// With `bottom` nothing older is left that a removal would have to hide, and removals are left out.
pub fn merge(
    mut older: Vec<Reader<'_>>,
    newest: Entries,
    bottom: bool,
    into: &mut Packing<'_>,
) -> Result<(), Fault> {
    let mut newest = newest.into_iter();
    let mut heads: Vec<Option<Entry>> = older
        .iter_mut()
        .map(Reader::next)
        .collect::<Result<_, _>>()?;
    let mut top = newest.next();
    loop {
        let keys = heads.iter().chain([&top]).flatten().map(|(key, _)| key);
        let Some(least) = keys.min().cloned() else {
            return Ok(());
        };
        let is_least = |head: &mut Entry| head.0 == least;
        let mut winner = None;
        for (run, head) in older.iter_mut().zip(&mut heads) {
            if let Some(entry) = head.take_if(is_least) {
                winner = Some(entry);
                *head = run.next()?;
            }
        }
        if let Some(entry) = top.take_if(is_least) {
            winner = Some(entry);
            top = newest.next();
        }
        if let Some((key, value)) = winner.filter(|(_, value)| value.is_some() || !bottom) {
            into.push(&key, value.as_deref());
        }
    }
}

/// Checks a chunk and shows its entries, in the memory asked for.
pub fn read(
    seal: &dyn Seal,
    dir: &Path,
    key: &[u8],
    value: &Bytes,
    memory: Memory,
    each: &mut dyn FnMut(Bytes, Option<Bytes>),
) -> Result<(), Fault> {
    let content = envelope::unwrap(seal, dir, key, value)?;
    let malformed = |what| damaged(dir, what);
    let mut rest = Unpacker::new(content, memory);
    while !rest.is_empty() {
        let key = rest.bytes().map_err(malformed)?;
        let value = match rest.byte().map_err(malformed)? {
            0 => None,
            1 => Some(rest.bytes().map_err(malformed)?),
            _ => return Err(malformed("an entry is neither there nor removed")),
        };
        each(key, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::backend::memory;
    use crate::seal::Plain;

    fn written(backend: &memory::Memory, id: u64, entries: &Entries) -> Run {
        let mut packing = Packing::new(&Plain, id);
        for (key, value) in entries {
            packing.push(key, value.as_deref());
        }
        let (run, rows) = packing.finish().unwrap();
        backend
            .write(
                rows.into_iter()
                    .map(|(key, value)| (key, Some(value)))
                    .collect(),
            )
            .unwrap();
        run
    }

    fn reader(backend: &memory::Memory, run: Run) -> Reader<'_> {
        Reader::new(backend, &Plain, Path::new("x"), run)
    }

    #[test]
    fn a_run_is_cut_into_chunks_and_read_back() {
        let entries: Entries = (0..2000u32)
            .map(|n| {
                let value = (n % 3 != 0).then(|| Bytes::from(vec![n as u8; (n % 50) as usize]));
                (fact_key(&n.to_be_bytes()), value)
            })
            .collect();
        let backend = memory::Memory::new();
        let run = written(&backend, 9, &entries);
        assert!(run.chunks.len() > 3);
        let mut reader = reader(&backend, run);
        for entry in entries {
            assert_eq!(reader.next().unwrap(), Some(entry));
        }
        assert_eq!(reader.next().unwrap(), None);
    }

    #[test]
    fn of_equal_keys_the_newest_wins() {
        let entries = |rows: &[(&'static str, Option<&'static str>)]| -> Entries {
            rows.iter()
                .map(|(key, value)| (Bytes::from(*key), value.map(Bytes::from)))
                .collect()
        };
        let backend = memory::Memory::new();
        let old = entries(&[
            ("a", Some("1")),
            ("b", Some("1")),
            ("c", Some("1")),
            ("e", None),
        ]);
        let new = entries(&[("b", None), ("c", Some("2"))]);
        let runs = [written(&backend, 1, &old), written(&backend, 2, &new)];
        for bottom in [false, true] {
            let readers = runs.clone().map(|run| reader(&backend, run)).into();
            let top = entries(&[("c", None), ("d", Some("3"))]);
            let mut packing = Packing::new(&Plain, 3);
            merge(readers, top, bottom, &mut packing).unwrap();
            let (_, rows) = packing.finish().unwrap();
            let mut found = Entries::new();
            for (key, value) in &rows {
                read(
                    &Plain,
                    Path::new("x"),
                    key,
                    value,
                    Memory::Own,
                    &mut |key, value| {
                        found.insert(key, value);
                    },
                )
                .unwrap();
            }
            let mut wanted = entries(&[
                ("a", Some("1")),
                ("b", None),
                ("c", None),
                ("d", Some("3")),
                ("e", None),
            ]);
            wanted.retain(|_, value| value.is_some() || !bottom);
            assert_eq!(found, wanted);
        }
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
