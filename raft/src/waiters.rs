//! Writes of this member that wait to come by in its own log.
//!
//! ```text
//!              queue                 send to the leader of term t
//!   waiting ----------> queued ------------------------------------> sent under t
//!                         ^                                             |
//!                         |   refused under t, or                       |  applied here: answered
//!                         |   an entry of a later term was applied      v
//!                         +------------------------------------------- gone
//! ```
//!
//! A write is sent for one term only: a leader of another term refuses it. Therefore, when an entry of a later
//! term is applied here and the write was not, the write is in no committed log and never will be, and it is
//! safe to send it again. That is how a write survives the loss of a leader without the client noticing, and
//! why it can not be applied twice. Only when the state jumps ahead with a snapshot is the outcome unknown.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use meridian_domain::command::Receipt;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::Span;

use crate::metrics;
use crate::trace;
use crate::type_config::Envelope;
use crate::unavailable::Unavailable;

/// What becomes of a write.
pub type Outcome = Result<Receipt, Unavailable>;

/// The writes that wait. Shared between who proposes, who sends and who applies.
pub struct Waiters {
    origin: u64,
    next: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    writes: HashMap<u64, Write>,
    /// Numbers of writes to send, in order; some may be gone by the time they are taken.
    queue: std::collections::VecDeque<u64>,
    /// The term of the last entry applied here.
    applied_term: u64,
}

struct Write {
    envelope: Envelope,
    urgent: bool,
    /// The term it was sent under; none while it is queued. Whatever queues it again is certain that it was
    /// not and will not be appended under the term it had been sent for.
    sent: Option<u64>,
    answer: oneshot::Sender<Outcome>,
    /// The span it is proposed in.
    span: Span,
}

/// A write on its way to the leader.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// What to append.
    pub envelope: Envelope,
    /// Whether it frees space or keeps leases alive.
    pub urgent: bool,
    /// The span it is proposed in.
    pub span: Span,
}

impl Waiters {
    /// Nothing waits. Numbers begin at a random place, so that a restarted member does not take another
    /// process's writes for its own.
    pub fn new(origin: u64) -> Self {
        let epoch = u64::from(rand::random::<u32>()) << 32;
        Self {
            origin,
            next: AtomicU64::new(epoch),
            state: Mutex::default(),
        }
    }

    /// Whose writes these are.
    pub fn origin(&self) -> u64 {
        self.origin
    }

    /// Takes a write and queues it. Its number, and where its outcome will be told.
    pub fn add(&self, record: &bytes::Bytes, urgent: bool) -> (u64, oneshot::Receiver<Outcome>) {
        let seq = self.next.fetch_add(1, Ordering::Relaxed);
        let envelope = Envelope::new(self.origin, seq, record);
        let (answer, outcome) = oneshot::channel();
        let write = Write {
            envelope,
            urgent,
            sent: None,
            answer,
            span: Span::current(),
        };
        let mut state = self.state.lock();
        state.writes.insert(seq, write);
        state.queue.push_back(seq);
        metrics::PROPOSALS_PENDING.set(state.writes.len() as i64);
        (seq, outcome)
    }

    /// Nobody waits for the write any more. Whether it may have been sent.
    pub fn forget(&self, seq: u64) -> bool {
        let mut state = self.state.lock();
        let gone = state.writes.remove(&seq);
        metrics::PROPOSALS_PENDING.set(state.writes.len() as i64);
        gone.is_some_and(|write| write.sent.is_some())
    }

    /// Whether something is queued.
    pub fn has_queued(&self) -> bool {
        !self.state.lock().queue.is_empty()
    }

    /// Takes queued writes of one urgency to send them under a term: up to so many, up to so many bytes,
    /// at least one if there is any.
    pub fn take(&self, term: u64, count_max: usize, bytes_max: usize) -> Vec<Outgoing> {
        let mut state = self.state.lock();
        let State {
            writes,
            queue,
            applied_term,
        } = &mut *state;
        if term < *applied_term {
            // The caller's leader is of the past already.
            return vec![];
        }
        let mut taken: Vec<Outgoing> = vec![];
        let mut bytes = 0;
        while let Some(seq) = queue.front() {
            let Some(write) = writes.get_mut(seq).filter(|write| write.sent.is_none()) else {
                queue.pop_front();
                continue;
            };
            let size = write.envelope.as_bytes().len();
            let full = taken.len() >= count_max || bytes + size > bytes_max;
            let other = taken
                .first()
                .is_some_and(|first| first.urgent != write.urgent);
            if !taken.is_empty() && (full || other) {
                break;
            }
            write.sent = Some(term);
            bytes += size;
            taken.push(Outgoing {
                envelope: write.envelope.clone(),
                urgent: write.urgent,
                span: write.span.clone(),
            });
            queue.pop_front();
        }
        taken
    }

    /// Writes that were taken surely did not leave: queues them again, in front.
    pub fn put_back(&self, writes: &[Outgoing]) {
        let mut state = self.state.lock();
        for outgoing in writes.iter().rev() {
            let seq = outgoing.envelope.seq();
            if let Some(write) = state.writes.get_mut(&seq) {
                write.sent = None;
                state.queue.push_front(seq);
            }
        }
    }

    /// The leader of a term surely did not append a write: it is queued again.
    pub fn refused(&self, seq: u64, term: u64) {
        let mut state = self.state.lock();
        if let Some(write) = state.writes.get_mut(&seq)
            && write.sent == Some(term)
        {
            write.sent = None;
            state.queue.push_back(seq);
        }
    }

    /// A write surely was not and will not be appended: its outcome is told.
    pub fn fail(&self, seq: u64, term: u64, why: Unavailable) {
        let mut state = self.state.lock();
        let ours = state
            .writes
            .get(&seq)
            .is_some_and(|write| write.sent == Some(term));
        if ours && let Some(write) = state.writes.remove(&seq) {
            let _ = write.answer.send(Err(why));
        }
    }

