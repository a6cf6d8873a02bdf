//! What every request requires: one exhaustive function, for every door.
//!
//! There is no arm for "everything else": whoever adds an intent, a query or an operation says here what it takes, or
//! the crate does not compile. Each rule that looks odd has an accident of another store behind it:
//!
//! ```text
//!   every branch of a transaction, taken or not, nested or not      GHSA-rfx7-8w68-q57q
//!   prev_kv and leases of puts inside transactions                  CVE-2026-44283
//!   a watch from a key on needs everything from there on            GHSA-xg4h-6gfc-h4m8
//!   leases: the keys that hang on them                              GHSA-q8m4-xhhv-38mg, CVE-2023-32082
//!   a compare is an oracle, and so are an order by value and a count
//!   rules: nobody grants what they could not be granted to manage
//! ```

use smallvec::SmallVec;

use crate::access::change::{AccessChange, AccessQuery};
use crate::access::document;
use crate::access::principal::{Identity, IdentityKind, Subject};
use crate::access::role::{self, Assignment};
use crate::access::scope::{CLUSTER_WIDE, Region, Scope, TENANT_WIDE};
use crate::access::shipped;
use crate::access::verb::Verb;
use crate::intent::Intent;
use crate::key::{KeyRange, Space};
use crate::kv::{Delete, LeaseId, Put, Range, Target as Order};
use crate::name::TenantId;
use crate::query::Query;
use crate::rejection::Rejection;
use crate::txn::{Op, Txn};
use crate::view::View;

/// A verb, and what it must be granted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Required {
    /// The verb.
    pub verb: Verb,
    /// On what.
    pub on: Target,
}

/// What a verb must be granted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// All of a range of keys.
    Keys {
        /// The space.
        space: Space,
        /// The keys.
        range: KeyRange,
    },
    /// At least one key of a space, whichever.
    Somewhere {
        /// The space.
        space: Space,
    },
    /// Every key attached to a lease; if there is none, at least one key somewhere.
    Attached {
        /// The lease.
        lease: LeaseId,
    },
    /// The tenant as a whole.
    Tenant,
    /// The cluster as a whole.
    Cluster,
    /// Everything of the tenant, nothing excepted.
    Everything,
    /// Nothing it could be granted on: only the cluster itself does this.
    Nobody,
}

/// The requirements of one request; most have one or two.
pub type Requirements = SmallVec<[Required; 4]>;

impl std::fmt::Display for Required {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verb = self.verb;
        match &self.on {
            Target::Keys { space, range } => {
                let (space, range) = (*space, range.clone());
                write!(f, "{verb} on {}", Scope::Keys { space, range })
            }
            Target::Somewhere { space } => write!(f, "{verb} on some key of {space}"),
            Target::Attached { lease } => write!(f, "{verb} on every key of lease {lease:x}"),
            Target::Tenant => write!(f, "{verb}"),
            Target::Cluster => write!(f, "{verb} on the cluster"),
            Target::Everything => write!(f, "{verb} on everything"),
            Target::Nobody => f.write_str("do this"),
        }
    }
}

/// What is about to be done.
#[derive(Clone, Copy, Debug)]
pub enum Action<'a> {
    /// A write.
    Write(&'a Intent),
    /// A read.
    Read(&'a Query),
    /// A watch on keys.
    Watch {
        /// The space.
        space: Space,
        /// The keys.
        range: &'a KeyRange,
    },
    /// A lease kept alive: it changes no replicated state, but it keeps keys.
    KeepAlive(LeaseId),
    /// Something done to a member or to the cluster, past the log.
    Operate(Operation),
}

/// What is done to a member or to the cluster, past the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// List the members.
    MemberList,
    /// Add, remove, change or promote a member.
    MemberChange,
    /// Hand leadership over.
    MoveLeader,
    /// See a member's version, size and leader.
    Status,
    /// Give space back.
    Defragment,
    /// Compare the state of members by a hash.
    Hash,
    /// Take a snapshot of everything.
    Snapshot,
    /// Ask for, begin or end a downgrade.
    Downgrade,
}

impl Operation {
    /// Every one.
    pub const ALL: [Self; 8] = [
        Self::MemberList,
        Self::MemberChange,
        Self::MoveLeader,
        Self::Status,
        Self::Defragment,
        Self::Hash,
        Self::Snapshot,
        Self::Downgrade,
    ];
}

