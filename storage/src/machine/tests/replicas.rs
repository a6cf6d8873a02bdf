//! Members that apply the same entries agree, however and whenever they publish, reclaim or restart.

use meridian_domain::name::TenantName;
use meridian_domain::tenant::{Quota, Retention};
use proptest::collection::vec;
use proptest::prelude::*;

use super::model::{Step, range_strategy, step};
use super::*;

/// The entries of a program: every fourth with a request id, some of them sent twice, two tenants.
fn records(steps: &[Step]) -> Vec<Bytes> {
    let mut records = vec![];
    let other = Command::TenantCreate {
        name: TenantName::new("other").unwrap(),
        quota: Quota {
            keys: 5,
            ..Quota::default()
        },
        retention: Retention::default(),
    };
    records.push(record(&proposal_of(other)));
    for (i, step) in steps.iter().enumerate() {
        let command = match step {
            Step::Run(command) => command.clone(),
            Step::CompactBack(by) => Command::Compact {
                revision: 2 + by + i as i64 / 3,
            },
            Step::Publish => Command::LeaseCheckpoint {
                remaining: vec![(1, i as i64), (9, 9)],
            },
            Step::Reclaim(budget) => Command::Alarm {
                member: *budget as u64,
                kind: meridian_domain::command::AlarmKind::NoSpace,
                raised: i % 2 == 0,
            },
        };
        let mut proposal = proposal_of(command);
        proposal.tenant = TenantId(1 + u32::from(i % 3 == 0));
        if i % 4 == 0 {
            proposal = with_id(proposal, &format!("request-{}", i / 8));
        }
        records.push(record(&proposal));
    }
    records
}

/// All that members must agree on: the state hash, the rows, a hash at every revision of every tenant.
type Outcome = (u64, Kept, Vec<Result<(u32, i64, i64), Rejection>>);

fn outcome(rig: &Rig) -> Outcome {
    let mut hashes = vec![];
    for tenant in rig.machine.store().tenants() {
        for revision in 0..=tenant.root().revision() {
            hashes.push(tenant.hash_kv(revision));
        }
    }
    (rig.machine.digest().hash, rig.rows(), hashes)
}

/// A member started again from what a snapshot of `rig` holds.
fn restarted(rig: &Rig) -> Rig {
    let history = empty_history();
    history.reset(&mut rig.rows()).unwrap();
    let machine = Machine::load(&mut rig.rows(), history.clone(), Settings::default()).unwrap();
    Rig {
        machine,
        history,
        at: rig.at,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn members_agree_whenever_they_publish_reclaim_and_restart(
        steps in vec(step(), 1..60),
        timing in vec(0..8u8, 60),
        ranges in vec(range_strategy(), 10),
    ) {
        let records = records(&steps);
        let mut steady = Rig::new();
        let mut other = Rig::new();
        for (i, record) in records.iter().enumerate() {
            let receipt = steady.apply(record);
            steady.machine.publish();
            prop_assert_eq!(&receipt, &other.apply(record));
            match timing[i % timing.len()] {
                0 => other.machine.publish(),
                1 => { other.machine.reclaim(2); }
                2 => while other.machine.reclaim(100) {},
                3 => {
                    other.machine.publish();
                    other = restarted(&other);
                }
                4 => {
                    // A member that fell behind and is brought up by a snapshot.
                    let mut late = Rig::new();
                    late.apply(&records[0]);
                    late.machine.publish();
                    late.history.reset(&mut steady.rows()).unwrap();
                    late.machine.install(&mut steady.rows()).unwrap();
                    late.at = steady.at;
                    other = late;
                }
                _ => {}
            }
        }
        other.machine.publish();
        prop_assert_eq!(outcome(&other), outcome(&steady));
        for range in &ranges {
            prop_assert_eq!(other.tenant().view().range(range), steady.tenant().view().range(range));
        }
    }
}

#[test]
fn a_restart_finds_everything_and_goes_on() {
    let mut rig = Rig::new();
    rig.run(Command::LeaseGrant {
        id: 7,
        ttl_seconds: 60,
    });
    rig.run(Command::LeaseCheckpoint {
        remaining: vec![(7, 30)],
    });
    rig.run(Command::Txn(Txn::once(put_op("a", "1", 7))));
    rig.apply(&record(&with_id(proposal_of(put("b", "1")), "r1")));
    rig.put("b", "2");
    rig.at.index += 1;
    rig.machine
        .set_membership(rig.at, Bytes::from_static(b"members"));
    rig.run(Command::Compact { revision: 3 });

    let mut again = restarted(&rig);
    assert_eq!(again.machine.applied(), rig.machine.applied());
    assert_eq!(again.machine.digest(), rig.machine.digest());
    assert_eq!(again.machine.membership().as_deref(), Some(&b"members"[..]));
    let view = again.tenant().view();
    let lease = view.lease(7).unwrap();
    assert_eq!(
        (lease.ttl_seconds, lease.checkpoint_seconds, lease.keys),
        (60, 30, 1)
    );
    assert_eq!(again.all(3).unwrap().kvs.len(), 2);
    let (first, second) = {
        let proposal = record(&with_id(proposal_of(put("b", "1")), "r1"));
        (rig.apply(&proposal), again.apply(&proposal))
    };
    assert_eq!(first, second);
    assert_eq!(
        first.revision, 3,
        "the request was applied before the restart"
    );
    assert_eq!(again.run(Command::LeaseRevoke { id: 7 }).revision, 5);
}

#[test]
fn rows_that_contradict_each_other_are_not_loaded() {
    let mut rig = Rig::new();
    rig.run(Command::LeaseGrant {
        id: 7,
        ttl_seconds: 60,
    });
    rig.run(Command::Txn(Txn::once(put_op("a", "1", 7))));
    rig.put("b", "2");
    let good = rig.rows();
    let load = |mut rows: Kept| Machine::load(&mut rows, empty_history(), Settings::default());
    assert!(load(good.clone()).is_ok());

    let without = |tag: u8| {
        let mut rows = good.clone();
        rows.facts.retain(|(key, _)| key[0] != tag);
        rows
    };
    for tag in [0x02, 0x10, 0x11, 0x12] {
        assert!(load(without(tag)).is_err(), "without facts {tag:#x}");
    }
    let mut swapped = good.clone();
    swapped.versions.swap(0, 1);
    assert!(load(swapped).is_err());
    let mut future = good.clone();
    future.versions[1].1.at.revision = 9;
    assert!(load(future).is_err());
    let mut newer = good.clone();
    newer.facts[0].1 = Bytes::from_static(b"\x02");
    assert!(matches!(load(newer), Err(Fault::NewerFormat { .. })));
    let mut unknown = good;
    unknown
        .facts
        .push((Bytes::from_static(b"\x20"), Bytes::from_static(b"\x01")));
    assert!(matches!(load(unknown), Err(Fault::NewerFormat { .. })));
}

#[test]
fn watchers_stay_with_their_tenant_through_an_install() {
    let mut rig = Rig::new();
    rig.put("a", "1");
    let mut ahead = Rig::new();
    for i in 0..10 {
        ahead.put("a", &i.to_string());
    }
    let hub = Arc::clone(rig.tenant().hub());
    rig.history.reset(&mut ahead.rows()).unwrap();
    rig.machine.install(&mut ahead.rows()).unwrap();
    assert!(Arc::ptr_eq(&hub, rig.tenant().hub()));
    assert_eq!(hub.revision(), 11);
    assert_eq!(rig.all(5).unwrap(), ahead.all(5).unwrap());
}
