//! Writes, from any member to the leader's log.
//!
//! Whoever proposes leaves the write with the [`Waiters`] and waits. The courier, one task, carries what is
//! queued to the leader of the moment: into openraft if this member leads, else in one frame for all that
//! gathered. Nothing is acknowledged on the way; the write is answered when this member applies it.
//!
//! Room is limited by count and bytes, with a part kept for what is urgent. When it is full the answer is
//! [`Unavailable::Overloaded`], at once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meridian_domain::command::Receipt;
use meridian_proto::peer::{self, Lane, RefusalCode, envelope::Body};
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use tracing::Span;

use crate::leadership::Leadership;
use crate::metrics;
use crate::network::connection::CallError;
use crate::network::lanes::Peers;
use crate::pressure::Pressure;
use crate::trace;
use crate::type_config::{CommittedLeaderId, Envelope, Raft, TypeConfig, Verdict};
use crate::unavailable::{Delay, Unavailable};
use crate::waiters::{Outgoing, Waiters};

/// The most writes in one frame.
const FRAME_WRITES: usize = 1024;
/// The most bytes of writes in one frame; one write may be larger.
const FRAME_BYTES: usize = 1024 * 1024;
/// How long one frame may take to leave.
const FRAME_TIME: Duration = Duration::from_secs(2);
/// The pause before a leader that could not be reached, or would not take a write, is tried again.
const PAUSE: Duration = Duration::from_millis(10);
/// The part of the room that is kept for what is urgent: one in so many.
const URGENT_SHARE: usize = 8;

/// Room for writes that wait.
pub struct Room {
    writes: Arc<Semaphore>,
    kilobytes: Arc<Semaphore>,
    urgent_writes: Arc<Semaphore>,
    urgent_kilobytes: Arc<Semaphore>,
}

/// A place in the room, given back when dropped.
pub struct Place {
    _write: OwnedSemaphorePermit,
    _kilobytes: OwnedSemaphorePermit,
}

impl Room {
    /// Room for so many writes of so many bytes in all.
    pub fn new(writes: usize, bytes: usize) -> Self {
        let kilobytes = (bytes / 1024).max(4096);
        let urgent = |of: usize| Arc::new(Semaphore::new((of / URGENT_SHARE).max(64)));
        Self {
            writes: Arc::new(Semaphore::new(writes.max(1))),
            kilobytes: Arc::new(Semaphore::new(kilobytes)),
            urgent_writes: urgent(writes),
            urgent_kilobytes: Arc::new(Semaphore::new((kilobytes / URGENT_SHARE).max(4096))),
        }
    }

    /// A place for a write, if there is one. What is urgent may use both parts.
    pub fn enter(&self, bytes: usize, urgent: bool) -> Result<Place, Unavailable> {
        let kilobytes = (bytes / 1024 + 1) as u32;
        let take = |writes: &Arc<Semaphore>, size: &Arc<Semaphore>| {
            let write = writes.clone().try_acquire_owned().ok()?;
            let size = size.clone().try_acquire_many_owned(kilobytes).ok()?;
            Some(Place {
                _write: write,
                _kilobytes: size,
            })
        };
        take(&self.writes, &self.kilobytes)
            .or_else(|| {
                urgent
                    .then(|| take(&self.urgent_writes, &self.urgent_kilobytes))
                    .flatten()
            })
            .ok_or(Unavailable::Overloaded)
    }
}

/// Proposes writes of this member.
pub struct Proposer {
    /// Who waits.
    pub waiters: Arc<Waiters>,
    /// Room for them.
    pub room: Room,
    /// Wakes the courier.
    pub wake: Arc<Notify>,
    /// Who leads.
    pub leadership: watch::Receiver<Leadership>,
}

impl Proposer {
    /// Proposes a write and waits until it is applied here.
    pub async fn propose(
        &self,
        record: &Bytes,
        urgent: bool,
        deadline: Instant,
    ) -> Result<Receipt, Unavailable> {
        let result = self.propose_once(record, urgent, deadline).await;
        if result.is_err() {
            metrics::PROPOSALS_FAILED.inc();
        }
        result
    }

