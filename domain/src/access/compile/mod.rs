//! Compiling the grants of one caller into intervals that can be searched.
//!
//! ```text
//!   subjects -> assignments -> roles (inherited ones too) -> grants that count now
//!        each grant's intervals, cut to where its role was assigned
//!   per verb and space:    pieces   |--g1--|--g2--|   |-g7-|      disjoint, each naming a grant
//!                          spans    |-------------|   |----|      adjacent pieces joined
//! ```
//!
//! Verbs that are granted by the same grants share one table. What comes out depends on the rules at one rules revision,
//! the identity and the circumstances; it is kept by the edge under these, until [`Compiled::until_ms`].

mod span;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::access::document;
use crate::access::grant::{Circumstances, Effect, Window};
use crate::access::principal::{Identity, IdentityKind, Subject};
use crate::access::role::{self, Assignment, Role};
use crate::access::scope::{CLUSTER_WIDE, Region};
use crate::access::shipped;
use crate::access::verb::{Verb, Verbs};
use crate::limits;
use crate::name::TenantId;
use crate::rejection::Rejection;
use crate::view::View;

pub use span::{Side, Spans};

/// Which grant, in words an operator can look up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GrantId {
    /// The role it stands in.
    pub role: Arc<str>,
    /// Its number there.
    pub number: u32,
}

impl std::fmt::Display for GrantId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{}", self.role, self.number)
    }
}

/// What allows and what denies one verb.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// What allows.
    pub allow: Side,
    /// What denies.
    pub deny: Side,
}

/// Everything one caller may do. Cheap to search, shared between requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    tenant: TenantId,
    rules_revision: u64,
    actor: Box<str>,
    grants: Box<[GrantId]>,
    tables: Box<[Table]>,
    /// By the number of the verb: the place of its table, plus one; zero is no grant at all.
    by_verb: [u8; 64],
    until_ms: Option<u64>,
    by_source: bool,
}

impl Compiled {
    /// Whose rules.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The rules revision they were compiled at.
    pub fn rules_revision(&self) -> u64 {
        self.rules_revision
    }

    /// The caller's name, as proposals carry it.
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// From this moment on they have to be compiled again; none is never.
    pub fn until_ms(&self) -> Option<u64> {
        self.until_ms
    }

    /// Whether they hold for the address they were compiled for alone.
    pub fn is_by_source(&self) -> bool {
        self.by_source
    }

    /// The table of a verb, if any grant names it.
    pub fn table(&self, verb: Verb) -> Option<&Table> {
        let place = self.by_verb.get(verb as usize)?.checked_sub(1)?;
        self.tables.get(usize::from(place))
    }

    /// A grant by its place in this compilation.
    pub fn grant(&self, place: u32) -> Option<&GrantId> {
        self.grants.get(place as usize)
    }
}

/// A grant on the way to a table.
struct Raw {
    verbs: Verbs,
    effect: Effect,
    region: Region,
    grant: u32,
}

/// Compiles what an identity may do under the rules a view shows.
///
/// Refuses an identity that is nobody any more: a user or token that is gone or expired is [`Rejection::InvalidToken`];
/// another tenant's, or a way to prove oneself the policy does not allow, is [`Rejection::PermissionDenied`].
pub fn compile(
    view: &dyn View,
    identity: &Identity,
    at: &Circumstances,
) -> Result<Compiled, Rejection> {
    if identity.tenant != view.tenant().id {
        return Err(Rejection::PermissionDenied);
    }
    let mut work = Work {
        view,
        identity,
        at,
        roles: BTreeMap::new(),
        names: BTreeMap::new(),
        grants: vec![],
        raws: vec![],
        until_ms: None,
        by_source: false,
    };
    work.obey_policy()?;
    if identity.kind == IdentityKind::BreakGlass {
        work.take(&shipped::break_glass(), &Assignment::default())?;
    }
    for subject in identity.subjects() {
        for assignment in work.assignments(&subject)? {
            work.assign(&assignment)?;
        }
    }
    Ok(work.finish())
}

struct Work<'a> {
    view: &'a dyn View,
    identity: &'a Identity,
    at: &'a Circumstances,
    roles: BTreeMap<Box<str>, Option<Role>>,
    /// Names of roles, shared between the ids of their grants.
    names: BTreeMap<Box<str>, Arc<str>>,
    grants: Vec<GrantId>,
    raws: Vec<Raw>,
    until_ms: Option<u64>,
    by_source: bool,
}

