//! Writing and reading while nothing goes wrong.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use meridian_storage::disk::OsDisk;
use meridian_storage::disk::faulty::Call;

use super::*;

#[test]
fn what_was_written_is_there_after_a_restart() {
    let disk = FaultyDisk::new();
    let (wal, recovered) = open(&disk);
    assert_eq!(recovered, Recovered::default());
    vote(&wal, "term 1 for n1").unwrap();
    append(&wal, entries(1, 0..5, 40)).unwrap();
    let special = Entry {
        kind: Kind::Membership,
        ..entry(2, 5, 0)
    };
    append(&wal, vec![special.clone()]).unwrap();
    wal.save_committed(id(1, 4));
    let before = all(&wal);
    drop(wal);

    let (wal, recovered) = open(&disk);
    assert_eq!(recovered.vote.as_deref(), Some(&b"term 1 for n1"[..]));
    assert_eq!(recovered.committed, Some(id(1, 4)));
    assert_eq!((recovered.purged, recovered.last), (None, Some(id(2, 5))));
    assert_eq!(all(&wal), before);
    assert_eq!(before[5], special);
}

#[test]
fn entries_can_be_read_before_they_are_flushed_and_from_files_later() {
    let disk = FaultyDisk::new();
    let (wal, _) = open_with(
        &disk,
        Settings {
            tail_bytes: 0,
            ..settings()
        },
    )
    .unwrap();
    let (done, receive) = waiting();
    wal.append(entries(1, 1..400, 100), done);
    assert_eq!(all(&wal), entries(1, 1..400, 100));
    answer(&receive).unwrap();
    assert!(files(&disk, ".wal").len() > 2, "several segments");
    let reads = disk.count(Call::Read);
    assert_eq!(all(&wal), entries(1, 1..400, 100));
    assert!(disk.count(Call::Read) > reads, "the files were read");
    assert_eq!(
        wal.read(7, 9, 0).unwrap(),
        entries(1, 7..8, 100),
        "at least one"
    );
    assert_eq!(wal.read(400, 500, 1000).unwrap(), []);
    assert_eq!(wal.read(0, 5, 1000).unwrap(), [], "nothing was ever there");
}

#[test]
fn everything_queued_during_a_flush_goes_out_with_the_next_one() {
    let disk = FaultyDisk::new();
    let (wal, _) = open(&disk);
    append(&wal, entries(1, 0..1, 10)).unwrap();
    spare_is_ready(&disk);
    // The writer is held inside a `done`, as it would be inside a flush.
    let (entered, is_inside) = channel();
    let (release, wait) = channel::<()>();
    wal.append(
        entries(1, 1..2, 10),
        Box::new(move |_| {
            entered.send(()).unwrap();
            wait.recv().unwrap();
        }),
    );
    is_inside.recv_timeout(PATIENCE).unwrap();
    let (syncs, writes) = (disk.count(Call::Sync), disk.count(Call::Write));
    let (send, answers) = channel();
    for index in 2..66 {
        let send = send.clone();
        wal.append(
            entries(1, index..index + 1, 10),
            Box::new(move |_| send.send(index).unwrap()),
        );
    }
    assert_eq!(disk.count(Call::Sync), syncs);
    release.send(()).unwrap();
    let order: Vec<u64> = (2..66)
        .map(|_| answers.recv_timeout(PATIENCE).unwrap())
        .collect();
    assert_eq!(
        order,
        (2..66).collect::<Vec<_>>(),
        "in the order of the calls"
    );
    assert_eq!(disk.count(Call::Sync), syncs + 1, "one flush");
    assert_eq!(disk.count(Call::Write), writes + 1, "one write");
}

#[test]
fn every_durable_batch_costs_the_device_at_least_one_flush() {
    let place = tempfile::tempdir().unwrap();
    let disk = OsDisk::new();
    let open = || {
        let at = place.path().join("wal");
        Wal::open(Arc::new(disk.clone()), Arc::new(Plain), &at, settings()).unwrap()
    };
    let (wal, _) = open();
    // Each waits for the one before, so each is a batch of its own.
    for index in 0..300 {
        let before = disk.file_syncs();
        append(&wal, entries(1, index..index + 1, 200)).unwrap();
        assert!(
            disk.file_syncs() > before,
            "entry {index} was acknowledged without a flush"
        );
    }
    let before = disk.file_syncs();
    vote(&wal, "v").unwrap();
    truncate(&wal, Some(id(1, 250))).unwrap();
    assert!(disk.file_syncs() >= before + 2);
    drop(wal);
    let (wal, recovered) = open();
    assert_eq!(recovered.last, Some(id(1, 250)));
    assert_eq!(all(&wal), entries(1, 0..251, 200));
    assert!(
        matches!(
            Wal::open(
                Arc::new(disk.clone()),
                Arc::new(Plain),
                &place.path().join("wal"),
                settings()
            ),
            Err(Fault::Directory { .. })
        ),
        "a log is opened once at a time"
    );
}

