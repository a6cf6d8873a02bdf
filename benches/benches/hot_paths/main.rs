//! The hot paths, one by one: what a request costs without network, disk and agreement.
//!
//! ```text
//! cargo bench -p meridian-benches
//! ```
//!
//! | group | what one iteration is |
//! |---|---|
//! | `plan` | an intent planned, and its proposal encoded |
//! | `apply` | a batch of proposals decoded, applied and published, on one member |
//! | `read` | a query answered from a view |
//! | `log` | entries appended and flushed to the device of the temporary directory |

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "benchmarks; criterion's macros make public items"
)]

mod store;

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use meridian_domain::access::Principal;
use meridian_domain::answer::answer;
use meridian_domain::command::Command;
use meridian_domain::intent::Intent;
use meridian_domain::key::{KeyRange, Space};
use meridian_domain::kv::{Order, Range, RevisionBounds, Target};
use meridian_domain::plan::plan;
use meridian_domain::query::Query;
use meridian_domain::revision::LogId;
use meridian_proto::record::proposal;
use meridian_storage::disk::OsDisk;
use meridian_storage::seal::Plain;
use meridian_storage::wal::{self, Entry, Kind, Wal};

use store::{BATCH, Store};

fn planning(criterion: &mut Criterion) {
    let store = Store::with(10_000);
    let view = store
        .machine
        .store()
        .tenant_named("default")
        .unwrap()
        .view();
    let mut group = criterion.benchmark_group("plan");
    for (name, compared) in [("put", false), ("compare and put", true)] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || Intent::Txn(store::put(77, compared)),
                |intent| {
                    let plan = plan(&view, &Principal::Anonymous, intent).unwrap();
                    proposal::encode(&store::proposal(plan.command))
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn applying(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    group.throughput(Throughput::Elements(BATCH));
    for keys in [10_000, 100_000] {
        for (name, compared) in [("put", false), ("compare and put", true)] {
            let store = RefCell::new(Store::with(keys));
            group.bench_function(format!("{name}, {keys} keys"), |bencher| {
                bencher.iter_batched(
                    || store.borrow_mut().batch(compared),
                    |records| store.borrow_mut().apply(&records),
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

fn reading(criterion: &mut Criterion) {
    let mut store = Store::with(100_000);
    let view = store
        .machine
        .store()
        .tenant_named("default")
        .unwrap()
        .view();
    let range = |range, limit, count_only| {
        Query::Range(Range {
            space: Space::RAW,
            range,
            revision: 0,
            limit,
            order: Order::Unordered,
            target: Target::Key,
            keys_only: false,
            count_only,
            bounds: RevisionBounds::default(),
        })
    };
    let mut group = criterion.benchmark_group("read");
    group.bench_function("one key of 100,000", |bencher| {
        bencher.iter_batched(
            || range(KeyRange::single(store::key(store.pick())), 0, false),
            |query| answer(&view, &Principal::Anonymous, &query).unwrap(),
            BatchSize::SmallInput,
        );
    });
    let all = KeyRange::prefix(Bytes::from_static(b"/registry/"));
    for (name, limit, count_only) in [
        ("the first 100 of 100,000", 100, false),
        ("the count of 100,000", 0, true),
    ] {
        let query = range(all.clone(), limit, count_only);
        group.bench_function(name, |bencher| {
            bencher.iter(|| answer(&view, &Principal::Anonymous, black_box(&query)).unwrap());
        });
    }
    group.finish();
}

fn logging(criterion: &mut Criterion) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (disk, seal) = (Arc::new(OsDisk::new()), Arc::new(Plain));
    let (wal, _) = Wal::open(disk, seal, dir.path(), wal::Settings::default()).unwrap();
    let index = RefCell::new(0);
    let payload = proposal::encode(&store::proposal(Command::Txn(store::put(1, false))));
    let mut group = criterion.benchmark_group("log");
    for count in [1, BATCH, 256] {
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("{count} entries, one flush"), |bencher| {
            bencher.iter(|| {
                let mut index = index.borrow_mut();
                let entries = (0..count).map(|_| {
                    *index += 1;
                    Entry {
                        log_id: LogId {
                            term: 1,
                            index: *index,
                        },
                        kind: Kind::Normal,
                        payload: payload.clone(),
                    }
                });
                let (done, flushed) = mpsc::sync_channel(1);
                let tell = Box::new(move |result| drop(done.send(result)));
                wal.append(entries.collect(), tell);
                flushed.recv().unwrap().unwrap();
            });
        });
    }
    group.finish();
}

criterion_group!(benches, planning, applying, reading, logging);
criterion_main!(benches);
