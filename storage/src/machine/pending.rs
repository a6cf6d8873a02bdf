//! What was applied and not published yet, and the rolling state hash.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use meridian_domain::name::TenantId;
use meridian_domain::revision::LogId;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::work::Changed;
use super::{Holding, facts};
use crate::row::{At, Batch, Fact};
use crate::store::Tenant;

/// What waits to be published.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// The state hash: every effect is folded into it, in order.
    hash: u64,
    facts: Vec<Fact>,
    touched: BTreeSet<TenantId>,
    dropped: Vec<(TenantId, At)>,
    dropped_tenants: Vec<TenantId>,
    cluster_changed: bool,
    /// The last actor, so that rows of the same one share its name.
    actor: Option<Arc<str>>,
}

impl Pending {
    /// Nothing pending, on top of a state with this hash.
    pub(super) fn after(hash: u64) -> Self {
        Self {
            hash,
            ..Self::default()
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    fn fold_number(&mut self, number: u64) {
        self.hash = xxh3_64_with_seed(&number.to_le_bytes(), self.hash);
    }

    fn fold(&mut self, bytes: &[u8]) {
        self.hash = xxh3_64_with_seed(bytes, self.hash);
    }

    /// Takes in a fact an entry wrote, or removed.
    pub(super) fn note(&mut self, at: LogId, key: Bytes, value: Option<Bytes>) {
        self.fold_number(at.index);
        self.fold(&key);
        match &value {
            Some(value) => self.fold(value),
            None => self.fold_number(u64::MAX),
        }
        self.facts.push(Fact { key, value });
    }

    /// Folds in an effect that is neither rows nor a fact of its own.
    pub(super) fn mark(&mut self, at: LogId, what: &str, numbers: &[u64]) {
        self.fold_number(at.index);
        self.fold(what.as_bytes());
        for number in numbers {
            self.fold_number(*number);
        }
    }

    /// Folds in the rows an entry made.
    pub(super) fn roll(&mut self, at: LogId, tenant: TenantId, changed: &Changed) {
        self.fold_number(at.index);
        self.fold_number(u64::from(tenant.0));
        self.fold_number(changed.revision() as u64);
        for (space, sum) in changed.sums() {
            // The sum covers key, place and content.
            self.hash = xxh3_64_with_seed(&sum.to_le_bytes(), self.hash ^ u64::from(space.0));
        }
    }

    /// The name of who asked, shared between rows.
    pub(super) fn actor(&mut self, name: &str) -> Arc<str> {
        match &self.actor {
            Some(last) if **last == *name => Arc::clone(last),
            _ => {
                let actor: Arc<str> = Arc::from(name);
                self.actor = Some(Arc::clone(&actor));
                actor
            }
        }
    }

    /// A tenant's root has to be swapped.
    pub(super) fn touch(&mut self, tenant: TenantId) {
        self.touched.insert(tenant);
    }

    /// The cluster's facts have to be swapped.
    pub(super) fn change_cluster(&mut self) {
        self.cluster_changed = true;
    }

    /// Versions went from the index; history may remove them.
    pub(super) fn drop_versions(&mut self, tenant: TenantId, versions: Vec<At>) {
        self.dropped
            .extend(versions.into_iter().map(|at| (tenant, at)));
    }

    /// A tenant went, with everything it had.
    pub(super) fn drop_tenant(&mut self, id: TenantId, tenant: &Tenant) {
        tenant.remove();
        self.forget_tenant(id);
    }

    /// History holds versions of a tenant that does not exist.
    pub(super) fn forget_tenant(&mut self, id: TenantId) {
        self.touched.remove(&id);
        self.dropped.retain(|(of, _)| *of != id);
        self.dropped_tenants.push(id);
    }

    /// What history has to write to stand at `applied`.
    pub(super) fn batch(
        &mut self,
        applied: LogId,
        tenants: &mut BTreeMap<TenantId, Holding>,
    ) -> Batch {
        let mut batch = Batch {
            applied,
            made: vec![],
            dropped: std::mem::take(&mut self.dropped),
            dropped_tenants: std::mem::take(&mut self.dropped_tenants),
            facts: std::mem::take(&mut self.facts),
        };
        for id in &self.touched {
            let Some(holding) = tenants.get_mut(id) else {
                continue;
            };
            batch
                .made
                .extend(holding.made.drain(..).map(|version| (*id, version)));
            let value = Some(facts::counters(&holding.keyspace));
            batch.facts.push(Fact {
                key: facts::counters_key(*id),
                value,
            });
        }
        if !batch.is_empty() {
            let value = Some(facts::digest(self.hash));
            batch.facts.push(Fact {
                key: facts::digest_key(),
                value,
            });
        }
        batch
    }

    pub(super) fn take_touched(&mut self) -> BTreeSet<TenantId> {
        std::mem::take(&mut self.touched)
    }

    pub(super) fn take_cluster_changed(&mut self) -> bool {
        std::mem::take(&mut self.cluster_changed)
    }
}
