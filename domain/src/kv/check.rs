//! Whether a request is well-formed, before any state is looked at.
//!
//! The order of the checks is etcd's, because the first fault found is the one that is answered.

use crate::command::AlarmKind;
use crate::kv::{Delete, Put, Range, duplicate};
use crate::limits;
use crate::plan::alarm_raised;
use crate::rejection::Rejection;
use crate::txn::{Op, Txn};
use crate::view::View;

/// A put needs a key. (`ignore_*` contradictions can not be expressed in [`Put`]; parsing refuses them.)
pub fn put(put: &Put) -> Result<(), Rejection> {
    if put.key.is_empty() {
        Err(Rejection::EmptyKey)
    } else {
        Ok(())
    }
}

/// A delete needs a key.
pub fn delete(delete: &Delete) -> Result<(), Rejection> {
    if delete.range.start.is_empty() {
        Err(Rejection::EmptyKey)
    } else {
        Ok(())
    }
}

/// A range needs a key.
pub fn range(range: &Range) -> Result<(), Rejection> {
    if range.range.start.is_empty() {
        Err(Rejection::EmptyKey)
    } else {
        Ok(())
    }
}

/// A transaction, in etcd's order: the number of operations, each compare and operation on its own, then
/// keys written twice. Both branches are checked, though only one will run.
///
/// Each level may have [`limits::TXN_OPS_MAX`] compares or operations per branch, less the count of the
/// levels around it; levels nest at most [`limits::TXN_DEPTH_MAX`] deep.
pub fn txn(txn: &Txn) -> Result<(), Rejection> {
    level(txn, limits::TXN_OPS_MAX, 1)?;
    duplicate::check(&txn.success)?;
    duplicate::check(&txn.failure)
}

/// Checks the transaction that stands `depth` levels deep, the outermost at 1, and has `budget` operations.
fn level(txn: &Txn, budget: usize, depth: usize) -> Result<(), Rejection> {
    if depth > limits::TXN_DEPTH_MAX {
        return Err(Rejection::TxnTooDeep);
    }
    let count = txn
        .compares
        .len()
        .max(txn.success.len())
        .max(txn.failure.len());
    let rest = budget.checked_sub(count).ok_or(Rejection::TooManyOps)?;
    if txn
        .compares
        .iter()
        .any(|compare| compare.range.start.is_empty())
    {
        return Err(Rejection::EmptyKey);
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            Op::Put(op) => put(op)?,
            Op::Delete(op) => delete(op)?,
            Op::Range(op) => range(op)?,
            Op::Txn(inner) => level(inner, rest, depth + 1)?,
        }
    }
    Ok(())
}

/// Whether the alarms that are raised allow a write; `grows` says whether it could add data.
pub fn alarms(view: &dyn View, grows: bool) -> Result<(), Rejection> {
    if alarm_raised(view, AlarmKind::Corrupt) {
        return Err(Rejection::CorruptAlarm);
    }
    if grows && alarm_raised(view, AlarmKind::NoSpace) {
        return Err(Rejection::NoSpaceAlarm);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bytes::Bytes;

    use super::*;
    use crate::key::{KeyRange, Space};
    use crate::txn::{Compare, Operand, Relation};

    fn read(key: &'static str) -> Op {
        Op::Range(Range::of(Space::RAW, KeyRange::single(key.into())))
    }

    fn write(key: Bytes) -> Op {
        Op::Put(Put {
            space: Space::RAW,
            key,
            value: None,
            lease: None,
            prev_kv: false,
        })
    }

    fn compare(key: &'static str) -> Compare {
        Compare {
            space: Space::RAW,
            range: KeyRange::single(key.into()),
            relation: Relation::Equal,
            operand: Operand::Version(0),
        }
    }

    fn reads(count: usize) -> Txn {
        Txn {
            success: vec![read("k"); count],
            ..Txn::default()
        }
    }

    #[test]
    fn each_list_may_have_128_entries() {
        assert_eq!(txn(&reads(128)), Ok(()));
        assert_eq!(txn(&reads(129)), Err(Rejection::TooManyOps));
        let failure = Txn {
            failure: vec![read("k"); 129],
            ..Txn::default()
        };
        assert_eq!(txn(&failure), Err(Rejection::TooManyOps));
        let compares = Txn {
            compares: vec![compare("k"); 129],
            ..Txn::default()
        };
        assert_eq!(txn(&compares), Err(Rejection::TooManyOps));
        let all = Txn {
            compares: vec![compare("k"); 128],
            success: vec![read("k"); 128],
            failure: vec![read("k"); 128],
        };
        assert_eq!(txn(&all), Ok(()));
    }

    #[test]
    fn a_nested_transaction_has_what_the_level_around_it_leaves() {
        // The level counts one operation and two compares: 126 are left.
        let around = |inner: Txn| Txn {
            compares: vec![compare("a"), compare("b")],
            success: vec![Op::Txn(inner)],
            failure: vec![],
        };
        assert_eq!(txn(&around(reads(126))), Ok(()));
        assert_eq!(txn(&around(reads(127))), Err(Rejection::TooManyOps));
    }

    #[test]
    fn nesting_is_bounded() {
        let tower = |levels: usize| {
            let mut top = reads(1);
            for _ in 1..levels {
                top = Txn::once(Op::Txn(top));
            }
            top
        };
        assert_eq!(txn(&tower(limits::TXN_DEPTH_MAX)), Ok(()));
        assert_eq!(
            txn(&tower(limits::TXN_DEPTH_MAX + 1)),
            Err(Rejection::TxnTooDeep)
        );
    }

    #[test]
    fn every_compare_and_operation_needs_a_key_in_either_branch() {
        let bad = [
            Txn {
                compares: vec![compare("")],
                ..Txn::default()
            },
            Txn {
                success: vec![read("")],
                ..Txn::default()
            },
            Txn {
                failure: vec![write(Bytes::new())],
                ..Txn::default()
            },
            Txn {
                failure: vec![Op::Txn(Txn::once(read("")))],
                ..Txn::default()
            },
        ];
        for case in bad {
            assert_eq!(txn(&case), Err(Rejection::EmptyKey), "{case:?}");
        }
    }

    #[test]
    fn faults_are_found_in_etcds_order() {
        let k = || write(Bytes::from_static(b"k"));
        // A duplicate, an empty key and too many operations: the count is judged first,
        let mut all = Txn {
            success: vec![k(), k(), read("")],
            ..Txn::default()
        };
        all.failure = vec![read("k"); 129];
        assert_eq!(txn(&all), Err(Rejection::TooManyOps));
        // then each operation on its own,
        all.failure.clear();
        assert_eq!(txn(&all), Err(Rejection::EmptyKey));
        // then duplicates.
        all.success.pop();
        assert_eq!(txn(&all), Err(Rejection::DuplicateKey));
    }

    #[test]
    fn the_failure_branch_is_checked_for_duplicates_too() {
        let k = || write(Bytes::from_static(b"k"));
        let both = Txn {
            success: vec![k()],
            failure: vec![k(), k()],
            ..Txn::default()
        };
        assert_eq!(txn(&both), Err(Rejection::DuplicateKey));
        let apart = Txn {
            success: vec![k()],
            failure: vec![k()],
            ..Txn::default()
        };
        assert_eq!(txn(&apart), Ok(()));
    }
}
