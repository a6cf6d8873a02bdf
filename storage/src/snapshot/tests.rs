#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

//! Snapshots: what goes in comes out, the same bytes whoever writes, and no damage is missed.

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
    batches.iter().for_each(|batch| naive.absorb(batch));
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
    batches.iter().for_each(|batch| naive.absorb(batch));
    (batches, naive)
}

fn history(settings: Settings, batches: &[Batch]) -> History {
    let history = History::in_memory(settings).unwrap();
    batches
        .iter()
        .for_each(|batch| history.submit(batch.clone()));
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
    lazy.iter_mut().for_each(|batch| batch.dropped.clear());
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
fn every_flipped_byte_is_found() {
    let (disk, file, _) = small_snapshot();
    for byte in 0..file.bytes as usize {
        for bit in [(byte % 8) as u8, ((byte + 5) % 8) as u8] {
            disk.flip(&file.path, byte, bit);
            assert!(
                open(&disk, &seal(), &file.path).is_err(),
                "byte {byte} bit {bit}"
            );
            disk.flip(&file.path, byte, bit);
        }
    }
    verify(&disk, &Plain, &file.path).unwrap();
}

#[test]
fn every_cut_and_anything_behind_the_end_is_found() {
    let (disk, file, _) = small_snapshot();
    for size in 0..file.bytes as usize {
        let cut = disk.fork();
        cut.cut(&file.path, size);
        let opened = open(&cut, &seal(), &file.path);
        assert!(
            matches!(opened, Err(Fault::Damaged { .. })),
            "cut at {size}"
        );
    }
    let longer = disk.open(&file.path).unwrap();
    longer.write_at(&[0], file.bytes).unwrap();
    assert!(matches!(
        open(&disk, &seal(), &file.path),
        Err(Fault::Damaged { .. })
    ));
}

#[test]
fn chunks_that_changed_places_are_found() {
    let (batches, naive) = large();
    let disk = FaultyDisk::new();
    let file = written(&disk, &history(small(), &batches), &naive);
    let bytes = disk.content(&file.path).unwrap();
    // The frames, by walking their lengths.
    let mut frames = Vec::new();
    let mut at = 12;
    while at < bytes.len() {
        let length = u32::from_le_bytes(bytes[at + 5..at + 9].try_into().unwrap()) as usize;
        frames.push(at..at + 13 + length);
        at += 13 + length;
    }
    assert!(frames.len() >= 5);
    let mut swapped = frames.clone();
    swapped.swap(1, 2);
    let doubled: Vec<_> = frames.iter().flat_map(|f| [f.clone(), f.clone()]).collect();
    let without: Vec<_> = frames
        .iter()
        .enumerate()
        .filter(|(n, _)| *n != 2)
        .map(|(_, f)| f.clone())
        .collect();
    for wrong in [swapped, doubled, without] {
        let mut content = bytes[..12].to_vec();
        wrong
            .into_iter()
            .for_each(|frame| content.extend_from_slice(&bytes[frame]));
        let path = dir().join("wrong.snapshot");
        let _ = disk.remove(&path);
        disk.create(&path).unwrap().write_at(&content, 0).unwrap();
        assert!(matches!(
            open(&disk, &seal(), &path),
            Err(Fault::Damaged { .. })
        ));
    }
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
fn power_that_fails_at_any_moment_leaves_the_old_snapshot_or_the_new_one() {
    let (before, older) = batches(5, 4, 30);
    let (after, newer) = batches(5, 8, 30);
    let (before, after) = (history(small(), &before), history(small(), &after));
    let disk = FaultyDisk::new();
    let first = written(&disk, &before, &older);
    let probe = disk.fork();
    let start = probe.changes();
    let second = written(&probe, &after, &newer);
    let steps = probe.changes() - start;
    assert!(steps >= 5);
    let mut complete = 0;
    for step in 0..=steps {
        for seed in 0..8 {
            let disk = disk.fork();
            disk.power_off_at(disk.changes() + step);
            let done = write(
                &disk,
                &seal(),
                &dir(),
                77,
                &State::new(&newer),
                &after.pin(),
            )
            .is_ok();
            disk.crash(seed);
            tidy(&disk, &dir()).unwrap();
            let found = list(&disk, &dir()).unwrap();
            assert!(
                found.iter().any(|file| file.path == first.path),
                "the old one is there"
            );
            assert!(!done || found[0] == second, "what was finished is durable");
            for file in found {
                open(&disk, &seal(), &file.path).unwrap();
                complete += usize::from(file == second);
            }
            assert!(
                disk.list(&dir())
                    .unwrap()
                    .iter()
                    .all(|name| !name.ends_with(PARTIAL))
            );
        }
    }
    assert!(complete > 0);
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
fn a_damaged_snapshot_is_set_aside_for_the_one_before_it() {
    let (disk, newest, naive) = small_snapshot();
    let older = LogId { term: 1, index: 1 };
    let mut before = naive.clone();
    before.applied = older;
    write::write_rows(&disk, &seal(), &dir(), 77, None, &mut before).unwrap();
    disk.flip(&newest.path, 100, 0);
    let (file, rows) = open_latest(&disk, &seal(), &dir()).unwrap().unwrap();
    assert_eq!((file.applied, rows.applied()), (older, older));
    let aside = format!("{}{DAMAGED}", newest.path.display());
    assert!(disk.open(Path::new(&aside)).is_ok());
    disk.flip(&file.path, 100, 0);
    assert!(open_latest(&disk, &seal(), &dir()).unwrap().is_none());
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