/// What a request of `identity` requires. Reads the view where it must: roles that are handed out, and by whom.
pub fn required_permissions(
    view: &dyn View,
    identity: Option<&Identity>,
    action: Action<'_>,
) -> Result<Requirements, Rejection> {
    let mut all = Requirements::new();
    match action {
        Action::Write(intent) => write(view, identity, intent, &mut all)?,
        Action::Read(query) => read(view, identity, query, &mut all)?,
        Action::Watch { space, range } => {
            all.push(keys(Verb::Watch, space, range.clone()));
            all.push(keys(Verb::Read, space, range.clone()));
        }
        Action::KeepAlive(lease) => all.push(on(Verb::Write, Target::Attached { lease })),
        Action::Operate(operation) => all.push(on(
            match operation {
                Operation::MemberList | Operation::Status => Verb::ClusterRead,
                Operation::MemberChange | Operation::MoveLeader => Verb::ClusterMember,
                Operation::Defragment | Operation::Hash | Operation::Downgrade => {
                    Verb::ClusterMaintain
                }
                Operation::Snapshot => Verb::BackupCreate,
            },
            Target::Cluster,
        )),
    }
    Ok(all)
}

fn on(verb: Verb, on: Target) -> Required {
    Required { verb, on }
}

/// Keys that hold rules or credentials are changed and read as such, never as keys.
fn keys(verb: Verb, space: Space, range: KeyRange) -> Required {
    if matches!(space, Space::ACCESS | Space::CREDENTIALS) {
        return on(verb, Target::Nobody);
    }
    on(verb, Target::Keys { space, range })
}

fn write(
    view: &dyn View,
    identity: Option<&Identity>,
    intent: &Intent,
    all: &mut Requirements,
) -> Result<(), Rejection> {
    let somewhere = Target::Somewhere { space: Space::RAW };
    match intent {
        Intent::Put(op) => put(op, all),
        Intent::Delete(op) => delete(op, all),
        Intent::Txn(op) => txn(op, all),
        Intent::LeaseGrant { .. } => all.push(on(Verb::Write, somewhere)),
        Intent::LeaseRevoke { id } => all.push(on(Verb::Delete, Target::Attached { lease: *id })),
        Intent::LeaseExpire { .. }
        | Intent::LeaseCheckpoint { .. }
        | Intent::MemberPublish(_)
        | Intent::MemberForget { .. } => all.push(on(Verb::Write, Target::Nobody)),
        Intent::Compact { .. } => all.push(on(Verb::TenantCompact, Target::Tenant)),
        Intent::TenantCreate { .. } => all.push(on(Verb::TenantCreate, Target::Cluster)),
        Intent::TenantChange { .. } | Intent::TenantDelete { .. } => {
            all.push(on(Verb::TenantChange, Target::Cluster));
        }
        Intent::Alarm { .. } => all.push(on(Verb::ClusterAlarm, Target::Cluster)),
        Intent::Access(change) => rules(view, identity, change, all)?,
    }
    Ok(())
}

fn put(put: &Put, all: &mut Requirements) {
    let one = || KeyRange::single(put.key.clone());
    all.push(keys(Verb::Write, put.space, one()));
    // Keeping the value makes it a read of it: the version that comes out of it is told to watchers and callers.
    if put.prev_kv || put.value.is_none() {
        all.push(keys(Verb::Read, put.space, one()));
    }
    // It fails on a key that does not exist, and so tells.
    if put.lease.is_none() {
        all.push(keys(Verb::List, put.space, one()));
    }
    if let Some(lease) = put.lease
        && lease != 0
    {
        all.push(on(Verb::Write, Target::Attached { lease }));
    }
}

fn delete(delete: &Delete, all: &mut Requirements) {
    all.push(keys(Verb::Delete, delete.space, delete.range.clone()));
    if delete.prev_kv {
        all.push(keys(Verb::Read, delete.space, delete.range.clone()));
    }
}

fn range(range: &Range, all: &mut Requirements) {
    let by_value = range.target == Order::Value;
    let verb = if range.count_only || range.keys_only {
        Verb::List
    } else {
        Verb::Read
    };
    all.push(keys(verb, range.space, range.range.clone()));
    if verb == Verb::List && by_value {
        all.push(keys(Verb::Read, range.space, range.range.clone()));
    }
}

