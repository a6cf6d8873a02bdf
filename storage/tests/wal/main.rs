//! The log, through its interface, on a simulated disk that loses, tears, flips and refuses.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod append;
mod crash;
mod damage;
mod frozen;
mod model;
mod space;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bytes::Bytes;
use meridian_domain::revision::LogId;
use meridian_storage::disk::{Disk, FaultyDisk};
use meridian_storage::fault::Fault;
use meridian_storage::seal::Plain;
use meridian_storage::wal::{Done, Entry, Kind, Recovered, Settings, Wal};

/// The smallest segment there is.
const SEGMENT_BYTES: u32 = 16 * 1024;

/// How long a test waits for what must happen, before it fails.
const PATIENCE: Duration = Duration::from_secs(30);

fn dir() -> &'static Path {
    Path::new("/data/wal")
}

/// Small segments, and nothing that depends on time.
fn settings() -> Settings {
    Settings {
        segment_bytes: SEGMENT_BYTES,
        reserve_bytes: 0,
        settle_after: Duration::from_hours(1),
        ..Settings::default()
    }
}

fn open_with(disk: &FaultyDisk, settings: Settings) -> Result<(Wal, Recovered), Fault> {
    Wal::open(Arc::new(disk.clone()), Arc::new(Plain), dir(), settings)
}

fn open(disk: &FaultyDisk) -> (Wal, Recovered) {
    open_with(disk, settings()).unwrap()
}

fn id(term: u64, index: u64) -> LogId {
    LogId { term, index }
}

/// An entry whose content follows from its position, so that a mix-up is seen.
fn entry(term: u64, index: u64, len: usize) -> Entry {
    let seed = (term * 31 + index) as u8;
    let payload: Vec<u8> = (0..len).map(|i| seed.wrapping_add(i as u8)).collect();
    Entry {
        log_id: id(term, index),
        kind: Kind::Normal,
        payload: payload.into(),
    }
}

fn entries(term: u64, indexes: std::ops::Range<u64>, len: usize) -> Vec<Entry> {
    indexes.map(|index| entry(term, index, len)).collect()
}

/// A `done` and where its answer arrives.
fn waiting() -> (Done, Receiver<Result<(), Fault>>) {
    let (send, receive) = channel();
    (Box::new(move |outcome| drop(send.send(outcome))), receive)
}

fn answer(receive: &Receiver<Result<(), Fault>>) -> Result<(), Fault> {
    receive.recv_timeout(PATIENCE).expect("an answer")
}

fn append(wal: &Wal, entries: Vec<Entry>) -> Result<(), Fault> {
    let (done, receive) = waiting();
    wal.append(entries, done);
    answer(&receive)
}

fn vote(wal: &Wal, vote: &'static str) -> Result<(), Fault> {
    let (done, receive) = waiting();
    wal.save_vote(Bytes::from_static(vote.as_bytes()), done);
    answer(&receive)
}

fn truncate(wal: &Wal, to: Option<LogId>) -> Result<(), Fault> {
    let (done, receive) = waiting();
    wal.truncate_after(to, done);
    answer(&receive)
}

/// Every entry that is there.
fn all(wal: &Wal) -> Vec<Entry> {
    let (purged, last) = wal.state();
    let (mut from, to) = match (purged, last) {
        (_, None) => return Vec::new(),
        (None, Some(last)) => (
            (0..=last.index).find(|i| wal.log_id(*i).is_some()),
            last.index + 1,
        ),
        (Some(purged), Some(last)) => (Some(purged.index + 1), last.index + 1),
    };
    let mut found = Vec::new();
    while let Some(at) = from.filter(|at| *at < to) {
        let some = wal.read(at, to, 1000).unwrap();
        assert!(!some.is_empty(), "a stored range reads as empty at {at}");
        from = Some(at + some.len() as u64);
        found.extend(some);
    }
    found
}

/// Waits until a condition holds.
fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn files(disk: &FaultyDisk, ending: &str) -> Vec<PathBuf> {
    let names = disk.list(dir()).unwrap();
    names
        .iter()
        .filter(|name| name.ends_with(ending))
        .map(|name| dir().join(name))
        .collect()
}

/// Waits until the thread that makes spares has nothing to do.
fn spare_is_ready(disk: &FaultyDisk) {
    until("a spare", || {
        !files(disk, ".spare").is_empty() && files(disk, ".zeroing").is_empty()
    });
}
