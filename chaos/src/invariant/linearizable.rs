//! Each register is linearizable, judged by what clients asked and got alone, without trusting revisions.
//!
//! The search of Wing and Gong with Lowe's memory: take any operation that no other must precede, apply it to
//! the register, go on with the rest; step back when an answer does not fit. A state seen before (same
//! operations taken, same value) is not searched again.
//!
//! An operation whose outcome is unknown may have happened at any time after it began, or never. Since every
//! value is unique, one whose value nobody saw can be left out: it constrains nothing. One whose value was seen
//! did happen, and never has to have happened before it began.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;

use crate::history::{Ask, Operation, Time};
use crate::invariant::{FAULTS_MAX, Faults};

/// States looked at per register before the search gives up, which is reported as a fault: a check that was
/// not made must not pass.
const STATES_MAX: usize = 5_000_000;

/// Checks every register.
pub fn check(operations: &[Operation]) -> Faults {
    let mut registers: BTreeMap<&Bytes, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        registers.entry(&operation.key).or_default().push(operation);
    }
    let mut faults = vec![];
    for (key, operations) in registers {
        match search(&certain(&operations)) {
            Some(true) => {}
            Some(false) => faults.push(format!(
                "the {} operations on {key:?} can not be put in an order that explains their answers",
                operations.len()
            )),
            None => faults.push(format!("{key:?} has too many possible orders to be checked")),
        }
        if faults.len() >= FAULTS_MAX {
            break;
        }
    }
    faults
}

/// What an operation does to a register: what it must find, and what it leaves.
#[derive(Clone, Debug)]
struct Step {
    begun: Time,
    ended: Time,
    /// The value that must be there for the answer to fit; the outer none fits any.
    must_be: Option<Option<Bytes>>,
    /// The value that must not be there.
    must_not_be: Option<Option<Bytes>>,
    /// What is there afterwards; none leaves it as it is.
    leaves: Option<Bytes>,
}

/// The operations that constrain the order.
fn certain(operations: &[&Operation]) -> Vec<Step> {
    let mut seen: HashSet<&Bytes> = HashSet::new();
    for operation in operations {
        if let Some(outcome) = &operation.outcome {
            seen.extend(&outcome.found);
            if let (
                Ask::CompareAndSet {
                    expected: Some(expected),
                    ..
                },
                true,
            ) = (&operation.ask, outcome.set)
            {
                seen.insert(expected);
            }
        }
    }
    // An unknown compare-and-set that happened saw what it expected.
    loop {
        let before = seen.len();
        for operation in operations {
            if let (
                None,
                Ask::CompareAndSet {
                    expected: Some(expected),
                    new,
                },
            ) = (&operation.outcome, &operation.ask)
                && seen.contains(new)
            {
                seen.insert(expected);
            }
        }
        if seen.len() == before {
            break;
        }
    }
    operations
        .iter()
        .filter_map(|operation| step(operation, &seen))
        .collect()
}

fn step(operation: &Operation, seen: &HashSet<&Bytes>) -> Option<Step> {
    let (begun, mut ended) = (operation.begun, operation.ended);
    let (must_be, must_not_be, leaves) = match (&operation.ask, &operation.outcome) {
        (Ask::Read, Some(outcome)) => (Some(outcome.found.clone()), None, None),
        (Ask::Read, None) => return None,
        (Ask::Write(value), Some(_)) => (None, None, Some(value.clone())),
        (Ask::CompareAndSet { expected, new }, Some(outcome)) if outcome.set => {
            (Some(expected.clone()), None, Some(new.clone()))
        }
        (Ask::CompareAndSet { expected, .. }, Some(outcome)) => {
            (Some(outcome.found.clone()), Some(expected.clone()), None)
        }
        (Ask::Write(value), None) => {
            ended = Time::MAX;
            (None, None, seen.contains(value).then(|| value.clone()))
        }
        (Ask::CompareAndSet { expected, new }, None) => {
            ended = Time::MAX;
            (
                Some(expected.clone()),
                None,
                seen.contains(new).then(|| new.clone()),
            )
        }
    };
    if ended == Time::MAX && leaves.is_none() {
        return None;
    }
    Some(Step {
        begun,
        ended,
        must_be,
        must_not_be,
        leaves,
    })
}

