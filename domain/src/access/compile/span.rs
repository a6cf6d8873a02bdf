//! Sets of intervals, space by space, that know which grant each piece came from.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::access::scope::{CLUSTER_WIDE, Interval, Region};
use crate::key::{KeyRange, RangeEnd, Space};

/// Disjoint intervals of one space, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans {
    /// No two touch.
    spans: Vec<Interval>,
    /// Where each piece starts, and the grant it is from. What lies between spans is nobody's.
    pieces: Vec<(Bytes, u32)>,
}

impl Spans {
    /// The union of intervals, each with its grant; of several on one key the first one given is named.
    pub fn union(mut intervals: Vec<(Interval, u32)>) -> Self {
        intervals.sort_by(|(a, _), (b, _)| {
            let later_end = match (&a.end, &b.end) {
                (None, None) => std::cmp::Ordering::Equal,
                (None, Some(_)) => std::cmp::Ordering::Less,
                (Some(_), None) => std::cmp::Ordering::Greater,
                (Some(a), Some(b)) => b.cmp(a),
            };
            a.start.cmp(&b.start).then(later_end)
        });
        let mut all = Self::default();
        for (interval, grant) in intervals {
            if !interval.is_empty() {
                all.append(interval, grant);
            }
        }
        all.spans.shrink_to_fit();
        all.pieces.shrink_to_fit();
        all
    }

    /// Takes in an interval that starts at or after all before it.
    fn append(&mut self, interval: Interval, grant: u32) {
        let Some(last) = self.spans.last_mut() else {
            self.pieces.push((interval.start.clone(), grant));
            self.spans.push(interval);
            return;
        };
        match &last.end {
            None => {}
            Some(end) if *end < interval.start => {
                self.pieces.push((interval.start.clone(), grant));
                self.spans.push(interval);
            }
            Some(end) if interval.end.as_ref().is_some_and(|e| e <= end) => {}
            Some(end) => {
                self.pieces.push((end.clone(), grant));
                last.end = interval.end;
            }
        }
    }

    /// The intervals, ascending.
    pub fn intervals(&self) -> &[Interval] {
        &self.spans
    }

    /// The interval that holds a key.
    fn around(&self, key: &[u8]) -> Option<&Interval> {
        let place = self.spans.partition_point(|span| *span.start <= *key);
        let span = self.spans.get(place.checked_sub(1)?)?;
        span.contains(key).then_some(span)
    }

    /// The grant that holds a key, if one does.
    pub fn grant_at(&self, key: &[u8]) -> Option<u32> {
        self.around(key)?;
        let place = self.pieces.partition_point(|(start, _)| **start <= *key);
        self.pieces
            .get(place.checked_sub(1)?)
            .map(|(_, grant)| *grant)
    }

    /// Whether the whole of a range lies within; if not, the first key of it that does not.
    pub fn cover(&self, range: &KeyRange) -> Result<(), Bytes> {
        let Some(span) = self.around(&range.start) else {
            return Err(range.start.clone());
        };
        let Some(end) = &span.end else { return Ok(()) };
        match &range.end {
            RangeEnd::Single => Ok(()),
            RangeEnd::Before(before) if before <= end => Ok(()),
            RangeEnd::Before(_) | RangeEnd::Open => Err(end.clone()),
        }
    }

    /// The lowest key that lies both within and in a range.
    pub fn meet(&self, range: &KeyRange) -> Option<Bytes> {
        if self.around(&range.start).is_some() {
            return Some(range.start.clone());
        }
        // The first one that begins behind the start.
        let place = self.spans.partition_point(|span| span.start <= range.start);
        let start = &self.spans.get(place)?.start;
        match &range.end {
            RangeEnd::Single => None,
            RangeEnd::Before(before) => (start < before).then(|| start.clone()),
            RangeEnd::Open => Some(start.clone()),
        }
    }

    /// What of an interval lies within.
    pub fn within(&self, interval: &Interval) -> Vec<Interval> {
        let first = self
            .spans
            .partition_point(|span| span.end.as_ref().is_some_and(|end| *end <= interval.start));
        let rest = self.spans.get(first..).unwrap_or_default();
        rest.iter()
            .take_while(|span| interval.end.as_ref().is_none_or(|end| span.start < *end))
            .filter_map(|span| span.intersect(interval))
            .collect()
    }

    /// What of an interval does not lie within.
    pub fn outside(&self, interval: &Interval) -> Vec<Interval> {
        let mut left = vec![];
        let mut from = Some(interval.start.clone());
        for taken in self.within(interval) {
            let Some(start) = from else { break };
            let gap = Interval {
                start,
                end: Some(taken.start),
            };
            if !gap.is_empty() {
                left.push(gap);
            }
            from = taken.end;
        }
        if let Some(start) = from {
            let rest = Interval {
                start,
                end: interval.end.clone(),
            };
            if !rest.is_empty() {
                left.push(rest);
            }
        }
        left
    }
}

/// One side of a table: what allows a verb, or what denies it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// The grant on everything of the tenant, if there is one.
    pub tenant: Option<u32>,
    /// By space, ascending.
    spaces: Vec<(Space, Spans)>,
}

impl Side {
    pub(super) fn build<'a>(regions: impl Iterator<Item = (&'a Region, u32)>) -> Self {
        let mut tenant = None;
        let mut spaces: BTreeMap<Space, Vec<(Interval, u32)>> = BTreeMap::new();
        for (region, grant) in regions {
            match region {
                Region::Tenant => tenant = tenant.or(Some(grant)),
                Region::In(space, interval) => {
                    let intervals = spaces.entry(*space).or_default();
                    intervals.push((interval.clone(), grant));
                }
            }
        }
        let union = |(space, intervals)| (space, Spans::union(intervals));
        Self {
            tenant,
            spaces: spaces.into_iter().map(union).collect(),
        }
    }

    /// The grant on everything that reaches a space.
    pub fn whole(&self, space: Space) -> Option<u32> {
        self.tenant.filter(|_| space != CLUSTER_WIDE)
    }

    /// The intervals of a space.
    pub fn spans(&self, space: Space) -> Option<&Spans> {
        let place = self.spaces.binary_search_by_key(&space, |(at, _)| *at);
        self.spaces.get(place.ok()?).map(|(_, spans)| spans)
    }

    /// The first space with intervals, outside the cluster's.
    pub fn first_space(&self) -> Option<(Space, &Spans)> {
        let (space, spans) = self.spaces.first()?;
        (*space != CLUSTER_WIDE).then_some((*space, spans))
    }
}
