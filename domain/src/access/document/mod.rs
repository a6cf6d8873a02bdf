//! Documents: how rules lie in the keyspace.
//!
//! ```text
//!   space access        door                     whether authentication is on
//!                       policy                   the tenant's security policy
//!                       trust                    whom it trusts
//!                       role/<name>              a role
//!                       user/<name>              a user
//!                       bind/<kind>/<name>       roles of a certificate, JWT or group
//!   space credentials   token/<id>               a token
//!                       key/<name>               a key of the cluster's own
//! ```
//!
//! A value is a byte with the version (1), then the fields of the document in order ([`bytes`]). Equal documents are
//! equal bytes. Reading refuses what this version did not write, to the last byte; it never panics, and reserves no
//! memory on the word of a length it read. A document that can not be read is a *no* to everybody it concerns.

mod bytes;
mod form;
#[cfg(test)]
mod tests;

use ::bytes::Bytes;

use crate::access::key::Key;
use crate::access::policy::{Door, Policy, Trust};
use crate::access::principal::{Binding, Subject};
use crate::access::role::Role;
use crate::access::token::Token;
use crate::access::user::User;
use crate::key::{KeyRange, Space};
use crate::kv::Range;
use crate::rejection::Rejection;
use crate::view::View;

use self::bytes::{Reader, Writer};

/// The version this program writes and reads.
pub const VERSION: u8 = 1;

/// Something kept as a document.
pub trait Document: Sized {
    /// Writes the fields, in order.
    fn write(&self, to: &mut Writer);
    /// Reads them; none if they are not what was written.
    fn read(from: &mut Reader<'_>) -> Option<Self>;
}

/// Where a document lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The space.
    pub space: Space,
    /// The key.
    pub key: Bytes,
}

impl Place {
    fn in_access(parts: &[&str]) -> Self {
        Self {
            space: Space::ACCESS,
            key: parts.concat().into(),
        }
    }

    /// Of the door.
    pub fn door() -> Self {
        Self {
            space: Space::ACCESS,
            key: Bytes::from_static(b"door"),
        }
    }

    /// Of the policy.
    pub fn policy() -> Self {
        Self::in_access(&["policy"])
    }

    /// Of the trust.
    pub fn trust() -> Self {
        Self::in_access(&["trust"])
    }

    /// Of a role.
    pub fn role(name: &str) -> Self {
        Self::in_access(&["role/", name])
    }

    /// Of a user.
    pub fn user(name: &str) -> Self {
        Self::in_access(&["user/", name])
    }

    /// Of a token.
    pub fn token(id: &str) -> Self {
        Self {
            space: Space::CREDENTIALS,
            key: ["token/", id].concat().into(),
        }
    }

    /// Of a key of the cluster's own.
    pub fn key_named(name: &str) -> Self {
        Self {
            space: Space::CREDENTIALS,
            key: ["key/", name].concat().into(),
        }
    }

    /// Of a subject's binding; none for users and tokens, which carry their roles themselves.
    pub fn binding(subject: &Subject) -> Option<Self> {
        let kind = match subject {
            Subject::User(_) | Subject::Token(_) => return None,
            Subject::Certificate(_) => "certificate/",
            Subject::Jwt(_) => "jwt/",
            Subject::Group(_) => "group/",
        };
        Some(Self::in_access(&["bind/", kind, subject.name()]))
    }

    /// Where all roles lie.
    pub fn roles() -> Range {
        Range::of(
            Space::ACCESS,
            KeyRange::prefix(Bytes::from_static(b"role/")),
        )
    }

    /// Where all users lie.
    pub fn users() -> Range {
        Range::of(
            Space::ACCESS,
            KeyRange::prefix(Bytes::from_static(b"user/")),
        )
    }

    /// Where all bindings lie.
    pub fn bindings() -> Range {
        Range::of(
            Space::ACCESS,
            KeyRange::prefix(Bytes::from_static(b"bind/")),
        )
    }

    /// Where all tokens lie.
    pub fn tokens() -> Range {
        Range::of(
            Space::CREDENTIALS,
            KeyRange::prefix(Bytes::from_static(b"token/")),
        )
    }
}

/// The bytes of a document.
pub fn encode(document: &impl Document) -> Bytes {
    let mut writer = Writer::default();
    writer.byte(VERSION);
    document.write(&mut writer);
    writer.finish()
}

/// A document out of bytes.
pub fn decode<D: Document>(value: &[u8]) -> Result<D, Rejection> {
    let mut reader = Reader::of(value);
    let found = match reader.byte() {
        Some(VERSION) => D::read(&mut reader),
        Some(_) | None => None,
    };
    found
        .filter(|_| reader.is_at_end())
        .ok_or(Rejection::AccessUnreadable)
}

/// The document at a place, if there is one.
pub fn find<D: Document>(view: &dyn View, place: &Place) -> Result<Option<D>, Rejection> {
    let range = Range::of(place.space, KeyRange::single(place.key.clone()));
    let found = view.range(&range)?;
    found.kvs.first().map(|kv| decode(&kv.value)).transpose()
}

/// Every document of a range, in the order of their keys.
pub fn list<D: Document>(view: &dyn View, range: &Range) -> Result<Vec<D>, Rejection> {
    let found = view.range(range)?;
    found.kvs.iter().map(|kv| decode(&kv.value)).collect()
}

/// How many documents lie in a range.
pub fn count(view: &dyn View, mut range: Range) -> Result<i64, Rejection> {
    range.count_only = true;
    Ok(view.range(&range)?.count)
}

/// Whether authentication is on, as a view shows it; a tenant whose rules were never written to has it off.
pub fn door(view: &dyn View) -> Result<Door, Rejection> {
    Ok(find(view, &Place::door())?.unwrap_or_default())
}

/// A role of a tenant, if it was added.
pub fn role(view: &dyn View, name: &str) -> Result<Option<Role>, Rejection> {
    find(view, &Place::role(name))
}

/// A user, if there is one.
pub fn user(view: &dyn View, name: &str) -> Result<Option<User>, Rejection> {
    find(view, &Place::user(name))
}

/// A token, if there is one.
pub fn token(view: &dyn View, id: &str) -> Result<Option<Token>, Rejection> {
    find(view, &Place::token(id))
}

/// A key of the cluster's own, if it was made.
pub fn key(view: &dyn View, name: &str) -> Result<Option<Key>, Rejection> {
    find(view, &Place::key_named(name))
}

/// A subject's binding, if there is one.
pub fn binding(view: &dyn View, subject: &Subject) -> Result<Option<Binding>, Rejection> {
    Place::binding(subject).map_or(Ok(None), |place| find(view, &place))
}

/// The tenant's policy.
pub fn policy(view: &dyn View) -> Result<Policy, Rejection> {
    Ok(find(view, &Place::policy())?.unwrap_or_default())
}

/// Whom the tenant trusts.
pub fn trust(view: &dyn View) -> Result<Trust, Rejection> {
    Ok(find(view, &Place::trust())?.unwrap_or_default())
}
