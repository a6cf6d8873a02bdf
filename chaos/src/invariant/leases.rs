//! A lease never ends early: its key is not deleted before its time to live has passed since the last renewal
//! that was answered was sent.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;

use crate::history::{Leased, Time, Watched};
use crate::invariant::{FAULTS_MAX, Faults};

/// Checks leases against the earliest moment anybody saw their keys deleted.
pub fn check(leased: &[Leased], watched: &[Watched]) -> Faults {
    let mut deleted: HashMap<&Bytes, Time> = HashMap::new();
    for event in watched
        .iter()
        .flat_map(|watched| watched.messages.iter().flatten())
    {
        if event.value.is_none() {
            let at = deleted.entry(&event.key).or_insert(event.at);
            *at = event.at.min(*at);
        }
    }
    let mut faults = vec![];
    for lease in leased {
        let seen = [deleted.get(&lease.key).copied(), lease.gone]
            .into_iter()
            .flatten()
            .min();
        if let Some(at) = seen
            && at < lease.renewed + lease.ttl
        {
            faults.push(format!(
                "the lease of {:?} lived {:?} after its last renewal, {:?} were granted",
                lease.key,
                Duration::from_nanos(at.saturating_sub(lease.renewed)),
                Duration::from_nanos(lease.ttl)
            ));
        }
    }
    faults.truncate(FAULTS_MAX);
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Event;

    #[test]
    fn a_key_deleted_before_its_time_is_found() {
        let lease = |gone| Leased {
            key: "k".into(),
            ttl: 100,
            renewed: 50,
            gone,
        };
        let deleted = |at| Watched {
            messages: vec![vec![Event {
                key: "k".into(),
                value: None,
                revision: 9,
                at,
            }]],
            ..Watched::default()
        };
        assert!(check(&[lease(None)], &[deleted(150)]).is_empty());
        assert!(check(&[lease(None)], &[]).is_empty());
        assert_eq!(check(&[lease(None)], &[deleted(149)]).len(), 1);
        assert_eq!(check(&[lease(Some(120))], &[]).len(), 1);
    }
}
