//! What the replicated log holds: a proposal, and what applying it answers.
//!
//! [`Command`] is closed: these are all the things that can change the state of a cluster. Adding one is a
//! change of the record format (`proto/schema/record`).

use bytes::Bytes;

use crate::changes::Changes;
use crate::kv::LeaseId;
use crate::name::{TenantId, TenantName};
use crate::rejection::Rejection;
use crate::revision::{LogId, Revision};
use crate::stamp::{RequestId, Stamp};
use crate::tenant::{Quota, Retention, TenantRecord};
use crate::txn::{Txn, TxnReply};

/// One entry of the replicated log, before it is encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Whose state it changes. [`TenantId::SYSTEM`] for the cluster's own facts.
    pub tenant: TenantId,
    /// Under which the proposal is applied at most once.
    pub request_id: Option<RequestId>,
    /// Who asked, for history and audit.
    pub actor: Box<str>,
    /// When, by the clock of the edge; data only.
    pub stamp: Stamp,
    /// Under which the plan is valid.
    pub guards: Guards,
    /// What to do.
    pub command: Command,
}

/// Integer comparisons apply makes before anything else. One that fails answers [`Verdict::Stale`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guards {
    /// The tenant's rules revision must still be this.
    pub rules_revision: Option<u64>,
    /// The entry must have been appended in this Raft term: what a leader does on its own must not take
    /// effect after it was deposed.
    pub term: Option<u64>,
}

/// Everything that can change the state of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Compare and change keys.
    Txn(Txn),
    /// Make a lease.
    LeaseGrant {
        /// Its number, chosen at the edge; never zero here.
        id: LeaseId,
        /// Its time to live, in seconds, already raised to the minimum.
        ttl_seconds: i64,
    },
    /// End a lease and delete its keys, in one revision.
    LeaseRevoke {
        /// Its number.
        id: LeaseId,
    },
    /// Record how long leases have left, so that a new leader does not start them afresh.
    LeaseCheckpoint {
        /// Number and seconds left, of each.
        remaining: Vec<(LeaseId, i64)>,
    },
    /// Forget what was superseded at or before a revision.
    Compact {
        /// The revision; it stays readable.
        revision: Revision,
    },
    /// Make a tenant. Its id is given in apply, from a counter.
    TenantCreate {
        /// Its name.
        name: TenantName,
        /// What it may use.
        quota: Quota,
        /// What history it keeps.
        retention: Retention,
    },
    /// Change what a tenant may use and keeps.
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
        /// Raised, or cleared.
        raised: bool,
    },
    /// A member says under which name and addresses clients reach it.
    MemberPublish(MemberRecord),
    /// A member left for good; forget what it published.
    MemberForget {
        /// Its id.
        id: u64,
    },
}

/// Which alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlarmKind {
    /// Out of space.
    NoSpace,
    /// Its state differs from the others'.
    Corrupt,
}

/// What a member publishes about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberRecord {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// The region it stands in, if set.
    pub region: String,
    /// The zone it stands in, if set.
    pub zone: String,
    /// The version of the program it runs.
    pub version: String,
    /// The random number its data directory was stamped with when it was made. A member that comes back
    /// under the same id with another instance lost its disk and is refused.
    pub instance: u64,
}

/// What applying a proposal came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Where in the log it stood.
    pub log_id: LogId,
    /// The tenant's revision after it.
    pub revision: Revision,
    /// What came of it.
    pub verdict: Verdict,
}

/// What came of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It took effect (or there was nothing to change).
    Applied(Reply),
    /// No; nothing changed.
    Rejected(Rejection),
    /// A guard moved; nothing changed; plan again on a newer view.
    Stale,
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To [`Command::Txn`].
    Txn(TxnReply),
    /// To [`Command::LeaseGrant`].
    LeaseGranted {
        /// Its number.
        id: LeaseId,
        /// Its time to live, in seconds.
        ttl_seconds: i64,
    },
    /// To [`Command::TenantCreate`] and [`Command::TenantChange`].
    Tenant(TenantRecord),
    /// To [`Command::Alarm`]: whether the alarm moved.
    Alarm {
        /// Whether it was set or cleared by this, and not before.
        changed: bool,
    },
    /// To everything else.
    Done,
}

/// A fact: what one applied proposal changed in one tenant. Watchers and audit receive it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Whose.
    pub tenant: TenantId,
    /// Where in the log.
    pub log_id: LogId,
    /// When, by the clock of the edge.
    pub stamp: Stamp,
    /// Who asked.
    pub actor: Box<str>,
    /// What changed, never empty.
    pub changes: Changes,
}

/// An encoded [`Proposal`], as the log carries it.
pub type Record = Bytes;
