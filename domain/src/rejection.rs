//! Every "no": deterministic, with a stable code, safe to show, saying what to do next.
//!
//! `Display` is the short text. Where etcd has the same refusal the text is etcd's to the letter, because
//! its clients recognise errors by text. [`Rejection::code`] is the stable name of the fault on every door;
//! [`Rejection::hint`] says what to do next and is shown beside the text where there is room for it.

use crate::name::TenantName;
use crate::revision::Revision;
use crate::tenant::QuotaKind;

/// A refusal of an intent or a query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    // ---- malformed requests -------------------------------------------------------------------
    /// No key.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// An operation without content, or `ignore_*` on a key that does not exist.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// `ignore_value` together with a value.
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// `ignore_lease` together with a lease.
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// More operations than [`crate::limits::TXN_OPS_MAX`].
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    /// Nested deeper than [`crate::limits::TXN_DEPTH_MAX`].
    #[error("etcdserver: too many operations in txn request")]
    TxnTooDeep,
    /// One branch writes a key twice.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// A sort order or target outside the enumeration.
    #[error("etcdserver: invalid sort option")]
    InvalidSortOption,
    /// The encoded request is larger than the limit.
    #[error("etcdserver: request is too large")]
    RequestTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A request id of no bytes or too many.
    #[error("meridian: the request id has {bytes} bytes; 1 to 128 are allowed")]
    InvalidRequestId {
        /// Its size.
        bytes: usize,
    },
    /// Not a tenant name.
    #[error(
        "meridian: {name:?} is not a tenant name (1 to 63 of a-z 0-9 - _ . beginning with a letter or digit)"
    )]
    InvalidTenantName {
        /// What was given, cut to 80 characters.
        name: String,
    },

    // ---- revisions ----------------------------------------------------------------------------
    /// The revision was compacted away.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted {
        /// The oldest revision that can still be read.
        compacted: Revision,
    },
    /// The revision lies in the future.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision {
        /// The current revision.
        current: Revision,
    },

    // ---- leases -------------------------------------------------------------------------------
    /// No such lease.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// The id is taken.
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    /// The time to live is above [`crate::limits::LEASE_TTL_SECONDS_MAX`].
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,

    // ---- space and rates ----------------------------------------------------------------------
    /// The tenant is at its quota. Deletes and reads go on.
    #[error("etcdserver: mvcc: database space exceeded")]
    QuotaExceeded {
        /// Whose.
        tenant: TenantName,
        /// Of what.
        kind: QuotaKind,
        /// What it uses, with this request.
        used: u64,
        /// What it may.
        limit: u64,
    },
    /// The tenant sends more requests per second, or holds more watchers, than it may.
    #[error("etcdserver: too many requests")]
    RateExceeded {
        /// Whose.
        tenant: TenantName,
        /// Of what.
        kind: QuotaKind,
        /// What it may.
        limit: u64,
    },
    /// A member raised the alarm `NOSPACE`.
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpaceAlarm,
    /// A member raised the alarm `CORRUPT`.
    #[error("etcdserver: corrupt cluster")]
    CorruptAlarm,

    // ---- tenants ------------------------------------------------------------------------------
    /// No such tenant.
    #[error("meridian: tenant {name:?} does not exist")]
    TenantNotFound {
        /// The name asked for, cut to 80 characters.
        name: String,
    },
    /// The name is taken.
    #[error("meridian: tenant \"{name}\" already exists")]
    TenantExists {
        /// The name.
        name: TenantName,
    },
    /// The tenant `default` can not be deleted.
    #[error("meridian: the tenant `default` can not be deleted")]
    TenantIsDefault,
    /// More than [`crate::limits::TENANTS_MAX`].
    #[error("meridian: the cluster holds the most tenants it may ({limit})")]
    TooManyTenants {
        /// The limit.
        limit: usize,
    },

    // ---- who ----------------------------------------------------------------------------------
    /// The principal may not do this.
    #[error("etcdserver: permission denied")]
    PermissionDenied,
    /// As [`Self::PermissionDenied`], and what it takes can be said: it was in the request.
    #[error("etcdserver: permission denied")]
    Forbidden {
        /// The right that is missing, in words.
        needs: Box<str>,
    },
    /// Authentication is on and the request says nothing of who sends it; or a user without a name.
    #[error("etcdserver: user name is empty")]
    UserNameEmpty,
    /// What proves who somebody is proves it no more: expired, revoked, or never valid.
    #[error("etcdserver: invalid auth token")]
    InvalidToken,
    /// Wrong name or wrong password; which one is not said.
    #[error("etcdserver: authentication failed, invalid user ID or password")]
    AuthFailed,
    /// A password for a user whom no password opens.
    #[error("auth: authentication failed, password was given for no password user")]
    NoPasswordUser,
    /// Authentication is off.
    #[error("etcdserver: authentication is not enabled")]
    AuthNotEnabled,
    /// The rules moved since the caller's rights were looked up.
    #[error("etcdserver: revision of auth store is old")]
    AuthOld,

    // ---- rules --------------------------------------------------------------------------------
    /// Authentication can not be on without the user `root`.
    #[error("etcdserver: root user does not exist")]
    RootUserMissing,
    /// The user `root` must have the role `root`, everywhere and always.
    #[error("etcdserver: root user does not have root role")]
    RootRoleMissing,
    /// The name is taken.
    #[error("etcdserver: user name already exists")]
    UserExists,
    /// No such user.
    #[error("etcdserver: user name not found")]
    UserNotFound,
    /// A role without a name.
    #[error("etcdserver: role name is empty")]
    RoleNameEmpty,
    /// The name is taken.
    #[error("etcdserver: role name already exists")]
    RoleExists,
    /// No such role.
    #[error("etcdserver: role name not found")]
    RoleNotFound,
    /// They do not have it.
    #[error("etcdserver: role is not granted to the user")]
    RoleNotGranted,
    /// The role has no such grant.
    #[error("etcdserver: permission is not granted to the role")]
    PermissionNotGranted,
    /// A grant of nothing.
    #[error("etcdserver: permission not given")]
    PermissionNotGiven,
    /// A change that would lock everybody out, or a range that holds no key.
    #[error("etcdserver: invalid auth management")]
    InvalidAuthManagement,
    /// Names that begin with `meridian:` are the product's.
    #[error("meridian: names that begin with `meridian:` are reserved")]
    ReservedName,
    /// A role would take over from itself.
    #[error("meridian: role {role:?} would take over from itself")]
    RoleCircle {
        /// The role.
        role: Box<str>,
    },
    /// One person would hold what nobody may hold together.
    #[error("meridian: nobody may hold the duties of {duty} together")]
    DutiesConflict {
        /// The pair.
        duty: &'static str,
    },
    /// Nobody hands a role to themselves.
    #[error("meridian: nobody may assign a role to themselves")]
    OwnGrant,
    /// Rights on the cluster are granted in the tenant `default` alone.
    #[error("meridian: rights on the cluster are granted in the tenant `default` only")]
    ClusterScope,
    /// A token of this id exists.
    #[error("meridian: the token already exists")]
    TokenExists,
    /// No such token.
    #[error("meridian: the token does not exist")]
    TokenNotFound,
    /// A token that would live too long, or not at all.
    #[error("meridian: a token lives at least a moment and at most {seconds_max} seconds")]
    TokenTtl {
        /// The policy's bound.
        seconds_max: u64,
    },
    /// More of something than the rules of one tenant may hold.
    #[error("meridian: too many {what}, the limit is {limit}")]
    AccessTooLarge {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A rule was written by a newer version, or is damaged. Nothing is allowed by it.
    #[error("meridian: a rule of this tenant can not be read by this version")]
    AccessUnreadable,

    // ---- apply ---------------------------------------------------------------------------------
    /// The request id was used before, for a write whose answer was too large to keep.
    #[error(
        "meridian: the write was already applied at revision {revision}; its answer is no longer kept"
    )]
    AlreadyApplied {
        /// The revision it was applied at.
        revision: Revision,
    },
    /// A proposal written by a newer version, or damaged on its way into the log.
    #[error("meridian: the proposal can not be understood by this version")]
    UnknownProposal,
}

