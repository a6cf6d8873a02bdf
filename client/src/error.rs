//! Errors: what went wrong, whether trying again helps, and whether the write may have happened.
//!
//! One type for every call. A program decides by [`Error::kind`], [`Error::is_retryable`] and
//! [`Error::outcome_unknown`]; a person reads the text and [`Error::hint`]; a log keeps [`Error::code`],
//! which is the same on every door of Meridian. The gRPC status stays underneath as the source.
//!
//! ```text
//! how far it got     nothing sent      answered          sent, no answer
//! a read             retryable         by status         retryable
//! a write            retryable         by status         outcome unknown
//! ```

use std::error::Error as _;
use std::sync::Arc;

use tonic::{Code, Status};

use crate::retry::{Effect, Reach};

/// The outcome of a call that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of trouble: what a program decides by.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The options or arguments can not be right. Nothing was sent.
    Misuse,
    /// The server says the request is malformed or against a rule.
    Refused,
    /// The lease, member, tenant or lock named does not exist.
    NotFound,
    /// The name or id is taken.
    AlreadyExists,
    /// The revision asked for was compacted away.
    Compacted {
        /// The oldest revision that can still be read, where the server says it.
        compacted: Option<i64>,
    },
    /// The revision asked for lies in the future.
    FutureRevision,
    /// The tenant or the member is out of space. Deletes and reads go on.
    QuotaExceeded,
    /// The server sheds load, or the tenant sends more than it may.
    Busy,
    /// The caller may not do this.
    Denied,
    /// The caller is not known.
    Unauthenticated,
    /// The server does not have this call. Older or other software.
    Unsupported,
    /// No member could be reached, or none could serve now.
    Unavailable,
    /// The deadline passed.
    TimedOut,
    /// The write was applied by an earlier attempt, and its answer is no longer kept.
    AlreadyApplied,
    /// A lease, a lock or a leadership that was held is held no more.
    Lost,
    /// What was received does not verify.
    Damaged,
    /// Anything the server calls unknown, internal or data loss.
    Internal,
}

/// Why a call failed.
#[derive(Clone, Debug)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: Kind,
    operation: &'static str,
    message: String,
    code: Option<String>,
    hint: Option<String>,
    endpoint: Option<Arc<str>>,
    outcome_unknown: bool,
    source: Option<Source>,
}

