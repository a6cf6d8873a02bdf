//! Random programs against the naive store: every answer, and every range at every retained revision.

use meridian_domain::kv::{Delete, Order, RevisionBounds, Target};
use meridian_domain::txn::{Compare, Operand, Relation};
use proptest::collection::vec;
use proptest::prelude::*;

use super::naive::Naive;
use super::*;

/// One step of a program.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Run(Command),
    /// Compacts to so many revisions before the current one.
    CompactBack(Revision),
    Publish,
    Reclaim(usize),
}

fn key() -> impl Strategy<Value = Bytes> {
    prop_oneof!["[abc]", "[ab]{2}", Just("a\0".to_string())].prop_map(Bytes::from)
}

fn keys() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        4 => key().prop_map(KeyRange::single),
        2 => (key(), key()).prop_map(|(k, e)| KeyRange::from_wire(k, e)),
        1 => key().prop_map(KeyRange::prefix),
        1 => key().prop_map(|k| KeyRange::from_wire(k, Bytes::from_static(b"\0"))),
        1 => Just(KeyRange::all()),
    ]
}

fn lease() -> impl Strategy<Value = LeaseId> {
    prop_oneof![5 => Just(0), 4 => 1..3i64, 1 => Just(-5i64)]
}

fn put_strategy() -> impl Strategy<Value = Op> {
    let value = proptest::option::weighted(0.9, "[xyz]{0,3}".prop_map(Bytes::from));
    (
        key(),
        value,
        proptest::option::weighted(0.9, lease()),
        any::<bool>(),
    )
        .prop_map(|(key, value, lease, prev_kv)| {
            Op::Put(Put {
                space: Space::RAW,
                key,
                value,
                lease,
                prev_kv,
            })
        })
}

pub(super) fn range_strategy() -> impl Strategy<Value = Range> {
    let order = prop_oneof![
        Just(Order::Unordered),
        Just(Order::Ascend),
        Just(Order::Descend)
    ];
    let target = prop_oneof![
        3 => Just(Target::Key),
        1 => Just(Target::Version),
        1 => Just(Target::Create),
        1 => Just(Target::Mod),
        1 => Just(Target::Value),
    ];
    let bound = || prop_oneof![6 => Just(0i64), 1 => 1..20i64];
    (
        (
            keys(),
            prop_oneof![5 => Just(0i64), 4 => 1..25i64, 1 => -3..0i64],
        ),
        (
            prop_oneof![2 => Just(0i64), 3 => 1..5i64, 1 => Just(i64::MAX)],
            order,
            target,
        ),
        (any::<bool>(), proptest::bool::weighted(0.2)),
        (bound(), bound(), bound(), bound()),
    )
        .prop_map(
            |((range, revision), (limit, order, target), flags, bounds)| Range {
                space: Space::RAW,
                range,
                revision,
                limit,
                order,
                target,
                keys_only: flags.0,
                count_only: flags.1,
                bounds: RevisionBounds {
                    mod_min: bounds.0,
                    mod_max: bounds.1,
                    create_min: bounds.2,
                    create_max: bounds.3,
                },
            },
        )
}

fn compare() -> impl Strategy<Value = Compare> {
    let relation = prop_oneof![
        Just(Relation::Equal),
        Just(Relation::NotEqual),
        Just(Relation::Greater),
        Just(Relation::Less)
    ];
    let operand = prop_oneof![
        (0..3i64).prop_map(Operand::Version),
        (0..15i64).prop_map(Operand::Create),
        (0..15i64).prop_map(Operand::Mod),
        "[xyz]{0,2}".prop_map(|v| Operand::Value(Bytes::from(v))),
        lease().prop_map(Operand::Lease),
    ];
    (keys(), relation, operand).prop_map(|(range, relation, operand)| Compare {
        space: Space::RAW,
        range,
        relation,
        operand,
    })
}

fn txn() -> impl Strategy<Value = Txn> {
    let delete = (keys(), any::<bool>()).prop_map(|(range, prev_kv)| {
        Op::Delete(Delete {
            space: Space::RAW,
            range,
            prev_kv,
        })
    });
    let op = prop_oneof![
        4 => put_strategy(),
        2 => delete,
        2 => range_strategy().prop_map(Op::Range),
    ]
    .boxed();
    let level = |op: BoxedStrategy<Op>| {
        (vec(compare(), 0..3), vec(op.clone(), 0..4), vec(op, 0..4)).prop_map(
            |(compares, success, failure)| Txn {
                compares,
                success,
                failure,
            },
        )
    };
    let flat = level(op.clone().boxed()).boxed();
    let nested = prop_oneof![3 => op, 1 => flat.clone().prop_map(Op::Txn)];
    prop_oneof![2 => flat, 1 => level(nested.boxed())]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => put_strategy().prop_map(|op| Step::Run(Command::Txn(Txn::once(op)))),
        3 => (keys(), any::<bool>()).prop_map(|(range, prev_kv)| {
            let delete = Delete { space: Space::RAW, range, prev_kv };
            Step::Run(Command::Txn(Txn::once(Op::Delete(delete))))
        }),
        6 => txn().prop_map(|txn| Step::Run(Command::Txn(txn))),
        3 => lease().prop_map(|id| Step::Run(Command::LeaseGrant { id, ttl_seconds: 10 })),
        1 => lease().prop_map(|id| Step::Run(Command::LeaseRevoke { id })),
        1 => (0..4i64).prop_map(Step::CompactBack),
        4 => Just(Step::Publish),
        2 => (1..5usize).prop_map(Step::Reclaim),
    ]
}

