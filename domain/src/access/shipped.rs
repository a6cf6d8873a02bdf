//! The roles that come with the product, as data.
//!
//! Their names begin with `meridian:`, which no role of a tenant may, so that nobody can give one of these names
//! another meaning. They are assigned with a scope: `meridian:editor` on the path `payments`.
//!
//! What a role does *not* have is as much its meaning as what it has: no administrator reads data without a grant, and
//! nobody reveals what is sealed by accident.

use crate::access::grant::{Conditions, Effect, Grant};
use crate::access::role::{ROOT, Role};
use crate::access::scope::Scope;
use crate::access::verb::{Verb, Verbs};

/// How the names of shipped roles begin.
pub const RESERVED: &str = "meridian:";

/// A shipped role.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    /// Its name behind [`RESERVED`].
    pub name: &'static str,
    /// What it may do.
    pub verbs: Verbs,
    /// Whether it is on the cluster as a whole, not on a tenant.
    pub cluster: bool,
    /// In a sentence.
    pub meaning: &'static str,
}

const VIEW: Verbs = Verbs::of(&[Verb::List, Verb::ReadMeta, Verb::ReadMasked]);
const READ: Verbs = VIEW.and(Verbs::of(&[Verb::Read, Verb::Watch]));
const POLICY: Verbs = Verbs::of(&[
    Verb::PolicyRead,
    Verb::PolicyWrite,
    Verb::AuthRead,
    Verb::AuthWrite,
]);
const CLUSTER: Verbs = Verbs::of(&[
    Verb::ClusterRead,
    Verb::ClusterMember,
    Verb::ClusterAlarm,
    Verb::ClusterMaintain,
    Verb::ClusterTenants,
    Verb::TenantCreate,
    Verb::TenantChange,
]);
const BACKUP: Verbs = Verbs::of(&[Verb::BackupCreate, Verb::BackupRestore]);
/// What `root` may do in its own tenant: data, rules and the tenant itself. Not audit, not keys.
pub(super) const ROOT_TENANT: Verbs = READ
    .and(Verbs::of(&[
        Verb::Reveal,
        Verb::Evaluate,
        Verb::Write,
        Verb::Delete,
        Verb::Destroy,
        Verb::Rollback,
        Verb::Reclassify,
        Verb::TenantRead,
        Verb::TenantCompact,
    ]))
    .and(POLICY);

const fn on_tenant(name: &'static str, verbs: Verbs, meaning: &'static str) -> Shipped {
    Shipped {
        name,
        verbs,
        cluster: false,
        meaning,
    }
}

const fn on_cluster(name: &'static str, verbs: Verbs, meaning: &'static str) -> Shipped {
    Shipped {
        name,
        verbs,
        cluster: true,
        meaning,
    }
}

/// Every shipped role.
pub const ROLES: &[Shipped] = &[
    on_tenant("viewer", VIEW, "sees which keys there are, values masked"),
    on_tenant("reader", READ, "reads and watches configuration"),
    on_tenant(
        "secret-reader",
        Verbs::of(&[Verb::ReadMeta, Verb::Reveal, Verb::Watch]),
        "a machine that needs named secrets, and lists nothing",
    ),
    on_tenant(
        "flag-client",
        Verbs::of(&[Verb::Evaluate, Verb::Watch]),
        "a machine that evaluates flags without seeing their rules",
    ),
    on_tenant(
        "editor",
        READ.and(Verbs::of(&[Verb::Write, Verb::Delete, Verb::Propose])),
        "changes configuration",
    ),
    on_tenant(
        "operator",
        VIEW.and(Verbs::of(&[Verb::Rollback, Verb::RotationRun, Verb::Apply])),
        "rolls back, rotates, applies what was approved",
    ),
    on_tenant(
        "approver",
        Verbs::of(&[Verb::ReadMasked, Verb::Approve]),
        "approves changes of others, writes none",
    ),
    on_tenant(
        "secret-admin",
        Verbs::of(&[
            Verb::List,
            Verb::ReadMeta,
            Verb::Write,
            Verb::Delete,
            Verb::Destroy,
            Verb::Reclassify,
            Verb::RotationRun,
        ]),
        "keeps secrets in order without seeing them",
    ),
    on_tenant("policy-admin", POLICY, "manages roles, users and tokens"),
    on_tenant(
        "auditor",
        Verbs::of(&[Verb::AuditRead, Verb::AuditVerify, Verb::ComplianceRead]),
        "reads and proves the audit log, and nothing else",
    ),
    on_tenant(
        "key-custodian",
        Verbs::of(&[
            Verb::KeysRotate,
            Verb::KeysRewrap,
            Verb::KeysSlot,
            Verb::KeysShred,
        ]),
        "holds keys, sees no data",
    ),
    on_tenant(
        "tenant-admin",
        POLICY.and(Verbs::of(&[Verb::TenantRead, Verb::TenantCompact])),
        "runs a tenant, reads no data without a grant",
    ),
    on_cluster(
        "cluster-admin",
        CLUSTER,
        "runs the cluster, sees no tenant's data",
    ),
    on_cluster("backup-operator", BACKUP, "takes and restores backups"),
];

