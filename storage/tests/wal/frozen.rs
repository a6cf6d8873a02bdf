//! Bytes that earlier versions wrote must be read for ever. Files in `tests/frozen` are added, never changed.

use std::fmt::Write as _;

use super::*;

const SEGMENT: &[u8] = include_bytes!("../frozen/wal-1.bin");
const MANIFEST: &[u8] = include_bytes!("../frozen/wal-manifest-1.bin");

fn put(disk: &FaultyDisk, name: &str, content: &[u8], size: usize) {
    disk.create_dir_all(dir()).unwrap();
    let file = disk.create(&dir().join(name)).unwrap();
    file.write_at(content, 0).unwrap();
    file.truncate(size as u64).unwrap();
    file.sync_all().unwrap();
    disk.sync_dir(dir()).unwrap();
}

/// What the frozen files were made from: segment 2 of a log whose first was purged.
fn sample(disk: &FaultyDisk) {
    let (wal, _) = open(disk);
    vote(&wal, "term 3 for n2").unwrap();
    append(&wal, entries(1, 0..1, 3)).unwrap();
    append(
        &wal,
        vec![Entry {
            kind: Kind::Membership,
            ..entry(1, 1, 100)
        }],
    )
    .unwrap();
    // Ends the first segment.
    append(&wal, entries(1, 2..3, 15_000)).unwrap();
    append(&wal, entries(1, 3..4, 900)).unwrap();
    wal.save_committed(id(1, 2));
    wal.purge(id(1, 2));
    append(&wal, entries(1, 4..6, 20)).unwrap();
    truncate(&wal, Some(id(1, 4))).unwrap();
    append(
        &wal,
        vec![Entry {
            kind: Kind::Blank,
            ..entry(2, 5, 0)
        }],
    )
    .unwrap();
    vote(&wal, "term 4 for n1").unwrap();
    until("segment 1 is gone", || files(disk, ".wal").len() == 1);
    wal.close();
}

#[test]
fn the_log_of_format_1_is_read() {
    let disk = FaultyDisk::new();
    put(
        &disk,
        "0000000000000002.wal",
        SEGMENT,
        SEGMENT_BYTES as usize,
    );
    put(&disk, "manifest", MANIFEST, MANIFEST.len());
    let (wal, recovered) = open(&disk);
    assert_eq!(recovered.vote.as_deref(), Some(&b"term 4 for n1"[..]));
    assert_eq!(recovered.committed, Some(id(1, 2)));
    assert_eq!(
        (recovered.purged, recovered.last),
        (Some(id(1, 2)), Some(id(2, 5)))
    );
    let blank = Entry {
        kind: Kind::Blank,
        ..entry(2, 5, 0)
    };
    let expected = [entries(1, 3..4, 900), entries(1, 4..5, 20), vec![blank]].concat();
    assert_eq!(all(&wal), expected);
}

#[test]
fn the_layout_is_the_one_that_is_drawn() {
    let field = |at: usize, len: usize| {
        let mut hex = String::new();
        for byte in SEGMENT[at..at + len].iter().rev() {
            write!(hex, "{byte:02x}").unwrap();
        }
        u64::from_str_radix(&hex, 16).unwrap()
    };
    assert_eq!(&SEGMENT[0..8], b"MERIDWAL");
    assert_eq!(
        (field(8, 4), field(12, 4), field(16, 8)),
        (1, u64::from(SEGMENT_BYTES), 2)
    );
    assert_eq!(field(60, 4), u64::from(crc32(&SEGMENT[0..60])));
    // The checkpoint.
    assert_eq!(&SEGMENT[64..68], b"MREC");
    assert_eq!((SEGMENT[68], SEGMENT[69], field(70, 2)), (7, 0, 0));
    assert_eq!((field(72, 4), field(76, 4), field(80, 8)), (56 + 13, 64, 2));
    assert_eq!((field(104, 4), field(108, 4)), (0, field(60, 4)));
    let salted = |range: std::ops::Range<usize>| {
        u64::from(crc32(&[&SEGMENT[24..32], &SEGMENT[range]].concat()))
    };
    assert_eq!(field(112, 4), salted(120..120 + 69));
    assert_eq!(field(116, 4), salted(64..116));
    assert_eq!(field(120, 8), 0b1001);
    assert_eq!(
        (field(120 + 40, 8), field(120 + 48, 8)),
        (1, 2),
        "the last entry of segment 1"
    );
    assert_eq!(&SEGMENT[176..189], b"term 3 for n2");
    // The first entry: padded to 8.
    let at = 192;
    assert_eq!(&SEGMENT[at..at + 4], b"MREC");
    assert_eq!(
        (SEGMENT[at + 4], SEGMENT[at + 5], field(at + 6, 2)),
        (1, 1, 1)
    );
    assert_eq!((field(at + 8, 4), field(at + 12, 4)), (900, at as u64));
    assert_eq!((field(at + 24, 8), field(at + 32, 8)), (1, 3));
    assert_eq!(
        (field(at + 40, 4), field(at + 44, 4)),
        (at as u64, field(116, 4))
    );
    assert_eq!(&SEGMENT[at + 56..at + 956], &entry(1, 3, 900).payload[..]);
}

/// CRC-32 (IEEE 802.3), bit by bit: independent of the library the log uses.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// What is written today has the same layout; only the salt, and with it the checksums, differ.
#[test]
fn the_log_is_still_written_in_format_1() {
    let disk = FaultyDisk::new();
    sample(&disk);
    let now = disk.content(&dir().join("0000000000000002.wal")).unwrap();
    let len = now.iter().rposition(|b| *b != 0).unwrap() + 1;
    assert_eq!(len, SEGMENT.len());
    let mut at = 64;
    let mut records = 0;
    while at < len {
        let body = u32::from_le_bytes(now[at + 8..at + 12].try_into().unwrap()) as usize;
        for same in [at..at + 44, at + 56..(at + 56 + body).min(len)] {
            assert_eq!(now[same.clone()], SEGMENT[same], "record {records} at {at}");
        }
        at += (56 + body).next_multiple_of(8);
        records += 1;
    }
    assert_eq!(records, 10);
}
