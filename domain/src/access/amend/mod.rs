//! Planning a change of the rules: documents in, one guarded transaction out.
//!
//! The plan holds under the rules revision it was made at, and applying it moves that revision, so two changes never
//! cross. A change that changes nothing is an empty transaction. etcd's rules and words where etcd has the thing.

mod holders;
mod roles;

use crate::access::change::AccessChange;
use crate::access::document::{self, Document, Place};
use crate::access::duties;
use crate::access::grant::{Network, Window};
use crate::access::key::Key;
use crate::access::policy::{Policy, Trust};
use crate::access::principal::{Binding, Identity, Subject};
use crate::access::required::assignments;
use crate::access::role::{self, Assignment, ROOT, Role};
use crate::access::scope::Scope;
use crate::access::shipped;
use crate::access::token::Token;
use crate::access::user::{self, User};
use crate::access::verb::Verbs;
use crate::key::KeyRange;
use crate::kv::{Delete, Put};
use crate::limits;
use crate::rejection::Rejection;
use crate::txn::{Compare, Op, Operand, Relation, Txn};
use crate::view::View;

/// Plans a change; who asks was checked before.
pub fn amend(
    view: &dyn View,
    identity: Option<&Identity>,
    change: &AccessChange,
) -> Result<Txn, Rejection> {
    match change {
        AccessChange::RoleAdd { name } => roles::add(view, name),
        AccessChange::RoleDelete { name } => roles::delete(view, name),
        AccessChange::RoleParents { name, parents } => roles::set_parents(view, name, parents),
        AccessChange::Grant {
            role,
            effect,
            verbs,
            scope,
            conditions,
        } => roles::grant(view, role, *effect, *verbs, scope, conditions),
        AccessChange::Revoke { role, number } => roles::revoke(view, role, *number),
        AccessChange::PermissionGrant { role, permission } => {
            roles::grant_permission(view, role, permission.as_ref())
        }
        AccessChange::PermissionRevoke { role, range } => {
            roles::revoke_permission(view, role, range)
        }
        AccessChange::UserAdd { name, password } => user_add(view, name, password.clone()),
        AccessChange::UserDelete { name } => user_delete(view, name),
        AccessChange::UserPassword { name, password } => {
            let mut user = document::user(view, name)?.ok_or(Rejection::UserNotFound)?;
            user.password.clone_from(password);
            user.generation += 1;
            Ok(put(Place::user(name), &user))
        }
        AccessChange::Assign {
            subject,
            assignment,
        } => assign(view, identity, subject, assignment),
        AccessChange::Unassign { subject, role } => unassign(view, subject, role),
        AccessChange::TokenIssue(token) => token_issue(view, token),
        AccessChange::TokenRevoke { id } => token_revoke(view, id),
        AccessChange::KeyKeep { name, key } => key_keep(view, name, key),
        AccessChange::Enable => enable(view),
        AccessChange::Disable => {
            let mut door = document::door(view)?;
            if !door.enabled {
                return Ok(Txn::default());
            }
            door.enabled = false;
            Ok(put(Place::door(), &door))
        }
        AccessChange::PolicySet(policy) => {
            valid_policy(policy)?;
            // Nobody could come back to change it again.
            if identity.is_some_and(|who| !policy.proofs.admits(who.proof)) {
                return Err(Rejection::InvalidAuthManagement);
            }
            Ok(put(Place::policy(), policy))
        }
        AccessChange::TrustSet(trust) => {
            valid_trust(trust)?;
            Ok(put(Place::trust(), trust))
        }
    }
}

// ---- transactions ---------------------------------------------------------------------------------------

fn put_op(place: Place, document: &impl Document) -> Op {
    Op::Put(Put {
        space: place.space,
        key: place.key,
        value: Some(document::encode(document)),
        lease: Some(0),
        prev_kv: false,
    })
}

fn delete_op(place: Place) -> Op {
    Op::Delete(Delete {
        space: place.space,
        range: KeyRange::single(place.key),
        prev_kv: false,
    })
}

fn put(place: Place, document: &impl Document) -> Txn {
    Txn::once(put_op(place, document))
}

// ---- users ----------------------------------------------------------------------------------------------

