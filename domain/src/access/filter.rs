//! Filter mode: what of a range a caller may see, instead of yes or no to all of it.
//!
//! The answer shows the keys that are covered and nothing of the others, not even how many there are.

use crate::access::compile::Compiled;
use crate::access::scope::Interval;
use crate::access::verb::Verb;
use crate::key::{KeyRange, Space};

/// The parts of a range on which a verb is allowed and not denied: disjoint, ascending.
pub fn filter(rights: &Compiled, verb: Verb, space: Space, range: &KeyRange) -> Vec<KeyRange> {
    let asked = Interval::of(range);
    let Some(table) = rights.table(verb) else {
        return vec![];
    };
    if asked.is_empty() || table.deny.whole(space).is_some() {
        return vec![];
    }
    let allowed = if table.allow.whole(space).is_some() {
        vec![asked]
    } else {
        let spans = table.allow.spans(space);
        spans.map_or(vec![], |spans| spans.within(&asked))
    };
    let left: Vec<Interval> = match table.deny.spans(space) {
        None => allowed,
        Some(denied) => allowed
            .iter()
            .flat_map(|interval| denied.outside(interval))
            .collect(),
    };
    left.iter().map(Interval::to_range).collect()
}

/// Whether one key may be seen: for filtering what was read already.
pub fn shows(rights: &Compiled, verb: Verb, space: Space, key: &[u8]) -> bool {
    let Some(table) = rights.table(verb) else {
        return false;
    };
    let on = |side: &crate::access::compile::Side| {
        side.whole(space).is_some()
            || side
                .spans(space)
                .is_some_and(|spans| spans.grant_at(key).is_some())
    };
    on(&table.allow) && !on(&table.deny)
}
