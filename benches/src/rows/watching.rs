//! Watches: how soon an event arrives, at how many, and at what price for writers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use meridian_proto::etcdserverpb as pb;
use meridian_proto::etcdserverpb::kv_client::KvClient;
use meridian_proto::etcdserverpb::watch_client::WatchClient;
use meridian_proto::etcdserverpb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::Arguments;
use crate::cluster::{Cluster, Product};
use crate::load::{self, Failed};
use crate::report::Figures;

/// A stream of watches. The sender must live as long as the stream.
pub struct Stream {
    requests: mpsc::Sender<pb::WatchRequest>,
    pub answers: Streaming<pb::WatchResponse>,
}

impl Stream {
    /// Opens a stream on a connection with its first watch. (etcd sends the headers of its answer with the
    /// first message, so a stream without a watch would not open.)
    pub async fn open(channel: Channel, first: pb::WatchCreateRequest) -> Result<Self, Failed> {
        let (requests, receiver) = mpsc::channel(64);
        let request = pb::WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(first)),
        };
        requests
            .send(request)
            .await
            .map_err(|_| Failed::new("the stream is closed"))?;
        let answers = WatchClient::new(channel)
            .watch(ReceiverStream::new(receiver))
            .await?
            .into_inner();
        Ok(Self { requests, answers })
    }

    /// Adds a watch without waiting for the answer.
    pub async fn create(&self, create: pb::WatchCreateRequest) -> Result<(), Failed> {
        let request = pb::WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        self.requests
            .send(request)
            .await
            .map_err(|_| Failed::new("the stream is closed"))
    }

    /// The next answer; an error when the stream ends.
    pub async fn next(&mut self) -> Result<pb::WatchResponse, Failed> {
        self.answers
            .message()
            .await?
            .ok_or_else(|| Failed::new("the watch stream ended"))
    }
}

/// A watch of one key.
pub fn watch_of(key: Bytes) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key,
        ..Default::default()
    }
}

fn watch_prefix(start_revision: i64) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: "compare/".into(),
        range_end: "compare0".into(),
        start_revision,
        ..Default::default()
    }
}

async fn put(kv: &mut KvClient<Channel>, key: Bytes) -> Result<i64, Failed> {
    let request = pb::PutRequest {
        key,
        value: load::value(),
        ..Default::default()
    };
    let reply = kv.put(request).await?.into_inner();
    Ok(reply.header.map_or(0, |h| h.revision))
}

/// Put start to event, put on one member and watched on another, at 200 puts per second (open loop).
pub async fn latency(product: Product, arguments: &Arguments) -> Result<Figures, Failed> {
    let cluster = Cluster::start(product, arguments).await?;
    let leader = cluster.leader().await?;
    let channel = cluster.connect((leader + 1) % 3).await?;
    let mut stream = Stream::open(channel, watch_prefix(0)).await?;
    stream.next().await?;
    let kv = KvClient::new(cluster.connect(leader).await?);
    let begun: Arc<Mutex<HashMap<Bytes, Instant>>> = Arc::default();
    let total = arguments.seconds * 200;
    let starts = begun.clone();
    let writer = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..total {
            ticks.tick().await;
            let (mut kv, key) = (kv.clone(), load::key(n));
            lock(&starts).insert(key.clone(), Instant::now());
            tasks.spawn(async move { put(&mut kv, key).await });
        }
        while let Some(done) = tasks.join_next().await {
            done.map_err(|e| Failed::new(e.to_string()))??;
        }
        Ok::<_, Failed>(())
    });
    let mut latency_us = load::histogram();
    while latency_us.len() < total {
        let answer = tokio::time::timeout(Duration::from_secs(10), stream.next())
            .await
            .map_err(|_| Failed::new("an event did not come within ten seconds"))??;
        let now = Instant::now();
        for kv in answer.events.into_iter().filter_map(|event| event.kv) {
            if let Some(start) = lock(&begun).remove(&kv.key) {
                latency_us.saturating_record(now.duration_since(start).as_micros() as u64);
            }
        }
    }
    writer.await.map_err(|e| Failed::new(e.to_string()))??;
    Ok(vec![
        ("p50 ms", latency_us.value_at_quantile(0.5) as f64 / 1000.0),
        ("p99 ms", latency_us.value_at_quantile(0.99) as f64 / 1000.0),
    ])
}

