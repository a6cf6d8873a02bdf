//! Who asks: from what a request shows to a principal with rights.
//!
//! ```text
//!   headers, certificate  --evidence-->  Who       read, nothing believed yet
//!   Who, tenant's view    --prove----->  Held      a session's signature, a token's hash, a certificate's name
//!   Held, rules at r      --compile--->  Caller    what they may do, remembered until the rules move
//! ```
//!
//! Every member proves alone: sessions and tokens are checked with keys of the cluster's own that lie in the state
//! ([`meridian_domain::access::key`]). The tenant is part of what is proven; one that a request names is only a wish.
//! While authentication is off in a tenant nothing of this is looked at.
//!
//! Bounded: what is remembered ([`remembered`]), passwords looked at ([`password`]), failures counted
//! ([`failures`]). Deliberately absent: what rights mean (`domain::access`), and status codes.

pub mod certificate;
pub mod evidence;
pub mod failures;
mod login;
pub mod password;
mod permit;
pub mod remembered;
pub mod session;
pub mod token;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use meridian_domain::access::compile::{Compiled, compile};
use meridian_domain::access::grant::{Circumstances, Proof};
use meridian_domain::access::key::{self, Key};
use meridian_domain::access::policy::Trust;
use meridian_domain::access::{Caller, Identity, IdentityKind, Principal, document};
use meridian_domain::name::TenantId;
use meridian_domain::rejection::Rejection;
use meridian_domain::view::View;
use meridian_storage::store::Store;

use self::certificate::{Named, Naming};
use self::evidence::{Evidence, Shown};
use self::failures::Failures;
use self::password::Passwords;
use self::remembered::{Remembered, Rights};
use crate::kind::off_the_reactor;

/// Who a request comes from, before or after it was looked at.
#[derive(Clone, Debug, Default)]
pub enum Who {
    /// It shows nothing.
    #[default]
    Nobody,
    /// The cluster itself: made within this process, never out of a request.
    Cluster,
    /// What it shows, unproven.
    Shown(Arc<Evidence>),
    /// Somebody who was proven once, for what goes on longer than a request: watches, lines of a lock.
    Held(Arc<Held>),
}

/// Somebody proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Who.
    pub identity: Arc<Identity>,
    /// Which password it was, of a user who gave one: it ends when the password changes.
    pub generation: Option<u64>,
    /// When the proof ends, in milliseconds since the Unix epoch; none is when the rules say so.
    pub until_ms: Option<u64>,
    /// From where.
    pub from: Circumstances,
}

/// What a member needs to know callers.
pub struct Authn {
    store: Store,
    remembered: Remembered,
    /// Where passwords are hashed and compared.
    pub passwords: Passwords,
    /// Who gave wrong ones.
    pub failures: Failures,
}