impl Rejection {
    /// The stable name of the fault, equal on every door.
    pub fn code(&self) -> &'static str {
        match self {
            Self::EmptyKey => "EMPTY_KEY",
            Self::KeyNotFound => "KEY_NOT_FOUND",
            Self::ValueProvided => "VALUE_PROVIDED",
            Self::LeaseProvided => "LEASE_PROVIDED",
            Self::TooManyOps => "TOO_MANY_OPS",
            Self::TxnTooDeep => "TXN_TOO_DEEP",
            Self::DuplicateKey => "DUPLICATE_KEY",
            Self::InvalidSortOption => "INVALID_SORT_OPTION",
            Self::RequestTooLarge { .. } => "REQUEST_TOO_LARGE",
            Self::InvalidRequestId { .. } => "INVALID_REQUEST_ID",
            Self::InvalidTenantName { .. } => "INVALID_TENANT_NAME",
            Self::Compacted { .. } => "COMPACTED",
            Self::FutureRevision { .. } => "FUTURE_REVISION",
            Self::LeaseNotFound => "LEASE_NOT_FOUND",
            Self::LeaseExists => "LEASE_EXISTS",
            Self::LeaseTtlTooLarge => "LEASE_TTL_TOO_LARGE",
            Self::QuotaExceeded { .. } => "QUOTA_EXCEEDED",
            Self::RateExceeded { .. } => "RATE_EXCEEDED",
            Self::NoSpaceAlarm => "NO_SPACE_ALARM",
            Self::CorruptAlarm => "CORRUPT_ALARM",
            Self::TenantNotFound { .. } => "TENANT_NOT_FOUND",
            Self::TenantExists { .. } => "TENANT_EXISTS",
            Self::TenantIsDefault => "TENANT_IS_DEFAULT",
            Self::TooManyTenants { .. } => "TOO_MANY_TENANTS",
            Self::PermissionDenied | Self::Forbidden { .. } => "PERMISSION_DENIED",
            Self::UserNameEmpty => "USER_NAME_EMPTY",
            Self::InvalidToken => "INVALID_TOKEN",
            Self::AuthFailed => "AUTH_FAILED",
            Self::NoPasswordUser => "NO_PASSWORD_USER",
            Self::AuthNotEnabled => "AUTH_NOT_ENABLED",
            Self::AuthOld => "AUTH_OLD",
            Self::RootUserMissing => "ROOT_USER_MISSING",
            Self::RootRoleMissing => "ROOT_ROLE_MISSING",
            Self::UserExists => "USER_EXISTS",
            Self::UserNotFound => "USER_NOT_FOUND",
            Self::RoleNameEmpty => "ROLE_NAME_EMPTY",
            Self::RoleExists => "ROLE_EXISTS",
            Self::RoleNotFound => "ROLE_NOT_FOUND",
            Self::RoleNotGranted => "ROLE_NOT_GRANTED",
            Self::PermissionNotGranted => "PERMISSION_NOT_GRANTED",
            Self::PermissionNotGiven => "PERMISSION_NOT_GIVEN",
            Self::InvalidAuthManagement => "INVALID_AUTH_MANAGEMENT",
            Self::ReservedName => "RESERVED_NAME",
            Self::RoleCircle { .. } => "ROLE_CIRCLE",
            Self::DutiesConflict { .. } => "DUTIES_CONFLICT",
            Self::OwnGrant => "OWN_GRANT",
            Self::ClusterScope => "CLUSTER_SCOPE",
            Self::TokenExists => "TOKEN_EXISTS",
            Self::TokenNotFound => "TOKEN_NOT_FOUND",
            Self::TokenTtl { .. } => "TOKEN_TTL",
            Self::AccessTooLarge { .. } => "ACCESS_TOO_LARGE",
            Self::AccessUnreadable => "ACCESS_UNREADABLE",
            Self::AlreadyApplied { .. } => "ALREADY_APPLIED",
            Self::UnknownProposal => "UNKNOWN_PROPOSAL",
        }
    }

    /// What the caller can do next, where the text alone does not say it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::QuotaExceeded {
                tenant,
                kind,
                used,
                limit,
            } => format!(
                "tenant {tenant} would use {used} of {limit} {kind}; delete keys, compact, or raise the \
                 quota with `meridian tenant quota {tenant}`"
            ),
            Self::RateExceeded {
                tenant,
                kind,
                limit,
            } => format!(
                "tenant {tenant} is limited to {limit} {kind}; slow down, or raise the quota with \
                 `meridian tenant quota {tenant}`"
            ),
            Self::NoSpaceAlarm => {
                "a member is out of space; free some, then disarm with `etcdctl alarm disarm`"
                    .into()
            }
            Self::RequestTooLarge { bytes, limit } => {
                format!("the request has {bytes} bytes, the limit is {limit}; split it")
            }
            Self::Compacted { compacted } => {
                format!(
                    "the oldest revision that can be read is {compacted}; read again from there"
                )
            }
            Self::FutureRevision { current } => format!("the current revision is {current}"),
            Self::TenantNotFound { .. } => {
                "see `meridian tenant list`, or make it with `meridian tenant create`".into()
            }
            Self::Forbidden { needs } => format!("this takes {needs}"),
            Self::AccessUnreadable => {
                "finish the upgrade of every member, or restore the rule".into()
            }
            Self::TxnTooDeep => {
                format!(
                    "transactions nest at most {} deep",
                    crate::limits::TXN_DEPTH_MAX
                )
            }
            Self::TooManyOps => {
                format!(
                    "a transaction has at most {} operations",
                    crate::limits::TXN_OPS_MAX
                )
            }
            _ => return None,
        })
    }
}
