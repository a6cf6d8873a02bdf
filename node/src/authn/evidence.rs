//! What a request shows of who sends it.
//!
//! ```text
//!   token: T                  looked at first
//!   authorization: T          used when `token` is absent; `Bearer ` before either is taken off
//!   the connection            its certificate's name, if it showed one, and its address
//! ```
//!
//! A token that does not hold is a refusal: it is never passed over for the certificate behind it.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Extensions, HeaderMap, header};
use meridian_domain::access::grant::Address;
use meridian_domain::name::TenantId;

use super::certificate::Named;
use super::{Who, session, token};

/// The metadata etcd's clients put their token in.
pub const TOKEN_KEY: &str = "token";

/// The other end of a connection; stands in the extensions of requests it concerns.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it connects from.
    pub address: IpAddr,
    /// The certificate it showed and that was verified.
    pub certificate: Option<Arc<Named>>,
}

/// What was shown.
pub struct Evidence {
    /// A token, by its kind.
    pub token: Option<Shown>,
    /// A certificate.
    pub certificate: Option<Arc<Named>>,
    /// From where.
    pub source: Option<Address>,
}

/// A token as it was shown, told apart by how it begins.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Shown {
    /// What a password was exchanged for.
    Session(Bytes),
    /// An API token.
    Token(Bytes),
    /// Nothing this member gives out.
    Unreadable,
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the text.
        f.write_str(match self {
            Self::Session(_) => "Session(..)",
            Self::Token(_) => "Token(..)",
            Self::Unreadable => "Unreadable",
        })
    }
}

impl std::fmt::Debug for Evidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never what was shown.
        f.debug_struct("Evidence")
            .field("token", &self.token.is_some())
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

impl Who {
    /// What a request shows.
    pub fn of(headers: &HeaderMap, extensions: &Extensions) -> Self {
        let token = headers
            .get(TOKEN_KEY)
            .or_else(|| headers.get(header::AUTHORIZATION));
        let peer = extensions.get::<Arc<Peer>>();
        let certificate = peer.and_then(|peer| peer.certificate.clone());
        if token.is_none() && certificate.is_none() {
            return Self::Nobody;
        }
        Self::Shown(Arc::new(Evidence {
            token: token.map(|value| Shown::of(value.as_bytes())),
            certificate,
            source: peer.map(|peer| address(peer.address)),
        }))
    }

    /// Whose tenant it says it is: not proven.
    pub fn claims(&self) -> Option<TenantId> {
        match self {
            Self::Nobody | Self::Cluster => None,
            Self::Shown(evidence) => match evidence.token.as_ref()? {
                Shown::Session(text) => session::claims(text),
                Shown::Token(text) => token::read(text).map(|parts| parts.tenant),
                Shown::Unreadable => None,
            },
            Self::Held(held) => Some(held.identity.tenant),
        }
    }
}

impl Shown {
    /// A token out of the value of a header.
    fn of(value: &[u8]) -> Self {
        const BEARER: &[u8] = b"bearer ";
        let text = match value.split_at_checked(BEARER.len()) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(BEARER) => rest.trim_ascii(),
            _ => value,
        };
        if text.starts_with(session::BEGINS) {
            Self::Session(Bytes::copy_from_slice(text))
        } else if text.starts_with(token::BEGINS) {
            Self::Token(Bytes::copy_from_slice(text))
        } else {
            Self::Unreadable
        }
    }
}

/// Where a request comes from, if its connection is known.
pub fn source(extensions: &Extensions) -> Option<Address> {
    extensions
        .get::<Arc<Peer>>()
        .map(|peer| address(peer.address))
}

fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(ip) => Address::v4(ip.octets()),
        IpAddr::V6(ip) => Address(ip.octets()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use http::HeaderValue;

    use super::*;

    fn shown(pairs: &[(&'static str, &'static str)]) -> Option<Shown> {
        let headers = pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect();
        match Who::of(&headers, &Extensions::new()) {
            Who::Shown(evidence) => evidence.token.clone(),
            _ => None,
        }
    }

    fn session(text: &'static str) -> Option<Shown> {
        Some(Shown::Session(Bytes::from_static(text.as_bytes())))
    }

    #[test]
    fn a_token_stands_in_either_place_with_or_without_its_scheme() {
        assert_eq!(shown(&[("token", "mrs_1")]), session("mrs_1"));
        assert_eq!(shown(&[("authorization", "mrs_1")]), session("mrs_1"));
        assert_eq!(
            shown(&[("authorization", "Bearer mrs_1")]),
            session("mrs_1")
        );
        assert_eq!(shown(&[("token", "bearer mrs_1")]), session("mrs_1"));
        let both = [("authorization", "mrs_2"), ("token", "mrs_1")];
        assert_eq!(shown(&both), session("mrs_1"));
    }

    #[test]
    fn what_is_no_token_of_ours_is_shown_all_the_same() {
        for text in ["", "Basic cm9vdDpwdw==", "GdGTiBlyoigYNJBe.62209", "MRS_1"] {
            assert_eq!(shown(&[("token", text)]), Some(Shown::Unreadable), "{text}");
        }
        assert_eq!(shown(&[]), None);
    }

    #[test]
    fn what_was_shown_is_not_printed() {
        let headers = HeaderMap::from_iter([(
            header::AUTHORIZATION,
            HeaderValue::from_static("Bearer mrs_secret"),
        )]);
        let printed = format!("{:?}", Who::of(&headers, &Extensions::new()));
        assert!(!printed.contains("secret"), "{printed}");
    }
}
