//! No acknowledged write is lost, and none happens twice: history holds each value written at exactly the
//! revision that was acknowledged, and no value at two revisions.

use std::collections::HashMap;

use bytes::Bytes;

use crate::history::{Ask, Operation, Watched};
use crate::invariant::{FAULTS_MAX, Faults};

/// Checks what was acknowledged against a replay of history.
pub fn check(operations: &[Operation], replay: &Watched) -> Faults {
    let mut faults = vec![];
    let mut written: HashMap<(&Bytes, &Bytes), Vec<i64>> = HashMap::new();
    for event in replay.messages.iter().flatten() {
        if let Some(value) = &event.value {
            written
                .entry((&event.key, value))
                .or_default()
                .push(event.revision);
        }
    }
    for ((key, value), revisions) in &written {
        // Keys of leases carry the empty value; only values of registers are unique.
        if revisions.len() > 1 && !value.is_empty() {
            faults.push(format!("{value:?} was written to {key:?} at {revisions:?}"));
        }
    }
    for operation in operations {
        let Some(outcome) = &operation.outcome else {
            continue;
        };
        let value = match &operation.ask {
            Ask::Write(value) => value,
            Ask::CompareAndSet { new, .. } if outcome.set => new,
            Ask::Read | Ask::CompareAndSet { .. } => continue,
        };
        let at = written
            .get(&(&operation.key, value))
            .map_or(&[][..], Vec::as_slice);
        if !at.contains(&outcome.revision) {
            faults.push(format!(
                "the write of {value:?} to {:?} was acknowledged at {} and history has it at {at:?}",
                operation.key, outcome.revision
            ));
        }
    }
    faults.truncate(FAULTS_MAX);
    faults
}
