//! Trying again: only what is safe, only for a while, and never as a storm.
//!
//! Three questions, each a pure function: how far did the attempt get ([`Reach`]), may it be sent again
//! ([`verdict`]), and how long to wait ([`Policy::pause`], exponential with full jitter after
//! <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>). A [`Budget`] shared by all
//! calls of a client bounds what retries add to the load of a cluster that is already in trouble.
//!
//! ```text
//!                      not sent   no member could serve   sent, outcome unknown   refused
//! read                 again      again                   again                   stop
//! write, request id *  again      again                   again                   stop
//! write                again      stop                    stop                    stop
//!
//! * against Meridian, which applies a request id at most once; etcd ignores it
//! ```

use std::error::Error as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tonic::{Code, Status};

/// What a call does to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing: it can be repeated at will.
    Read,
    /// Something, once.
    Write,
}

impl Effect {
    pub(crate) fn is_write(self) -> bool {
        self == Self::Write
    }
}

/// How far a failed attempt got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The request never left, or the peer promises not to have looked at it.
    NotSent,
    /// A server answered with this status.
    Answered,
    /// It left, and no answer came.
    Lost,
}

impl Reach {
    /// Reads it off the errors underneath: a status that a server sent has none.
    pub(crate) fn of(status: &Status) -> Self {
        if status.metadata().contains_key(LOST) {
            return Self::Lost;
        }
        let Some(mut error) = status.source() else {
            return Self::Answered;
        };
        loop {
            if error.is::<tonic::ConnectError>() {
                return Self::NotSent;
            }
            // RFC 9113, section 8.7: a refused stream was not processed.
            if let Some(h2) = error.downcast_ref::<h2::Error>()
                && h2.reason() == Some(h2::Reason::REFUSED_STREAM)
            {
                return Self::NotSent;
            }
            match error.source() {
                Some(source) => error = source,
                None => return Self::Lost,
            }
        }
    }
}

/// Marks a status this client made itself when it stopped waiting for an answer.
const LOST: &str = "meridian-client-lost";

/// The status of an attempt that was given up on.
pub(crate) fn gave_up(after: Duration) -> Status {
    let mut status = Status::deadline_exceeded(format!("no answer within {after:.1?}"));
    status
        .metadata_mut()
        .insert(LOST, tonic::metadata::MetadataValue::from_static("1"));
    status
}

/// Whether a write that ended in `status` may have been applied, now or later.
pub(crate) fn may_have_happened(status: &Status) -> bool {
    match Reach::of(status) {
        Reach::NotSent => false,
        Reach::Lost => true,
        Reach::Answered => {
            let open = matches!(
                status.code(),
                Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown
            );
            open && !was_not_proposed(status)
        }
    }
}

/// Whether the server says that it gave up before the write reached the log.
fn was_not_proposed(status: &Status) -> bool {
    match crate::error::trailer(status, "meridian-code") {
        Some(code) => matches!(
            code.as_str(),
            "NO_LEADER" | "NOT_PRIMARY_LESSOR" | "UNHEALTHY_CLUSTER" | "NOT_ENOUGH_STARTED_MEMBERS"
        ),
        None => matches!(
            status.message(),
            "etcdserver: too many requests"
                | "etcdserver: unhealthy cluster"
                | "etcdserver: re-configuration failed due to not enough started members"
        ),
    }
}

/// Whether to send a request again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The answer stands.
    Stop,
    /// Again, to another member if there is one.
    Again,
    /// Again, but only to a server that honours request ids.
    AgainIfDeduplicated,
}

/// Decides about a failed attempt.
pub(crate) fn verdict(effect: Effect, has_request_id: bool, status: &Status) -> Verdict {
    let passing = match Reach::of(status) {
        Reach::NotSent => return Verdict::Again,
        Reach::Lost => true,
        Reach::Answered => is_passing(status),
    };
    match effect {
        _ if !passing => Verdict::Stop,
        Effect::Read => Verdict::Again,
        Effect::Write if !may_have_happened(status) => Verdict::Again,
        Effect::Write if has_request_id => Verdict::AgainIfDeduplicated,
        Effect::Write => Verdict::Stop,
    }
}

/// Whether another try, here or elsewhere, can end differently.
fn is_passing(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::Aborted => true,
        // A learner of etcd refuses everything but serializable reads; another member will not.
        Code::FailedPrecondition => status.message() == "etcdserver: rpc not supported for learner",
        // etcd lets these two slip out without a code of their own.
        Code::Unknown => matches!(
            status.message(),
            "etcdserver: too many requests" | "not a primary lessor" | "raft proposal dropped"
        ),
        Code::ResourceExhausted => {
            crate::error::trailer(status, "meridian-code").as_deref() == Some("TOO_MANY_REQUESTS")
        }
        _ => false,
    }
}

