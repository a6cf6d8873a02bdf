//! The only way the pure parts look at state.

use crate::command::{AlarmKind, MemberRecord};
use crate::kv::{LeaseId, Range, RangeReply};
use crate::name::TenantName;
use crate::rejection::Rejection;
use crate::revision::Revision;
use crate::tenant::{TenantRecord, Usage};

/// One tenant's state at one moment. Cheap to hold; does not change while held.
///
/// Implementations are immutable snapshots: they may be read from any thread, never block a writer, and
/// answer the same however often they are asked.
pub trait View: Send + Sync {
    /// The tenant itself.
    fn tenant(&self) -> &TenantRecord;
    /// Its current revision.
    fn revision(&self) -> Revision;
    /// The oldest revision that can be read, or zero if nothing was ever compacted.
    fn compacted(&self) -> Revision;
    /// The integer that moves when the tenant's rules do.
    fn rules_revision(&self) -> u64;
    /// What the tenant uses.
    fn usage(&self) -> Usage;
    /// Reads keys, with etcd's rules for revisions, order and limit.
    fn range(&self, range: &Range) -> Result<RangeReply, Rejection>;
    /// A lease, if it exists.
    fn lease(&self, id: LeaseId) -> Option<LeaseView>;
    /// Every lease id, ascending.
    fn leases(&self) -> Vec<LeaseId>;
    /// The keys attached to a lease, in key order.
    fn lease_keys(&self, id: LeaseId) -> Vec<bytes::Bytes>;
    /// The cluster's own facts.
    fn cluster(&self) -> &dyn ClusterView;
}

/// The cluster's own facts at one moment.
pub trait ClusterView: Send + Sync {
    /// A tenant by name.
    fn tenant_named(&self, name: &TenantName) -> Option<TenantRecord>;
    /// Every tenant with its use, by name.
    fn tenants(&self) -> Vec<(TenantRecord, Usage)>;
    /// The alarms that are raised, by member, then kind.
    fn alarms(&self) -> Vec<(u64, AlarmKind)>;
    /// What members published, by id.
    fn members(&self) -> Vec<MemberRecord>;
    /// Whether authentication is on in the tenant `default`, which keeps the rights on the cluster. Only asked on
    /// views of other tenants.
    fn is_guarded(&self) -> bool {
        false
    }
}

/// A lease as the replicated state knows it. How long it has left is the leader's knowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseView {
    /// Its number.
    pub id: LeaseId,
    /// Its time to live as granted, in seconds.
    pub ttl_seconds: i64,
    /// What it had left at the last checkpoint, in seconds; zero if never taken.
    pub checkpoint_seconds: i64,
    /// How many keys are attached.
    pub keys: usize,
}
