//! Scopes: which resources a grant is on, as intervals.
//!
//! Everything a right can be on lies on one line per space, and a right covers intervals of it:
//!
//! ```text
//!   exact k        [k, k 0x00)
//!   prefix p       [p, first key after every key with the prefix)
//!   path a/b       [a/b, a/b 0x00) and the prefix a/b/       `payments` never covers `payments-eu`
//!   range s e      [s, e)
//!   from s         [s, infinity)
//! ```
//!
//! Keys are bytes and nothing else: no case folding, no dots, no escapes, no normal form. Two spaces at the top are no
//! keyspaces: what is done to a tenant as a whole lies in [`TENANT_WIDE`], what is done to the cluster in
//! [`CLUSTER_WIDE`].

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use crate::key::{KeyRange, RangeEnd, Space, prefix_end};

/// Where rights on a tenant as a whole lie: compaction, policy, audit. Holds no keys.
pub const TENANT_WIDE: Space = Space(254);

/// Where rights on the cluster as a whole lie. Holds no keys, and only in the tenant `default` is it granted.
pub const CLUSTER_WIDE: Space = Space(255);

/// A piece of a line: `start` inclusive, `end` exclusive; no end is no bound.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Interval {
    /// The first key.
    pub start: Bytes,
    /// The first key behind it.
    pub end: Option<Bytes>,
}

impl Interval {
    /// Every key.
    pub const fn all() -> Self {
        Self {
            start: Bytes::new(),
            end: None,
        }
    }

    /// One key.
    pub fn point(key: &[u8]) -> Self {
        Self {
            start: Bytes::copy_from_slice(key),
            end: Some(after(key)),
        }
    }

    /// The keys of a range.
    pub fn of(range: &KeyRange) -> Self {
        let end = match &range.end {
            RangeEnd::Single => Some(after(&range.start)),
            RangeEnd::Before(end) => Some(end.clone()),
            RangeEnd::Open => None,
        };
        Self {
            start: range.start.clone(),
            end,
        }
    }

    /// As a range of keys.
    pub fn to_range(&self) -> KeyRange {
        let single = self
            .end
            .as_ref()
            .is_some_and(|end| end.split_last() == Some((&0, self.start.as_ref())));
        let end = match &self.end {
            Some(_) if single => RangeEnd::Single,
            Some(end) => RangeEnd::Before(end.clone()),
            None => RangeEnd::Open,
        };
        KeyRange {
            start: self.start.clone(),
            end,
        }
    }

    /// Whether no key lies in it.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    /// Whether a key lies in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        *self.start <= *key && self.end.as_ref().is_none_or(|end| *key < **end)
    }

    /// What lies in both; none if nothing does.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let both = Self {
            start: self.start.clone().max(other.start.clone()),
            end: match (&self.end, &other.end) {
                (Some(a), Some(b)) => Some(a.clone().min(b.clone())),
                (Some(end), None) | (None, Some(end)) => Some(end.clone()),
                (None, None) => None,
            },
        };
        (!both.is_empty()).then_some(both)
    }
}

/// The first key after `key`.
fn after(key: &[u8]) -> Bytes {
    let mut end = Vec::with_capacity(key.len() + 1);
    end.extend_from_slice(key);
    end.push(0);
    end.into()
}

/// Which resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Everything of the tenant: every space of keys, and the tenant as a whole. Not the cluster.
    #[default]
    Tenant,
    /// The cluster as a whole. Has a meaning in the tenant `default` only.
    Cluster,
    /// Keys of a space: one, a range, or from one on.
    Keys {
        /// The space.
        space: Space,
        /// The keys.
        range: KeyRange,
    },
    /// Keys of a space that begin with some bytes, whatever the bytes after them.
    Prefix {
        /// The space.
        space: Space,
        /// The bytes.
        prefix: Bytes,
    },
    /// A path and everything below it, `/` between segments.
    Path {
        /// The space.
        space: Space,
        /// The path, without a `/` at its end.
        path: Bytes,
    },
}

/// An interval with the spaces it lies in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Region {
    /// Everything of the tenant.
    Tenant,
    /// An interval of one space.
    In(Space, Interval),
}

