//! Keys: read, write, delete, compare and change together, compact.
//!
//! Each call is a builder that is sent by awaiting it:
//!
//! ```no_run
//! # async fn example(client: meridian_client::Client) -> meridian_client::Result<()> {
//! use meridian_client::{Compare, Keys, Put};
//!
//! client.put("a/1", "one").await?;
//! let one = client.get("a/1").await?;
//! let folder = client.range(Keys::prefix("a/")).limit(10).await?;
//! let swapped = client
//!     .txn()
//!     .when(Compare::value("a/1").equals("one"))
//!     .then(Put::new("a/1", "uno"))
//!     .await?;
//! # Ok(()) }
//! ```
//!
//! The same builders without a client (`Put::new`, `Range::of`, `Delete::of`) are operations of a
//! transaction.

mod delete;
mod pages;
mod put;
mod range;
mod txn;

use bytes::Bytes;
use futures::future::BoxFuture;
use meridian_domain::kv::KeyValue;
use meridian_proto::etcdserverpb::kv_client::KvClient;
use meridian_proto::{etcdserverpb as wire, mvccpb};
use tonic::transport::Channel;

pub use delete::{Delete, Deleted};
pub use pages::Pages;
pub use put::{Put, Written};
pub use range::{Found, Get, Order, Range, SortBy};
pub use txn::{Compare, CompareNumber, CompareValue, Op, OpAnswer, Txn, TxnAnswer};

use crate::connect::{Call, Client};
use crate::error::Result;
use crate::keys::Keys;

impl Client {
    /// Reads one key.
    pub fn get(&self, key: impl Into<Vec<u8>>) -> Get {
        Get::new(Range::bound(&Keys::one(key), self.clone()))
    }

    /// Reads a range of keys.
    pub fn range(&self, keys: impl Into<Keys>) -> Range<Client> {
        Range::bound(&keys.into(), self.clone())
    }

    /// Reads a range of any size in pages, all at one revision.
    pub fn pages(&self, keys: impl Into<Keys>) -> Pages {
        Pages::new(self.clone(), keys.into())
    }

    /// Writes a key.
    pub fn put(&self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Put<Client> {
        Put::bound(key.into().into(), Bytes::from(value.into()), self.clone())
    }

    /// Deletes keys.
    pub fn delete(&self, keys: impl Into<Keys>) -> Delete<Client> {
        Delete::bound(&keys.into(), self.clone())
    }

    /// Begins a transaction.
    pub fn txn(&self) -> Txn<Client> {
        Txn::bound(self.clone())
    }

    /// Forgets every version that was replaced or deleted before `revision`.
    pub fn compact(&self, revision: i64) -> Compact {
        Compact {
            request: wire::CompactionRequest {
                revision,
                physical: false,
            },
            client: self.clone(),
        }
    }
}

/// A compaction, sent by awaiting it. The answer is the store's current revision.
#[derive(Debug)]
#[must_use = "a compaction is sent by awaiting it"]
pub struct Compact {
    request: wire::CompactionRequest,
    client: Client,
}

impl Compact {
    /// Answers only once the space is free.
    pub fn physical(mut self) -> Self {
        self.request.physical = true;
        self
    }
}

impl IntoFuture for Compact {
    type Output = Result<i64>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let send = |channel, request| async move { kv(channel).compact(request).await };
            let answer = self
                .client
                .call(Call::write("compact"), self.request, send)
                .await?;
            Ok(revision_of(answer.header.as_ref()))
        })
    }
}

/// The KV service over a channel. Answers may be of any size.
pub(crate) fn kv(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(usize::MAX)
}

/// The revision of a header; zero if there is none.
pub(crate) fn revision_of(header: Option<&wire::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

/// A version of a key from the wire.
pub(crate) fn key_value(kv: mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: kv.key,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value,
        lease: kv.lease,
    }
}
