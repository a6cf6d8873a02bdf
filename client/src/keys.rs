//! Keys and ranges of keys, as calls and watches take them.

use bytes::Bytes;
use meridian_domain::key::prefix_end;

/// One key or a range of keys.
///
/// ```
/// use meridian_client::Keys;
/// let one: Keys = "config/a".into();
/// let folder = Keys::prefix("config/");
/// let some = Keys::range("config/a", "config/c");
/// # let _ = (one, folder, some);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Keys {
    key: Bytes,
    range_end: Bytes,
}

/// The end that means "no end", and the start that means "the first key".
const OPEN: &[u8] = b"\0";

impl Keys {
    /// One key.
    pub fn one(key: impl Into<Vec<u8>>) -> Self {
        Self {
            key: key.into().into(),
            range_end: Bytes::new(),
        }
    }

    /// Every key that begins with `prefix`; an empty prefix is every key.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        let prefix = Bytes::from(prefix.into());
        if prefix.is_empty() {
            return Self::all();
        }
        let range_end = prefix_end(&prefix).unwrap_or(Bytes::from_static(OPEN));
        Self {
            key: prefix,
            range_end,
        }
    }

    /// Every key from `start` on, below `end`.
    pub fn range(start: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> Self {
        Self {
            key: start.into().into(),
            range_end: end.into().into(),
        }
    }

    /// Every key from `start` on.
    pub fn from_key(start: impl Into<Vec<u8>>) -> Self {
        let start = Bytes::from(start.into());
        let key = if start.is_empty() {
            Bytes::from_static(OPEN)
        } else {
            start
        };
        Self {
            key,
            range_end: Bytes::from_static(OPEN),
        }
    }

    /// Every key.
    pub fn all() -> Self {
        Self {
            key: Bytes::from_static(OPEN),
            range_end: Bytes::from_static(OPEN),
        }
    }

    /// Whether this is one key.
    pub fn is_one(&self) -> bool {
        self.range_end.is_empty()
    }

    /// `key` and `range_end` as etcd's messages have them.
    pub(crate) fn to_wire(&self) -> (Bytes, Bytes) {
        (self.key.clone(), self.range_end.clone())
    }

    /// The same keys, from just after `key` on.
    pub(crate) fn after(&self, key: &Bytes) -> Self {
        let next = [key.as_ref(), &[0]].concat();
        Self {
            key: next.into(),
            range_end: self.range_end.clone(),
        }
    }
}

impl<K: Into<Vec<u8>>> From<K> for Keys {
    fn from(key: K) -> Self {
        Self::one(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(keys: &Keys) -> (&[u8], &[u8]) {
        (&keys.key, &keys.range_end)
    }

    #[test]
    fn ranges_become_what_etcd_means_by_them() {
        assert_eq!(wire(&Keys::one("a")), (&b"a"[..], &b""[..]));
        assert_eq!(wire(&Keys::prefix("a")), (&b"a"[..], &b"b"[..]));
        assert_eq!(wire(&Keys::prefix("")), (&b"\0"[..], &b"\0"[..]));
        assert_eq!(
            wire(&Keys::prefix([0xff, 0xff])),
            (&[0xff, 0xff][..], &b"\0"[..])
        );
        assert_eq!(wire(&Keys::from_key("a")), (&b"a"[..], &b"\0"[..]));
        assert_eq!(wire(&Keys::range("a", "c")), (&b"a"[..], &b"c"[..]));
    }

    #[test]
    fn the_rest_of_a_range_begins_just_after_a_key() {
        let rest = Keys::prefix("a/").after(&Bytes::from_static(b"a/x"));
        assert_eq!(wire(&rest), (&b"a/x\0"[..], &b"a0"[..]));
    }
}
