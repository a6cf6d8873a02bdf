//! Separation of duties: which rights no one person may hold together.
//!
//! Judged by verbs, not by the names of roles: a role made to look harmless counts as what it can do. Static rules are
//! judged when a role is assigned; who wrote a change may not approve it is judged per change.

use crate::access::verb::{Verb, Verbs};

/// What happens to somebody who would hold both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// Refused.
    Refused,
    /// Allowed with an end date only.
    NeedsEnd,
}

/// Two sides that should not meet in one person.
#[derive(Clone, Copy, Debug)]
pub struct Duty {
    /// What the sides are, in words.
    pub name: &'static str,
    /// One side.
    pub one: Verbs,
    /// The other.
    pub other: Verbs,
    /// What follows.
    pub consequence: Consequence,
}

/// Every static rule.
pub const DUTIES: &[Duty] = &[
    Duty {
        name: "policy-admin and auditor",
        one: Verbs::of(&[Verb::PolicyWrite, Verb::AuthWrite]),
        other: Verbs::of(&[Verb::AuditRead]),
        consequence: Consequence::Refused,
    },
    Duty {
        name: "cluster-admin and auditor",
        one: Verbs::of(&[
            Verb::ClusterMember,
            Verb::ClusterMaintain,
            Verb::TenantCreate,
            Verb::TenantChange,
        ]),
        other: Verbs::of(&[Verb::AuditRead]),
        consequence: Consequence::Refused,
    },
    Duty {
        name: "key-custodian and backup-operator",
        one: Verbs::of(&[Verb::KeysSlot, Verb::KeysRewrap, Verb::KeysShred]),
        other: Verbs::of(&[Verb::BackupCreate, Verb::BackupRestore]),
        consequence: Consequence::Refused,
    },
    Duty {
        name: "backup-operator and secret-admin",
        one: Verbs::of(&[Verb::BackupCreate, Verb::BackupRestore]),
        other: Verbs::of(&[Verb::Destroy, Verb::Reclassify]),
        consequence: Consequence::NeedsEnd,
    },
];

/// The first rule broken by somebody who can do all of `verbs`; `ends` says whether what was added last has an end.
pub fn broken(verbs: Verbs, ends: bool) -> Option<&'static Duty> {
    DUTIES.iter().find(|duty| {
        verbs.meets(duty.one)
            && verbs.meets(duty.other)
            && !(ends && duty.consequence == Consequence::NeedsEnd)
    })
}

/// Whether somebody may approve a change: never one they wrote or asked for, whatever their roles.
pub fn may_approve(author: &str, requester: &str, approver: &str) -> bool {
    approver != author && approver != requester
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::access::shipped::ROLES;

    #[test]
    fn no_shipped_role_breaks_a_rule_alone() {
        for role in ROLES {
            assert!(broken(role.verbs, false).is_none(), "{}", role.name);
        }
    }

    #[test]
    fn each_pair_of_the_table_is_found_and_no_other() {
        let refused = [
            ("policy-admin", "auditor"),
            ("tenant-admin", "auditor"),
            ("cluster-admin", "auditor"),
            ("key-custodian", "backup-operator"),
        ];
        let with_an_end = ("backup-operator", "secret-admin");
        for one in ROLES {
            for other in ROLES {
                let both = one.verbs.and(other.verbs);
                let pair = |(a, b): &(&str, &str)| {
                    (one.name == *a && other.name == *b) || (one.name == *b && other.name == *a)
                };
                let always = refused.iter().any(pair);
                let names = (one.name, other.name);
                assert_eq!(broken(both, true).is_some(), always, "{names:?}");
                let open = always || pair(&with_an_end);
                assert_eq!(broken(both, false).is_some(), open, "{names:?}");
            }
        }
    }

    #[test]
    fn nobody_approves_their_own_change() {
        assert!(may_approve("ann", "ann", "bob"));
        assert!(!may_approve("ann", "bob", "bob"));
        assert!(!may_approve("bob", "ann", "bob"));
    }
}
