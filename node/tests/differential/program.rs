//! Random programs over few keys, so that requests collide.

use bytes::Bytes;
use meridian_proto::etcdserverpb as pb;
use meridian_proto::etcdserverpb::compare::TargetUnion;
use meridian_proto::etcdserverpb::request_op::Request;
use rand::Rng;
use rand::rngs::StdRng;

/// One request.
#[derive(Clone, Debug)]
pub enum Step {
    Put(pb::PutRequest),
    Range(pb::RangeRequest),
    Delete(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Grant(pb::LeaseGrantRequest),
    Revoke(pb::LeaseRevokeRequest),
    TimeToLive(pb::LeaseTimeToLiveRequest),
    Leases,
    Compact(pb::CompactionRequest),
    Watch(pb::WatchCreateRequest),
}

/// What earlier steps left behind that later ones can refer to.
#[derive(Default)]
pub struct Memory {
    leases: Vec<i64>,
    watches: i64,
    /// A guess of the current revision; wrong guesses make good requests too.
    revision: i64,
}

const KEYS: [&str; 9] = ["a", "aa", "ab", "b", "ba", "c", "c/1", "c/2", "d"];

fn key(random: &mut StdRng) -> Bytes {
    if random.random_ratio(1, 40) {
        return Bytes::new();
    }
    Bytes::from_static(KEYS[random.random_range(0..KEYS.len())].as_bytes())
}

fn range_end(random: &mut StdRng) -> Bytes {
    match random.random_range(0..6) {
        0..=2 => Bytes::new(),
        3 => Bytes::from_static(b"\0"),
        _ => key(random),
    }
}

fn revision(random: &mut StdRng, memory: &Memory) -> i64 {
    match random.random_range(0..8) {
        0..=4 => 0,
        5 => random.random_range(-2..4),
        _ => random.random_range(1..memory.revision.max(1) + 3),
    }
}

fn lease(random: &mut StdRng, memory: &Memory) -> i64 {
    if memory.leases.is_empty() || random.random_ratio(1, 10) {
        return 4242;
    }
    memory.leases[random.random_range(0..memory.leases.len())]
}

/// Draws the next step.
pub fn step(random: &mut StdRng, memory: &mut Memory) -> Step {
    match random.random_range(0..100) {
        0..=29 => {
            memory.revision += 1;
            Step::Put(put(random, memory))
        }
        30..=49 => Step::Range(range(random, memory)),
        50..=57 => Step::Delete(delete(random)),
        58..=79 => {
            memory.revision += 1;
            let mut budget = 8;
            Step::Txn(txn(random, memory, 0, &mut budget))
        }
        80..=84 => {
            let id = random.random_range(1..30);
            memory.leases.push(id);
            // Long enough not to run out during the test.
            let ttl = random.random_range(500..1000);
            Step::Grant(pb::LeaseGrantRequest { ttl, id })
        }
        85..=87 => Step::Revoke(pb::LeaseRevokeRequest {
            id: lease(random, memory),
        }),
        88..=89 => Step::TimeToLive(pb::LeaseTimeToLiveRequest {
            id: lease(random, memory),
            keys: random.random(),
        }),
        90 => Step::Leases,
        91..=92 => Step::Compact(pb::CompactionRequest {
            // Once only, etcd takes a compaction to zero on a store that never compacted, and counts from then on
            // as compacted at zero. We take it and change nothing.
            revision: revision(random, memory).max(1),
            physical: random.random(),
        }),
        93..=96 => {
            memory.watches += 1;
            Step::Watch(watch(random, memory))
        }
        _ => Step::Put(put(random, memory)),
    }
}

fn put(random: &mut StdRng, memory: &Memory) -> pb::PutRequest {
    let ignore_value = random.random_ratio(1, 10);
    let ignore_lease = random.random_ratio(1, 10);
    let value = if ignore_value && random.random_ratio(9, 10) {
        Bytes::new()
    } else {
        Bytes::from(format!("v{}", random.random_range(0..20)))
    };
    pb::PutRequest {
        key: key(random),
        value,
        lease: if random.random_ratio(1, 5) {
            lease(random, memory)
        } else {
            0
        },
        prev_kv: random.random(),
        ignore_value,
        ignore_lease,
    }
}

fn range(random: &mut StdRng, memory: &Memory) -> pb::RangeRequest {
    let bound = |random: &mut StdRng| {
        if random.random_ratio(1, 6) {
            random.random_range(1..memory.revision.max(1) + 2)
        } else {
            0
        }
    };
    // Ties in an order are unspecified in etcd: only orders by key or by a unique revision can be compared.
    let sort_target = [0, 0, 3][random.random_range(0..3)];
    pb::RangeRequest {
        key: key(random),
        range_end: range_end(random),
        limit: [0, 0, 1, 2, 3][random.random_range(0..5)],
        revision: revision(random, memory),
        sort_order: if sort_target == 3 {
            random.random_range(1..3)
        } else {
            random.random_range(0..3)
        },
        sort_target,
        serializable: random.random(),
        keys_only: random.random_ratio(1, 5),
        count_only: random.random_ratio(1, 6),
        min_mod_revision: bound(random),
        max_mod_revision: bound(random),
        min_create_revision: bound(random),
        max_create_revision: bound(random),
    }
}

fn delete(random: &mut StdRng) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: key(random),
        range_end: if random.random_ratio(2, 3) {
            Bytes::new()
        } else {
            range_end(random)
        },
        prev_kv: random.random(),
    }
}

