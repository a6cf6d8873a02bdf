//! From the start of a killed member's process to its first linearizable answer, with a million keys.

use std::time::{Duration, Instant};

use crate::Arguments;
use crate::cluster::{Cluster, Product};
use crate::load::Failed;
use crate::report::Figures;
use crate::rows::memory;

/// Fills, lets the members settle, kills a follower and starts it again.
pub async fn run(product: Product, arguments: &Arguments) -> Result<Figures, Failed> {
    let mut cluster = Cluster::start(product, arguments).await?;
    memory::fill(&cluster, 1_000_000).await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let rss_bytes = cluster.rss_bytes()?;
    let follower = (cluster.leader().await? + 1) % 3;
    cluster.kill(follower)?;
    let begun = Instant::now();
    cluster.spawn(follower)?;
    cluster.wait_ready(follower).await?;
    let ms = begun.elapsed().as_secs_f64() * 1000.0;
    let mean = rss_bytes.iter().sum::<u64>() as f64 / rss_bytes.len().max(1) as f64;
    Ok(vec![("ms", ms), ("RSS MB", mean / 1e6)])
}
