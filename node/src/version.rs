//! Versions: Meridian's own, and the one of etcd's API it speaks.

/// Meridian's version.
pub const MERIDIAN: &str = env!("CARGO_PKG_VERSION");

/// The version of etcd a client may take this server for. Kubernetes reads consistent lists from its cache only
/// from 3.5.13 on.
pub const ETCD: &str = "3.6.5";

/// The cluster version in etcd's numbering: major and minor, patch zero.
pub const ETCD_CLUSTER: &str = "3.6.0";

/// The storage version in etcd's numbering.
pub const ETCD_STORAGE: &str = "3.6.0";