/// Both branches, whichever would run. How deep it nests is checked before it is planned; deeper than that nobody may.
fn txn(txn: &Txn, all: &mut Requirements) {
    let mut open: Vec<(&Txn, usize)> = vec![(txn, 1)];
    while let Some((txn, depth)) = open.pop() {
        if depth > crate::limits::TXN_DEPTH_MAX {
            all.push(on(Verb::Write, Target::Nobody));
            return;
        }
        for compare in &txn.compares {
            all.push(keys(Verb::Read, compare.space, compare.range.clone()));
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match op {
                Op::Put(op) => put(op, all),
                Op::Delete(op) => delete(op, all),
                Op::Range(op) => range(op, all),
                Op::Txn(inner) => open.push((inner, depth + 1)),
            }
        }
    }
}

fn read(
    view: &dyn View,
    identity: Option<&Identity>,
    query: &Query,
    all: &mut Requirements,
) -> Result<(), Rejection> {
    let somewhere = Target::Somewhere { space: Space::RAW };
    match query {
        Query::Range(op) => range(op, all),
        Query::Txn(op) => txn(op, all),
        // Its keys are filtered in the answer to those the caller may list.
        Query::Lease { .. } | Query::Leases => all.push(on(Verb::List, somewhere)),
        Query::Tenants => all.push(on(Verb::ClusterTenants, Target::Cluster)),
        Query::Alarms | Query::Members => all.push(on(Verb::ClusterRead, Target::Cluster)),
        Query::Access(query) => questions(view, identity, query, all)?,
    }
    Ok(())
}

fn questions(
    view: &dyn View,
    identity: Option<&Identity>,
    query: &AccessQuery,
    all: &mut Requirements,
) -> Result<(), Rejection> {
    let own = identity.filter(|who| who.kind == IdentityKind::User);
    match query {
        AccessQuery::Status => {}
        AccessQuery::Users | AccessQuery::Tokens | AccessQuery::Trust => {
            all.push(on(Verb::AuthRead, Target::Tenant));
        }
        AccessQuery::User(name) => {
            if own.is_none_or(|who| who.name != *name) {
                all.push(on(Verb::AuthRead, Target::Tenant));
            }
        }
        AccessQuery::Roles | AccessQuery::Binding(_) | AccessQuery::Policy => {
            all.push(on(Verb::PolicyRead, Target::Tenant));
        }
        AccessQuery::Role(name) => {
            let user = match own {
                Some(who) => document::user(view, &who.name)?,
                None => None,
            };
            if user.is_none_or(|user| !user.has_role(name)) {
                all.push(on(Verb::PolicyRead, Target::Tenant));
            }
        }
        AccessQuery::Can { identity: whom, .. } => {
            if identity != Some(whom) {
                all.push(on(Verb::PolicyRead, Target::Tenant));
                all.push(on(Verb::AuthRead, Target::Tenant));
            }
        }
    }
    Ok(())
}

fn rules(
    view: &dyn View,
    identity: Option<&Identity>,
    change: &AccessChange,
    all: &mut Requirements,
) -> Result<(), Rejection> {
    match change {
        AccessChange::RoleAdd { .. } => all.push(on(Verb::PolicyWrite, Target::Tenant)),
        // It takes denies away with it, from everybody: whoever does that could do anything.
        AccessChange::RoleDelete { .. } => all.push(on(Verb::PolicyWrite, Target::Everything)),
        AccessChange::RoleParents { name, parents } => {
            let before = document::role(view, name)?.unwrap_or_default().parents;
            let touched = before.into_iter().chain(parents.iter().cloned());
            manage_roles(view, touched, all)?;
        }
        AccessChange::Grant { scope, .. } => manage(view, scope, all),
        AccessChange::Revoke { role, number } => {
            let role = document::role(view, role)?.unwrap_or_default();
            match role.grants.iter().find(|grant| grant.number == *number) {
                Some(grant) => manage(view, &grant.scope, all),
                None => all.push(on(Verb::PolicyWrite, Target::Tenant)),
            }
        }
        AccessChange::PermissionGrant { permission, .. } => match permission {
            Some(permission) => manage(view, &Scope::raw(permission.range.clone()), all),
            None => all.push(on(Verb::PolicyWrite, Target::Tenant)),
        },
        AccessChange::PermissionRevoke { range, .. } => {
            manage(view, &Scope::raw(range.clone()), all);
        }
        AccessChange::UserAdd { .. } => all.push(on(Verb::AuthWrite, Target::Tenant)),
        // Whoever sets a password can be that user.
        AccessChange::UserDelete { name } | AccessChange::UserPassword { name, .. } => {
            all.push(on(Verb::AuthWrite, Target::Tenant));
            let user = document::user(view, name)?.unwrap_or_default();
            manage_assignments(view, &user.roles, all)?;
        }
        AccessChange::Assign { assignment, .. } => {
            manage_assignments(view, std::slice::from_ref(assignment), all)?;
        }
        AccessChange::Unassign { subject, role } => {
            let held = assignments(view, subject)?;
            let held: Vec<_> = held.into_iter().filter(|held| held.role == *role).collect();
            if held.is_empty() {
                all.push(on(Verb::PolicyWrite, Target::Tenant));
            }
            manage_assignments(view, &held, all)?;
        }
        AccessChange::TokenIssue(token) => {
            all.push(on(Verb::AuthWrite, Target::Tenant));
            manage_assignments(view, &token.roles, all)?;
        }
        AccessChange::TokenRevoke { id } => {
            let own =
                identity.is_some_and(|who| who.kind == IdentityKind::Token && who.name == *id);
            if !own {
                all.push(on(Verb::AuthWrite, Target::Tenant));
            }
        }
        AccessChange::KeyKeep { .. } => all.push(on(Verb::AuthWrite, Target::Nobody)),
        AccessChange::Enable | AccessChange::Disable => {
            all.push(on(Verb::AuthWrite, Target::Everything));
        }
        AccessChange::PolicySet(_) | AccessChange::TrustSet(_) => {
            all.push(on(Verb::AuthWrite, Target::Everything));
            all.push(on(Verb::PolicyWrite, Target::Everything));
        }
    }
    Ok(())
}

