//! The machine, behaviour by behaviour, and against a naive store.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod cluster;
mod model;
mod naive;
mod replicas;
mod requests;
mod rules;

use std::sync::Arc;

use bytes::Bytes;
use meridian_domain::command::{Command, Guards, Proposal, Receipt, Reply, Verdict};
use meridian_domain::key::{KeyRange, Space};
use meridian_domain::kv::{LeaseId, Put, Range, RangeReply};
use meridian_domain::name::TenantId;
use meridian_domain::rejection::Rejection;
use meridian_domain::revision::{LogId, Revision};
use meridian_domain::stamp::{RequestId, Stamp};
use meridian_domain::txn::{Op, Txn};
use meridian_domain::view::View;
use meridian_proto::record::proposal;

use super::{Frozen, Machine, Settings};
use crate::fault::Fault;
use crate::history::{self, History};
use crate::row::{Rows, Version};
use crate::store::Tenant;

/// A machine with its history, fed entry by entry.
pub(super) struct Rig {
    pub(super) machine: Machine,
    pub(super) history: History,
    pub(super) at: LogId,
}

pub(super) fn empty_history() -> History {
    History::in_memory(history::Settings::default()).unwrap()
}

impl Rig {
    pub(super) fn new() -> Self {
        let history = empty_history();
        let machine = Machine::new(history.clone(), Settings::default());
        Self {
            machine,
            history,
            at: LogId { term: 1, index: 0 },
        }
    }

    /// Applies the next entry.
    pub(super) fn apply(&mut self, record: &Bytes) -> Receipt {
        self.at.index += 1;
        self.machine.apply(self.at, record)
    }

    /// Applies a command of the default tenant, and publishes it.
    pub(super) fn run(&mut self, command: Command) -> Receipt {
        let receipt = self.apply(&record(&proposal_of(command)));
        self.machine.publish();
        receipt
    }

    pub(super) fn put(&mut self, key: &str, value: &str) -> Receipt {
        self.run(put(key, value))
    }

    pub(super) fn tenant(&self) -> Arc<Tenant> {
        self.machine.store().tenant(TenantId::DEFAULT).unwrap()
    }

    /// Reads everything of the default tenant.
    pub(super) fn all(&self, revision: Revision) -> Result<RangeReply, Rejection> {
        let range = Range {
            revision,
            ..Range::of(Space::RAW, KeyRange::all())
        };
        self.tenant().view().range(&range)
    }

    /// The state as rows, as a snapshot would hold them.
    pub(super) fn rows(&self) -> Kept {
        Kept::of(&self.machine.freeze(), &self.history)
    }
}

pub(super) fn proposal_of(command: Command) -> Proposal {
    Proposal {
        tenant: TenantId::DEFAULT,
        request_id: None,
        actor: "anonymous".into(),
        stamp: Stamp {
            unix_ms: 1_700_000_000_000,
        },
        guards: Guards::default(),
        command,
    }
}

pub(super) fn with_id(mut proposal: Proposal, id: &str) -> Proposal {
    proposal.request_id = Some(RequestId::new(Bytes::copy_from_slice(id.as_bytes())).unwrap());
    proposal
}

pub(super) fn record(proposal: &Proposal) -> Bytes {
    proposal::encode(proposal)
}

pub(super) fn put_op(key: &str, value: &str, lease: LeaseId) -> Op {
    Op::Put(Put {
        space: Space::RAW,
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        lease: Some(lease),
        prev_kv: false,
    })
}

pub(super) fn put(key: &str, value: &str) -> Command {
    Command::Txn(Txn::once(put_op(key, value, 0)))
}

pub(super) fn rejection(receipt: &Receipt) -> &Rejection {
    match &receipt.verdict {
        Verdict::Rejected(rejection) => rejection,
        other => panic!("not rejected: {other:?}"),
    }
}

pub(super) fn reply(receipt: &Receipt) -> &Reply {
    match &receipt.verdict {
        Verdict::Applied(reply) => reply,
        other => panic!("not applied: {other:?}"),
    }
}

/// Rows held in memory.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kept {
    applied: LogId,
    pub(super) facts: Vec<(Bytes, Bytes)>,
    pub(super) versions: Vec<(TenantId, Version)>,
}

impl Kept {
    /// What a snapshot of this state holds.
    pub(super) fn of(frozen: &Frozen, history: &History) -> Self {
        let mut versions = vec![];
        let pin = history.pin();
        for (id, keyspace) in &frozen.tenants {
            pin.versions(*id, keyspace.revision(), &mut |version| {
                if keyspace.retains(version.space, &version.key, version.at) {
                    versions.push((*id, Version::clone(version)));
                }
                Ok(())
            })
            .unwrap();
        }
        Self {
            applied: frozen.applied,
            facts: frozen.facts.to_vec(),
            versions,
        }
    }
}

