//! Reading keys.

use futures::future::BoxFuture;
use meridian_domain::kv::KeyValue;
use meridian_proto::etcdserverpb as wire;
use meridian_proto::etcdserverpb::range_request::{SortOrder, SortTarget};

use crate::connect::{Call, Client};
use crate::error::Result;
use crate::keys::Keys;
use crate::kv::{key_value, kv, revision_of};

/// A read of a range of keys. Linearizable unless told otherwise.
#[derive(Clone, Debug)]
#[must_use = "a range is sent by awaiting it, or as an operation of a transaction"]
pub struct Range<C = ()> {
    pub(crate) request: wire::RangeRequest,
    client: C,
}

/// The order of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

/// What an order compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortBy {
    /// The key.
    Key,
    /// How often the key was written since it was created.
    Version,
    /// The revision the key was created at.
    CreateRevision,
    /// The revision of the last write.
    ModRevision,
    /// The value.
    Value,
}

impl Range {
    /// A read, as an operation of a transaction.
    pub fn of(keys: impl Into<Keys>) -> Self {
        Self::bound(&keys.into(), ())
    }
}

impl<C> Range<C> {
    pub(crate) fn bound(keys: &Keys, client: C) -> Self {
        let (key, range_end) = keys.to_wire();
        Self {
            request: wire::RangeRequest {
                key,
                range_end,
                ..Default::default()
            },
            client,
        }
    }

    /// Reads at an earlier revision. Zero is the current one.
    pub fn revision(mut self, revision: i64) -> Self {
        self.request.revision = revision;
        self
    }

    /// Returns at most so many keys. Zero is no limit.
    pub fn limit(mut self, limit: i64) -> Self {
        self.request.limit = limit;
        self
    }

    /// Orders the answer, before the limit.
    pub fn sort(mut self, by: SortBy, order: Order) -> Self {
        let target = match by {
            SortBy::Key => SortTarget::Key,
            SortBy::Version => SortTarget::Version,
            SortBy::CreateRevision => SortTarget::Create,
            SortBy::ModRevision => SortTarget::Mod,
            SortBy::Value => SortTarget::Value,
        };
        let order = match order {
            Order::Ascending => SortOrder::Ascend,
            Order::Descending => SortOrder::Descend,
        };
        self.request.sort_target = target.into();
        self.request.sort_order = order.into();
        self
    }

    /// Leaves out the values.
    pub fn keys_only(mut self) -> Self {
        self.request.keys_only = true;
        self
    }

    /// Returns the count alone.
    pub fn count_only(mut self) -> Self {
        self.request.count_only = true;
        self
    }

    /// Reads what the member has, which may be a little old, and also when there is no leader.
    pub fn serializable(mut self) -> Self {
        self.request.serializable = true;
        self
    }

    /// Leaves out keys written before or after these revisions, both inclusive; zero is no bound.
    pub fn mod_revisions(mut self, lowest: i64, highest: i64) -> Self {
        self.request.min_mod_revision = lowest;
        self.request.max_mod_revision = highest;
        self
    }

    /// Leaves out keys created before or after these revisions, both inclusive; zero is no bound.
    pub fn create_revisions(mut self, lowest: i64, highest: i64) -> Self {
        self.request.min_create_revision = lowest;
        self.request.max_create_revision = highest;
        self
    }
}

/// The answer to a [`Range`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The store's revision when it was read, whatever revision was asked for.
    pub revision: i64,
    /// What was found, cut to the limit.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit cut something off.
    pub more: bool,
    /// How many keys the range holds, whatever the limit.
    pub count: i64,
}

impl Found {
    pub(crate) fn from_wire(answer: wire::RangeResponse) -> Self {
        Self {
            revision: revision_of(answer.header.as_ref()),
            kvs: answer.kvs.into_iter().map(key_value).collect(),
            more: answer.more,
            count: answer.count,
        }
    }
}

impl IntoFuture for Range<Client> {
    type Output = Result<Found>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let send = |channel, request| async move { kv(channel).range(request).await };
            self.client
                .call(Call::read("range"), self.request, send)
                .await
                .map(Found::from_wire)
        })
    }
}

/// A read of one key.
#[derive(Clone, Debug)]
#[must_use = "a get is sent by awaiting it"]
pub struct Get(Range<Client>);

impl Get {
    pub(crate) fn new(range: Range<Client>) -> Self {
        Self(range)
    }

    /// Reads at an earlier revision. Zero is the current one.
    pub fn revision(self, revision: i64) -> Self {
        Self(self.0.revision(revision))
    }

    /// Reads what the member has, which may be a little old, and also when there is no leader.
    pub fn serializable(self) -> Self {
        Self(self.0.serializable())
    }
}

impl IntoFuture for Get {
    type Output = Result<Option<KeyValue>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { Ok(self.0.await?.kvs.pop()) })
    }
}
