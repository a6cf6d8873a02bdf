//! What this member counts at the door; `/metrics` shows it with everything the crates below count.
//!
//! Metrics stand beside what they measure; here are those of the door itself. Names are etcd's where the
//! meaning is equal, else `meridian_node_<noun>_<unit>`. Labels come from closed sets, so the number of series
//! is bounded; the one text a client chooses, its version, is cut to a known few ([`client_version`]).

use std::sync::LazyLock;

use prometheus::{
    HistogramVec, IntCounter, IntCounterVec, IntGauge, register_histogram_vec,
    register_int_counter, register_int_counter_vec, register_int_gauge,
};

/// Makes a metric of the default registry, once. Registering the same name twice is a fault of the program.
macro_rules! metric {
    ($name:ident: $kind:ty = $register:ident!($($arg:expr),+ $(,)?), $doc:literal) => {
        #[doc = $doc]
        pub static $name: LazyLock<$kind> = LazyLock::new(|| {
            #[allow(clippy::expect_used, reason = "every name is registered once, here")]
            $register!($($arg),+).expect("a metric name of its own")
        });
    };
}

metric!(
    CLIENT_REQUESTS: IntCounterVec = register_int_counter_vec!(
        "etcd_server_client_requests_total",
        "The total number of client requests per client version.",
        &["type", "client_api_version"]
    ),
    "Requests by kind and client version."
);
metric!(
    GRPC_STARTED: IntCounterVec = register_int_counter_vec!(
        "grpc_server_started_total",
        "Total number of RPCs started on the server.",
        &["grpc_type", "grpc_service", "grpc_method"]
    ),
    "Calls that began."
);
metric!(
    GRPC_HANDLED: IntCounterVec = register_int_counter_vec!(
        "grpc_server_handled_total",
        "Total number of RPCs completed on the server, regardless of success or failure.",
        &["grpc_type", "grpc_service", "grpc_method", "grpc_code"]
    ),
    "Calls that ended, by code."
);
metric!(
    GRPC_SECONDS: HistogramVec = register_histogram_vec!(
        "grpc_server_handling_seconds",
        "Response latency of RPCs handled by the server; with --metrics extensive only.",
        &["grpc_type", "grpc_service", "grpc_method"]
    ),
    "How long calls took."
);
metric!(
    CONNECTIONS: IntGauge = register_int_gauge!(
        "meridian_node_connections",
        "Connections open on the client port."
    ),
    "Connections open on the client port."
);
metric!(
    CONNECTIONS_REFUSED: IntCounter = register_int_counter!(
        "meridian_node_connections_refused_total",
        "Connections closed at once because the most allowed were open."
    ),
    "Connections beyond the bound."
);
metric!(
    HANDSHAKES_FAILED: IntCounter = register_int_counter!(
        "meridian_node_tls_handshakes_failed_total",
        "TLS handshakes on the client port that did not come to an end."
    ),
    "Handshakes that failed."
);
metric!(
    CERTIFICATE_RELOADS: IntCounterVec = register_int_counter_vec!(
        "meridian_node_certificate_reloads_total",
        "Certificates read again, by port and outcome.",
        &["port", "outcome"]
    ),
    "Certificates read again."
);
metric!(
    REQUESTS_OVER_RATE: IntCounter = register_int_counter!(
        "meridian_node_requests_over_rate_total",
        "Requests refused because their tenant sends more per second than it may."
    ),
    "Requests over a tenant's rate."
);
metric!(
    WRITES_IN_FLIGHT: IntGauge = register_int_gauge!(
        "meridian_node_writes_in_flight",
        "Writes proposed here whose outcome is not known yet."
    ),
    "Writes in the window."
);
metric!(
    WRITES_WAITING: IntGauge = register_int_gauge!(
        "meridian_node_writes_waiting",
        "Writes that wait for their tenant's turn."
    ),
    "Writes in tenants' lines."
);
metric!(
    WRITES_REFUSED: IntCounter = register_int_counter!(
        "meridian_node_writes_refused_total",
        "Writes refused because a line was full."
    ),
    "Writes refused at a full line."
);

/// The client's version as a label: `major.minor` of what it says, so that nobody can make series at will.
pub fn client_version(said: Option<&str>) -> &'static str {
    match said.map(|version| version.trim_start_matches('v')) {
        None | Some("") => "unknown",
        Some(version) if version.starts_with("3.3") => "3.3",
        Some(version) if version.starts_with("3.4") => "3.4",
        Some(version) if version.starts_with("3.5") => "3.5",
        Some(version) if version.starts_with("3.6") => "3.6",
        Some(version) if version.starts_with("3.7") => "3.7",
        Some(version) if version.starts_with("3.8") => "3.8",
        Some(_) => "other",
    }
}