fn txn(random: &mut StdRng, memory: &Memory, depth: usize, budget: &mut usize) -> pb::TxnRequest {
    let compares = random.random_range(0..3);
    let compare = (0..compares).map(|_| compare(random, memory)).collect();
    let mut branch = |random: &mut StdRng| -> Vec<pb::RequestOp> {
        let ops = random.random_range(0..4);
        (0..ops)
            .map(|_| op(random, memory, depth, budget))
            .collect()
    };
    pb::TxnRequest {
        compare,
        success: branch(random),
        failure: branch(random),
    }
}

fn op(random: &mut StdRng, memory: &Memory, depth: usize, budget: &mut usize) -> pb::RequestOp {
    let nested = depth < 2 && *budget > 0 && random.random_ratio(1, 6);
    let request = if nested {
        *budget -= 1;
        Request::RequestTxn(txn(random, memory, depth + 1, budget))
    } else {
        match random.random_range(0..20) {
            0..=8 => Request::RequestPut(put(random, memory)),
            9..=15 => Request::RequestRange(unique_range(random, memory)),
            16..=18 => Request::RequestDeleteRange(delete(random)),
            _ => return pb::RequestOp { request: None },
        }
    };
    pb::RequestOp {
        request: Some(request),
    }
}

/// Inside a transaction several keys can share a revision, so only orders by key can be compared.
fn unique_range(random: &mut StdRng, memory: &Memory) -> pb::RangeRequest {
    pb::RangeRequest {
        sort_target: 0,
        ..range(random, memory)
    }
}

fn compare(random: &mut StdRng, memory: &Memory) -> pb::Compare {
    let number = random.random_range(0..memory.revision.max(1) + 2);
    let (target, union) = match random.random_range(0..6) {
        0 => (0, Some(TargetUnion::Version(random.random_range(0..4)))),
        1 => (1, Some(TargetUnion::CreateRevision(number))),
        2 => (2, Some(TargetUnion::ModRevision(number))),
        3 => (
            3,
            Some(TargetUnion::Value(
                format!("v{}", random.random_range(0..20)).into(),
            )),
        ),
        4 => (4, Some(TargetUnion::Lease(lease(random, memory)))),
        _ => (random.random_range(0..5), None),
    };
    pb::Compare {
        result: random.random_range(0..4),
        target,
        key: key(random),
        target_union: union,
        range_end: if random.random_ratio(3, 4) {
            Bytes::new()
        } else {
            range_end(random)
        },
    }
}

fn watch(random: &mut StdRng, memory: &Memory) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: key(random),
        range_end: range_end(random),
        start_revision: if random.random() {
            0
        } else {
            random.random_range(1..memory.revision.max(1) + 2)
        },
        progress_notify: false,
        filters: match random.random_range(0..6) {
            0 => vec![0],
            1 => vec![1],
            _ => vec![],
        },
        prev_kv: random.random(),
        watch_id: memory.watches,
        fragment: random.random_ratio(1, 10),
    }
}
