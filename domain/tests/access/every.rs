//! Everything that can be asked requires something, and nothing that is asked with no rights is allowed.

use meridian_domain::access::change::AccessQuery;
use meridian_domain::access::key::{self, Key};
use meridian_domain::access::policy::{Policy, Trust};
use meridian_domain::access::required::required_permissions;
use meridian_domain::access::token::Token;
use meridian_domain::access::{Identity, shipped};
use meridian_domain::command::{AlarmKind, MemberRecord};
use meridian_domain::name::TenantName;
use meridian_domain::rejection::Rejection;
use meridian_domain::tenant::{Quota, Retention};

use super::*;

/// One of every intent. The match below breaks when one is added and not here.
fn intents() -> Vec<Intent> {
    let name = || TenantName::new("x").unwrap();
    let (quota, retention) = (Quota::default(), Retention::default());
    let mut all = vec![
        Intent::Put(put("k")),
        Intent::Delete(delete("k")),
        Intent::Txn(Txn::once(Op::Put(put("k")))),
        Intent::LeaseGrant {
            id: 1,
            ttl_seconds: 1,
            ttl_seconds_min: 1,
        },
        Intent::LeaseRevoke { id: 1 },
        Intent::LeaseExpire { id: 1, term: 1 },
        Intent::LeaseCheckpoint {
            remaining: vec![],
            term: 1,
        },
        Intent::Compact { revision: 1 },
        Intent::TenantCreate {
            name: name(),
            quota,
            retention,
        },
        Intent::TenantChange {
            name: name(),
            quota: None,
            retention: None,
        },
        Intent::TenantDelete { name: name() },
        Intent::Alarm {
            member: 1,
            kind: AlarmKind::NoSpace,
            raised: true,
        },
        Intent::MemberPublish(MemberRecord::default()),
        Intent::MemberForget { id: 1 },
    ];
    for intent in &all {
        match intent {
            Intent::Put(_)
            | Intent::Delete(_)
            | Intent::Txn(_)
            | Intent::LeaseGrant { .. }
            | Intent::LeaseRevoke { .. }
            | Intent::LeaseExpire { .. }
            | Intent::LeaseCheckpoint { .. }
            | Intent::Compact { .. }
            | Intent::TenantCreate { .. }
            | Intent::TenantChange { .. }
            | Intent::TenantDelete { .. }
            | Intent::Alarm { .. }
            | Intent::MemberPublish(_)
            | Intent::MemberForget { .. }
            | Intent::Access(_) => {}
        }
    }
    all.extend(changes().into_iter().map(Intent::Access));
    all
}

fn changes() -> Vec<AccessChange> {
    let name = || Box::<str>::from("role");
    let subject = || Subject::User("root".into());
    let token = Token {
        id: "t".into(),
        digest: [0; 32],
        holder: "x".into(),
        roles: vec![],
        issued_ms: 0,
        expires_ms: 1,
        networks: vec![],
        bound_to: None,
    };
    let all = vec![
        AccessChange::RoleAdd { name: name() },
        AccessChange::RoleDelete { name: name() },
        AccessChange::RoleParents {
            name: name(),
            parents: vec![],
        },
        AccessChange::Grant {
            role: name(),
            effect: Effect::Allow,
            verbs: verbs("read"),
            scope: scope("k"),
            conditions: Conditions::default(),
        },
        AccessChange::Revoke {
            role: name(),
            number: 1,
        },
        AccessChange::PermissionGrant {
            role: name(),
            permission: None,
        },
        AccessChange::PermissionRevoke {
            role: name(),
            range: keys("k"),
        },
        AccessChange::UserAdd {
            name: name(),
            password: None,
        },
        AccessChange::UserDelete { name: name() },
        AccessChange::UserPassword {
            name: name(),
            password: None,
        },
        AccessChange::Assign {
            subject: subject(),
            assignment: Assignment::of("role"),
        },
        AccessChange::Unassign {
            subject: subject(),
            role: name(),
        },
        AccessChange::TokenIssue(token),
        AccessChange::TokenRevoke { id: name() },
        AccessChange::Enable,
        AccessChange::Disable,
        AccessChange::PolicySet(Policy::default()),
        AccessChange::TrustSet(Trust::default()),
        AccessChange::KeyKeep {
            name: key::SESSION,
            key: Key([0; 32]),
        },
    ];
    for change in &all {
        match change {
            AccessChange::RoleAdd { .. }
            | AccessChange::RoleDelete { .. }
            | AccessChange::RoleParents { .. }
            | AccessChange::Grant { .. }
            | AccessChange::Revoke { .. }
            | AccessChange::PermissionGrant { .. }
            | AccessChange::PermissionRevoke { .. }
            | AccessChange::UserAdd { .. }
            | AccessChange::UserDelete { .. }
            | AccessChange::UserPassword { .. }
            | AccessChange::Assign { .. }
            | AccessChange::Unassign { .. }
            | AccessChange::TokenIssue(_)
            | AccessChange::TokenRevoke { .. }
            | AccessChange::Enable
            | AccessChange::Disable
            | AccessChange::PolicySet(_)
            | AccessChange::TrustSet(_)
            | AccessChange::KeyKeep { .. } => {}
        }
    }
    all
}

