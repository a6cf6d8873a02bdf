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

/// The facts of a cluster whose clients may have seen revisions the snapshot does not have: every tenant's
/// revision is raised by `by`, and all below is compacted, so that watches and caches of the old cluster begin
/// afresh and no revision comes twice. [`Fault::Inconsistent`] if a revision would not fit.
pub fn bumped(old: Vec<(Bytes, Bytes)>, by: u64) -> Result<Vec<(Bytes, Bytes)>, Fault> {
    let raised = |(key, value): (Bytes, Bytes)| {
        let Fact::Counters {
            tenant,
            revision,
            rules_revision,
            ..
        } = facts::decode(&key, &value)?
        else {
            return Ok((key, value));
        };
        let raised = revision.checked_add_unsigned(by);
        let revision = raised.ok_or_else(|| Fault::Inconsistent {
            what: format!("revision {revision} of tenant {tenant} can not be raised by {by}"),
        })?;
        Ok((key, facts::counters_of(revision, revision, rules_revision)))
    };
    old.into_iter().map(raised).collect()
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
    fn revisions_are_raised_and_what_lies_below_is_compacted() {
        let key = facts::counters_key(meridian_domain::name::TenantId(7));
        let counters = |revision, compacted| facts::counters_of(revision, compacted, 3);
        let other = (facts::next_tenant_key(), facts::next_tenant(8));
        let old = vec![other.clone(), (key.clone(), counters(40, 12))];
        let new = bumped(old.clone(), 1_000).unwrap();
        assert_eq!(new, [other, (key, counters(1_040, 1_040))]);
        assert!(bumped(old, u64::MAX).is_err());
    }

    #[test]
    fn a_fact_that_can_not_be_read_is_not_carried_over() {
        let strange = (Bytes::from_static(b"\xee"), Bytes::from_static(b"\x01"));
        assert!(refound(vec![strange], &Bytes::new()).is_err());
    }
}
