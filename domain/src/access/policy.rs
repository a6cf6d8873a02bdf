//! A tenant's security policy, and whom it trusts to say who somebody is.

use crate::access::grant::{Network, Proofs};
use crate::access::scope::Scope;
use crate::limits;

/// Rules of a tenant that are no grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The ways callers may prove who they are; empty is any.
    pub proofs: Proofs,
    /// Where they may come from; empty is anywhere.
    pub networks: Vec<Network>,
    /// The least characters of a password. Judged at the edge, which alone sees one.
    pub password_chars_min: u32,
    /// Wrong passwords in a row that lock a user.
    pub lock_after: u32,
    /// For how long, in seconds.
    pub lock_seconds: u64,
    /// The longest life of a token, in seconds; at most [`limits::TOKEN_TTL_SECONDS_MAX`].
    pub token_ttl_seconds_max: u64,
    /// Reads of these are written to the audit log one by one, not summed up.
    pub audited: Vec<Scope>,
    /// The regions the tenant's data may live in; empty is any.
    pub regions: Vec<Box<str>>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            proofs: Proofs::default(),
            networks: vec![],
            password_chars_min: 12,
            lock_after: 10,
            lock_seconds: 30 * 60,
            token_ttl_seconds_max: limits::TOKEN_TTL_SECONDS_MAX,
            audited: vec![],
            regions: vec![],
        }
    }
}

/// Whom a tenant trusts to say who somebody is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// SPIFFE trust domains whose ids are accepted.
    pub domains: Vec<Box<str>>,
    /// Whether DNS names of certificates are names.
    pub dns_names: bool,
    /// Whether common names are, as etcd has it.
    pub common_names: bool,
    /// Issuers of JWTs.
    pub issuers: Vec<Issuer>,
}

/// An issuer of JWTs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "the claim is called so")]
pub struct Issuer {
    /// Its short name, used in names of subjects and groups.
    pub name: Box<str>,
    /// The claim `iss`, exactly.
    pub issuer: Box<str>,
    /// The claim `aud` must hold one of these.
    pub audiences: Vec<Box<str>>,
    /// The algorithms accepted. There is no word for none and none for shared secrets.
    pub algorithms: Vec<Algorithm>,
    /// Where its keys are.
    pub keys_url: Box<str>,
    /// The claim that lists groups; empty is no groups.
    pub groups_claim: Box<str>,
}

/// How a JWT may be signed. The number is part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA PKCS #1 v1.5 with SHA-256.
    Rs256 = 0,
    /// ECDSA on P-256 with SHA-256.
    Es256 = 1,
    /// Ed25519.
    EdDsa = 2,
}

/// Whether authentication is on. The one document that opens and closes the door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Door {
    /// On.
    pub enabled: bool,
    /// Moves when something other than a rule ends what was handed out: a token that was revoked.
    pub revocations: u64,
}
