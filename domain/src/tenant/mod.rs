//! Tenants: virtual stores, each with its own keyspace, revision, leases, quota and history.

use crate::name::{TenantId, TenantName};
use crate::stamp::Stamp;

/// What one tenant may use. Zero is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Bytes of keys and values alive, with [`crate::limits::PUT_OVERHEAD_BYTES`] each.
    pub bytes: u64,
    /// Keys alive.
    pub keys: u64,
    /// Watches open on one member.
    pub watchers: u64,
    /// Requests per second on one member.
    pub requests_per_second: u64,
}

/// Which part of a [`Quota`] is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaKind {
    /// [`Quota::bytes`].
    Bytes,
    /// [`Quota::keys`].
    Keys,
    /// [`Quota::watchers`].
    Watchers,
    /// [`Quota::requests_per_second`].
    RequestsPerSecond,
    /// Leases held; bounded by [`crate::limits::LEASES_PER_TENANT_MAX`] alone.
    Leases,
}

impl std::fmt::Display for QuotaKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes",
            Self::Keys => "keys",
            Self::Watchers => "watchers",
            Self::RequestsPerSecond => "requests per second",
            Self::Leases => "leases",
        })
    }
}

/// What a tenant uses now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of keys and values alive, with [`crate::limits::PUT_OVERHEAD_BYTES`] each.
    pub bytes: u64,
    /// Keys alive, in every space.
    pub keys: u64,
}

/// How much history a tenant keeps without being asked. Zero is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Keep this many revisions.
    pub revisions: u64,
    /// Keep what is younger than this, in seconds.
    pub seconds: u64,
}

/// A tenant as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantRecord {
    /// Its number; never reused.
    pub id: TenantId,
    /// Its name; unique among those alive.
    pub name: TenantName,
    /// What it may use.
    pub quota: Quota,
    /// Automatic compaction.
    pub retention: Retention,
    /// When it was made.
    pub created: Stamp,
}
