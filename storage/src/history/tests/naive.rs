//! The history as one would write it without caring: a map. And rows to feed both.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use meridian_domain::key::Space;
use meridian_domain::kv::KeyValue;
use meridian_domain::name::TenantId;
use meridian_domain::revision::LogId;

use crate::history::{History, Settings};
use crate::row::{At, Batch, Fact, Rows, Version};

/// Every row, by place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Naive {
    pub applied: LogId,
    pub versions: BTreeMap<(TenantId, At), Version>,
    pub facts: BTreeMap<Bytes, Bytes>,
}

impl Naive {
    pub fn absorb(&mut self, batch: &Batch) {
        self.applied = batch.applied;
        for (tenant, row) in &batch.made {
            self.versions.insert((*tenant, row.at), (**row).clone());
        }
        for dropped in &batch.dropped {
            self.versions.remove(dropped);
        }
        for tenant in &batch.dropped_tenants {
            self.versions.retain(|(of, _), _| of != tenant);
        }
        for fact in &batch.facts {
            match &fact.value {
                Some(value) => self.facts.insert(fact.key.clone(), value.clone()),
                None => self.facts.remove(&fact.key),
            };
        }
    }

    /// Reads rows whole.
    pub fn of(rows: &mut dyn Rows) -> Self {
        let mut naive = Self {
            applied: rows.applied(),
            ..Self::default()
        };
        naive.facts.extend(rows.facts().unwrap());
        let mut last = None;
        rows.versions(&mut |tenant, row| {
            assert!(
                last.is_none_or(|last| last < (tenant, row.at)),
                "rows are in order"
            );
            last = Some((tenant, row.at));
            naive.versions.insert((tenant, row.at), row);
            Ok(())
        })
        .unwrap();
        naive
    }

    /// What the history must answer for each place.
    pub fn check(&self, history: &History) {
        for ((tenant, at), row) in &self.versions {
            let found = history.version(*tenant, *at).unwrap();
            assert_eq!(found.as_deref(), Some(row), "{tenant} {at:?}");
        }
    }

    /// What [`History::commits`] must answer: revision, and key, before and after of each change.
    pub fn commits(&self, tenant: TenantId, from: i64, to: i64, most: usize) -> Vec<Change> {
        let mut revisions: BTreeMap<i64, Vec<_>> = BTreeMap::new();
        for ((of, at), row) in &self.versions {
            if *of == tenant && (from..=to).contains(&at.revision) {
                let before = row.prev.and_then(|prev| self.versions.get(&(tenant, prev)));
                let before = before.and_then(|row| row.after.clone());
                let change = (row.key.clone(), before, row.after.clone());
                revisions.entry(at.revision).or_default().push(change);
            }
        }
        revisions.into_iter().take(most).collect()
    }
}

type Change = (
    i64,
    Vec<(Bytes, Option<Arc<KeyValue>>, Option<Arc<KeyValue>>)>,
);

impl Rows for Naive {
    fn applied(&self) -> LogId {
        self.applied
    }

    fn facts(&mut self) -> Result<Vec<(Bytes, Bytes)>, crate::fault::Fault> {
        Ok(self.facts.clone().into_iter().collect())
    }

    fn versions(
        &mut self,
        each: &mut dyn FnMut(TenantId, Version) -> Result<(), crate::fault::Fault>,
    ) -> Result<(), crate::fault::Fault> {
        self.versions
            .iter()
            .try_for_each(|((tenant, _), row)| each(*tenant, row.clone()))
    }
}

pub fn flat(commits: &[meridian_domain::command::Commit]) -> Vec<Change> {
    let change =
        |c: &meridian_domain::changes::Change| (c.key.clone(), c.before.clone(), c.after.clone());
    commits
        .iter()
        .map(|c| {
            (
                c.changes.revision,
                c.changes.rows.iter().map(change).collect(),
            )
        })
        .collect()
}

/// Makes batches the way a machine would: keys with generations, compaction, request ids as facts.
pub struct Maker {
    index: u64,
    revisions: BTreeMap<TenantId, i64>,
    compacted: BTreeMap<TenantId, i64>,
    live: BTreeMap<(TenantId, Bytes), Vec<Version>>,
    random: u64,
    pub keys: u64,
    pub value_bytes: usize,
}

impl Maker {
    pub fn new(seed: u64) -> Self {
        Self {
            index: 0,
            revisions: BTreeMap::new(),
            compacted: BTreeMap::new(),
            live: BTreeMap::new(),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            keys: 40,
            value_bytes: 200,
        }
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % n
    }

