//! Leases: a time to live that many keys share, kept alive while this program lives.
//!
//! ```text
//! grant --> [ ttl ] --renewed every third of it--> ... --revoke, or silence for a whole ttl--> its keys are deleted
//! ```
//!
//! A renewal counts from the moment it was *sent*, by this program's own clock. So [`KeepAlive`] says that a
//! lease is lost no later than the cluster lets it expire, even when no member can be reached.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use meridian_proto::etcdserverpb as wire;
use meridian_proto::etcdserverpb::lease_client::LeaseClient;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status};

use crate::connect::{Call, Client, To};
use crate::error::{Error, Result};

impl Client {
    /// Asks for a lease of `ttl`; whole seconds, rounded up. The cluster may grant more.
    pub fn grant(&self, ttl: Duration) -> Grant {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let request = wire::LeaseGrantRequest {
            ttl: i64::try_from(seconds).unwrap_or(i64::MAX),
            id: 0,
        };
        Grant {
            client: self.clone(),
            request,
        }
    }

    /// The lease with this id. Nothing is sent.
    pub fn lease(&self, id: i64) -> Lease {
        Lease {
            client: self.clone(),
            id,
            ttl: Duration::ZERO,
            granted: None,
        }
    }

    /// The ids of all leases of the tenant.
    pub async fn leases(&self) -> Result<Vec<i64>> {
        let send =
            |channel, request| async move { LeaseClient::new(channel).lease_leases(request).await };
        let answer = self
            .call(Call::read("lease list"), wire::LeaseLeasesRequest {}, send)
            .await?;
        Ok(answer.leases.into_iter().map(|lease| lease.id).collect())
    }
}

/// A request for a lease, sent by awaiting it.
#[derive(Clone, Debug)]
#[must_use = "a grant is sent by awaiting it"]
pub struct Grant {
    client: Client,
    request: wire::LeaseGrantRequest,
}

impl Grant {
    /// Asks for this id instead of one the cluster chooses.
    pub fn id(mut self, id: i64) -> Self {
        self.request.id = id;
        self
    }
}

impl IntoFuture for Grant {
    type Output = Result<Lease>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let send = |channel, request| async move {
                LeaseClient::new(channel).lease_grant(request).await
            };
            let asked_at = Instant::now();
            let answer = self
                .client
                .call(Call::write("lease grant"), self.request, send)
                .await?;
            Ok(Lease {
                client: self.client,
                id: answer.id,
                ttl: seconds(answer.ttl),
                granted: Some(asked_at),
            })
        })
    }
}

/// A lease. Dropping it does nothing: it lives on in the cluster until it is revoked or expires.
#[derive(Clone, Debug)]
pub struct Lease {
    client: Client,
    id: i64,
    ttl: Duration,
    /// When it was asked for, if this program did.
    granted: Option<Instant>,
}

/// How a lease stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseStatus {
    /// What is left; none if there is no such lease.
    pub remaining: Option<Duration>,
    /// What was granted.
    pub granted: Duration,
    /// The keys attached to it, if asked for.
    pub keys: Vec<bytes::Bytes>,
}

impl Lease {
    /// Its id.
    pub fn id(&self) -> i64 {
        self.id
    }

    /// What was granted; zero for a lease this program only knows by id.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Ends the lease; every key attached to it is deleted. Returns the revision after that.
    pub async fn revoke(&self) -> Result<i64> {
        let request = wire::LeaseRevokeRequest { id: self.id };
        let send =
            |channel, request| async move { LeaseClient::new(channel).lease_revoke(request).await };
        let answer = self
            .client
            .call(Call::write("lease revoke"), request, send)
            .await?;
        Ok(crate::kv::revision_of(answer.header.as_ref()))
    }

    /// How the lease stands, with its keys or without.
    pub async fn status(&self, with_keys: bool) -> Result<LeaseStatus> {
        let request = wire::LeaseTimeToLiveRequest {
            id: self.id,
            keys: with_keys,
        };
        let send = |channel, request| async move {
            LeaseClient::new(channel).lease_time_to_live(request).await
        };
        let answer = self
            .client
            .call(Call::read("lease status"), request, send)
            .await?;
        Ok(LeaseStatus {
            remaining: (answer.ttl >= 0).then(|| seconds(answer.ttl)),
            granted: seconds(answer.granted_ttl),
            keys: answer.keys,
        })
    }

