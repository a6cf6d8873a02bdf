//! One audit record: who did what to which, when, from where, why, and what came of it.
//!
//! Bounded: it names the first [`ROWS_NAMED_MAX`] keys a write touched and counts the rest under one hash. It holds no
//! value, no password, no token's secret.

use bytes::Bytes;

use crate::access::grant::{Address, Proof};
use crate::access::verb::Verb;
use crate::audit::tree::Hash;
use crate::key::Space;
use crate::name::TenantId;
use crate::revision::{LogId, Revision};
use crate::stamp::Stamp;

/// The most keys named in one record.
pub const ROWS_NAMED_MAX: usize = 32;

/// The longest reason, ticket or other free text, in bytes; longer ones are cut at the edge.
pub const TEXT_BYTES_MAX: usize = 1_024;

/// What the edge knows about a request beside its content. Data only: nothing compares it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// How who asked was proven; none: not at all.
    pub proof: Option<Proof>,
    /// Where the request came from.
    pub address: Option<Address>,
    /// The member that took it.
    pub member: u64,
    /// The grant that allowed it, as `role#number`; empty if none was needed.
    pub grant: Box<str>,
    /// Why, as the caller says.
    pub reason: Box<str>,
    /// The ticket, as the caller says.
    pub ticket: Box<str>,
    /// The trace it belongs to; empty or 16 bytes.
    pub trace: Bytes,
}

/// What was done. The number is part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// A transaction on keys.
    Txn = 1,
    /// A lease was made.
    LeaseGrant = 2,
    /// A lease was ended.
    LeaseRevoke = 3,
    /// History was forgotten.
    Compact = 4,
    /// A tenant was made.
    TenantCreate = 5,
    /// A tenant was changed.
    TenantChange = 6,
    /// A tenant was removed.
    TenantDelete = 7,
    /// An alarm was raised or cleared.
    Alarm = 8,
    /// A member published how it is reached, or was forgotten.
    Member = 9,
    /// The rules were changed.
    Access = 10,
    /// Somebody logged in, or tried to.
    Login = 11,
    /// Keys were read.
    Read = 12,
    /// Keys are watched.
    Watch = 13,
}

impl Deed {
    /// Every one.
    pub const ALL: [Self; 13] = [
        Self::Txn,
        Self::LeaseGrant,
        Self::LeaseRevoke,
        Self::Compact,
        Self::TenantCreate,
        Self::TenantChange,
        Self::TenantDelete,
        Self::Alarm,
        Self::Member,
        Self::Access,
        Self::Login,
        Self::Read,
        Self::Watch,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Txn => "txn",
            Self::LeaseGrant => "lease.grant",
            Self::LeaseRevoke => "lease.revoke",
            Self::Compact => "compact",
            Self::TenantCreate => "tenant.create",
            Self::TenantChange => "tenant.change",
            Self::TenantDelete => "tenant.delete",
            Self::Alarm => "alarm",
            Self::Member => "member",
            Self::Access => "access",
            Self::Login => "login",
            Self::Read => "read",
            Self::Watch => "watch",
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// The rules forbade it.
    Denied {
        /// The stable code of the refusal.
        code: Box<str>,
    },
    /// It was refused for another reason.
    Refused {
        /// The stable code of the refusal.
        code: Box<str>,
    },
}

/// One key that was written, deleted or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The space.
    pub space: Space,
    /// The key.
    pub key: Bytes,
    /// A hash of the value before; none: there was none.
    pub before: Option<Hash>,
    /// A hash of the value after; none: there is none.
    pub after: Option<Hash>,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose tree it belongs to; [`TenantId::SYSTEM`] is the cluster's.
    pub tenant: TenantId,
    /// When, by the clock of the edge.
    pub stamp: Stamp,
    /// The place of the entry in the log; none for what never was in it.
    pub log_id: Option<LogId>,
    /// Who, as `kind:name`.
    pub actor: Box<str>,
    /// What the edge knows beside.
    pub origin: Origin,
    /// The request's own name, if it had one.
    pub request_id: Option<Bytes>,
    /// What was done.
    pub deed: Deed,
    /// The verb that was exercised or missing, where it is one.
    pub verb: Option<Verb>,
    /// What it was done to, where that is no key: a tenant's name, a lease, a revision.
    pub object: Box<str>,
    /// The tenant's revision after it.
    pub revision: Revision,
    /// The rules it was allowed under.
    pub rules_revision: Option<u64>,
    /// What came of it.
    pub outcome: Outcome,
    /// The first keys, in order; at most [`ROWS_NAMED_MAX`].
    pub rows: Vec<Row>,
    /// How many keys there were.
    pub rows_count: u64,
    /// The root of a tree over all rows, if there were more than are named.
    pub rows_root: Option<Hash>,
}
