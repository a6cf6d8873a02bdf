//! What peer connections carried, for `/metrics`, under etcd's names.

use std::sync::LazyLock;

use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, exponential_buckets};

/// Registers in the default registry; a second registration of the same name (tests) keeps working unlisted.
macro_rules! metric {
    ($kind:ident, $make:expr) => {
        LazyLock::new(|| {
            let metric: $kind = $make.expect("a valid metric");
            let _ = prometheus::register(Box::new(metric.clone()));
            metric
        })
    };
}

static SENT: LazyLock<IntCounterVec> = metric!(
    IntCounterVec,
    IntCounterVec::new(
        prometheus::opts!("etcd_network_peer_sent_bytes_total", "Bytes sent to peers."),
        &["To"]
    )
);

static RECEIVED: LazyLock<IntCounterVec> = metric!(
    IntCounterVec,
    IntCounterVec::new(
        prometheus::opts!(
            "etcd_network_peer_received_bytes_total",
            "Bytes received from peers."
        ),
        &["From"]
    )
);

static FAILURES: LazyLock<IntCounterVec> = metric!(
    IntCounterVec,
    IntCounterVec::new(
        prometheus::opts!(
            "etcd_network_peer_sent_failures_total",
            "Failed sends to peers."
        ),
        &["To"]
    )
);

static ROUND_TRIP: LazyLock<HistogramVec> = metric!(
    HistogramVec,
    exponential_buckets(0.0001, 2.0, 16).and_then(|buckets| HistogramVec::new(
        prometheus::histogram_opts!(
            "etcd_network_peer_round_trip_time_seconds",
            "Round trip time of heartbeats to peers.",
            buckets
        ),
        &["To"]
    ))
);

static ACTIVE: LazyLock<IntGaugeVec> = metric!(
    IntGaugeVec,
    IntGaugeVec::new(
        prometheus::opts!(
            "etcd_network_active_peers",
            "Connections to peers that are open."
        ),
        &["Local", "Remote"]
    )
);

static DISCONNECTED: LazyLock<IntCounterVec> = metric!(
    IntCounterVec,
    IntCounterVec::new(
        prometheus::opts!(
            "etcd_network_disconnected_peers_total",
            "Connections to peers that ended."
        ),
        &["Local", "Remote"]
    )
);

fn name(member: u64) -> String {
    format!("{member:x}")
}

/// Counts the bytes of one connection without looking the member up again for every frame.
#[derive(Clone, Debug)]
pub struct Meter {
    sent: IntCounter,
    received: IntCounter,
}

impl Meter {
    /// The meter of a member.
    pub fn of(peer: u64) -> Self {
        Self {
            sent: SENT.with_label_values(&[name(peer)]),
            received: RECEIVED.with_label_values(&[name(peer)]),
        }
    }

    /// Bytes went out.
    pub fn sent(&self, bytes: usize) {
        self.sent.inc_by(bytes as u64);
    }

    /// Bytes came in.
    pub fn received(&self, bytes: usize) {
        self.received.inc_by(bytes as u64);
    }
}

/// Something could not be sent to a member.
pub fn failed(to: u64) {
    FAILURES.with_label_values(&[name(to)]).inc();
}

/// A heartbeat was answered.
pub fn round_trip(to: u64, seconds: f64) {
    ROUND_TRIP.with_label_values(&[name(to)]).observe(seconds);
}

/// A connection to a member was opened.
pub fn opened(local: u64, remote: u64) {
    ACTIVE.with_label_values(&[name(local), name(remote)]).inc();
}

/// A connection to a member ended.
pub fn closed(local: u64, remote: u64) {
    ACTIVE.with_label_values(&[name(local), name(remote)]).dec();
    DISCONNECTED
        .with_label_values(&[name(local), name(remote)])
        .inc();
}
