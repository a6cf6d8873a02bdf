//! The path of every request: start reading here.
//!
//! ```text
//!   write   admit -> plan -> encode -> fair queue -> propose -> receipt
//!                     ^                                 |
//!                     +---- the rules moved (Stale) ----+      bounded retries
//!   read    admit -> read barrier (unless serializable) -> answer from the local view
//!   watch   admit -> the tenant whose ring the cursors read; each watch is checked when it is made
//! ```
//!
//! Planning and answering are pure and run here, at the edge; the log carries plans. A plan that says *no* may
//! only say how old the local view is, so it is confirmed behind a read barrier before the caller hears it.
//! A write that has been handed to the log is carried to its end even if the caller goes away: the place it
//! takes in the window is given back when its outcome is known, not before.
//!
//! Deliberately absent: wire types, status codes, tenants' queues ([`crate::service::admission`]).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use meridian_domain::access::Principal;
use meridian_domain::answer::{Answer, answer};
use meridian_domain::command::{Proposal, Receipt, Verdict};
use meridian_domain::intent::Intent;
use meridian_domain::name::{TenantId, TenantName};
use meridian_domain::plan::{Plan, plan};
use meridian_domain::query::Query;
use meridian_domain::rejection::Rejection;
use meridian_domain::stamp::{RequestId, Stamp};
use meridian_domain::view::View;
use meridian_raft::replica::Replica;
use meridian_raft::status::Standing;
use meridian_raft::unavailable::{Delay, Unavailable};
use meridian_storage::store::{Store, Tenant};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument;

use crate::authn::{Authn, Who, unix_ms};
pub use crate::kind::off_the_reactor;
use crate::kind::{
    concerns_the_cluster, frees_space, is_about_rights, is_heavy, may_be_the_views_age,
};
use crate::service::admission::{Admission, Lane, Pass};
use crate::settings::Settings;
use crate::status::{Etcd, Refusal};

/// How often a write is planned again because the rules moved under it, before the caller is told.
const PLANS_MAX: usize = 8;

/// Between two looks at whether space was reclaimed.
const RECLAIM_LOOK: Duration = Duration::from_millis(10);

/// Who this member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// The cluster.
    pub cluster: u64,
    /// This member.
    pub member: u64,
    /// The random number this data directory was stamped with when it was made.
    pub instance: u64,
}

/// Everything a service needs to serve a request. Shared as `Arc<Pipeline>`; every method may be called from
/// any task at any time.
pub struct Pipeline {
    /// What this member has applied.
    pub store: Store,
    /// The agreement with the others.
    pub replica: Replica,
    /// How this member runs.
    pub settings: Arc<Settings>,
    /// Who it is.
    pub ids: Ids,
    /// Whose turn it is.
    pub admission: Arc<Admission>,
    /// Who asks.
    pub authn: Arc<Authn>,
    /// Who leads, in which term: looked at for every answer.
    pub standing: watch::Receiver<Standing>,
    role: Role,
}

/// Whether this member is a learner, remembered until the membership moves.
#[derive(Default)]
struct Role {
    /// The index of the membership it was looked up in, doubled, plus one for a learner.
    seen: AtomicU64,
}

/// What a request brings along beside its content.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// Whose store it means.
    pub tenant: TenantName,
    /// Who asks, as far as the request shows it.
    pub who: Who,
    /// Under which name the write is applied at most once.
    pub request_id: Option<RequestId>,
    /// When the caller, or the member, gives up.
    pub deadline: Instant,
    /// Whether the deadline is the caller's own: then passing it is answered in the caller's words.
    pub deadline_is_callers: bool,
    /// Whether the request is pointless without a leader (metadata `hasleader`).
    pub require_leader: bool,
    /// The client library's version, as it says.
    pub client_api_version: Option<Box<str>>,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Sees every write acknowledged before it began.
    Linearizable,
    /// What this member has, without asking anybody.
    Serializable,
}

impl Pipeline {
    /// The pipeline of a member whose parts run.
    pub fn new(store: Store, replica: Replica, settings: Arc<Settings>, ids: Ids) -> Self {
        Self {
            standing: replica.changed(),
            replica,
            settings,
            ids,
            admission: Arc::default(),
            authn: Arc::new(Authn::new(store.clone())),
            role: Role::default(),
            store,
        }
    }