/// 10,000 watchers of one key, a hundred on each of a hundred connections: when the last one has the event.
pub async fn fan_out(product: Product, arguments: &Arguments) -> Result<Figures, Failed> {
    const CONNECTIONS: usize = 100;
    const WATCHES: usize = 100;
    let cluster = Cluster::start(product, arguments).await?;
    let key = load::key(1);
    let (arrived, mut arrivals) = mpsc::channel::<(i64, Instant)>(CONNECTIONS * 4);
    for i in 0..CONNECTIONS {
        let channel = cluster.connect(i % 3).await?;
        let mut stream = Stream::open(channel, watch_of(key.clone())).await?;
        for _ in 1..WATCHES {
            stream.create(watch_of(key.clone())).await?;
        }
        for _ in 0..WATCHES {
            stream.next().await?;
        }
        let arrived = arrived.clone();
        tokio::spawn(async move {
            // Counts the watches of this connection that have the event of a revision.
            let mut counts: HashMap<i64, usize> = HashMap::new();
            while let Ok(answer) = stream.next().await {
                for kv in answer.events.into_iter().filter_map(|event| event.kv) {
                    let count = counts.entry(kv.mod_revision).or_default();
                    *count += 1;
                    if *count == WATCHES
                        && arrived
                            .send((kv.mod_revision, Instant::now()))
                            .await
                            .is_err()
                    {
                        return;
                    }
                }
            }
        });
    }
    let mut kv = KvClient::new(cluster.connect(0).await?);
    let mut last_us = load::histogram();
    for round in 0..60 {
        let begun = Instant::now();
        let revision = put(&mut kv, key.clone()).await?;
        let mut last = begun;
        for _ in 0..CONNECTIONS {
            let (of, at) = tokio::time::timeout(Duration::from_secs(30), arrivals.recv())
                .await
                .map_err(|_| Failed::new("an event did not come within thirty seconds"))?
                .ok_or_else(|| Failed::new("every watch stream ended"))?;
            if of != revision {
                return Err(Failed::new(format!(
                    "event of revision {of}, not {revision}"
                )));
            }
            last = last.max(at);
        }
        if round >= 10 {
            last_us.saturating_record(last.duration_since(begun).as_micros() as u64);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(vec![
        ("p50 ms", last_us.value_at_quantile(0.5) as f64 / 1000.0),
        ("p99 ms", last_us.value_at_quantile(0.99) as f64 / 1000.0),
    ])
}

/// Put p99 at 500 puts per second, without and with a watcher that starts 500,000 revisions behind.
pub async fn lagging(product: Product, arguments: &Arguments) -> Result<Figures, Failed> {
    const BEHIND: u64 = 500_000;
    let cluster = Cluster::start(product, arguments).await?;
    let clients: Vec<_> = cluster
        .connections(6)
        .await?
        .into_iter()
        .map(KvClient::new)
        .collect();
    let filling = clients.clone();
    load::fill(256, BEHIND, move |client, n| {
        let kv = filling.get(client % filling.len()).cloned();
        async move {
            let mut kv = kv.ok_or_else(|| Failed::new("no connection"))?;
            put(&mut kv, load::key(n % 10_000)).await.map(|_| ())
        }
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let leader = cluster.leader().await?;
    let kv = KvClient::new(cluster.connect(leader).await?);
    let without = paced_p99(kv.clone(), arguments).await?;
    let mut stream = Stream::open(cluster.connect(leader).await?, watch_prefix(2)).await?;
    let reader = tokio::spawn(async move {
        let mut events = 0_u64;
        while let Ok(answer) = stream.next().await {
            events += answer.events.len() as u64;
            if events >= BEHIND {
                break;
            }
        }
        events
    });
    let with = paced_p99(kv, arguments).await?;
    let caught_up = tokio::time::timeout(Duration::from_secs(120), reader)
        .await
        .map_err(|_| Failed::new("the watcher did not catch up within two minutes"))?
        .map_err(|e| Failed::new(e.to_string()))?;
    if caught_up < BEHIND {
        return Err(Failed::new(format!(
            "the watcher got {caught_up} events of {BEHIND}"
        )));
    }
    Ok(vec![
        ("p99 with / without", with / without),
        ("p99 ms without", without),
        ("p99 ms with", with),
    ])
}

/// p99 in milliseconds of puts at 500 per second.
async fn paced_p99(kv: KvClient<Channel>, arguments: &Arguments) -> Result<f64, Failed> {
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    let mut tasks = tokio::task::JoinSet::new();
    let mut latency_us = load::histogram();
    for n in 0..arguments.seconds * 500 {
        ticks.tick().await;
        let mut kv = kv.clone();
        tasks.spawn(async move {
            let begun = Instant::now();
            put(&mut kv, load::key(n % 10_000)).await?;
            Ok::<_, Failed>(begun.elapsed().as_micros() as u64)
        });
    }
    while let Some(done) = tasks.join_next().await {
        latency_us.saturating_record(done.map_err(|e| Failed::new(e.to_string()))??);
    }
    Ok(latency_us.value_at_quantile(0.99) as f64 / 1000.0)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