/// Does one step on both; checks the answer.
fn go(rig: &mut Rig, naive: &mut Naive, step: &Step) -> Result<(), TestCaseError> {
    let command = match step {
        Step::Publish => {
            rig.machine.publish();
            return Ok(());
        }
        Step::Reclaim(budget) => {
            rig.machine.reclaim(*budget);
            return Ok(());
        }
        Step::CompactBack(by) => Command::Compact {
            revision: naive.revision - by,
        },
        Step::Run(command) => command.clone(),
    };
    let receipt = rig.apply(&record(&proposal_of(command.clone())));
    let want = match &command {
        Command::Txn(txn) => naive.txn(txn).map(Reply::Txn),
        Command::Compact { revision } => naive.compact(*revision).map(|()| Reply::Done),
        Command::LeaseRevoke { id } => naive.revoke(*id).map(|()| Reply::Done),
        Command::LeaseGrant { id, ttl_seconds } => {
            if *id == 0 || naive.leases.contains_key(id) {
                Err(Rejection::LeaseExists)
            } else {
                naive.leases.insert(*id, *ttl_seconds);
                Ok(Reply::LeaseGranted {
                    id: *id,
                    ttl_seconds: *ttl_seconds,
                })
            }
        }
        other => panic!("{other:?}"),
    };
    let want = want.map_or_else(Verdict::Rejected, Verdict::Applied);
    prop_assert_eq!(&receipt.verdict, &want, "{:?}", command);
    prop_assert_eq!(receipt.revision, naive.revision);
    prop_assert!(rig.machine.fault().is_none());
    Ok(())
}

/// Checks everything that can be read.
fn check(rig: &Rig, naive: &Naive, ranges: &[Range]) -> Result<(), TestCaseError> {
    let view = rig.tenant().view();
    prop_assert_eq!(view.revision(), naive.revision);
    prop_assert_eq!(view.compacted(), naive.compacted);
    for revision in naive.compacted.max(1)..=naive.revision {
        let range = Range {
            revision,
            ..Range::of(Space::RAW, KeyRange::all())
        };
        prop_assert_eq!(view.range(&range), naive.range(&range));
    }
    for range in ranges {
        prop_assert_eq!(view.range(range), naive.range(range), "{:?}", range);
    }
    prop_assert!(view.fault().is_none());
    let live = naive
        .range(&Range::of(Space::RAW, KeyRange::all()))
        .unwrap()
        .kvs;
    let bytes = live
        .iter()
        .map(|kv| (kv.key.len() + kv.value.len() + 256) as u64)
        .sum::<u64>();
    prop_assert_eq!(
        view.usage(),
        meridian_domain::tenant::Usage {
            bytes,
            keys: live.len() as u64
        }
    );
    prop_assert_eq!(
        view.leases(),
        naive.leases.keys().copied().collect::<Vec<_>>()
    );
    for id in naive.leases.keys() {
        prop_assert_eq!(view.lease_keys(*id), naive.attached(*id));
        prop_assert_eq!(view.lease(*id).unwrap().keys, naive.attached(*id).len());
    }
    Ok(())
}

/// Checks what a snapshot would hold: exactly what is retained, each version with what it replaced.
fn check_rows(rig: &Rig, naive: &Naive) -> Result<(), TestCaseError> {
    let rows = rig.rows();
    let retained: Vec<_> = rows
        .versions
        .iter()
        .map(|(_, v)| (v.at, v.key.clone()))
        .collect();
    prop_assert_eq!(&retained, &naive.retained().into_iter().collect::<Vec<_>>());
    for (_, version) in &rows.versions {
        let versions = &naive.keys[&version.key];
        let place = versions
            .iter()
            .position(|(at, _)| *at == version.at)
            .unwrap();
        prop_assert_eq!(version.after.as_deref(), versions[place].1.as_ref());
        let before = place.checked_sub(1).map(|i| &versions[i]);
        let prev = before.filter(|(_, kv)| kv.is_some()).map(|(at, _)| *at);
        prop_assert_eq!(version.prev, prev);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_and_every_retained_revision_agree_with_the_naive_store(
        steps in vec(step(), 1..80),
        ranges in vec(range_strategy(), 30),
    ) {
        let mut rig = Rig::new();
        let mut naive = Naive::new();
        for (i, step) in steps.iter().enumerate() {
            go(&mut rig, &mut naive, step)?;
            if i % 20 == 19 {
                rig.machine.publish();
                check(&rig, &naive, &ranges)?;
            }
        }
        rig.machine.publish();
        check(&rig, &naive, &ranges)?;
        check_rows(&rig, &naive)?;
        while rig.machine.reclaim(3) {}
        check(&rig, &naive, &ranges)?;
        check_rows(&rig, &naive)?;
        let mut left = 0;
        rig.history.flush().unwrap();
        rig.history.pin().versions(TenantId::DEFAULT, Revision::MAX, &mut |_| { left += 1; Ok(()) }).unwrap();
        prop_assert_eq!(left, naive.retained().len(), "everything else is gone for good");
    }
}
