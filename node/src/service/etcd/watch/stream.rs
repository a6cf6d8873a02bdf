//! One stream: the response body that serves its watches.
//!
//! Each time the connection asks for a chunk the stream takes a *turn*, in this order:
//!
//! 1. what the client sent: create, cancel, progress ([`super::control`]);
//! 2. what the hub marked since, and what came from history;
//! 3. batches of events into the outbox, until there is a chunk or nothing more;
//! 4. progress messages, for watches that have everything.
//!
//! Events and progress go through the same outbox in this order, so a progress message never overtakes an event.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use meridian_domain::rejection::Rejection;
use meridian_domain::revision::Revision;
use meridian_proto::etcdserverpb::{ResponseHeader, WatchResponse};
use meridian_raft::unavailable::Unavailable;
use meridian_storage::watch::{Session, Step};
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataMap;

use super::catch_up::{Outcome, Reading};
use super::outbox::Outbox;
use super::requests::Requests;
use super::rights::Rights;
use super::source::{Admitted, Member, Source};
use super::{HAS_LEADER_KEY, KEYS_ONLY_KEY, PROGRESS_INTERVAL_KEY, PROGRESS_INTERVAL_MIN, Shared};
use crate::status::{Etcd, Refusal};

/// A chunk is handed out when it has so many bytes.
const CHUNK_BYTES: usize = 32 << 10;
/// Events of one response, unless a single revision has more.
const BATCH_BYTES: usize = 64 << 10;
/// Requests taken in one turn.
const REQUESTS_PER_TURN: usize = 256;

/// Remarks on a watch: it takes fragments.
pub(super) const FRAGMENT: u8 = 1;
/// It asked for progress messages.
pub(super) const PROGRESS: u8 = 2;
/// Events were sent since the last tick: no message at the next one.
pub(super) const QUIET: u8 = 4;

/// What a client says when it opens a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub(super) needs_leader: bool,
    pub(super) keys_only: bool,
    pub(super) progress_interval: Duration,
}

impl Manner {
    pub(super) fn read(metadata: &MetadataMap, progress_interval: Duration) -> Self {
        let says_true = |key| metadata.get(key).is_some_and(|v| v.as_bytes() == b"true");
        let own = metadata
            .get(PROGRESS_INTERVAL_KEY)
            .and_then(|v| v.to_str().ok()?.parse().ok());
        Self {
            needs_leader: says_true(HAS_LEADER_KEY),
            keys_only: says_true(KEYS_ONLY_KEY),
            progress_interval: own
                .map_or(progress_interval, Duration::from_millis)
                .clamp(PROGRESS_INTERVAL_MIN, PROGRESS_INTERVAL_MAX),
        }
    }
}

/// Beyond this an interval is as good as none; timers need a bound.
const PROGRESS_INTERVAL_MAX: Duration = Duration::from_hours(7 * 24);

/// When the next progress messages are due.
pub(super) struct Ticker {
    interval: Duration,
    sleep: Pin<Box<tokio::time::Sleep>>,
}

impl Ticker {
    /// Ticks at an interval of its own, up to a tenth longer, so that streams opened together do not all
    /// speak at once.
    pub(super) fn new(interval: Duration) -> Self {
        let interval = interval.mul_f64(1.0 + rand::random_range(0.0..0.1));
        Self {
            interval,
            sleep: Box::pin(tokio::time::sleep(interval)),
        }
    }

    fn tick(&mut self, cx: &mut Context<'_>) -> bool {
        let ticked = self.sleep.as_mut().poll(cx).is_ready();
        if ticked {
            self.sleep = Box::pin(tokio::time::sleep(self.interval));
            // The new timer must know whom to wake.
            let _ = self.sleep.as_mut().poll(cx);
        }
        ticked
    }
}

/// The response body of one stream.
pub(super) struct Stream<M> {
    pub(super) shared: Arc<Shared<M>>,
    pub(super) source: Arc<dyn Source>,
    /// Under which rules its watches were allowed.
    pub(super) rights: Rights,
    pub(super) manner: Manner,
    requests: Requests,
    pub(super) session: Session,
    /// The slots of the watches by their ids.
    pub(super) slots: BTreeMap<i64, u32>,
    /// The next id to give.
    pub(super) next_id: i64,
    pub(super) outbox: Outbox,
    /// Set when a watch asks for progress messages.
    pub(super) ticker: Option<Ticker>,
    ticked: bool,
    /// The client asked for progress when the revision was this.
    pub(super) asked: Option<Revision>,
    reading: Option<Box<Reading>>,
    /// Losses of the leader when the stream was opened.
    losses: u64,
    end: Option<Refusal>,
    ended: bool,
}

