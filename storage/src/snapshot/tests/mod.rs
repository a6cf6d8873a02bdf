#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

//! Snapshots: what goes in comes out, the same bytes whoever writes, and no damage is missed.

mod damage;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use meridian_domain::key::Space;
use meridian_domain::name::TenantId;
use meridian_domain::revision::{LogId, Revision};

use super::*;
use crate::disk::FaultyDisk;
use crate::history::tests::naive::{Maker, Naive, small};
use crate::history::{History, Settings};
use crate::row::{At, Batch, Rows};
use crate::seal::{Plain, Seal};

const DIR: &str = "/snapshots";

/// A state as the naive history knows it.
struct State {
    naive: Naive,
    facts: Vec<(Bytes, Bytes)>,
}

impl State {
    fn new(naive: &Naive) -> Self {
        Self {
            naive: naive.clone(),
            facts: naive.facts.clone().into_iter().collect(),
        }
    }
}

impl Content for State {
    fn applied(&self) -> LogId {
        self.naive.applied
    }
    fn membership(&self) -> Option<Bytes> {
        Some("one, two, three".into())
    }
    fn facts(&self) -> &[(Bytes, Bytes)] {
        &self.facts
    }
    fn tenants(&self) -> Vec<(TenantId, Revision)> {
        let tenants: BTreeSet<_> = self
            .naive
            .versions
            .keys()
            .map(|(tenant, _)| *tenant)
            .collect();
        let last = |of| {
            self.naive
                .versions
                .keys()
                .filter(|(t, _)| *t == of)
                .map(|(_, at)| at.revision)
                .max()
        };
        tenants
            .into_iter()
            .map(|tenant| (tenant, last(tenant).unwrap()))
            .collect()
    }
    fn retains(&self, tenant: TenantId, _space: Space, _key: &[u8], at: At) -> bool {
        self.naive.versions.contains_key(&(tenant, at))
    }
    fn retained(&self, tenant: TenantId) -> u64 {
        self.naive
            .versions
            .keys()
            .filter(|(of, _)| *of == tenant)
            .count() as u64
    }
}

fn seal() -> Arc<dyn Seal> {
    Arc::new(Plain)
}

fn dir() -> PathBuf {
    PathBuf::from(DIR)
}

/// Batches of two tenants with compactions in between, and what they leave.
fn batches(seed: u64, rounds: u32, value_bytes: usize) -> (Vec<Batch>, Naive) {
    let mut maker = Maker::new(seed);
    maker.value_bytes = value_bytes;
    let mut naive = Naive::default();
    let mut batches = Vec::new();
    for round in 0..rounds {
        let tenant = TenantId(1 + round % 2);
        batches.push(maker.batch(tenant, 6));
        if round % 5 == 4 {
            batches.push(maker.compact(tenant));
        }
    }
    for batch in &batches {
        naive.absorb(batch);
    }
    (batches, naive)
}

/// Enough for several chunks.
fn large() -> (Vec<Batch>, Naive) {
    let mut maker = Maker::new(2);
    (maker.keys, maker.value_bytes) = (1000, 40_000);
    let batches: Vec<_> = (0..12)
        .map(|round| maker.batch(TenantId(1 + round % 2), 10))
        .collect();
    let mut naive = Naive::default();
    for batch in &batches {
        naive.absorb(batch);
    }
    (batches, naive)
}

fn history(settings: Settings, batches: &[Batch]) -> History {
    let history = History::in_memory(settings).unwrap();
    for batch in batches {
        history.submit(batch.clone());
    }
    history
}

fn written(disk: &FaultyDisk, history: &History, naive: &Naive) -> SnapshotFile {
    write(
        disk,
        &seal(),
        &dir(),
        77,
        &State::new(naive),
        &history.pin(),
    )
    .unwrap()
}

/// A small snapshot on a disk of its own.
fn small_snapshot() -> (FaultyDisk, SnapshotFile, Naive) {
    let (batches, naive) = batches(1, 5, 12);
    let disk = FaultyDisk::new();
    let file = written(&disk, &history(small(), &batches), &naive);
    (disk, file, naive)
}

