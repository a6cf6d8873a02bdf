//! What happens between batches: publishing, reclaiming, freezing.
//!
//! The order of publishing matters: history first, so that whoever holds a root finds what it superseded; then
//! the roots, so that whoever is woken finds the state; then the watchers.

use std::sync::Arc;

use super::{Frozen, Machine};
use crate::mvcc::compact::Pass;
use crate::store::Tenants;

impl Machine {
    /// Shows readers and watchers what was applied, and hands the rows to history. Blocks while history has
    /// too much to write.
    pub fn publish(&mut self) {
        if self.fault.is_some() {
            return;
        }
        let batch = self.pending.batch(self.applied, &mut self.tenants);
        if !batch.is_empty() || self.applied != self.submitted {
            self.submitted = self.applied;
            // First, so that whoever sees a root finds what it superseded.
            self.history.submit(batch);
        }
        self.show();
    }

    /// Swaps what changed, then wakes watchers.
    pub(super) fn show(&mut self) {
        let touched = self.pending.take_touched();
        for holding in touched.iter().filter_map(|id| self.tenants.get(id)) {
            holding.tenant.publish(holding.keyspace.clone());
        }
        if self.pending.take_cluster_changed() {
            let tenants: Vec<_> = self.tenants.values().map(|held| &held.tenant).collect();
            let facts = self.cluster.facts(tenants.iter().copied());
            self.shared.cluster.store(Arc::new(facts));
            self.shared
                .tenants
                .store(Arc::new(Tenants::new(tenants.into_iter().cloned())));
        }
        self.shared.applied.store(Arc::new(self.applied));
        for id in &touched {
            let Some(holding) = self.tenants.get_mut(id) else {
                continue;
            };
            let commits = std::mem::take(&mut holding.commits);
            let (hub, revision) = (holding.tenant.hub(), holding.keyspace.revision());
            if hub.revision() != revision {
                hub.publish(commits, revision);
            }
        }
    }

    /// Removes versions that compaction does not retain, looking at up to `budget_keys` keys, and publishes.
    /// Whether there is more to do. Call it between batches.
    pub fn reclaim(&mut self, budget_keys: usize) -> bool {
        let mut budget = budget_keys;
        let mut done = vec![];
        while budget > 0 {
            let Some(id) = self.unpruned.first().copied() else {
                break;
            };
            let Some(holding) = self.tenants.get_mut(&id) else {
                self.unpruned.remove(&id);
                continue;
            };
            let keyspace = &mut holding.keyspace;
            let pass = holding
                .pass
                .get_or_insert_with(|| Pass::new(keyspace.compacted()));
            let mut dropped = vec![];
            let through = pass.step(keyspace, &mut budget, &mut dropped);
            if through {
                let target = pass.target;
                holding.pass = None;
                if target == keyspace.compacted() {
                    self.unpruned.remove(&id);
                    done.push((Arc::clone(&holding.tenant), target));
                }
            }
            if !dropped.is_empty() {
                self.pending.touch(id);
                self.pending.drop_versions(id, dropped);
            }
        }
        self.publish();
        for (tenant, target) in done {
            tenant.set_reclaimed(target);
        }
        !self.unpruned.is_empty()
    }

    /// Everything, as of the last [`Machine::publish`], for a snapshot. O(tenants): keys are shared, facts
    /// are encoded when they are asked for.
    pub fn freeze(&self) -> Frozen {
        debug_assert_eq!(self.applied, self.submitted, "freeze after publish");
        let roots = self
            .tenants
            .iter()
            .map(|(id, holding)| (*id, holding.tenant.root()));
        let requests = self
            .tenants
            .iter()
            .map(|(id, holding)| (*id, holding.requests.clone()));
        Frozen::new(
            self.digest(),
            &self.cluster,
            roots.collect(),
            requests.collect(),
        )
    }
}