#[derive(Clone, Debug)]
enum Source {
    Status(Status),
    Other(Arc<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// What kind of trouble it is.
    pub fn kind(&self) -> &Kind {
        &self.0.kind
    }

    /// The call that failed, in one word: `put`, `range`, `watch`.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// What the server said, or what happened on the way to it.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The stable name of the fault, such as `QUOTA_EXCEEDED`: sent by Meridian as `meridian-code`,
    /// recognised by its text where the server is etcd. None if it never reached a server.
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// What to do next, where the server said it.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The endpoint that failed last.
    pub fn endpoint(&self) -> Option<&str> {
        self.0.endpoint.as_deref()
    }

    /// The gRPC status underneath, if there is one.
    pub fn status(&self) -> Option<&Status> {
        match &self.0.source {
            Some(Source::Status(status)) => Some(status),
            _ => None,
        }
    }

    /// Whether the same call can succeed later without anyone changing anything.
    ///
    /// The client has tried already, within its deadline. For a write also look at
    /// [`Error::outcome_unknown`]: to repeat one that may have happened is the caller's decision.
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.kind, Kind::Unavailable | Kind::TimedOut | Kind::Busy)
    }

    /// Whether this is a write that may or may not have been applied.
    ///
    /// Never true for reads, and never for a write the server refused.
    pub fn outcome_unknown(&self) -> bool {
        self.0.outcome_unknown
    }

    pub(crate) fn misuse(operation: &'static str, message: impl Into<String>) -> Self {
        Self::of(Kind::Misuse, operation, message)
    }

    pub(crate) fn lost(operation: &'static str, message: impl Into<String>) -> Self {
        Self::of(Kind::Lost, operation, message)
    }

    pub(crate) fn of(kind: Kind, operation: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            operation,
            message: message.into(),
            code: None,
            hint: None,
            endpoint: None,
            outcome_unknown: false,
            source: None,
        }))
    }

    /// From the status of the last attempt of a call.
    pub(crate) fn from_status(
        operation: &'static str,
        status: Status,
        effect: Effect,
        endpoint: Option<Arc<str>>,
    ) -> Self {
        let reach = Reach::of(&status);
        let code = trailer(&status, "meridian-code").or_else(|| known_text(status.message()));
        let kind = kind_of(&status, code.as_deref(), reach);
        let message = match reach {
            Reach::NotSent => format!("can not connect: {}", root_cause(&status)),
            Reach::Lost if status.source().is_some() => {
                format!("the connection was lost: {}", root_cause(&status))
            }
            Reach::Answered | Reach::Lost => status.message().to_owned(),
        };
        Self(Box::new(Inner {
            kind,
            operation,
            message,
            hint: trailer(&status, "meridian-hint"),
            outcome_unknown: effect.is_write() && crate::retry::may_have_happened(&status),
            code,
            endpoint,
            source: Some(Source::Status(status)),
        }))
    }

    pub(crate) fn with_source(
        mut self,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        self.0.source = Some(Source::Other(Arc::new(source)));
        self
    }

    pub(crate) fn with_code(mut self, code: Option<String>) -> Self {
        self.0.code = code;
        self
    }

    /// Marks that an earlier attempt of the same write may have been applied.
    pub(crate) fn or_happened_before(mut self) -> Self {
        self.0.outcome_unknown = self.0.kind != Kind::AlreadyApplied;
        self
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.0.operation, self.0.message)?;
        if let Some(endpoint) = &self.0.endpoint {
            write!(f, " ({endpoint})")?;
        }
        if self.0.outcome_unknown {
            f.write_str("; the write may or may not have been applied")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.source {
            Some(Source::Status(status)) => Some(status),
            Some(Source::Other(source)) => Some(source.as_ref()),
            None => None,
        }
    }
}

/// A text in the trailing metadata. Meridian sends printable ASCII there.
pub(crate) fn trailer(status: &Status, key: &str) -> Option<String> {
    status.metadata().get(key)?.to_str().ok().map(str::to_owned)
}

/// The deepest error under a status: the one that names the cause.
fn root_cause(status: &Status) -> String {
    let Some(mut deepest) = status.source() else {
        return status.message().to_owned();
    };
    while let Some(next) = deepest.source() {
        deepest = next;
    }
    deepest.to_string()
}

/// The code of the etcd texts a program is likely to act on; etcd itself sends no codes.
pub(crate) fn known_text(message: &str) -> Option<String> {
    let code = match message {
        "etcdserver: mvcc: required revision has been compacted" => "COMPACTED",
        "etcdserver: mvcc: required revision is a future revision" => "FUTURE_REVISION",
        "etcdserver: requested lease not found" => "LEASE_NOT_FOUND",
        "etcdserver: lease already exists" => "LEASE_EXISTS",
        "etcdserver: too large lease TTL" => "LEASE_TTL_TOO_LARGE",
        "etcdserver: mvcc: database space exceeded" => "QUOTA_EXCEEDED",
        "etcdserver: too many requests" => "TOO_MANY_REQUESTS",
        "etcdserver: key is not provided" => "EMPTY_KEY",
        "etcdserver: key not found" => "KEY_NOT_FOUND",
        "etcdserver: duplicate key given in txn request" => "DUPLICATE_KEY",
        "etcdserver: too many operations in txn request" => "TOO_MANY_OPS",
        "etcdserver: request is too large" => "REQUEST_TOO_LARGE",
        "etcdserver: member not found" => "MEMBER_NOT_FOUND",
        "etcdserver: permission denied" => "PERMISSION_DENIED",
        "etcdserver: corrupt cluster" => "CORRUPT_ALARM",
        "etcdserver: no leader" => "NO_LEADER",
        "etcdserver: leader changed" => "LEADER_CHANGED",
        "etcdserver: not leader" => "NOT_LEADER",
        "not a primary lessor" => "NOT_PRIMARY_LESSOR",
        _ => return None,
    };
    Some(code.to_owned())
}