fn user_add(view: &dyn View, name: &str, password: Option<Box<str>>) -> Result<Txn, Rejection> {
    if name.is_empty() {
        return Err(Rejection::UserNameEmpty);
    }
    short_enough(name)?;
    if document::user(view, name)?.is_some() {
        return Err(Rejection::UserExists);
    }
    room(view, Place::users(), limits::USERS_PER_TENANT_MAX, "users")?;
    let user = User {
        name: name.into(),
        password,
        // So that somebody of the same name, removed before, has nothing in common with this one.
        generation: view.revision() as u64,
        roles: vec![],
    };
    Ok(put(Place::user(name), &user))
}

fn user_delete(view: &dyn View, name: &str) -> Result<Txn, Rejection> {
    if name == user::ROOT && document::door(view)?.enabled {
        return Err(Rejection::InvalidAuthManagement);
    }
    document::user(view, name)?.ok_or(Rejection::UserNotFound)?;
    Ok(Txn::once(delete_op(Place::user(name))))
}

// ---- who has which role ---------------------------------------------------------------------------------

fn assign(
    view: &dyn View,
    identity: Option<&Identity>,
    subject: &Subject,
    assignment: &Assignment,
) -> Result<Txn, Rejection> {
    exists(view, subject)?;
    role_exists(view, &assignment.role)?;
    valid_window(assignment.window)?;
    if let Some(who) = identity
        && who.subjects().contains(subject)
        && !assignments(view, subject)?
            .iter()
            .any(|held| *held.role == *ROOT)
    {
        return Err(Rejection::OwnGrant);
    }
    let mut held = assignments(view, subject)?;
    let same = |old: &&mut Assignment| old.role == assignment.role && old.scope == assignment.scope;
    match held.iter_mut().find(same) {
        Some(old) if *old == *assignment => return Ok(Txn::default()),
        Some(old) => old.window = assignment.window,
        None => held.push(assignment.clone()),
    }
    may_hold(view, &held)?;
    set_assignments(view, subject, held)
}

fn unassign(view: &dyn View, subject: &Subject, role: &str) -> Result<Txn, Rejection> {
    let is_root = *subject == Subject::User(user::ROOT.into()) && role == ROOT;
    if is_root && document::door(view)?.enabled {
        return Err(Rejection::InvalidAuthManagement);
    }
    exists(view, subject)?;
    let mut held = assignments(view, subject)?;
    let before = held.len();
    held.retain(|assignment| *assignment.role != *role);
    if held.len() == before {
        return Err(Rejection::RoleNotGranted);
    }
    set_assignments(view, subject, held)
}

fn exists(view: &dyn View, subject: &Subject) -> Result<(), Rejection> {
    short_enough(subject.name())?;
    match subject {
        Subject::User(name) => document::user(view, name)?
            .map(drop)
            .ok_or(Rejection::UserNotFound),
        Subject::Token(id) => document::token(view, id)?
            .map(drop)
            .ok_or(Rejection::TokenNotFound),
        Subject::Certificate(name) | Subject::Jwt(name) | Subject::Group(name) => {
            if name.is_empty() {
                return Err(Rejection::UserNameEmpty);
            }
            Ok(())
        }
    }
}

fn set_assignments(
    view: &dyn View,
    subject: &Subject,
    roles: Vec<Assignment>,
) -> Result<Txn, Rejection> {
    Ok(match subject {
        Subject::User(name) => {
            let mut user = document::user(view, name)?.ok_or(Rejection::UserNotFound)?;
            user.roles = roles;
            put(Place::user(name), &user)
        }
        Subject::Token(id) => {
            let mut token = document::token(view, id)?.ok_or(Rejection::TokenNotFound)?;
            token.roles = roles;
            let mut txn = put(Place::token(id), &token);
            txn.success.push(end_sessions(view)?);
            txn
        }
        Subject::Certificate(_) | Subject::Jwt(_) | Subject::Group(_) => {
            let place = Place::binding(subject).ok_or(Rejection::InvalidAuthManagement)?;
            if roles.is_empty() {
                Txn::once(delete_op(place))
            } else {
                put(place, &Binding { roles })
            }
        }
    })
}

