//! Planning a write: the order of checks, and one line per intent.
//!
//! 1. may they?            [`crate::access::permit`]
//! 2. is it well-formed?   [`crate::kv::check`]
//! 3. does the state allow it, as far as this view knows?  (apply decides again, exactly)
//!
//! The plan says under which guards it holds. A rejection on a view may be the view's age: the edge confirms
//! it behind a read barrier before it answers.

use crate::access::{self, Action, Principal};
use crate::command::{AlarmKind, Command, Guards};
use crate::intent::Intent;
use crate::kv::check;
use crate::limits;
use crate::rejection::Rejection;
use crate::revision::Revision;
use crate::txn::{Op, Txn};
use crate::view::View;

/// A command with the guards under which it is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What must not have moved.
    pub guards: Guards,
    /// What to do.
    pub command: Command,
}

/// Plans an intent against a view. Pure.
pub fn plan(view: &dyn View, principal: &Principal, intent: Intent) -> Result<Plan, Rejection> {
    access::permit(view, principal, Action::Write(&intent))?;
    let mut guards = Guards {
        rules_revision: Some(view.rules_revision()),
        term: None,
    };
    let command = match intent {
        Intent::Put(put) => {
            check::put(&put)?;
            check::alarms(view, true)?;
            // Of a put on its own etcd judges the lease before the key; inside a transaction after it.
            if let Some(id) = put.lease
                && id != 0
                && view.lease(id).is_none()
            {
                return Err(Rejection::LeaseNotFound);
            }
            Command::Txn(Txn::once(Op::Put(put)))
        }
        Intent::Delete(delete) => {
            check::delete(&delete)?;
            check::alarms(view, false)?;
            Command::Txn(Txn::once(Op::Delete(delete)))
        }
        Intent::Txn(txn) => {
            check::txn(&txn)?;
            check::alarms(view, txn.has_put())?;
            Command::Txn(txn)
        }
        Intent::LeaseGrant {
            id,
            ttl_seconds,
            ttl_seconds_min,
        } => {
            if ttl_seconds > limits::LEASE_TTL_SECONDS_MAX {
                return Err(Rejection::LeaseTtlTooLarge);
            }
            check::alarms(view, true)?;
            Command::LeaseGrant {
                id,
                ttl_seconds: ttl_seconds.max(ttl_seconds_min),
            }
        }
        Intent::LeaseRevoke { id } => {
            check::alarms(view, false)?;
            Command::LeaseRevoke { id }
        }
        Intent::LeaseExpire { id, term } => {
            guards.term = Some(term);
            Command::LeaseRevoke { id }
        }
        Intent::LeaseCheckpoint { remaining, term } => {
            guards.term = Some(term);
            Command::LeaseCheckpoint { remaining }
        }
        Intent::Compact { revision } => {
            check::alarms(view, false)?;
            compactable(view, revision)?;
            Command::Compact { revision }
        }
        Intent::TenantCreate {
            name,
            quota,
            retention,
        } => {
            if view.cluster().tenant_named(&name).is_some() {
                return Err(Rejection::TenantExists { name });
            }
            Command::TenantCreate {
                name,
                quota,
                retention,
            }
        }
        Intent::TenantChange {
            name,
            quota,
            retention,
        } => Command::TenantChange {
            name,
            quota,
            retention,
        },
        Intent::TenantDelete { name } => {
            if name.as_str() == crate::name::TenantName::DEFAULT {
                return Err(Rejection::TenantIsDefault);
            }
            Command::TenantDelete { name }
        }
        Intent::Alarm {
            member,
            kind,
            raised,
        } => Command::Alarm {
            member,
            kind,
            raised,
        },
        Intent::MemberPublish(record) => Command::MemberPublish(record),
        Intent::MemberForget { id } => Command::MemberForget { id },
        Intent::Access(change) => {
            check::alarms(view, false)?;
            Command::Txn(access::amend(view, principal.identity(), &change)?)
        }
    };
    Ok(Plan { guards, command })
}

/// Whether `revision` can be compacted to: above what was compacted, not above the current one.
///
/// Zero on a tenant that never compacted is taken, as etcd does, and changes nothing.
fn compactable(view: &dyn View, revision: Revision) -> Result<(), Rejection> {
    if revision == 0 && view.compacted() == 0 {
        return Ok(());
    }
    if revision <= view.compacted() {
        return Err(Rejection::Compacted {
            compacted: view.compacted(),
        });
    }
    if revision > view.revision() {
        return Err(Rejection::FutureRevision {
            current: view.revision(),
        });
    }
    Ok(())
}

/// Whether an alarm of this kind is raised on any member.
pub(crate) fn alarm_raised(view: &dyn View, kind: AlarmKind) -> bool {
    view.cluster()
        .alarms()
        .iter()
        .any(|(_, raised)| *raised == kind)
}
