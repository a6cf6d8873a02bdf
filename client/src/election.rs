//! Elections: one leader at a time among candidates, with a value that everyone can see.

use std::time::Duration;

use bytes::Bytes;
use meridian_domain::kv::KeyValue;

use crate::connect::Client;
use crate::contend::Place;
use crate::error::{Error, Kind, Result};
use crate::keys::Keys;
use crate::kv::{Compare, Order, Put, SortBy};
use crate::watch::Watch;

impl Client {
    /// The election `name`. Nothing is sent yet.
    pub fn election(&self, name: impl Into<Vec<u8>>) -> Election {
        Election {
            client: self.clone(),
            name: name.into(),
            ttl: Duration::from_secs(10),
        }
    }
}

/// An election: candidates campaign, one leads, everyone may observe.
#[derive(Clone, Debug)]
pub struct Election {
    client: Client,
    name: Vec<u8>,
    ttl: Duration,
}

impl Election {
    /// How long a leadership outlives a leader that falls silent; 10 s unless told otherwise.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Waits to be elected, in the order of arrival. Dropping the future withdraws.
    pub async fn campaign(&self, value: impl AsRef<[u8]>) -> Result<Leadership> {
        let lease = self.client.grant(self.ttl).await?;
        let value = value.as_ref();
        let place = Place::enter(&self.client, "elect", &self.name, value, &lease, true).await?;
        place.wait().await?;
        Ok(Leadership { place })
    }

    /// Who leads now: the key of the leadership with its value.
    pub async fn leader(&self) -> Result<Option<KeyValue>> {
        Ok(self.read().await?.0)
    }

    /// Follows who leads: the present leader first, then every change. Changes that follow each other
    /// fast may be seen as one.
    pub fn observe(&self) -> Observe {
        Observe {
            election: self.clone(),
            watch: None,
            last: None,
        }
    }

    fn candidates(&self) -> Keys {
        Keys::prefix([self.name.as_slice(), b"/"].concat())
    }

    /// The leader, and the revision it was read at.
    async fn read(&self) -> Result<(Option<KeyValue>, i64)> {
        let mut found = self
            .client
            .range(self.candidates())
            .sort(SortBy::CreateRevision, Order::Ascending)
            .limit(1)
            .await?;
        Ok((found.kvs.pop(), found.revision))
    }
}

/// A leadership that is held. Dropping it resigns in the background.
#[derive(Debug)]
pub struct Leadership {
    place: Place,
}

impl Leadership {
    /// The key that stands for this leader.
    pub fn key(&self) -> &Bytes {
        self.place.key()
    }

    /// The fencing token: greater than that of every earlier leader of this election.
    pub fn token(&self) -> i64 {
        self.place.token()
    }

    /// The condition that this leader still leads, for transactions on the same store.
    pub fn held(&self) -> Compare {
        self.place.stands()
    }

    /// Announces a new value. Fails with [`Kind::Lost`] if the leadership is lost.
    pub async fn proclaim(&self, value: impl Into<Vec<u8>>) -> Result<i64> {
        let key = Vec::from(self.place.key().clone());
        let lease = self.place.keep_alive().lease().id();
        let put = Put::new(key, value).lease(lease);
        let answer = self
            .place
            .client()
            .txn()
            .when(self.held())
            .then(put)
            .await?;
        if !answer.succeeded {
            return Err(self.place.lost("someone else leads"));
        }
        Ok(answer.revision)
    }

    /// Why the leadership is lost; none while it is held, as far as this program can know.
    pub fn is_lost(&self) -> Option<Error> {
        self.place.keep_alive().is_lost()
    }

    /// Waits until the leadership is lost because its lease is. Cancel-safe.
    pub async fn lost(&self) -> Error {
        self.place.keep_alive().lost().await
    }

    /// Steps down.
    pub async fn resign(mut self) -> Result<()> {
        self.place.leave().await
    }
}

/// Follows an election.
#[derive(Debug)]
pub struct Observe {
    election: Election,
    watch: Option<Watch>,
    /// Key and revision of the leadership seen last.
    last: Option<(Bytes, i64)>,
}

impl Observe {
    /// The next leader or the next value of the present one; waits while nobody leads.
    pub async fn next(&mut self) -> Result<KeyValue> {
        loop {
            if let Some(watch) = &mut self.watch {
                match watch.next_event().await {
                    Some(Ok(_)) => {}
                    // The history was compacted away: begin again from the present.
                    Some(Err(error)) if matches!(error.kind(), Kind::Compacted { .. }) => {
                        self.watch = None;
                    }
                    Some(Err(error)) => return Err(error),
                    None => self.watch = None,
                }
            }
            let (leader, revision) = self.election.read().await?;
            if self.watch.is_none() {
                let watch = self.election.client.watch(self.election.candidates());
                self.watch = Some(watch.start_revision(revision + 1).await?);
            }
            let Some(leader) = leader else { continue };
            let seen = Some((leader.key.clone(), leader.mod_revision));
            if self.last != seen {
                self.last = seen;
                return Ok(leader);
            }
        }
    }
}