#[test]
fn what_is_written_is_read_back() {
    let (batches, naive) = large();
    let disk = FaultyDisk::new();
    let file = written(&disk, &history(small(), &batches), &naive);
    assert!(file.bytes > 2 << 20, "several chunks: {}", file.bytes);
    assert_eq!(latest(&disk, &dir()).unwrap(), Some(file.clone()));
    let mut rows = open(&disk, &seal(), &file.path).unwrap();
    assert_eq!(
        (rows.cluster(), rows.membership().unwrap()),
        (77, "one, two, three".into())
    );
    assert_eq!(Naive::of(&mut rows), naive);
    assert_eq!(Naive::of(&mut rows), naive, "and once more");
    // And from there into a history.
    let history = History::in_memory(small()).unwrap();
    history.reset(&mut rows).unwrap();
    naive.check(&history);
    assert_eq!(history.applied(), naive.applied);
}

#[test]
fn the_same_position_makes_the_same_bytes_however_it_was_reached() {
    let (batches, naive) = batches(3, 60, 300);
    // One that writes all the time and prunes at once; one that writes in large batches and whose drops come
    // late or never; one that was loaded from another's snapshot.
    let eager = history(small(), &batches);
    eager.flush().unwrap();
    let mut lazy: Vec<Batch> = batches.clone();
    for batch in &mut lazy {
        batch.dropped.clear();
    }
    let lazy = history(
        Settings {
            batch_wait_ms: 60_000,
            ..Settings::default()
        },
        &lazy,
    );
    let disks = [FaultyDisk::new(), FaultyDisk::new(), FaultyDisk::new()];
    let first = written(&disks[0], &eager, &naive);
    written(&disks[1], &lazy, &naive);
    let loaded = History::in_memory(small()).unwrap();
    loaded
        .reset(&mut open(&disks[0], &seal(), &first.path).unwrap())
        .unwrap();
    written(&disks[2], &loaded, &naive);
    let bytes = disks
        .each_ref()
        .map(|disk| disk.content(&first.path).unwrap());
    assert!(bytes[0] == bytes[1] && bytes[1] == bytes[2]);
    let hashes = disks
        .each_ref()
        .map(|disk| verify(disk, &Plain, &first.path).unwrap());
    assert!(hashes[0] == hashes[1] && hashes[1] == hashes[2]);
}

#[test]
fn a_newer_format_is_named_as_such() {
    let (disk, file, _) = small_snapshot();
    disk.overwrite(&file.path, 8, &[2]);
    let opened = open(&disk, &seal(), &file.path);
    assert!(matches!(
        opened,
        Err(Fault::NewerFormat {
            found: 2,
            known: 1,
            ..
        })
    ));
}

#[test]
fn a_history_that_lacks_a_version_makes_no_snapshot() {
    let (batches, naive) = batches(6, 6, 30);
    let mut lacking = batches.clone();
    let last = lacking.len() - 1;
    lacking[last].made.remove(0);
    let disk = FaultyDisk::new();
    let history = history(small(), &lacking);
    let refused = write(
        &disk,
        &seal(),
        &dir(),
        77,
        &State::new(&naive),
        &history.pin(),
    );
    assert!(matches!(refused, Err(Fault::Inconsistent { .. })));
    assert_eq!(
        disk.list(&dir()).unwrap(),
        [""; 0],
        "and leaves nothing behind"
    );
}

#[test]
fn two_snapshots_are_kept_and_nothing_unfinished() {
    let (disk, _, mut naive) = small_snapshot();
    for index in 100..105 {
        naive.applied = LogId { term: 2, index };
        write::write_rows(&disk, &seal(), &dir(), 77, None, &mut naive).unwrap();
    }
    disk.create(&dir().join("received-0.partial")).unwrap();
    remove_old(&disk, &dir()).unwrap();
    let indexes = |disk| {
        list(disk, &dir())
            .unwrap()
            .iter()
            .map(|f| f.applied.index)
            .collect::<Vec<_>>()
    };
    assert_eq!(indexes(&disk), [104, 103]);
    assert_eq!(disk.list(&dir()).unwrap().len(), 3);
    tidy(&disk, &dir()).unwrap();
    assert_eq!(disk.list(&dir()).unwrap().len(), 2);
    assert!(list(&disk, Path::new("/nowhere")).unwrap().is_empty());
}

