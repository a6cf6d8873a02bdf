//! The client: one handle for all calls, over several connections to several members.
//!
//! ```text
//! call -> pool: which member? -> member: which channel? -> attempt -> answer
//!           ^ health, latency, load, leader                   |
//!           '------ a failure marks the member, another is asked
//! ```
//!
//! Deliberately absent: any knowledge of what the calls mean, and name resolution of its own.

mod call;
mod member;
mod pool;
mod probe;

use std::sync::{Arc, Weak};

use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use call::{Call, To};
pub(crate) use member::Member;
pub(crate) use pool::{Flavour, Pool};

use crate::error::{Error, Result};
use crate::options::Options;
use crate::request_id::RequestIds;
use crate::retry::Budget;
use crate::watch::Streams;

/// A connection to a cluster. Cheap to clone; clones share everything.
///
/// Threading: every method may be called from any task. Dropping the last clone stops the tasks behind
/// it; watches and keep-alives hold their own clone.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) pool: Arc<Pool>,
    pub(crate) ids: RequestIds,
    pub(crate) budget: Budget,
    pub(crate) streams: Streams,
    _probes: DropGuard,
}

impl Client {
    /// Connects to the members at `endpoints` (`http://host:port`, `https://host:port` or `host:port`) and
    /// asks each how it is. Fails if none answers within the connect timeout.
    ///
    /// ```no_run
    /// # async fn example() -> meridian_client::Result<()> {
    /// use meridian_client::{Client, Options};
    /// let client = Client::connect(["http://127.0.0.1:2379"], Options::default()).await?;
    /// client.put("greeting", "hello").await?;
    /// # Ok(()) }
    /// ```
    pub async fn connect<E>(endpoints: E, options: Options) -> Result<Self>
    where
        E: IntoIterator,
        E::Item: AsRef<str>,
    {
        let client = Self::lazy(endpoints, options)?;
        probe::first_answer(&client.inner.pool, client.inner.options.connect_timeout).await?;
        Ok(client)
    }

    /// As [`Client::connect`], but sends nothing before the first call. Must run within a tokio runtime.
    pub fn lazy<E>(endpoints: E, options: Options) -> Result<Self>
    where
        E: IntoIterator,
        E::Item: AsRef<str>,
    {
        let pool = Arc::new(Pool::new(endpoints, &options)?);
        let stop = CancellationToken::new();
        if let Some(interval) = options.probe_interval {
            tokio::spawn(probe::run(pool.clone(), interval, stop.clone()));
        }
        let streams = Streams::new(&options);
        Ok(Self {
            inner: Arc::new(Inner {
                options,
                pool,
                ids: RequestIds::new(),
                budget: Budget::new(),
                streams,
                _probes: stop.drop_guard(),
            }),
        })
    }

    /// The endpoints this client was given, in order.
    pub fn endpoints(&self) -> Vec<String> {
        self.inner
            .pool
            .members()
            .iter()
            .map(|m| m.url().to_string())
            .collect()
    }

    /// A client with the same options and other endpoints. Sends nothing before the first call.
    pub fn with_endpoints<E>(&self, endpoints: E) -> Result<Self>
    where
        E: IntoIterator,
        E::Item: AsRef<str>,
    {
        Self::lazy(endpoints, self.inner.options.clone())
    }

    /// The endpoint of the leader, as the last probe saw it.
    pub fn leader_endpoint(&self) -> Option<String> {
        self.inner
            .pool
            .members()
            .iter()
            .find(|m| m.is_leader())
            .map(|m| m.url().to_string())
    }

    /// A handle that does not keep the client alive.
    pub(crate) fn downgrade(&self) -> WeakClient {
        WeakClient(Arc::downgrade(&self.inner))
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.inner.pool
    }

    /// The member behind one of the client's endpoints.
    pub(crate) fn member_at(&self, operation: &'static str, endpoint: &str) -> Result<Arc<Member>> {
        let url = pool::url_of(operation, endpoint)?;
        self.inner
            .pool
            .members()
            .iter()
            .find(|m| **m.url() == *url)
            .cloned()
            .ok_or_else(|| {
                Error::misuse(
                    operation,
                    format!("{endpoint} is not one of this client's endpoints"),
                )
            })
    }
}

/// A client that may be gone.
#[derive(Clone, Debug)]
pub(crate) struct WeakClient(Weak<Inner>);

impl WeakClient {
    pub(crate) fn upgrade(&self) -> Option<Client> {
        self.0.upgrade().map(|inner| Client { inner })
    }
}
