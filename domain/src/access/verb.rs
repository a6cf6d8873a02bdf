//! Verbs: what can be done to a resource, each with a number that never changes.
//!
//! ```text
//!   data     on keys               read, write, delete, watch, ...
//!   flow     of changes            propose, approve, apply, bypass
//!   keys     of the keyring        keys.rotate ...
//!   admin    of a tenant           policy.*, auth.*, tenant.*, audit.*, ...
//!   cluster  of the whole cluster  cluster.*, backup.*
//! ```
//!
//! No verb implies another: `write` does not read, `read` does not reveal what is sealed. Roles name every verb they
//! mean ([`super::shipped`]).

/// Declares verbs with their number on disk, their name, and the sets they form.
macro_rules! verbs {
    ($($(#[$doc:meta])* $verb:ident = $number:literal $name:literal;)+) => {
        /// One thing that can be done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Verb {
            $($(#[$doc])* $verb = $number,)+
        }

        impl Verb {
            /// Every verb, by number.
            pub const ALL: &'static [Self] = &[$(Self::$verb,)+];

            /// Its name, as people and tables write it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$verb => $name,)+
                }
            }
        }
    };
}

verbs! {
    /// See which keys there are, and how many.
    List = 0 "list";
    /// See revisions, leases and labels, not values.
    ReadMeta = 1 "read_meta";
    /// See values with what is sensitive masked.
    ReadMasked = 2 "read_masked";
    /// See configuration in clear.
    Read = 3 "read";
    /// See sealed values in clear.
    Reveal = 4 "reveal";
    /// Learn what a flag comes to, not its rules.
    Evaluate = 5 "evaluate";
    /// Write keys; make and keep leases.
    Write = 6 "write";
    /// Delete keys.
    Delete = 7 "delete";
    /// Destroy versions for good.
    Destroy = 8 "destroy";
    /// Be told of changes.
    Watch = 9 "watch";
    /// Set a key back to what it was.
    Rollback = 10 "rollback";
    /// Move a value to another class.
    Reclassify = 11 "reclassify";
    /// Propose a change for approval.
    Propose = 12 "propose";
    /// Approve a change of somebody else.
    Approve = 13 "approve";
    /// Apply what was approved.
    Apply = 14 "apply";
    /// Pass by an approval, with a reason and a review.
    Bypass = 15 "bypass";
    /// Begin a new data key.
    KeysRotate = 16 "keys.rotate";
    /// Wrap keys anew.
    KeysRewrap = 17 "keys.rewrap";
    /// Change who can open the keyring.
    KeysSlot = 18 "keys.slot";
    /// Destroy keys.
    KeysShred = 19 "keys.shred";
    /// Put a token in the place of a value.
    Tokenize = 20 "tokenize";
    /// Get the value of a token.
    Detokenize = 21 "detokenize";
    /// See roles and grants.
    PolicyRead = 22 "policy.read";
    /// Change roles and grants, within what the verb is granted on.
    PolicyWrite = 23 "policy.write";
    /// See users, tokens and how callers are known.
    AuthRead = 24 "auth.read";
    /// Change them.
    AuthWrite = 25 "auth.write";
    /// See the tenant's own settings and use.
    TenantRead = 26 "tenant.read";
    /// Compact the tenant's history.
    TenantCompact = 27 "tenant.compact";
    /// Read audit records.
    AuditRead = 28 "audit.read";
    /// Ask for proofs.
    AuditVerify = 29 "audit.verify";
    /// Read results of controls.
    ComplianceRead = 30 "compliance.read";
    /// Run, pause and resume rotations.
    RotationRun = 31 "rotation.run";
    /// See members, health and alarms.
    ClusterRead = 32 "cluster.read";
    /// Add, change and remove members; move the leader.
    ClusterMember = 33 "cluster.member";
    /// Raise and clear alarms.
    ClusterAlarm = 34 "cluster.alarm";
    /// Defragment, hash, downgrade.
    ClusterMaintain = 35 "cluster.maintain";
    /// See every tenant's name, quota and use.
    ClusterTenants = 36 "cluster.tenants";
    /// Make a tenant.
    TenantCreate = 37 "tenant.create";
    /// Change a tenant's quota and retention, or remove it.
    TenantChange = 38 "tenant.change";
    /// Take a backup.
    BackupCreate = 39 "backup.create";
    /// Restore one.
    BackupRestore = 40 "backup.restore";
}

impl Verb {
    /// The verb of a name, exactly as written.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|verb| verb.name() == name)
    }
}

impl std::fmt::Display for Verb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of verbs.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Verbs(u64);

impl Verbs {
    /// No verb.
    pub const NONE: Self = Self(0);

    /// What etcd calls READ: see keys, values and changes.
    pub const ETCD_READ: Self = Self::of(&[
        Verb::List,
        Verb::ReadMeta,
        Verb::ReadMasked,
        Verb::Read,
        Verb::Watch,
    ]);

    /// What etcd calls WRITE.
    pub const ETCD_WRITE: Self = Self::of(&[Verb::Write, Verb::Delete]);

    /// The set of these verbs.
    pub const fn of(verbs: &[Verb]) -> Self {
        let mut set = 0;
        let mut rest = verbs;
        while let [first, others @ ..] = rest {
            set |= 1 << (*first as u64);
            rest = others;
        }
        Self(set)
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this one and not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether a verb is in it.
    pub const fn has(self, verb: Verb) -> bool {
        self.0 & (1 << (verb as u64)) != 0
    }

    /// Whether the two share a verb.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether no verb is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The verbs in it, by number.
    pub fn iter(self) -> impl Iterator<Item = Verb> {
        Verb::ALL
            .iter()
            .copied()
            .filter(move |verb| self.has(*verb))
    }

    /// One bit per verb, at the verb's number.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// From bits; none if one of them is no verb of this version.
    pub fn from_bits(bits: u64) -> Option<Self> {
        (bits & !Self::of(Verb::ALL).0 == 0).then_some(Self(bits))
    }
}

impl std::fmt::Display for Verbs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, verb) in self.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{verb}")?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Verbs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{{{self}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_each_given_once() {
        for (place, verb) in Verb::ALL.iter().enumerate() {
            assert_eq!(*verb as usize, place, "{verb}");
            assert_eq!(Verb::named(verb.name()), Some(*verb));
        }
        assert!(Verb::ALL.len() <= 64);
        assert_eq!(Verb::named("READ"), None);
    }

    #[test]
    fn bits_of_a_later_version_are_refused() {
        let all = Verbs::of(Verb::ALL);
        assert_eq!(Verbs::from_bits(all.bits()), Some(all));
        assert_eq!(Verbs::from_bits(1 << 63), None);
    }
}
