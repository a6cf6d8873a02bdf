//! No, not now, broken: the only place with status codes.
//!
//! ```text
//!   Rejection    no            domain     the request can not succeed as it is
//!   Unavailable  not now       raft       another try, or another member, may succeed
//!   Fault        broken here   storage    this member can not answer; the log keeps the whole story
//!   Etcd         no            here       what only etcd's API knows: membership, maintenance, the transport
//! ```
//!
//! etcd's clients recognise errors by their text, so the text is etcd's to the letter wherever etcd has the
//! same refusal. The stable name travels beside it in the trailing metadata `meridian-code`, what to do next
//! in `meridian-hint`. A [`Fault`] shows an incident number only; the log holds the rest under that number.

use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;
use meridian_domain::rejection::Rejection;
use meridian_raft::unavailable::Unavailable;
use meridian_storage::fault::Fault;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// The trailing metadata that holds the stable name of a refusal.
pub const CODE_KEY: &str = "meridian-code";
/// The trailing metadata that says what to do next.
pub const HINT_KEY: &str = "meridian-hint";

/// Why a request was not served.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// No.
    #[error(transparent)]
    Rejection(#[from] Rejection),
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Broken here.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// No, in words only etcd's API has.
    #[error(transparent)]
    Etcd(#[from] Etcd),
}

/// Refusals that belong to etcd's API and to no layer below it. `Display` is etcd's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Etcd {
    // ---- the request itself --------------------------------------------------------------------
    /// The metadata `client-api-version` is not text.
    #[error("etcdserver: invalid client api version")]
    InvalidClientApiVersion,
    /// A learner was asked for what only voters do.
    #[error("etcdserver: rpc not supported for learner")]
    NotSupportedForLearner,
    /// The metadata `hasleader` was set and there is none.
    #[error("etcdserver: no leader")]
    NoLeader,
    /// The caller's own deadline passed.
    #[error("context deadline exceeded")]
    DeadlineExceeded,
    /// The caller went away.
    #[error("context canceled")]
    Canceled,
    /// The message is larger than the transport accepts.
    #[error("grpc: received message larger than max ({bytes} vs. {limit})")]
    MessageTooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The message is not what the method takes.
    #[error("grpc: failed to unmarshal the received message: {what}")]
    MalformedMessage {
        /// What does not fit.
        what: String,
    },
    /// The message is compressed, which was not agreed on.
    #[error("grpc: Decompressor is not installed for grpc-encoding of the received message")]
    CompressedMessage,
    /// The member has as much work as it accepts.
    #[error("etcdserver: too many requests")]
    TooManyRequests {
        /// Whose work, or what queue, with the bound.
        what: String,
    },
    /// A plan was overtaken by others too often.
    #[error("meridian: the rules of tenant {tenant} change faster than this write can be planned")]
    Contended {
        /// Whose rules.
        tenant: String,
    },

    // ---- watch, lease, lock, election ----------------------------------------------------------
    /// The watch stream ended by the client.
    #[error("etcdserver: watch canceled")]
    WatchCanceled,
    /// A lease was asked of a member that is not the confirmed leader.
    #[error("not a primary lessor")]
    NotPrimaryLessor,
    /// The leader changed while a lease was looked at.
    #[error("etcdserver: leader changed")]
    LeaderChanged,
    /// The key a lock or election waited with is gone.
    #[error("mutex: session is expired")]
    LockSessionExpired,
    /// Proclaim by somebody who does not lead the election.
    #[error("election: not leader")]
    ElectionNotLeader,
    /// Nobody leads the election.
    #[error("election: no leader")]
    ElectionNoLeader,
    /// Proclaim or resign without saying which leadership.
    #[error("\"leader\" field must be provided")]
    ElectionLeaderMissing,

    // ---- membership ----------------------------------------------------------------------------
    /// A peer URL does not parse.
    #[error("etcdserver: given member URLs are invalid")]
    MemberUrlsInvalid,
    /// A member has these peer URLs.
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlsExist,
    /// The derived id is taken.
    #[error("etcdserver: member ID already exist")]
    MemberIdExists,
    /// No such member.
    #[error("etcdserver: member not found")]
    MemberNotFound,
    /// More learners than the cluster takes.
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    /// Promoting a voter.
    #[error("etcdserver: can only promote a learner member")]
    NotLearner,
    /// Promoting a learner that lags.
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    /// The change would leave too few members that run. Unknown(2) on the wire, as etcd sends it.
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStartedMembers,
    /// Quorum is in doubt.
    #[error("etcdserver: unhealthy cluster")]
    UnhealthyCluster,
    /// The request names another cluster.
    #[error("etcdserver: cluster ID mismatch")]
    ClusterIdMismatch,

    // ---- maintenance ---------------------------------------------------------------------------
    /// Asked of a member that does not lead.
    #[error("etcdserver: not leader")]
    NotLeader,
    /// The target is unknown or a learner.
    #[error("etcdserver: bad leader transferee")]
    BadLeaderTransferee,
    /// The transfer did not come to an end. Unknown(2) on the wire, as etcd sends it.
    #[error("etcdserver: request timed out, leader transfer took too long")]
    LeaderTransferTimedOut,
    /// The version does not parse.
    #[error("etcdserver: wrong downgrade target version format")]
    DowngradeVersionFormat,
    /// The version is not one minor below.
    #[error("etcdserver: invalid downgrade target version")]
    DowngradeVersionInvalid,
    /// There is no downgrade to cancel.
    #[error("etcdserver: no inflight downgrade job")]
    NoDowngrade,
    /// This version can not do that.
    #[error("etcdserver: not capable")]
    NotCapable,

    // ---- auth ----------------------------------------------------------------------------------
    /// A new password that is too short, or longer than any that is taken.
    #[error("meridian: a password has {least} to 1024 characters here")]
    PasswordLength {
        /// The least, by the tenant's policy.
        least: u32,
    },
    /// A call that is not there yet.
    #[error("{what} is not supported by this version of Meridian")]
    NotSupported {
        /// The call.
        what: &'static str,
    },
}

