//! Damage at rest and power that fails: nothing is missed, and the snapshot before is still there.

use super::*;

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
        for frame in wrong {
            content.extend_from_slice(&bytes[frame]);
        }
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
