//! Writing one key.

use bytes::Bytes;
use futures::future::BoxFuture;
use meridian_domain::kv::KeyValue;
use meridian_proto::etcdserverpb as wire;

use crate::connect::{Call, Client};
use crate::error::Result;
use crate::kv::{key_value, kv, revision_of};

/// A write of one key.
#[derive(Clone, Debug)]
#[must_use = "a put is sent by awaiting it, or as an operation of a transaction"]
pub struct Put<C = ()> {
    pub(crate) request: wire::PutRequest,
    client: C,
}

impl Put {
    /// A write, as an operation of a transaction.
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self::bound(key.into().into(), value.into().into(), ())
    }
}

impl<C> Put<C> {
    pub(crate) fn bound(key: Bytes, value: Bytes, client: C) -> Self {
        Self {
            request: wire::PutRequest {
                key,
                value,
                ..Default::default()
            },
            client,
        }
    }

    /// Attaches the key to a lease: it is deleted when the lease ends. Zero is no lease.
    pub fn lease(mut self, lease: i64) -> Self {
        self.request.lease = lease;
        self
    }

    /// Asks for the version this one replaces.
    pub fn prev_kv(mut self) -> Self {
        self.request.prev_kv = true;
        self
    }

    /// Keeps the present value; the one given must be empty, and the key must exist.
    pub fn ignore_value(mut self) -> Self {
        self.request.ignore_value = true;
        self
    }

    /// Keeps the present lease; the key must exist.
    pub fn ignore_lease(mut self) -> Self {
        self.request.ignore_lease = true;
        self
    }
}

/// The answer to a [`Put`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The revision of the write.
    pub revision: i64,
    /// The version it replaced, if asked for and there was one.
    pub prev_kv: Option<KeyValue>,
}

impl Written {
    pub(crate) fn from_wire(answer: wire::PutResponse) -> Self {
        Self {
            revision: revision_of(answer.header.as_ref()),
            prev_kv: answer.prev_kv.map(key_value),
        }
    }
}

impl IntoFuture for Put<Client> {
    type Output = Result<Written>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let send = |channel, request| async move { kv(channel).put(request).await };
            self.client
                .call(Call::write("put"), self.request, send)
                .await
                .map(Written::from_wire)
        })
    }
}
