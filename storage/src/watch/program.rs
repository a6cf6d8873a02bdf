//! Random programs for the [`super::model`].

use proptest::prelude::*;
use proptest::sample::Index;

#[derive(Clone, Debug)]
pub(super) enum Op {
    /// Transactions, each a list of (key, put or delete); published at once.
    Commit(Vec<Vec<(u8, bool)>>),
    /// Transactions that reach this member as a snapshot.
    Install(Vec<Vec<(u8, bool)>>),
    Dispatch,
    Compact(Index),
    Create {
        session: Index,
        start: u8,
        end: Option<u8>,
        from: Start,
        no_put: bool,
        no_delete: bool,
        prev: bool,
    },
    Cancel {
        session: Index,
        watch: Index,
    },
    Read {
        session: Index,
        steps: u8,
        budget: usize,
        history: usize,
        hurry: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Start {
    Now,
    Past(u8),
    Future(u8),
}

fn transactions() -> impl Strategy<Value = Vec<Vec<(u8, bool)>>> {
    proptest::collection::vec(
        proptest::collection::btree_map(0_u8..6, any::<bool>(), 1..4)
            .prop_map(|rows| rows.into_iter().collect()),
        1..5,
    )
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let start = prop_oneof![
        2 => Just(Start::Now),
        3 => (0_u8..20).prop_map(Start::Past),
        1 => (1_u8..6).prop_map(Start::Future),
    ];
    prop_oneof![
        6 => transactions().prop_map(Op::Commit),
        1 => transactions().prop_map(Op::Install),
        4 => Just(Op::Dispatch),
        1 => any::<Index>().prop_map(Op::Compact),
        3 => (any::<Index>(), 0_u8..6, proptest::option::of(0_u8..7), start, any::<[bool; 3]>())
            .prop_map(|(session, start, end, from, [a, b, prev])| Op::Create {
                session, start, end, from, no_put: a && !b, no_delete: b && !a, prev,
            }),
        1 => (any::<Index>(), any::<Index>())
            .prop_map(|(session, watch)| Op::Cancel { session, watch }),
        8 => (any::<Index>(), 0_u8..8, 1_usize..200, 0_usize..4, any::<bool>())
            .prop_map(|(session, steps, budget, history, hurry)| Op::Read {
                session, steps, budget, history, hurry,
            }),
    ]
}
