//! Contenders under a prefix: what locks and elections have in common.
//!
//! ```text
//! <name>/<lease in hex>   created at r41   <- the holder: the lowest create revision
//! <name>/<lease in hex>   created at r45   <- waits for the deletion of the one before it
//! <name>/<lease in hex>   created at r46   <- waits for r45's
//! ```
//!
//! The layout is etcd's, so that holders through other clients and through the server's own Lock and
//! Election services stand in the same queue. The create revision is the fencing token: it grows from
//! holder to holder, and a resource that refuses lower ones than it has seen can not be harmed by a
//! holder that was paused and does not know yet that it lost its place.

use bytes::Bytes;

use crate::connect::Client;
use crate::error::{Error, Kind, Result};
use crate::keys::Keys;
use crate::kv::{Compare, Delete, Order, Put, Range, SortBy};
use crate::lease::{KeepAlive, Lease};

/// How often a step whose outcome is unknown is made again. Each step is safe to repeat.
const REPEATS: usize = 5;

/// A contender: a key in the queue, and the lease that keeps it there.
#[derive(Debug)]
pub(crate) struct Place {
    client: Client,
    operation: &'static str,
    prefix: Vec<u8>,
    key: Bytes,
    create_revision: i64,
    keep_alive: KeepAlive,
    /// Whether the lease was made for this place and ends with it.
    owns_lease: bool,
    /// Whether the key may still stand in the queue.
    entered: bool,
}

impl Place {
    /// Joins the queue of `name` with `value`, under a lease that is kept alive.
    pub(crate) async fn enter(
        client: &Client,
        operation: &'static str,
        name: &[u8],
        value: &[u8],
        lease: &Lease,
        owns_lease: bool,
    ) -> Result<Self> {
        let keep_alive = lease.keep_alive();
        let prefix = [name, b"/"].concat();
        let lease = lease.id();
        let mut key = prefix.clone();
        key.extend_from_slice(format!("{lease:x}").as_bytes());
        let mut place = Self {
            client: client.clone(),
            operation,
            prefix,
            key: key.clone().into(),
            create_revision: 0,
            keep_alive,
            owns_lease,
            entered: true,
        };
        let mut repeats = 0;
        let answer = loop {
            let attempt = client
                .txn()
                .when(Compare::missing(key.clone()))
                .then(Put::new(key.clone(), value).lease(lease))
                .otherwise(Range::of(key.clone()));
            match attempt.await {
                Ok(answer) => break answer,
                // Entering twice is entering once: the key is the same.
                Err(error) if error.outcome_unknown() && repeats < REPEATS => repeats += 1,
                Err(error) => return Err(error),
            }
        };
        let own = answer.range(0).and_then(|found| found.kvs.first());
        place.create_revision = match (answer.succeeded, own) {
            (true, _) => answer.revision,
            (false, Some(own)) => own.create_revision,
            (false, None) => return Err(place.lost("the key vanished while it was made")),
        };
        Ok(place)
    }

    /// Whether nobody stands before this contender; else the key of the one just before it and the
    /// revision this was seen at.
    async fn ahead(&self) -> Result<Option<(Bytes, i64)>> {
        let before = Range::of(Keys::prefix(self.prefix.clone()))
            .create_revisions(0, self.create_revision - 1)
            .sort(SortBy::CreateRevision, Order::Descending)
            .limit(1)
            .keys_only();
        let own = Range::of(Vec::from(self.key.clone())).keys_only();
        let answer = self.client.txn().then(before).then(own).await?;
        let own = answer.range(1).and_then(|found| found.kvs.first());
        if own.is_none_or(|own| own.create_revision != self.create_revision) {
            return Err(self.lost("the key was deleted: its lease ended, or someone removed it"));
        }
        let before = answer.range(0).and_then(|found| found.kvs.first());
        Ok(before.map(|before| (before.key.clone(), answer.revision)))
    }

    /// Whether this contender holds the place now.
    pub(crate) async fn is_first(&self) -> Result<bool> {
        Ok(self.ahead().await?.is_none())
    }

    /// Waits until nobody stands before this contender. Fails if its lease is lost meanwhile.
    pub(crate) async fn wait(&self) -> Result<()> {
        let turn = async {
            loop {
                let Some((key, seen_at)) = self.ahead().await? else {
                    return Ok(());
                };
                let mut watch = self
                    .client
                    .watch(Vec::from(key))
                    .start_revision(seen_at + 1)
                    .no_put()
                    .await?;
                match watch.next_event().await {
                    // Gone, or the history was compacted away: look again.
                    Some(Ok(_)) | None => {}
                    Some(Err(error)) if matches!(error.kind(), Kind::Compacted { .. }) => {}
                    Some(Err(error)) => return Err(error),
                }
            }
        };
        tokio::select! {
            outcome = turn => outcome,
            lost = self.keep_alive.lost() => Err(lost),
        }
    }

    /// Leaves the queue. Leaving twice is leaving once.
    pub(crate) async fn leave(&mut self) -> Result<()> {
        let mut repeats = 0;
        loop {
            let attempt = self
                .client
                .txn()
                .when(self.stands())
                .then(Delete::of(Vec::from(self.key.clone())));
            match attempt.await {
                Ok(_) => break,
                Err(error) if error.outcome_unknown() && repeats < REPEATS => repeats += 1,
                Err(error) => return Err(error),
            }
        }
        self.entered = false;
        if self.owns_lease {
            // The place is free already; a lease that could not be revoked runs out by itself.
            let _ = self.keep_alive.lease().revoke().await;
        }
        Ok(())
    }

    /// The condition that this contender still stands in the queue.
    pub(crate) fn stands(&self) -> Compare {
        Compare::create_revision(Vec::from(self.key.clone())).equals(self.create_revision)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn key(&self) -> &Bytes {
        &self.key
    }

    pub(crate) fn token(&self) -> i64 {
        self.create_revision
    }

    pub(crate) fn keep_alive(&self) -> &KeepAlive {
        &self.keep_alive
    }

    pub(crate) fn lost(&self, why: &str) -> Error {
        Error::lost(self.operation, why)
    }
}

impl Drop for Place {
    /// Takes the key out of the queue in the background, so that others need not wait for the lease.
    fn drop(&mut self) {
        let runtime = tokio::runtime::Handle::try_current();
        if let (true, Ok(runtime)) = (self.entered, runtime) {
            let lease = self.keep_alive.lease().clone();
            let key = Vec::from(self.key.clone());
            let owns_lease = self.owns_lease;
            let stands = match self.create_revision {
                0 => Compare::lease(key.clone()).equals(lease.id()),
                _ => self.stands(),
            };
            let client = self.client.clone();
            runtime.spawn(async move {
                // If it fails the lease runs out by itself.
                let _ = if owns_lease {
                    lease.revoke().await.map(drop)
                } else {
                    client
                        .txn()
                        .when(stands)
                        .then(Delete::of(key))
                        .await
                        .map(drop)
                };
            });
        }
    }
}
