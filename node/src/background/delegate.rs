//! What other members may ask of this one's memory.

use bytes::Bytes;
use futures::future::BoxFuture;
use meridian_raft::{Delegate, Unavailable};
use tokio::time::Instant;

use crate::service::etcd::lease::{self, Lease};
use crate::status::{Etcd, Refusal};

/// Answers the other members, by the number of the question.
pub struct Answers {
    lease: Lease,
}

impl Answers {
    /// Answers from these services.
    pub fn new(lease: Lease) -> Self {
        Self { lease }
    }
}

impl Delegate for Answers {
    fn answer(
        &self,
        method: u16,
        body: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Bytes, Unavailable>> {
        Box::pin(async move {
            match method {
                lease::ASK_RENEW | lease::ASK_LEFT => self
                    .lease
                    .answer(method, body, deadline)
                    .await
                    .map_err(not_now),
                _ => Err(Unavailable::NotCapable),
            }
        })
    }
}

/// Members tell each other "not now" alone; a *no* is part of an answer.
fn not_now(refusal: Refusal) -> Unavailable {
    match refusal {
        Refusal::Unavailable(unavailable) => unavailable,
        Refusal::Etcd(Etcd::NotPrimaryLessor) => Unavailable::NotLeader,
        refusal => {
            tracing::debug!(
                code = refusal.code(),
                "another member's question was not answered"
            );
            Unavailable::OutcomeUnknown
        }
    }
}
