//! One row of the table each: what is measured, and what must be reached.

mod failover;
mod fairness;
mod memory;
mod restart;
mod throughput;
mod watching;

use crate::Arguments;
use crate::cluster::Product;
use crate::load::Failed;
use crate::report::Figures;

/// A row of the table.
pub struct Row {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it measures.
    pub about: &'static str,
    /// The target of each figure, as ours to etcd's.
    pub targets: &'static [(&'static str, &'static str)],
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Load(throughput::Load),
    WatchLatency,
    FanOut,
    Lagging,
    Fairness,
    KeyMemory,
    WatcherMemory,
    Failover,
    Restart,
}

/// Every row, in the order of the table.
pub const ALL: &[Row] = &[
    Row {
        name: "put-1",
        about: "put, 1 client",
        targets: &[("op/s", ">= 1.3")],
        kind: Kind::Load(throughput::Load::put(1)),
    },
    Row {
        name: "put-64",
        about: "put, 64 clients",
        targets: &[
            ("op/s", ">= 2"),
            ("p99 ms", "<= 0.5"),
            ("server CPU us/op", "<= 0.5"),
        ],
        kind: Kind::Load(throughput::Load::put(64)),
    },
    Row {
        name: "put-512",
        about: "put, 512 clients",
        targets: &[("op/s", ">= 2")],
        kind: Kind::Load(throughput::Load::put(512)),
    },
    Row {
        name: "get-64",
        about: "linearizable get, 64 clients",
        targets: &[("op/s", ">= 2")],
        kind: Kind::Load(throughput::Load::get(64, false)),
    },
    Row {
        name: "get-512",
        about: "linearizable get, 512 clients",
        targets: &[("op/s", ">= 2")],
        kind: Kind::Load(throughput::Load::get(512, false)),
    },
    Row {
        name: "serializable-64",
        about: "serializable get, 64 clients",
        targets: &[("op/s", ">= 2")],
        kind: Kind::Load(throughput::Load::get(64, true)),
    },
    Row {
        name: "txn-64",
        about: "txn (one compare, one put), 64 clients",
        targets: &[("op/s", ">= 3")],
        kind: Kind::Load(throughput::Load::txn(64)),
    },
    Row {
        name: "watch",
        about: "watch, put start to event on another member, 200 put/s",
        targets: &[("p50 ms", "<= 0.7"), ("p99 ms", "<= 0.7")],
        kind: Kind::WatchLatency,
    },
    Row {
        name: "fan-out",
        about: "10,000 watchers on one key, 100 connections, last event",
        targets: &[("p99 ms", "<= 0.33")],
        kind: Kind::FanOut,
    },
    Row {
        name: "lagging",
        about: "put at 500/s while a watcher is 500,000 revisions behind, against without",
        targets: &[("p99 with / without", "<= 1.2 (own)")],
        kind: Kind::Lagging,
    },
    Row {
        name: "fairness",
        about: "a tenant's puts at 100/s beside another with 64 clients, against alone",
        targets: &[("p99 with / without", "<= 1.5 (own)")],
        kind: Kind::Fairness,
    },
    Row {
        name: "key-memory",
        about: "RSS per member with 100k keys",
        targets: &[("MB", "<= 0.7")],
        kind: Kind::KeyMemory,
    },
    Row {
        name: "watcher-memory",
        about: "RSS per watcher, 5,000 on own streams",
        targets: &[("KB", "<= 0.5")],
        kind: Kind::WatcherMemory,
    },
    Row {
        name: "failover",
        about: "kill -9 of the leader to the next put, default settings",
        targets: &[("ms", "<= 0.7")],
        kind: Kind::Failover,
    },
    Row {
        name: "restart",
        about: "restart of a member to serving, 1M keys",
        targets: &[("ms", "<= 0.5")],
        kind: Kind::Restart,
    },
];

/// Measures one row once on one side.
pub async fn run(row: &Row, product: Product, arguments: &Arguments) -> Result<Figures, Failed> {
    match row.kind {
        Kind::Load(load) => throughput::run(load, product, arguments).await,
        Kind::WatchLatency => watching::latency(product, arguments).await,
        Kind::FanOut => watching::fan_out(product, arguments).await,
        Kind::Lagging => watching::lagging(product, arguments).await,
        Kind::Fairness => fairness::run(product, arguments).await,
        Kind::KeyMemory => memory::keys(product, arguments).await,
        Kind::WatcherMemory => memory::watchers(product, arguments).await,
        Kind::Failover => failover::run(product, arguments).await,
        Kind::Restart => restart::run(product, arguments).await,
    }
}