#[test]
fn a_snapshot_is_sent_in_pieces_and_verified_before_it_counts() {
    let (disk, file, naive) = small_snapshot();
    let there = FaultyDisk::new();
    let out = Outgoing::open(&disk, &file).unwrap();
    let send = |damage: bool| {
        let mut incoming = Incoming::begin(Arc::new(there.clone()), &dir()).unwrap();
        loop {
            let mut piece = out.read(incoming.written(), 333).unwrap().to_vec();
            if piece.is_empty() {
                return incoming.finish(&Plain);
            }
            if damage && incoming.written() == 666 {
                piece[5] ^= 1;
            }
            let at = incoming.written();
            incoming.append(at, &piece).unwrap();
            // A piece that is sent again, wholly or in part, is taken once.
            incoming.append(at, &piece).unwrap();
            incoming.append(at, &piece[..10.min(piece.len())]).unwrap();
            assert!(incoming.append(at + 10_000_000, b"x").is_err(), "a gap");
        }
    };
    assert!(matches!(send(true), Err(Fault::Damaged { .. })));
    assert!(
        there.list(&dir()).unwrap().is_empty(),
        "nothing of it is left"
    );
    let received = send(false).unwrap();
    assert_eq!(received, file);
    assert_eq!(there.content(&file.path), disk.content(&file.path));
    there.crash(1);
    assert_eq!(
        Naive::of(&mut open(&there, &seal(), &received.path).unwrap()),
        naive
    );
}

#[test]
fn an_inspection_says_what_is_in_it() {
    let (disk, file, naive) = small_snapshot();
    let found = inspect(&disk, &Plain, &file.path).unwrap();
    assert_eq!(
        (found.cluster, found.applied, found.bytes),
        (77, naive.applied, file.bytes)
    );
    assert_eq!(found.hash, verify(&disk, &Plain, &file.path).unwrap());
    assert_eq!(found.facts, naive.facts.len() as u64);
    assert_eq!(found.tenants.len(), 2);
    for of in found.tenants {
        let rows: Vec<_> = naive
            .versions
            .iter()
            .filter(|((t, _), _)| *t == of.tenant)
            .collect();
        let last: std::collections::BTreeMap<_, _> = rows
            .iter()
            .map(|(_, row)| ((row.space, &row.key), row.after.is_some()))
            .collect();
        assert_eq!(of.versions, rows.len() as u64);
        assert_eq!(of.revision, rows.last().unwrap().1.at.revision);
        assert_eq!(
            of.keys,
            last.values().filter(|alive| **alive).count() as u64
        );
    }
}

#[test]
fn a_restore_changes_facts_and_position_and_keeps_versions() {
    let (disk, file, naive) = small_snapshot();
    let mut rows = open(&disk, &seal(), &file.path).unwrap();
    let applied = LogId { term: 1, index: 1 };
    let mut restored = restore::Restored::new(
        &mut rows,
        applied,
        Box::new(|mut facts| {
            facts.retain(|(key, _)| key.starts_with(b"tenant"));
            facts.push(("a".into(), "bumped".into()));
            Ok(facts)
        }),
    );
    let there = FaultyDisk::new();
    let new = write::write_rows(&there, &seal(), &dir(), 78, None, &mut restored).unwrap();
    let mut rows = open(&there, &seal(), &new.path).unwrap();
    assert_eq!((rows.cluster(), rows.membership()), (78, None));
    let back = Naive::of(&mut rows);
    assert_eq!(back.versions, naive.versions);
    assert_eq!(back.applied, applied);
    assert_eq!(back.facts.len(), 3);
    assert_eq!(back.facts[&b"a"[..]], "bumped");
}

/// Format 1 as it was first released: read for ever. A new format gets a new file beside it.
#[test]
fn format_one_is_written_and_read_as_it_was_released() {
    let (disk, file, naive) = small_snapshot();
    let bytes = disk.content(&file.path).unwrap();
    let frozen = crate::history::tests::frozen::bytes("snapshot-1.bin", &bytes);
    assert!(bytes == frozen, "the bytes of format 1 have changed");
    let there = FaultyDisk::new();
    there.create_dir_all(&dir()).unwrap();
    there
        .create(&file.path)
        .unwrap()
        .write_at(&frozen, 0)
        .unwrap();
    assert_eq!(
        Naive::of(&mut open(&there, &seal(), &file.path).unwrap()),
        naive
    );
}
