//! `/metrics`: what is counted as it happens, and what is looked up when somebody asks.
//!
//! Everything registered in the default registry of any crate is shown. What is a state and not an event
//! (who leads, how far the log is, how much memory) is set here, just before the text is made.

use std::sync::LazyLock;

use meridian_domain::view::{ClusterView, View};
use prometheus::{
    Encoder, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, TextEncoder, register_gauge,
    register_int_counter, register_int_counter_vec, register_int_gauge, register_int_gauge_vec,
};

use crate::pipeline::Pipeline;
use crate::version;

/// At most so many tenants are shown one by one, the largest first: a series each.
const TENANTS_SHOWN: usize = 200;

macro_rules! metric {
    ($vis:vis $name:ident: $kind:ty = $register:ident!($($arg:expr),+ $(,)?)) => {
        $vis static $name: LazyLock<$kind> = LazyLock::new(|| {
            #[allow(clippy::expect_used, reason = "every name is registered once, here")]
            $register!($($arg),+).expect("a metric name of its own")
        });
    };
}

metric!(pub(super) HEALTH_SUCCESS: IntCounter = register_int_counter!(
    "etcd_server_health_success", "The total number of successful health checks"));
metric!(pub(super) HEALTH_FAILURES: IntCounter = register_int_counter!(
    "etcd_server_health_failures", "The total number of failed health checks"));
metric!(CHECK: IntGaugeVec = register_int_gauge_vec!(
    "etcd_server_healthcheck", "The result of each kind of healthcheck.", &["type", "name"]));
metric!(CHECKS: IntCounterVec = register_int_counter_vec!(
    "etcd_server_healthchecks_total", "The total number of each kind of healthcheck.",
    &["type", "name", "status"]));
metric!(ID: IntGaugeVec = register_int_gauge_vec!(
    "etcd_server_id", "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.",
    &["server_id"]));
metric!(SERVER_VERSION: IntGaugeVec = register_int_gauge_vec!(
    "etcd_server_version", "Which version is running. 1 for 'server_version' label with current version.",
    &["server_version"]));
metric!(CLUSTER_VERSION: IntGaugeVec = register_int_gauge_vec!(
    "etcd_cluster_version", "Which version is running. 1 for 'cluster_version' label with current cluster version",
    &["cluster_version"]));
metric!(BUILD: IntGaugeVec = register_int_gauge_vec!(
    "meridian_node_build_info", "1 with the version of Meridian as label.", &["version"]));
metric!(QUOTA: IntGauge = register_int_gauge!(
    "etcd_server_quota_backend_bytes", "Current backend storage quota size in bytes."));
metric!(ALARMS: IntGaugeVec = register_int_gauge_vec!(
    "etcd_debugging_server_alarms", "Alarms for every member in cluster. 1 for 'server_id' label with current ID. 2 for 'alarm_type' label with type of this alarm",
    &["server_id", "alarm_type"]));
metric!(REVISION: IntGauge = register_int_gauge!(
    "etcd_debugging_mvcc_current_revision", "The current revision of the tenant `default`."));
metric!(COMPACTED: IntGauge = register_int_gauge!(
    "etcd_debugging_mvcc_compact_revision", "The revision of the last compaction of the tenant `default`."));
metric!(KEYS: IntGauge = register_int_gauge!(
    "etcd_debugging_mvcc_keys_total", "Total number of keys, of all tenants."));
metric!(IN_USE: IntGauge = register_int_gauge!(
    "etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of live keys and values, of all tenants."));
metric!(TENANTS: IntGauge = register_int_gauge!(
    "meridian_node_tenants", "Tenants of the cluster."));
metric!(TENANT_BYTES: IntGaugeVec = register_int_gauge_vec!(
    "meridian_node_tenant_bytes", "Bytes of live keys and values of a tenant; the largest 200 are shown.",
    &["tenant"]));
metric!(TENANT_BYTES_LIMIT: IntGaugeVec = register_int_gauge_vec!(
    "meridian_node_tenant_bytes_limit", "Bytes a tenant may use; 0 is no limit.", &["tenant"]));
metric!(TENANT_KEYS: IntGaugeVec = register_int_gauge_vec!(
    "meridian_node_tenant_keys", "Live keys of a tenant; the largest 200 are shown.", &["tenant"]));
metric!(RESIDENT: IntGauge = register_int_gauge!(
    "process_resident_memory_bytes", "Resident memory size in bytes."));
metric!(VIRTUAL: IntGauge = register_int_gauge!(
    "process_virtual_memory_bytes", "Virtual memory size in bytes."));
metric!(THREADS: IntGauge = register_int_gauge!(
    "process_threads", "Threads of the process."));
