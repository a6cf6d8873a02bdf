//! Who asks, and whether they may.
//!
//! ```text
//!   identity --compile(rules at revision r, circumstances)--> Compiled     kept by the edge
//!   request  --required_permissions--> [verb, interval]                    one exhaustive function
//!   decide(Compiled, required)    -->  allowed by a grant | refused, why
//! ```
//!
//! The store knows nothing of this. Rules are documents under [`crate::key::Space::ACCESS`]; changing one is a transaction like any
//! other, planned here and guarded by the rules revision, which apply moves whenever a key of that space changes. A write
//! planned under older rules is stale and planned again; so is a change of rules itself.
//!
//! While authentication is off every caller is [`Principal::Anonymous`] and may do everything: that costs a look at the
//! variant, and at a rules revision that never moved. Rights on the cluster are kept in the tenant `default`.
//!
//! Deliberately absent: passwords, certificates, tokens' secrets, clocks. The edge proves who somebody is.

pub mod grant;
pub mod principal;
pub mod scope;
pub mod verb;

pub mod duties;
pub mod role;
pub mod shipped;

pub mod key;
pub mod policy;
pub mod token;
pub mod user;

pub mod change;
pub mod document;

pub mod compile;
pub mod decide;
pub mod filter;
pub mod required;

mod amend;
pub(crate) mod answer;

pub use amend::amend;
pub use principal::{Caller, Identity, IdentityKind, Principal};
pub use required::{Action, Operation};

use crate::intent::Intent;
use crate::name::TenantId;
use crate::rejection::Rejection;
use crate::view::View;

use change::AccessChange;
use compile::GrantId;
use decide::{Decision, Why};
use required::{Required, Target, required_permissions};

/// Decides on a view whether a principal may do something; by which grant, if rights were looked at.
///
/// [`Rejection::AuthOld`]: the caller's rights are of other rules than the view's; compile them again.
/// [`Rejection::UserNameEmpty`]: authentication is on and nobody was named.
pub fn permit<'a>(
    view: &dyn View,
    principal: &'a Principal,
    action: Action<'_>,
) -> Result<Option<&'a GrantId>, Rejection> {
    match principal {
        Principal::Anonymous => anonymous(view, action).map(|()| None),
        Principal::System => system(action).map(|()| None),
        Principal::Caller(caller) => {
            let rights = &caller.rights;
            if rights.tenant() != view.tenant().id {
                return Err(Rejection::PermissionDenied);
            }
            if rights.rules_revision() != view.rules_revision() {
                return Err(Rejection::AuthOld);
            }
            let required = required_permissions(view, Some(&caller.identity), action)?;
            match decide::decide(rights, &required, |lease| view.lease_keys(lease)) {
                Decision::Allowed { by } => Ok(by),
                Decision::Refused { required, why } => Err(refusal(&required, &why)),
            }
        }
    }
}

/// As [`permit`], where no view is at hand: nobody who is somebody gets through.
pub fn check(principal: &Principal, action: Action<'_>) -> Result<(), Rejection> {
    match principal {
        Principal::Anonymous => Ok(()),
        Principal::System => system(action),
        Principal::Caller(_) => Err(Rejection::PermissionDenied),
    }
}

/// Everything while the door is open, nothing but the status once it is not.
fn anonymous(view: &dyn View, action: Action<'_>) -> Result<(), Rejection> {
    // Rules that never moved were never written: nothing can be closed.
    let closed = view.rules_revision() != 0 && document::door(view)?.enabled;
    if !closed && (view.tenant().id == TenantId::DEFAULT || !view.cluster().is_guarded()) {
        return Ok(());
    }
    let required = required_permissions(view, None, action)?;
    let refused = if closed {
        !required.is_empty()
    } else {
        required.iter().any(|one| one.on == Target::Cluster)
    };
    if refused {
        return Err(Rejection::UserNameEmpty);
    }
    Ok(())
}

/// What the cluster does on its own account, and nothing else.
fn system(action: Action<'_>) -> Result<(), Rejection> {
    let may = match action {
        Action::Write(intent) => match intent {
            Intent::LeaseExpire { .. }
            | Intent::LeaseCheckpoint { .. }
            | Intent::Compact { .. }
            | Intent::Alarm { .. }
            | Intent::MemberPublish(_)
            | Intent::MemberForget { .. }
            | Intent::Access(AccessChange::KeyKeep { .. }) => true,
            Intent::Put(_)
            | Intent::Delete(_)
            | Intent::Txn(_)
            | Intent::LeaseGrant { .. }
            | Intent::LeaseRevoke { .. }
            | Intent::TenantCreate { .. }
            | Intent::TenantChange { .. }
            | Intent::TenantDelete { .. }
            | Intent::Access(_) => false,
        },
        Action::Read(_) | Action::Operate(_) => true,
        Action::Watch { .. } | Action::KeepAlive(_) => false,
    };
    if may {
        Ok(())
    } else {
        Err(Rejection::PermissionDenied)
    }
}

/// What was asked for is said back; what exists, and which rule refused, is not.
fn refusal(required: &Required, why: &Why<'_>) -> Rejection {
    match why {
        Why::NotGranted { .. } | Why::Denied { .. } => Rejection::Forbidden {
            needs: required.to_string().into(),
        },
        Why::Nobody => Rejection::PermissionDenied,
    }
}
