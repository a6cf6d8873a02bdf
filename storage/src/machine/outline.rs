//! What can be told of a tenant from facts alone, without loading a machine.

use meridian_domain::kv::LeaseId;
use meridian_domain::name::TenantId;
use meridian_domain::revision::Revision;

use super::facts::{self, Fact};
use crate::fault::Fault;
use crate::row::Rows;

/// A tenant without its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// What was superseded at or before it is forgotten.
    pub compacted: Revision,
    /// Its leases, in the order of their ids as unsigned numbers: id, time to live, what was left at the last
    /// checkpoint (zero if never taken), both in seconds.
    pub leases: Vec<(LeaseId, i64, i64)>,
}

impl Outline {
    /// Reads it; a tenant that is not there has nothing.
    pub fn read(rows: &mut dyn Rows, of: TenantId) -> Result<Self, Fault> {
        let mut outline = Self::default();
        for (key, value) in rows.facts()? {
            match facts::decode(&key, &value)? {
                Fact::Counters {
                    tenant, compacted, ..
                } if tenant == of => outline.compacted = compacted,
                Fact::Lease(tenant, lease) if tenant == of => {
                    outline
                        .leases
                        .push((lease.id(), lease.ttl_seconds, lease.checkpoint_seconds))
                }
                _ => {}
            }
        }
        outline.leases.sort_by_key(|(id, _, _)| *id as u64);
        Ok(outline)
    }
}