    /// Renews the lease once and returns its time to live. [`Kind::Lost`](crate::Kind::Lost) if there is
    /// no such lease any more.
    pub async fn renew(&self) -> Result<Duration> {
        self.renew_within(self.client.inner().options.timeout).await
    }

    async fn renew_within(&self, limit: Duration) -> Result<Duration> {
        let request = wire::LeaseKeepAliveRequest { id: self.id };
        // The leader answers renewals, so it is asked if it is known. A stream of one: a renewal every few seconds does not pay for keeping a stream, and so it
        // takes the same road over failures as every other call. Renewing twice is harmless.
        let send = |channel, request: Request<wire::LeaseKeepAliveRequest>| async move {
            let (metadata, extensions, renewal) = request.into_parts();
            let renewals =
                Request::from_parts(metadata, extensions, futures::stream::iter([renewal]));
            let answers = LeaseClient::new(channel).lease_keep_alive(renewals).await?;
            let answer = answers.into_inner().message().await?;
            let answer = answer.ok_or_else(|| Status::unavailable("no answer to a renewal"))?;
            Ok(Response::new(answer))
        };
        let call = Call::read("lease keep-alive").to(To::Leader).within(limit);
        let answer = self.client.call(call, request, send).await?;
        if answer.ttl <= 0 {
            return Err(Error::lost(
                "lease keep-alive",
                "the lease expired or was revoked",
            ));
        }
        Ok(seconds(answer.ttl))
    }

    /// Renews the lease from now on, in a task of its own, until the answer is dropped.
    pub fn keep_alive(&self) -> KeepAlive {
        let stop = CancellationToken::new();
        let (tx, state) = watch::channel(None);
        let lease = self.clone();
        let stopped = stop.clone();
        tokio::spawn(async move {
            if let Some(lost) = stopped.run_until_cancelled(keep(lease)).await {
                tx.send_replace(Some(lost));
            }
        });
        KeepAlive {
            lease: self.clone(),
            state,
            _stop: stop.drop_guard(),
        }
    }
}

/// Renews a lease until it is lost, and says why it is.
async fn keep(lease: Lease) -> Error {
    let (mut ttl, mut sent) = (lease.ttl, lease.granted.unwrap_or_else(Instant::now));
    if lease.granted.is_none() {
        // Known by id only: the first renewal says how long it lives.
        sent = Instant::now();
        match lease.renew().await {
            Ok(granted) => ttl = granted,
            Err(error) => return error,
        }
    }
    loop {
        tokio::time::sleep_until((sent + ttl / 3).into()).await;
        let trying = Instant::now();
        let Some(left) = (sent + ttl).checked_duration_since(trying) else {
            return expired(ttl, None);
        };
        match lease.renew_within(left).await {
            Ok(granted) => (ttl, sent) = (granted, trying),
            // What can pass is tried until the lease must be given up.
            Err(error) if error.is_retryable() => {
                if Instant::now() + Duration::from_millis(50) >= sent + ttl {
                    return expired(ttl, Some(error));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return error,
        }
    }
}

fn expired(ttl: Duration, cause: Option<Error>) -> Error {
    let text = format!("the lease could not be renewed for {ttl:.0?}");
    let error = Error::lost("lease keep-alive", text);
    match cause {
        Some(cause) => error.with_source(cause),
        None => error,
    }
}

/// Keeps a lease alive until it is dropped, or the lease is lost.
#[derive(Debug)]
pub struct KeepAlive {
    lease: Lease,
    state: watch::Receiver<Option<Error>>,
    _stop: DropGuard,
}

impl KeepAlive {
    /// The lease.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Why the lease is lost; none while it is held, as far as this program can know.
    pub fn is_lost(&self) -> Option<Error> {
        self.state.borrow().clone()
    }

    /// Waits until the lease is lost. Cancel-safe.
    pub async fn lost(&self) -> Error {
        let mut state = self.state.clone();
        let lost = match state.wait_for(Option::is_some).await {
            Ok(lost) => lost.clone(),
            Err(_) => None,
        };
        lost.unwrap_or_else(|| Error::lost("lease keep-alive", "the runtime was shut down"))
    }
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