/// The roles a subject has now.
pub(super) fn assignments(
    view: &dyn View,
    subject: &Subject,
) -> Result<Vec<Assignment>, Rejection> {
    Ok(match subject {
        Subject::User(name) => document::user(view, name)?.unwrap_or_default().roles,
        Subject::Token(id) => document::token(view, id)?.map_or(vec![], |token| token.roles),
        Subject::Certificate(_) | Subject::Jwt(_) | Subject::Group(_) => {
            document::binding(view, subject)?.unwrap_or_default().roles
        }
    })
}

/// To manage what lies in a scope.
fn manage(view: &dyn View, scope: &Scope, all: &mut Requirements) {
    let before = all.len();
    for region in scope.regions() {
        manage_region(view, region, all);
    }
    or_the_tenant(before, all);
}

/// What reaches nothing, now, is changed by somebody who manages the tenant: it may come to reach something.
fn or_the_tenant(before: usize, all: &mut Requirements) {
    if all.len() == before {
        all.push(on(Verb::PolicyWrite, Target::Tenant));
    }
}

fn manage_roles(
    view: &dyn View,
    names: impl IntoIterator<Item = Box<str>>,
    all: &mut Requirements,
) -> Result<(), Rejection> {
    let found = role::closure(names, |name| document::role(view, name))?;
    all.push(on(Verb::PolicyWrite, Target::Tenant));
    for grant in found.iter().flat_map(|role| &role.grants) {
        manage(view, &grant.scope, all);
    }
    Ok(())
}

/// To hand these out, or take them: everything they reach, as far as the assignment lets them.
fn manage_assignments(
    view: &dyn View,
    assignments: &[Assignment],
    all: &mut Requirements,
) -> Result<(), Rejection> {
    for assignment in assignments {
        let before = all.len();
        // Only somebody who can do what `root` does makes one, or becomes one by its password.
        if *assignment.role == *role::ROOT {
            let verbs = shipped::ROOT_TENANT.iter();
            all.extend(verbs.map(|verb| on(verb, Target::Everything)));
        }
        let found = role::closure([assignment.role.clone()], |name| document::role(view, name))?;
        let cuts = assignment.scope.regions();
        for grant in found.iter().flat_map(|role| &role.grants) {
            if assignment.scope == Scope::Tenant {
                manage(view, &grant.scope, all);
                continue;
            }
            for region in grant.scope.regions() {
                for cut in &cuts {
                    if let Some(region) = region.intersect(cut) {
                        manage_region(view, region, all);
                    }
                }
            }
        }
        or_the_tenant(before, all);
    }
    Ok(())
}

fn manage_region(view: &dyn View, region: Region, all: &mut Requirements) {
    let target = match region {
        Region::Tenant => Target::Everything,
        // Outside the tenant `default` it gives nothing.
        Region::In(CLUSTER_WIDE, _) if view.tenant().id != TenantId::DEFAULT => return,
        Region::In(CLUSTER_WIDE, _) => Target::Cluster,
        Region::In(TENANT_WIDE, _) => Target::Tenant,
        Region::In(space, interval) => Target::Keys {
            space,
            range: interval.to_range(),
        },
    };
    all.push(on(Verb::PolicyWrite, target));
}