    async fn propose_once(
        &self,
        record: &Bytes,
        urgent: bool,
        deadline: Instant,
    ) -> Result<Receipt, Unavailable> {
        let _place = self.room.enter(record.len(), urgent)?;
        let began_under = *self.leadership.borrow();
        let (seq, outcome) = self.waiters.add(record, urgent);
        // Also when the caller goes away.
        let waiting = Waiting {
            waiters: &self.waiters,
            seq,
        };
        self.wake.notify_one();
        match timeout_at(deadline, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Unavailable::Stopped),
            Err(_) => {
                let sent = waiting.waiters.forget(seq);
                let now = *self.leadership.borrow();
                Err(match (sent, now.leader) {
                    (false, None) => Unavailable::NoLeader,
                    (false, Some(_)) => Unavailable::TimedOut(Delay::ConnectionLost),
                    (true, _) if now.term != began_under.term => {
                        Unavailable::TimedOut(Delay::LeaderFailure)
                    }
                    (true, _) => Unavailable::TimedOut(Delay::Plain),
                })
            }
        }
    }
}

struct Waiting<'a> {
    waiters: &'a Waiters,
    seq: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.waiters.forget(self.seq);
    }
}

/// Carries queued writes to the leader.
pub struct Courier {
    /// openraft.
    pub raft: Raft,
    /// The others.
    pub peers: Arc<Peers>,
    /// The writes.
    pub waiters: Arc<Waiters>,
    /// Whether disks are full.
    pub pressure: Arc<Pressure>,
    /// Notified when something is queued.
    pub wake: Arc<Notify>,
    /// Who leads.
    pub leadership: watch::Receiver<Leadership>,
}

impl Courier {
    /// Carries until the member stops.
    pub async fn run(mut self) {
        loop {
            if !self.waiters.has_queued() {
                self.wake.notified().await;
                // Whoever is ready to propose does so first: one frame for all instead of one for each.
                tokio::task::yield_now().await;
                continue;
            }
            let now = *self.leadership.borrow_and_update();
            let Some(leader) = now.leader else {
                if self.leadership.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let writes = self.waiters.take(now.term, FRAME_WRITES, FRAME_BYTES);
            if writes.is_empty() {
                // An entry of a later term was applied before its leader was seen.
                self.pause().await;
                continue;
            }
            let carried = if now.here {
                self.append(writes, now.term).await
            } else {
                self.forward(leader, writes, now.term).await
            };
            if !carried {
                self.pause().await;
            }
        }
    }

    /// Waits a moment, or for another leader.
    async fn pause(&mut self) {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = self.leadership.changed() => {}
        }
    }

    async fn append(&self, writes: Vec<Outgoing>, term: u64) -> bool {
        for write in writes {
            let seq = write.envelope.seq();
            if !write.urgent && self.pressure.takes_urgent_only() {
                self.waiters.fail(seq, term, Unavailable::DiskFull);
                continue;
            }
            let (waiters, wake) = (self.waiters.clone(), self.wake.clone());
            let refused = move || {
                waiters.refused(seq, term);
                tokio::spawn(async move {
                    tokio::time::sleep(PAUSE).await;
                    wake.notify_one();
                });
            };
            let span = trace::append_under(&write.span);
            if !append(&self.raft, write.envelope, term, span, refused).await {
                return false;
            }
        }
        true
    }

    async fn forward(&self, leader: u64, writes: Vec<Outgoing>, term: u64) -> bool {
        let urgent = writes.first().is_some_and(|write| write.urgent);
        let payloads = writes
            .iter()
            .map(|w| w.envelope.as_bytes().clone())
            .collect();
        let body = Body::Propose(peer::Propose {
            payloads,
            term,
            urgent,
            traces: trace::names(writes.iter().map(|write| &write.span)),
        });
        let deadline = Instant::now() + FRAME_TIME;
        let sent = match self.peers.link_of(leader) {
            None => Err(CallError::NotSent(
                "the leader is not a member known here".into(),
            )),
            Some(link) => match self.peers.connection(&link, Lane::Requests, deadline).await {
                Ok(connection) => connection.tell(body, deadline).await,
                Err(error) => Err(error),
            },
        };
        match sent {
            Ok(()) => true,
            Err(CallError::NotSent(reason)) => {
                tracing::debug!(reason, "writes were not forwarded");
                self.waiters.put_back(&writes);
                false
            }
            // Some of it may have arrived. They stay sent: what comes of them shows in the log.
            Err(_) => false,
        }
    }
}

