//! Locks: one holder at a time in the cluster, with a fencing token.
//!
//! A lock in a distributed system can be lost while its holder sleeps. So a [`Lock`] says when it is lost
//! ([`Lock::lost`]), and carries a token that grows from holder to holder: let what the lock protects refuse
//! lower tokens than it has seen. For keys of the same store add [`Lock::held`] to every transaction.
//!
//! ```no_run
//! # async fn example(client: meridian_client::Client) -> meridian_client::Result<()> {
//! use meridian_client::Put;
//! let lock = client.lock("jobs/nightly").acquire().await?;
//! let done = client.txn().when(lock.held()).then(Put::new("jobs/last", "tonight")).await?;
//! assert!(done.succeeded);
//! lock.unlock().await?;
//! # Ok(()) }
//! ```

use std::time::Duration;

use bytes::Bytes;

use crate::connect::Client;
use crate::contend::Place;
use crate::error::{Error, Result};
use crate::kv::Compare;
use crate::lease::Lease;

impl Client {
    /// Prepares to take the lock `name`. Nothing is sent yet.
    pub fn lock(&self, name: impl Into<Vec<u8>>) -> LockBuilder {
        LockBuilder {
            client: self.clone(),
            name: name.into(),
            ttl: Duration::from_secs(10),
            lease: None,
        }
    }
}

/// A lock that is not taken yet.
#[derive(Clone, Debug)]
#[must_use = "a lock is taken with `acquire` or `try_acquire`"]
pub struct LockBuilder {
    client: Client,
    name: Vec<u8>,
    ttl: Duration,
    lease: Option<Lease>,
}

impl LockBuilder {
    /// How long the lock outlives a holder that falls silent; 10 s unless told otherwise.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Uses this lease instead of one of its own. The same name and lease is the same lock.
    pub fn lease(mut self, lease: Lease) -> Self {
        self.lease = Some(lease);
        self
    }

    async fn enter(&self) -> Result<Lock> {
        let owned = self.lease.is_none();
        let lease = match &self.lease {
            Some(lease) => lease.clone(),
            None => self.client.grant(self.ttl).await?,
        };
        let place = Place::enter(&self.client, "lock", &self.name, b"", &lease, owned).await?;
        Ok(Lock { place })
    }

    /// Waits for the lock, in the order of arrival. Dropping the future leaves the queue.
    pub async fn acquire(self) -> Result<Lock> {
        let lock = self.enter().await?;
        lock.place.wait().await?;
        Ok(lock)
    }

    /// Takes the lock if nobody holds it.
    pub async fn try_acquire(self) -> Result<Option<Lock>> {
        let lock = self.enter().await?;
        if lock.place.is_first().await? {
            return Ok(Some(lock));
        }
        lock.unlock().await?;
        Ok(None)
    }
}

/// A lock that is held. Dropping it gives it up in the background; [`Lock::unlock`] says whether that
/// worked.
#[derive(Debug)]
pub struct Lock {
    place: Place,
}

impl Lock {
    /// The key that stands for this holder.
    pub fn key(&self) -> &Bytes {
        self.place.key()
    }

    /// The fencing token: greater than that of every earlier holder of this lock.
    pub fn token(&self) -> i64 {
        self.place.token()
    }

    /// The condition that the lock is still held, for transactions on the same store.
    pub fn held(&self) -> Compare {
        self.place.stands()
    }

    /// Why the lock is lost; none while it is held, as far as this program can know.
    pub fn is_lost(&self) -> Option<Error> {
        self.place.keep_alive().is_lost()
    }

    /// Waits until the lock is lost because its lease is. Cancel-safe.
    pub async fn lost(&self) -> Error {
        self.place.keep_alive().lost().await
    }

    /// Gives the lock up.
    pub async fn unlock(mut self) -> Result<()> {
        self.place.leave().await
    }
}
