//! Changes of roles and their grants.

use super::{
    delete_op, few_networks, holders, put, put_op, role_exists, room, short_enough, valid_scope,
    valid_window,
};
use crate::access::document::{self, Place};
use crate::access::grant::{Conditions, Effect, Grant, Permission};
use crate::access::role::{self, ROOT, Role};
use crate::access::scope::Scope;
use crate::access::shipped::RESERVED;
use crate::access::verb::Verbs;
use crate::key::{KeyRange, RangeEnd};
use crate::limits;
use crate::rejection::Rejection;
use crate::txn::Txn;
use crate::view::View;

pub(super) fn add(view: &dyn View, name: &str) -> Result<Txn, Rejection> {
    if name.is_empty() {
        return Err(Rejection::RoleNameEmpty);
    }
    if name.starts_with(RESERVED) {
        return Err(Rejection::ReservedName);
    }
    short_enough(name)?;
    if document::role(view, name)?.is_some() {
        return Err(Rejection::RoleExists);
    }
    room(view, Place::roles(), limits::ROLES_PER_TENANT_MAX, "roles")?;
    Ok(put(Place::role(name), &Role::new(name)))
}

pub(super) fn delete(view: &dyn View, name: &str) -> Result<Txn, Rejection> {
    if name == ROOT && document::door(view)?.enabled {
        return Err(Rejection::InvalidAuthManagement);
    }
    found(view, name)?;
    let mut txn = Txn::once(delete_op(Place::role(name)));
    // Whoever kept the name would get whatever is added under it later.
    txn.success.extend(holders::without(view, name)?);
    for mut other in document::list::<Role>(view, &Place::roles())? {
        let before = other.parents.len();
        other.parents.retain(|parent| **parent != *name);
        if other.parents.len() < before {
            txn.success.push(put_op(Place::role(&other.name), &other));
        }
    }
    if txn.success.len() > limits::ROLE_HOLDERS_MAX {
        return Err(Rejection::AccessTooLarge {
            what: "holders of the role",
            limit: limits::ROLE_HOLDERS_MAX,
        });
    }
    Ok(txn)
}

pub(super) fn set_parents(
    view: &dyn View,
    name: &str,
    parents: &[Box<str>],
) -> Result<Txn, Rejection> {
    let mut role = found(view, name)?;
    let mut wanted: Vec<Box<str>> = vec![];
    for parent in parents {
        role_exists(view, parent)?;
        if !wanted.contains(parent) {
            wanted.push(parent.clone());
        }
    }
    if wanted == role.parents {
        return Ok(Txn::default());
    }
    let reached = role::closure(wanted.iter().cloned(), |name| document::role(view, name))?;
    if reached.iter().any(|reached| *reached.name == *name) {
        return Err(Rejection::RoleCircle { role: name.into() });
    }
    role.parents = wanted;
    holders::may_have(view, name, super::verbs_of(&reached))?;
    Ok(put(Place::role(name), &role))
}

pub(super) fn grant(
    view: &dyn View,
    name: &str,
    effect: Effect,
    verbs: Verbs,
    scope: &Scope,
    conditions: &Conditions,
) -> Result<Txn, Rejection> {
    if verbs.is_empty() {
        return Err(Rejection::PermissionNotGiven);
    }
    valid_scope(view, scope)?;
    valid_window(conditions.window)?;
    few_networks(&conditions.networks)?;
    let role = found(view, name)?;
    if effect == Effect::Allow {
        holders::may_have(view, name, verbs)?;
    }
    let grant = Grant {
        number: role.next_grant,
        effect,
        verbs,
        scope: scope.clone(),
        conditions: conditions.clone(),
    };
    with(role, grant)
}

pub(super) fn revoke(view: &dyn View, name: &str, number: u32) -> Result<Txn, Rejection> {
    let mut role = found(view, name)?;
    let before = role.grants.len();
    role.grants.retain(|grant| grant.number != number);
    if role.grants.len() == before {
        return Err(Rejection::PermissionNotGranted);
    }
    Ok(put(Place::role(name), &role))
}

pub(super) fn grant_permission(
    view: &dyn View,
    name: &str,
    permission: Option<&Permission>,
) -> Result<Txn, Rejection> {
    let permission = permission.ok_or(Rejection::PermissionNotGiven)?;
    if !is_etcds(&permission.range) {
        return Err(Rejection::InvalidAuthManagement);
    }
    let mut role = found(view, name)?;
    match same_range(&mut role, &permission.range) {
        Some(old) if old.as_permission().as_ref() == Some(permission) => Ok(Txn::default()),
        Some(old) => {
            *old = Grant::of_permission(old.number, permission);
            Ok(put(Place::role(name), &role))
        }
        None => {
            let grant = Grant::of_permission(role.next_grant, permission);
            with(role, grant)
        }
    }
}

pub(super) fn revoke_permission(
    view: &dyn View,
    name: &str,
    range: &KeyRange,
) -> Result<Txn, Rejection> {
    let mut role = found(view, name)?;
    let number = same_range(&mut role, range)
        .map(|grant| grant.number)
        .ok_or(Rejection::PermissionNotGranted)?;
    role.grants.retain(|grant| grant.number != number);
    Ok(put(Place::role(name), &role))
}

fn found(view: &dyn View, name: &str) -> Result<Role, Rejection> {
    document::role(view, name)?.ok_or(Rejection::RoleNotFound)
}

fn with(mut role: Role, grant: Grant) -> Result<Txn, Rejection> {
    let too_many = Rejection::AccessTooLarge {
        what: "grants of the role",
        limit: limits::GRANTS_PER_ROLE_MAX,
    };
    if role.grants.len() >= limits::GRANTS_PER_ROLE_MAX {
        return Err(too_many);
    }
    role.next_grant = role.next_grant.checked_add(1).ok_or(too_many)?;
    role.grants.push(grant);
    Ok(put(Place::role(&role.name), &role))
}

/// The grant etcd's clients see under a range.
fn same_range<'a>(role: &'a mut Role, range: &KeyRange) -> Option<&'a mut Grant> {
    role.grants.iter_mut().find(|grant| {
        grant
            .as_permission()
            .is_some_and(|permission| permission.range == *range)
    })
}

/// Whether etcd takes a range in a permission: it begins somewhere, and holds something.
fn is_etcds(range: &KeyRange) -> bool {
    match &range.end {
        RangeEnd::Single | RangeEnd::Open => !range.start.is_empty(),
        RangeEnd::Before(end) => !range.start.is_empty() && range.start < *end,
    }
}
