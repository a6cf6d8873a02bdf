//! The cluster's own facts: tenants, alarms, members.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use meridian_domain::command::{AlarmKind, MemberRecord, Reply};
use meridian_domain::limits::TENANTS_MAX;
use meridian_domain::name::{TenantId, TenantName};
use meridian_domain::rejection::Rejection;
use meridian_domain::revision::LogId;
use meridian_domain::stamp::Stamp;
use meridian_domain::tenant::{Quota, Retention, TenantRecord};

use super::requests::Requests;
use super::{Entry, Holding, Machine, facts};
use crate::mvcc::Keyspace;
use crate::store::{ClusterFacts, Tenant};
use crate::watch::Hub;

/// What belongs to no tenant.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    /// The number the next tenant gets.
    pub(super) next_tenant: u32,
    pub(super) alarms: BTreeSet<(u64, AlarmKind)>,
    pub(super) members: BTreeMap<u64, MemberRecord>,
    pub(super) membership: Option<Bytes>,
    pub(super) requests: Requests,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            next_tenant: TenantId::DEFAULT.0,
            alarms: BTreeSet::new(),
            members: BTreeMap::new(),
            membership: None,
            requests: Requests::default(),
        }
    }
}

impl Cluster {
    pub(super) fn facts<'a>(&self, tenants: impl Iterator<Item = &'a Arc<Tenant>>) -> ClusterFacts {
        let alarms = self.alarms.iter().copied().collect();
        ClusterFacts::new(tenants, alarms, self.members.values().cloned().collect())
    }
}

impl Machine {
    /// The tenant every cluster begins with.
    pub(super) fn make_default_tenant(&mut self) {
        if let Ok(name) = TenantName::new(TenantName::DEFAULT) {
            let at = LogId::default();
            self.add_tenant(
                at,
                name,
                Quota::default(),
                Retention::default(),
                Stamp::default(),
            );
        }
    }

    fn add_tenant(
        &mut self,
        at: LogId,
        name: TenantName,
        quota: Quota,
        retention: Retention,
        created: Stamp,
    ) -> TenantRecord {
        let id = TenantId(self.cluster.next_tenant);
        self.cluster.next_tenant += 1;
        let record = TenantRecord {
            id,
            name,
            quota,
            retention,
            created,
        };
        let next = facts::next_tenant(self.cluster.next_tenant);
        self.pending.note(at, facts::next_tenant_key(), Some(next));
        self.pending
            .note(at, facts::tenant_key(id), Some(facts::tenant(&record)));
        let holding = self.hold(
            id,
            Keyspace::new(Arc::new(record.clone())),
            Requests::default(),
        );
        self.tenants.insert(id, holding);
        self.pending.touch(id);
        self.pending.change_cluster();
        record
    }

    /// What the machine holds of a tenant with this state.
    pub(super) fn hold(&self, id: TenantId, keyspace: Keyspace, requests: Requests) -> Holding {
        let hub = Hub::new(keyspace.revision(), self.settings.watch.clone());
        let tenant = Arc::new(Tenant::new(id, keyspace.clone(), hub, &self.shared));
        Holding {
            keyspace,
            requests,
            made: vec![],
            commits: vec![],
            pass: None,
            tenant,
        }
    }

    fn named(&self, name: &TenantName) -> Option<TenantId> {
        let mut all = self.tenants.iter();
        all.find(|(_, held)| held.keyspace.record().name == *name)
            .map(|(id, _)| *id)
    }

    pub(super) fn create_tenant(
        &mut self,
        entry: &Entry,
        name: TenantName,
        quota: Quota,
        retention: Retention,
    ) -> Result<Reply, Rejection> {
        if self.named(&name).is_some() {
            return Err(Rejection::TenantExists { name });
        }
        if self.tenants.len() >= TENANTS_MAX {
            return Err(Rejection::TooManyTenants { limit: TENANTS_MAX });
        }
        Ok(Reply::Tenant(self.add_tenant(
            entry.at,
            name,
            quota,
            retention,
            entry.stamp,
        )))
    }

    pub(super) fn change_tenant(
        &mut self,
        entry: &Entry,
        name: &TenantName,
        quota: Option<Quota>,
        retention: Option<Retention>,
    ) -> Result<Reply, Rejection> {
        let not_found = || Rejection::TenantNotFound {
            name: name.to_string(),
        };
        let id = self.named(name).ok_or_else(not_found)?;
        let keyspace = self.keyspace(id)?;
        let mut record = TenantRecord::clone(keyspace.record());
        record.quota = quota.unwrap_or(record.quota);
        record.retention = retention.unwrap_or(record.retention);
        keyspace.record = Arc::new(record.clone());
        self.pending.note(
            entry.at,
            facts::tenant_key(id),
            Some(facts::tenant(&record)),
        );
        self.pending.touch(id);
        Ok(Reply::Tenant(record))
    }

    /// Drops a tenant with everything in it. Whoever still holds a root of it can read on.
    pub(super) fn delete_tenant(
        &mut self,
        entry: &Entry,
        name: &TenantName,
    ) -> Result<Reply, Rejection> {
        if name.as_str() == TenantName::DEFAULT {
            return Err(Rejection::TenantIsDefault);
        }
        let not_found = || Rejection::TenantNotFound {
            name: name.to_string(),
        };
        let id = self.named(name).ok_or_else(not_found)?;
        let Some(holding) = self.tenants.remove(&id) else {
            return Err(not_found());
        };
        self.unpruned.remove(&id);
        for lease in holding.keyspace.leases() {
            self.pending
                .note(entry.at, facts::lease_key(id, lease.id()), None);
        }
        for request in holding.requests.ids() {
            self.pending
                .note(entry.at, facts::request_key(id, request), None);
        }
        self.pending.note(entry.at, facts::counters_key(id), None);
        self.pending.note(entry.at, facts::tenant_key(id), None);
        self.pending.drop_tenant(id, &holding.tenant);
        self.pending.change_cluster();
        Ok(Reply::Done)
    }

    pub(super) fn alarm(
        &mut self,
        entry: &Entry,
        member: u64,
        kind: AlarmKind,
        raised: bool,
    ) -> Reply {
        let alarms = &mut self.cluster.alarms;
        let changed = if raised {
            alarms.insert((member, kind))
        } else {
            alarms.remove(&(member, kind))
        };
        if changed {
            let fact = raised.then(facts::alarm);
            self.pending
                .note(entry.at, facts::alarm_key(member, kind), fact);
            self.pending.change_cluster();
        }
        Reply::Alarm { changed }
    }

    pub(super) fn publish_member(&mut self, entry: &Entry, record: MemberRecord) -> Reply {
        self.pending.note(
            entry.at,
            facts::member_key(record.id),
            Some(facts::member(&record)),
        );
        self.pending.change_cluster();
        self.cluster.members.insert(record.id, record);
        Reply::Done
    }

    pub(super) fn forget_member(&mut self, entry: &Entry, id: u64) -> Reply {
        if self.cluster.members.remove(&id).is_some() {
            self.pending.note(entry.at, facts::member_key(id), None);
            self.pending.change_cluster();
        }
        let raised = self
            .cluster
            .alarms
            .iter()
            .filter(|(member, _)| *member == id);
        for (member, kind) in raised.copied().collect::<Vec<_>>() {
            self.alarm(entry, member, kind, false);
        }
        Reply::Done
    }
}