    /// A batch of `transactions` on a tenant.
    pub fn batch(&mut self, tenant: TenantId, transactions: u64) -> Batch {
        self.index += 1;
        let mut batch = Batch {
            applied: LogId {
                term: 1,
                index: self.index,
            },
            ..Batch::default()
        };
        for _ in 0..transactions {
            let revision = self.revisions.entry(tenant).or_insert(1);
            *revision += 1;
            let revision = *revision;
            let changes = 1 + self.below(3);
            let mut seen = Vec::new();
            for sub in 0..changes as u32 {
                let key = Bytes::from(format!("key-{:04}", self.below(self.keys)));
                if seen.contains(&key) {
                    continue;
                }
                seen.push(key.clone());
                let row = self.row(tenant, At { revision, sub }, key);
                self.live
                    .entry((tenant, row.key.clone()))
                    .or_default()
                    .push(row.clone());
                batch.made.push((tenant, Arc::new(row)));
            }
            batch.facts.push(Fact {
                key: format!("request-{}-{revision}", tenant.0).into(),
                value: Some(Bytes::from(vec![7; 20])),
            });
            if revision > 20 {
                let key = format!("request-{}-{}", tenant.0, revision - 20).into();
                batch.facts.push(Fact { key, value: None });
            }
        }
        let counter = format!("tenant-{}", tenant.0).into();
        let revision = self.revisions.get(&tenant).copied().unwrap_or(1);
        let value = Some(Bytes::copy_from_slice(&revision.to_be_bytes()));
        batch.facts.push(Fact {
            key: counter,
            value,
        });
        batch
    }

    fn row(&mut self, tenant: TenantId, at: At, key: Bytes) -> Version {
        let last = self
            .live
            .get(&(tenant, key.clone()))
            .and_then(|rows| rows.last())
            .cloned();
        let alive = last.filter(|row| row.after.is_some());
        let prev = alive.as_ref().map(|row| row.at);
        let delete = alive.is_some() && self.below(5) == 0;
        let before = alive.and_then(|row| row.after);
        let after = (!delete).then(|| {
            let length = self.below(self.value_bytes as u64) as usize;
            Arc::new(KeyValue {
                key: key.clone(),
                create_revision: before.as_ref().map_or(at.revision, |kv| kv.create_revision),
                mod_revision: at.revision,
                version: before.as_ref().map_or(1, |kv| kv.version + 1),
                value: vec![at.revision as u8; length].into(),
                lease: if self.below(4) == 0 { -5 } else { 0 },
            })
        });
        let actor = if self.below(3) == 0 {
            "someone"
        } else {
            "anonymous"
        };
        let space = Space(if key.ends_with(b"7") { 3 } else { 0 });
        Version {
            at,
            space,
            key,
            after,
            prev,
            stamp_ms: 1_700_000_000_000 + at.revision as u64,
            actor: actor.into(),
        }
    }

    /// A batch that drops what compaction at the present revision of a tenant would.
    pub fn compact(&mut self, tenant: TenantId) -> Batch {
        self.compacted.insert(tenant, self.revision(tenant));
        let mut batch = Batch {
            applied: LogId {
                term: 1,
                index: self.index,
            },
            ..Batch::default()
        };
        for ((of, _), rows) in &mut self.live {
            if *of != tenant {
                continue;
            }
            let keep = usize::from(rows.last().is_some_and(|row| row.after.is_some()));
            for row in rows.drain(..rows.len() - keep) {
                batch.dropped.push((tenant, row.at));
            }
        }
        batch
    }

    /// A batch that removes a tenant. It is not used again.
    pub fn remove(&mut self, tenant: TenantId) -> Batch {
        self.index += 1;
        self.live.retain(|(of, _), _| *of != tenant);
        Batch {
            applied: LogId {
                term: 1,
                index: self.index,
            },
            dropped_tenants: vec![tenant],
            ..Batch::default()
        }
    }

    pub fn compacted(&self, tenant: TenantId) -> i64 {
        self.compacted.get(&tenant).copied().unwrap_or(0)
    }

    pub fn revision(&self, tenant: TenantId) -> i64 {
        self.revisions.get(&tenant).copied().unwrap_or(1)
    }
}

/// Settings that make everything happen early.
pub fn small() -> Settings {
    Settings {
        batch_bytes: 4 << 10,
        batch_wait_ms: 1,
        cache_bytes: 64 << 10,
        marks_kept: 16,
        ..Settings::default()
    }
}