impl Etcd {
    fn grpc(&self) -> Code {
        match self {
            Self::InvalidClientApiVersion
            | Self::MemberUrlsInvalid
            | Self::DowngradeVersionFormat
            | Self::DowngradeVersionInvalid
            | Self::PasswordLength { .. } => Code::InvalidArgument,
            Self::MessageTooLarge { .. } | Self::TooManyRequests { .. } => Code::ResourceExhausted,
            Self::NotSupportedForLearner
            | Self::PeerUrlsExist
            | Self::MemberIdExists
            | Self::TooManyLearners
            | Self::NotLearner
            | Self::LearnerNotReady
            | Self::ClusterIdMismatch
            | Self::NotLeader
            | Self::BadLeaderTransferee
            | Self::NoDowngrade
            | Self::NotCapable => Code::FailedPrecondition,
            Self::MemberNotFound => Code::NotFound,
            Self::NoLeader | Self::LeaderChanged | Self::UnhealthyCluster => Code::Unavailable,
            Self::Contended { .. } => Code::Aborted,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::Canceled | Self::WatchCanceled => Code::Cancelled,
            Self::NotSupported { .. } | Self::CompressedMessage => Code::Unimplemented,
            Self::MalformedMessage { .. } => Code::Internal,
            Self::NotPrimaryLessor
            | Self::LockSessionExpired
            | Self::ElectionNotLeader
            | Self::ElectionNoLeader
            | Self::ElectionLeaderMissing
            | Self::NotEnoughStartedMembers
            | Self::LeaderTransferTimedOut => Code::Unknown,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::InvalidClientApiVersion => "INVALID_CLIENT_API_VERSION",
            Self::NotSupportedForLearner => "NOT_SUPPORTED_FOR_LEARNER",
            Self::NoLeader => "NO_LEADER",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::Canceled => "CANCELED",
            Self::MessageTooLarge { .. } => "MESSAGE_TOO_LARGE",
            Self::MalformedMessage { .. } => "MALFORMED_MESSAGE",
            Self::CompressedMessage => "COMPRESSED_MESSAGE",
            Self::TooManyRequests { .. } => "TOO_MANY_REQUESTS",
            Self::Contended { .. } => "CONTENDED",
            Self::WatchCanceled => "WATCH_CANCELED",
            Self::NotPrimaryLessor => "NOT_PRIMARY_LESSOR",
            Self::LeaderChanged => "LEADER_CHANGED",
            Self::LockSessionExpired => "LOCK_SESSION_EXPIRED",
            Self::ElectionNotLeader => "ELECTION_NOT_LEADER",
            Self::ElectionNoLeader => "ELECTION_NO_LEADER",
            Self::ElectionLeaderMissing => "ELECTION_LEADER_MISSING",
            Self::MemberUrlsInvalid => "MEMBER_URLS_INVALID",
            Self::PeerUrlsExist => "PEER_URLS_EXIST",
            Self::MemberIdExists => "MEMBER_ID_EXISTS",
            Self::MemberNotFound => "MEMBER_NOT_FOUND",
            Self::TooManyLearners => "TOO_MANY_LEARNERS",
            Self::NotLearner => "NOT_LEARNER",
            Self::LearnerNotReady => "LEARNER_NOT_READY",
            Self::NotEnoughStartedMembers => "NOT_ENOUGH_STARTED_MEMBERS",
            Self::UnhealthyCluster => "UNHEALTHY_CLUSTER",
            Self::ClusterIdMismatch => "CLUSTER_ID_MISMATCH",
            Self::NotLeader => "NOT_LEADER",
            Self::BadLeaderTransferee => "BAD_LEADER_TRANSFEREE",
            Self::LeaderTransferTimedOut => "LEADER_TRANSFER_TIMED_OUT",
            Self::DowngradeVersionFormat => "DOWNGRADE_VERSION_FORMAT",
            Self::DowngradeVersionInvalid => "DOWNGRADE_VERSION_INVALID",
            Self::NoDowngrade => "NO_DOWNGRADE",
            Self::NotCapable => "NOT_CAPABLE",
            Self::PasswordLength { .. } => "PASSWORD_LENGTH",
            Self::NotSupported { .. } => "NOT_SUPPORTED",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::TooManyRequests { what } => format!("{what}; slow down and try again"),
            Self::NotSupportedForLearner => {
                "ask a voting member, or read with `serializable`".into()
            }
            Self::MessageTooLarge { .. } => "split the request".into(),
            Self::Contended { .. } => "try again".into(),
            _ => return None,
        })
    }
}

