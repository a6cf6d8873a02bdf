//! One call: attempts until one is answered, the deadline passes, or repeating is not safe.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::connect::pool::Flavour;
use crate::connect::{Client, Member, probe};
use crate::error::{Error, Result};
use crate::options::Prefer;
use crate::request_id;
use crate::retry::{Effect, Reach, Verdict, gave_up, verdict};

/// Which member a call goes to.
#[derive(Clone, Debug)]
pub(crate) enum To {
    /// By the client's preference.
    Any,
    /// The leader, if it is known.
    Leader,
    /// This one and no other.
    One(Arc<Member>),
}

/// How a call is made.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Its name, for errors.
    pub(crate) operation: &'static str,
    /// What it does to the store.
    pub(crate) effect: Effect,
    /// Where it goes.
    pub(crate) to: To,
    /// Whether the server knows request ids for it.
    pub(crate) named: bool,
    /// How long it may take; none is the client's timeout.
    pub(crate) timeout: Option<Duration>,
}

impl Call {
    /// A call that changes nothing.
    pub(crate) fn read(operation: &'static str) -> Self {
        Self {
            operation,
            effect: Effect::Read,
            to: To::Any,
            named: false,
            timeout: None,
        }
    }

    /// A call that changes keys or leases, applied at most once under its request id.
    pub(crate) fn write(operation: &'static str) -> Self {
        Self {
            operation,
            effect: Effect::Write,
            to: To::Any,
            named: true,
            timeout: None,
        }
    }

    /// A call that changes the cluster and has no request id.
    pub(crate) fn change(operation: &'static str) -> Self {
        Self {
            operation,
            effect: Effect::Write,
            to: To::Any,
            named: false,
            timeout: None,
        }
    }

    /// The same call to somewhere else.
    pub(crate) fn to(mut self, to: To) -> Self {
        self.to = to;
        self
    }

    /// The same call with its own time limit.
    pub(crate) fn within(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl Client {
    /// Makes a call: `send` once for every attempt.
    pub(crate) async fn call<Q, A, F, R>(&self, call: Call, request: Q, send: F) -> Result<A>
    where
        Q: Clone,
        F: Fn(Channel, Request<Q>) -> R,
        R: Future<Output = std::result::Result<Response<A>, Status>>,
    {
        let inner = self.inner();
        let id = (call.named && inner.options.request_ids).then(|| inner.ids.next());
        let deadline = Instant::now() + call.timeout.unwrap_or(inner.options.timeout);
        let mut tried: Vec<Arc<str>> = vec![];
        let mut maybe_applied = false;
        let mut failures = 0;
        let mut member = self.choose(&call.to, &tried);
        loop {
            let _in_flight = member.enter();
            let left = deadline.saturating_duration_since(Instant::now());
            // An attempt is cut short only if another may follow it.
            let repeatable = !call.effect.is_write()
                || (id.is_some() && inner.pool.flavour() == Some(Flavour::Meridian));
            let alone = matches!(call.to, To::One(_)) || inner.pool.members().len() == 1;
            let limit = if repeatable && !alone {
                left.min(inner.options.attempt_timeout)
            } else {
                left
            };
            let mut attempt = Request::new(request.clone());
            self.sign(attempt.metadata_mut(), call.operation, id.as_deref())?;
            attempt.set_timeout(limit);

            let started = Instant::now();
            let status = match tokio::time::timeout(limit, send(member.channel(), attempt)).await {
                Ok(Ok(answer)) => {
                    member.answered(started.elapsed());
                    inner.budget.earn();
                    return Ok(answer.into_inner());
                }
                Ok(Err(status)) if is_own_timeout(&status) => gave_up(limit),
                Ok(Err(status)) => status,
                Err(_) => gave_up(limit),
            };
            failures += 1;
            self.note(&member, &status);
            tried.push(member.url().clone());
            let failed_at = member.url().clone();
            let fail = |status: Status, maybe_applied: bool| {
                let error = Error::from_status(
                    call.operation,
                    status,
                    call.effect,
                    Some(failed_at.clone()),
                );
                if maybe_applied {
                    error.or_happened_before()
                } else {
                    error
                }
            };

            let again = verdict(call.effect, id.is_some(), &status);
            let exhausted = failures >= inner.options.retry.attempts_max.max(1);
            if again == Verdict::Stop || exhausted || !inner.budget.spend() {
                // Even a refusal does not settle an earlier attempt: it may still be on its way.
                return Err(fail(status, maybe_applied));
            }
            let next = self.choose(&call.to, &tried);
            if again == Verdict::AgainIfDeduplicated {
                maybe_applied = true;
                if probe::flavour_of(&inner.pool, &next).await != Some(Flavour::Meridian) {
                    return Err(fail(status, true));
                }
            }
            // A member not yet asked is asked at once if this one was not even reached.
            let fresh = !tried.contains(next.url());
            if !(fresh && Reach::of(&status) == Reach::NotSent) {
                let pause = inner.options.retry.pause(failures);
                if Instant::now() + pause >= deadline {
                    return Err(fail(status, maybe_applied));
                }
                tokio::time::sleep(pause).await;
            }
            if Instant::now() >= deadline {
                return Err(fail(status, maybe_applied));
            }
            if !fresh {
                tried.clear();
            }
            member = next;
        }
    }

    /// The member for an attempt.
    pub(crate) fn choose(&self, to: &To, tried: &[Arc<str>]) -> Arc<Member> {
        match to {
            To::One(member) => member.clone(),
            To::Leader => self.pool().pick(Some(Prefer::Leader), tried),
            To::Any => self.pool().pick(None, tried),
        }
    }

    /// Notes what a failure says about the member.
    pub(crate) fn note(&self, member: &Member, status: &Status) {
        match Reach::of(status) {
            Reach::Answered if status.code() != tonic::Code::Unavailable => member.well(),
            _ => {
                member.failed();
                self.pool().doubt.notify_one();
            }
        }
    }

    /// Puts what every request carries into its metadata.
    pub(crate) fn sign(
        &self,
        metadata: &mut MetadataMap,
        operation: &'static str,
        request_id: Option<&str>,
    ) -> Result<()> {
        let options = &self.inner().options;
        let pairs = [
            ("meridian-tenant", options.tenant.as_deref()),
            ("token", options.token.as_deref()),
            (request_id::METADATA, request_id),
        ];
        for (key, value) in pairs {
            let Some(value) = value else { continue };
            let value: MetadataValue<Ascii> = value.parse().map_err(|e| {
                Error::misuse(operation, format!("{key} must be printable ASCII")).with_source(e)
            })?;
            metadata.insert(key, value);
        }
        Ok(())
    }
}

/// Whether the status was made here because the deadline passed, not sent by the server.
fn is_own_timeout(status: &Status) -> bool {
    use std::error::Error as _;
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::TimeoutExpired>() {
            return true;
        }
        source = error.source();
    }
    false
}