/// Appends a write if this member leads the term; `refused` is called if it surely was not appended. The span
/// lasts until the outcome is known. False if openraft has stopped.
pub async fn append(
    raft: &Raft,
    envelope: Envelope,
    term: u64,
    span: Span,
    refused: impl FnOnce() + Send + 'static,
) -> bool {
    let verdict = Verdict::new(move |result: ClientWriteResult<TypeConfig>| {
        drop(span);
        // Whatever else may have become of it shows in the log.
        if let Err(ClientWriteError::ForwardToLeader(_)) = result {
            refused();
        }
    });
    let write = raft
        .write(envelope)
        .with_leader(CommittedLeaderId::new(term))
        .responder(verdict);
    write.await.is_ok()
}

/// Takes writes another member forwarded. Those that were surely not appended are named to `refuse`.
pub async fn take_forwarded(
    raft: &Raft,
    pressure: &Pressure,
    propose: peer::Propose,
    refuse: impl Fn(peer::ProposeRefused) + Clone + Send + 'static,
) {
    let term = propose.term;
    let refusal = move |seqs: Vec<u64>, code: RefusalCode| peer::ProposeRefused {
        seqs,
        code: code.into(),
        term,
    };
    let traces = propose.traces;
    let envelopes: Vec<(Envelope, Span)> = propose
        .payloads
        .into_iter()
        .enumerate()
        .filter_map(|(place, bytes)| {
            let envelope = Envelope::from_bytes(bytes)?;
            Some((envelope, trace::append_of(&traces, place)))
        })
        .collect();
    if !propose.urgent && pressure.takes_urgent_only() {
        let seqs = envelopes
            .iter()
            .map(|(envelope, _)| envelope.seq())
            .collect();
        refuse(refusal(seqs, RefusalCode::DiskFull));
        return;
    }
    for (envelope, span) in envelopes {
        let seq = envelope.seq();
        let refuse = refuse.clone();
        let refused = move || refuse(refusal(vec![seq], RefusalCode::NotLeader));
        // Its own allocation: a slice would keep the whole frame in memory with the value.
        let own = Envelope::from_bytes(Bytes::copy_from_slice(envelope.as_bytes()));
        let Some(own) = own else { continue };
        if !append(raft, own, term, span, refused).await {
            return;
        }
    }
}

/// What a leader says about writes it did not append.
pub fn hear_refusal(waiters: &Waiters, wake: &Arc<Notify>, refusal: &peer::ProposeRefused) {
    for seq in &refusal.seqs {
        match refusal.code() {
            RefusalCode::NotLeader => waiters.refused(*seq, refusal.term),
            code => waiters.fail(*seq, refusal.term, Unavailable::from_wire(code)),
        }
    }
    let wake = wake.clone();
    tokio::spawn(async move {
        tokio::time::sleep(PAUSE).await;
        wake.notify_one();
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_full_room_still_takes_what_is_urgent() {
        let room = Room::new(2, 64 * 1024 * 1024);
        let a = room.enter(10, false).unwrap();
        let _b = room.enter(10, false).unwrap();
        assert!(matches!(
            room.enter(10, false),
            Err(Unavailable::Overloaded)
        ));
        let _c = room.enter(10, true).unwrap();
        drop(a);
        let _d = room.enter(10, false).unwrap();
    }

    #[test]
    fn bytes_fill_the_room_too() {
        let room = Room::new(1000, 4 * 1024 * 1024);
        let _a = room.enter(3 * 1024 * 1024, false).unwrap();
        assert!(matches!(
            room.enter(2 * 1024 * 1024, false),
            Err(Unavailable::Overloaded)
        ));
        let _b = room.enter(1024, false).unwrap();
    }
}
