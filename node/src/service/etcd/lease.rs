//! Lease: grant, revoke, keep alive, time to live, list.
//!
//! Grants and revocations go through the log. Renewals and what is left are the leader's knowledge; other
//! members ask it over the peer port.

use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use meridian_domain::access::Action;
use meridian_domain::answer::Found;
use meridian_domain::command::{Reply, Verdict};
use meridian_domain::intent::Intent;
use meridian_domain::name::TenantId;
use meridian_domain::query::Query;
use meridian_proto::etcd::lease as wire;
use meridian_proto::etcdserverpb::lease_server;
use meridian_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use meridian_proto::peer::{LeaseAnswer, LeaseQuestion};
use meridian_raft::Unavailable;
use meridian_storage::store::Tenant;
use prometheus::{IntCounter, register_int_counter};
use prost::Message;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use crate::background::leases::{Left, Lessor};
use crate::pipeline::{Consistency, Pipeline, RequestContext};
use crate::status::Refusal;

/// Asks the leader to renew a lease: [`LeaseQuestion`], answered with [`LeaseAnswer`].
pub const ASK_RENEW: u16 = 1;
/// Asks the leader how long a lease has left: the same messages.
pub const ASK_LEFT: u16 = 2;

/// How long to wait before the lessor is asked again while there is none.
const AGAIN: Duration = Duration::from_millis(50);

#[expect(
    clippy::expect_used,
    reason = "registering a metric fails only if its name is taken"
)]
static GRANTED: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("etcd_debugging_lease_granted_total", "Leases granted here.")
        .expect("registered once")
});
#[expect(
    clippy::expect_used,
    reason = "registering a metric fails only if its name is taken"
)]
static REVOKED: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("etcd_debugging_lease_revoked_total", "Leases revoked here.")
        .expect("registered once")
});

/// The service.
#[derive(Clone)]
pub struct Lease {
    pipeline: Arc<Pipeline>,
    lessor: Arc<Lessor>,
}

impl Lease {
    /// Serves from a pipeline and this member's lessor.
    pub fn new(pipeline: Arc<Pipeline>, lessor: Arc<Lessor>) -> Self {
        Self { pipeline, lessor }
    }

    /// Answers another member's question, as the leader.
    pub async fn answer(
        &self,
        method: u16,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Refusal> {
        let question =
            LeaseQuestion::decode(body).map_err(|_| Refusal::from(Unavailable::NotCapable))?;
        // A tenant this member does not know yet: what was acknowledged is there behind a barrier.
        let id = TenantId(question.tenant);
        if self.pipeline.store.tenant(id).is_none() {
            self.pipeline.replica.read_barrier(deadline).await?;
        }
        let left = match self.pipeline.store.tenant(id) {
            None => None,
            Some(tenant) => {
                self.ask_here(method, &tenant, question.id, deadline)
                    .await?
            }
        };
        let answer = left.map_or_else(LeaseAnswer::default, |left| LeaseAnswer {
            found: true,
            left_seconds: left.left_seconds,
            granted_seconds: left.granted_seconds,
        });
        Ok(answer.encode_to_vec().into())
    }

    /// Asks the lessor, here or over the peer port. While leadership moves it is asked again.
    async fn ask(
        &self,
        method: u16,
        tenant: &Arc<Tenant>,
        id: i64,
        deadline: Instant,
    ) -> Result<Option<Left>, Refusal> {
        loop {
            let asked = if self.pipeline.standing.borrow().is_leader {
                self.ask_here(method, tenant, id, deadline).await
            } else {
                self.ask_leader(method, tenant, id, deadline).await
            };
            let again = Instant::now() + AGAIN;
            match asked {
                Err(Refusal::Unavailable(
                    Unavailable::NoLeader | Unavailable::NotLeader | Unavailable::LeaderChanged,
                )) if again < deadline => tokio::time::sleep_until(again).await,
                asked => return asked,
            }
        }
    }

    async fn ask_here(
        &self,
        method: u16,
        tenant: &Arc<Tenant>,
        id: i64,
        deadline: Instant,
    ) -> Result<Option<Left>, Refusal> {
        if method == ASK_RENEW {
            self.lessor.renew(tenant, id, deadline).await
        } else {
            self.lessor.left(tenant, id, deadline).await
        }
    }

    async fn ask_leader(
        &self,
        method: u16,
        tenant: &Arc<Tenant>,
        id: i64,
        deadline: Instant,
    ) -> Result<Option<Left>, Refusal> {
        let question = LeaseQuestion {
            tenant: tenant.id().0,
            id,
        };
        let body = question.encode_to_vec().into();
        let answer = self
            .pipeline
            .replica
            .ask_leader(method, body, deadline)
            .await?;
        let answer =
            LeaseAnswer::decode(answer).map_err(|_| Refusal::from(Unavailable::NotCapable))?;
        Ok(answer.found.then_some(Left {
            left_seconds: answer.left_seconds,
            granted_seconds: answer.granted_seconds,
        }))
    }

    async fn keep_one(
        &self,
        ctx: &RequestContext,
        id: i64,
    ) -> Result<LeaseKeepAliveResponse, Refusal> {
        let tenant = self.pipeline.tenant(ctx, &mut false).await?;
        // For each one: rights that were taken end the stream with the next message.
        self.pipeline
            .permit(ctx, &tenant, Action::KeepAlive(id))
            .await?;
        self.pipeline.admission.count(&tenant.record())?;
        // Read before the renewal: nobody may see "renewed at r" when the lease ended before r.
        let header = self.pipeline.header(tenant.root().revision());
        let deadline = Instant::now() + self.pipeline.settings.request_timeout();
        let left = self.ask(ASK_RENEW, &tenant, id, deadline).await?;
        Ok(wire::kept_alive(
            header,
            id,
            left.map(|left| left.granted_seconds),
        ))
    }
}

/// Ends a stream after its first error.
fn until_error<T>(
    answers: impl Stream<Item = Result<T, Status>>,
) -> impl Stream<Item = Result<T, Status>> {
    answers.scan(false, |failed, answer| {
        let next = (!*failed).then_some(answer);
        *failed |= next.as_ref().is_some_and(Result::is_err);
        futures::future::ready(next)
    })
}

/// A positive lease number nobody is likely to have drawn before.
pub fn drawn_id() -> i64 {
    loop {
        let id = rand::random::<i64>() & i64::MAX;
        if id != 0 {
            return id;
        }
    }
}

#[tonic::async_trait]
impl lease_server::Lease for Lease {
    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        let ctx = self.pipeline.voters_context(&request)?;
        let LeaseGrantRequest { ttl, id } = request.into_inner();
        let intent = Intent::LeaseGrant {
            id: if id == 0 { drawn_id() } else { id },
            ttl_seconds: ttl,
            ttl_seconds_min: self.pipeline.settings.lease_ttl_seconds_min(),
        };
        let receipt = self.pipeline.write(&ctx, intent).await?;
        let Verdict::Applied(Reply::LeaseGranted { id, ttl_seconds }) = receipt.verdict else {
            return Err(super::kv::mismatch("lease grant"));
        };
        GRANTED.inc();
        let header = self.pipeline.header(receipt.revision);
        Ok(Response::new(wire::granted(header, id, ttl_seconds)))
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        let ctx = self.pipeline.voters_context(&request)?;
        let id = request.into_inner().id;
        let receipt = self
            .pipeline
            .write(&ctx, Intent::LeaseRevoke { id })
            .await?;
        REVOKED.inc();
        let header = Some(self.pipeline.header(receipt.revision));
        Ok(Response::new(LeaseRevokeResponse { header }))
    }

