//! Transactions: compares, and one branch for each way they come out; all or nothing.

use bytes::Bytes;
use futures::future::BoxFuture;
use meridian_proto::etcdserverpb as wire;
use meridian_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use meridian_proto::etcdserverpb::{request_op, response_op};

use crate::connect::{Call, Client};
use crate::error::Result;
use crate::keys::Keys;
use crate::kv::{Delete, Deleted, Found, Put, Range, Written, kv, revision_of};

/// A transaction. All compares must hold for `then` to run; else `otherwise` runs.
#[derive(Clone, Debug)]
#[must_use = "a transaction is sent by awaiting it, or as an operation of another"]
pub struct Txn<C = ()> {
    request: wire::TxnRequest,
    client: C,
}

impl Txn {
    /// A transaction within a transaction.
    pub fn new() -> Self {
        Self::bound(())
    }
}

impl Default for Txn {
    fn default() -> Self {
        Self::new()
    }
}

impl<C> Txn<C> {
    pub(crate) fn bound(client: C) -> Self {
        Self {
            request: wire::TxnRequest::default(),
            client,
        }
    }

    /// Adds a condition on the state before the transaction.
    pub fn when(mut self, compare: Compare) -> Self {
        self.request.compare.push(compare.0);
        self
    }

    /// Adds an operation to run if all conditions hold.
    pub fn then(mut self, op: impl Into<Op>) -> Self {
        self.request.success.push(op.into().0);
        self
    }

    /// Adds an operation to run otherwise.
    pub fn otherwise(mut self, op: impl Into<Op>) -> Self {
        self.request.failure.push(op.into().0);
        self
    }

    /// Whether it can change anything. A nested transaction counts as a change, as on the server.
    fn is_read_only(&self) -> bool {
        let ops = self.request.success.iter().chain(&self.request.failure);
        ops.map(|op| &op.request)
            .all(|op| matches!(op, Some(request_op::Request::RequestRange(_))))
    }
}

impl IntoFuture for Txn<Client> {
    type Output = Result<TxnAnswer>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let call = if self.is_read_only() {
                Call::read("txn")
            } else {
                Call::write("txn")
            };
            let send = |channel, request| async move { kv(channel).txn(request).await };
            self.client
                .call(call, self.request, send)
                .await
                .map(TxnAnswer::from_wire)
        })
    }
}

/// One operation of a transaction.
#[derive(Clone, Debug)]
pub struct Op(wire::RequestOp);

impl Op {
    fn of(request: request_op::Request) -> Self {
        Self(wire::RequestOp {
            request: Some(request),
        })
    }
}

impl From<Put> for Op {
    fn from(put: Put) -> Self {
        Self::of(request_op::Request::RequestPut(put.request))
    }
}

impl From<Range> for Op {
    fn from(range: Range) -> Self {
        Self::of(request_op::Request::RequestRange(range.request))
    }
}

impl From<Delete> for Op {
    fn from(delete: Delete) -> Self {
        Self::of(request_op::Request::RequestDeleteRange(delete.request))
    }
}

impl From<Txn> for Op {
    fn from(txn: Txn) -> Self {
        Self::of(request_op::Request::RequestTxn(txn.request))
    }
}

/// One condition. For a range it must hold for every key in it.
///
/// A key that does not exist compares as zero in every number; no value compare holds for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Compare(wire::Compare);

impl Compare {
    /// On the value.
    pub fn value(keys: impl Into<Keys>) -> CompareValue {
        CompareValue(keys.into())
    }

    /// On how often the key was written since it was created.
    pub fn version(keys: impl Into<Keys>) -> CompareNumber {
        CompareNumber(keys.into(), CompareTarget::Version)
    }

    /// On the revision the key was created at.
    pub fn create_revision(keys: impl Into<Keys>) -> CompareNumber {
        CompareNumber(keys.into(), CompareTarget::Create)
    }

    /// On the revision of the last write.
    pub fn mod_revision(keys: impl Into<Keys>) -> CompareNumber {
        CompareNumber(keys.into(), CompareTarget::Mod)
    }

    /// On the lease.
    pub fn lease(keys: impl Into<Keys>) -> CompareNumber {
        CompareNumber(keys.into(), CompareTarget::Lease)
    }

    /// The key exists.
    pub fn exists(key: impl Into<Vec<u8>>) -> Self {
        Self::create_revision(Keys::one(key)).above(0)
    }

