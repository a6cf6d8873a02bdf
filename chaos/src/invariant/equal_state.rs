//! All members hold the same: one revision, one hash of every key and version.

use std::time::{Duration, Instant};

use meridian_proto::etcdserverpb as pb;
use meridian_proto::etcdserverpb::maintenance_client::MaintenanceClient;

use crate::invariant::Faults;
use crate::world::{self, WorldError};

/// Asks every member for its hash at `revision`, once it has come that far.
pub async fn check(urls: &[String], revision: i64) -> Result<Faults, WorldError> {
    let mut hashes = vec![];
    for i in 0..urls.len() {
        hashes.push(hash(urls, i, revision).await?);
    }
    let first = hashes.first().copied();
    if hashes.iter().all(|hash| Some(*hash) == first) {
        return Ok(vec![]);
    }
    Ok(vec![format!(
        "the members' hashes at revision {revision} differ: {hashes:?}"
    )])
}

async fn hash(urls: &[String], i: usize, revision: i64) -> Result<(u32, i64), WorldError> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut maintenance = MaintenanceClient::new(world::connect(urls, i).await?);
    loop {
        match maintenance.hash_kv(pb::HashKvRequest { revision }).await {
            Ok(answer) => return Ok((answer.get_ref().hash, answer.get_ref().compact_revision)),
            // It may still be behind.
            Err(status) if Instant::now() > deadline => return Err(status.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
