//! What the pipeline asks about who asks: may they, are they known, what may be said to them.

use std::sync::Arc;

use meridian_domain::access::change::AccessChange;
use meridian_domain::access::key::Key;
use meridian_domain::access::{self, Action, Operation, Principal};
use meridian_domain::intent::Intent;
use meridian_domain::name::{TenantId, TenantName};
use meridian_domain::rejection::Rejection;
use meridian_raft::unavailable::Unavailable;
use meridian_storage::store::Tenant;

use super::{Who, is_closed};
use crate::kind::is_about_rights;
use crate::pipeline::{Pipeline, RequestContext};
use crate::status::Refusal;

impl Pipeline {
    /// Refuses what the caller may not do, for requests that are neither written nor read through this pipeline. A
    /// refusal is confirmed behind a read barrier, if there is a quorum.
    pub async fn permit(
        &self,
        ctx: &RequestContext,
        tenant: &Arc<Tenant>,
        action: Action<'_>,
    ) -> Result<(), Refusal> {
        match self.permits(tenant, &ctx.who, action) {
            Err(no) if is_about_rights(&no) => match self.barrier(ctx).await {
                Ok(()) => Ok(self.permits(tenant, &ctx.who, action)?),
                Err(_) => Err(no.into()),
            },
            permitted => Ok(permitted?),
        }
    }

    /// The same for something done to a member or to the cluster: its rules are those of the tenant `default`,
    /// whatever tenant the request names.
    pub async fn permit_operation(
        &self,
        ctx: &RequestContext,
        operation: Operation,
    ) -> Result<(), Refusal> {
        match self.store.tenant(TenantId::DEFAULT) {
            Some(tenant) => self.permit(ctx, &tenant, Action::Operate(operation)).await,
            None => Err(Unavailable::Stopped.into()),
        }
    }

    /// Whether somebody may do something now, as far as this member knows.
    pub fn permits(
        &self,
        tenant: &Arc<Tenant>,
        who: &Who,
        action: Action<'_>,
    ) -> Result<(), Rejection> {
        let view = tenant.view();
        let principal = self.authn.principal(&view, who)?;
        access::permit(&view, &principal, action).map(drop)
    }

    /// Whether what the caller does counts as the tenant's doing: not if nobody was named though somebody must be.
    pub(crate) fn is_known(&self, tenant: &Arc<Tenant>, ctx: &RequestContext) -> bool {
        match &ctx.who {
            // Rules that were never written close nothing: the common case costs one look.
            Who::Nobody if tenant.root().rules_revision() == 0 => true,
            Who::Nobody => !is_closed(&tenant.view()).unwrap_or(true),
            who => self.authn.principal(&tenant.view(), who).is_ok(),
        }
    }

    /// What to say of a tenant that does not exist: once there are identities, no more than of one that does.
    pub fn no_tenant(&self, ctx: &RequestContext) -> Rejection {
        let home = ctx.who.claims().unwrap_or(TenantId::DEFAULT);
        if let Some(home) = self.store.tenant(home) {
            let view = home.view();
            match self.authn.principal(&view, &ctx.who) {
                Ok(Principal::Caller(_)) => return Rejection::PermissionDenied,
                Err(no) => return no,
                Ok(Principal::Anonymous) if is_closed(&view).unwrap_or(true) => {
                    return Rejection::UserNameEmpty;
                }
                Ok(Principal::Anonymous | Principal::System) => {}
            }
        }
        Rejection::TenantNotFound {
            name: ctx.tenant.to_string(),
        }
    }

    /// Proves who asks now, for what goes on longer than what was shown can be shown: whoever is known stays known until
    /// the rules say otherwise. Who can not be proven yet is asked again at each step.
    pub fn hold(&self, ctx: &mut RequestContext) {
        if let Some(tenant) = self.store.tenant_named(ctx.tenant.as_str())
            && let Ok(held) = self.authn.hold(&tenant.view(), &ctx.who)
        {
            ctx.who = held;
        }
    }

    /// A key of the cluster's own; made if there is none yet.
    pub async fn own_key(&self, name: &'static str) -> Result<Key, Refusal> {
        if let Some(key) = self.authn.key(name)? {
            return Ok(key);
        }
        let ctx = self.system_context(TenantName::new(TenantName::DEFAULT)?);
        let key = Key(rand::random());
        let change = AccessChange::KeyKeep { name, key };
        self.write(&ctx, Intent::Access(change)).await?;
        // Another member may have been first: what is kept counts.
        let kept = self.authn.key(name)?;
        kept.ok_or_else(|| Unavailable::OutcomeUnknown.into())
    }
}