/// What somebody may hold: roles that exist, not too many, and no two duties that exclude each other.
fn may_hold(view: &dyn View, held: &[Assignment]) -> Result<(), Rejection> {
    if held.len() > limits::ROLES_PER_SUBJECT_MAX {
        return Err(Rejection::AccessTooLarge {
            what: "roles of one caller",
            limit: limits::ROLES_PER_SUBJECT_MAX,
        });
    }
    // `root` is for emergencies and for etcd's clients; it is bound by nothing but its tenant.
    if held.iter().any(|held| *held.role == *ROOT) {
        return Ok(());
    }
    let ends = held.iter().any(|held| held.window.not_after_ms != 0);
    no_conflict(all_verbs(view, held)?, ends)
}

fn no_conflict(verbs: Verbs, ends: bool) -> Result<(), Rejection> {
    match duties::broken(verbs, ends) {
        Some(duty) => Err(Rejection::DutiesConflict { duty: duty.name }),
        None => Ok(()),
    }
}

fn all_verbs(view: &dyn View, held: &[Assignment]) -> Result<Verbs, Rejection> {
    let names = held.iter().map(|held| held.role.clone());
    let found = role::closure(names, |name| document::role(view, name))?;
    Ok(verbs_of(&found))
}

fn verbs_of(roles: &[Role]) -> Verbs {
    let grants = roles.iter().flat_map(|role| &role.grants);
    let allowed = grants.filter(|grant| grant.effect == crate::access::grant::Effect::Allow);
    allowed.fold(Verbs::NONE, |verbs, grant| verbs.and(grant.verbs))
}

fn role_exists(view: &dyn View, name: &str) -> Result<(), Rejection> {
    if shipped::role(name).is_some() || document::role(view, name)?.is_some() {
        Ok(())
    } else {
        Err(Rejection::RoleNotFound)
    }
}

// ---- tokens ---------------------------------------------------------------------------------------------

/// The plan compares that no token has the id; where one does, the transaction takes the other branch.
fn token_issue(view: &dyn View, token: &Token) -> Result<Txn, Rejection> {
    if token.id.is_empty() || token.id.contains('/') {
        return Err(Rejection::InvalidAuthManagement);
    }
    short_enough(&token.id)?;
    short_enough(&token.holder)?;
    if document::token(view, &token.id)?.is_some() {
        return Err(Rejection::TokenExists);
    }
    let policy = document::policy(view)?;
    let seconds_max = policy
        .token_ttl_seconds_max
        .min(limits::TOKEN_TTL_SECONDS_MAX);
    let life_ms = token.expires_ms.saturating_sub(token.issued_ms);
    if life_ms == 0 || life_ms > seconds_max.saturating_mul(1000) {
        return Err(Rejection::TokenTtl { seconds_max });
    }
    few_networks(&token.networks)?;
    for assignment in &token.roles {
        role_exists(view, &assignment.role)?;
        valid_window(assignment.window)?;
    }
    may_hold(view, &token.roles)?;
    room(
        view,
        Place::tokens(),
        limits::TOKENS_PER_TENANT_MAX,
        "tokens",
    )?;
    let place = Place::token(&token.id);
    let mut txn = put(place.clone(), token);
    txn.compares.push(Compare {
        space: place.space,
        range: KeyRange::single(place.key),
        relation: Relation::Equal,
        operand: Operand::Create(0),
    });
    Ok(txn)
}

/// The first one stays: what was signed with it goes on being known.
fn key_keep(view: &dyn View, name: &str, key: &Key) -> Result<Txn, Rejection> {
    if document::key(view, name)?.is_some() {
        return Ok(Txn::default());
    }
    let place = Place::key_named(name);
    let mut txn = put(place.clone(), key);
    txn.compares.push(Compare {
        space: place.space,
        range: KeyRange::single(place.key),
        relation: Relation::Equal,
        operand: Operand::Create(0),
    });
    Ok(txn)
}

fn token_revoke(view: &dyn View, id: &str) -> Result<Txn, Rejection> {
    document::token(view, id)?.ok_or(Rejection::TokenNotFound)?;
    let mut txn = Txn::once(delete_op(Place::token(id)));
    txn.success.push(end_sessions(view)?);
    Ok(txn)
}

