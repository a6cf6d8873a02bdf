//! Logging in: a name and a password for a session.
//!
//! ```text
//!   waiting off failures? -> read barrier -> is authentication on? -> Argon2id on its own threads -> session
//! ```
//!
//! Whether there is such a user, and whether there is such a tenant, makes no difference that can be seen: the same
//! work, the same answer. Only a user who was made without a password is told so, in etcd's words, after that work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_domain::access::document;
use meridian_domain::access::grant::Address;
use meridian_domain::access::key;
use meridian_domain::access::policy::Policy;
use meridian_domain::access::user::User;
use meridian_domain::name::TenantId;
use meridian_domain::rejection::Rejection;
use meridian_storage::store::Tenant;

use super::failures::{Attempt, Lock};
use super::password::{BYTES_MAX, Trouble};
use super::session::{self, Session};
use super::{is_closed, unix_ms};
use crate::pipeline::{Pipeline, RequestContext};
use crate::status::{Etcd, Refusal};

/// Stands for every tenant that does not exist, where failures are counted.
const NO_TENANT: TenantId = TenantId(u32::MAX);

impl Pipeline {
    /// Exchanges a password for a session; with the tenant it is of.
    pub async fn log_in(
        self: &Arc<Self>,
        ctx: &RequestContext,
        name: String,
        password: String,
        from: Option<Address>,
    ) -> Result<(Arc<Tenant>, String), Refusal> {
        self.barrier(ctx).await?;
        let tenant = self.store.tenant_named(ctx.tenant.as_str());
        let (user, policy) = match &tenant {
            Some(tenant) => {
                let view = tenant.view();
                if !is_closed(&view)? {
                    return Err(Rejection::AuthNotEnabled.into());
                }
                (document::user(&view, &name)?, document::policy(&view)?)
            }
            None => match self.no_tenant(ctx) {
                no @ Rejection::TenantNotFound { .. } => return Err(no.into()),
                _ => (None, Policy::default()),
            },
        };
        let id = tenant.as_ref().map_or(NO_TENANT, |tenant| tenant.id());
        let fits = self
            .verify(id, &name, password, user.as_ref(), &policy, from)
            .await?;
        let (Some(tenant), Some(user)) = (tenant, user) else {
            return Err(Rejection::AuthFailed.into());
        };
        if user.password.is_none() {
            return Err(Rejection::NoPasswordUser.into());
        }
        if !fits {
            return Err(Rejection::AuthFailed.into());
        }
        let key = self.own_key(key::SESSION).await?;
        let session = Session {
            tenant: tenant.id(),
            user: name,
            generation: user.generation,
            expires_ms: unix_ms().saturating_add(session::TTL_MS),
        };
        Ok((tenant, session::write(&key, &session)))
    }

    /// Whether a password is a user's. Counts failures, and refuses whoever had too many.
    async fn verify(
        self: &Arc<Self>,
        tenant: TenantId,
        name: &str,
        password: String,
        user: Option<&User>,
        policy: &Policy,
        from: Option<Address>,
    ) -> Result<bool, Refusal> {
        let lock = Lock {
            after: policy.lock_after,
            span: Duration::from_secs(policy.lock_seconds),
        };
        let attempt = Attempt {
            tenant,
            user: name,
            from,
        };
        let failures = &self.authn.failures;
        if failures.wait(attempt, lock, Instant::now()).is_some() {
            return Err(locked());
        }
        if password.len() > BYTES_MAX {
            failures.note(attempt, Instant::now());
            return Ok(false);
        }
        let kept = user.and_then(|user| user.password.clone());
        // Others may have failed while this one waited for its turn.
        let (pipeline, again) = (Arc::clone(self), name.to_owned());
        let still = move || {
            let attempt = Attempt {
                tenant,
                user: &again,
                from,
            };
            let failures = &pipeline.authn.failures;
            failures.wait(attempt, lock, Instant::now()).is_none()
        };
        let verified = self.authn.passwords.fits(password, kept, still).await;
        match verified.map_err(in_words)? {
            None => Err(locked()),
            Some(true) => {
                failures.forget(attempt);
                Ok(true)
            }
            Some(false) => {
                failures.note(attempt, Instant::now());
                Ok(false)
            }
        }
    }

    /// The hash of a new password, if it is one this tenant takes.
    pub async fn hashed(
        &self,
        tenant: &Arc<Tenant>,
        password: String,
    ) -> Result<Box<str>, Refusal> {
        // A tenant that never said what it wants has etcd's rule: any password that is one.
        let policy: Option<Policy> = document::find(&tenant.view(), &document::Place::policy())?;
        let least = policy.map_or(1, |policy| policy.password_chars_min.max(1));
        let chars = password.chars().count();
        if u64::try_from(chars).unwrap_or(u64::MAX) < u64::from(least) || password.len() > BYTES_MAX
        {
            return Err(Etcd::PasswordLength { least }.into());
        }
        self.authn.passwords.hash(password).await.map_err(in_words)
    }
}

fn locked() -> Refusal {
    let what = "too many wrong passwords came from this address".into();
    Etcd::TooManyRequests { what }.into()
}

fn in_words(trouble: Trouble) -> Refusal {
    match trouble {
        Trouble::Full => Etcd::TooManyRequests {
            what: format!("{} logins wait already", super::password::QUEUE),
        }
        .into(),
        Trouble::Broken => {
            tracing::error!("a password could not be hashed or compared");
            meridian_raft::Unavailable::Stopped.into()
        }
    }
}