metric!(OPEN_FDS: IntGauge = register_int_gauge!(
    "process_open_fds", "Number of open file descriptors."));
metric!(MAX_FDS: IntGauge = register_int_gauge!(
    "process_max_fds", "Maximum number of open file descriptors."));
metric!(FDS_USED: IntGauge = register_int_gauge!(
    "os_fd_used", "The number of used file descriptors."));
metric!(FDS_LIMIT: IntGauge = register_int_gauge!(
    "os_fd_limit", "The file descriptor limit."));
metric!(CPU: prometheus::Gauge = register_gauge!(
    "process_cpu_seconds_total", "Total user and system CPU time spent in seconds."));

/// Notes how a named check came out.
pub(super) fn count_check(kind: &str, name: &str, well: bool) {
    let status = if well { "success" } else { "error" };
    CHECKS.with_label_values(&[kind, name, status]).inc();
    CHECK.with_label_values(&[kind, name]).set(i64::from(well));
}

/// The text of `/metrics`. Reads files of the system; off the reactor.
pub fn scrape(pipeline: &Pipeline) -> String {
    agreement(pipeline);
    keyspaces(pipeline);
    process();
    let mut text = Vec::new();
    // A metric that can not be written leaves the others standing.
    let _ = TextEncoder::new().encode(&prometheus::gather(), &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Bytes this process holds in memory, as Linux counts them; zero where it does not say.
pub fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

fn agreement(pipeline: &Pipeline) {
    let status = pipeline.replica.status();
    let id = format!("{:x}", status.id);
    ID.with_label_values(&[id.as_str()]).set(1);
    SERVER_VERSION.with_label_values(&[version::ETCD]).set(1);
    CLUSTER_VERSION.with_label_values(&["3.6"]).set(1);
    BUILD.with_label_values(&[version::MERIDIAN]).set(1);
    QUOTA.set(
        pipeline
            .settings
            .quota_bytes()
            .map_or(0, |bytes| bytes as i64),
    );
    ALARMS.reset();
    for (member, kind) in pipeline.store.cluster().alarms() {
        let member = format!("{member:x}");
        ALARMS
            .with_label_values(&[member.as_str(), super::http::alarm_name(kind)])
            .set(1);
    }
}

fn keyspaces(pipeline: &Pipeline) {
    let mut tenants = pipeline.store.cluster().tenants();
    TENANTS.set(tenants.len() as i64);
    KEYS.set(tenants.iter().map(|(_, usage)| usage.keys as i64).sum());
    IN_USE.set(tenants.iter().map(|(_, usage)| usage.bytes as i64).sum());
    if let Some(tenant) = pipeline
        .store
        .tenant_named(meridian_domain::name::TenantName::DEFAULT)
    {
        let view = tenant.view();
        REVISION.set(view.revision());
        COMPACTED.set(view.compacted());
    }
    tenants.sort_by_key(|(_, usage)| std::cmp::Reverse(usage.bytes));
    for series in [&*TENANT_BYTES, &*TENANT_BYTES_LIMIT, &*TENANT_KEYS] {
        series.reset();
    }
    for (record, usage) in tenants.iter().take(TENANTS_SHOWN) {
        let name = [record.name.as_str()];
        TENANT_BYTES
            .with_label_values(&name)
            .set(usage.bytes as i64);
        TENANT_BYTES_LIMIT
            .with_label_values(&name)
            .set(record.quota.bytes as i64);
        TENANT_KEYS.with_label_values(&name).set(usage.keys as i64);
    }
}

/// What Linux tells about this process. A file that can not be read leaves its figures as they were.
fn process() {
    let page = rustix::param::page_size() as i64;
    if let Ok(text) = std::fs::read_to_string("/proc/self/statm") {
        let mut pages = text
            .split_ascii_whitespace()
            .filter_map(|pages| pages.parse::<i64>().ok());
        VIRTUAL.set(pages.next().unwrap_or(0) * page);
        RESIDENT.set(pages.next().unwrap_or(0) * page);
    }
    // The name in parentheses may hold anything; the fields of interest follow the last of them.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    if let Some((_, rest)) = stat.rsplit_once(')') {
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<i64>().ok());
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        if let (Some(user), Some(system)) = (number(11), number(12)) {
            CPU.set((user + system) as f64 / ticks);
        }
        THREADS.set(number(17).unwrap_or(0));
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        let open = open.count() as i64;
        OPEN_FDS.set(open);
        FDS_USED.set(open);
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .current
        .map_or(i64::MAX, |limit| limit as i64);
    MAX_FDS.set(limit);
    FDS_LIMIT.set(limit);
}