impl Authn {
    /// Knows callers by what a store holds.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            remembered: Remembered::default(),
            passwords: Passwords::default(),
            failures: Failures::default(),
        }
    }

    /// Who it is under the rules a view shows, with rights of exactly these rules.
    ///
    /// Refuses with [`Rejection::InvalidToken`] what proves nothing, and with [`Rejection::PermissionDenied`]
    /// somebody of another tenant.
    pub fn principal(&self, view: &dyn View, who: &Who) -> Result<Principal, Rejection> {
        match who {
            Who::Nobody => return Ok(Principal::Anonymous),
            Who::Cluster => return Ok(Principal::System),
            Who::Shown(_) | Who::Held(_) => {}
        }
        if !is_closed(view)? {
            return Ok(Principal::Anonymous);
        }
        let held = self.held(view, who)?;
        let rights = self.rights(view, &held)?;
        Ok(Principal::Caller(rights.caller))
    }

    /// The same, for what goes on longer than a request: proven now, and from then on bound by the rules and by
    /// [`Held::until_ms`], not by how long what was shown can be shown again.
    pub fn hold(&self, view: &dyn View, who: &Who) -> Result<Who, Rejection> {
        match who {
            Who::Shown(_) if is_closed(view)? => Ok(Who::Held(self.held(view, who)?)),
            _ => Ok(who.clone()),
        }
    }

    /// From when on the answer of [`Authn::principal`] may be another one though the rules did not move, in
    /// milliseconds since the Unix epoch.
    pub fn until_ms(&self, view: &dyn View, who: &Who) -> Option<u64> {
        if matches!(who, Who::Nobody | Who::Cluster) || !is_closed(view).ok()? {
            return None;
        }
        let held = self.held(view, who).ok()?;
        let rights = self.rights(view, &held).ok()?.caller.rights.until_ms();
        rights.into_iter().chain(held.until_ms).min()
    }

    /// A key of the cluster's own, if it was made.
    pub fn key(&self, name: &str) -> Result<Option<Key>, Rejection> {
        match self.view(TenantId::DEFAULT) {
            Some(view) => document::key(&view, name),
            None => Ok(None),
        }
    }

    fn view(&self, tenant: TenantId) -> Option<impl View + use<>> {
        self.store.tenant(tenant).map(|tenant| tenant.view())
    }

    fn held(&self, view: &dyn View, who: &Who) -> Result<Arc<Held>, Rejection> {
        let now = unix_ms();
        let evidence = match who {
            Who::Held(held) => {
                return if held.until_ms.is_none_or(|until| now < until) {
                    Ok(Arc::clone(held))
                } else {
                    Err(Rejection::InvalidToken)
                };
            }
            Who::Shown(evidence) => evidence,
            Who::Nobody | Who::Cluster => return Err(Rejection::UserNameEmpty),
        };
        if let Some(held) = self.remembered.proven(view, evidence, now) {
            return Ok(held);
        }
        let (held, shown_until_ms) = self.prove(view, evidence, now)?;
        let held = Arc::new(held);
        self.remembered
            .keep_proven(view, evidence, &held, shown_until_ms);
        Ok(held)
    }

    /// Proves what a request shows. With when it can not be shown any more.
    fn prove(
        &self,
        view: &dyn View,
        evidence: &Evidence,
        now_ms: u64,
    ) -> Result<(Held, Option<u64>), Rejection> {
        let from = Circumstances {
            now_ms: None,
            source: evidence.source,
        };
        let (held, shown_until_ms) = match (&evidence.token, &evidence.certificate) {
            (Some(shown), certificate) => {
                let certificate = certificate.as_ref().and_then(|named| named.name());
                self.prove_token(shown, certificate, now_ms, from)?
            }
            (None, Some(named)) => (of_certificate(view, named, now_ms, from)?, None),
            (None, None) => return Err(Rejection::UserNameEmpty),
        };
        if held.identity.tenant != view.tenant().id {
            return Err(Rejection::PermissionDenied);
        }
        Ok((held, shown_until_ms))
    }

    fn prove_token(
        &self,
        shown: &Shown,
        certificate: Option<&str>,
        now_ms: u64,
        from: Circumstances,
    ) -> Result<(Held, Option<u64>), Rejection> {
        match shown {
            Shown::Session(text) => {
                let key = self.key(key::SESSION)?.ok_or(Rejection::InvalidToken)?;
                let session = session::read(&key, text, now_ms).ok_or(Rejection::InvalidToken)?;
                let held = Held {
                    identity: Arc::new(Identity::user(session.tenant, &session.user)),
                    generation: Some(session.generation),
                    until_ms: None,
                    from,
                };
                Ok((held, Some(session.expires_ms)))
            }
            Shown::Token(text) => {
                let parts = token::read(text).ok_or(Rejection::InvalidToken)?;
                let key = self.key(key::TOKEN)?.ok_or(Rejection::InvalidToken)?;
                let view = self.view(parts.tenant).ok_or(Rejection::InvalidToken)?;
                let kept = document::token(&view, parts.id)?.ok_or(Rejection::InvalidToken)?;
                let bound = kept.bound_to.as_deref();
                let fits = bound.is_none_or(|name| certificate == Some(name));
                if !token::opens(&key, &parts, &kept.digest) || !fits || !kept.is_alive(now_ms) {
                    return Err(Rejection::InvalidToken);
                }
                let identity = Identity {
                    tenant: parts.tenant,
                    kind: IdentityKind::Token,
                    name: parts.id.into(),
                    proof: Proof::Token,
                    groups: vec![],
                };
                let held = Held {
                    identity: Arc::new(identity),
                    generation: None,
                    until_ms: Some(kept.expires_ms),
                    from,
                };
                Ok((held, Some(kept.expires_ms)))
            }
            Shown::Unreadable => Err(Rejection::InvalidToken),
        }
    }

    /// The rights of somebody under the rules a view shows.
    fn rights(&self, view: &dyn View, held: &Held) -> Result<Rights, Rejection> {
        let now_ms = unix_ms();
        let found = self.remembered.rights(view, held, now_ms);
        let rights = match found {
            Some(rights) => rights,
            None => {
                let rights = off_the_reactor(|| compiled(view, held, now_ms))?;
                self.remembered.keep_rights(held, &rights);
                rights
            }
        };
        // A user who was removed and made again, or whose password changed, is somebody else.
        if held.generation.is_some() && held.generation != rights.generation {
            return Err(Rejection::InvalidToken);
        }
        Ok(rights)
    }
}