/// Whether an order exists; none if it would take too long to tell.
fn search(steps: &[Step]) -> Option<bool> {
    let mut order: Vec<&Step> = steps.iter().collect();
    order.sort_by_key(|step| step.begun);
    let mut visited: HashSet<(Vec<u64>, Option<Bytes>)> = HashSet::new();
    // Depth first: what was taken, the value, and the next candidate to try.
    let mut taken = vec![0_u64; order.len().div_ceil(64)];
    let mut value: Option<Bytes> = None;
    let mut path: Vec<(usize, Option<Bytes>)> = vec![];
    let mut from = 0;
    loop {
        if path.len() == order.len() {
            return Some(true);
        }
        match next(&order, &taken, value.as_ref(), from) {
            Some(i) => {
                let before = value.clone();
                if let Some(leaves) = order.get(i).and_then(|step| step.leaves.clone()) {
                    value = Some(leaves);
                }
                flip(&mut taken, i);
                if visited.insert((taken.clone(), value.clone())) {
                    if visited.len() > STATES_MAX {
                        return None;
                    }
                    path.push((i, before));
                    from = 0;
                } else {
                    flip(&mut taken, i);
                    value = before;
                    from = i + 1;
                }
            }
            None => {
                let Some((i, before)) = path.pop() else {
                    return Some(false);
                };
                flip(&mut taken, i);
                value = before;
                from = i + 1;
            }
        }
    }
}

/// The next operation from `from` on that nothing not yet taken must precede, and whose answer fits.
fn next(order: &[&Step], taken: &[u64], value: Option<&Bytes>, from: usize) -> Option<usize> {
    let open = |i: &usize| !is_set(taken, *i);
    let first_end = (0..order.len())
        .filter(open)
        .filter_map(|i| order.get(i))
        .map(|step| step.ended)
        .min()?;
    (from..order.len())
        .filter(open)
        .take_while(|i| order.get(*i).is_some_and(|step| step.begun <= first_end))
        .find(|i| order.get(*i).is_some_and(|step| fits(step, value)))
}

fn fits(step: &Step, value: Option<&Bytes>) -> bool {
    step.must_be
        .as_ref()
        .is_none_or(|must| must.as_ref() == value)
        && step
            .must_not_be
            .as_ref()
            .is_none_or(|must_not| must_not.as_ref() != value)
}

fn is_set(bits: &[u64], i: usize) -> bool {
    bits.get(i / 64)
        .is_some_and(|word| word & (1 << (i % 64)) != 0)
}

