//! Deleting keys.

use futures::future::BoxFuture;
use meridian_domain::kv::KeyValue;
use meridian_proto::etcdserverpb as wire;

use crate::connect::{Call, Client};
use crate::error::Result;
use crate::keys::Keys;
use crate::kv::{key_value, kv, revision_of};

/// A deletion of keys.
#[derive(Clone, Debug)]
#[must_use = "a delete is sent by awaiting it, or as an operation of a transaction"]
pub struct Delete<C = ()> {
    pub(crate) request: wire::DeleteRangeRequest,
    client: C,
}

impl Delete {
    /// A deletion, as an operation of a transaction.
    pub fn of(keys: impl Into<Keys>) -> Self {
        Self::bound(&keys.into(), ())
    }
}

impl<C> Delete<C> {
    pub(crate) fn bound(keys: &Keys, client: C) -> Self {
        let (key, range_end) = keys.to_wire();
        Self {
            request: wire::DeleteRangeRequest {
                key,
                range_end,
                prev_kv: false,
            },
            client,
        }
    }

    /// Asks for what is deleted.
    pub fn prev_kv(mut self) -> Self {
        self.request.prev_kv = true;
        self
    }
}

/// The answer to a [`Delete`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// The revision after it.
    pub revision: i64,
    /// How many keys went.
    pub count: i64,
    /// What they held, if asked for.
    pub prev_kvs: Vec<KeyValue>,
}

impl Deleted {
    pub(crate) fn from_wire(answer: wire::DeleteRangeResponse) -> Self {
        Self {
            revision: revision_of(answer.header.as_ref()),
            count: answer.deleted,
            prev_kvs: answer.prev_kvs.into_iter().map(key_value).collect(),
        }
    }
}

impl IntoFuture for Delete<Client> {
    type Output = Result<Deleted>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let send = |channel, request| async move { kv(channel).delete_range(request).await };
            self.client
                .call(Call::write("delete"), self.request, send)
                .await
                .map(Deleted::from_wire)
        })
    }
}
