//! The same store, written as plainly as can be: every version ever made, in lists. What etcd's source does
//! step by step is done step by step here, so that it shares no shortcut with the real one.

use std::collections::{BTreeMap, BTreeSet};

use meridian_domain::kv::{Delete, KeyValue, Order, Target};
use meridian_domain::txn::{Compare, OpReply, Operand, TxnReply};

use super::*;
use crate::row::At;

#[derive(Clone, Default)]
pub(super) struct Naive {
    pub(super) revision: Revision,
    pub(super) compacted: Revision,
    pub(super) keys: BTreeMap<Bytes, Vec<(At, Option<KeyValue>)>>,
    pub(super) leases: BTreeMap<LeaseId, i64>,
}

impl Naive {
    pub(super) fn new() -> Self {
        Self {
            revision: 1,
            ..Self::default()
        }
    }

    fn live_at(&self, key: &Bytes, revision: Revision) -> Option<KeyValue> {
        let versions = self.keys.get(key)?;
        versions
            .iter()
            .rev()
            .find(|(at, _)| at.revision <= revision)?
            .1
            .clone()
    }

    fn in_range(&self, keys: &KeyRange, revision: Revision) -> Vec<KeyValue> {
        let matching = self.keys.keys().filter(|key| keys.contains(key));
        matching
            .filter_map(|key| self.live_at(key, revision))
            .collect()
    }

    /// etcd's `Range`, after the revision was judged.
    fn range_at(&self, range: &Range, revision: Revision) -> RangeReply {
        let mut kvs = self.in_range(&range.range, revision);
        let count = kvs.len() as i64;
        if range.count_only {
            return RangeReply {
                kvs: vec![],
                more: false,
                count,
            };
        }
        let b = range.bounds;
        let fetch_all = range.order != Order::Unordered || !b.is_off();
        if range.limit > 0 && !fetch_all {
            kvs.truncate(range.limit as usize + 1);
        }
        kvs.retain(|kv| {
            (b.mod_min == 0 || kv.mod_revision >= b.mod_min)
                && (b.mod_max == 0 || kv.mod_revision <= b.mod_max)
                && (b.create_min == 0 || kv.create_revision >= b.create_min)
                && (b.create_max == 0 || kv.create_revision <= b.create_max)
        });
        let compare = |x: &KeyValue, y: &KeyValue| match range.target {
            Target::Key => x.key.cmp(&y.key),
            Target::Version => x.version.cmp(&y.version),
            Target::Create => x.create_revision.cmp(&y.create_revision),
            Target::Mod => x.mod_revision.cmp(&y.mod_revision),
            Target::Value => x.value.cmp(&y.value),
        };
        match range.order {
            Order::Descend => kvs.sort_by(|x, y| compare(y, x)),
            Order::Ascend | Order::Unordered => kvs.sort_by(compare),
        }
        let more = range.limit > 0 && kvs.len() > range.limit as usize;
        if more {
            kvs.truncate(range.limit as usize);
        }
        if range.keys_only {
            for kv in &mut kvs {
                kv.value = Bytes::new();
            }
        }
        RangeReply { kvs, more, count }
    }

    /// A plain read.
    pub(super) fn range(&self, range: &Range) -> Result<RangeReply, Rejection> {
        if range.revision > self.revision {
            return Err(Rejection::FutureRevision {
                current: self.revision,
            });
        }
        if range.revision > 0 && range.revision < self.compacted {
            return Err(Rejection::Compacted {
                compacted: self.compacted,
            });
        }
        let at = if range.revision <= 0 {
            self.revision
        } else {
            range.revision
        };
        Ok(self.range_at(range, at))
    }

    fn holds(&self, compare: &Compare) -> bool {
        let found = self.in_range(&compare.range, self.revision);
        let one = |kv: Option<&KeyValue>| {
            let number = |of: fn(&KeyValue) -> i64| kv.map_or(0, of);
            let ordering = match &compare.operand {
                Operand::Version(n) => number(|kv| kv.version).cmp(n),
                Operand::Create(n) => number(|kv| kv.create_revision).cmp(n),
                Operand::Mod(n) => number(|kv| kv.mod_revision).cmp(n),
                Operand::Lease(n) => number(|kv| kv.lease).cmp(n),
                Operand::Value(v) => match kv {
                    Some(kv) => kv.value.cmp(v),
                    None => return false,
                },
            };
            compare.relation.holds(ordering)
        };
        if found.is_empty() {
            one(None)
        } else {
            found.iter().all(|kv| one(Some(kv)))
        }
    }