fn kind_of(status: &Status, code: Option<&str>, reach: Reach) -> Kind {
    match reach {
        Reach::Lost if status.code() == Code::DeadlineExceeded => return Kind::TimedOut,
        Reach::NotSent | Reach::Lost => return Kind::Unavailable,
        Reach::Answered => {}
    }
    match code {
        Some("COMPACTED") => return Kind::Compacted { compacted: None },
        Some("FUTURE_REVISION") => return Kind::FutureRevision,
        Some("QUOTA_EXCEEDED" | "NO_SPACE_ALARM" | "DISK_FULL") => return Kind::QuotaExceeded,
        Some("RATE_EXCEEDED" | "TOO_MANY_REQUESTS" | "CONTENDED") => return Kind::Busy,
        Some("NOT_PRIMARY_LESSOR") => return Kind::Unavailable,
        Some("ALREADY_APPLIED") => return Kind::AlreadyApplied,
        Some("LEASE_EXISTS" | "TENANT_EXISTS") => return Kind::AlreadyExists,
        _ => {}
    }
    match status.code() {
        Code::NotFound => Kind::NotFound,
        Code::AlreadyExists => Kind::AlreadyExists,
        Code::PermissionDenied => Kind::Denied,
        Code::Unauthenticated => Kind::Unauthenticated,
        Code::Unimplemented => Kind::Unsupported,
        Code::Unavailable => Kind::Unavailable,
        Code::DeadlineExceeded | Code::Cancelled => Kind::TimedOut,
        Code::ResourceExhausted => Kind::Busy,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange | Code::Aborted => {
            Kind::Refused
        }
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => Kind::Internal,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn of(status: Status, effect: Effect) -> Error {
        Error::from_status("put", status, effect, Some("http://a".into()))
    }

    #[test]
    fn a_refused_write_has_a_known_outcome() {
        let error = of(
            Status::invalid_argument("etcdserver: key is not provided"),
            Effect::Write,
        );
        assert_eq!(error.kind(), &Kind::Refused);
        assert_eq!(error.code(), Some("EMPTY_KEY"));
        assert!(!error.outcome_unknown() && !error.is_retryable());
        assert_eq!(
            error.to_string(),
            "put: etcdserver: key is not provided (http://a)"
        );
    }

    #[test]
    fn a_write_that_timed_out_on_the_server_may_have_happened_and_a_read_never_does() {
        let timed_out = || Status::unavailable("etcdserver: request timed out");
        assert!(of(timed_out(), Effect::Write).outcome_unknown());
        assert!(!of(timed_out(), Effect::Read).outcome_unknown());
        assert!(of(timed_out(), Effect::Read).is_retryable());
    }

    #[test]
    fn code_and_hint_of_the_trailers_win_over_the_text() {
        let mut status = Status::resource_exhausted("etcdserver: mvcc: database space exceeded");
        status
            .metadata_mut()
            .insert("meridian-code", "NO_SPACE_ALARM".parse().unwrap());
        status
            .metadata_mut()
            .insert("meridian-hint", "free some".parse().unwrap());
        let error = of(status, Effect::Write);
        assert_eq!(error.code(), Some("NO_SPACE_ALARM"));
        assert_eq!(error.hint(), Some("free some"));
        assert_eq!(error.kind(), &Kind::QuotaExceeded);
    }

    #[test]
    fn the_status_stays_reachable_as_the_source() {
        let error = of(
            Status::data_loss("etcdserver: corrupt cluster"),
            Effect::Read,
        );
        assert_eq!(error.status().unwrap().code(), Code::DataLoss);
        assert!(
            std::error::Error::source(&error)
                .unwrap()
                .downcast_ref::<Status>()
                .is_some()
        );
    }
}
