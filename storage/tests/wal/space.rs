//! A disk that fills up: refused before an append can fail, and well again by itself.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn used(disk: &FaultyDisk) -> u64 {
    let names = disk.list(dir()).unwrap();
    names
        .iter()
        .map(|name| disk.content(&dir().join(name)).unwrap().len() as u64)
        .sum()
}

#[test]
fn writes_are_refused_before_the_log_can_fail_and_go_on_when_there_is_space() {
    let disk = FaultyDisk::new();
    let failed = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&failed);
    let reserve = Settings {
        reserve_bytes: u64::from(SEGMENT_BYTES),
        on_fault: Arc::new(move |_| flag.store(true, Ordering::SeqCst)),
        ..settings()
    };
    let (wal, _) = open_with(&disk, reserve).unwrap();
    append(&wal, entries(1, 0..1, 1000)).unwrap();
    spare_is_ready(&disk);
    wal.reserve_ok().unwrap();

    disk.set_capacity(Some(used(&disk) + 1000));
    until("the lack of space is seen", || wal.reserve_ok().is_err());
    assert!(matches!(wal.reserve_ok(), Err(Fault::DiskFull { .. })));
    // What must go on (deletes, votes) still has this segment and the spare one.
    let mut next = 1;
    while files(&disk, ".wal").len() < 2 {
        append(&wal, entries(1, next..next + 1, 1000)).unwrap();
        next += 1;
    }
    vote(&wal, "on a full disk").unwrap();
    assert!(wal.reserve_ok().is_err());

    // Beyond that the log waits; it does not fail.
    let (done, receive) = waiting();
    wal.append(entries(1, next..next + 40, 1000), done);
    assert!(
        receive.recv_timeout(Duration::from_millis(300)).is_err(),
        "it waits"
    );
    assert!(wal.poisoned().is_none() && !failed.load(Ordering::SeqCst));

    disk.set_capacity(None);
    answer(&receive).unwrap();
    until("the space is seen", || wal.reserve_ok().is_ok());
    drop(wal);
    assert_eq!(all(&open(&disk).0), entries(1, 0..next + 40, 1000));
    assert!(!failed.load(Ordering::SeqCst));
}

#[test]
fn a_log_that_waits_for_space_can_be_closed() {
    let disk = FaultyDisk::new();
    let (wal, _) = open(&disk);
    spare_is_ready(&disk);
    disk.set_capacity(Some(used(&disk)));
    let (done, receive) = waiting();
    wal.append(entries(1, 0..60, 1000), done);
    until("both segments are used", || {
        files(&disk, ".spare").is_empty()
    });
    wal.close();
    assert!(matches!(answer(&receive), Err(Fault::Poisoned { .. })));
    disk.set_capacity(None);
    let (wal, recovered) = open(&disk);
    let count = recovered.last.map_or(0, |last| last.index + 1);
    assert!(count > 10 && count < 60);
    assert_eq!(all(&wal), entries(1, 0..count, 1000));
}

#[test]
fn a_log_can_not_begin_on_a_full_disk_and_says_so() {
    let disk = FaultyDisk::new();
    disk.set_capacity(Some(1000));
    let opened = open_with(&disk, settings());
    assert!(matches!(opened, Err(Fault::DiskFull { .. })));
    disk.set_capacity(None);
    open(&disk);
}