impl Refusal {
    /// The stable name, equal on every door.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Rejection(rejection) => rejection.code(),
            Self::Unavailable(unavailable) => of_unavailable(*unavailable).1,
            Self::Fault(Fault::DiskFull { .. }) => "DISK_FULL",
            Self::Fault(_) => "FAULT",
            Self::Etcd(etcd) => etcd.name(),
        }
    }

    /// What the caller can do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Rejection(rejection) => rejection.hint(),
            Self::Unavailable(unavailable) => Some(unavailable.hint().into()),
            Self::Fault(Fault::DiskFull { .. }) => Some(DISK_FULL_HINT.into()),
            Self::Fault(_) => {
                Some("ask another member; the log of this one says what broke".into())
            }
            Self::Etcd(etcd) => etcd.hint(),
        }
    }

    /// The gRPC code.
    pub fn grpc(&self) -> Code {
        match self {
            Self::Rejection(rejection) => of_rejection(rejection),
            Self::Unavailable(unavailable) => of_unavailable(*unavailable).0,
            Self::Fault(Fault::DiskFull { .. }) => Code::ResourceExhausted,
            Self::Fault(_) => Code::Unavailable,
            Self::Etcd(etcd) => etcd.grpc(),
        }
    }

    /// The HTTP status.
    pub fn http(&self) -> StatusCode {
        http_of(self.grpc())
    }

    /// The text an outsider sees. A fault is written to the log here, under the incident number shown.
    pub fn text(&self) -> String {
        match self {
            Self::Rejection(rejection) => rejection.to_string(),
            Self::Unavailable(unavailable) => unavailable.to_string(),
            Self::Fault(Fault::DiskFull { .. }) => NO_SPACE.into(),
            Self::Fault(fault) => {
                let incident = next_incident();
                tracing::error!(incident, fault = %fault, "a request met a fault of this member");
                format!("meridian: this member can not serve the request (incident {incident})")
            }
            Self::Etcd(etcd) => etcd.to_string(),
        }
    }

    /// As a gRPC status with code, text and trailing metadata.
    pub fn into_status(self) -> Status {
        let code = self.grpc();
        self.status_with(code)
    }

    /// As etcd's Lock and Election answer every error: Unknown(2) with the inner text.
    pub fn into_unknown_status(self) -> Status {
        let code = match self.grpc() {
            kept @ (Code::Cancelled | Code::DeadlineExceeded) => kept,
            _ => Code::Unknown,
        };
        self.status_with(code)
    }

    fn status_with(self, code: Code) -> Status {
        let mut status = Status::new(code, self.text());
        let metadata = status.metadata_mut();
        metadata.insert(CODE_KEY, MetadataValue::from_static(self.code()));
        if let Some(hint) = self
            .hint()
            .and_then(|hint| MetadataValue::try_from(hint).ok())
        {
            metadata.insert(HINT_KEY, hint);
        }
        status
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        refusal.into_status()
    }
}