fn flip(bits: &mut [u64], i: usize) {
    if let Some(word) = bits.get_mut(i / 64) {
        *word ^= 1 << (i % 64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Outcome;

    fn operation(ask: Ask, begun: Time, ended: Time, outcome: Option<Outcome>) -> Operation {
        Operation {
            client: 0,
            key: "k".into(),
            ask,
            outcome,
            begun,
            ended,
        }
    }

    fn write(value: &'static str, begun: Time, ended: Time) -> Operation {
        let outcome = Some(Outcome {
            revision: 0,
            found: None,
            set: true,
        });
        operation(Ask::Write(value.into()), begun, ended, outcome)
    }

    fn lost_write(value: &'static str, begun: Time) -> Operation {
        operation(Ask::Write(value.into()), begun, begun + 1, None)
    }

    fn read(found: Option<&'static str>, begun: Time, ended: Time) -> Operation {
        let outcome = Some(Outcome {
            revision: 0,
            found: found.map(Into::into),
            set: false,
        });
        operation(Ask::Read, begun, ended, outcome)
    }

    fn cas(expected: Option<&'static str>, new: &'static str, set: bool, at: Time) -> Operation {
        let found = if set { None } else { Some("other".into()) };
        let outcome = Some(Outcome {
            revision: 0,
            found,
            set,
        });
        let ask = Ask::CompareAndSet {
            expected: expected.map(Into::into),
            new: new.into(),
        };
        operation(ask, at, at + 5, outcome)
    }

    #[test]
    fn histories_with_an_order_pass() {
        for good in [
            vec![],
            vec![read(None, 0, 1)],
            vec![write("a", 0, 10), read(None, 1, 2), read(Some("a"), 3, 4)],
            vec![
                write("a", 0, 10),
                write("b", 0, 10),
                read(Some("a"), 11, 12),
            ],
            vec![lost_write("a", 0), read(None, 5, 6), read(Some("a"), 7, 8)],
            vec![lost_write("a", 0), read(None, 5, 6)],
            vec![
                cas(None, "a", true, 0),
                cas(Some("a"), "b", true, 10),
                read(Some("b"), 20, 21),
            ],
        ] {
            assert_eq!(check(&good), Faults::new(), "{good:?}");
        }
    }

    #[test]
    fn histories_without_an_order_are_found() {
        for bad in [
            vec![read(Some("a"), 0, 1)],
            vec![write("a", 0, 1), read(None, 2, 3)],
            vec![write("a", 0, 1), write("b", 2, 3), read(Some("a"), 4, 5)],
            vec![write("a", 0, 10), read(Some("a"), 1, 2), read(None, 3, 4)],
            vec![lost_write("a", 10), read(Some("a"), 1, 2)],
            vec![cas(None, "a", true, 0), cas(None, "b", true, 10)],
            vec![cas(None, "a", false, 0)],
        ] {
            assert_eq!(check(&bad).len(), 1, "{bad:?}");
        }
    }

    /// Every order of a few operations, tried naively, must agree with the search.
    #[test]
    fn the_search_agrees_with_trying_every_order() {
        use rand::rngs::StdRng;
        use rand::{Rng, SeedableRng};
        let mut random = StdRng::seed_from_u64(1);
        let (mut good, mut bad) = (0, 0);
        for _ in 0..3_000 {
            let values = ["a", "b", "c", "d", "e"];
            let mut operations = vec![];
            for value in values {
                let begun = random.random_range(0..20);
                let ended = begun + random.random_range(1..12);
                operations.push(match random.random_range(0..3) {
                    0 => write(value, begun, ended),
                    1 => read(None, begun, ended),
                    _ => read(Some(values[random.random_range(0..5)]), begun, ended),
                });
            }
            let refs: Vec<&Operation> = operations.iter().collect();
            let steps = certain(&refs);
            let naive = permutations(steps.len())
                .into_iter()
                .any(|order| explains(&steps, &order));
            assert_eq!(search(&steps), Some(naive), "{operations:?}");
            if naive { good += 1 } else { bad += 1 }
        }
        assert!(
            good > 100 && bad > 100,
            "{good} good and {bad} bad histories were drawn"
        );
    }

    fn explains(steps: &[Step], order: &[usize]) -> bool {
        let mut value = None;
        for (place, i) in order.iter().enumerate() {
            let step = &steps[*i];
            if order[place + 1..]
                .iter()
                .any(|later| steps[*later].ended < step.begun)
            {
                return false;
            }
            if !fits(step, value.as_ref()) {
                return false;
            }
            value = step.leaves.clone().or(value);
        }
        true
    }

    fn permutations(n: usize) -> Vec<Vec<usize>> {
        if n == 0 {
            return vec![vec![]];
        }
        let mut all = vec![];
        for shorter in permutations(n - 1) {
            for place in 0..n {
                let mut order = shorter.clone();
                order.insert(place, n - 1);
                all.push(order);
            }
        }
        all
    }
}
