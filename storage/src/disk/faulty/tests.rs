//! The simulated disk forgets exactly what it may.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn dir() -> &'static Path {
    Path::new("/d")
}

fn made(disk: &FaultyDisk, name: &str) -> Arc<dyn File> {
    disk.create_dir_all(dir()).unwrap();
    disk.create(&dir().join(name)).unwrap()
}

#[test]
fn what_was_flushed_survives_every_crash_and_the_rest_may_not() {
    let (mut lost, mut kept, mut torn) = (0, 0, 0);
    for seed in 0..200 {
        let disk = FaultyDisk::new();
        let file = made(&disk, "f");
        file.write_at(&[1; 2048], 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(dir()).unwrap();
        file.write_at(&[2; 2048], 2048).unwrap();
        disk.crash(seed);
        assert!(
            file.size().is_ok() && file.write_at(b"x", 0).is_err(),
            "open files are dead"
        );
        let content = disk.content(&dir().join("f")).unwrap();
        assert!(content.iter().take(2048).all(|b| *b == 1));
        match content.iter().map(|b| usize::from(*b == 2)).sum() {
            0 => lost += 1,
            2048 => kept += 1,
            _ => torn += 1,
        }
    }
    assert!(lost > 0 && kept > 0 && torn > 0, "{lost} {kept} {torn}");
}

#[test]
fn a_name_is_durable_only_after_its_directory_was_flushed() {
    let mut lost = 0;
    for seed in 0..50 {
        let disk = FaultyDisk::new();
        made(&disk, "a").sync_all().unwrap();
        disk.crash(seed);
        lost += u32::from(disk.list(dir()).unwrap().is_empty());

        let disk = FaultyDisk::new();
        made(&disk, "a");
        disk.rename(&dir().join("a"), &dir().join("b")).unwrap();
        disk.sync_dir(dir()).unwrap();
        disk.crash(seed);
        assert_eq!(disk.list(dir()).unwrap(), ["b"]);
    }
    assert!(lost > 0);
}

#[test]
fn a_second_flush_after_a_failed_one_lies() {
    let disk = FaultyDisk::new();
    let file = made(&disk, "f");
    disk.sync_dir(dir()).unwrap();
    file.write_at(b"gone", 0).unwrap();
    disk.refuse(Call::Sync, 1, Refusal::Broken);
    assert!(file.sync_data().is_err());
    assert!(file.sync_data().is_ok());
    assert_eq!(disk.content(&dir().join("f")).unwrap(), b"gone");
    disk.crash(1);
    assert_eq!(disk.content(&dir().join("f")).unwrap(), b"");
}

#[test]
fn the_power_goes_off_at_the_change_that_was_asked_for() {
    let disk = FaultyDisk::new();
    let file = made(&disk, "f");
    disk.power_off_at(3);
    file.write_at(b"a", 0).unwrap();
    assert!(file.write_at(b"b", 0).is_err());
    assert!(file.sync_data().is_err());
    assert_eq!(disk.changes(), 4);
    disk.restart();
    assert_eq!(disk.content(&dir().join("f")).unwrap(), b"a");
}

#[test]
fn a_full_disk_refuses_growth_and_says_how_much_is_left() {
    let disk = FaultyDisk::new();
    let file = made(&disk, "f");
    disk.set_capacity(Some(100));
    file.write_at(&[0; 60], 0).unwrap();
    assert_eq!(disk.available_space(dir()).unwrap(), 40);
    assert!(file.write_at(&[0; 60], 60).unwrap_err().is_full());
    file.write_at(&[1; 60], 0).unwrap();
    assert!(disk.lock(&dir().join("l")).is_ok());
}
