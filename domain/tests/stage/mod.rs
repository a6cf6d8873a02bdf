//! A tenant in memory, for tests and benches: what is planned on it can be applied to it.
//!
//! It keeps keys, their numbers and their leases, and nothing of history. It moves the rules revision as the store does:
//! by one for a transaction that changed a key of the space of rules.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests; each of them uses a part"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use meridian_domain::access::change::AccessChange;
use meridian_domain::access::compile::{Compiled, compile};
use meridian_domain::access::grant::Circumstances;
use meridian_domain::access::{Action, Caller, Identity, Principal, permit};
use meridian_domain::command::{AlarmKind, Command, MemberRecord};
use meridian_domain::intent::Intent;
use meridian_domain::key::Space;
use meridian_domain::kv::{KeyValue, LeaseId, Range, RangeReply, compare};
use meridian_domain::name::{TenantId, TenantName};
use meridian_domain::plan::plan;
use meridian_domain::rejection::Rejection;
use meridian_domain::revision::Revision;
use meridian_domain::stamp::Stamp;
use meridian_domain::tenant::{Quota, Retention, TenantRecord, Usage};
use meridian_domain::txn::{Op, Txn};
use meridian_domain::view::{ClusterView, LeaseView, View};

/// When everything happens, unless a test says otherwise.
pub const NOW_MS: u64 = 1_700_000_000_000;

/// The tenant, and the little of the cluster that planning sees.
pub struct Stage {
    pub tenant: TenantRecord,
    pub revision: Revision,
    pub compacted: Revision,
    pub rules_revision: u64,
    pub others: Vec<TenantRecord>,
    pub alarms: Vec<(u64, AlarmKind)>,
    pub guarded: bool,
    pub keys: BTreeMap<(Space, Bytes), KeyValue>,
    pub leases: Vec<LeaseId>,
}

/// A tenant without quota.
pub fn record(id: u32, name: &str) -> TenantRecord {
    TenantRecord {
        id: TenantId(id),
        name: TenantName::new(name).unwrap(),
        quota: Quota::default(),
        retention: Retention::default(),
        created: Stamp::default(),
    }
}

impl Stage {
    /// The tenant `default` before its first write.
    pub fn empty() -> Self {
        Self::of(1, TenantName::DEFAULT)
    }

    /// A tenant before its first write.
    pub fn of(id: u32, name: &str) -> Self {
        Self {
            tenant: record(id, name),
            revision: 1,
            compacted: 0,
            rules_revision: 0,
            others: vec![],
            alarms: vec![],
            guarded: false,
            keys: BTreeMap::new(),
            leases: vec![],
        }
    }

    /// What an identity may do now.
    pub fn rights(&self, identity: &Identity) -> Result<Compiled, Rejection> {
        self.rights_at(identity, NOW_MS)
    }

    /// What an identity may do at a moment.
    pub fn rights_at(&self, identity: &Identity, now_ms: u64) -> Result<Compiled, Rejection> {
        let at = Circumstances {
            now_ms: Some(now_ms),
            source: None,
        };
        compile(self, identity, &at)
    }

    /// An identity with its rights.
    pub fn caller(&self, identity: Identity) -> Result<Principal, Rejection> {
        let rights = Arc::new(self.rights(&identity)?);
        let identity = Arc::new(identity);
        Ok(Principal::Caller(Arc::new(Caller { identity, rights })))
    }

    /// A user with their rights; `anonymous` and `system` are nobody and the cluster.
    pub fn principal(&self, name: &str) -> Result<Principal, Rejection> {
        match name {
            "anonymous" => Ok(Principal::Anonymous),
            "system" => Ok(Principal::System),
            user => self.caller(Identity::user(self.tenant.id, user)),
        }
    }

    /// Plans and applies a write; whether its compares held.
    pub fn write(&mut self, who: &str, intent: Intent) -> Result<bool, Rejection> {
        let principal = self.principal(who)?;
        let plan = plan(self, &principal, intent)?;
        assert_eq!(plan.guards.rules_revision, Some(self.rules_revision));
        match &plan.command {
            Command::Txn(txn) => Ok(self.apply(txn)),
            _ => Ok(true),
        }
    }

    /// Changes the rules as somebody.
    pub fn change(&mut self, who: &str, change: AccessChange) -> Result<bool, Rejection> {
        self.write(who, Intent::Access(change))
    }

