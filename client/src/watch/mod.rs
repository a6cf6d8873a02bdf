//! Watches: changes in order, without gap or double, over any failure.
//!
//! A watch is a cursor: the next revision it wants. Whatever happens on the way (a stream breaks, a member
//! dies, the reader is slow) the watch is made again at its cursor, on whichever member answers, and what
//! was already delivered is dropped by revision.
//!
//! ```text
//! watch ---\                                     /--> member a
//! watch ----+--> stream 1 (one gRPC stream) ----+     member b
//! watch ---/       ^ cursor per watch            \... member c   after a failure
//!   ^
//!   '--- a few responses are held for each reader. When they are not read, the watch leaves the
//!        stream, and is made again at its cursor once they are: a slow reader costs no memory
//!        and delays no other watch.
//! ```
//!
//! A watch ends only when it is dropped, or with an error that trying again can not mend: the revision it
//! needs was compacted ([`Kind::Compacted`](crate::Kind::Compacted) says from where to go on), or it is not
//! permitted.

mod cursor;
mod reader;
mod stream;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures::future::BoxFuture;
use meridian_domain::kv::KeyValue;
use meridian_proto::etcdserverpb as wire;
use meridian_proto::etcdserverpb::watch_create_request::FilterType;
use tokio::sync::{Notify, mpsc, oneshot};

pub use reader::Watch;

use crate::connect::Client;
use crate::error::{Error, Result};
use crate::keys::Keys;
use crate::options::Options;

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The key was written.
    Put {
        /// What it is now.
        kv: KeyValue,
        /// What it was, if asked for and it is still known.
        prev_kv: Option<KeyValue>,
    },
    /// The key was deleted, or its lease ended.
    Delete {
        /// The key.
        key: bytes::Bytes,
        /// The revision it was deleted at.
        mod_revision: i64,
        /// What it was, if asked for and it is still known.
        prev_kv: Option<KeyValue>,
    },
}

impl Event {
    /// The key that changed.
    pub fn key(&self) -> &bytes::Bytes {
        match self {
            Self::Put { kv, .. } => &kv.key,
            Self::Delete { key, .. } => key,
        }
    }

    /// The revision of the change.
    pub fn revision(&self) -> i64 {
        match self {
            Self::Put { kv, .. } => kv.mod_revision,
            Self::Delete { mod_revision, .. } => *mod_revision,
        }
    }
}

/// What a watch delivers: the events of one or more whole revisions, or the news that there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// In order. Empty for a progress message.
    pub events: Vec<Event>,
    /// Everything up to this revision has now been delivered; a watch that starts at the one after it
    /// goes on without gap or double.
    pub revision: i64,
}

impl Client {
    /// Watches keys from now on, or from a revision of the past.
    pub fn watch(&self, keys: impl Into<Keys>) -> WatchBuilder {
        let (key, range_end) = keys.into().to_wire();
        WatchBuilder {
            client: self.clone(),
            spec: Spec {
                request: wire::WatchCreateRequest {
                    key,
                    range_end,
                    // Moves the cursor of an idle watch ahead of compactions.
                    progress_notify: true,
                    ..Default::default()
                },
                wants_progress: false,
            },
        }
    }
}

/// A watch that is not open yet. Opened by awaiting it.
#[derive(Debug)]
#[must_use = "a watch is opened by awaiting it"]
pub struct WatchBuilder {
    client: Client,
    spec: Spec,
}

/// What a watch asks for.
#[derive(Clone, Debug)]
struct Spec {
    request: wire::WatchCreateRequest,
    wants_progress: bool,
}

impl WatchBuilder {
    /// Begins at this revision, which may lie in the past as long as it is not compacted, or in the
    /// future. Without it the watch begins with the first change after it is open.
    pub fn start_revision(mut self, revision: i64) -> Self {
        self.spec.request.start_revision = revision;
        self
    }

    /// Asks for what each change replaced.
    pub fn prev_kv(mut self) -> Self {
        self.spec.request.prev_kv = true;
        self
    }

    /// Leaves out writes.
    pub fn no_put(mut self) -> Self {
        self.spec.request.filters.push(FilterType::Noput.into());
        self
    }

    /// Leaves out deletions.
    pub fn no_delete(mut self) -> Self {
        self.spec.request.filters.push(FilterType::Nodelete.into());
        self
    }