fn compiled(view: &dyn View, held: &Held, now_ms: u64) -> Result<Rights, Rejection> {
    let at = Circumstances {
        now_ms: Some(now_ms),
        ..held.from
    };
    let rights: Compiled = compile(view, &held.identity, &at)?;
    let generation = if held.identity.kind == IdentityKind::User {
        document::user(view, &held.identity.name)?.map(|user| user.generation)
    } else {
        None
    };
    Ok(Rights {
        generation,
        caller: Arc::new(Caller {
            identity: Arc::clone(&held.identity),
            rights: Arc::new(rights),
        }),
    })
}

/// Whether authentication is on in the tenant of a view.
pub fn is_closed(view: &dyn View) -> Result<bool, Rejection> {
    Ok(view.rules_revision() != 0 && document::door(view)?.enabled)
}

/// Who a certificate names, in the tenant the request means: its rules say whether such names count there.
fn of_certificate(
    view: &dyn View,
    named: &Named,
    now_ms: u64,
    from: Circumstances,
) -> Result<Held, Rejection> {
    let name = named.name().ok_or(Rejection::UserNameEmpty)?;
    if now_ms >= named.not_after_ms {
        return Err(Rejection::InvalidToken);
    }
    let place = document::Place::trust();
    let trust: Option<Trust> = document::find(view, &place)?;
    let trusted = trust.is_none_or(|trust| match named.naming {
        Naming::Spiffe => {
            let domain = certificate::trust_domain(name);
            trust.domains.is_empty() || trust.domains.iter().any(|one| Some(&**one) == domain)
        }
        Naming::Dns => trust.dns_names,
        Naming::CommonName => trust.common_names,
    });
    if !trusted {
        return Err(Rejection::PermissionDenied);
    }
    // A common name is a user, as etcd has it; the others are names of their own.
    let kind = match named.naming {
        Naming::CommonName => IdentityKind::User,
        Naming::Spiffe | Naming::Dns => IdentityKind::Certificate,
    };
    let identity = Identity {
        tenant: view.tenant().id,
        kind,
        name: name.into(),
        proof: Proof::Certificate,
        groups: vec![],
    };
    Ok(Held {
        identity: Arc::new(identity),
        generation: None,
        until_ms: Some(named.not_after_ms),
        from,
    })
}

/// Now, by this member's wall clock, in milliseconds since the Unix epoch; zero before it.
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}