    type LeaseKeepAliveStream =
        Pin<Box<dyn Stream<Item = Result<LeaseKeepAliveResponse, Status>> + Send>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let mut ctx = self.pipeline.voters_context(&request)?;
        self.pipeline.hold(&mut ctx);
        let (service, requests) = (self.clone(), request.into_inner());
        // One at a time, in order: the transport's own window bounds what waits.
        let answers = requests.then(move |next| {
            let (service, ctx) = (service.clone(), ctx.clone());
            async move {
                let id = next?.id;
                service.keep_one(&ctx, id).await.map_err(Status::from)
            }
        });
        Ok(Response::new(Box::pin(until_error(answers))))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let ctx = self.pipeline.voters_context(&request)?;
        let LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let query = Query::Lease { id, keys };
        let answer = self
            .pipeline
            .read(&ctx, &query, Consistency::Linearizable)
            .await?;
        let Found::Lease(lease) = answer.found else {
            return Err(super::kv::mismatch("lease"));
        };
        let header = self.pipeline.header(answer.revision);
        let Some((_, keys)) = lease else {
            return Ok(Response::new(wire::time_to_live(header, id, None)));
        };
        let tenant = self.pipeline.tenant(&ctx, &mut true).await?;
        let left = self.ask(ASK_LEFT, &tenant, id, ctx.deadline).await?;
        let remaining = left.map(|left| wire::Remaining {
            seconds: left.left_seconds,
            granted_seconds: left.granted_seconds,
            keys,
        });
        Ok(Response::new(wire::time_to_live(header, id, remaining)))
    }

    async fn lease_leases(
        &self,
        request: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        let ctx = self.pipeline.voters_context(&request)?;
        let answer = self
            .pipeline
            .read(&ctx, &Query::Leases, Consistency::Linearizable)
            .await?;
        let Found::Leases(mut ids) = answer.found else {
            return Err(super::kv::mismatch("leases"));
        };
        let tenant = self.pipeline.tenant(&ctx, &mut true).await?;
        self.lessor.by_time_left(tenant.id(), &mut ids);
        Ok(Response::new(wire::leases(
            self.pipeline.header(answer.revision),
            &ids,
        )))
    }
}