/// One of every query but the one that everybody may ask.
fn queries() -> Vec<Query> {
    let root = || Box::<str>::from("root");
    let all = vec![
        Query::Range(range("k")),
        Query::Txn(Txn::once(Op::Range(range("k")))),
        Query::Lease { id: 1, keys: false },
        Query::Leases,
        Query::Tenants,
        Query::Alarms,
        Query::Members,
        Query::Access(AccessQuery::Users),
        Query::Access(AccessQuery::User(root())),
        Query::Access(AccessQuery::Roles),
        Query::Access(AccessQuery::Role(root())),
        Query::Access(AccessQuery::Binding(Subject::User(root()))),
        Query::Access(AccessQuery::Tokens),
        Query::Access(AccessQuery::Policy),
        Query::Access(AccessQuery::Trust),
        Query::Access(AccessQuery::Can {
            identity: Identity::user(meridian_domain::name::TenantId::DEFAULT, "root"),
            verb: Verb::Read,
            space: Space::RAW,
            range: keys("k"),
            now_ms: 0,
        }),
    ];
    for query in &all {
        match query {
            Query::Range(_)
            | Query::Txn(_)
            | Query::Lease { .. }
            | Query::Leases
            | Query::Tenants
            | Query::Alarms
            | Query::Members => {}
            Query::Access(query) => match query {
                AccessQuery::Status
                | AccessQuery::Users
                | AccessQuery::User(_)
                | AccessQuery::Roles
                | AccessQuery::Role(_)
                | AccessQuery::Binding(_)
                | AccessQuery::Tokens
                | AccessQuery::Policy
                | AccessQuery::Trust
                | AccessQuery::Can { .. } => {}
            },
        }
    }
    all
}

fn everything() -> Vec<Ask> {
    let mut all: Vec<Ask> = intents().into_iter().map(Ask::Write).collect();
    all.extend(queries().into_iter().map(Ask::Read));
    all.extend(Operation::ALL.map(Ask::Operate));
    all.push(Ask::Watch(Space::RAW, keys("k")));
    all.push(Ask::KeepAlive(1));
    all
}

#[test]
fn everything_requires_something() {
    let stage = world(1, &[]);
    for ask in everything() {
        let required = required_permissions(&stage, None, ask.action()).unwrap();
        assert!(!required.is_empty(), "{ask:?}");
    }
    let status = Query::Access(AccessQuery::Status);
    assert_eq!(stage.may("anonymous", Action::Read(&status)), Ok(()));
}

#[test]
fn nobody_without_rights_does_anything() {
    let stage = world(1, &[]);
    for ask in everything() {
        let no = stage.may("eve", ask.action());
        let refused = matches!(
            no,
            Err(Rejection::Forbidden { .. } | Rejection::PermissionDenied)
        );
        assert!(refused, "{ask:?} came to {no:?}");
        assert_eq!(
            stage.may("anonymous", ask.action()),
            Err(Rejection::UserNameEmpty)
        );
    }
}

#[test]
fn everything_is_allowed_while_authentication_is_off() {
    let untouched = Stage::empty();
    let mut off = world(1, &[]);
    off.change("root", AccessChange::Disable).unwrap();
    for ask in everything() {
        assert_eq!(untouched.may("anonymous", ask.action()), Ok(()), "{ask:?}");
        assert_eq!(off.may("anonymous", ask.action()), Ok(()), "{ask:?}");
    }
}

/// Names, read, write, watch, delete; users, policy, compaction; members, alarms, tenants, snapshots. A dot is no.
const TABLE: &str = "
    viewer          l...........
    reader          lr.w........
    secret-reader   ............
    flag-client     ............
    editor          lrWwD.......
    operator        l...........
    approver        ............
    secret-admin    l.W.D.......
    policy-admin    .....UP.....
    auditor         ............
    key-custodian   ............
    tenant-admin    .....UPC....
    cluster-admin   ........MAT.
    backup-operator ...........S
    root            lrWwDUPCMATS
";

#[test]
fn shipped_roles_may_what_the_table_says() {
    let mut names = range("k");
    names.keys_only = true;
    let user = AccessChange::UserAdd {
        name: "new".into(),
        password: None,
    };
    let role = AccessChange::RoleAdd { name: "new".into() };
    let alarm = Intent::Alarm {
        member: 1,
        kind: AlarmKind::NoSpace,
        raised: false,
    };
    let tenant = Intent::TenantDelete {
        name: TenantName::new("x").unwrap(),
    };
    let columns = [
        ('l', Ask::Read(Query::Range(names))),
        ('r', Ask::Read(Query::Range(range("k")))),
        ('W', Ask::Write(Intent::Put(put("k")))),
        ('w', Ask::Watch(Space::RAW, keys("k"))),
        ('D', Ask::Write(Intent::Delete(delete("k")))),
        ('U', Ask::Write(Intent::Access(user))),
        ('P', Ask::Write(Intent::Access(role))),
        ('C', Ask::Write(Intent::Compact { revision: 1 })),
        ('M', Ask::Operate(Operation::MemberChange)),
        ('A', Ask::Write(alarm)),
        ('T', Ask::Write(tenant)),
        ('S', Ask::Operate(Operation::Snapshot)),
    ];
    let rows: Vec<(&str, &str)> = TABLE
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .map(|(role, marks)| (role, marks.trim()))
        .collect();
    assert_eq!(
        rows.len(),
        shipped::ROLES.len() + 1,
        "every shipped role, and root"
    );
    for (role, marks) in rows {
        let mut stage = world(1, &[]);
        let role: Box<str> = match role {
            "root" => "root".into(),
            shipped => format!("meridian:{shipped}").into(),
        };
        let assign = AccessChange::Assign {
            subject: Subject::User("eve".into()),
            assignment: Assignment::of(&role),
        };
        assert_eq!(stage.change("root", assign), Ok(true), "{role}");
        let found: String = columns
            .iter()
            .map(|(mark, ask)| {
                if stage.may("eve", ask.action()).is_ok() {
                    *mark
                } else {
                    '.'
                }
            })
            .collect();
        assert_eq!(found, marks, "{role}");
    }
}
