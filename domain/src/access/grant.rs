//! Grants: verbs on a scope, allowed or denied, under conditions.
//!
//! Conditions are judged at the edge alone, on circumstances given as data. What can not be judged (no clock, no
//! address) is false for an allow and true for a deny: both err to no.

use crate::access::scope::Scope;
use crate::access::verb::Verbs;
use crate::key::{KeyRange, Space};

/// Whether a grant gives or takes. What is denied stays denied, whatever else allows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effect {
    /// It gives.
    #[default]
    Allow,
    /// It takes.
    Deny,
}

/// One right, or the refusal of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its number within its role; never given twice.
    pub number: u32,
    /// Gives or takes.
    pub effect: Effect,
    /// Which verbs.
    pub verbs: Verbs,
    /// On what.
    pub scope: Scope,
    /// Under which conditions.
    pub conditions: Conditions,
}

/// When a grant counts. Everything that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The time it counts in.
    pub window: Window,
    /// How callers must have proven who they are; empty is any way.
    pub proofs: Proofs,
    /// Where they must come from; empty is anywhere. At most [`crate::limits::NETWORKS_MAX`].
    pub networks: Vec<Network>,
}

/// A time, in milliseconds since 1970-01-01T00:00:00Z. Zero is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// From here on, inclusive.
    pub not_before_ms: u64,
    /// Up to here, exclusive.
    pub not_after_ms: u64,
}

impl Window {
    /// Whether it has no bound.
    pub fn is_always(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a moment lies in it. None: nobody knows the time, and it matters.
    pub fn holds(&self, now_ms: Option<u64>) -> Option<bool> {
        if self.is_always() {
            return Some(true);
        }
        now_ms.map(|now| {
            now >= self.not_before_ms && (self.not_after_ms == 0 || now < self.not_after_ms)
        })
    }

    /// The next moment after `now` at which the answer changes.
    pub fn next_change(&self, now_ms: u64) -> Option<u64> {
        [self.not_before_ms, self.not_after_ms]
            .into_iter()
            .filter(|moment| *moment > now_ms)
            .min()
    }
}

/// How somebody proved who they are. The number is part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proof {
    /// A client certificate.
    Certificate = 0,
    /// An API token.
    Token = 1,
    /// A signed JWT of a trusted issuer.
    Jwt = 2,
    /// A password.
    Password = 3,
    /// Shares of a break-glass secret.
    Shares = 4,
    /// Nothing: made within the process.
    Internal = 5,
}

impl Proof {
    /// Every one, by number.
    pub const ALL: [Self; 6] = [
        Self::Certificate,
        Self::Token,
        Self::Jwt,
        Self::Password,
        Self::Shares,
        Self::Internal,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Token => "token",
            Self::Jwt => "jwt",
            Self::Password => "password",
            Self::Shares => "shares",
            Self::Internal => "internal",
        }
    }
}

/// A set of ways to prove who one is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proofs(u8);

impl Proofs {
    /// The set of these.
    pub fn of(proofs: &[Proof]) -> Self {
        Self(
            proofs
                .iter()
                .fold(0, |set, proof| set | 1 << (*proof as u8)),
        )
    }

    /// Whether one is in it; the empty set means any.
    pub fn admits(self, proof: Proof) -> bool {
        self.0 == 0 || self.0 & (1 << (proof as u8)) != 0
    }

    /// Whether it admits any.
    pub fn is_any(self) -> bool {
        self.0 == 0
    }

    /// One bit per proof, at its number.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// From bits; none if one of them means nothing to this version.
    pub fn from_bits(bits: u8) -> Option<Self> {
        (bits >> Proof::ALL.len() == 0).then_some(Self(bits))
    }
}

/// An address of 128 bits; one of 32 bits stands as `::ffff:a.b.c.d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address(pub [u8; 16]);

impl Address {
    /// An address of 32 bits.
    pub const fn v4([a, b, c, d]: [u8; 4]) -> Self {
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }
}

/// The addresses that share their first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// An address in it.
    pub address: Address,
    /// How many bits are shared, 0 to 128; for an address of 32 bits 96 more than usually written.
    pub bits: u8,
}

impl Network {
    /// Whether an address lies in it.
    pub fn holds(&self, address: Address) -> bool {
        let of = |address: Address| u128::from_be_bytes(address.0);
        let shift = 128u32.saturating_sub(u32::from(self.bits));
        let differing = of(self.address) ^ of(address);
        differing.checked_shr(shift).unwrap_or(0) == 0
    }
}

/// What conditions are judged on: facts about one request, given as data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// The time, in milliseconds since 1970-01-01T00:00:00Z.
    pub now_ms: Option<u64>,
    /// Where the request comes from.
    pub source: Option<Address>,
}

