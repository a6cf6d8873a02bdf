//! Building a machine from rows: at start, and when a snapshot is installed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meridian_domain::name::TenantId;
use meridian_domain::tenant::TenantRecord;

use super::cluster::Cluster;
use super::facts::{self, Fact};
use super::pending::Pending;
use super::requests::{Remembered, Requests};
use super::{Machine, Settings};
use crate::fault::Fault;
use crate::history::History;
use crate::mvcc::Keyspace;
use crate::mvcc::lease::Lease;
use crate::mvcc::load::{Loaded, Loader};
use crate::row::Rows;

/// What the facts of one tenant say.
#[derive(Default)]
struct Parts {
    record: Option<TenantRecord>,
    counters: Option<(i64, i64, u64)>,
    leases: Vec<Lease>,
    requests: Vec<Remembered>,
}

/// A state read from rows.
struct State {
    hash: u64,
    cluster: Cluster,
    loaded: Loaded,
    requests: BTreeMap<TenantId, Requests>,
}

impl Machine {
    /// The state the rows hold. `history` must hold the same rows.
    ///
    /// Rows without any fact are those of a cluster that never applied anything.
    pub fn load(rows: &mut dyn Rows, history: History, settings: Settings) -> Result<Self, Fault> {
        let mut machine = Self::new(history, settings);
        if let Some(state) = State::read(rows)? {
            machine.take_over(rows, state);
        }
        Ok(machine)
    }

    /// Replaces everything by the state the rows hold. History must have been reset to them before.
    /// Tenants that exist before and after keep their watchers; a hub sees its revision jump.
    pub fn install(&mut self, rows: &mut dyn Rows) -> Result<(), Fault> {
        let Some(state) = State::read(rows)? else {
            return Err(Fault::Inconsistent {
                what: "a snapshot holds no state".into(),
            });
        };
        self.take_over(rows, state);
        self.fault = None;
        Ok(())
    }

    fn take_over(&mut self, rows: &dyn Rows, state: State) {
        let State {
            hash,
            cluster,
            loaded,
            mut requests,
        } = state;
        let mut before = std::mem::take(&mut self.tenants);
        self.pending = Pending::after(hash);
        self.cluster = cluster;
        self.unpruned.clear();
        self.applied = rows.applied();
        self.submitted = self.applied;
        for (id, keyspace) in loaded.keyspaces {
            let requests = requests.remove(&id).unwrap_or_default();
            let holding = match before.remove(&id) {
                Some(mut holding) => {
                    holding.keyspace = keyspace;
                    holding.requests = requests;
                    holding.made.clear();
                    holding.commits.clear();
                    holding.pass = None;
                    holding
                }
                None => self.hold(id, keyspace, requests),
            };
            // What is loaded holds nothing that compaction does not retain.
            holding.tenant.set_reclaimed(holding.keyspace.compacted());
            self.tenants.insert(id, holding);
            self.pending.touch(id);
        }
        for holding in before.values() {
            holding.tenant.remove();
        }
        // Rows that compaction had not reached on disk leave it with the next batch.
        for (id, at) in loaded.unretained {
            self.pending.drop_versions(id, vec![at]);
        }
        for id in loaded.strangers {
            self.pending.forget_tenant(id);
        }
        self.pending.change_cluster();
        self.show();
    }
}

impl State {
    /// None if there is not a single fact, at the very start of the log.
    fn read(rows: &mut dyn Rows) -> Result<Option<Self>, Fault> {
        let encoded = rows.facts()?;
        if encoded.is_empty() && rows.applied().index == 0 {
            return Ok(None);
        }
        let mut hash = 0;
        let mut cluster = Cluster::default();
        let mut system = vec![];
        let mut parts: BTreeMap<TenantId, Parts> = BTreeMap::new();
        for (key, value) in encoded {
            match facts::decode(&key, &value)? {
                Fact::Digest(found) => hash = found,
                Fact::NextTenant(id) => cluster.next_tenant = id,
                Fact::Membership(encoded) => cluster.membership = Some(encoded),
                Fact::Alarm(member, kind) => {
                    cluster.alarms.insert((member, kind));
                }
                Fact::Member(record) => {
                    cluster.members.insert(record.id, record);
                }
                Fact::Tenant(record) => {
                    let id = record.id;
                    parts.entry(id).or_default().record = Some(record);
                }
                Fact::Counters {
                    tenant,
                    revision,
                    compacted,
                    rules_revision,
                } => {
                    parts.entry(tenant).or_default().counters =
                        Some((revision, compacted, rules_revision));
                }
                Fact::Lease(tenant, lease) => parts.entry(tenant).or_default().leases.push(lease),
                Fact::Request(TenantId::SYSTEM, request) => system.push(request),
                Fact::Request(tenant, request) => {
                    parts.entry(tenant).or_default().requests.push(request);
                }
            }
        }
        cluster.requests = Requests::load(system);
        let mut keyspaces = BTreeMap::new();
        let mut requests = BTreeMap::new();
        for (id, parts) in parts {
            let (keyspace, of) = parts.build(id)?;
            keyspaces.insert(id, keyspace);
            requests.insert(id, of);
        }
        check(&cluster, &keyspaces)?;
        let mut loader = Loader::new(keyspaces);
        rows.versions(&mut |tenant, version| loader.add(tenant, &version))?;
        Ok(Some(Self {
            hash,
            cluster,
            loaded: loader.finish()?,
            requests,
        }))
    }
}

/// What must hold between the facts.
fn check(cluster: &Cluster, keyspaces: &BTreeMap<TenantId, Keyspace>) -> Result<(), Fault> {
    let inconsistent = |what: String| Err(Fault::Inconsistent { what });
    if !keyspaces.contains_key(&TenantId::DEFAULT) {
        return inconsistent("the tenant `default` is missing".into());
    }
    if let Some((id, _)) = keyspaces
        .last_key_value()
        .filter(|(id, _)| id.0 >= cluster.next_tenant)
    {
        return inconsistent(format!("tenant {id} was made after the last one"));
    }
    let names: BTreeSet<_> = keyspaces
        .values()
        .map(|keyspace| &keyspace.record().name)
        .collect();
    if names.len() != keyspaces.len() {
        return inconsistent("two tenants have one name".into());
    }
    Ok(())
}

impl Parts {
    fn build(self, id: TenantId) -> Result<(Keyspace, Requests), Fault> {
        let (Some(record), Some((revision, compacted, rules_revision))) =
            (self.record, self.counters)
        else {
            let what = format!("the facts of tenant {id} are incomplete");
            return Err(Fault::Inconsistent { what });
        };
        if compacted > revision || compacted < 0 {
            let what = format!("tenant {id} is compacted to {compacted} and stands at {revision}");
            return Err(Fault::Inconsistent { what });
        }
        let mut keyspace = Keyspace::new(Arc::new(record));
        keyspace.revision = revision;
        keyspace.compacted = compacted;
        keyspace.rules_revision = rules_revision;
        for lease in self.leases {
            keyspace.grant(lease);
        }
        Ok((keyspace, Requests::load(self.requests)))
    }
}
