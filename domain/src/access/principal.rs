//! Who asks.
//!
//! ```text
//!   bytes on a socket --prove--> Identity --rules at revision r--> Compiled        at the edge
//!                                    '--------- Caller ---------------'
//! ```
//!
//! An identity belongs to one tenant, and that comes from what proved it, never from the request. Rights are compiled
//! from the rules of one rules revision; a caller whose rights are older than the view is refused, not trusted.

use std::sync::Arc;

use crate::access::compile::Compiled;
use crate::access::grant::Proof;
use crate::access::role::Assignment;
use crate::name::TenantId;

/// Who a request comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Principal {
    /// Nobody in particular. May do everything while authentication is off, nothing once it is on.
    #[default]
    Anonymous,
    /// The cluster itself: lease expiry, automatic compaction. May do a fixed, small set of things.
    System,
    /// Somebody known.
    Caller(Arc<Caller>),
}

/// Somebody known, with their rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub identity: Arc<Identity>,
    /// What they may do, at one rules revision.
    pub rights: Arc<Compiled>,
}

/// Who somebody is, and how that was proven.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Whose rules it lives under.
    pub tenant: TenantId,
    /// What kind of name it is.
    pub kind: IdentityKind,
    /// The name: of a user, a SPIFFE id or certificate name, a token's id, `issuer|subject`.
    pub name: Box<str>,
    /// How it was proven.
    pub proof: Proof,
    /// The groups a JWT claims, as `issuer|group`.
    pub groups: Vec<Box<str>>,
}

/// The kinds of names. The number is part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdentityKind {
    /// A user of the tenant, as etcd's clients know them.
    User = 0,
    /// A name out of a certificate.
    Certificate = 1,
    /// An API token.
    Token = 2,
    /// The subject of a JWT.
    Jwt = 3,
    /// A break-glass session.
    BreakGlass = 4,
}

impl IdentityKind {
    /// Its word in names of actors.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Certificate => "certificate",
            Self::Token => "token",
            Self::Jwt => "jwt",
            Self::BreakGlass => "break-glass",
        }
    }
}

/// Whom a role is assigned to, besides users and tokens, which carry their roles themselves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A user.
    User(Box<str>),
    /// A certificate's name.
    Certificate(Box<str>),
    /// A JWT's `issuer|subject`.
    Jwt(Box<str>),
    /// Everybody a JWT says is in `issuer|group`.
    Group(Box<str>),
    /// A token.
    Token(Box<str>),
}

impl Subject {
    /// The name within its kind.
    pub fn name(&self) -> &str {
        match self {
            Self::User(name)
            | Self::Certificate(name)
            | Self::Jwt(name)
            | Self::Group(name)
            | Self::Token(name) => name,
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self {
            Self::User(_) => "user",
            Self::Certificate(_) => "certificate",
            Self::Jwt(_) => "jwt",
            Self::Group(_) => "group",
            Self::Token(_) => "token",
        };
        write!(f, "{kind}:{}", self.name())
    }
}

/// The roles kept for a subject that is neither a user nor a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// The roles.
    pub roles: Vec<Assignment>,
}

impl Identity {
    /// A user who gave a password, or shows what they got for one.
    pub fn user(tenant: TenantId, name: &str) -> Self {
        Self {
            tenant,
            kind: IdentityKind::User,
            name: name.into(),
            proof: Proof::Password,
            groups: vec![],
        }
    }

    /// Every subject whose roles it has.
    pub fn subjects(&self) -> Vec<Subject> {
        let name = self.name.clone();
        let mut all = match self.kind {
            IdentityKind::User => vec![Subject::User(name)],
            IdentityKind::Certificate => vec![Subject::Certificate(name)],
            IdentityKind::Token => vec![Subject::Token(name)],
            IdentityKind::Jwt => vec![Subject::Jwt(name)],
            IdentityKind::BreakGlass => vec![],
        };
        if self.kind == IdentityKind::Jwt {
            all.extend(self.groups.iter().cloned().map(Subject::Group));
        }
        all
    }

    /// The name written into proposals.
    pub fn actor(&self) -> String {
        format!("{}:{}", self.kind.name(), self.name)
    }
}

impl Principal {
    /// The name written into proposals.
    pub fn name(&self) -> &str {
        match self {
            Self::Anonymous => "anonymous",
            Self::System => "system",
            Self::Caller(caller) => caller.rights.actor(),
        }
    }

    /// Who it is, if it is somebody known.
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Anonymous | Self::System => None,
            Self::Caller(caller) => Some(&caller.identity),
        }
    }
}