impl Region {
    /// What lies in both; none if nothing does.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Tenant, Self::Tenant) => Some(Self::Tenant),
            (Self::Tenant, Self::In(space, interval))
            | (Self::In(space, interval), Self::Tenant) => {
                (*space != CLUSTER_WIDE).then(|| Self::In(*space, interval.clone()))
            }
            (Self::In(a, x), Self::In(b, y)) if a == b => x.intersect(y).map(|i| Self::In(*a, i)),
            (Self::In(..), Self::In(..)) => None,
        }
    }
}

impl Scope {
    /// Keys of the space etcd's clients see.
    pub fn raw(range: KeyRange) -> Self {
        Self::Keys {
            space: Space::RAW,
            range,
        }
    }

    /// The intervals it means; two for a path.
    pub fn regions(&self) -> SmallVec<[Region; 2]> {
        let found: SmallVec<[Region; 2]> = match self {
            Self::Tenant => smallvec![Region::Tenant],
            Self::Cluster => smallvec![Region::In(CLUSTER_WIDE, Interval::all())],
            Self::Keys { space, range } => smallvec![Region::In(*space, Interval::of(range))],
            Self::Prefix { space, prefix } => smallvec![Region::In(*space, with_prefix(prefix))],
            Self::Path { space, path } => {
                let mut below = path.to_vec();
                below.push(b'/');
                smallvec![
                    Region::In(*space, Interval::point(path)),
                    Region::In(*space, with_prefix(&below)),
                ]
            }
        };
        found
            .into_iter()
            .filter(|region| !matches!(region, Region::In(_, interval) if interval.is_empty()))
            .collect()
    }
}

fn with_prefix(prefix: &[u8]) -> Interval {
    Interval {
        start: Bytes::copy_from_slice(prefix),
        end: prefix_end(prefix),
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tenant => f.write_str("tenant"),
            Self::Cluster => f.write_str("cluster"),
            Self::Keys { space, range } => {
                write!(f, "{space}:{}", range.start.escape_ascii())?;
                match &range.end {
                    RangeEnd::Single => Ok(()),
                    RangeEnd::Before(end) => write!(f, "..{}", end.escape_ascii()),
                    RangeEnd::Open => f.write_str(".."),
                }
            }
            Self::Prefix { space, prefix } => write!(f, "{space}:{}*", prefix.escape_ascii()),
            Self::Path { space, path } => write!(f, "{space}:{}/", path.escape_ascii()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(scope: &Scope, key: &str) -> bool {
        scope.regions().iter().any(|region| match region {
            Region::Tenant => true,
            Region::In(_, interval) => interval.contains(key.as_bytes()),
        })
    }

    #[test]
    fn a_path_covers_itself_and_what_is_below_and_no_neighbour() {
        let payments = Scope::Path {
            space: Space::RAW,
            path: "payments".into(),
        };
        for inside in ["payments", "payments/", "payments/db", "payments/../x"] {
            assert!(holds(&payments, inside), "{inside}");
        }
        for outside in [
            "payments-eu",
            "payments-eu/db",
            "payment",
            "payments\0",
            "payments.",
            "payments0",
            "Payments",
            "/payments",
            "x/../payments",
            "%70ayments",
        ] {
            assert!(!holds(&payments, outside), "{outside}");
        }
    }

    #[test]
    fn an_interval_goes_to_a_range_and_back() {
        for range in [
            KeyRange::single("k".into()),
            KeyRange::all(),
            KeyRange::prefix("a/".into()),
            KeyRange::from_wire("k".into(), Bytes::from_static(b"\0")),
        ] {
            assert_eq!(Interval::of(&range).to_range(), range);
        }
    }

    #[test]
    fn the_tenant_as_a_whole_does_not_reach_the_cluster() {
        let cluster = Region::In(CLUSTER_WIDE, Interval::all());
        assert_eq!(Region::Tenant.intersect(&cluster), None);
        let keys = Region::In(Space::RAW, Interval::all());
        assert_eq!(Region::Tenant.intersect(&keys), Some(keys));
    }
}