    /// The key does not exist.
    pub fn missing(key: impl Into<Vec<u8>>) -> Self {
        Self::create_revision(Keys::one(key)).equals(0)
    }

    fn of(keys: &Keys, target: CompareTarget, result: CompareResult, operand: TargetUnion) -> Self {
        let (key, range_end) = keys.to_wire();
        Self(wire::Compare {
            result: result.into(),
            target: target.into(),
            key,
            range_end,
            target_union: Some(operand),
        })
    }
}

/// A condition on values that lacks its operand.
#[derive(Clone, Debug)]
#[must_use = "a condition needs an operand"]
pub struct CompareValue(Keys);

/// A condition on numbers that lacks its operand.
#[derive(Clone, Debug)]
#[must_use = "a condition needs an operand"]
pub struct CompareNumber(Keys, CompareTarget);

impl CompareValue {
    fn with(&self, result: CompareResult, value: impl Into<Vec<u8>>) -> Compare {
        let operand = TargetUnion::Value(Bytes::from(value.into()));
        Compare::of(&self.0, CompareTarget::Value, result, operand)
    }

    /// It is `value`.
    pub fn equals(&self, value: impl Into<Vec<u8>>) -> Compare {
        self.with(CompareResult::Equal, value)
    }

    /// It is not `value`.
    pub fn differs(&self, value: impl Into<Vec<u8>>) -> Compare {
        self.with(CompareResult::NotEqual, value)
    }

    /// It sorts after `value`.
    pub fn above(&self, value: impl Into<Vec<u8>>) -> Compare {
        self.with(CompareResult::Greater, value)
    }

    /// It sorts before `value`.
    pub fn below(&self, value: impl Into<Vec<u8>>) -> Compare {
        self.with(CompareResult::Less, value)
    }
}

impl CompareNumber {
    fn with(&self, result: CompareResult, number: i64) -> Compare {
        let operand = match self.1 {
            CompareTarget::Create => TargetUnion::CreateRevision(number),
            CompareTarget::Mod => TargetUnion::ModRevision(number),
            CompareTarget::Lease => TargetUnion::Lease(number),
            CompareTarget::Version | CompareTarget::Value => TargetUnion::Version(number),
        };
        Compare::of(&self.0, self.1, result, operand)
    }

    /// It is `number`.
    pub fn equals(&self, number: i64) -> Compare {
        self.with(CompareResult::Equal, number)
    }

    /// It is not `number`.
    pub fn differs(&self, number: i64) -> Compare {
        self.with(CompareResult::NotEqual, number)
    }

    /// It is more than `number`.
    pub fn above(&self, number: i64) -> Compare {
        self.with(CompareResult::Greater, number)
    }

    /// It is less than `number`.
    pub fn below(&self, number: i64) -> Compare {
        self.with(CompareResult::Less, number)
    }
}

/// The answer to a [`Txn`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnAnswer {
    /// The revision after it. Zero for a nested transaction.
    pub revision: i64,
    /// Whether all conditions held.
    pub succeeded: bool,
    /// One answer per operation of the branch that ran.
    pub answers: Vec<OpAnswer>,
}

/// The answer to one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpAnswer {
    /// To a put.
    Put(Written),
    /// To a delete.
    Delete(Deleted),
    /// To a range.
    Range(Found),
    /// To a nested transaction.
    Txn(TxnAnswer),
}

impl TxnAnswer {
    fn from_wire(answer: wire::TxnResponse) -> Self {
        use response_op::Response as Of;
        let answers = answer.responses.into_iter().filter_map(|op| op.response);
        Self {
            revision: revision_of(answer.header.as_ref()),
            succeeded: answer.succeeded,
            answers: answers
                .map(|op| match op {
                    Of::ResponsePut(put) => OpAnswer::Put(Written::from_wire(put)),
                    Of::ResponseDeleteRange(delete) => OpAnswer::Delete(Deleted::from_wire(delete)),
                    Of::ResponseRange(range) => OpAnswer::Range(Found::from_wire(range)),
                    Of::ResponseTxn(txn) => OpAnswer::Txn(Self::from_wire(txn)),
                })
                .collect(),
        }
    }

    /// The answer to the range at `index` of the branch that ran, if there is one.
    pub fn range(&self, index: usize) -> Option<&Found> {
        match self.answers.get(index)? {
            OpAnswer::Range(found) => Some(found),
            _ => None,
        }
    }
}
