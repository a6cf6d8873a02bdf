//! What is measured of the log. etcd's names where the meaning is equal.

use std::sync::LazyLock;

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, default_registry};

/// Seconds one flush took.
pub static FSYNC_SECONDS: LazyLock<Histogram> = LazyLock::new(|| {
    let buckets = prometheus::exponential_buckets(0.000_05, 2.0, 18).unwrap_or_default();
    histogram(
        "etcd_disk_wal_fsync_duration_seconds",
        "The latency distributions of fsync called by the log.",
        buckets,
    )
});

/// Seconds one write took, without its flush.
pub static WRITE_SECONDS: LazyLock<Histogram> = LazyLock::new(|| {
    let buckets = prometheus::exponential_buckets(0.000_005, 2.0, 18).unwrap_or_default();
    histogram(
        "etcd_disk_wal_write_duration_seconds",
        "The latency distributions of writes to the log, without their flush.",
        buckets,
    )
});

/// Bytes written to the log, with headers and padding.
pub static WRITTEN_BYTES: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "etcd_disk_wal_write_bytes_total",
        "Total number of bytes written in the log.",
    )
});

/// Flushes of the log that succeeded.
pub static FLUSHES: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "meridian_storage_wal_flushes_total",
        "Batches of the log that were written and flushed.",
    )
});

/// Records that shared one flush.
pub static BATCH_RECORDS: LazyLock<Histogram> = LazyLock::new(|| {
    let buckets = prometheus::exponential_buckets(1.0, 2.0, 14).unwrap_or_default();
    histogram(
        "meridian_storage_wal_batch_records",
        "How many records one write and one flush carried.",
        buckets,
    )
});

/// Segments the log consists of.
pub static SEGMENTS: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "meridian_storage_wal_segments",
        "Segments of the log, without spare ones.",
    )
});

/// Bytes cut off at the end of the log when it was opened.
pub static TORN_BYTES: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "meridian_storage_wal_torn_bytes_total",
        "Bytes of an unfinished write that were cut off the end of the log when it was opened.",
    )
});

/// 1 once a fault stopped the log.
pub static POISONED: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "meridian_storage_wal_poisoned",
        "1 once a failed write or flush stopped the log.",
    )
});

fn histogram(name: &str, help: &str, buckets: Vec<f64>) -> Histogram {
    #[expect(
        clippy::expect_used,
        reason = "names and buckets are constants; a test makes each"
    )]
    let metric = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))
        .expect("a valid histogram");
    register(metric)
}

fn counter(name: &str, help: &str) -> IntCounter {
    #[expect(clippy::expect_used, reason = "names are constants; a test makes each")]
    register(IntCounter::new(name, help).expect("a valid counter"))
}

fn gauge(name: &str, help: &str) -> IntGauge {
    #[expect(clippy::expect_used, reason = "names are constants; a test makes each")]
    register(IntGauge::new(name, help).expect("a valid gauge"))
}

/// Registers a metric; a name that is taken leaves it working, only not shown.
fn register<M: Collector + Clone + 'static>(metric: M) -> M {
    if let Err(error) = default_registry().register(Box::new(metric.clone())) {
        tracing::warn!(%error, "a metric of the log is not shown");
    }
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_shown_under_its_name() {
        FSYNC_SECONDS.observe(0.0);
        WRITE_SECONDS.observe(0.0);
        BATCH_RECORDS.observe(1.0);
        WRITTEN_BYTES.inc_by(0);
        FLUSHES.inc_by(0);
        TORN_BYTES.inc_by(0);
        SEGMENTS.add(0);
        POISONED.add(0);
        let shown = prometheus::gather();
        for name in [
            "etcd_disk_wal_fsync_duration_seconds",
            "etcd_disk_wal_write_duration_seconds",
            "etcd_disk_wal_write_bytes_total",
            "meridian_storage_wal_flushes_total",
            "meridian_storage_wal_batch_records",
            "meridian_storage_wal_segments",
            "meridian_storage_wal_torn_bytes_total",
            "meridian_storage_wal_poisoned",
        ] {
            assert!(shown.iter().any(|family| family.name() == name), "{name}");
        }
    }
}
