//! Answering a read: the same order of checks as for a write, and one line per query.

use crate::access::change::AccessFound;
use crate::access::verb::Verb;
use crate::access::{self, Action, Principal, filter};
use crate::command::{AlarmKind, MemberRecord};
use crate::key::Space;
use crate::kv::{LeaseId, RangeReply, check};
use crate::query::Query;
use crate::rejection::Rejection;
use crate::revision::Revision;
use crate::tenant::{TenantRecord, Usage};
use crate::txn::TxnReply;
use crate::view::{LeaseView, View};

/// The answer to a query, with the revision of the view it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The tenant's revision then.
    pub revision: Revision,
    /// What was found.
    pub found: Found,
}

/// What a query found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Keys.
    Range(RangeReply),
    /// The branch that ran.
    Txn(TxnReply),
    /// A lease, if it exists, and its keys if asked for.
    Lease(Option<(LeaseView, Vec<bytes::Bytes>)>),
    /// Lease ids.
    Leases(Vec<LeaseId>),
    /// Tenants.
    Tenants(Vec<(TenantRecord, Usage)>),
    /// Alarms: member and kind.
    Alarms(Vec<(u64, AlarmKind)>),
    /// Members.
    Members(Vec<MemberRecord>),
    /// Rules.
    Access(AccessFound),
}

/// Answers a query from a view. Pure.
pub fn answer(view: &dyn View, principal: &Principal, query: &Query) -> Result<Answer, Rejection> {
    access::permit(view, principal, Action::Read(query))?;
    let found = match query {
        Query::Range(range) => {
            check::range(range)?;
            Found::Range(view.range(range)?)
        }
        Query::Txn(txn) => {
            check::txn(txn)?;
            Found::Txn(crate::kv::read::txn(view, txn)?)
        }
        Query::Lease { id, keys } => Found::Lease(view.lease(*id).map(|lease| {
            let mut attached = if *keys { view.lease_keys(*id) } else { vec![] };
            attached.retain(|key| may_list(principal, key));
            (lease, attached)
        })),
        Query::Leases => Found::Leases(view.leases()),
        Query::Tenants => Found::Tenants(view.cluster().tenants()),
        Query::Alarms => Found::Alarms(view.cluster().alarms()),
        Query::Members => Found::Members(view.cluster().members()),
        Query::Access(query) => Found::Access(access::answer::answer(view, query)?),
    };
    Ok(Answer {
        revision: view.revision(),
        found,
    })
}

/// Whether a key is shown to somebody who asked for a list that holds it.
fn may_list(principal: &Principal, key: &[u8]) -> bool {
    match principal {
        Principal::Anonymous | Principal::System => true,
        Principal::Caller(caller) => filter::shows(&caller.rights, Verb::List, Space::RAW, key),
    }
}
