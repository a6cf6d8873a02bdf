//! Traces of one write over several members.
//!
//! ```text
//!   member that was asked     call > propose ----------------------------------- apply
//!                                      \ Propose frame: traceparent             /
//!   leader                              append (until it is committed and applied there)
//! ```
//!
//! Spans are the business of whoever receives traces, and this crate does not know who that is: the node says how a
//! span is named on the wire ([`install`]). Until then nothing is carried, and spans cost what a disabled one costs.

use std::sync::OnceLock;

use meridian_proto::peer;
use tracing::Span;

/// The longest name of a span that is taken from another member, in bytes: more than W3C's has.
const NAME_BYTES_MAX: usize = 64;

/// How spans are named on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Wire {
    /// The name of a span, as W3C's `traceparent`; none if nobody records it.
    pub name: fn(&Span) -> Option<String>,
    /// Makes a span the child of one on another member.
    pub follow: fn(&Span, &str),
}

static WIRE: OnceLock<Wire> = OnceLock::new();

/// Begins to carry traces. Once per process; the first one stays.
pub fn install(wire: Wire) {
    let _ = WIRE.set(wire);
}

/// Names the spans that are recorded, by their places.
pub fn names<'a>(spans: impl Iterator<Item = &'a Span>) -> Vec<peer::Trace> {
    let Some(wire) = WIRE.get() else {
        return vec![];
    };
    let named = |(place, span)| {
        let traceparent = (wire.name)(span)?;
        let place = u32::try_from(place).ok()?;
        Some(peer::Trace { place, traceparent })
    };
    spans.enumerate().filter_map(named).collect()
}

/// The leader's part of a write that came from another member: none if nobody traces it.
pub fn append_of(traces: &[peer::Trace], place: usize) -> Span {
    let found = traces.binary_search_by_key(&place, |trace| trace.place as usize);
    let trace = found.ok().and_then(|at| traces.get(at));
    let (Some(trace), Some(wire)) = (trace, WIRE.get()) else {
        return Span::none();
    };
    let span = tracing::debug_span!(parent: None, "append");
    if trace.traceparent.len() <= NAME_BYTES_MAX {
        (wire.follow)(&span, &trace.traceparent);
    }
    span
}

/// The leader's part of a write of its own.
pub fn append_under(write: &Span) -> Span {
    tracing::debug_span!(parent: write, "append")
}

/// Notes that a write was applied and published here: a moment, not a stretch.
pub fn applied(write: &Span, index: u64) {
    drop(tracing::debug_span!(parent: write, "apply", index));
}