    /// Whether somebody may do something.
    pub fn may(&self, who: &str, action: Action<'_>) -> Result<(), Rejection> {
        permit(self, &self.principal(who)?, action).map(drop)
    }

    /// Applies a transaction without nested ones, as the store would.
    pub fn apply(&mut self, txn: &Txn) -> bool {
        let holds = txn.compares.iter().all(|wanted| {
            let found = self.range(&Range::of(wanted.space, wanted.range.clone()));
            compare::holds(wanted, &found.unwrap().kvs)
        });
        let ops = if holds { &txn.success } else { &txn.failure };
        let at = self.revision + 1;
        let (mut changed, mut rules) = (false, false);
        for op in ops {
            match op {
                Op::Put(put) => {
                    let place = (put.space, put.key.clone());
                    let old = self.keys.get(&place);
                    let kv = KeyValue {
                        key: put.key.clone(),
                        create_revision: old.map_or(at, |kv| kv.create_revision),
                        mod_revision: at,
                        version: old.map_or(0, |kv| kv.version) + 1,
                        value: put.value.clone().unwrap(),
                        lease: put.lease.unwrap(),
                    };
                    self.keys.insert(place, kv);
                    changed = true;
                    rules |= put.space == Space::ACCESS;
                }
                Op::Delete(delete) => {
                    let before = self.keys.len();
                    self.keys.retain(|(space, key), _| {
                        *space != delete.space || !delete.range.contains(key)
                    });
                    changed |= self.keys.len() < before;
                    rules |= self.keys.len() < before && delete.space == Space::ACCESS;
                }
                Op::Range(_) | Op::Txn(_) => panic!("not in the plans of this test"),
            }
        }
        self.revision += i64::from(changed);
        self.rules_revision += u64::from(rules);
        holds
    }

    /// A key with a value, attached to a lease or to none.
    pub fn put(&mut self, key: &'static str, value: &'static str, lease: LeaseId) {
        if lease != 0 && !self.leases.contains(&lease) {
            self.leases.push(lease);
        }
        self.revision += 1;
        let kv = KeyValue {
            key: key.into(),
            create_revision: self.revision,
            mod_revision: self.revision,
            version: 1,
            value: value.into(),
            lease,
        };
        self.keys.insert((Space::RAW, key.into()), kv);
    }
}

impl View for Stage {
    fn tenant(&self) -> &TenantRecord {
        &self.tenant
    }
    fn revision(&self) -> Revision {
        self.revision
    }
    fn compacted(&self) -> Revision {
        self.compacted
    }
    fn rules_revision(&self) -> u64 {
        self.rules_revision
    }
    fn usage(&self) -> Usage {
        Usage::default()
    }
    fn range(&self, range: &Range) -> Result<RangeReply, Rejection> {
        let from = (range.space, range.range.start.clone());
        let kvs: Vec<KeyValue> = self
            .keys
            .range(from..)
            .take_while(|((space, key), _)| *space == range.space && range.range.contains(key))
            .map(|(_, kv)| kv.clone())
            .collect();
        let count = kvs.len() as i64;
        Ok(RangeReply {
            kvs: if range.count_only { vec![] } else { kvs },
            more: false,
            count,
        })
    }
    fn lease(&self, id: LeaseId) -> Option<LeaseView> {
        self.leases.contains(&id).then(|| LeaseView {
            id,
            ttl_seconds: 60,
            checkpoint_seconds: 0,
            keys: self.lease_keys(id).len(),
        })
    }
    fn leases(&self) -> Vec<LeaseId> {
        self.leases.clone()
    }
    fn lease_keys(&self, id: LeaseId) -> Vec<Bytes> {
        let attached = self.keys.values().filter(|kv| kv.lease == id);
        attached.map(|kv| kv.key.clone()).collect()
    }
    fn cluster(&self) -> &dyn ClusterView {
        self
    }
}

impl ClusterView for Stage {
    fn tenant_named(&self, name: &TenantName) -> Option<TenantRecord> {
        let mut others = self.others.iter();
        others.find(|tenant| tenant.name == *name).cloned()
    }
    fn tenants(&self) -> Vec<(TenantRecord, Usage)> {
        let others = self.others.iter();
        others
            .map(|tenant| (tenant.clone(), Usage::default()))
            .collect()
    }
    fn alarms(&self) -> Vec<(u64, AlarmKind)> {
        self.alarms.clone()
    }
    fn members(&self) -> Vec<MemberRecord> {
        vec![]
    }
    fn is_guarded(&self) -> bool {
        self.guarded
    }
}
