//! Lease commands.

use meridian_domain::command::Reply;
use meridian_domain::kv::LeaseId;
use meridian_domain::limits::{LEASE_TTL_SECONDS_MAX, LEASES_PER_TENANT_MAX};
use meridian_domain::rejection::Rejection;
use meridian_domain::tenant::QuotaKind;

use super::{Entry, Machine, facts};
use crate::mvcc::lease::Lease;
use crate::mvcc::range::Unread;

impl Machine {
    pub(super) fn grant(
        &mut self,
        entry: &Entry,
        id: LeaseId,
        ttl_seconds: i64,
    ) -> Result<Reply, Rejection> {
        let keyspace = self.keyspace(entry.tenant)?;
        if id == 0 || keyspace.lease(id).is_some() {
            return Err(Rejection::LeaseExists);
        }
        if ttl_seconds > LEASE_TTL_SECONDS_MAX {
            return Err(Rejection::LeaseTtlTooLarge);
        }
        let held = keyspace.leases().weight().counted as usize;
        if held >= LEASES_PER_TENANT_MAX {
            return Err(Rejection::QuotaExceeded {
                tenant: keyspace.record().name.clone(),
                kind: QuotaKind::Leases,
                used: held as u64 + 1,
                limit: LEASES_PER_TENANT_MAX as u64,
            });
        }
        let lease = Lease::new(id, ttl_seconds, 0);
        let fact = facts::lease(&lease);
        keyspace.grant(lease);
        self.pending.touch(entry.tenant);
        self.pending
            .note(entry.at, facts::lease_key(entry.tenant, id), Some(fact));
        Ok(Reply::LeaseGranted { id, ttl_seconds })
    }

    /// Deletes the keys of a lease in key order, in one revision, and forgets it.
    pub(super) fn revoke(&mut self, entry: Entry, id: LeaseId) -> Result<Reply, Unread> {
        let (at, tenant) = (entry.at, entry.tenant);
        self.write(entry, |work, _| {
            let keyspace = work.keyspace();
            let lease = keyspace.lease(id).ok_or(Rejection::LeaseNotFound)?;
            let attached = lease.keys().filter_map(|(space, key)| {
                keyspace.live(space, key).map(|cell| (space, cell.clone()))
            });
            for (space, cell) in attached.collect::<Vec<_>>() {
                work.delete(space, &cell);
            }
            work.forget_lease(id);
            Ok(())
        })?;
        self.pending.touch(tenant);
        self.pending.note(at, facts::lease_key(tenant, id), None);
        Ok(Reply::Done)
    }

    /// Takes over how long leases have left. Leases that are gone by now are passed over.
    pub(super) fn checkpoint(
        &mut self,
        entry: &Entry,
        remaining: &[(LeaseId, i64)],
    ) -> Result<Reply, Rejection> {
        let mut noted = vec![];
        let keyspace = self.keyspace(entry.tenant)?;
        for (id, seconds) in remaining {
            keyspace.change_lease(*id, |lease| {
                lease.checkpoint_seconds = (*seconds).max(0);
                noted.push((facts::lease_key(entry.tenant, *id), facts::lease(lease)));
            });
        }
        if !noted.is_empty() {
            self.pending.touch(entry.tenant);
        }
        for (key, fact) in noted {
            self.pending.note(entry.at, key, Some(fact));
        }
        Ok(Reply::Done)
    }
}