    /// The chosen operations, in order, with the answers of compares at every level.
    fn flatten<'a>(&self, txn: &'a Txn, out: &mut Vec<&'a Op>) {
        for op in self.branch(txn) {
            match op {
                Op::Txn(inner) => self.flatten(inner, out),
                _ => out.push(op),
            }
        }
    }

    fn branch<'a>(&self, txn: &'a Txn) -> &'a [Op] {
        if txn.compares.iter().all(|c| self.holds(c)) {
            &txn.success
        } else {
            &txn.failure
        }
    }

    pub(super) fn txn(&mut self, txn: &Txn) -> Result<TxnReply, Rejection> {
        let mut ops = vec![];
        self.flatten(txn, &mut ops);
        for op in &ops {
            let Op::Put(put) = op else { continue };
            let live = self.live_at(&put.key, self.revision);
            if (put.value.is_none() || put.lease.is_none()) && live.is_none() {
                return Err(Rejection::KeyNotFound);
            }
            if put
                .lease
                .is_some_and(|id| id != 0 && !self.leases.contains_key(&id))
            {
                return Err(Rejection::LeaseNotFound);
            }
        }
        let floor = if self.compacted == 0 {
            -1
        } else {
            self.compacted
        };
        for op in &ops {
            let Op::Range(range) = op else { continue };
            if range.revision > self.revision {
                return Err(Rejection::FutureRevision {
                    current: self.revision,
                });
            }
            if range.revision != 0 && range.revision < floor {
                return Err(Rejection::Compacted {
                    compacted: self.compacted,
                });
            }
        }
        let before = self.clone();
        let mut sub = 0;
        let reply = self.run(&before, txn, &mut sub);
        match reply {
            Ok(reply) => {
                self.revision += Revision::from(sub > 0);
                Ok(reply)
            }
            Err(rejection) => {
                *self = before;
                Err(rejection)
            }
        }
    }

    fn run(&mut self, before: &Self, txn: &Txn, sub: &mut u32) -> Result<TxnReply, Rejection> {
        let succeeded = txn.compares.iter().all(|c| before.holds(c));
        let mut replies = vec![];
        for op in before.branch(txn) {
            let next = before.revision + 1;
            replies.push(match op {
                Op::Txn(inner) => OpReply::Txn(self.run(before, inner, sub)?),
                Op::Put(put) => {
                    let old = self.live_at(&put.key, next);
                    if (put.value.is_none() || put.lease.is_none()) && old.is_none() {
                        return Err(Rejection::KeyNotFound);
                    }
                    let kv = KeyValue {
                        key: put.key.clone(),
                        create_revision: old.as_ref().map_or(next, |kv| kv.create_revision),
                        mod_revision: next,
                        version: old.as_ref().map_or(1, |kv| kv.version + 1),
                        value: match &put.value {
                            Some(value) => value.clone(),
                            None => old.as_ref().unwrap().value.clone(),
                        },
                        lease: put.lease.unwrap_or_else(|| old.as_ref().unwrap().lease),
                    };
                    self.push(&put.key, next, sub, Some(kv));
                    OpReply::Put {
                        revision: next,
                        prev_kv: old.filter(|_| put.prev_kv),
                    }
                }
                Op::Delete(Delete { range, prev_kv, .. }) => {
                    let found = self.in_range(range, next);
                    for kv in &found {
                        self.push(&kv.key.clone(), next, sub, None);
                    }
                    let revision = before.revision + Revision::from(*sub > 0);
                    let deleted = found.len() as i64;
                    let prev_kvs = if *prev_kv { found } else { vec![] };
                    OpReply::Delete {
                        revision,
                        deleted,
                        prev_kvs,
                    }
                }
                Op::Range(range) => {
                    let now = before.revision + Revision::from(*sub > 0);
                    let at = if range.revision <= 0 {
                        now
                    } else {
                        range.revision
                    };
                    OpReply::Range {
                        revision: now,
                        reply: self.range_at(range, at),
                    }
                }
            });
        }
        Ok(TxnReply { succeeded, replies })
    }

    fn push(&mut self, key: &Bytes, revision: Revision, sub: &mut u32, after: Option<KeyValue>) {
        self.keys.entry(key.clone()).or_default().push((
            At {
                revision,
                sub: *sub,
            },
            after,
        ));
        *sub += 1;
    }

    pub(super) fn attached(&self, id: LeaseId) -> Vec<Bytes> {
        let live = self.in_range(&KeyRange::all(), self.revision);
        live.into_iter()
            .filter(|kv| kv.lease == id)
            .map(|kv| kv.key)
            .collect()
    }

    pub(super) fn revoke(&mut self, id: LeaseId) -> Result<(), Rejection> {
        if !self.leases.contains_key(&id) {
            return Err(Rejection::LeaseNotFound);
        }
        let mut sub = 0;
        for key in self.attached(id) {
            self.push(&key, self.revision + 1, &mut sub, None);
        }
        self.revision += Revision::from(sub > 0);
        self.leases.remove(&id);
        Ok(())
    }

    pub(super) fn compact(&mut self, revision: Revision) -> Result<(), Rejection> {
        if revision == 0 && self.compacted == 0 {
            return Ok(());
        }
        if revision <= self.compacted {
            return Err(Rejection::Compacted {
                compacted: self.compacted,
            });
        }
        if revision > self.revision {
            return Err(Rejection::FutureRevision {
                current: self.revision,
            });
        }
        self.compacted = revision;
        Ok(())
    }

    /// What must be retained, by the rule as it is written down: everything at or above the compacted
    /// revision, and what a reader at it sees.
    pub(super) fn retained(&self) -> BTreeSet<(At, Bytes)> {
        let mut retained = BTreeSet::new();
        for (key, versions) in &self.keys {
            for (at, _) in versions
                .iter()
                .filter(|(at, _)| at.revision >= self.compacted)
            {
                retained.insert((*at, key.clone()));
            }
            let seen = versions
                .iter()
                .rev()
                .find(|(at, _)| at.revision <= self.compacted);
            if let Some((at, Some(_))) = seen {
                retained.insert((*at, key.clone()));
            }
        }
        retained
    }
}
