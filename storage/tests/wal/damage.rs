//! Damage to what had been flushed: always seen, never skipped, named, and repaired or set aside.

use meridian_storage::wal::repair::{self, Damage, Report};

use super::*;

/// A closed log in one segment: votes, entries, all kinds of records. Returns where its records begin, and
/// where the last one begins, which was written to close it.
fn small_log() -> (FaultyDisk, PathBuf, usize) {
    let disk = FaultyDisk::new();
    let (wal, _) = open(&disk);
    vote(&wal, "vote").unwrap();
    append(&wal, entries(1, 0..4, 13)).unwrap();
    wal.save_committed(id(1, 1));
    append(&wal, entries(1, 4..6, 0)).unwrap();
    truncate(&wal, Some(id(1, 4))).unwrap();
    wal.purge(id(1, 0));
    append(&wal, entries(2, 5..7, 21)).unwrap();
    let path = files(&disk, ".wal").pop().unwrap();
    let used = || {
        disk.content(&path)
            .unwrap()
            .iter()
            .rposition(|b| *b != 0)
            .unwrap()
            + 1
    };
    let last = used().next_multiple_of(8);
    drop(wal);
    disk.restart();
    (disk.fork(), path.clone(), last)
}

/// Three segments, closed.
fn long_log() -> FaultyDisk {
    let disk = FaultyDisk::new();
    let (wal, _) = open(&disk);
    vote(&wal, "first").unwrap();
    for index in 0..40 {
        append(&wal, entries(1, index..index + 1, 900)).unwrap();
    }
    vote(&wal, "second").unwrap();
    append(&wal, entries(1, 40..42, 900)).unwrap();
    drop(wal);
    disk.restart();
    assert_eq!(files(&disk, ".wal").len(), 3);
    disk
}

fn refused(disk: &FaultyDisk, what: &str) {
    match open_with(disk, settings()) {
        Err(Fault::Damaged { .. }) => {}
        Err(other) => panic!("{what}: {other}"),
        Ok(_) => panic!("{what}: the log was opened"),
    }
}

fn inspect(disk: &FaultyDisk) -> Report {
    repair::inspect(disk, &Plain, dir()).unwrap()
}

#[test]
fn every_flipped_bit_of_what_was_flushed_is_seen() {
    let (disk, path, last) = small_log();
    let (wal, whole) = open(&disk.fork());
    let content = all(&wal);
    drop(wal);
    assert!(last > 500);
    for bit in 0..last * 8 {
        let bad = disk.fork();
        bad.flip(&path, bit / 8, (bit % 8) as u8);
        refused(&bad, &format!("byte {}, bit {}", bit / 8, bit % 8));
        assert!(
            !inspect(&bad).damage.is_empty(),
            "bit {bit} is not in the report"
        );
    }
    // The record that closed the log, and the zeros behind it, say nothing: nothing is lost with them.
    for bit in last * 8..(last + 200) * 8 {
        let bad = disk.fork();
        bad.flip(&path, bit / 8, (bit % 8) as u8);
        let (wal, recovered) = open(&bad);
        assert_eq!((recovered, all(&wal)), (whole.clone(), content.clone()));
    }
}

#[test]
fn every_lost_or_cut_file_is_seen() {
    let disk = long_log();
    for path in files(&disk, ".wal").iter().chain([&dir().join("manifest")]) {
        let bad = disk.fork();
        bad.remove(path).unwrap();
        refused(&bad, &format!("{path:?} removed"));
        assert!(!inspect(&bad).damage.is_empty());
        let size = disk.content(path).unwrap().len();
        if path.ends_with("manifest") {
            continue;
        }
        for size in [0, 10, 64, 100, size / 2, size - 1] {
            let bad = disk.fork();
            bad.cut(path, size);
            refused(&bad, &format!("{path:?} cut to {size}"));
        }
    }
}

