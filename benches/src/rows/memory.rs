//! Resident memory: per member with many keys, per watcher with many streams.

use std::time::Duration;

use meridian_proto::etcdserverpb as pb;
use meridian_proto::etcdserverpb::kv_client::KvClient;

use crate::Arguments;
use crate::cluster::{Cluster, Product};
use crate::load::{self, Failed};
use crate::report::Figures;
use crate::rows::watching::{Stream, watch_of};

/// Puts `total` different keys.
pub async fn fill(cluster: &Cluster, total: u64) -> Result<(), Failed> {
    let clients: Vec<_> = cluster
        .connections(6)
        .await?
        .into_iter()
        .map(KvClient::new)
        .collect();
    load::fill(128, total, move |client, n| {
        let kv = clients.get(client % clients.len()).cloned();
        async move {
            let mut kv = kv.ok_or_else(|| Failed::new("no connection"))?;
            let request = pb::PutRequest {
                key: load::key(n),
                value: load::value(),
                ..Default::default()
            };
            kv.put(request).await?;
            Ok(())
        }
    })
    .await
}

/// The mean over the members, in megabytes, five seconds after the last of 100,000 puts.
pub async fn keys(product: Product, arguments: &Arguments) -> Result<Figures, Failed> {
    let cluster = Cluster::start(product, arguments).await?;
    fill(&cluster, 100_000).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let rss = cluster.rss_bytes()?;
    let mean = rss.iter().sum::<u64>() as f64 / rss.len().max(1) as f64;
    Ok(vec![("MB", mean / 1e6)])
}

/// How much one member grows by 5,000 watchers, each on a stream of its own, fifty streams a connection; in
/// kilobytes per watcher.
pub async fn watchers(product: Product, arguments: &Arguments) -> Result<Figures, Failed> {
    const WATCHERS: usize = 5_000;
    const PER_CONNECTION: usize = 50;
    let cluster = Cluster::start(product, arguments).await?;
    fill(&cluster, 1_000).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = cluster.rss_bytes()?.first().copied().unwrap_or(0);
    let mut streams = vec![];
    for _ in 0..WATCHERS / PER_CONNECTION {
        let channel = cluster.connect(0).await?;
        for i in 0..PER_CONNECTION {
            let mut stream = Stream::open(channel.clone(), watch_of(load::key(i as u64))).await?;
            stream.next().await?;
            streams.push(stream);
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = cluster.rss_bytes()?.first().copied().unwrap_or(0);
    let grown = after.saturating_sub(before) as f64 / streams.len() as f64;
    Ok(vec![("KB", grown / 1e3)])
}