    /// Carries a write to its receipt. The verdict of the receipt is always `Applied`.
    pub async fn write(&self, ctx: &RequestContext, intent: Intent) -> Result<Receipt, Refusal> {
        self.refuse_without_leader(ctx)?;
        let (mut confirmed, mut counted) = (false, false);
        for _ in 0..PLANS_MAX {
            let tenant = self.tenant(ctx, &mut confirmed).await?;
            let planned = self.plan(&tenant, ctx, &intent);
            // Who may not write does not use up what the tenant may.
            if !counted && !planned.as_ref().is_err_and(is_about_rights) {
                self.admission.count(&tenant.record())?;
                counted = true;
            }
            let (plan, principal) = match planned {
                Ok(planned) => planned,
                Err(no) if confirmed || !may_be_the_views_age(&no) => return Err(no.into()),
                Err(_) => {
                    self.barrier(ctx).await?;
                    confirmed = true;
                    continue;
                }
            };
            let lane = Lane::of(&principal, tenant.id());
            let urgent = lane == Lane::Priority || frees_space(&plan.command);
            let record = self.encode(ctx, tenant.id(), &principal, plan)?;
            let receipt = self.propose(ctx, lane, record, urgent).await?;
            match receipt.verdict {
                Verdict::Applied(_) => return Ok(receipt),
                Verdict::Rejected(no) => return Err(no.into()),
                Verdict::Stale => confirmed = true,
            }
        }
        Err(Etcd::Contended {
            tenant: ctx.tenant.to_string(),
        }
        .into())
    }

    /// Answers a read from the local view, behind a read barrier if it must be fresh.
    pub async fn read(
        &self,
        ctx: &RequestContext,
        query: &Query,
        consistency: Consistency,
    ) -> Result<Answer, Refusal> {
        self.refuse_without_leader(ctx)?;
        let mut confirmed = false;
        if consistency == Consistency::Linearizable {
            self.barrier(ctx).await?;
            confirmed = true;
        }
        let tenant = self.tenant(ctx, &mut confirmed).await?;
        let known = self.is_known(&tenant, ctx);
        if known {
            self.admission.count(&tenant.record())?;
        }
        match self.look(&tenant, ctx, query) {
            Err(Refusal::Rejection(no)) if !confirmed && is_about_rights(&no) => {
                // The rules seen may be old ones; if nobody can say so now, they hold.
                match self.barrier(ctx).await {
                    Ok(()) => self.look(&tenant, ctx, query),
                    Err(_) => Err(no.into()),
                }
            }
            answered => answered,
        }
    }

    /// Answers a read from what this member has of a tenant now.
    pub fn look(
        &self,
        tenant: &Arc<Tenant>,
        ctx: &RequestContext,
        query: &Query,
    ) -> Result<Answer, Refusal> {
        let span = tracing::debug_span!("answer", tenant = %ctx.tenant);
        let view = tenant.view();
        let principal = self.authn.principal(&view, &ctx.who)?;
        let look = || span.in_scope(|| answer(&view, &principal, query));
        let answered = if is_heavy(&view, query) {
            off_the_reactor(look)
        } else {
            look()
        };
        // A refusal may be how the view shows that this member's history is broken.
        match view.fault() {
            Some(fault) => Err(fault.clone().into()),
            None => Ok(answered?),
        }
    }

    /// The tenant a request means. One that this member does not know may have been made a moment ago, so
    /// the *no* is confirmed behind a barrier.
    pub async fn tenant(
        &self,
        ctx: &RequestContext,
        confirmed: &mut bool,
    ) -> Result<Arc<Tenant>, Refusal> {
        if let Some(tenant) = self.store.tenant_named(ctx.tenant.as_str()) {
            return Ok(tenant);
        }
        if !*confirmed {
            self.barrier(ctx).await?;
            *confirmed = true;
        }
        self.store
            .tenant_named(ctx.tenant.as_str())
            .ok_or_else(|| self.no_tenant(ctx).into())
    }

    /// Returns once this member has applied everything that was acknowledged before the call.
    pub async fn barrier(&self, ctx: &RequestContext) -> Result<(), Refusal> {
        let span = tracing::debug_span!("read_barrier");
        self.replica
            .read_barrier(ctx.deadline)
            .instrument(span)
            .await
            .map_err(|not_now| ctx.in_the_callers_words(not_now))?;
        Ok(())
    }

    /// Returns once what compaction forgot is gone from this member's memory and disk, durably.
    pub async fn until_reclaimed(&self, ctx: &RequestContext) -> Result<(), Refusal> {
        let tenant = self.tenant(ctx, &mut true).await?;
        while tenant.reclaimed() < tenant.view().compacted() {
            if Instant::now() >= ctx.deadline {
                return Err(ctx.in_the_callers_words(Unavailable::TimedOut(Delay::Plain)));
            }
            tokio::time::sleep(RECLAIM_LOOK).await;
        }
        let history = self.store.history().clone();
        let flushed = tokio::task::spawn_blocking(move || history.flush());
        match tokio::time::timeout_at(ctx.deadline, flushed).await {
            Ok(Ok(flushed)) => Ok(flushed.map(drop)?),
            Ok(Err(_)) => Err(Unavailable::Stopped.into()),
            Err(_) => Err(ctx.in_the_callers_words(Unavailable::TimedOut(Delay::Plain))),
        }
    }

