//! Deriving the record of a write from what was proposed and what came of it. Pure, and the same on every member.

use sha2::{Digest, Sha256};

use crate::access::verb::Verb;
use crate::audit::record::{Deed, Origin, Outcome, ROWS_NAMED_MAX, Record, Row};
use crate::audit::tree::{Hash, Tree};
use crate::changes::{Change, Changes};
use crate::command::{Command, Receipt, Verdict};
use crate::key::Space;
use crate::kv::KeyValue;
use crate::name::TenantId;
use crate::rejection::Rejection;
use crate::stamp::{RequestId, Stamp};
use crate::txn::{Op, Txn};

/// What a proposal says beside its command.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// Whose state it changes.
    pub tenant: TenantId,
    /// Its own name.
    pub request_id: Option<&'a RequestId>,
    /// Who asked.
    pub actor: &'a str,
    /// When.
    pub stamp: Stamp,
    /// The rules it was planned under.
    pub rules_revision: Option<u64>,
    /// What the edge knew.
    pub origin: Option<&'a Origin>,
}

/// The record of a write. None for what leaves none: a stale plan, whose request comes again, and what a member or the
/// leader tells of itself as a matter of course.
pub fn record(
    header: &Header<'_>,
    command: &Command,
    changes: Option<&Changes>,
    receipt: &Receipt,
) -> Option<Record> {
    let outcome = match &receipt.verdict {
        Verdict::Stale => return None,
        Verdict::Applied(_) => Outcome::Done,
        Verdict::Rejected(no @ (Rejection::PermissionDenied | Rejection::Forbidden { .. })) => {
            Outcome::Denied {
                code: no.code().into(),
            }
        }
        Verdict::Rejected(no) => Outcome::Refused {
            code: no.code().into(),
        },
    };
    let (deed, verb, object) = what(command, changes)?;
    let rows = changes.map_or(&[][..], |changes| &changes.rows);
    let named = rows.iter().take(ROWS_NAMED_MAX);
    let rows_root = (rows.len() > ROWS_NAMED_MAX).then(|| root_over(header.tenant, rows));
    Some(Record {
        tenant: header.tenant,
        stamp: header.stamp,
        log_id: Some(receipt.log_id),
        actor: header.actor.into(),
        origin: header.origin.cloned().unwrap_or_default(),
        request_id: header.request_id.map(|id| id.as_bytes().clone()),
        deed,
        verb: Some(verb),
        object,
        revision: receipt.revision,
        rules_revision: header.rules_revision,
        outcome,
        rows: named.map(|change| row(header.tenant, change)).collect(),
        rows_count: rows.len() as u64,
        rows_root,
    })
}

/// What a command does, with which verb, to what.
fn what(command: &Command, changes: Option<&Changes>) -> Option<(Deed, Verb, Box<str>)> {
    let nothing = || Box::from("");
    let lease = |id: i64| format!("{id:x}").into();
    Some(match command {
        Command::Txn(txn) if touches_rules(txn, changes) => {
            (Deed::Access, Verb::PolicyWrite, nothing())
        }
        Command::Txn(txn) => {
            let verb = if txn.has_put() {
                Verb::Write
            } else {
                Verb::Delete
            };
            (Deed::Txn, verb, nothing())
        }
        Command::LeaseGrant { id, .. } => (Deed::LeaseGrant, Verb::Write, lease(*id)),
        Command::LeaseRevoke { id } => (Deed::LeaseRevoke, Verb::Delete, lease(*id)),
        Command::Compact { revision } => {
            let at = revision.to_string().into();
            (Deed::Compact, Verb::TenantCompact, at)
        }
        Command::TenantCreate { name, .. } => {
            let name = name.as_str().into();
            (Deed::TenantCreate, Verb::TenantCreate, name)
        }
        Command::TenantChange { name, .. } => {
            let name = name.as_str().into();
            (Deed::TenantChange, Verb::TenantChange, name)
        }
        Command::TenantDelete { name } => {
            let name = name.as_str().into();
            (Deed::TenantDelete, Verb::TenantChange, name)
        }
        Command::Alarm { member, .. } => {
            let member = format!("{member:x}").into();
            (Deed::Alarm, Verb::ClusterAlarm, member)
        }
        Command::MemberForget { id } => {
            let member = format!("{id:x}").into();
            (Deed::Member, Verb::ClusterMember, member)
        }
        Command::LeaseCheckpoint { .. } | Command::MemberPublish(_) => return None,
    })
}

/// Whether a transaction is a change of rules: by what it changed, or, if it was refused, by what it would have.
fn touches_rules(txn: &Txn, changes: Option<&Changes>) -> bool {
    let is_rule = |space: Space| matches!(space, Space::ACCESS | Space::CREDENTIALS);
    match changes {
        Some(changes) => changes.rows.iter().any(|row| is_rule(row.space)),
        None => txn.success.iter().any(|op| match op {
            Op::Put(put) => is_rule(put.space),
            Op::Delete(delete) => is_rule(delete.space),
            Op::Range(_) | Op::Txn(_) => false,
        }),
    }
}

fn row(tenant: TenantId, change: &Change) -> Row {
    let of = |kv: &Option<std::sync::Arc<KeyValue>>| {
        kv.as_ref().map(|kv| value_hash(tenant, change.space, kv))
    };
    Row {
        space: change.space,
        key: change.key.clone(),
        before: of(&change.before),
        after: of(&change.after),
    }
}

/// The hash of a value, bound to where and when it stood, so that equal values do not show as equal.
pub fn value_hash(tenant: TenantId, space: Space, kv: &KeyValue) -> Hash {
    let mut hash = Sha256::new();
    hash.update([0x02, space.0]);
    hash.update(tenant.0.to_be_bytes());
    hash.update(kv.mod_revision.to_be_bytes());
    hash.update((kv.key.len() as u64).to_be_bytes());
    hash.update(&kv.key);
    hash.update(&kv.value);
    hash.finalize().into()
}

/// The root of a tree whose leaves are the rows: space, key and both hashes, absent ones as zeros.
fn root_over(tenant: TenantId, rows: &[Change]) -> Hash {
    let mut tree = Tree::default();
    for change in rows {
        let Row {
            space,
            key,
            before,
            after,
        } = row(tenant, change);
        let mut leaf = vec![space.0];
        leaf.extend_from_slice(&(key.len() as u64).to_be_bytes());
        leaf.extend_from_slice(&key);
        for side in [before, after] {
            leaf.push(u8::from(side.is_some()));
            leaf.extend_from_slice(&side.unwrap_or_default());
        }
        tree.append(&leaf);
    }
    tree.root()
}
