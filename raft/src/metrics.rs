//! What agreement looks like from outside, for `/metrics`, under etcd's names where the meaning is equal.

use std::sync::LazyLock;

use prometheus::{Histogram, IntCounter, IntGauge, exponential_buckets, histogram_opts};

/// Registers a metric in the default registry; a second registration of a name keeps working unlisted.
macro_rules! metric {
    ($(#[$doc:meta])* $name:ident: $kind:ident = $make:expr) => {
        $(#[$doc])*
        pub static $name: LazyLock<$kind> = LazyLock::new(|| {
            let metric: $kind = $make.expect("a valid metric");
            let _ = prometheus::register(Box::new(metric.clone()));
            metric
        });
    };
}

metric!(
    /// 1 if a leader is known.
    HAS_LEADER: IntGauge =
        IntGauge::new("etcd_server_has_leader", "Whether or not a leader exists.")
);
metric!(
    /// 1 if this member leads.
    IS_LEADER: IntGauge =
        IntGauge::new("etcd_server_is_leader", "Whether or not this member is a leader.")
);
metric!(
    /// 1 if this member is a learner.
    IS_LEARNER: IntGauge =
        IntGauge::new("etcd_server_is_learner", "Whether or not this member is a learner.")
);
metric!(
    /// How often another leader was seen.
    LEADER_CHANGES: IntCounter =
        IntCounter::new("etcd_server_leader_changes_seen_total", "The number of leader changes seen.")
);
metric!(
    /// Heartbeats that failed to go out or were not answered.
    HEARTBEAT_SEND_FAILURES: IntCounter = IntCounter::new(
        "etcd_server_heartbeat_send_failures_total",
        "The total number of leader heartbeat send failures."
    )
);
metric!(
    /// The commit index.
    PROPOSALS_COMMITTED: IntGauge = IntGauge::new(
        "etcd_server_proposals_committed_total",
        "The total number of consensus proposals committed."
    )
);
metric!(
    /// The applied index.
    PROPOSALS_APPLIED: IntGauge = IntGauge::new(
        "etcd_server_proposals_applied_total",
        "The total number of consensus proposals applied."
    )
);
metric!(
    /// Writes of this member that wait.
    PROPOSALS_PENDING: IntGauge = IntGauge::new(
        "etcd_server_proposals_pending",
        "The current number of pending proposals to commit."
    )
);
metric!(
    /// Writes of this member that were not answered well.
    PROPOSALS_FAILED: IntCounter = IntCounter::new(
        "etcd_server_proposals_failed_total",
        "The total number of failed proposals seen."
    )
);
metric!(
    /// Batches that took longer than 100 ms to apply.
    SLOW_APPLY: IntCounter = IntCounter::new(
        "etcd_server_slow_apply_total",
        "The total number of slow apply requests (likely overloaded from slow disk)."
    )
);
metric!(
    /// How long it takes to apply a batch.
    APPLY_SECONDS: Histogram =
        exponential_buckets(0.000_01, 4.0, 10).and_then(|buckets| Histogram::with_opts(
            histogram_opts!(
                "meridian_raft_apply_batch_seconds",
                "The time it takes to apply a batch of committed entries.",
                buckets
            )
        ))
);
metric!(
    /// Read rounds that took longer than an election timeout.
    SLOW_READ_INDEXES: IntCounter = IntCounter::new(
        "etcd_server_slow_read_indexes_total",
        "The total number of pending read indexes not in sync with leader's or timed out read index requests."
    )
);
metric!(
    /// Reads that failed for want of a leader or a quorum.
    READ_INDEXES_FAILED: IntCounter = IntCounter::new(
        "etcd_server_read_indexes_failed_total",
        "The total number of failed read indexes seen."
    )
);
metric!(
    /// Learners that became voters.
    LEARNER_PROMOTIONS: IntCounter = IntCounter::new(
        "etcd_server_learner_promote_successes",
        "The total number of successful learner promotions while this member is leader."
    )
);
metric!(
    /// Learners that did not.
    LEARNER_PROMOTIONS_FAILED: IntCounter = IntCounter::new(
        "etcd_server_learner_promote_failures",
        "The total number of failed learner promotions (likely learner not ready) while this member is leader."
    )
);
metric!(
    /// Snapshots being installed now.
    SNAPSHOT_INSTALLS: IntGauge = IntGauge::new(
        "etcd_server_snapshot_apply_in_progress_total",
        "1 if the server is applying the incoming snapshot. 0 if none."
    )
);
metric!(
    /// How long it takes to make a snapshot.
    SNAPSHOT_SECONDS: Histogram =
        exponential_buckets(0.01, 2.0, 12).and_then(|buckets| Histogram::with_opts(
            histogram_opts!(
                "etcd_snap_db_save_total_duration_seconds",
                "The total latency distributions of save called by snapshot.",
                buckets
            )
        ))
);
metric!(
    /// Times this member stopped leading because its disk stood still.
    STEPPED_DOWN_FOR_DISK: IntCounter = IntCounter::new(
        "meridian_raft_step_downs_for_disk_total",
        "The number of times this member gave up leading because its disk made no progress."
    )
);
metric!(
    /// 1 while this member takes back from the leader what its damaged log forgot.
    RECOVERING: IntGauge = IntGauge::new(
        "meridian_raft_recovering",
        "Whether this member does not vote because it takes back what its damaged log had acknowledged."
    )
);
metric!(
    /// 1 if this member's state differs from that of most others.
    FENCED: IntGauge = IntGauge::new(
        "meridian_raft_fenced",
        "Whether this member fenced itself because its state differs from that of most others."
    )
);
