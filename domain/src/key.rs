//! Keys, spaces and ranges of keys.
//!
//! A keyspace is cut into *spaces* with different owners: `raw` is what etcd's clients see; layers
//! (configuration, flags, secrets, ...) own the others. All spaces of a tenant share one revision
//! counter, so one transaction can change several of them at once.
//!
//! A range means the same everywhere (read, delete, compare, watch, permission), as in etcd:
//!
//! ```text
//! key, range_end        meaning
//! k, ""                 the single key k
//! k, e  with k < e      k <= key < e
//! k, "\0"               every key >= k
//! k, e  with e <= k     nothing
//! ```

use bytes::Bytes;

/// A part of a keyspace with its own owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Space(pub u8);

impl Space {
    /// The keys etcd's clients see.
    pub const RAW: Self = Self(0);
    /// Roles, users, bindings, policy ([`crate::access`]). A transaction that changes a key here moves the
    /// tenant's rules revision.
    pub const ACCESS: Self = Self(1);
    /// Tokens. Apart from the rules, because issuing one changes none.
    pub const CREDENTIALS: Self = Self(2);
}

impl std::fmt::Display for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::RAW => f.write_str("raw"),
            Self::ACCESS => f.write_str("access"),
            Self::CREDENTIALS => f.write_str("credentials"),
            Self(number) => write!(f, "space-{number}"),
        }
    }
}

/// Where a range of keys ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RangeEnd {
    /// The range is the single key it starts at.
    Single,
    /// Keys strictly below this one.
    Before(Bytes),
    /// No upper end.
    Open,
}

/// A range of keys of one space.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRange {
    /// The first key of the range.
    pub start: Bytes,
    /// Its end.
    pub end: RangeEnd,
}

impl KeyRange {
    /// One key.
    pub fn single(key: Bytes) -> Self {
        Self {
            start: key,
            end: RangeEnd::Single,
        }
    }

    /// Every key of the space.
    pub fn all() -> Self {
        Self {
            start: Bytes::new(),
            end: RangeEnd::Open,
        }
    }

    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: Bytes) -> Self {
        let end = match prefix_end(&prefix) {
            Some(end) => RangeEnd::Before(end),
            None => RangeEnd::Open,
        };
        Self { start: prefix, end }
    }

    /// From etcd's `key` and `range_end`.
    pub fn from_wire(key: Bytes, range_end: Bytes) -> Self {
        let end = match range_end.as_ref() {
            [] => RangeEnd::Single,
            [0] => RangeEnd::Open,
            _ => RangeEnd::Before(range_end),
        };
        Self { start: key, end }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key == self.start.as_ref(),
            RangeEnd::Before(end) => key >= self.start.as_ref() && key < end.as_ref(),
            RangeEnd::Open => key >= self.start.as_ref(),
        }
    }

    /// Whether no key can lie in the range.
    pub fn is_empty(&self) -> bool {
        matches!(&self.end, RangeEnd::Before(end) if end <= &self.start)
    }

    /// Whether the range is one key.
    pub fn is_single(&self) -> bool {
        self.end == RangeEnd::Single
    }

    /// Whether two ranges share a key.
    pub fn overlaps(&self, other: &Self) -> bool {
        if self.is_empty() || other.is_empty() {
            return false;
        }
        starts_before_end(&self.start, other) && starts_before_end(&other.start, self)
    }
}

/// Whether `start` lies below the upper end of `range`.
fn starts_before_end(start: &Bytes, range: &KeyRange) -> bool {
    match &range.end {
        RangeEnd::Single => start <= &range.start,
        RangeEnd::Before(end) => start < end,
        RangeEnd::Open => true,
    }
}

/// The first key after every key that begins with `prefix`; none if there is no such key.
pub fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let keep = prefix.iter().rposition(|b| *b < 0xff)?;
    let mut end = prefix.get(..=keep)?.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    Some(Bytes::from(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(key: &'static [u8], end: &'static [u8]) -> KeyRange {
        KeyRange::from_wire(Bytes::from_static(key), Bytes::from_static(end))
    }

    #[test]
    fn a_range_means_what_it_means_in_etcd() {
        assert!(range(b"a", b"").contains(b"a"));
        assert!(!range(b"a", b"").contains(b"aa"));
        assert!(range(b"a", b"c").contains(b"b"));
        assert!(!range(b"a", b"c").contains(b"c"));
        assert!(range(b"a", b"\0").contains(b"\xff"));
        assert!(!range(b"b", b"\0").contains(b"a"));
        assert!(range(b"b", b"a").is_empty());
        assert!(range(b"b", b"b").is_empty());
    }

    #[test]
    fn prefix_end_carries_over_full_bytes() {
        assert_eq!(prefix_end(b"a").as_deref(), Some(&b"b"[..]));
        assert_eq!(prefix_end(b"a\xff").as_deref(), Some(&b"b"[..]));
        assert_eq!(prefix_end(b"\xff\xff"), None);
        assert_eq!(prefix_end(b""), None);
    }

    #[test]
    fn overlap_agrees_with_a_naive_check_over_short_keys() {
        let keys: Vec<&[u8]> = vec![b"a", b"b", b"c", b"d"];
        let mut ranges = vec![];
        for a in &keys {
            for e in [&b""[..], b"\0", b"a", b"b", b"c", b"d", b"e"] {
                ranges.push(KeyRange::from_wire(
                    Bytes::copy_from_slice(a),
                    Bytes::copy_from_slice(e),
                ));
            }
        }
        // Every pair of these ranges that overlaps shares one of these keys or a key just after one.
        let probes: Vec<Vec<u8>> = keys
            .iter()
            .flat_map(|k| [k.to_vec(), [k, &b"\0"[..]].concat()])
            .collect();
        for x in &ranges {
            for y in &ranges {
                let shared = probes.iter().any(|k| x.contains(k) && y.contains(k));
                assert_eq!(x.overlaps(y), shared, "{x:?} {y:?}");
            }
        }
    }
}
