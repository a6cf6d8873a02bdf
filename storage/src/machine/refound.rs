//! The facts of a state under other members: for restoring a snapshot as a new cluster.

use bytes::Bytes;

use super::facts::{self, Fact};
use crate::fault::Fault;

/// The same facts for a cluster that begins anew with the members of `membership` (as Raft encodes them).
///
/// What tells of the old members goes: they, what they said about themselves, and their alarms. Request ids
/// go too, since they remember places in a log that is no more: a client that repeats a write over a
/// restore may see it applied again. Tenants, leases and revisions stay.
pub fn refound(old: Vec<(Bytes, Bytes)>, membership: &Bytes) -> Result<Vec<(Bytes, Bytes)>, Fault> {
    let mut new = vec![(facts::membership_key(), facts::membership(membership))];
    for (key, value) in old {
        match facts::decode(&key, &value)? {
            Fact::Membership(_) | Fact::Member(_) | Fact::Alarm(..) | Fact::Request(..) => {}
            Fact::Digest(_)
            | Fact::NextTenant(_)
            | Fact::Tenant(_)
            | Fact::Counters { .. }
            | Fact::Lease(..) => new.push((key, value)),
        }
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use meridian_domain::command::AlarmKind;

    use super::*;

    #[test]
    fn what_tells_of_the_old_members_goes_and_the_rest_stays() {
        let stays = (facts::next_tenant_key(), facts::next_tenant(7));
        let old = vec![
            (facts::membership_key(), facts::membership(b"old")),
            (facts::alarm_key(3, AlarmKind::NoSpace), facts::alarm()),
            stays.clone(),
        ];
        let new = refound(old, &Bytes::from_static(b"new")).unwrap();
        let membership = (facts::membership_key(), facts::membership(b"new"));
        assert_eq!(new, [membership, stays]);
    }

    #[test]
    fn a_fact_that_can_not_be_read_is_not_carried_over() {
        let strange = (Bytes::from_static(b"\xee"), Bytes::from_static(b"\x01"));
        assert!(refound(vec![strange], &Bytes::new()).is_err());
    }
}
