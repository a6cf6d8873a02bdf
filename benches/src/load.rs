//! Closed-loop load: so many clients, each waiting for its answer before it asks again.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use rand::RngCore;

/// Keys are this long, in bytes.
pub const KEY_BYTES: usize = 64;
/// Values are this long, in bytes.
pub const VALUE_BYTES: usize = 256;

/// Why a measurement could not be made.
#[derive(Debug)]
pub struct Failed(String);

impl Failed {
    /// With a reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<std::io::Error> for Failed {
    fn from(e: std::io::Error) -> Self {
        Self(e.to_string())
    }
}

impl From<tonic::Status> for Failed {
    fn from(e: tonic::Status) -> Self {
        Self(format!("{:?}: {}", e.code(), e.message()))
    }
}

impl From<tonic::transport::Error> for Failed {
    fn from(e: tonic::transport::Error) -> Self {
        Self(format!("{e:?}"))
    }
}

/// What a stretch of load came to.
pub struct Measured {
    /// Operations per second.
    pub per_second: f64,
    /// Operations in all.
    pub operations: u64,
    /// Latencies, in microseconds.
    pub latency_us: Histogram<u64>,
}

/// A histogram of microseconds up to a minute, three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(60_000_000, 3).unwrap_or_else(|_| {
        Histogram::new(3).unwrap_or_else(|_| unreachable!("three digits are always allowed"))
    })
}

/// Runs `clients` loops of `operation(client, n)` for `warmup` and then `seconds`, measuring the second part.
/// `at_start` runs at the moment measuring begins.
pub async fn run<F, Fut>(
    clients: usize,
    warmup: Duration,
    seconds: Duration,
    at_start: impl FnOnce(),
    operation: F,
) -> Result<Measured, Failed>
where
    F: Fn(usize, u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Failed>> + Send,
{
    let operation = Arc::new(operation);
    let measuring = Arc::new(AtomicBool::new(false));
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..clients {
        let (operation, measuring, stop) = (operation.clone(), measuring.clone(), stop.clone());
        tasks.spawn(async move {
            let mut latencies = histogram();
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                let counted = measuring.load(Ordering::Relaxed);
                let begun = Instant::now();
                operation(client, n).await?;
                if counted {
                    latencies.saturating_record(begun.elapsed().as_micros() as u64);
                }
                n += 1;
            }
            Ok::<_, Failed>(latencies)
        });
    }
    tokio::time::sleep(warmup).await;
    at_start();
    measuring.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    tokio::time::sleep(seconds).await;
    stop.store(true, Ordering::Relaxed);
    let elapsed = begun.elapsed();
    let mut latency_us = histogram();
    while let Some(done) = tasks.join_next().await {
        let one = done.map_err(|e| Failed::new(e.to_string()))??;
        latency_us
            .add(one)
            .map_err(|e| Failed::new(e.to_string()))?;
    }
    let operations = latency_us.len();
    Ok(Measured {
        per_second: operations as f64 / elapsed.as_secs_f64(),
        operations,
        latency_us,
    })
}

/// Runs `total` operations over `clients` loops, as fast as they go; for filling a store.
pub async fn fill<F, Fut>(clients: usize, total: u64, operation: F) -> Result<(), Failed>
where
    F: Fn(usize, u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Failed>> + Send,
{
    let operation = Arc::new(operation);
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..clients {
        let (operation, next) = (operation.clone(), next.clone());
        tasks.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= total {
                    return Ok::<_, Failed>(());
                }
                operation(client, n).await?;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(|e| Failed::new(e.to_string()))??;
    }
    Ok(())
}

/// The n-th key, [`KEY_BYTES`] long.
pub fn key(n: u64) -> Bytes {
    Bytes::from(format!("compare/{n:0width$}", width = KEY_BYTES - 8))
}

/// A random key below `count`.
pub fn random_key(count: u64) -> Bytes {
    key(rand::rng().next_u64() % count.max(1))
}

/// A value of [`VALUE_BYTES`] random bytes: nothing a compressor could gain from.
pub fn value() -> Bytes {
    let mut bytes = vec![0; VALUE_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    Bytes::from(bytes)
}