#[test]
fn a_vote_is_certain_only_if_no_later_one_can_have_been_in_what_is_gone() {
    let disk = long_log();
    assert!(inspect(&disk).vote_certain);
    let segments = files(&disk, ".wal");
    let certain_without = |paths: &[&PathBuf]| {
        let bad = disk.fork();
        for path in paths {
            bad.remove(path).unwrap();
        }
        inspect(&bad).vote_certain
    };
    let manifest = dir().join("manifest");
    assert!(
        certain_without(&[&segments[0]]),
        "a later checkpoint repeats it"
    );
    assert!(!certain_without(&[&segments[2]]), "the newest segment");
    assert!(!certain_without(&[&segments[2], &manifest]));
    assert!(!certain_without(&[&manifest]), "there may have been more");
    let all: Vec<&PathBuf> = segments.iter().chain([&manifest]).collect();
    assert!(!certain_without(&all), "everything");
}

#[test]
fn sectors_that_are_zero_stale_or_from_elsewhere_are_seen() {
    let disk = long_log();
    let paths = files(&disk, ".wal");
    let contents: Vec<Vec<u8>> = paths
        .iter()
        .map(|path| disk.content(path).unwrap())
        .collect();
    for (which, path) in paths.iter().enumerate() {
        let own = &contents[which];
        let used = own.iter().rposition(|b| *b != 0).unwrap() - 64;
        for at in (0..used).step_by(512) {
            let other = &contents[(which + 1) % 3];
            let elsewhere = (at + 1024) % (used & !511);
            for sector in [
                &[0; 512],
                &other[at..at + 512],
                &own[elsewhere..elsewhere + 512],
            ] {
                let end = (at + 512).min(used);
                if own[at..end] == sector[..end - at] {
                    continue;
                }
                let bad = disk.fork();
                bad.overwrite(path, at, &sector[..end - at]);
                refused(&bad, &format!("{path:?} at {at}"));
            }
        }
    }
}

#[test]
fn damage_met_while_reading_is_reported_not_returned() {
    let disk = FaultyDisk::new();
    let (wal, _) = open_with(
        &disk,
        Settings {
            tail_bytes: 0,
            ..settings()
        },
    )
    .unwrap();
    append(&wal, entries(1, 0..10, 100)).unwrap();
    let path = files(&disk, ".wal").pop().unwrap();
    assert_eq!(all(&wal).len(), 10);
    let content = disk.content(&path).unwrap();
    let seventh = entry(1, 6, 100).payload;
    let at = content
        .windows(100)
        .position(|bytes| bytes == &seventh[..])
        .unwrap();
    disk.flip(&path, at + 50, 3);
    assert_eq!(wal.read(0, 6, usize::MAX).unwrap(), entries(1, 0..6, 100));
    let fault = wal.read(6, 7, usize::MAX).unwrap_err();
    assert!(fault.to_string().contains("entry 1.6"), "{fault}");
}

/// A log whose entries 7 and 30 have a damaged body, with the vote untouched.
fn two_damaged_bodies() -> FaultyDisk {
    let disk = long_log();
    for index in [7, 30] {
        let payload = entry(1, index, 900).payload;
        let hit = files(&disk, ".wal").into_iter().find_map(|path| {
            let content = disk.content(&path)?;
            let at = content
                .windows(900)
                .position(|bytes| bytes == &payload[..])?;
            Some((path, at))
        });
        let (path, at) = hit.unwrap();
        disk.flip(&path, at + 450, 1);
    }
    disk
}

#[test]
fn damaged_bodies_are_named_and_put_back_from_a_peer() {
    let disk = two_damaged_bodies();
    refused(&disk, "two bodies");
    let report = inspect(&disk);
    let named: Vec<_> = report.damage.iter().map(|damage| damage.log_id).collect();
    assert_eq!(named, [Some(id(1, 7)), Some(id(1, 30))]);
    assert!(report.is_mendable() && report.vote_certain);
    assert_eq!(report.vote.as_deref(), Some(&b"second"[..]));
    assert_eq!((report.entries, report.highest), (40, Some(id(1, 41))));

    let mend = |damage: &Damage, payload| repair::mend(&disk, &Plain, dir(), damage, payload);
    let wrong = mend(&report.damage[0], entry(1, 8, 900).payload);
    assert!(
        matches!(wrong, Err(Fault::Damaged { .. })),
        "only the very same content"
    );
    for damage in &report.damage {
        mend(damage, entry(1, damage.log_id.unwrap().index, 900).payload).unwrap();
    }
    assert_eq!(inspect(&disk).damage, []);
    let (wal, recovered) = open(&disk);
    assert_eq!(recovered.vote.as_deref(), Some(&b"second"[..]));
    assert_eq!(all(&wal), entries(1, 0..42, 900));
}

