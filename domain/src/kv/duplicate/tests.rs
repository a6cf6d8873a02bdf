//! The table of what may write a key twice, and a naive check to compare with.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use bytes::Bytes;

use super::*;
use crate::kv::{Delete, Put, Range};

fn put(key: &'static str) -> Op {
    put_in(Space::RAW, key)
}

fn put_in(space: Space, key: &'static str) -> Op {
    Op::Put(Put {
        space,
        key: Bytes::from_static(key.as_bytes()),
        value: Some(Bytes::new()),
        lease: Some(0),
        prev_kv: false,
    })
}

/// Deletes `key`, or from `key` to before `end`, where `"\0"` is no end.
fn delete(key: &'static str, end: &'static str) -> Op {
    let range = KeyRange::from_wire(key.into(), end.into());
    Op::Delete(Delete {
        space: Space::RAW,
        range,
        prev_kv: false,
    })
}

fn read(key: &'static str) -> Op {
    Op::Range(Range::of(Space::RAW, KeyRange::single(key.into())))
}

fn nested(success: Vec<Op>, failure: Vec<Op>) -> Op {
    Op::Txn(Txn {
        compares: vec![],
        success,
        failure,
    })
}

#[track_caller]
fn allowed(branch: &[Op]) {
    assert_eq!(check(branch), Ok(()), "{branch:?}");
}

#[track_caller]
fn refused(branch: &[Op]) {
    assert_eq!(check(branch), Err(Rejection::DuplicateKey), "{branch:?}");
}

#[test]
fn two_puts_of_one_key_are_refused() {
    refused(&[put("k"), put("k")]);
    allowed(&[put("k"), put("l")]);
}

#[test]
fn a_put_at_a_level_and_in_a_nested_transaction_is_refused() {
    refused(&[put("k"), nested(vec![put("k")], vec![])]);
    refused(&[nested(vec![put("k")], vec![]), put("k")]);
    refused(&[put("k"), nested(vec![], vec![put("k")])]);
    refused(&[
        put("k"),
        nested(vec![nested(vec![], vec![put("k")])], vec![]),
    ]);
    allowed(&[put("k"), nested(vec![put("l")], vec![put("m")])]);
}

#[test]
fn a_put_in_two_sibling_transactions_is_refused() {
    refused(&[
        nested(vec![put("k")], vec![]),
        nested(vec![put("k")], vec![]),
    ]);
    refused(&[
        nested(vec![put("k")], vec![]),
        nested(vec![], vec![put("k")]),
    ]);
    allowed(&[
        nested(vec![put("k")], vec![]),
        nested(vec![put("l")], vec![]),
    ]);
}

#[test]
fn a_put_and_a_delete_of_it_at_one_level_are_refused_in_any_order() {
    refused(&[put("k"), delete("k", "")]);
    refused(&[delete("k", ""), put("k")]);
    refused(&[put("k"), delete("a", "z")]);
    allowed(&[put("k"), delete("a", "k"), delete("l", "z")]);
    // An empty range deletes nothing.
    allowed(&[put("k"), delete("z", "a"), delete("k", "k")]);
}

#[test]
fn a_delete_at_a_level_and_a_put_in_a_nested_transaction_are_refused() {
    refused(&[delete("k", ""), nested(vec![put("k")], vec![])]);
    refused(&[nested(vec![], vec![put("k")]), delete("a", "z")]);
    refused(&[
        delete("a", "z"),
        nested(vec![nested(vec![put("k")], vec![])], vec![]),
    ]);
}

#[test]
fn a_delete_in_a_nested_transaction_and_a_put_at_the_level_are_refused() {
    refused(&[nested(vec![delete("k", "")], vec![]), put("k")]);
    refused(&[put("k"), nested(vec![], vec![delete("a", "z")])]);
    refused(&[
        put("k"),
        nested(vec![nested(vec![delete("a", "z")], vec![])], vec![]),
    ]);
}

#[test]
fn of_siblings_the_first_may_not_delete_what_the_second_puts() {
    refused(&[
        nested(vec![delete("k", "")], vec![]),
        nested(vec![put("k")], vec![]),
    ]);
    refused(&[
        nested(vec![], vec![delete("a", "z")]),
        nested(vec![], vec![put("k")]),
    ]);
}

#[test]
fn of_siblings_the_first_may_put_what_the_second_deletes() {
    allowed(&[
        nested(vec![put("k")], vec![]),
        nested(vec![delete("k", "")], vec![]),
    ]);
    allowed(&[
        nested(vec![put("k")], vec![]),
        nested(vec![delete("a", "\0")], vec![put("m")]),
    ]);
}

