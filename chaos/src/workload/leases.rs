//! Leases: granted, attached to a key, renewed for a while, then left to run out.

use std::time::Duration;

use bytes::Bytes;
use meridian_proto::etcdserverpb as pb;
use meridian_proto::etcdserverpb::kv_client::KvClient;
use meridian_proto::etcdserverpb::lease_client::LeaseClient;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tonic::transport::Channel;

use crate::history::{Leased, Time};
use crate::workload::{PREFIX, Shared};
use crate::world;

const TTL_SECONDS: i64 = 3;
const PATIENCE: Duration = Duration::from_secs(2);

/// Holds one lease after another, until the run is done.
pub async fn holder(shared: Shared, number: usize) {
    let mut random = StdRng::seed_from_u64(shared.seed ^ 0x1ea5e ^ ((number as u64) << 32));
    let mut n = 0;
    while !shared.is_done() {
        n += 1;
        let member = number + n;
        let Ok(channel) = world::connect(&shared.urls, member % shared.urls.len()).await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let key = Bytes::from(format!("{PREFIX}lease/{number}-{n}"));
        let renewals = random.random_range(0..8);
        if let Some(leased) = hold(&shared, &channel, key, member, renewals).await {
            shared.history.record(|log| log.leased.push(leased));
        }
    }
}

/// Grants, attaches, renews; none if the lease or its key never came to be.
async fn hold(
    shared: &Shared,
    channel: &Channel,
    key: Bytes,
    mut member: usize,
    renewals: usize,
) -> Option<Leased> {
    let mut lease = LeaseClient::new(channel.clone());
    let mut renewed = shared.history.now();
    let grant = lease.lease_grant(pb::LeaseGrantRequest {
        ttl: TTL_SECONDS,
        id: 0,
    });
    let grant = tokio::time::timeout(PATIENCE, grant)
        .await
        .ok()?
        .ok()?
        .into_inner();
    let ttl = Duration::from_secs(grant.ttl.max(0) as u64);
    let put = pb::PutRequest {
        key: key.clone(),
        lease: grant.id,
        ..Default::default()
    };
    let mut kv = KvClient::new(channel.clone());
    tokio::time::timeout(PATIENCE, kv.put(put))
        .await
        .ok()?
        .ok()?;
    let mut gone = None;
    for _ in 0..renewals {
        tokio::time::sleep(ttl / 3).await;
        let sent = shared.history.now();
        match renew(&shared.urls, member, grant.id).await {
            Some(0) => {
                gone = Some(shared.history.now());
                break;
            }
            Some(_) => renewed = sent,
            None => member += 1,
        }
        if shared.is_done() {
            break;
        }
    }
    Some(Leased {
        key,
        ttl: nanoseconds(ttl),
        renewed,
        gone,
    })
}

/// Renews once, over a stream of its own: the time to live granted, zero if the lease is gone, none if nobody
/// answered.
async fn renew(urls: &[String], member: usize, id: i64) -> Option<i64> {
    let ask = async {
        let channel = world::connect(urls, member % urls.len()).await.ok()?;
        let request = tokio_stream::once(pb::LeaseKeepAliveRequest { id });
        let answer = LeaseClient::new(channel)
            .lease_keep_alive(request)
            .await
            .ok()?;
        Some(answer.into_inner().message().await.ok()??.ttl)
    };
    tokio::time::timeout(Duration::from_secs(1), ask)
        .await
        .ok()
        .flatten()
}

fn nanoseconds(duration: Duration) -> Time {
    duration.as_nanos() as Time
}
