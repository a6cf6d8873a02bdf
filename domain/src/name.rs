//! Names that are valid if they exist.

use crate::limits;
use crate::rejection::Rejection;

/// The number a tenant is stored under. Never reused. Zero is the cluster's own system keyspace, which
/// no tenant's request can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub u32);

impl TenantId {
    /// The cluster's own keyspace.
    pub const SYSTEM: Self = Self(0);
    /// The tenant `default`, which exists from the first start.
    pub const DEFAULT: Self = Self(1);
}

impl std::fmt::Display for TenantId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A tenant's name: 1 to 63 of `a-z 0-9 - _ .`, beginning with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantName(Box<str>);

impl TenantName {
    /// The name of [`TenantId::DEFAULT`].
    pub const DEFAULT: &'static str = "default";

    /// Parses a name.
    pub fn new(name: &str) -> Result<Self, Rejection> {
        let bytes = name.as_bytes();
        let starts_well = bytes
            .first()
            .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let all_allowed = bytes.iter().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.')
        });
        if !starts_well || !all_allowed || bytes.len() > limits::TENANT_NAME_BYTES_MAX {
            return Err(Rejection::InvalidTenantName {
                name: name.chars().take(80).collect(),
            });
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for TenantName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_names_are_dns_like_and_lower_case() {
        for good in ["a", "default", "0x", "team-a.prod_1"] {
            assert!(TenantName::new(good).is_ok(), "{good}");
        }
        let long = "x".repeat(64);
        for bad in ["", "-a", ".a", "A", "a b", "a/b", "ä", long.as_str()] {
            assert!(TenantName::new(bad).is_err(), "{bad}");
        }
    }
}
