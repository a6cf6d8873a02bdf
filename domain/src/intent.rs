//! Every write of the product, one closed enum.

use crate::access::change::AccessChange;
use crate::command::{AlarmKind, MemberRecord};
use crate::kv::{Delete, LeaseId, Put};
use crate::name::TenantName;
use crate::revision::Revision;
use crate::tenant::{Quota, Retention};
use crate::txn::Txn;

/// What somebody wants to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Write a key.
    Put(Put),
    /// Delete keys.
    Delete(Delete),
    /// Compare and change keys.
    Txn(Txn),
    /// Make a lease.
    LeaseGrant {
        /// Its number; drawn at the edge where the caller left it open.
        id: LeaseId,
        /// Its time to live as asked, in seconds.
        ttl_seconds: i64,
        /// The least the cluster grants, in seconds: a lease must outlive an election.
        ttl_seconds_min: i64,
    },
    /// End a lease and delete its keys.
    LeaseRevoke {
        /// Its number.
        id: LeaseId,
    },
    /// End a lease that ran out, as the leader of `term` saw it.
    LeaseExpire {
        /// Its number.
        id: LeaseId,
        /// The leader's term.
        term: u64,
    },
    /// Record how long leases have left, as the leader of `term` sees it.
    LeaseCheckpoint {
        /// Number and seconds left, of each.
        remaining: Vec<(LeaseId, i64)>,
        /// The leader's term.
        term: u64,
    },
    /// Forget history.
    Compact {
        /// What was superseded at or before this revision.
        revision: Revision,
    },
    /// Make a tenant.
    TenantCreate {
        /// Its name.
        name: TenantName,
        /// What it may use.
        quota: Quota,
        /// What history it keeps.
        retention: Retention,
    },
    /// Change a tenant.
    TenantChange {
        /// Its name.
        name: TenantName,
        /// The new quota, or none to keep it.
        quota: Option<Quota>,
        /// The new retention, or none to keep it.
        retention: Option<Retention>,
    },
    /// Remove a tenant with everything in it.
    TenantDelete {
        /// Its name.
        name: TenantName,
    },
    /// Raise or clear an alarm of a member.
    Alarm {
        /// Whose.
        member: u64,
        /// Which.
        kind: AlarmKind,
        /// Raise, or clear.
        raised: bool,
    },
    /// A member says how clients reach it.
    MemberPublish(MemberRecord),
    /// A member left for good.
    MemberForget {
        /// Its id.
        id: u64,
    },
    /// Change who may do what.
    Access(AccessChange),
}
