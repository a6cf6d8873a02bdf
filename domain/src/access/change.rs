//! Every change of the rules, and every question about them: closed enums, like [`crate::intent::Intent`].
//!
//! What takes time or secrets to make (hashes of passwords, digests of tokens, random ids, the time) comes in as data.

use crate::access::decide::Decision;
use crate::access::grant::{Conditions, Effect, Grant, Permission};
use crate::access::key::Key;
use crate::access::policy::{Door, Policy, Trust};
use crate::access::principal::{Identity, Subject};
use crate::access::role::{Assignment, Role};
use crate::access::scope::Scope;
use crate::access::token::Token;
use crate::access::verb::{Verb, Verbs};
use crate::key::{KeyRange, Space};

/// One change of a tenant's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessChange {
    /// Add a role without grants.
    RoleAdd {
        /// Its name.
        name: Box<str>,
    },
    /// Remove a role, and take it from everybody who has it.
    RoleDelete {
        /// Its name.
        name: Box<str>,
    },
    /// Say which roles a role takes over from.
    RoleParents {
        /// Its name.
        name: Box<str>,
        /// All of them.
        parents: Vec<Box<str>>,
    },
    /// Add a grant to a role.
    Grant {
        /// The role.
        role: Box<str>,
        /// Gives or takes.
        effect: Effect,
        /// Which verbs; at least one.
        verbs: Verbs,
        /// On what.
        scope: Scope,
        /// When it counts.
        conditions: Conditions,
    },
    /// Remove a grant from a role.
    Revoke {
        /// The role.
        role: Box<str>,
        /// The grant's number.
        number: u32,
    },
    /// etcd's way to add a grant: an identical range gets the new kind.
    PermissionGrant {
        /// The role.
        role: Box<str>,
        /// The permission; etcd's wire may lack it.
        permission: Option<Permission>,
    },
    /// etcd's way to remove one: by its range.
    PermissionRevoke {
        /// The role.
        role: Box<str>,
        /// The range, exactly as it was granted.
        range: KeyRange,
    },
    /// Add a user.
    UserAdd {
        /// The name.
        name: Box<str>,
        /// The hash of the password; none: no password opens this user.
        password: Option<Box<str>>,
    },
    /// Remove a user.
    UserDelete {
        /// The name.
        name: Box<str>,
    },
    /// Change a user's password. What was handed out for the old one ends.
    UserPassword {
        /// The name.
        name: Box<str>,
        /// The hash of the new password.
        password: Option<Box<str>>,
    },
    /// Give a role to somebody, somewhere, for a time.
    Assign {
        /// To whom.
        subject: Subject,
        /// What.
        assignment: Assignment,
    },
    /// Take a role from somebody, wherever they have it.
    Unassign {
        /// From whom.
        subject: Subject,
        /// The role's name.
        role: Box<str>,
    },
    /// Issue a token.
    TokenIssue(Token),
    /// End a token.
    TokenRevoke {
        /// Its public id.
        id: Box<str>,
    },
    /// Keep a key the members sign or hash credentials with, unless there is one of this name.
    KeyKeep {
        /// What it is for.
        name: &'static str,
        /// The key.
        key: Key,
    },
    /// Switch authentication on.
    Enable,
    /// Switch it off.
    Disable,
    /// Set the security policy.
    PolicySet(Policy),
    /// Set whom the tenant trusts.
    TrustSet(Trust),
}

/// A question about a tenant's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessQuery {
    /// Whether authentication is on.
    Status,
    /// Every user's name.
    Users,
    /// A user's roles.
    User(Box<str>),
    /// Every role's name.
    Roles,
    /// A role.
    Role(Box<str>),
    /// A subject's roles.
    Binding(Subject),
    /// Every token, without what it is checked with.
    Tokens,
    /// The security policy.
    Policy,
    /// Whom the tenant trusts.
    Trust,
    /// Whether somebody may do something, and why.
    Can {
        /// Who.
        identity: Identity,
        /// What.
        verb: Verb,
        /// In which space.
        space: Space,
        /// On which keys.
        range: KeyRange,
        /// When, in milliseconds since 1970-01-01T00:00:00Z.
        now_ms: u64,
    },
}

/// The answer to an [`AccessQuery`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessFound {
    /// To [`AccessQuery::Status`].
    Status {
        /// Whether authentication is on.
        door: Door,
        /// The rules revision.
        rules_revision: u64,
    },
    /// Names, in order.
    Names(Vec<Box<str>>),
    /// Roles of somebody.
    Assignments(Vec<Assignment>),
    /// A role.
    Role(Role),
    /// Tokens, in order of their ids.
    Tokens(Vec<TokenFacts>),
    /// The security policy.
    Policy(Policy),
    /// Whom the tenant trusts.
    Trust(Trust),
    /// To [`AccessQuery::Can`].
    Can {
        /// Whether they may.
        allowed: bool,
        /// The decision in words, naming the grant.
        why: String,
    },
}

/// A token, without what it is checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFacts {
    /// Its public id.
    pub id: Box<str>,
    /// Who it was issued to.
    pub holder: Box<str>,
    /// What it may do.
    pub roles: Vec<Assignment>,
    /// When it was issued, in milliseconds since 1970-01-01T00:00:00Z.
    pub issued_ms: u64,
    /// When it ends.
    pub expires_ms: u64,
}

impl From<Token> for TokenFacts {
    fn from(token: Token) -> Self {
        Self {
            id: token.id,
            holder: token.holder,
            roles: token.roles,
            issued_ms: token.issued_ms,
            expires_ms: token.expires_ms,
        }
    }
}

impl AccessFound {
    /// The answer a decision comes to.
    pub fn of(decision: &Decision<'_>) -> Self {
        Self::Can {
            allowed: decision.is_allowed(),
            why: decision.to_string(),
        }
    }
}

impl Role {
    /// What etcd's clients see of it: `root` is one permission on everything.
    pub fn permissions(&self) -> Vec<Permission> {
        if *self.name == *crate::access::role::ROOT {
            return vec![Permission {
                kind: crate::access::grant::PermissionKind::ReadWrite,
                range: KeyRange::all(),
            }];
        }
        let mut seen: Vec<Permission> = self
            .grants
            .iter()
            .filter_map(Grant::as_permission)
            .collect();
        seen.sort_by(|a, b| a.range.start.cmp(&b.range.start));
        seen
    }
}
