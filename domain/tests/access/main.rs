//! Who may do what, from outside: bypasses that other stores had, an oracle for intervals, and a walk over everything
//! that can be asked.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod bypass;
mod every;
mod identity;
mod oracle;
#[path = "../stage/mod.rs"]
mod stage;

use bytes::Bytes;
use meridian_domain::access::change::AccessChange;
use meridian_domain::access::grant::{Conditions, Effect};
use meridian_domain::access::principal::Subject;
use meridian_domain::access::role::Assignment;
use meridian_domain::access::scope::Scope;
use meridian_domain::access::verb::{Verb, Verbs};
use meridian_domain::access::{Action, Operation};
use meridian_domain::intent::Intent;
use meridian_domain::key::{KeyRange, RangeEnd, Space};
use meridian_domain::kv::{Delete, LeaseId, Put, Range};
use meridian_domain::query::Query;
use meridian_domain::txn::{Compare, Op, Operand, Relation, Txn};
use stage::Stage;

/// Something to be asked for, owned.
#[derive(Clone, Debug)]
enum Ask {
    Write(Intent),
    Read(Query),
    Watch(Space, KeyRange),
    KeepAlive(LeaseId),
    Operate(Operation),
}

impl Ask {
    fn action(&self) -> Action<'_> {
        match self {
            Self::Write(intent) => Action::Write(intent),
            Self::Read(query) => Action::Read(query),
            Self::Watch(space, range) => Action::Watch {
                space: *space,
                range,
            },
            Self::KeepAlive(lease) => Action::KeepAlive(*lease),
            Self::Operate(operation) => Action::Operate(*operation),
        }
    }
}

/// `a` one key, `a..c` a range, `a..` from a key on.
fn keys(text: &'static str) -> KeyRange {
    match text.split_once("..") {
        None => KeyRange::single(text.into()),
        Some((start, "")) => KeyRange {
            start: start.into(),
            end: RangeEnd::Open,
        },
        Some((start, end)) => KeyRange {
            start: start.into(),
            end: RangeEnd::Before(end.into()),
        },
    }
}

fn range(text: &'static str) -> Range {
    Range::of(Space::RAW, keys(text))
}

fn put(key: &'static str) -> Put {
    Put {
        space: Space::RAW,
        key: key.into(),
        value: Some(Bytes::from_static(b"v")),
        lease: Some(0),
        prev_kv: false,
    }
}

fn delete(text: &'static str) -> Delete {
    Delete {
        space: Space::RAW,
        range: keys(text),
        prev_kv: false,
    }
}

fn compare(text: &'static str, operand: Operand) -> Compare {
    Compare {
        space: Space::RAW,
        range: keys(text),
        relation: Relation::Equal,
        operand,
    }
}

fn nested(op: Op, levels: usize) -> Txn {
    (1..levels).fold(Txn::once(op), |inner, level| {
        let mut outer = Txn::default();
        let branch = if level % 2 == 0 {
            &mut outer.success
        } else {
            &mut outer.failure
        };
        branch.push(Op::Txn(inner));
        outer
    })
}

/// Verbs by name, or `read!` and `write!` for what etcd means by these.
fn verbs(text: &str) -> Verbs {
    text.split(' ').fold(Verbs::NONE, |all, name| {
        all.and(match name {
            "read!" => Verbs::ETCD_READ,
            "write!" => Verbs::ETCD_WRITE,
            name => Verbs::of(&[Verb::named(name).unwrap()]),
        })
    })
}

fn scope(text: &'static str) -> Scope {
    let space = Space::RAW;
    match text.split_once(':') {
        None if text == "tenant" => Scope::Tenant,
        None if text == "cluster" => Scope::Cluster,
        None => Scope::raw(keys(text)),
        Some(("prefix", prefix)) => Scope::Prefix {
            space,
            prefix: prefix.into(),
        },
        Some((_, path)) => Scope::Path {
            space,
            path: path.into(),
        },
    }
}

/// A tenant whose user `eve` has these grants: verbs on a scope; a leading `-` denies.
fn world(id: u32, grants: &[(&'static str, &'static str)]) -> Stage {
    let mut stage = Stage::of(id, if id == 1 { "default" } else { "other" });
    let role = || Box::<str>::from("role");
    let mut change = |change| assert!(stage.change("anonymous", change).unwrap());
    for name in ["root", "eve"] {
        change(AccessChange::UserAdd {
            name: name.into(),
            password: None,
        });
    }
    change(AccessChange::RoleAdd { name: role() });
    for (what, on) in grants {
        let denied = what.strip_prefix('-');
        change(AccessChange::Grant {
            role: role(),
            effect: if denied.is_some() {
                Effect::Deny
            } else {
                Effect::Allow
            },
            verbs: verbs(denied.unwrap_or(what)),
            scope: scope(on),
            conditions: Conditions::default(),
        });
    }
    for (user, role) in [("root", "root".into()), ("eve", role())] {
        change(AccessChange::Assign {
            subject: Subject::User(user.into()),
            assignment: Assignment {
                role,
                ..Assignment::default()
            },
        });
    }
    change(AccessChange::Enable);
    // Lease 7 holds a key of eve's, 8 one of hers and one of another's, 6 one of another's, 9 none.
    stage.put("a/1", "v", 7);
    stage.put("a/2", "v", 8);
    stage.put("b/1", "v", 8);
    stage.put("b/2", "v", 6);
    stage.leases.push(9);
    stage
}
