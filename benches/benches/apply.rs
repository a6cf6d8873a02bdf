//! What one write costs on every member: decoding a proposal, applying it, publishing it.
//!
//! Proposals are applied in batches of 24, which is what a busy cluster of three was seen to do, to a store of
//! so many keys that the tree does not fit the caches. One iteration is one batch; the throughput is in writes.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark; criterion's macros make public items"
)]

use std::sync::Arc;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use meridian_domain::command::{Command, Guards, Proposal};
use meridian_domain::key::{KeyRange, Space};
use meridian_domain::kv::Put;
use meridian_domain::name::TenantId;
use meridian_domain::revision::LogId;
use meridian_domain::stamp::Stamp;
use meridian_domain::txn::{Compare, Op, Operand, Relation, Txn};
use meridian_proto::record::proposal;
use meridian_storage::history::{self, History};
use meridian_storage::machine::{self, Machine};

/// The same as in the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const BATCH: u64 = 24;

fn key(n: u64) -> Bytes {
    Bytes::from(format!("/registry/services/checkout/{n:036}"))
}

/// The record of a put of 256 bytes, under a compare if asked.
fn record(n: u64, compared: bool) -> Bytes {
    let put = Op::Put(Put {
        space: Space::RAW,
        key: key(n),
        value: Some(Bytes::from(vec![b'v'; 256])),
        lease: Some(0),
        prev_kv: false,
    });
    let mut txn = Txn::once(put);
    if compared {
        txn.compares.push(Compare {
            space: Space::RAW,
            range: KeyRange::single(key(n)),
            relation: Relation::Greater,
            operand: Operand::Version(-1),
        });
    }
    proposal::encode(&Proposal {
        tenant: TenantId::DEFAULT,
        request_id: None,
        actor: "anonymous".into(),
        stamp: Stamp { unix_ms: 1 },
        guards: Guards::default(),
        command: Command::Txn(txn),
    })
}

struct Store {
    machine: Machine,
    index: u64,
    seed: u64,
    keys: u64,
}

impl Store {
    fn with(keys: u64) -> Self {
        let dir = tempfile::tempdir().expect("a directory").keep();
        let (history, _) = History::open(
            &dir,
            history::Settings::default(),
            Arc::new(meridian_storage::seal::Plain),
        )
        .expect("a store");
        let machine = Machine::new(history, machine::Settings::default());
        let mut store = Self {
            machine,
            index: 0,
            seed: 7,
            keys,
        };
        for from in (0..keys).step_by(512) {
            let records = (from..(from + 512).min(keys)).map(|n| record(n, false));
            store.apply(&records.collect::<Vec<_>>());
        }
        store
    }

    fn next(&mut self) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005) + 1_442_695_040_888_963_407;
        (self.seed >> 33) % self.keys
    }

    fn batch(&mut self, compared: bool) -> Vec<Bytes> {
        (0..BATCH).map(|_| record(self.next(), compared)).collect()
    }

    fn apply(&mut self, records: &[Bytes]) {
        for record in records {
            self.index += 1;
            let at = LogId {
                term: 1,
                index: self.index,
            };
            self.machine.apply(at, record);
        }
        self.machine.publish();
        assert!(self.machine.fault().is_none());
    }
}

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    group.throughput(Throughput::Elements(BATCH));
    for keys in [10_000, 100_000] {
        for (name, compared) in [("put", false), ("compare and put", true)] {
            let store = std::cell::RefCell::new(Store::with(keys));
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

criterion_group!(benches, apply);
criterion_main!(benches);
