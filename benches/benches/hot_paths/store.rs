//! A store without a cluster, for benchmarks: proposals go straight into a machine.

use std::sync::Arc;

use bytes::Bytes;
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

/// What a busy cluster of three was seen to apply at a time.
pub const BATCH: u64 = 24;

/// Key `n`, 64 bytes.
pub fn key(n: u64) -> Bytes {
    Bytes::from(format!("/registry/services/checkout/{n:036}"))
}

/// A put of 256 bytes, under a compare if asked.
pub fn put(n: u64, compared: bool) -> Txn {
    let mut txn = Txn::once(Op::Put(Put {
        space: Space::RAW,
        key: key(n),
        value: Some(Bytes::from(vec![b'v'; 256])),
        lease: Some(0),
        prev_kv: false,
    }));
    if compared {
        txn.compares.push(Compare {
            space: Space::RAW,
            range: KeyRange::single(key(n)),
            relation: Relation::Greater,
            operand: Operand::Version(-1),
        });
    }
    txn
}

/// What the log holds for it.
pub fn proposal(command: Command) -> Proposal {
    Proposal {
        tenant: TenantId::DEFAULT,
        request_id: None,
        actor: "anonymous".into(),
        stamp: Stamp { unix_ms: 1 },
        guards: Guards::default(),
        command,
    }
}

/// A machine over a version store in a temporary directory.
pub struct Store {
    pub machine: Machine,
    index: u64,
    seed: u64,
    keys: u64,
    _dir: tempfile::TempDir,
}

impl Store {
    /// With so many keys.
    pub fn with(keys: u64) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (settings, seal) = (history::Settings::default(), meridian_storage::seal::Plain);
        let (history, _) = History::open(dir.path(), settings, Arc::new(seal)).expect("a store");
        let mut store = Self {
            machine: Machine::new(history, machine::Settings::default()),
            index: 0,
            seed: 7,
            keys,
            _dir: dir,
        };
        for from in (0..keys).step_by(512) {
            let puts = (from..(from + 512).min(keys)).map(|n| put(n, false));
            let records: Vec<Bytes> = puts
                .map(|put| proposal::encode(&proposal(Command::Txn(put))))
                .collect();
            store.apply(&records);
        }
        store
    }

    /// One of its keys, by chance that is the same in every run.
    pub fn pick(&mut self) -> u64 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % self.keys
    }

    /// The records of a batch of puts.
    pub fn batch(&mut self, compared: bool) -> Vec<Bytes> {
        (0..BATCH)
            .map(|_| proposal::encode(&proposal(Command::Txn(put(self.pick(), compared)))))
            .collect()
    }

    /// Applies records and publishes.
    pub fn apply(&mut self, records: &[Bytes]) {
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
