//! What was submitted and is not written yet, merged over batches.
//!
//! Rows stay readable here until the index says where they lie.

use std::collections::BTreeMap;
use std::sync::Arc;

use meridian_domain::name::TenantId;
use meridian_domain::revision::LogId;

use super::run::{self, Entries};
use crate::row::{At, Batch, Version};

/// What a row costs beside its key and value, in bytes.
const ROW_OVERHEAD_BYTES: usize = 128;
/// What a fact costs beside its key and value.
const FACT_OVERHEAD_BYTES: usize = 64;

/// Batches that wait, as one.
#[derive(Debug, Default)]
pub struct Pending {
    /// The last entry covered.
    pub applied: LogId,
    /// Versions made, ascending, by tenant.
    pub rows: BTreeMap<TenantId, Vec<Arc<Version>>>,
    /// Facts, as entries of a run.
    pub facts: Entries,
    /// Versions dropped.
    pub dropped: Vec<(TenantId, At)>,
    /// Tenants removed.
    pub removed: Vec<TenantId>,
    /// Roughly what it all takes in memory.
    pub bytes: usize,
    /// How many batches it is made of.
    pub batches: usize,
}

impl Pending {
    /// Adds a batch. Returns the row that is out of order, if there is one: a bug above.
    pub fn absorb(&mut self, batch: Batch) -> Result<(), (TenantId, At)> {
        self.applied = batch.applied;
        self.batches += 1;
        for (tenant, row) in batch.made {
            let rows = self.rows.entry(tenant).or_default();
            if rows.last().is_some_and(|last| last.at >= row.at) {
                return Err((tenant, row.at));
            }
            let value = row.after.as_ref().map_or(0, |kv| kv.value.len());
            self.bytes += row.key.len() + value + ROW_OVERHEAD_BYTES;
            rows.push(row);
        }
        for fact in batch.facts {
            let value = fact.value.as_ref().map_or(0, bytes::Bytes::len);
            self.bytes += fact.key.len() + value + FACT_OVERHEAD_BYTES;
            self.facts.insert(run::fact_key(&fact.key), fact.value);
        }
        self.bytes += batch.dropped.len() * size_of::<(TenantId, At)>();
        self.dropped.extend(batch.dropped);
        self.removed.extend(batch.dropped_tenants);
        Ok(())
    }

    /// Whether no batch waits.
    pub fn is_empty(&self) -> bool {
        self.batches == 0
    }

    /// The rows of a tenant from a place on.
    pub fn rows_from(&self, tenant: TenantId, at: At) -> &[Arc<Version>] {
        let rows = self
            .rows
            .get(&tenant)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let first = rows.partition_point(|row| row.at < at);
        rows.get(first..).unwrap_or_default()
    }
}
