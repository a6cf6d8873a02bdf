//! What can be told of a tenant from facts alone, without loading a machine; and the facts of a cluster that is told
//! of nothing else.

use bytes::Bytes;
use meridian_domain::kv::LeaseId;
use meridian_domain::name::{TenantId, TenantName};
use meridian_domain::revision::Revision;
use meridian_domain::stamp::Stamp;
use meridian_domain::tenant::{Quota, Retention, TenantRecord};

use super::facts::{self, Fact};
use crate::fault::Fault;
use crate::mvcc::lease;
use crate::row::Rows;

/// A tenant without its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// Its revision.
    pub revision: Revision,
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
                    tenant,
                    revision,
                    compacted,
                    ..
                } if tenant == of => {
                    outline.revision = revision;
                    outline.compacted = compacted;
                }
                Fact::Lease(tenant, lease) if tenant == of => {
                    outline
                        .leases
                        .push((lease.id(), lease.ttl_seconds, lease.checkpoint_seconds));
                }
                _ => {}
            }
        }
        outline.leases.sort_by_key(|(id, _, _)| *id as u64);
        Ok(outline)
    }

    /// The facts of a cluster without members that has the tenant `default`, which looks like this, and no other.
    pub fn as_default_tenant(&self) -> Result<Vec<(Bytes, Bytes)>, Fault> {
        let id = TenantId::DEFAULT;
        let name = TenantName::new(TenantName::DEFAULT).map_err(|_| Fault::Inconsistent {
            what: "the tenant `default` can not have its name".into(),
        })?;
        let record = TenantRecord {
            id,
            name,
            quota: Quota::default(),
            retention: Retention::default(),
            created: Stamp::default(),
        };
        let mut all = vec![
            (facts::digest_key(), facts::digest(0)),
            (facts::next_tenant_key(), facts::next_tenant(id.0 + 1)),
            (facts::tenant_key(id), facts::tenant(&record)),
            (
                facts::counters_key(id),
                facts::counters_of(self.revision, self.compacted, 0),
            ),
        ];
        for (lease, ttl_seconds, checkpoint_seconds) in &self.leases {
            let granted = lease::Lease::new(*lease, *ttl_seconds, *checkpoint_seconds);
            all.push((facts::lease_key(id, *lease), facts::lease(&granted)));
        }
        Ok(all)
    }
}
