//! Every read of the product, one closed enum.

use crate::access::change::AccessQuery;
use crate::kv::{LeaseId, Range};
use crate::txn::Txn;

/// What somebody wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// Read keys.
    Range(Range),
    /// A transaction that only reads.
    Txn(Txn),
    /// A lease, with its keys if asked.
    Lease {
        /// Its number.
        id: LeaseId,
        /// Whether to list the keys attached.
        keys: bool,
    },
    /// Every lease.
    Leases,
    /// Every tenant.
    Tenants,
    /// The alarms that are raised.
    Alarms,
    /// What members published.
    Members,
    /// Who may do what.
    Access(AccessQuery),
}