#[test]
fn conflicting_entries_replace_what_was_there() {
    let disk = FaultyDisk::new();
    let (wal, _) = open(&disk);
    append(&wal, entries(1, 0..10, 20)).unwrap();
    truncate(&wal, Some(id(1, 6))).unwrap();
    append(&wal, entries(2, 7..9, 20)).unwrap();
    // Without truncating first: the same.
    append(&wal, entries(3, 8..12, 20)).unwrap();
    let expected = [
        entries(1, 0..7, 20),
        entries(2, 7..8, 20),
        entries(3, 8..12, 20),
    ]
    .concat();
    assert_eq!(all(&wal), expected);
    drop(wal);
    let (wal, recovered) = open(&disk);
    assert_eq!(recovered.last, Some(id(3, 11)));
    assert_eq!(all(&wal), expected);
    truncate(&wal, None).unwrap();
    assert_eq!((wal.state(), all(&wal)), ((None, None), vec![]));
    append(&wal, entries(4, 0..2, 20)).unwrap();
    drop(wal);
    assert_eq!(all(&open(&disk).0), entries(4, 0..2, 20));
}

#[test]
fn truncating_and_writing_anew_while_nothing_is_flushed_yet_keeps_the_new() {
    let disk = FaultyDisk::new();
    let (wal, _) = open_with(
        &disk,
        Settings {
            tail_bytes: 0,
            ..settings()
        },
    )
    .unwrap();
    let ignore = || -> Done { Box::new(|_| {}) };
    for round in 1..50 {
        wal.append(entries(round, 0..20, 30), ignore());
        wal.truncate_after(Some(id(round, 9)), ignore());
        wal.append(entries(round, 10..20, 31), ignore());
        wal.truncate_after(None, ignore());
    }
    append(&wal, entries(50, 0..20, 32)).unwrap();
    assert_eq!(all(&wal), entries(50, 0..20, 32));
    drop(wal);
    assert_eq!(all(&open(&disk).0), entries(50, 0..20, 32));
}

#[test]
fn purging_gives_segments_back_and_keeps_the_vote() {
    let disk = FaultyDisk::new();
    let (wal, _) = open(&disk);
    vote(&wal, "kept").unwrap();
    for index in 0..1000 {
        append(&wal, entries(1, index..index + 1, 200)).unwrap();
        if index % 100 == 99 {
            wal.purge(id(1, index - 20));
        }
    }
    // A purge is lazy: it goes out with the next write.
    append(&wal, entries(1, 1000..1001, 200)).unwrap();
    until("old segments are gone", || files(&disk, ".wal").len() <= 3);
    let newest = files(&disk, ".wal").pop().unwrap();
    assert!(newest.ends_with("0000000000000010.wal"), "{newest:?}");
    assert_eq!(wal.state(), (Some(id(1, 979)), Some(id(1, 1000))));
    assert_eq!(wal.read(979, 1001, usize::MAX).unwrap(), []);
    drop(wal);
    let (wal, recovered) = open(&disk);
    assert_eq!(recovered.vote.as_deref(), Some(&b"kept"[..]));
    assert_eq!(
        (recovered.purged, recovered.last),
        (Some(id(1, 979)), Some(id(1, 1000)))
    );
    assert_eq!(all(&wal), entries(1, 980..1001, 200));
    // A snapshot from elsewhere: beyond the end.
    wal.purge(id(7, 5000));
    append(&wal, entries(7, 5001..5003, 200)).unwrap();
    drop(wal);
    let (wal, recovered) = open(&disk);
    assert_eq!(
        (recovered.purged, recovered.last),
        (Some(id(7, 5000)), Some(id(7, 5002)))
    );
    assert_eq!(all(&wal), entries(7, 5001..5003, 200));
}

