//! What must hold afterwards, one invariant a file.

pub mod acknowledged;
pub mod equal_state;
pub mod leases;
pub mod linearizable;
pub mod revisions;
pub mod watching;

use std::collections::BTreeMap;

use crate::history::{Event, Watched};

/// What was found to be wrong: a readable sentence each. Empty means that the invariant holds.
pub type Faults = Vec<String>;

/// At most so many sentences per invariant; the first ones tell the story.
pub const FAULTS_MAX: usize = 10;

/// Every event of a replay, by revision.
pub fn by_revision(replay: &Watched) -> BTreeMap<i64, Vec<&Event>> {
    let mut events: BTreeMap<i64, Vec<&Event>> = BTreeMap::new();
    for event in replay.messages.iter().flatten() {
        events.entry(event.revision).or_default().push(event);
    }
    events
}