const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
const DISK_FULL_HINT: &str =
    "the disk of a member is full; free space on it: writes go on by themselves";

/// A number for one fault, shown outside and written to the log: unique within a process.
fn next_incident() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn of_rejection(rejection: &Rejection) -> Code {
    match rejection {
        Rejection::EmptyKey
        | Rejection::KeyNotFound
        | Rejection::ValueProvided
        | Rejection::LeaseProvided
        | Rejection::TooManyOps
        | Rejection::TxnTooDeep
        | Rejection::DuplicateKey
        | Rejection::InvalidSortOption
        | Rejection::RequestTooLarge { .. }
        | Rejection::InvalidRequestId { .. }
        | Rejection::InvalidTenantName { .. }
        | Rejection::UserNameEmpty
        | Rejection::RoleNameEmpty
        | Rejection::AuthFailed
        | Rejection::AuthOld
        | Rejection::PermissionNotGiven
        | Rejection::InvalidAuthManagement
        | Rejection::ReservedName
        | Rejection::RoleCircle { .. }
        | Rejection::ClusterScope
        | Rejection::TokenTtl { .. } => Code::InvalidArgument,
        Rejection::Compacted { .. }
        | Rejection::FutureRevision { .. }
        | Rejection::LeaseTtlTooLarge => Code::OutOfRange,
        Rejection::LeaseNotFound | Rejection::TenantNotFound { .. } | Rejection::TokenNotFound => {
            Code::NotFound
        }
        Rejection::LeaseExists
        | Rejection::TenantIsDefault
        | Rejection::AuthNotEnabled
        | Rejection::RootUserMissing
        | Rejection::RootRoleMissing
        | Rejection::UserExists
        | Rejection::UserNotFound
        | Rejection::RoleExists
        | Rejection::RoleNotFound
        | Rejection::RoleNotGranted
        | Rejection::PermissionNotGranted
        | Rejection::DutiesConflict { .. }
        | Rejection::OwnGrant => Code::FailedPrecondition,
        Rejection::TenantExists { .. }
        | Rejection::AlreadyApplied { .. }
        | Rejection::TokenExists => Code::AlreadyExists,
        Rejection::QuotaExceeded { .. }
        | Rejection::RateExceeded { .. }
        | Rejection::NoSpaceAlarm
        | Rejection::TooManyTenants { .. }
        | Rejection::AccessTooLarge { .. } => Code::ResourceExhausted,
        Rejection::CorruptAlarm | Rejection::AccessUnreadable => Code::DataLoss,
        Rejection::PermissionDenied | Rejection::Forbidden { .. } => Code::PermissionDenied,
        Rejection::InvalidToken => Code::Unauthenticated,
        // `NoPasswordUser` among them: measured on etcd, it has no code of its own.
        _ => Code::Unknown,
    }
}

/// The code and the stable name of "not now".
fn of_unavailable(unavailable: Unavailable) -> (Code, &'static str) {
    match unavailable {
        Unavailable::NoLeader => (Code::Unavailable, "NO_LEADER"),
        Unavailable::NotLeader => (Code::FailedPrecondition, "NOT_LEADER"),
        Unavailable::LeaderChanged => (Code::Unavailable, "LEADER_CHANGED"),
        Unavailable::TimedOut(_) => (Code::Unavailable, "TIMED_OUT"),
        Unavailable::Overloaded => (Code::ResourceExhausted, "TOO_MANY_REQUESTS"),
        Unavailable::Stopped => (Code::Unavailable, "STOPPED"),
        Unavailable::OutcomeUnknown => (Code::Unavailable, "OUTCOME_UNKNOWN"),
        Unavailable::DiskFull => (Code::ResourceExhausted, "DISK_FULL"),
        Unavailable::Fenced => (Code::DataLoss, "FENCED"),
        Unavailable::NotCapable => (Code::FailedPrecondition, "NOT_CAPABLE"),
        _ => (Code::Unavailable, "UNAVAILABLE"),
    }
}

/// The HTTP status of a gRPC code, as etcd's gateway maps them.
pub fn http_of(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        // 499, "client closed request": not in the registry, so it has no constant.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::REQUEST_TIMEOUT),
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests;
