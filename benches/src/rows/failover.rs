//! From kill -9 of the leader to the next put that is acknowledged, at default settings.

use std::time::{Duration, Instant};

use meridian_proto::etcdserverpb as pb;
use meridian_proto::etcdserverpb::kv_client::KvClient;

use crate::Arguments;
use crate::cluster::{Cluster, Product};
use crate::load::{self, Failed};
use crate::report::Figures;

/// Kills the leader of a quiet cluster and puts on the survivors, in turn, until one acknowledges.
pub async fn run(product: Product, arguments: &Arguments) -> Result<Figures, Failed> {
    let mut cluster = Cluster::start(product, arguments).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let leader = cluster.leader().await?;
    let survivors = [(leader + 1) % 3, (leader + 2) % 3];
    let mut clients = vec![];
    for i in survivors {
        clients.push(KvClient::new(cluster.connect(i).await?));
    }
    cluster.kill(leader)?;
    let begun = Instant::now();
    let mut attempts = tokio::task::JoinSet::new();
    let mut n = 0;
    // A put every five milliseconds, so that neither side is favoured by how long one attempt hangs.
    loop {
        if let Some(client) = clients.get(n % 2) {
            let mut kv = client.clone();
            let request = pb::PutRequest {
                key: load::key(1),
                value: load::value(),
                ..Default::default()
            };
            attempts.spawn(async move { kv.put(request).await });
        }
        n += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
        while let Some(done) = attempts.try_join_next() {
            if matches!(done, Ok(Ok(_))) {
                return Ok(vec![("ms", begun.elapsed().as_secs_f64() * 1000.0)]);
            }
        }
        if begun.elapsed() > Duration::from_secs(60) {
            return Err(Failed::new("no put within a minute of the leader's death"));
        }
    }
}
