//! API tokens: what the store keeps of them, which is never the secret.

use crate::access::grant::Network;
use crate::access::role::Assignment;

/// A token as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Its public id.
    pub id: Box<str>,
    /// A keyed hash of the secret, made at the edge.
    pub digest: [u8; 32],
    /// Who it was issued to, for people.
    pub holder: Box<str>,
    /// What it may do.
    pub roles: Vec<Assignment>,
    /// When it was issued, in milliseconds since 1970-01-01T00:00:00Z.
    pub issued_ms: u64,
    /// When it ends; never zero.
    pub expires_ms: u64,
    /// Where it may be used from; empty is anywhere.
    pub networks: Vec<Network>,
    /// The certificate name it may be used with; none is any.
    pub bound_to: Option<Box<str>>,
}

impl Token {
    /// Whether it can be used at a moment.
    pub fn is_alive(&self, now_ms: u64) -> bool {
        now_ms < self.expires_ms
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the digest.
        f.debug_struct("Token")
            .field("id", &self.id)
            .field("holder", &self.holder)
            .field("roles", &self.roles)
            .field("issued_ms", &self.issued_ms)
            .field("expires_ms", &self.expires_ms)
            .finish_non_exhaustive()
    }
}
