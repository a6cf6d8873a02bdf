//! Strict serializability by revision: what a client was told agrees with history at that revision, and an
//! operation that began after another one ended never stands before it.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::history::{Ask, Operation, Watched};
use crate::invariant::{FAULTS_MAX, Faults};

/// Checks every answered operation against a replay of history.
pub fn check(operations: &[Operation], replay: &Watched) -> Faults {
    let mut faults = real_time(operations);
    let mut versions: BTreeMap<&Bytes, BTreeMap<i64, Option<&Bytes>>> = BTreeMap::new();
    for event in replay.messages.iter().flatten() {
        versions
            .entry(&event.key)
            .or_default()
            .insert(event.revision, event.value.as_ref());
    }
    for operation in operations {
        let Some(outcome) = &operation.outcome else {
            continue;
        };
        let failed_set = matches!(operation.ask, Ask::CompareAndSet { .. }) && !outcome.set;
        if operation.ask != Ask::Read && !failed_set {
            continue;
        }
        let then = versions
            .get(&operation.key)
            .and_then(|versions| versions.range(..=outcome.revision).next_back())
            .and_then(|(_, value)| *value);
        if then != outcome.found.as_ref() {
            faults.push(format!(
                "client {} read {:?} of {:?} at revision {}, where history has {then:?}",
                operation.client, outcome.found, operation.key, outcome.revision
            ));
        }
    }
    faults.truncate(FAULTS_MAX);
    faults
}

/// Whether revisions respect real time. Sweeps operations by when they began, keeping the highest revision of
/// those that had ended by then.
fn real_time(operations: &[Operation]) -> Faults {
    let mut faults = vec![];
    let answered: Vec<(&Operation, i64)> = operations
        .iter()
        .filter_map(|operation| Some((operation, operation.outcome.as_ref()?.revision)))
        .collect();
    let mut by_end = answered.clone();
    by_end.sort_by_key(|(operation, _)| operation.ended);
    let mut by_begin = answered;
    by_begin.sort_by_key(|(operation, _)| operation.begun);
    let mut ended = by_end.into_iter().peekable();
    let mut highest: Option<(&Operation, i64)> = None;
    for (operation, revision) in by_begin {
        while let Some(done) = ended.next_if(|(done, _)| done.ended < operation.begun) {
            if highest.is_none_or(|(_, highest)| done.1 > highest) {
                highest = Some(done);
            }
        }
        if let Some((before, at)) = highest
            && revision < at
        {
            faults.push(format!(
                "client {} saw revision {revision} after client {} had seen {at}",
                operation.client, before.client
            ));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Outcome;

    fn read(begun: u64, ended: u64, revision: i64) -> Operation {
        let outcome = Some(Outcome {
            revision,
            found: None,
            set: false,
        });
        Operation {
            client: 0,
            key: "k".into(),
            ask: Ask::Read,
            outcome,
            begun,
            ended,
        }
    }

    #[test]
    fn a_revision_that_goes_back_in_real_time_is_found() {
        assert!(check(&[read(0, 10, 5), read(11, 20, 5)], &Watched::default()).is_empty());
        assert!(check(&[read(0, 10, 5), read(9, 20, 4)], &Watched::default()).is_empty());
        assert_eq!(
            check(&[read(0, 10, 5), read(11, 20, 4)], &Watched::default()).len(),
            1
        );
    }
}
