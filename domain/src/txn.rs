//! Transactions: guarded, compared, all or nothing.
//!
//! A transaction is data. Apply evaluates it against one keyspace, deterministically:
//!
//! 1. the *guards* of the plan: if one moved, nothing happens and the edge plans again;
//! 2. the compares, all on the state before the transaction;
//! 3. every check of the chosen branch that can fail, before the first write;
//! 4. the operations, in order, each seeing what the ones before it wrote.

use bytes::Bytes;

use crate::key::{KeyRange, Space};
use crate::kv::{Delete, KeyValue, LeaseId, Put, Range, RangeReply};
use crate::revision::Revision;

/// A transaction: compares, and one branch for each way they can come out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold for `success` to run.
    pub compares: Vec<Compare>,
    /// Runs if all compares hold.
    pub success: Vec<Op>,
    /// Runs otherwise.
    pub failure: Vec<Op>,
}

impl Txn {
    /// A transaction that just runs one operation.
    pub fn once(op: Op) -> Self {
        Self {
            compares: vec![],
            success: vec![op],
            failure: vec![],
        }
    }

    /// Whether neither branch can change anything (a nested transaction counts as a write, as in etcd).
    pub fn is_read_only(&self) -> bool {
        self.success
            .iter()
            .chain(&self.failure)
            .all(|op| matches!(op, Op::Range(_)))
    }

    /// Whether a put stands anywhere in it, whichever branch would run.
    pub fn has_put(&self) -> bool {
        self.success.iter().chain(&self.failure).any(|op| match op {
            Op::Put(_) => true,
            Op::Txn(inner) => inner.has_put(),
            Op::Range(_) | Op::Delete(_) => false,
        })
    }
}

/// One operation of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Write a key.
    Put(Put),
    /// Delete keys.
    Delete(Delete),
    /// Read keys, at the state the operations before it left.
    Range(Range),
    /// A transaction within the transaction.
    Txn(Txn),
}

/// One condition on the state before the transaction. For a range it must hold for every key in it.
///
/// A key that does not exist compares as zero in every number; a value never matches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The space the keys are in.
    pub space: Space,
    /// The keys.
    pub range: KeyRange,
    /// The relation that must hold: `actual relation operand`.
    pub relation: Relation,
    /// What is compared, with the operand.
    pub operand: Operand,
}

/// A relation between what is stored and an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Equal.
    Equal,
    /// Stored is greater.
    Greater,
    /// Stored is less.
    Less,
    /// Not equal.
    NotEqual,
}

impl Relation {
    /// Whether the relation holds for an ordering of stored to operand.
    pub fn holds(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::Greater => ordering.is_gt(),
            Self::Less => ordering.is_lt(),
            Self::NotEqual => ordering.is_ne(),
        }
    }
}

/// What a compare looks at, with the value it is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// The version within the generation.
    Version(i64),
    /// The revision the generation began at.
    Create(Revision),
    /// The revision of the last write.
    Mod(Revision),
    /// The value.
    Value(Bytes),
    /// The lease.
    Lease(LeaseId),
}

/// The answer to a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnReply {
    /// Whether the compares held.
    pub succeeded: bool,
    /// One answer per operation of the branch that ran.
    pub replies: Vec<OpReply>,
}

/// The answer to one operation of a transaction. `revision` is the one the operation saw or made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpReply {
    /// To a put.
    Put {
        /// The revision the put belongs to.
        revision: Revision,
        /// What it replaced, if asked for.
        prev_kv: Option<KeyValue>,
    },
    /// To a delete.
    Delete {
        /// The revision after it.
        revision: Revision,
        /// How many keys went.
        deleted: i64,
        /// What they held, if asked for.
        prev_kvs: Vec<KeyValue>,
    },
    /// To a range.
    Range {
        /// The revision it saw.
        revision: Revision,
        /// What it found.
        reply: RangeReply,
    },
    /// To a nested transaction.
    Txn(TxnReply),
}