/// Tokens lie outside the rules; this moves the rules, so that whoever holds a session looks again.
fn end_sessions(view: &dyn View) -> Result<Op, Rejection> {
    let mut door = document::door(view)?;
    door.revocations += 1;
    Ok(put_op(Place::door(), &door))
}

// ---- the door, the policy, the trust ----------------------------------------------------------------------

fn enable(view: &dyn View) -> Result<Txn, Rejection> {
    let mut door = document::door(view)?;
    if door.enabled {
        return Ok(Txn::default());
    }
    let root = document::user(view, user::ROOT)?.ok_or(Rejection::RootUserMissing)?;
    if !root.roles.contains(&Assignment::of(ROOT)) {
        return Err(Rejection::RootRoleMissing);
    }
    door.enabled = true;
    Ok(put(Place::door(), &door))
}

fn valid_policy(policy: &Policy) -> Result<(), Rejection> {
    few_networks(&policy.networks)?;
    few(policy.audited.len())?;
    few(policy.regions.len())?;
    for region in &policy.regions {
        short_enough(region)?;
    }
    let seconds_max = limits::TOKEN_TTL_SECONDS_MAX;
    if policy.token_ttl_seconds_max == 0 || policy.token_ttl_seconds_max > seconds_max {
        return Err(Rejection::TokenTtl { seconds_max });
    }
    Ok(())
}

fn valid_trust(trust: &Trust) -> Result<(), Rejection> {
    few(trust.domains.len())?;
    few(trust.issuers.len())?;
    for domain in &trust.domains {
        short_enough(domain)?;
    }
    for issuer in &trust.issuers {
        few(issuer.audiences.len())?;
        let texts = [
            &issuer.name,
            &issuer.issuer,
            &issuer.keys_url,
            &issuer.groups_claim,
        ];
        for text in texts.into_iter().chain(&issuer.audiences) {
            short_enough(text)?;
        }
        let lacking = issuer.name.is_empty()
            || issuer.name.contains('|')
            || issuer.issuer.is_empty()
            || issuer.audiences.is_empty()
            || issuer.algorithms.is_empty()
            || issuer.algorithms.len() > 8;
        if lacking {
            return Err(Rejection::InvalidAuthManagement);
        }
    }
    Ok(())
}

// ---- bounds ---------------------------------------------------------------------------------------------

fn short_enough(name: &str) -> Result<(), Rejection> {
    let limit = limits::ACCESS_NAME_BYTES_MAX;
    if name.len() > limit {
        let what = "bytes in a name";
        return Err(Rejection::AccessTooLarge { what, limit });
    }
    Ok(())
}

fn few_networks(networks: &[Network]) -> Result<(), Rejection> {
    let limit = limits::NETWORKS_MAX;
    if networks.len() > limit {
        let what = "networks";
        return Err(Rejection::AccessTooLarge { what, limit });
    }
    Ok(())
}

fn few(count: usize) -> Result<(), Rejection> {
    let limit = limits::POLICY_LIST_MAX;
    if count > limit {
        let what = "entries of a policy";
        return Err(Rejection::AccessTooLarge { what, limit });
    }
    Ok(())
}

fn valid_window(window: Window) -> Result<(), Rejection> {
    if window.not_after_ms != 0 && window.not_after_ms <= window.not_before_ms {
        return Err(Rejection::InvalidAuthManagement);
    }
    Ok(())
}

fn valid_scope(view: &dyn View, scope: &Scope) -> Result<(), Rejection> {
    let on_cluster = scope.regions().iter().any(|region| {
        use crate::access::scope::{CLUSTER_WIDE, Region};
        matches!(region, Region::In(CLUSTER_WIDE, _))
    });
    if on_cluster && view.tenant().id != crate::name::TenantId::DEFAULT {
        return Err(Rejection::ClusterScope);
    }
    if scope.regions().is_empty() {
        return Err(Rejection::InvalidAuthManagement);
    }
    Ok(())
}

fn room(
    view: &dyn View,
    among: crate::kv::Range,
    limit: i64,
    what: &'static str,
) -> Result<(), Rejection> {
    if document::count(view, among)? >= limit {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        return Err(Rejection::AccessTooLarge { what, limit });
    }
    Ok(())
}
