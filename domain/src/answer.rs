//! Answering a read: the same order of checks as for a write, and one line per query.

use crate::access::{self, Action, Principal};
use crate::command::{AlarmKind, MemberRecord};
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
}

/// Answers a query from a view. Pure.
pub fn answer(view: &dyn View, principal: &Principal, query: &Query) -> Result<Answer, Rejection> {
    access::check(principal, Action::Read(query))?;
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
            let attached = if *keys { view.lease_keys(*id) } else { vec![] };
            (lease, attached)
        })),
        Query::Leases => Found::Leases(view.leases()),
        Query::Tenants => Found::Tenants(view.cluster().tenants()),
        Query::Alarms => Found::Alarms(view.cluster().alarms()),
        Query::Members => Found::Members(view.cluster().members()),
    };
    Ok(Answer {
        revision: view.revision(),
        found,
    })
}