#[test]
fn an_entry_larger_than_a_segment_gets_one_of_its_own() {
    let disk = FaultyDisk::new();
    let (wal, _) = open(&disk);
    let large = entry(1, 1, 5 * SEGMENT_BYTES as usize);
    append(&wal, entries(1, 0..1, 10)).unwrap();
    append(&wal, vec![large.clone(), entry(1, 2, 10)]).unwrap();
    append(&wal, entries(1, 3..5, 10)).unwrap();
    drop(wal);
    let (wal, recovered) = open(&disk);
    assert_eq!(recovered.last, Some(id(1, 4)));
    assert_eq!(all(&wal)[1], large);
    wal.purge(id(1, 4));
    append(&wal, entries(1, 5..300, 100)).unwrap();
    drop(wal);
    assert_eq!(all(&open(&disk).0), entries(1, 5..300, 100));
}

#[test]
fn what_is_lazy_is_written_when_the_log_is_quiet() {
    let disk = FaultyDisk::new();
    let quick = Settings {
        settle_after: Duration::from_millis(5),
        ..settings()
    };
    let (wal, _) = open_with(&disk, quick).unwrap();
    append(&wal, entries(1, 0..3, 10)).unwrap();
    wal.save_committed(id(1, 1));
    wal.save_committed(id(1, 2));
    let copy = || {
        let copy = disk.fork();
        copy.restart();
        open(&copy).1.committed
    };
    until("the committed position is written", || {
        copy() == Some(id(1, 2))
    });
    spare_is_ready(&disk);
    let flushes = disk.count(Call::Sync);
    std::thread::sleep(Duration::from_millis(50));
    assert!(
        disk.count(Call::Sync) <= flushes + 1,
        "a quiet log stays quiet"
    );
}

#[test]
fn a_full_queue_holds_its_callers_and_loses_nothing() {
    let disk = FaultyDisk::new();
    let tight = Settings {
        queue_bytes: 2000,
        batch_bytes: 500,
        ..settings()
    };
    let (wal, _) = open_with(&disk, tight).unwrap();
    let last = Arc::new(Mutex::new(0));
    let (send, receive) = channel();
    for index in 1..2000 {
        let (send, last) = (send.clone(), Arc::clone(&last));
        let done = move |outcome: Result<(), Fault>| {
            outcome.unwrap();
            *last.lock().unwrap() += 1;
            assert_eq!(*last.lock().unwrap(), index, "in order");
            send.send(()).unwrap();
        };
        wal.append(entries(1, index..index + 1, 100), Box::new(done));
    }
    (1..2000).for_each(|_| receive.recv_timeout(PATIENCE).unwrap());
    assert_eq!(all(&wal), entries(1, 1..2000, 100));
}

#[test]
fn a_done_may_call_the_log_again() {
    let disk = FaultyDisk::new();
    let tight = Settings {
        queue_bytes: 1,
        ..settings()
    };
    let (wal, _) = open_with(&disk, tight).unwrap();
    let (done, receive) = waiting();
    let again = wal.clone();
    wal.append(
        entries(1, 0..1, 10),
        Box::new(move |outcome| {
            outcome.unwrap();
            again.append(entries(1, 1..3, 10), Box::new(|_| {}));
            again.append(entries(1, 3..4, 10), done);
        }),
    );
    answer(&receive).unwrap();
    assert_eq!(all(&wal).len(), 4);
}

#[test]
fn a_closed_log_refuses_and_leaves_nothing_behind() {
    let disk = FaultyDisk::new();
    let (wal, _) = open(&disk);
    let (done, receive) = waiting();
    wal.append(entries(1, 0..3, 10), done);
    wal.close();
    answer(&receive).unwrap();
    assert!(matches!(
        append(&wal, entries(1, 3..4, 10)),
        Err(Fault::Poisoned { .. })
    ));
    assert!(wal.poisoned().is_none());
    let (second, recovered) = open(&disk);
    assert_eq!(recovered.last, Some(id(1, 2)));
    drop(second);
}

#[test]
fn asking_for_a_hole_stops_the_log() {
    let disk = FaultyDisk::new();
    let (wal, _) = open(&disk);
    append(&wal, entries(1, 0..3, 10)).unwrap();
    assert!(matches!(
        append(&wal, entries(1, 4..5, 10)),
        Err(Fault::Poisoned { .. })
    ));
    assert!(
        wal.poisoned()
            .unwrap()
            .to_string()
            .contains("does not follow")
    );
    drop(wal);
    assert_eq!(all(&open(&disk).0), entries(1, 0..3, 10));
}
