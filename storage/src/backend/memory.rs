//! The backend in memory: nothing on disk.
//!
//! It keeps apart what was written and what was flushed, so that a test can ask what a power loss would
//! leave ([`Memory::lose_unflushed`]).

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::RwLock;

use super::{Backend, EachRow, Edit, Step};
use crate::fault::Fault;

/// Rows a scan copies at a time, so that `each` runs without the lock.
const SCAN_ROWS: usize = 256;

/// An ordered map in memory.
#[derive(Debug, Default)]
pub struct Memory {
    rows: RwLock<Maps>,
}

#[derive(Debug, Default)]
struct Maps {
    written: BTreeMap<Bytes, Bytes>,
    /// Batches since the last flush, to be undone by a power loss: the values before them, latest last.
    unflushed: Vec<(Bytes, Option<Bytes>)>,
}

impl Memory {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a power loss leaves: everything since the last flush is gone.
    pub fn lose_unflushed(&self) {
        let mut rows = self.rows.write();
        for (key, before) in std::mem::take(&mut rows.unflushed).into_iter().rev() {
            match before {
                Some(value) => rows.written.insert(key, value),
                None => rows.written.remove(&key),
            };
        }
    }
}

impl Backend for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        Ok(self.rows.read().written.get(key).cloned())
    }

    fn scan(&self, prefix: &[u8], from: &[u8], each: EachRow<'_>) -> Result<(), Fault> {
        let mut next = std::ops::Bound::Included(Bytes::copy_from_slice(from.max(prefix)));
        loop {
            let rows: Vec<(Bytes, Bytes)> = {
                let maps = self.rows.read();
                let range = maps
                    .written
                    .range::<Bytes, _>((next, std::ops::Bound::Unbounded));
                range
                    .take_while(|(key, _)| key.starts_with(prefix))
                    .take(SCAN_ROWS)
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect()
            };
            let Some((last, _)) = rows.last() else {
                return Ok(());
            };
            next = std::ops::Bound::Excluded(last.clone());
            for (key, value) in rows {
                if each(&key, value)? == Step::Stop {
                    return Ok(());
                }
            }
        }
    }

    fn write(&self, edits: Vec<Edit>) -> Result<(), Fault> {
        let mut rows = self.rows.write();
        for (key, value) in edits {
            let before = match value {
                Some(value) => rows.written.insert(key.clone(), value),
                None => rows.written.remove(&key),
            };
            rows.unflushed.push((key, before));
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), Fault> {
        self.rows.write().unflushed.clear();
        Ok(())
    }

    fn size_on_disk(&self) -> Result<u64, Fault> {
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_power_loss_takes_back_what_was_not_flushed() {
        let map = Memory::new();
        let put = |k: &'static str, v: &'static str| {
            map.write(vec![(k.into(), Some(v.into()))]).unwrap();
        };
        put("a", "1");
        put("b", "1");
        map.flush().unwrap();
        put("a", "2");
        put("a", "3");
        map.write(vec![("b".into(), None), ("c".into(), Some("1".into()))])
            .unwrap();
        map.lose_unflushed();
        assert_eq!(map.get(b"a").unwrap().unwrap(), "1");
        assert_eq!(map.get(b"b").unwrap().unwrap(), "1");
        assert_eq!(map.get(b"c").unwrap(), None);
    }
}
