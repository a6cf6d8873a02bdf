//! The keys a watcher looks at, in as few bytes as they take.

use std::cmp::Ordering;
use std::sync::Arc;

use meridian_domain::key::{KeyRange, RangeEnd};

/// Where a [`Span`] ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Single,
    Before,
    Open,
}

/// A [`KeyRange`] in 24 bytes and one shared allocation, start and end behind each other.
#[derive(Clone, Debug)]
pub(super) struct Span {
    /// `start ++ end`.
    bytes: Arc<[u8]>,
    /// Where the end begins. Requests are bounded far below 4 GiB.
    cut: u32,
    kind: Kind,
}

impl Span {
    pub(super) fn new(range: &KeyRange) -> Self {
        let (end, kind) = match &range.end {
            RangeEnd::Single => (&[][..], Kind::Single),
            RangeEnd::Before(end) => (end.as_ref(), Kind::Before),
            RangeEnd::Open => (&[][..], Kind::Open),
        };
        let cut = range.start.len() as u32;
        let bytes = if end.is_empty() {
            Arc::from(range.start.as_ref())
        } else {
            Arc::from([range.start.as_ref(), end].concat())
        };
        Self { bytes, cut, kind }
    }

    /// The range it was made of.
    pub(super) fn range(&self) -> KeyRange {
        let copy = bytes::Bytes::copy_from_slice;
        let end = match self.kind {
            Kind::Single => RangeEnd::Single,
            Kind::Before => RangeEnd::Before(copy(self.end().unwrap_or_default())),
            Kind::Open => RangeEnd::Open,
        };
        let start = copy(self.start());
        KeyRange { start, end }
    }

    /// The key, if the span is a single one.
    pub(super) fn single(&self) -> Option<&Arc<[u8]>> {
        (self.kind == Kind::Single).then_some(&self.bytes)
    }

    pub(super) fn start(&self) -> &[u8] {
        self.bytes.get(..self.cut as usize).unwrap_or_default()
    }

    /// The first key above the span; none if it is open. Meant for spans that are not single.
    pub(super) fn end(&self) -> Option<&[u8]> {
        match self.kind {
            Kind::Open => None,
            Kind::Single | Kind::Before => self.bytes.get(self.cut as usize..),
        }
    }

    /// Whether `key` lies below the upper end.
    pub(super) fn ends_above(&self, key: &[u8]) -> bool {
        self.end().is_none_or(|end| key < end)
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        match self.kind {
            Kind::Single => *self.bytes == *key,
            Kind::Before | Kind::Open => key >= self.start() && self.ends_above(key),
        }
    }

    /// By start, then end.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        self.start()
            .cmp(other.start())
            .then_with(|| self.compare_end(other))
    }

    /// By end; an open end is above every other.
    pub(super) fn compare_end(&self, other: &Self) -> Ordering {
        match (self.end(), other.end()) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(a), Some(b)) => a.cmp(b),
        }
    }
}