#[test]
fn a_damaged_header_is_placed_between_its_neighbours_and_leaves_the_vote_in_doubt() {
    let (disk, path, last) = small_log();
    let content = disk.content(&path).unwrap();
    // The headers: vote, entries 0..4, ... The fourth belongs to entry 2.
    let headers: Vec<usize> = (0..last)
        .step_by(8)
        .filter(|at| content[*at..].starts_with(b"MREC"))
        .collect();
    let bad = disk.fork();
    bad.flip(&path, headers[4] + 30, 0);
    let report = inspect(&bad);
    assert_eq!(report.damage.len(), 1);
    let damage = &report.damage[0];
    assert_eq!(damage.log_id, None);
    assert_eq!(
        (damage.after, damage.before),
        (Some(id(1, 1)), Some(id(1, 3)))
    );
    assert!(!report.is_mendable() && !report.vote_certain);
}

#[test]
fn a_quarantined_log_begins_anew_with_its_vote_and_the_old_one_is_kept() {
    let aside = Path::new("/data/wal.damaged");
    let disk = two_damaged_bodies();
    let before: Vec<_> = files(&disk, ".wal")
        .iter()
        .map(|p| disk.content(p).unwrap())
        .collect();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let set_aside = || repair::quarantine(&shared, &Plain, dir(), aside, SEGMENT_BYTES);
    let report = set_aside().unwrap();
    assert_eq!(report.highest, Some(id(1, 41)));
    let names = disk.list(aside).unwrap();
    let kept: Vec<_> = names
        .iter()
        .map(|name| disk.content(&aside.join(name)).unwrap())
        .collect();
    assert_eq!(kept, before);
    let (wal, recovered) = open(&disk);
    assert_eq!(recovered.vote.as_deref(), Some(&b"second"[..]));
    assert_eq!((recovered.last, recovered.purged), (None, None));
    // A snapshot is installed, the log goes on.
    wal.purge(id(3, 100));
    append(&wal, entries(3, 101..160, 900)).unwrap();
    drop(wal);
    assert_eq!(all(&open(&disk).0), entries(3, 101..160, 900));
}

#[test]
fn a_quarantine_that_was_interrupted_never_leaves_a_log_that_opens_without_its_vote() {
    let aside = Path::new("/data/wal.damaged");
    let (mut change, mut ended) = (1, false);
    while !ended {
        let disk = two_damaged_bodies();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let set_aside = || repair::quarantine(&shared, &Plain, dir(), aside, SEGMENT_BYTES);
        disk.power_off_at(disk.changes() + change);
        ended = set_aside().is_ok();
        disk.crash(change);
        match open_with(&disk, settings()) {
            Ok((_, recovered)) => assert_eq!(recovered.vote.as_deref(), Some(&b"second"[..])),
            Err(fault) => {
                assert!(matches!(fault, Fault::Damaged { .. }), "{fault}");
                set_aside().unwrap();
                assert_eq!(open(&disk).1.vote.as_deref(), Some(&b"second"[..]));
            }
        }
        change += 1;
    }
    assert!(change > 10);
}

#[test]
fn a_write_that_was_lost_and_shows_what_stood_there_before_is_seen() {
    let disk = FaultyDisk::new();
    let (wal, _) = open(&disk);
    append(&wal, entries(1, 0..3, 40)).unwrap();
    wal.close();
    disk.restart();
    let path = files(&disk, ".wal").pop().unwrap();
    let begin = disk
        .content(&path)
        .unwrap()
        .iter()
        .rposition(|b| *b != 0)
        .unwrap();
    let begin = (begin + 1).next_multiple_of(8);
    // Two lives of the same place in the same segment, each whole in itself.
    let lived = |term| {
        let life = disk.fork();
        let (wal, _) = open(&life);
        append(&wal, entries(term, 3..4, 40)).unwrap();
        append(&wal, entries(term, 4..5, 40)).unwrap();
        wal.close();
        life.restart();
        life
    };
    let (before, now) = (lived(1), lived(2));
    assert_eq!(all(&open(&now.fork()).0).len(), 5);
    let stale = before.content(&path).unwrap()[begin..begin + 96].to_vec();
    now.overwrite(&path, begin, &stale);
    refused(&now, "a stale record");
}
