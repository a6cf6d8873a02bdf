//! Power loss, kill -9 and failing flushes, at every point.

use std::sync::atomic::{AtomicU32, Ordering};

use meridian_storage::disk::faulty::{Call, Refusal};

use super::model::Model;
use super::*;

/// Some of everything, over several segments.
fn workload(model: &mut Model) {
    for round in 0..12 {
        model.vote(Bytes::from(format!("vote of round {round}")));
        model.append(6, 700, u64::from(round % 3 == 2));
        model.commit(3);
        if round % 4 == 3 {
            model.wait();
            model.purge(5);
        }
        model.append(2, 10, 0);
        model.wait();
    }
}

/// Loses the power at the change with this number, and says whether what is left is right.
fn crashed_at(change: u64, seed: u64, lies: bool) -> Result<bool, String> {
    let disk = FaultyDisk::new();
    let mut model = Model::open(&disk, settings());
    let begun = disk.changes();
    disk.lie_about_flushes(lies);
    disk.power_off_at(begun + change);
    workload(&mut model);
    let reached = disk.changes() >= begun + change;
    let mut model = model.crash(Some(seed))?;
    // The log goes on, and survives the next crash too.
    model.append(3, 50, 0);
    model.vote(Bytes::from_static(b"after"));
    model.wait();
    model.crash(Some(!seed))?.close().map(|_| reached)
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_power_goes() {
    let (mut change, mut reached) = (1, true);
    while reached {
        reached = false;
        for seed in 0..4 {
            let outcome = crashed_at(change, change * 7 + seed, false);
            reached |= outcome.unwrap_or_else(|what| panic!("change {change}, {seed}: {what}"));
        }
        change += 1;
    }
    assert!(
        change > 80,
        "the run was long enough to mean something: {change}"
    );
}

#[test]
fn what_a_killed_process_left_behind_survives_the_power_loss_after_it() {
    let (mut change, mut reached) = (1, true);
    while reached {
        let disk = FaultyDisk::new();
        let mut model = Model::open(&disk, settings());
        let at = disk.changes() + change;
        disk.power_off_at(at);
        workload(&mut model);
        reached = disk.changes() >= at;
        // Killed: its writes and names are seen, and some of them are not flushed.
        let outcome = model
            .crash(None)
            .and_then(|model| model.crash(Some(change)));
        let outcome = outcome.and_then(|mut model| {
            model.append(40, 700, 0);
            model.wait();
            model.crash(Some(!change))
        });
        outcome.unwrap_or_else(|what| panic!("change {change}: {what}"));
        change += 1;
    }
    assert!(
        change > 80,
        "the run was long enough to mean something: {change}"
    );
}

#[test]
fn the_check_fails_on_a_disk_that_lies_about_flushes() {
    let caught = (0..40)
        .filter(|seed| crashed_at(60, *seed, true).is_err())
        .count();
    assert!(caught > 20, "{caught} of 40");
}

#[test]
fn a_log_that_was_just_being_made_is_made_again() {
    for change in 1..40 {
        for seed in 0..4 {
            let disk = FaultyDisk::new();
            disk.power_off_at(change);
            let opened = open_with(&disk, settings());
            drop(opened);
            disk.crash(seed);
            let (wal, recovered) = open(&disk);
            assert_eq!(recovered, Recovered::default());
            append(&wal, entries(1, 0..3, 10)).unwrap();
        }
    }
}

/// The content of the newest segment with one batch after others, and where that batch begins and ends.
fn with_a_last_batch(count: u64) -> (FaultyDisk, PathBuf, usize, usize) {
    let disk = FaultyDisk::new();
    let (wal, _) = open(&disk);
    vote(&wal, "v").unwrap();
    append(&wal, entries(1, 0..4, 30)).unwrap();
    let path = files(&disk, ".wal").pop().unwrap();
    let used = || {
        disk.content(&path)
            .unwrap()
            .iter()
            .rposition(|b| *b != 0)
            .unwrap()
            + 1
    };
    let begin = used().next_multiple_of(8);
    append(&wal, entries(1, 4..4 + count, 30)).unwrap();
    let copy = disk.fork();
    copy.restart();
    (copy, path.clone(), begin, used())
}

#[test]
fn a_write_torn_at_any_byte_keeps_all_that_was_acknowledged_before() {
    for count in [1, 3] {
        let (disk, path, begin, end) = with_a_last_batch(count);
        for cut in begin..=end {
            let torn = disk.fork();
            torn.overwrite(&path, cut, &vec![0; end - cut]);
            let (wal, recovered) = open(&torn);
            assert_eq!(recovered.vote.as_deref(), Some(&b"v"[..]));
            let found = all(&wal);
            let expected = entries(1, 0..4 + count, 30);
            assert!(
                found.len() >= 4 && expected.starts_with(&found),
                "cut at {cut}"
            );
            // What was torn is gone for good: the log goes on in its place.
            let next = found.len() as u64;
            append(&wal, entries(2, next..next + 2, 30)).unwrap();
            drop(wal);
            let after = all(&open(&torn).0);
            assert_eq!(after[..found.len()], found[..]);
            assert_eq!(after[found.len()..], entries(2, next..next + 2, 30)[..]);
        }
    }
}

#[test]
fn a_last_batch_written_in_any_order_of_sectors_is_torn_not_damaged() {
    let (disk, path, begin, end) = with_a_last_batch(40);
    let sectors: Vec<usize> = (begin..end).filter(|at| at % 512 == 0).collect();
    assert!(sectors.len() > 4);
    for missing in &sectors {
        let torn = disk.fork();
        torn.overwrite(&path, *missing, &[0; 512]);
        let (wal, _) = open(&torn);
        let found = all(&wal);
        assert!(found.len() >= 4 && entries(1, 0..44, 30).starts_with(&found));
        append(
            &wal,
            entries(2, found.len() as u64..found.len() as u64 + 1, 30),
        )
        .unwrap();
        drop(wal);
        assert_eq!(all(&open(&torn).0).len(), found.len() + 1);
    }
}

#[test]
fn a_failed_flush_stops_the_log_and_is_not_tried_again() {
    for refusal in [Refusal::Broken, Refusal::Full] {
        for call in [Call::Write, Call::Sync] {
            let disk = FaultyDisk::new();
            let told = Arc::new(AtomicU32::new(0));
            let counter = Arc::clone(&told);
            let on_fault = Arc::new(move |fault: Fault| {
                assert!(matches!(fault, Fault::Io { .. }), "{fault}");
                counter.fetch_add(1, Ordering::SeqCst);
            });
            let (wal, _) = open_with(
                &disk,
                Settings {
                    on_fault,
                    ..settings()
                },
            )
            .unwrap();
            append(&wal, entries(1, 0..3, 10)).unwrap();
            spare_is_ready(&disk);
            disk.refuse(call, 1, refusal);
            let (first, second) = (waiting(), waiting());
            wal.append(entries(1, 3..5, 10), first.0);
            wal.save_vote(Bytes::from_static(b"lost"), second.0);
            for receive in [first.1, second.1] {
                assert!(matches!(answer(&receive), Err(Fault::Poisoned { .. })));
            }
            let changes = disk.changes();
            assert!(append(&wal, entries(1, 5..6, 10)).is_err());
            assert!(vote(&wal, "lost").is_err());
            assert!(truncate(&wal, None).is_err());
            assert!(matches!(wal.poisoned(), Some(Fault::Poisoned { .. })));
            assert_eq!(told.load(Ordering::SeqCst), 1);
            drop(wal);
            assert_eq!(disk.changes(), changes, "nothing is written any more");
            disk.crash(3);
            let (wal, recovered) = open(&disk);
            assert_eq!((recovered.vote, all(&wal)), (None, entries(1, 0..3, 10)));
        }
    }
}

#[test]
fn what_is_reported_after_a_failed_flush_is_durable_even_if_the_kernel_forgot_it() {
    let mut kept = 0;
    for seed in 0..20 {
        let disk = FaultyDisk::new();
        let (wal, _) = open(&disk);
        append(&wal, entries(1, 0..3, 10)).unwrap();
        spare_is_ready(&disk);
        // The pages are marked clean: readable, not on the device, and no later flush writes them.
        disk.refuse(Call::Sync, 1, Refusal::Broken);
        append(&wal, entries(1, 3..6, 10)).unwrap_err();
        drop(wal);
        disk.restart();
        let (wal, recovered) = open(&disk);
        let reported = all(&wal);
        kept += u32::from(recovered.last == Some(id(1, 5)));
        // Not closed: nothing but the opening itself may make it durable.
        disk.power_off_at(0);
        drop(wal);
        disk.crash(seed);
        assert_eq!(all(&open(&disk).0), reported);
    }
    assert!(kept > 0, "the case was met");
}
