//! What is measured about watching. Names are etcd's where the meaning is equal.

use std::sync::LazyLock;

use prometheus::{IntCounter, IntGauge, register_int_counter, register_int_gauge};

/// Watches open.
pub(super) static WATCHERS: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "etcd_debugging_mvcc_watcher_total",
        "Watches open on this member.",
    )
});

/// Watches that read the past.
pub(super) static SLOW_WATCHERS: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "etcd_debugging_mvcc_slow_watcher_total",
        "Watches that are catching up with the present.",
    )
});

/// Streams open.
pub(super) static STREAMS: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "etcd_debugging_mvcc_watch_stream_total",
        "Streams of watches open on this member.",
    )
});

/// Events handed to streams.
pub(super) static EVENTS: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "etcd_debugging_mvcc_events_total",
        "Events sent to watchers by this member.",
    )
});

/// Bytes all rings are charged with.
pub(super) static RING_BYTES: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "meridian_storage_watch_ring_bytes",
        "Bytes kept in the rings of recent commits.",
    )
});

#[expect(
    clippy::expect_used,
    reason = "names are constants of this file, each used once"
)]
fn gauge(name: &str, help: &str) -> IntGauge {
    register_int_gauge!(name, help).expect("a valid name that is not taken")
}

#[expect(
    clippy::expect_used,
    reason = "names are constants of this file, each used once"
)]
fn counter(name: &str, help: &str) -> IntCounter {
    register_int_counter!(name, help).expect("a valid name that is not taken")
}