/// How long and how often to try.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The most attempts of one call, the first included. At least 1.
    pub attempts_max: u32,
    /// The longest first pause; it doubles with every attempt.
    pub pause_first: Duration,
    /// The longest pause.
    pub pause_max: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            attempts_max: 24,
            pause_first: Duration::from_millis(20),
            pause_max: Duration::from_secs(1),
        }
    }
}

impl Policy {
    /// The pause after `failures` failed attempts: uniform between nothing and the ceiling.
    pub fn pause(&self, failures: u32) -> Duration {
        self.ceiling(failures).mul_f64(rand::random::<f64>())
    }

    /// The longest pause after `failures` failed attempts.
    fn ceiling(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        self.pause_first
            .saturating_mul(1 << doublings)
            .min(self.pause_max)
    }
}

/// What retries may add to the load: a bucket that calls fill and retries empty.
///
/// Every call that succeeds adds one token, every retry takes ten, so that in a lasting failure retries
/// are at most a tenth of the calls; the full bucket carries a short one.
#[derive(Debug)]
pub(crate) struct Budget {
    tokens: AtomicU32,
}

impl Budget {
    const FULL: u32 = 2_000;
    const RETRY: u32 = 10;

    pub(crate) fn new() -> Self {
        Self {
            tokens: AtomicU32::new(Self::FULL),
        }
    }

    /// Notes a call that succeeded.
    pub(crate) fn earn(&self) {
        let _ = self
            .tokens
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tokens| {
                (tokens < Self::FULL).then_some(tokens + 1)
            });
    }

    /// Takes what a retry costs; false if there is not enough.
    pub(crate) fn spend(&self) -> bool {
        self.tokens
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tokens| {
                tokens.checked_sub(Self::RETRY)
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn coded(mut status: Status, code: &'static str) -> Status {
        status
            .metadata_mut()
            .insert("meridian-code", code.parse().unwrap());
        status
    }

    #[test]
    fn reads_are_repeated_when_a_member_can_not_serve_and_never_when_refused() {
        let read = |status| verdict(Effect::Read, false, &status);
        assert_eq!(
            read(Status::unavailable("etcdserver: no leader")),
            Verdict::Again
        );
        assert_eq!(read(gave_up(Duration::from_secs(1))), Verdict::Again);
        assert_eq!(read(Status::out_of_range("compacted")), Verdict::Stop);
        assert_eq!(read(Status::permission_denied("no")), Verdict::Stop);
    }

    #[test]
    fn a_write_that_may_have_happened_is_repeated_only_under_a_request_id() {
        let lost = gave_up(Duration::from_secs(1));
        assert_eq!(verdict(Effect::Write, false, &lost), Verdict::Stop);
        assert_eq!(
            verdict(Effect::Write, true, &lost),
            Verdict::AgainIfDeduplicated
        );
        let shed = coded(Status::resource_exhausted("busy"), "TOO_MANY_REQUESTS");
        assert_eq!(verdict(Effect::Write, false, &shed), Verdict::Again);
        let refused = coded(Status::resource_exhausted("full"), "QUOTA_EXCEEDED");
        assert_eq!(verdict(Effect::Write, true, &refused), Verdict::Stop);
    }

    #[tokio::test]
    async fn a_refused_connection_counts_as_not_sent() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let nobody = listener.local_addr().unwrap();
        drop(listener);
        let channel = tonic::transport::Endpoint::new(format!("http://{nobody}"))
            .unwrap()
            .connect_lazy();
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let path = http::uri::PathAndQuery::from_static("/a.B/C");
        let status = client
            .unary(tonic::Request::new(()), path, codec)
            .await
            .unwrap_err();
        assert_eq!(Reach::of(&status), Reach::NotSent, "{status:?}");
    }

    #[test]
    fn pauses_double_up_to_the_ceiling_and_jitter_below_it() {
        let policy = Policy {
            attempts_max: 9,
            pause_first: Duration::from_millis(10),
            pause_max: Duration::from_millis(65),
        };
        let ceilings: Vec<_> = (1..=5).map(|n| policy.ceiling(n).as_millis()).collect();
        assert_eq!(ceilings, [10, 20, 40, 65, 65]);
        assert_eq!(policy.ceiling(u32::MAX).as_millis(), 65);
        assert!((0..1000).all(|_| policy.pause(3) <= Duration::from_millis(40)));
    }

    #[test]
    fn a_budget_runs_dry_and_fills_with_calls_that_succeed() {
        let budget = Budget::new();
        let granted = (0..10_000).filter(|_| budget.spend()).count();
        assert_eq!(granted, 200);
        (0..9).for_each(|_| budget.earn());
        assert!(!budget.spend());
        budget.earn();
        assert!(budget.spend());
    }
}
