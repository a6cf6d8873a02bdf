//! What a tenant that writes as fast as it can does to another: p99 of a quiet tenant's puts, without and with it.
//!
//! etcd has no tenants: there both write to the one store, under prefixes of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use meridian_proto::api::v1::CreateTenantRequest;
use meridian_proto::api::v1::tenant_service_client::TenantServiceClient;
use meridian_proto::etcdserverpb as pb;
use meridian_proto::etcdserverpb::kv_client::KvClient;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

use crate::Arguments;
use crate::cluster::{Cluster, Product};
use crate::load::{self, Failed};
use crate::report::Figures;

/// Loops of the busy tenant, over all members.
const BUSY_CLIENTS: usize = 64;
/// Keys each tenant writes.
const KEYS: u64 = 10_000;

type Tenant = Option<MetadataValue<Ascii>>;

/// The quiet tenant puts a hundred times a second, alone and then beside the busy one.
pub async fn run(product: Product, arguments: &Arguments) -> Result<Figures, Failed> {
    let cluster = Cluster::start(product, arguments).await?;
    let leader = cluster.leader().await?;
    let (quiet, busy) = match product {
        Product::Etcd => (None, None),
        Product::Meridian => {
            let mut tenants = TenantServiceClient::new(cluster.connect(leader).await?);
            for name in ["quiet", "busy"] {
                let request = CreateTenantRequest {
                    name: name.into(),
                    ..Default::default()
                };
                tenants.create(request).await?;
            }
            let named = |name: &'static str| Some(MetadataValue::from_static(name));
            (named("quiet"), named("busy"))
        }
    };
    let kv = KvClient::new(cluster.connect((leader + 1) % 3).await?);
    paced_p99(&kv, &quiet, 1).await?;
    let without = paced_p99(&kv, &quiet, arguments.seconds).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(write(cluster.connections(6).await?, busy, stop.clone()));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let with = paced_p99(&kv, &quiet, arguments.seconds).await?;
    stop.store(true, Ordering::Relaxed);
    let written = writer.await.map_err(|e| Failed::new(e.to_string()))??;
    Ok(vec![
        ("p99 with / without", with / without),
        ("p99 ms without", without),
        ("p99 ms with", with),
        ("busy op/s", written),
    ])
}

/// Writes until told to stop; puts per second.
async fn write(
    channels: Vec<Channel>,
    tenant: Tenant,
    stop: Arc<AtomicBool>,
) -> Result<f64, Failed> {
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..BUSY_CLIENTS {
        let channel = channels.get(client % channels.len().max(1)).cloned();
        let mut kv = KvClient::new(channel.ok_or_else(|| Failed::new("no connection"))?);
        let (tenant, stop) = (tenant.clone(), stop.clone());
        tasks.spawn(async move {
            let mut done = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                kv.put(put(&tenant, done % KEYS)).await?;
                done += 1;
            }
            Ok::<_, Failed>(done)
        });
    }
    let mut total = 0;
    while let Some(done) = tasks.join_next().await {
        total += done.map_err(|e| Failed::new(e.to_string()))??;
    }
    Ok(total as f64 / begun.elapsed().as_secs_f64())
}

/// p99 in milliseconds of puts at 100 per second.
async fn paced_p99(kv: &KvClient<Channel>, tenant: &Tenant, seconds: u64) -> Result<f64, Failed> {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..seconds * 100 {
        ticks.tick().await;
        let (mut kv, request) = (kv.clone(), put(tenant, n % KEYS));
        tasks.spawn(async move {
            let begun = Instant::now();
            kv.put(request).await?;
            Ok::<_, Failed>(begun.elapsed().as_micros() as u64)
        });
    }
    let mut latency_us = load::histogram();
    while let Some(done) = tasks.join_next().await {
        latency_us.saturating_record(done.map_err(|e| Failed::new(e.to_string()))??);
    }
    Ok(latency_us.value_at_quantile(0.99) as f64 / 1000.0)
}

fn put(tenant: &Tenant, n: u64) -> Request<pb::PutRequest> {
    let mut request = Request::new(pb::PutRequest {
        key: load::key(n),
        value: load::value(),
        ..Default::default()
    });
    if let Some(tenant) = tenant {
        request
            .metadata_mut()
            .insert("meridian-tenant", tenant.clone());
    }
    request
}