#[test]
fn both_branches_of_a_nested_transaction_may_write_a_key() {
    allowed(&[nested(vec![put("k")], vec![put("k")])]);
    allowed(&[nested(vec![put("k")], vec![delete("k", "")])]);
    allowed(&[nested(vec![delete("k", "")], vec![put("k")])]);
    refused(&[nested(vec![put("k")], vec![put("k")]), put("k")]);
}

#[test]
fn deletes_may_overlap() {
    allowed(&[
        delete("a", "m"),
        delete("c", "z"),
        delete("d", ""),
        nested(vec![delete("a", "\0")], vec![]),
    ]);
}

#[test]
fn a_delete_without_an_upper_end_counts_for_nothing() {
    allowed(&[delete("a", "\0"), put("k")]);
    allowed(&[put("k"), delete("\0", "\0")]);
    allowed(&[nested(vec![delete("a", "\0")], vec![]), put("k")]);
    allowed(&[
        nested(vec![delete("a", "\0")], vec![]),
        nested(vec![put("k")], vec![]),
    ]);
    refused(&[delete("a", "\0"), put("k"), put("k")]);
}

#[test]
fn reads_are_unrestricted() {
    allowed(&[
        read("k"),
        put("k"),
        read("k"),
        nested(vec![read("k")], vec![read("k")]),
    ]);
    allowed(&[delete("k", ""), read("k")]);
}

#[test]
fn the_same_key_of_two_spaces_is_two_keys() {
    allowed(&[
        put_in(Space(0), "k"),
        put_in(Space(1), "k"),
        put_in(Space(2), "k"),
    ]);
    allowed(&[delete("a", "z"), put_in(Space(1), "k")]);
    refused(&[put_in(Space(1), "k"), put_in(Space(1), "k")]);
}

#[test]
fn a_deeply_nested_wide_transaction_is_checked_in_reasonable_work() {
    // 2^12 branches of one put each, all of different keys: merging larger into smaller would be quadratic.
    fn tower(depth: u32, name: &mut u32) -> Op {
        if depth == 0 {
            *name += 1;
            return put(Box::leak(format!("k{name}").into_boxed_str()));
        }
        nested(vec![tower(depth - 1, name)], vec![tower(depth - 1, name)])
    }
    let mut name = 0;
    allowed(&[tower(12, &mut name), put("last")]);
    assert_eq!(name, 4096);
}

// ---- against a naive check ------------------------------------------------------------------------------

/// What a branch writes: keys it puts, ranges it deletes.
type Naive = (Vec<Bytes>, Vec<KeyRange>);

/// The rule as etcd's documentation of the table gives it, compared key by key.
fn naive(branch: &[Op]) -> Option<Naive> {
    let mut puts: Vec<Bytes> = vec![];
    let mut deletes: Vec<KeyRange> = vec![];
    for op in branch {
        if let Op::Delete(delete) = op
            && delete.range.end != RangeEnd::Open
        {
            deletes.push(delete.range.clone());
        }
    }
    for op in branch {
        let Op::Txn(txn) = op else { continue };
        let (success, failure) = (naive(&txn.success)?, naive(&txn.failure)?);
        for key in success.0.iter().chain(&failure.0) {
            if puts.contains(key) || deletes.iter().any(|range| range.contains(key)) {
                return None;
            }
        }
        for (more_puts, more_deletes) in [success, failure] {
            puts.extend(more_puts);
            deletes.extend(more_deletes);
        }
    }
    for op in branch {
        let Op::Put(put) = op else { continue };
        if puts.contains(&put.key) || deletes.iter().any(|range| range.contains(&put.key)) {
            return None;
        }
        puts.push(put.key.clone());
    }
    Some((puts, deletes))
}

/// A small deterministic generator (xorshift), so that the cases are the same on every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides).unwrap()
    }
}

fn any_branch(dice: &mut Dice, depth: usize) -> Vec<Op> {
    const KEYS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
    const ENDS: [&str; 6] = ["", "\0", "b", "d", "f", "i"];
    (0..dice.roll(4))
        .map(|_| match dice.roll(if depth < 4 { 8 } else { 5 }) {
            0..=2 => put(KEYS[dice.roll(8)]),
            3..=4 => delete(KEYS[dice.roll(8)], ENDS[dice.roll(6)]),
            _ => nested(any_branch(dice, depth + 1), any_branch(dice, depth + 1)),
        })
        .collect()
}

#[test]
fn it_agrees_with_a_naive_check_on_random_branches() {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let (mut yes, mut no) = (0, 0);
    for _ in 0..20_000 {
        let branch = any_branch(&mut dice, 0);
        let expected = naive(&branch).is_some();
        assert_eq!(check(&branch).is_ok(), expected, "{branch:?}");
        if expected { yes += 1 } else { no += 1 }
    }
    assert!(
        yes > 1_000 && no > 1_000,
        "the cases are one-sided: {yes} allowed, {no} refused"
    );
}
