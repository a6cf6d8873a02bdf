//! Roles: named grants, and the roles they take over from.
//!
//! Taking over is bounded and safe against circles: every role counts once, however many ways lead to it, at most
//! [`crate::limits::ROLE_DEPTH_MAX`] steps deep. A role that is named and does not exist gives nothing.

use std::collections::BTreeSet;

use crate::access::grant::{Grant, Window};
use crate::access::scope::Scope;
use crate::access::shipped;
use crate::limits;
use crate::rejection::Rejection;

/// The role that may do everything within its tenant.
pub const ROOT: &str = "root";

/// A role as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: Box<str>,
    /// The roles whose grants it has too, by name, each once.
    pub parents: Vec<Box<str>>,
    /// The number the next grant gets.
    pub next_grant: u32,
    /// Its own grants, by number.
    pub grants: Vec<Grant>,
}

impl Role {
    /// A role without grants.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            parents: vec![],
            next_grant: 1,
            grants: vec![],
        }
    }
}

/// That somebody has a role: where, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// The role, by name; a shipped one begins with `meridian:`.
    pub role: Box<str>,
    /// Where its grants count: each is cut to this. [`Scope::Tenant`] leaves them as they are.
    pub scope: Scope,
    /// When.
    pub window: Window,
}

impl Assignment {
    /// A role, wherever it reaches, always.
    pub fn of(role: &str) -> Self {
        Self {
            role: role.into(),
            ..Self::default()
        }
    }
}

/// Every role reached from some, themselves first, each once, nearest first; with where it is kept.
///
/// `find` looks a role up; it is asked at most once per name. Fails only if `find` does, or if more than
/// [`limits::ROLES_PER_SUBJECT_MAX`] are reached.
pub fn closure(
    first: impl IntoIterator<Item = Box<str>>,
    mut find: impl FnMut(&str) -> Result<Option<Role>, Rejection>,
) -> Result<Vec<Role>, Rejection> {
    let mut seen = BTreeSet::new();
    let mut found = vec![];
    let mut level: Vec<Box<str>> = first.into_iter().collect();
    for _ in 0..=limits::ROLE_DEPTH_MAX {
        let mut next = vec![];
        for name in std::mem::take(&mut level) {
            if !seen.insert(name.clone()) {
                continue;
            }
            if seen.len() > limits::ROLES_PER_SUBJECT_MAX {
                return Err(Rejection::AccessTooLarge {
                    what: "roles of one caller",
                    limit: limits::ROLES_PER_SUBJECT_MAX,
                });
            }
            let role = match shipped::role(&name) {
                Some(role) => Some(role),
                None => find(&name)?,
            };
            if let Some(role) = role {
                next.extend(role.parents.iter().cloned());
                found.push(role);
            }
        }
        level = next;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeMap;

    use super::*;

    fn world(edges: &[(&str, &[&str])]) -> BTreeMap<Box<str>, Role> {
        let role = |(name, parents): &(&str, &[&str])| {
            let mut role = Role::new(name);
            role.parents = parents.iter().map(|p| (*p).into()).collect();
            (Box::from(*name), role)
        };
        edges.iter().map(role).collect()
    }

    fn reach(world: &BTreeMap<Box<str>, Role>, from: &str) -> Vec<Box<str>> {
        let found = closure([from.into()], |name| Ok(world.get(name).cloned())).unwrap();
        found.into_iter().map(|role| role.name).collect()
    }

    #[test]
    fn a_circle_of_roles_ends() {
        let world = world(&[("a", &["b"]), ("b", &["c"]), ("c", &["a", "c"])]);
        assert_eq!(reach(&world, "a"), ["a".into(), "b".into(), "c".into()]);
    }

    #[test]
    fn a_role_that_does_not_exist_gives_nothing() {
        let world = world(&[("a", &["gone", "b"]), ("b", &[])]);
        assert_eq!(reach(&world, "a"), ["a".into(), "b".into()]);
        assert!(reach(&world, "gone").is_empty());
    }

    #[test]
    fn a_chain_is_followed_so_deep_and_no_deeper() {
        let names: Vec<String> = (0..100).map(|n| format!("r{n}")).collect();
        let mut world = BTreeMap::new();
        for (name, parent) in names.iter().zip(names.iter().skip(1)) {
            let mut role = Role::new(name);
            role.parents = vec![parent.as_str().into()];
            world.insert(Box::from(name.as_str()), role);
        }
        assert_eq!(reach(&world, "r0").len(), limits::ROLE_DEPTH_MAX + 1);
    }

    #[test]
    fn too_many_roles_are_refused() {
        let first = (0..=limits::ROLES_PER_SUBJECT_MAX).map(|n| format!("r{n}").into());
        assert!(closure(first, |_| Ok(None)).is_err());
    }
}
