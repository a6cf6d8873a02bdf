//! One connection this member dialled: questions go out, answers come back in any order.
//!
//! Whoever asks writes its own frame (there is no queue and no second task in the way out) and waits for the
//! answer with the same number. Every question has a deadline. A write that does not finish ends the
//! connection, since half a frame can not be taken back; so does silence while answers are awaited.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use meridian_proto::peer::{self, envelope::Body};
use parking_lot::Mutex;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tokio_util::codec::FramedRead;
use tokio_util::sync::CancellationToken;

use crate::network::frame::{self, FrameDecoder};
use crate::network::traffic::Meter;

/// The reading half of a connection.
pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// The writing half.
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// The most questions one connection has open at a time; more are refused at once.
const QUESTIONS_MAX: usize = 4096;

/// With questions open and nothing heard for this long, the other side is taken for gone.
pub const SILENCE: Duration = Duration::from_millis(1500);

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It surely did not reach the other side.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The connection ended; the other side may have acted on it.
    #[error("the connection ended before the answer")]
    Lost,
    /// No answer in time; the other side may have acted on it.
    #[error("no answer in time")]
    TimedOut,
    /// The other side could not answer.
    #[error("refused: {:?} {}", .0.code(), .0.reason)]
    Refused(peer::Refusal),
}

/// A connection to another member, shared by everybody who asks it something.
pub struct Connection {
    writer: tokio::sync::Mutex<Writer>,
    open: Mutex<HashMap<u64, oneshot::Sender<Body>>>,
    next: AtomicU64,
    ended: CancellationToken,
    heard: AtomicBool,
    heard_at: Mutex<Instant>,
    peer: u64,
    meter: Meter,
}

impl Connection {
    /// Takes over a connection after the handshake. What comes without having been asked for goes to `pushed`.
    pub fn start(
        peer: u64,
        frames: FramedRead<Reader, FrameDecoder>,
        writer: Writer,
        pushed: Arc<dyn Fn(u64, Body) + Send + Sync>,
    ) -> Arc<Self> {
        let connection = Arc::new(Self {
            writer: tokio::sync::Mutex::new(writer),
            open: Mutex::new(HashMap::new()),
            next: AtomicU64::new(1),
            ended: CancellationToken::new(),
            heard: AtomicBool::new(true),
            heard_at: Mutex::new(Instant::now()),
            peer,
            meter: Meter::of(peer),
        });
        tokio::spawn(connection.clone().listen(frames, pushed));
        connection
    }

    /// Whether it can still be used.
    pub fn is_alive(&self) -> bool {
        !self.ended.is_cancelled()
    }

    /// Ends it; every open question fails.
    pub fn end(&self) {
        self.ended.cancel();
        self.open.lock().clear();
    }

    /// Resolves when it has ended.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Asks and waits for the answer.
    pub async fn call(&self, body: Body, deadline: Instant) -> Result<Body, CallError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        {
            let mut open = self.open.lock();
            if !self.is_alive() {
                return Err(CallError::NotSent("the connection ended".into()));
            }
            if open.len() >= QUESTIONS_MAX {
                return Err(CallError::NotSent("too many questions are open".into()));
            }
            if open.is_empty() {
                // Silence counts from the first open question on.
                *self.heard_at.lock() = Instant::now();
            }
            open.insert(id, answer);
        }
        let question = Question {
            connection: self,
            id,
        };
        self.write(id, body, deadline).await?;
        let body = match timeout_at(deadline, answered).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => return Err(CallError::Lost),
            Err(_) => return Err(CallError::TimedOut),
        };
        drop(question);
        match body {
            Body::Refusal(refusal) => Err(CallError::Refused(refusal)),
            body => Ok(body),
        }
    }

    /// Says something that is not answered. Once it returns well the bytes are with the operating system.
    pub async fn tell(&self, body: Body, deadline: Instant) -> Result<(), CallError> {
        if !self.is_alive() {
            return Err(CallError::NotSent("the connection ended".into()));
        }
        self.write(0, body, deadline).await
    }

    async fn write(&self, id: u64, body: Body, deadline: Instant) -> Result<(), CallError> {
        let bytes = frame::encode(&peer::Envelope {
            id,
            body: Some(body),
        })
        .map_err(|error| CallError::NotSent(error.to_string()))?;
        let mut writer = timeout_at(deadline, self.writer.lock())
            .await
            .map_err(|_| CallError::NotSent("the connection is clogged".into()))?;
        if !self.is_alive() {
            return Err(CallError::NotSent("the connection ended".into()));
        }
        // From here on a caller that goes away leaves half a frame behind.
        let unfinished = Unfinished(self);
        let written = timeout_at(deadline, async {
            writer.write_all(&bytes).await?;
            writer.flush().await
        })
        .await;
        match written {
            Ok(Ok(())) => {
                unfinished.finish();
                self.meter.sent(bytes.len());
                Ok(())
            }
            Ok(Err(_)) => Err(CallError::Lost),
            Err(_) => Err(CallError::TimedOut),
        }
    }

    async fn listen(
        self: Arc<Self>,
        mut frames: FramedRead<Reader, FrameDecoder>,
        pushed: Arc<dyn Fn(u64, Body) + Send + Sync>,
    ) {
        loop {
            let next = tokio::select! {
                () = self.ended.cancelled() => break,
                next = frames.next() => next,
            };
            let parsed = match next {
                None => break,
                Some(Ok(bytes)) => {
                    self.meter.received(bytes.len());
                    peer::Envelope::decode(bytes).map_err(io::Error::other)
                }
                Some(Err(error)) => Err(error),
            };
            let envelope = match parsed {
                Ok(envelope) => envelope,
                Err(error) => {
                    tracing::debug!(peer = format_args!("{:x}", self.peer), %error, "connection ended");
                    break;
                }
            };
            self.heard.store(true, Ordering::Relaxed);
            let Some(body) = envelope.body else { continue };
            if envelope.id == 0 {
                pushed(self.peer, body);
            } else if let Some(waiting) = self.open.lock().remove(&envelope.id) {
                // A late answer finds nobody and is dropped.
                let _ = waiting.send(body);
            }
        }
        self.end();
    }

    /// Called when somebody stops waiting: was anything heard lately?
    fn judge_silence(&self) {
        let mut heard_at = self.heard_at.lock();
        if self.heard.swap(false, Ordering::Relaxed) {
            *heard_at = Instant::now();
        } else if heard_at.elapsed() > SILENCE {
            self.ended.cancel();
        }
    }
}

/// A question that is open; gives up its place when dropped.
struct Question<'a> {
    connection: &'a Connection,
    id: u64,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if self.connection.open.lock().remove(&self.id).is_some() {
            self.connection.judge_silence();
        }
    }
}

/// A frame that is being written; ends the connection unless it was finished.
struct Unfinished<'a>(&'a Connection);

impl Unfinished<'_> {
    fn finish(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