    /// Entries were applied here and are published: answers the writes among them, and queues again those
    /// that a leader of an earlier term did not get committed. Whether there are such.
    pub fn applied(&self, receipts: Vec<(u64, Receipt)>, term: u64) -> bool {
        let mut state = self.state.lock();
        for (seq, receipt) in receipts {
            if let Some(write) = state.writes.remove(&seq) {
                trace::applied(&write.span, receipt.log_id.index);
                let _ = write.answer.send(Ok(receipt));
            }
        }
        metrics::PROPOSALS_PENDING.set(state.writes.len() as i64);
        if term <= state.applied_term {
            return false;
        }
        state.applied_term = term;
        let State { writes, queue, .. } = &mut *state;
        let mut lost: Vec<u64> = writes
            .iter()
            .filter(|(_, write)| write.sent.is_some_and(|sent| sent < term))
            .map(|(seq, _)| *seq)
            .collect();
        lost.sort_unstable();
        for seq in &lost {
            if let Some(write) = writes.get_mut(seq) {
                write.sent = None;
                queue.push_back(*seq);
            }
        }
        !lost.is_empty()
    }

    /// The state jumped ahead: whether writes that were sent before are in it is not known.
    pub fn jumped(&self, term: u64) {
        let mut state = self.state.lock();
        state.applied_term = state.applied_term.max(term);
        let unknown: Vec<u64> = state
            .writes
            .iter()
            .filter(|(_, write)| write.sent.is_some_and(|sent| sent <= term))
            .map(|(seq, _)| *seq)
            .collect();
        for seq in unknown {
            if let Some(write) = state.writes.remove(&seq) {
                let _ = write.answer.send(Err(Unavailable::OutcomeUnknown));
            }
        }
    }

    /// The member stops: everybody is told.
    pub fn stop(&self) {
        let mut state = self.state.lock();
        state.queue.clear();
        for (_, write) in state.writes.drain() {
            let why = if write.sent.is_some() {
                Unavailable::OutcomeUnknown
            } else {
                Unavailable::Stopped
            };
            let _ = write.answer.send(Err(why));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use bytes::Bytes;
    use meridian_domain::command::{Reply, Verdict};
    use meridian_domain::revision::LogId;

    use super::*;

    fn receipt(term: u64) -> Receipt {
        Receipt {
            log_id: LogId { term, index: 9 },
            revision: 2,
            verdict: Verdict::Applied(Reply::Done),
        }
    }

    fn record() -> Bytes {
        Bytes::from_static(b"record")
    }

    #[test]
    fn a_write_is_answered_when_it_is_applied_here() {
        let waiters = Waiters::new(1);
        let (seq, mut outcome) = waiters.add(&record(), false);
        assert_eq!(waiters.take(3, 10, 1000)[0].envelope.seq(), seq);
        assert!(!waiters.applied(vec![(seq, receipt(3))], 3));
        assert_eq!(outcome.try_recv().unwrap(), Ok(receipt(3)));
    }

    #[test]
    fn a_write_its_leader_lost_is_sent_again_after_a_later_term_begins() {
        let waiters = Waiters::new(1);
        let (seq, mut outcome) = waiters.add(&record(), false);
        assert_eq!(waiters.take(3, 10, 1000).len(), 1);
        assert!(
            !waiters.applied(vec![], 3),
            "its own term may still bring it"
        );
        assert!(!waiters.has_queued());
        assert!(waiters.applied(vec![], 4));
        assert!(outcome.try_recv().is_err());
        assert!(
            waiters.take(3, 10, 1000).is_empty(),
            "never again to the old leader"
        );
        assert_eq!(waiters.take(4, 10, 1000)[0].envelope.seq(), seq);
    }

    #[test]
    fn a_late_refusal_does_not_send_a_write_twice() {
        let waiters = Waiters::new(1);
        let (seq, _outcome) = waiters.add(&record(), false);
        waiters.take(3, 10, 1000);
        waiters.refused(seq, 3);
        assert_eq!(waiters.take(4, 10, 1000).len(), 1);
        waiters.refused(seq, 3);
        assert!(waiters.take(4, 10, 1000).is_empty());
    }

    #[test]
    fn after_a_jump_only_what_was_never_sent_goes_on() {
        let waiters = Waiters::new(1);
        let (_, mut sent) = waiters.add(&record(), false);
        waiters.take(3, 1, 1000);
        let (_, mut queued) = waiters.add(&record(), false);
        waiters.jumped(3);
        assert_eq!(sent.try_recv().unwrap(), Err(Unavailable::OutcomeUnknown));
        assert!(queued.try_recv().is_err());
        assert_eq!(waiters.take(3, 10, 1000).len(), 1);
    }

    #[test]
    fn batches_are_bounded_and_of_one_urgency() {
        let waiters = Waiters::new(1);
        let mut outcomes = vec![];
        for urgent in [false, false, false, true] {
            outcomes.push(waiters.add(&record(), urgent));
        }
        assert_eq!(waiters.take(1, 2, 1000).len(), 2);
        assert_eq!(waiters.take(1, 10, 1).len(), 1, "at least one");
        assert!(waiters.take(1, 10, 1000)[0].urgent);
    }

    #[test]
    fn a_forgotten_write_is_not_sent() {
        let waiters = Waiters::new(1);
        let (first, _a) = waiters.add(&record(), false);
        let (second, _b) = waiters.add(&record(), false);
        assert!(!waiters.forget(first));
        assert_eq!(waiters.take(1, 10, 1000)[0].envelope.seq(), second);
        assert!(waiters.forget(second), "it may have been sent");
    }
}