impl Work<'_> {
    fn obey_policy(&mut self) -> Result<(), Rejection> {
        let policy = document::policy(self.view)?;
        // Who comes with shares comes because everything else failed.
        if self.identity.kind == IdentityKind::BreakGlass {
            return Ok(());
        }
        let near = if policy.networks.is_empty() {
            true
        } else {
            self.by_source = true;
            self.at
                .source
                .is_some_and(|source| policy.networks.iter().any(|network| network.holds(source)))
        };
        if near && policy.proofs.admits(self.identity.proof) {
            Ok(())
        } else {
            Err(Rejection::PermissionDenied)
        }
    }

    fn assignments(&mut self, subject: &Subject) -> Result<Vec<Assignment>, Rejection> {
        match subject {
            Subject::User(name) => {
                let user = document::user(self.view, name)?;
                Ok(user.ok_or(Rejection::InvalidToken)?.roles)
            }
            Subject::Token(id) => {
                let token = document::token(self.view, id)?.ok_or(Rejection::InvalidToken)?;
                let near = if token.networks.is_empty() {
                    true
                } else {
                    self.by_source = true;
                    let holds = |source| token.networks.iter().any(|n| n.holds(source));
                    self.at.source.is_some_and(holds)
                };
                let alive = self.at.now_ms.is_some_and(|now| token.is_alive(now));
                if !near || !alive {
                    return Err(Rejection::InvalidToken);
                }
                self.ends(token.expires_ms);
                Ok(token.roles)
            }
            Subject::Certificate(_) | Subject::Jwt(_) | Subject::Group(_) => {
                let binding = document::binding(self.view, subject)?;
                Ok(binding.unwrap_or_default().roles)
            }
        }
    }

    fn ends(&mut self, moment_ms: u64) {
        self.until_ms = Some(
            self.until_ms
                .map_or(moment_ms, |until| until.min(moment_ms)),
        );
    }

    fn note(&mut self, window: Window) {
        if let Some(change) = self.at.now_ms.and_then(|now| window.next_change(now)) {
            self.ends(change);
        }
    }

    fn assign(&mut self, assignment: &Assignment) -> Result<(), Rejection> {
        self.note(assignment.window);
        if assignment.window.holds(self.at.now_ms) != Some(true) {
            return Ok(());
        }
        let view = self.view;
        let roles = &mut self.roles;
        let found = role::closure([assignment.role.clone()], |name| {
            if let Some(role) = roles.get(name) {
                return Ok(role.clone());
            }
            let role = document::role(view, name)?;
            roles.insert(name.into(), role.clone());
            Ok(role)
        })?;
        for role in &found {
            self.take(role, assignment)?;
        }
        Ok(())
    }

    /// Takes in the grants of a role that count, cut to where it was assigned.
    fn take(&mut self, role: &Role, assignment: &Assignment) -> Result<(), Rejection> {
        let cuts = if assignment.scope == crate::access::scope::Scope::Tenant {
            None
        } else {
            Some(assignment.scope.regions())
        };
        for grant in &role.grants {
            self.note(grant.conditions.window);
            self.by_source |= !grant.conditions.networks.is_empty();
            if !grant.counts(self.identity.proof, self.at) {
                continue;
            }
            if self.raws.len() >= limits::GRANTS_PER_SUBJECT_MAX {
                return Err(Rejection::AccessTooLarge {
                    what: "grants of one caller",
                    limit: limits::GRANTS_PER_SUBJECT_MAX,
                });
            }
            let place = self.grants.len() as u32;
            let name = self
                .names
                .entry(role.name.clone())
                .or_insert_with(|| Arc::from(&*role.name));
            self.grants.push(GrantId {
                role: Arc::clone(name),
                number: grant.number,
            });
            for region in grant.scope.regions() {
                let kept: Vec<Region> = match &cuts {
                    None => vec![region],
                    Some(cuts) => cuts
                        .iter()
                        .filter_map(|cut| region.intersect(cut))
                        .collect(),
                };
                self.raws.extend(kept.into_iter().map(|region| Raw {
                    verbs: grant.verbs,
                    effect: grant.effect,
                    region,
                    grant: place,
                }));
            }
        }
        Ok(())
    }

    fn finish(self) -> Compiled {
        let tenant = self.identity.tenant;
        let counts = |raw: &Raw| {
            let on_cluster = matches!(raw.region, Region::In(CLUSTER_WIDE, _));
            tenant == TenantId::DEFAULT || !on_cluster
        };
        let mut by_verb = [0u8; 64];
        let mut tables: Vec<Table> = vec![];
        let mut made: BTreeMap<Vec<u32>, u8> = BTreeMap::new();
        for verb in Verb::ALL {
            let mine: Vec<u32> = self
                .raws
                .iter()
                .zip(0u32..)
                .filter(|(raw, _)| raw.verbs.has(*verb) && counts(raw))
                .map(|(_, place)| place)
                .collect();
            if mine.is_empty() {
                continue;
            }
            let place = if let Some(place) = made.get(&mine) {
                *place
            } else {
                tables.push(table(&self.raws, &mine));
                let place = tables.len() as u8;
                made.insert(mine, place);
                place
            };
            if let Some(slot) = by_verb.get_mut(*verb as usize) {
                *slot = place;
            }
        }
        Compiled {
            tenant,
            rules_revision: self.view.rules_revision(),
            actor: self.identity.actor().into(),
            grants: self.grants.into(),
            tables: tables.into(),
            by_verb,
            until_ms: self.until_ms,
            by_source: self.by_source,
        }
    }
}

fn table(raws: &[Raw], mine: &[u32]) -> Table {
    let of = |effect| {
        let wanted = mine.iter().filter_map(|place| raws.get(*place as usize));
        let wanted = wanted.filter(|raw| raw.effect == effect);
        Side::build(wanted.map(|raw| (&raw.region, raw.grant)))
    };
    Table {
        allow: of(Effect::Allow),
        deny: of(Effect::Deny),
    }
}
