//! Deciding: is every right that is required covered by what allows, and free of what denies?
//!
//! - Nothing is allowed that no grant allows.
//! - A range is allowed as a whole or not at all. Adjacent grants add up; a gap denies.
//! - A deny that touches any of it denies all of it.
//!
//! A decision takes a binary search per requirement and allocates nothing while it says yes.

use bytes::Bytes;

use crate::access::compile::{Compiled, GrantId, Table};
use crate::access::required::{Required, Target};
use crate::access::scope::{CLUSTER_WIDE, Interval, TENANT_WIDE};
use crate::access::verb::Verb;
use crate::key::{KeyRange, Space};
use crate::kv::LeaseId;

/// Whether something may be done, and by which grant or why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// It may; `by` is the grant behind the first requirement, if there was one.
    Allowed {
        /// The grant.
        by: Option<&'a GrantId>,
    },
    /// It may not.
    Refused {
        /// The first requirement that is not met.
        required: Required,
        /// Why it is not.
        why: Why<'a>,
    },
}

/// Why a requirement is not met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why<'a> {
    /// No grant allows it from this key on.
    NotGranted {
        /// The first key nothing allows; empty where it is not about keys.
        from: Bytes,
    },
    /// A grant denies it.
    Denied {
        /// The grant.
        by: &'a GrantId,
    },
    /// Nobody may.
    Nobody,
}

impl Decision<'_> {
    /// Whether it may.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }
}

impl std::fmt::Display for Decision<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Allowed { by: Some(by) } => write!(f, "allowed by {by}"),
            Self::Allowed { by: None } => f.write_str("allowed: nothing is required"),
            Self::Refused { required, why } => match why {
                Why::NotGranted { from } if from.is_empty() => {
                    write!(f, "refused: {required} is not granted")
                }
                Why::NotGranted { from } => {
                    let from = from.escape_ascii();
                    write!(f, "refused: {required} is not granted from {from} on")
                }
                Why::Denied { by } => write!(f, "refused: {required} is denied by {by}"),
                Why::Nobody => write!(f, "refused: nobody may {required}"),
            },
        }
    }
}

/// Decides whether every requirement is met. `attached` lists the keys of a lease.
pub fn decide<'a>(
    rights: &'a Compiled,
    required: &[Required],
    attached: impl Fn(LeaseId) -> Vec<Bytes>,
) -> Decision<'a> {
    let mut first = None;
    for one in required {
        match meet(rights, one, &attached) {
            Ok(by) => first = first.or(by),
            Err(why) => {
                let required = one.clone();
                return Decision::Refused { required, why };
            }
        }
    }
    Decision::Allowed {
        by: first.and_then(|place| rights.grant(place)),
    }
}

fn meet<'a>(
    rights: &'a Compiled,
    required: &Required,
    attached: impl Fn(LeaseId) -> Vec<Bytes>,
) -> Result<Option<u32>, Why<'a>> {
    let verb = required.verb;
    match &required.on {
        Target::Keys { space, range } => keys(rights, verb, *space, range),
        Target::Tenant => keys(rights, verb, TENANT_WIDE, &point()),
        Target::Cluster => keys(rights, verb, CLUSTER_WIDE, &point()),
        Target::Everything => everything(rights, verb),
        Target::Somewhere { space } => somewhere(rights, verb, *space),
        Target::Attached { lease } => {
            let found = attached(*lease);
            if found.is_empty() {
                return somewhere(rights, verb, Space::RAW);
            }
            let mut by = None;
            for key in found {
                by = by.or(keys(rights, verb, Space::RAW, &KeyRange::single(key))?);
            }
            Ok(by)
        }
        Target::Nobody => Err(Why::Nobody),
    }
}

fn point() -> KeyRange {
    KeyRange::single(Bytes::new())
}

fn table(rights: &Compiled, verb: Verb) -> Result<&Table, Why<'_>> {
    rights
        .table(verb)
        .ok_or(Why::NotGranted { from: Bytes::new() })
}

fn denied(rights: &Compiled, place: u32) -> Why<'_> {
    rights
        .grant(place)
        .map_or(Why::Nobody, |by| Why::Denied { by })
}

fn keys<'a>(
    rights: &'a Compiled,
    verb: Verb,
    space: Space,
    range: &KeyRange,
) -> Result<Option<u32>, Why<'a>> {
    // A range without keys is judged by the key it starts at, so that it is no way to ask for less.
    let single;
    let range = if range.is_empty() {
        single = KeyRange::single(range.start.clone());
        &single
    } else {
        range
    };
    let table = table(rights, verb)?;
    if let Some(place) = table.deny.whole(space) {
        return Err(denied(rights, place));
    }
    if let Some(spans) = table.deny.spans(space)
        && let Some(place) = spans.meet(range).and_then(|key| spans.grant_at(&key))
    {
        return Err(denied(rights, place));
    }
    if let Some(place) = table.allow.whole(space) {
        return Ok(Some(place));
    }
    let Some(spans) = table.allow.spans(space) else {
        let from = range.start.clone();
        return Err(Why::NotGranted { from });
    };
    match spans.cover(range) {
        Ok(()) => Ok(spans.grant_at(&range.start)),
        Err(from) => Err(Why::NotGranted { from }),
    }
}

/// Everything of the tenant, with nothing denied anywhere in it.
fn everything(rights: &Compiled, verb: Verb) -> Result<Option<u32>, Why<'_>> {
    let table = table(rights, verb)?;
    if let Some(place) = table.deny.tenant {
        return Err(denied(rights, place));
    }
    if let Some((_, spans)) = table.deny.first_space()
        && let Some(place) = spans
            .intervals()
            .first()
            .and_then(|interval| spans.grant_at(&interval.start))
    {
        return Err(denied(rights, place));
    }
    match table.allow.tenant {
        Some(place) => Ok(Some(place)),
        None => Err(Why::NotGranted { from: Bytes::new() }),
    }
}

/// At least one key of a space, whichever.
fn somewhere(rights: &Compiled, verb: Verb, space: Space) -> Result<Option<u32>, Why<'_>> {
    let table = table(rights, verb)?;
    if let Some(place) = table.deny.whole(space) {
        return Err(denied(rights, place));
    }
    let is_free = |interval: &Interval| {
        table
            .deny
            .spans(space)
            .is_none_or(|denied| !denied.outside(interval).is_empty())
    };
    if let Some(place) = table.allow.whole(space)
        && is_free(&Interval::all())
    {
        return Ok(Some(place));
    }
    let spans = table.allow.spans(space);
    let free = spans.and_then(|spans| spans.intervals().iter().find(|span| is_free(span)));
    match (spans, free) {
        (Some(spans), Some(free)) => Ok(spans.grant_at(&free.start)),
        _ => Err(Why::NotGranted { from: Bytes::new() }),
    }
}