    /// Refuses what a learner does not do, in etcd's words.
    pub fn refuse_on_learner(&self) -> Result<(), Refusal> {
        if self.is_learner() {
            return Err(Etcd::NotSupportedForLearner.into());
        }
        Ok(())
    }

    /// Whether this member has no vote.
    pub fn is_learner(&self) -> bool {
        let now = self.standing.borrow().membership_index << 1;
        let seen = self.role.seen.load(Ordering::Relaxed);
        if seen & !1 == now && now != 0 {
            return seen & 1 == 1;
        }
        let learner = self.replica.status().is_learner;
        self.role
            .seen
            .store(now | u64::from(learner), Ordering::Relaxed);
        learner
    }

    /// The context of something the cluster does on its own account.
    pub fn system_context(&self, tenant: TenantName) -> RequestContext {
        RequestContext {
            tenant,
            who: Who::Cluster,
            request_id: None,
            deadline: Instant::now() + self.settings.request_timeout(),
            deadline_is_callers: false,
            require_leader: false,
            client_api_version: None,
        }
    }

    fn refuse_without_leader(&self, ctx: &RequestContext) -> Result<(), Refusal> {
        if ctx.require_leader && self.standing.borrow().leader.is_none() {
            return Err(Etcd::NoLeader.into());
        }
        Ok(())
    }

    /// Plans on one view: the caller's rights are of the same rules as the plan, and the plan says of which.
    fn plan(
        &self,
        tenant: &Arc<Tenant>,
        ctx: &RequestContext,
        intent: &Intent,
    ) -> Result<(Plan, Principal), Rejection> {
        let _span = tracing::debug_span!("plan", tenant = %ctx.tenant).entered();
        let view = tenant.view();
        let principal = self.authn.principal(&view, &ctx.who)?;
        let plan = plan(&view, &principal, intent.clone())?;
        Ok((plan, principal))
    }

    /// The record the log will hold. Its size is what etcd measures, so its limit is etcd's.
    fn encode(
        &self,
        ctx: &RequestContext,
        tenant: TenantId,
        principal: &Principal,
        plan: Plan,
    ) -> Result<Bytes, Refusal> {
        let mut guards = plan.guards;
        let tenant = if concerns_the_cluster(&plan.command) {
            // The rules on the cluster are those of the tenant `default`, and no other tenant's.
            if tenant != TenantId::DEFAULT {
                guards.rules_revision = None;
            }
            TenantId::SYSTEM
        } else {
            tenant
        };
        let record = meridian_proto::record::proposal::encode(&Proposal {
            tenant,
            request_id: ctx.request_id.clone(),
            actor: principal.name().into(),
            stamp: Stamp { unix_ms: unix_ms() },
            guards,
            command: plan.command,
        });
        let limit = self.settings.limits.request_bytes;
        if record.len() > limit {
            return Err(Rejection::RequestTooLarge {
                bytes: record.len(),
                limit,
            }
            .into());
        }
        Ok(record)
    }

    async fn propose(
        &self,
        ctx: &RequestContext,
        lane: Lane,
        record: Bytes,
        urgent: bool,
    ) -> Result<Receipt, Refusal> {
        let span = tracing::debug_span!("propose", bytes = record.len());
        let pass = self.admission.enter(lane, record.len(), ctx).await?;
        let replica = self.replica.clone();
        let deadline = ctx.deadline;
        let outcome = async move {
            if urgent {
                replica.propose_urgent(record, deadline).await
            } else {
                replica.propose(record, deadline).await
            }
        };
        ToItsEnd {
            work: Some((Box::pin(outcome), pass)),
        }
        .instrument(span)
        .await
        .map_err(|not_now| ctx.in_the_callers_words(not_now))
    }
}

impl RequestContext {
    /// Running out of time is answered in the caller's words if the caller set the time.
    fn in_the_callers_words(&self, not_now: Unavailable) -> Refusal {
        match not_now {
            Unavailable::TimedOut(_) if self.deadline_is_callers => Etcd::DeadlineExceeded.into(),
            other => other.into(),
        }
    }
}

type Outcome = Pin<Box<dyn Future<Output = Result<Receipt, Unavailable>> + Send>>;

/// A proposal on its way, with the place it takes in the window. Dropped early it goes on in the background.
struct ToItsEnd {
    work: Option<(Outcome, Pass)>,
}

impl Future for ToItsEnd {
    type Output = Result<Receipt, Unavailable>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some((outcome, _pass)) = &mut self.work else {
            return Poll::Ready(Err(Unavailable::Stopped));
        };
        let answer = std::task::ready!(outcome.as_mut().poll(cx));
        self.work = None;
        Poll::Ready(answer)
    }
}

impl Drop for ToItsEnd {
    fn drop(&mut self) {
        if let Some((outcome, pass)) = self.work.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            // Bounded by the window: every such task holds a pass.
            runtime.spawn(async move {
                let _ = outcome.await;
                drop(pass);
            });
        }
    }
}