impl Conditions {
    /// Whether all hold; none if one can not be judged and no other fails.
    fn hold(&self, proof: Proof, at: &Circumstances) -> Option<bool> {
        let networks = if self.networks.is_empty() {
            Some(true)
        } else {
            at.source
                .map(|source| self.networks.iter().any(|network| network.holds(source)))
        };
        let parts = [
            Some(self.proofs.admits(proof)),
            self.window.holds(at.now_ms),
            networks,
        ];
        if parts.contains(&Some(false)) {
            Some(false)
        } else if parts.contains(&None) {
            None
        } else {
            Some(true)
        }
    }
}

impl Grant {
    /// Whether it counts now. What can not be judged is false for an allow, true for a deny.
    pub fn counts(&self, proof: Proof, at: &Circumstances) -> bool {
        self.conditions
            .hold(proof, at)
            .unwrap_or(self.effect == Effect::Deny)
    }

    /// The grant etcd's permission stands for.
    pub fn of_permission(number: u32, permission: &Permission) -> Self {
        Self {
            number,
            effect: Effect::Allow,
            verbs: permission.kind.verbs(),
            scope: Scope::raw(permission.range.clone()),
            conditions: Conditions::default(),
        }
    }

    /// The permission etcd's clients see; none if they have no words for it.
    pub fn as_permission(&self) -> Option<Permission> {
        let Scope::Keys {
            space: Space::RAW,
            range,
        } = &self.scope
        else {
            return None;
        };
        if self.effect == Effect::Deny || self.conditions != Conditions::default() {
            return None;
        }
        let kinds = [
            PermissionKind::Read,
            PermissionKind::Write,
            PermissionKind::ReadWrite,
        ];
        let kind = kinds.into_iter().find(|kind| kind.verbs() == self.verbs)?;
        Some(Permission {
            kind,
            range: range.clone(),
        })
    }
}

/// A right as etcd has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// To do what.
    pub kind: PermissionKind,
    /// With which keys.
    pub range: KeyRange,
}

/// What etcd tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermissionKind {
    /// Read, compare and watch.
    Read,
    /// Write and delete.
    Write,
    /// Both.
    ReadWrite,
}

impl PermissionKind {
    /// The verbs it stands for.
    pub const fn verbs(self) -> Verbs {
        match self {
            Self::Read => Verbs::ETCD_READ,
            Self::Write => Verbs::ETCD_WRITE,
            Self::ReadWrite => Verbs::ETCD_READ.and(Verbs::ETCD_WRITE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(effect: Effect, conditions: Conditions) -> Grant {
        Grant {
            number: 1,
            effect,
            verbs: Verbs::ETCD_READ,
            scope: Scope::Tenant,
            conditions,
        }
    }

    #[test]
    fn what_can_not_be_judged_errs_to_no() {
        let window = Window {
            not_before_ms: 10,
            not_after_ms: 20,
        };
        let conditions = Conditions {
            window,
            ..Conditions::default()
        };
        let nowhen = Circumstances::default();
        let at = |now_ms| Circumstances {
            now_ms: Some(now_ms),
            source: None,
        };
        let allow = grant(Effect::Allow, conditions.clone());
        let deny = grant(Effect::Deny, conditions);
        assert!(!allow.counts(Proof::Token, &nowhen));
        assert!(deny.counts(Proof::Token, &nowhen));
        for (now, inside) in [(9, false), (10, true), (19, true), (20, false)] {
            assert_eq!(allow.counts(Proof::Token, &at(now)), inside, "{now}");
            assert_eq!(deny.counts(Proof::Token, &at(now)), inside, "{now}");
        }
        assert_eq!(window.next_change(5), Some(10));
        assert_eq!(window.next_change(10), Some(20));
        assert_eq!(window.next_change(20), None);
    }

    #[test]
    fn a_network_is_the_addresses_that_share_its_bits() {
        let network = Network {
            address: Address::v4([10, 1, 0, 0]),
            bits: 96 + 16,
        };
        assert!(network.holds(Address::v4([10, 1, 255, 9])));
        assert!(!network.holds(Address::v4([10, 2, 0, 0])));
        assert!(!network.holds(Address([0; 16])));
        let everything = Network { bits: 0, ..network };
        assert!(everything.holds(Address([0xff; 16])));
        let one = Network {
            bits: 128,
            ..network
        };
        assert!(one.holds(Address::v4([10, 1, 0, 0])) && !one.holds(Address::v4([10, 1, 0, 1])));
    }

    #[test]
    fn a_permission_comes_back_as_etcd_gave_it() {
        for kind in [
            PermissionKind::Read,
            PermissionKind::Write,
            PermissionKind::ReadWrite,
        ] {
            let permission = Permission {
                kind,
                range: KeyRange::prefix("a/".into()),
            };
            let grant = Grant::of_permission(3, &permission);
            assert_eq!(grant.as_permission(), Some(permission));
        }
        assert_eq!(
            grant(Effect::Deny, Conditions::default()).as_permission(),
            None
        );
    }
}
