//! Operations per second, latency, and the servers' CPU time per operation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use meridian_proto::etcdserverpb as pb;
use meridian_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use meridian_proto::etcdserverpb::kv_client::KvClient;
use meridian_proto::etcdserverpb::request_op::Request;
use tonic::transport::Channel;

use crate::Arguments;
use crate::cluster::{Cluster, Product};
use crate::load::{self, Failed};
use crate::report::Figures;

/// How many different keys the load touches.
const KEYS: u64 = 10_000;
/// The most connections the clients share.
const CONNECTIONS_MAX: usize = 8;

/// Which load.
#[derive(Clone, Copy)]
pub struct Load {
    clients: usize,
    operation: Operation,
}

#[derive(Clone, Copy)]
enum Operation {
    Put,
    Get { serializable: bool },
    Txn,
}

impl Load {
    pub const fn put(clients: usize) -> Self {
        Self {
            clients,
            operation: Operation::Put,
        }
    }

    pub const fn get(clients: usize, serializable: bool) -> Self {
        Self {
            clients,
            operation: Operation::Get { serializable },
        }
    }

    pub const fn txn(clients: usize) -> Self {
        Self {
            clients,
            operation: Operation::Txn,
        }
    }
}

pub async fn run(load: Load, product: Product, arguments: &Arguments) -> Result<Figures, Failed> {
    let cluster = Cluster::start(product, arguments).await?;
    let channels = if load.clients == 1 {
        vec![cluster.connect(cluster.leader().await?).await?]
    } else {
        cluster
            .connections(load.clients.min(CONNECTIONS_MAX))
            .await?
    };
    let clients: Vec<KvClient<Channel>> = channels.into_iter().map(KvClient::new).collect();
    if !matches!(load.operation, Operation::Put) {
        let clients = clients.clone();
        load::fill(64, KEYS, move |client, n| {
            put(pick(&clients, client), load::key(n))
        })
        .await?;
    }
    let cpu_before = Arc::new(AtomicU64::new(0));
    let cpu_at_start = cpu_before.clone();
    let measured = load::run(
        load.clients,
        Duration::from_secs(2),
        arguments.seconds(),
        || cpu_at_start.store(cluster.cpu_us().unwrap_or(0), Ordering::Relaxed),
        move |client, _| {
            let kv = pick(&clients, client);
            let key = load::random_key(KEYS);
            async move {
                match load.operation {
                    Operation::Put => put(kv, key).await,
                    Operation::Get { serializable } => get(kv, key, serializable).await,
                    Operation::Txn => txn(kv, key).await,
                }
            }
        },
    )
    .await?;
    let cpu_us = cluster
        .cpu_us()?
        .saturating_sub(cpu_before.load(Ordering::Relaxed));
    Ok(vec![
        ("op/s", measured.per_second),
        (
            "p50 ms",
            measured.latency_us.value_at_quantile(0.5) as f64 / 1000.0,
        ),
        (
            "p99 ms",
            measured.latency_us.value_at_quantile(0.99) as f64 / 1000.0,
        ),
        (
            "server CPU us/op",
            cpu_us as f64 / measured.operations.max(1) as f64,
        ),
    ])
}

fn pick(clients: &[KvClient<Channel>], client: usize) -> Option<KvClient<Channel>> {
    clients.get(client % clients.len().max(1)).cloned()
}

fn some(kv: Option<KvClient<Channel>>) -> Result<KvClient<Channel>, Failed> {
    kv.ok_or_else(|| Failed::new("no connection"))
}

async fn put(kv: Option<KvClient<Channel>>, key: Bytes) -> Result<(), Failed> {
    let request = pb::PutRequest {
        key,
        value: load::value(),
        ..Default::default()
    };
    some(kv)?.put(request).await?;
    Ok(())
}

async fn get(kv: Option<KvClient<Channel>>, key: Bytes, serializable: bool) -> Result<(), Failed> {
    let request = pb::RangeRequest {
        key,
        serializable,
        ..Default::default()
    };
    let reply = some(kv)?.range(request).await?;
    if reply.get_ref().count != 1 {
        return Err(Failed::new("a key that was put is not there"));
    }
    Ok(())
}

async fn txn(kv: Option<KvClient<Channel>>, key: Bytes) -> Result<(), Failed> {
    let compare = pb::Compare {
        result: CompareResult::Greater.into(),
        target: CompareTarget::Version.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::Version(0)),
        ..Default::default()
    };
    let put = pb::PutRequest {
        key,
        value: load::value(),
        ..Default::default()
    };
    let request = pb::TxnRequest {
        compare: vec![compare],
        success: vec![pb::RequestOp {
            request: Some(Request::RequestPut(put)),
        }],
        failure: vec![],
    };
    let reply = some(kv)?.txn(request).await?;
    if !reply.get_ref().succeeded {
        return Err(Failed::new("a compare that holds did not"));
    }
    Ok(())
}