impl Rows for Kept {
    fn applied(&self) -> LogId {
        self.applied
    }

    fn facts(&mut self) -> Result<Vec<(Bytes, Bytes)>, Fault> {
        Ok(self.facts.clone())
    }

    fn versions(
        &mut self,
        each: &mut dyn FnMut(TenantId, Version) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        for (tenant, version) in &self.versions {
            each(*tenant, version.clone())?;
        }
        Ok(())
    }
}

#[test]
fn an_undecodable_record_is_refused_and_passed_over() {
    let mut rig = Rig::new();
    let receipt = rig.apply(&Bytes::from_static(b"\xffnonsense"));
    assert_eq!(rejection(&receipt), &Rejection::UnknownProposal);
    assert_eq!(rig.machine.applied(), rig.at);
    assert_eq!(rig.put("a", "1").revision, 2);
}

#[test]
fn what_was_applied_shows_after_publishing_and_not_before() {
    let mut rig = Rig::new();
    let before = rig.tenant().view();
    rig.apply(&record(&proposal_of(put("a", "1"))));
    assert_eq!(rig.all(0).unwrap().count, 0);
    assert_eq!(rig.machine.store().applied(), LogId::default());
    rig.machine.publish();
    assert_eq!(rig.all(0).unwrap().count, 1);
    assert_eq!(rig.machine.store().applied(), rig.at);
    assert_eq!(rig.tenant().hub().revision(), 2);
    assert_eq!(before.revision(), 1, "a view that is held does not change");
}

#[test]
fn a_view_that_is_held_reads_on_after_its_keys_were_overwritten_and_deleted() {
    let mut rig = Rig::new();
    for i in 0..100 {
        rig.put(&format!("k{i:02}"), "old");
    }
    let view = rig.tenant().view();
    for i in 0..100 {
        rig.put(&format!("k{i:02}"), "new");
    }
    let reply = view.range(&Range::of(Space::RAW, KeyRange::all())).unwrap();
    assert_eq!(reply.count, 100);
    assert!(reply.kvs.iter().all(|kv| kv.value == "old"));
}

#[test]
fn a_read_within_a_batch_finds_versions_that_history_has_not_seen() {
    let mut rig = Rig::new();
    rig.apply(&record(&proposal_of(put("a", "1"))));
    rig.apply(&record(&proposal_of(put("a", "2"))));
    let old = Range {
        revision: 2,
        ..Range::of(Space::RAW, KeyRange::all())
    };
    let txn = Txn {
        success: vec![put_op("a", "3", 0), Op::Range(old)],
        ..Txn::default()
    };
    let receipt = rig.apply(&record(&proposal_of(Command::Txn(txn))));
    let Reply::Txn(txn) = reply(&receipt) else {
        panic!()
    };
    let meridian_domain::txn::OpReply::Range { revision, reply } = &txn.replies[1] else {
        panic!()
    };
    assert_eq!((*revision, reply.kvs[0].value.as_ref()), (4, &b"1"[..]));
}

#[test]
fn an_old_view_says_compacted_once_its_history_is_gone() {
    let mut rig = Rig::new();
    rig.put("a", "1");
    rig.put("a", "2");
    rig.put("a", "3");
    let view = rig.tenant().view();
    let old = Range {
        revision: 2,
        ..Range::of(Space::RAW, KeyRange::all())
    };
    assert_eq!(view.range(&old).unwrap().kvs[0].value, "1");
    rig.run(Command::Compact { revision: 4 });
    while rig.machine.reclaim(1) {}
    rig.history.flush().unwrap();
    assert_eq!(view.range(&old), Err(Rejection::Compacted { compacted: 4 }));
    assert!(view.fault().is_none());
    assert_eq!(
        view.range(&Range::of(Space::RAW, KeyRange::all()))
            .unwrap()
            .kvs[0]
            .value,
        "3"
    );
}

#[test]
fn the_digest_is_published_at_multiples_of_a_thousand() {
    let mut rig = Rig::new();
    for _ in 0..2_500 {
        rig.apply(&record(&proposal_of(put("a", "1"))));
    }
    let digests = rig.machine.store().digests();
    let at: Vec<u64> = digests.iter().map(|digest| digest.applied.index).collect();
    assert_eq!(at, [1000, 2000]);
    assert_ne!(digests[0].hash, digests[1].hash);
}
