//! Everybody who has a role, for changes that reach them through it.
//!
//! These walk all users, bindings and tokens of the tenant: changes of roles are rare, and what they reach must not be
//! forgotten.

use super::{no_conflict, put_op, verbs_of};
use crate::access::document::{self, Place};
use crate::access::duties::DUTIES;
use crate::access::principal::Binding;
use crate::access::role::{self, Assignment, ROOT, Role};
use crate::access::token::Token;
use crate::access::user::User;
use crate::access::verb::Verbs;
use crate::rejection::Rejection;
use crate::txn::Op;
use crate::view::View;

/// The writes that take a role from everybody who has it.
pub(super) fn without(view: &dyn View, name: &str) -> Result<Vec<Op>, Rejection> {
    let mut ops = vec![];
    let taken = |roles: &mut Vec<Assignment>| {
        let before = roles.len();
        roles.retain(|held| *held.role != *name);
        roles.len() < before
    };
    for mut user in document::list::<User>(view, &Place::users())? {
        if taken(&mut user.roles) {
            ops.push(put_op(Place::user(&user.name), &user));
        }
    }
    for (place, mut binding) in bindings(view)? {
        if taken(&mut binding.roles) {
            ops.push(put_op(place, &binding));
        }
    }
    for mut token in document::list::<Token>(view, &Place::tokens())? {
        if taken(&mut token.roles) {
            ops.push(put_op(Place::token(&token.id), &token));
        }
    }
    Ok(ops)
}

/// Whether everybody who has a role, directly or through another, may have these verbs too.
pub(super) fn may_have(view: &dyn View, name: &str, verbs: Verbs) -> Result<(), Rejection> {
    let matters = DUTIES
        .iter()
        .any(|duty| verbs.meets(duty.one) || verbs.meets(duty.other));
    if !matters {
        return Ok(());
    }
    let judge = |held: &[Assignment]| -> Result<(), Rejection> {
        if held.iter().any(|held| *held.role == *ROOT) {
            return Ok(());
        }
        let names = held.iter().map(|held| held.role.clone());
        let reached: Vec<Role> = role::closure(names, |name| document::role(view, name))?;
        if reached.iter().all(|role| *role.name != *name) {
            return Ok(());
        }
        let ends = held.iter().any(|held| held.window.not_after_ms != 0);
        no_conflict(verbs_of(&reached).and(verbs), ends)
    };
    // Nobody may hold a role that breaks a rule alone.
    if let Some(role) = document::role(view, name)? {
        no_conflict(verbs_of(&[role]).and(verbs), true)?;
    }
    for user in document::list::<User>(view, &Place::users())? {
        judge(&user.roles)?;
    }
    for (_, binding) in bindings(view)? {
        judge(&binding.roles)?;
    }
    for token in document::list::<Token>(view, &Place::tokens())? {
        judge(&token.roles)?;
    }
    Ok(())
}

fn bindings(view: &dyn View) -> Result<Vec<(Place, Binding)>, Rejection> {
    let range = Place::bindings();
    let found = view.range(&range)?;
    let one = |kv: &crate::kv::KeyValue| {
        let place = Place {
            space: range.space,
            key: kv.key.clone(),
        };
        Ok((place, document::decode(&kv.value)?))
    };
    found.kvs.iter().map(one).collect()
}