impl<M: Member> Stream<M> {
    pub(super) fn new(
        shared: Arc<Shared<M>>,
        admitted: Admitted,
        manner: Manner,
        body: Body,
    ) -> Self {
        let session = Session::open(admitted.source.hub());
        Self {
            requests: Requests::new(body, shared.settings.message_bytes_max),
            losses: shared.background.losses(),
            shared,
            source: admitted.source,
            rights: Rights::default(),
            manner,
            session,
            slots: BTreeMap::new(),
            next_id: 0,
            outbox: Outbox::default(),
            ticker: None,
            ticked: false,
            asked: None,
            reading: None,
            end: None,
            ended: false,
        }
    }

    /// The header of a response; without a revision if it is zero.
    pub(super) fn header(&self, revision: Revision) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.shared.member.cluster_id(),
            member_id: self.shared.member.member_id(),
            revision,
            raft_term: self.shared.background.term(),
        }
    }

    /// Ends a watch that wants what was compacted.
    pub(super) fn cancel_compacted(&mut self, id: i64, compacted: Revision) {
        self.outbox.push(&WatchResponse {
            header: Some(self.header(0)),
            watch_id: id,
            canceled: true,
            compact_revision: compacted,
            ..WatchResponse::default()
        });
    }

    /// Takes a turn. True if it is worth another at once.
    fn turn(&mut self, cx: &mut Context<'_>) -> bool {
        let mut more = self.hear(cx);
        self.ticked |= self.ticker.as_mut().is_some_and(|ticker| ticker.tick(cx));
        if self.ticked || self.asked.is_some() {
            self.session.hurry();
        }
        let compacted = if self.session.wants_prev() {
            self.source.compacted()
        } else {
            0
        };
        self.session.collect(cx.waker(), compacted);
        // After the waker is known: who brings about one of these wakes it.
        self.end = self.end.take().or_else(|| self.reason_to_end());
        if self.end.is_some() {
            return true;
        }
        self.look_at_rights(cx);
        more |= self.take_history(cx);
        if self.fill(cx) {
            self.tell_progress();
        }
        if !self.session.reads_past() {
            self.reading = None;
        }
        more
    }

    /// Fills the outbox with batches. True if there are no more for now.
    fn fill(&mut self, cx: &mut Context<'_>) -> bool {
        let mut header = self.header(0);
        let present = self.session.hub().revision();
        let split = self.shared.settings.message_bytes_max;
        loop {
            if self.outbox.bytes() >= CHUNK_BYTES || self.end.is_some() {
                return false;
            }
            match self.session.next(BATCH_BYTES) {
                Step::Idle => return true,
                Step::Busy => {
                    cx.waker().wake_by_ref();
                    return false;
                }
                Step::Batch(batch) => {
                    let (slot, notes) = (batch.slot, batch.notes());
                    header.revision = batch.live.unwrap_or(present);
                    let split = (notes & FRAGMENT != 0).then_some(split);
                    self.outbox.push_batch(&header, &batch, split);
                    if notes & (PROGRESS | QUIET) == PROGRESS {
                        self.session.set_notes(slot, notes | QUIET);
                    }
                }
                Step::Past { from, to } => self.ask_history(cx, from, to),
            }
        }
    }

    /// Takes in what the client sent.
    fn hear(&mut self, cx: &mut Context<'_>) -> bool {
        for _ in 0..REQUESTS_PER_TURN {
            if self.outbox.bytes() >= CHUNK_BYTES || self.end.is_some() {
                return false;
            }
            match self.requests.poll(cx) {
                Poll::Pending | Poll::Ready(Ok(None)) => return false,
                Poll::Ready(Ok(Some(request))) => self.obey(request),
                Poll::Ready(Err(refusal)) => self.end = Some(refusal),
            }
        }
        true
    }

    fn reason_to_end(&self) -> Option<Refusal> {
        if self.shared.background.is_stopped() {
            return Some(Unavailable::Stopped.into());
        }
        if self.session.hub().is_closed() {
            let name = self.source.tenant().to_string();
            return Some(Rejection::TenantNotFound { name }.into());
        }
        let lost = self.manner.needs_leader && self.shared.background.losses() != self.losses;
        lost.then(|| Etcd::NoLeader.into())
    }

    /// Starts to read a piece of history, unless it was compacted away.
    fn ask_history(&mut self, cx: &mut Context<'_>, from: Revision, to: Revision) {
        if from < self.drop_lost() {
            self.session.unread();
            return;
        }
        let background = &self.shared.background;
        let reading = self
            .reading
            .get_or_insert_with(|| Box::new(Reading::new(background)));
        reading.read(background, Arc::clone(&self.source), from, to);
        // The read must know whom to wake.
        self.take_history(cx);
    }

    /// Takes what was read of history. True if there is something new.
    fn take_history(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(reading) = &mut self.reading else {
            return false;
        };
        let Poll::Ready(outcome) = reading.poll(cx) else {
            return false;
        };
        match outcome {
            Outcome::Again => self.session.unread(),
            Outcome::Broken(fault) => self.end = Some(fault.into()),
            Outcome::Slice { from, commits } => {
                // What was compacted while it was read may be incomplete.
                let compacted = self.drop_lost();
                if from < compacted {
                    self.session.unread();
                } else if self.session.feed(from, commits) {
                    if let Some(reading) = &mut self.reading {
                        reading.succeed();
                    }
                } else {
                    return self.postpone_history(cx, from);
                }
            }
        }
        true
    }

    fn postpone_history(&mut self, cx: &mut Context<'_>, from: Revision) -> bool {
        let Some(reading) = &mut self.reading else {
            return false;
        };
        match reading.postpone(from) {
            Some(fault) => {
                self.end = Some(fault.into());
                true
            }
            None => self.take_history(cx),
        }
    }

    /// Cancels the watches that want what was compacted; the oldest revision there is.
    fn drop_lost(&mut self) -> Revision {
        let compacted = self.source.compacted();
        for slot in self.session.lost(compacted) {
            if let Some(id) = self.session.id(slot) {
                self.cancel_compacted(id, compacted);
                self.slots.remove(&id);
            }
            self.session.remove(slot);
        }
        compacted
    }

    /// Progress messages that are due, for watches that have everything.
    fn tell_progress(&mut self) {
        if std::mem::take(&mut self.ticked) {
            let asked: Vec<_> = self
                .session
                .each()
                .filter(|(_, _, notes)| notes & PROGRESS != 0)
                .collect();
            for (slot, id, notes) in asked {
                if notes & QUIET != 0 {
                    self.session.set_notes(slot, notes & !QUIET);
                } else if let Some(revision) = self.session.settled_of(slot) {
                    self.push_progress(id, revision);
                }
            }
        }
        // Whoever waits for the future, or fell behind, makes the question void, as in etcd.
        if let Some(at) = self.asked.take()
            && let Some(revision) = self.session.settled()
            && revision >= at
        {
            self.push_progress(EVERY_WATCH, revision);
        }
    }

    fn push_progress(&mut self, id: i64, revision: Revision) {
        self.outbox.push(&WatchResponse {
            header: Some(self.header(revision)),
            watch_id: id,
            ..WatchResponse::default()
        });
    }
}

/// Stands for every watch of a stream, and for none.
pub(super) const EVERY_WATCH: i64 = -1;

impl<M: Member> http_body::Body for Stream<M> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        loop {
            if let Some(chunk) = this.outbox.pop() {
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            if let Some(refusal) = this.end.take() {
                this.ended = true;
                let trailers = trailers(&refusal.into_status());
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            // A stream that always has something lets others have a turn, too.
            let Poll::Ready(coop) = tokio::task::coop::poll_proceed(cx) else {
                this.session.release();
                return Poll::Pending;
            };
            let more = this.turn(cx);
            if this.outbox.bytes() > 0 || more {
                coop.made_progress();
            } else {
                this.session.release();
                return Poll::Pending;
            }
        }
    }
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        // A text that can not stand in a header: that it failed says enough.
        trailers.clear();
        trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("13"));
    }
    trailers
}
