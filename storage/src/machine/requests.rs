//! Request ids: what was applied under which, so that nothing is applied twice.
//!
//! Only what took effect is remembered: a refusal changed nothing, and a stale plan is made again under the
//! same id. The number is bounded; the oldest is forgotten first. All of it is replicated state.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use meridian_domain::command::Receipt;
use meridian_domain::limits::{REQUEST_ANSWER_BYTES_MAX, REQUEST_IDS_PER_TENANT};
use meridian_domain::name::TenantId;
use meridian_domain::revision::{LogId, Revision};
use meridian_domain::stamp::RequestId;
use meridian_proto::record::answer;

use super::{Machine, facts};
use crate::mvcc::tree::{Entry, Tree, Weight};

/// The request ids of one tenant.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    by_id: Tree<Remembered>,
    /// Oldest first.
    order: VecDeque<Arc<[u8]>>,
}

/// A request that was applied.
#[derive(Clone, Debug)]
pub(super) struct Remembered {
    pub(super) id: Arc<[u8]>,
    pub(super) log_id: LogId,
    pub(super) revision: Revision,
    /// The encoded receipt, unless it was too large.
    pub(super) answer: Option<Bytes>,
}

/// What is known of a request that was applied.
pub(super) enum Recall {
    /// What it was answered.
    Answer(Receipt),
    /// That it was applied; the answer was too large to keep.
    Applied { log_id: LogId, revision: Revision },
}

impl Entry for Remembered {
    type Head = u64;

    fn key(&self) -> &[u8] {
        &self.id
    }

    fn weight(&self) -> Weight {
        Weight::ONE
    }
}

impl Requests {
    /// From what was remembered, in any order.
    pub(super) fn load(mut remembered: Vec<Remembered>) -> Self {
        // At most one request is applied per entry, so the index tells their age.
        remembered.sort_unstable_by_key(|request| request.log_id.index);
        let order = remembered
            .iter()
            .map(|request| Arc::clone(&request.id))
            .collect();
        remembered.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        Self {
            by_id: Tree::from_ascending(remembered),
            order,
        }
    }

    /// What is known of a request.
    pub(super) fn recall(&self, id: &RequestId) -> Option<Recall> {
        let Remembered {
            log_id,
            revision,
            answer,
            ..
        } = self.by_id.get(id.as_bytes())?;
        let kept = answer
            .as_ref()
            .and_then(|answer| answer::decode(answer).ok());
        Some(match kept {
            Some(receipt) => Recall::Answer(receipt),
            None => Recall::Applied {
                log_id: *log_id,
                revision: *revision,
            },
        })
    }

    /// Every id, in byte order.
    pub(super) fn ids(&self) -> impl Iterator<Item = &[u8]> {
        self.by_id.iter().map(|request| &*request.id)
    }

    /// Everything, by id.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Remembered> {
        self.by_id.iter()
    }

    /// Takes in a request; gives back the one that is forgotten for it.
    fn remember(&mut self, request: Remembered) -> Option<Arc<[u8]>> {
        let id = Arc::clone(&request.id);
        self.by_id.insert(&id, request);
        self.order.push_back(id);
        if self.order.len() <= REQUEST_IDS_PER_TENANT {
            return None;
        }
        let oldest = self.order.pop_front()?;
        self.by_id.remove(&oldest);
        Some(oldest)
    }
}

impl Machine {
    /// Remembers what a request was answered. A tenant that was just deleted remembers nothing.
    pub(super) fn remember(&mut self, tenant: TenantId, id: &RequestId, receipt: &Receipt) {
        let Some(requests) = self.requests(tenant) else {
            return;
        };
        let answer =
            answer::encode(receipt).filter(|answer| answer.len() <= REQUEST_ANSWER_BYTES_MAX);
        let request = Remembered {
            id: Arc::from(&**id.as_bytes()),
            log_id: receipt.log_id,
            revision: receipt.revision,
            answer,
        };
        let fact = facts::request(&request);
        let forgotten = requests.remember(request);
        let key = facts::request_key(tenant, id.as_bytes());
        self.pending.note(receipt.log_id, key, Some(fact));
        if let Some(oldest) = forgotten {
            self.pending
                .note(receipt.log_id, facts::request_key(tenant, &oldest), None);
        }
    }
}