    /// Delivers [`Changes`] without events when nothing happened for a while, at the server's interval
    /// or when [`Watch::request_progress`] is called.
    pub fn progress(mut self) -> Self {
        self.spec.wants_progress = true;
        self
    }
}

impl IntoFuture for WatchBuilder {
    type Output = Result<Watch>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    /// Waits until a member has the watch, at most for the client's timeout.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let inner = self.client.inner();
            if self.spec.request.start_revision < 0 {
                return Err(Error::misuse("watch", "a start revision is not negative"));
            }
            let (tx, rx) = mpsc::channel(inner.options.watch_buffer.max(1));
            let (opened, open) = oneshot::channel();
            let end = Arc::new(OnceLock::new());
            let mail = inner.streams.least_busy(&self.client);
            let opening = Opening {
                spec: self.spec,
                tx,
                end: end.clone(),
                opened: Some(opened),
            };
            let key = mail.open(opening);
            // From here on dropping the reader takes the watch off its stream.
            let mut watch = Watch::new(self.client.clone(), mail, key, rx, end);
            match tokio::time::timeout(inner.options.timeout, open).await {
                Ok(Ok(start)) => {
                    watch.opened_at(start);
                    Ok(watch)
                }
                // The stream gave the watch up and said why.
                Ok(Err(_)) => Err(watch.reason()),
                Err(_) => Err(watch.trouble().unwrap_or_else(|| {
                    let waited = inner.options.timeout;
                    let text = format!("no member opened the watch within {waited:.1?}");
                    Error::of(crate::Kind::TimedOut, "watch", text)
                })),
            }
        })
    }
}

/// A watch on its way to a stream.
#[derive(Debug)]
struct Opening {
    spec: Spec,
    tx: mpsc::Sender<Changes>,
    /// Why the watch ended, set before the channel is closed.
    end: Arc<OnceLock<Error>>,
    /// Told the first revision the watch will see.
    opened: Option<oneshot::Sender<i64>>,
}

/// Names a watch within its stream, for as long as the client lives.
type WatchKey = u64;

/// What readers ask of the task behind their stream.
#[derive(Debug, Default)]
struct Mail {
    letters: Mutex<Letters>,
    arrived: Notify,
    next_key: AtomicU64,
    /// Watches that are open.
    watches: AtomicUsize,
}

/// Each list holds at most one entry per watch of the stream: a watch is opened once and closed once.
#[derive(Debug, Default)]
struct Letters {
    open: Vec<(WatchKey, Opening)>,
    close: Vec<WatchKey>,
    progress: bool,
    /// The client is gone.
    closed: bool,
    /// What keeps the stream from opening, to tell a reader that waits in vain.
    trouble: Option<Error>,
}

impl Mail {
    fn with<T>(&self, what: impl FnOnce(&mut Letters) -> T) -> T {
        what(&mut self.letters.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, letter: impl FnOnce(&mut Letters)) {
        self.with(letter);
        self.arrived.notify_one();
    }

    fn open(&self, opening: Opening) -> WatchKey {
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        self.watches.fetch_add(1, Ordering::Relaxed);
        self.write(|letters| letters.open.push((key, opening)));
        key
    }

    fn close(&self, key: WatchKey) {
        self.watches.fetch_sub(1, Ordering::Relaxed);
        self.write(|letters| letters.close.push(key));
    }
}

/// The streams of a client, each started when it is first needed.
#[derive(Debug)]
pub(crate) struct Streams {
    mail: Vec<OnceLock<Arc<Mail>>>,
}

impl Streams {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            mail: (0..options.watch_streams.max(1))
                .map(|_| OnceLock::new())
                .collect(),
        }
    }

    /// The stream with the fewest watches; one that was not started yet has none.
    fn least_busy(&self, client: &Client) -> Arc<Mail> {
        let watches = |slot: &&OnceLock<Arc<Mail>>| {
            slot.get()
                .map_or(0, |mail| mail.watches.load(Ordering::Relaxed))
        };
        #[expect(clippy::expect_used, reason = "there is at least one stream")]
        let slot = self.mail.iter().min_by_key(watches).expect("a stream");
        slot.get_or_init(|| {
            let mail = Arc::new(Mail::default());
            tokio::spawn(stream::run(client.downgrade(), mail.clone()));
            mail
        })
        .clone()
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        for mail in self.mail.iter().filter_map(OnceLock::get) {
            mail.write(|letters| letters.closed = true);
        }
    }
}