/// The shipped role of a name, as if it were kept; none if the name is not one.
///
/// `root` is one if nobody added a role of that name, too: etcd's clients may hand it out before they add it.
pub fn role(name: &str) -> Option<Role> {
    if name == ROOT {
        return Some(of(
            ROOT,
            &[
                (ROOT_TENANT, Scope::Tenant),
                (CLUSTER.and(BACKUP).and(POLICY), Scope::Cluster),
            ],
        ));
    }
    let short = name.strip_prefix(RESERVED)?;
    let shipped = ROLES.iter().find(|role| role.name == short)?;
    let scope = if shipped.cluster {
        Scope::Cluster
    } else {
        Scope::Tenant
    };
    Some(of(name, &[(shipped.verbs, scope)]))
}

/// Everything, for one hour, with k of n shares: what break-glass is worth.
pub fn break_glass() -> Role {
    let all = Verbs::of(Verb::ALL);
    of(
        "meridian:break-glass",
        &[(all, Scope::Tenant), (all, Scope::Cluster)],
    )
}

fn of(name: &str, rights: &[(Verbs, Scope)]) -> Role {
    let mut role = Role::new(name);
    for (verbs, scope) in rights {
        role.grants.push(Grant {
            number: role.next_grant,
            effect: Effect::Allow,
            verbs: *verbs,
            scope: scope.clone(),
            conditions: Conditions::default(),
        });
        role.next_grant += 1;
    }
    role
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn verbs(name: &str) -> Verbs {
        ROLES.iter().find(|role| role.name == name).unwrap().verbs
    }

    #[test]
    fn no_role_has_what_its_description_forbids() {
        let data = Verbs::of(&[
            Verb::Read,
            Verb::Reveal,
            Verb::Write,
            Verb::Delete,
            Verb::Watch,
        ]);
        for none_of_the_data in [
            "policy-admin",
            "auditor",
            "key-custodian",
            "tenant-admin",
            "cluster-admin",
            "backup-operator",
        ] {
            assert!(!verbs(none_of_the_data).meets(data), "{none_of_the_data}");
        }
        for role in ROLES {
            let reveals = role.verbs.has(Verb::Reveal);
            assert_eq!(reveals, role.name == "secret-reader", "{}", role.name);
        }
        assert!(!verbs("viewer").has(Verb::Read));
        assert!(!verbs("secret-reader").has(Verb::List));
        assert!(!verbs("flag-client").meets(Verbs::of(&[Verb::Read, Verb::List])));
        assert!(!verbs("approver").meets(Verbs::of(&[Verb::Write, Verb::Delete])));
        assert!(!verbs("policy-admin").has(Verb::AuditRead));
    }

    #[test]
    fn root_is_there_before_it_is_added() {
        assert_eq!(role("root").unwrap().grants.len(), 2);
        assert!(role("meridian:viewer").is_some());
        assert!(role("viewer").is_none() && role("meridian:root").is_none());
    }
}
