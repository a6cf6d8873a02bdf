//! One gRPC stream that carries many watches, made again whenever it breaks.
//!
//! ```text
//! Waiting --create--> Asked --created--> Live --reader is slow--> Parked
//!    ^                  |                  |                        |
//!    '------------------+---- stream ------'                        |
//!    '----------------------- reader has room ----------------------'
//! ```
//!
//! Every creation uses a fresh wire id, so a response of an earlier life of a watch is recognised and
//! dropped.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use meridian_proto::etcdserverpb as wire;
use meridian_proto::etcdserverpb::watch_client::WatchClient;
use meridian_proto::etcdserverpb::watch_request::RequestUnion;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};

use crate::connect::{Client, Flavour, Member, To, WeakClient};
use crate::error::{Error, Kind};
use crate::retry::{Effect, Reach, gave_up};
use crate::watch::cursor::Cursor;
use crate::watch::{Changes, Mail, Opening, Spec, WatchKey};

/// Requests on their way into one stream; more wait in the outbox.
const OUTBOUND: usize = 64;
/// How often a member may cancel one watch without a lasting reason before the watch is given up.
const CANCELS_MAX: u32 = 8;

/// Serves the watches of one stream until the client is gone.
pub(super) async fn run(client: WeakClient, mail: Arc<Mail>) {
    loop {
        let (wanted, closed) = mail.with(|letters| (!letters.open.is_empty(), letters.closed));
        if closed {
            return;
        }
        // While there are watches their readers keep the client alive, and so does this task.
        match client.upgrade().filter(|_| wanted) {
            Some(client) => Carrier::new(client, mail.clone()).serve().await,
            None => mail.arrived.notified().await,
        }
    }
}

/// One watch on the stream.
struct Entry {
    spec: Spec,
    tx: mpsc::Sender<Changes>,
    end: Arc<OnceLock<Error>>,
    opened: Option<oneshot::Sender<i64>>,
    cursor: Cursor,
    /// Its id on the present stream; none while it is parked or waits.
    wire_id: Option<i64>,
    parked: bool,
    /// Cancelled by members in a row, without an event between.
    cancels: u32,
}

struct Carrier {
    client: Client,
    mail: Arc<Mail>,
    watches: HashMap<WatchKey, Entry>,
    /// Live and asked watches by wire id.
    by_id: HashMap<i64, WatchKey>,
    /// Creations without answer yet, in the order they were sent.
    asked: VecDeque<i64>,
    next_id: i64,
    /// Requests to send; at most two per watch.
    outbox: VecDeque<RequestUnion>,
    /// Parked watches that wait for room or for time to pass; false if the reader is gone.
    waiting: FuturesUnordered<BoxFuture<'static, (WatchKey, bool)>>,
}

/// Why a conversation ended.
enum End {
    /// No watch is left.
    Idle,
    /// The stream broke. True if it had delivered something.
    Broken(Status, bool),
}

impl Carrier {
    fn new(client: Client, mail: Arc<Mail>) -> Self {
        Self {
            client,
            mail,
            watches: HashMap::new(),
            by_id: HashMap::new(),
            asked: VecDeque::new(),
            next_id: 1,
            outbox: VecDeque::new(),
            waiting: FuturesUnordered::new(),
        }
    }

    async fn serve(mut self) {
        let mut failures = 0;
        let mut tried: Vec<Arc<str>> = vec![];
        loop {
            self.read_mail();
            if self.watches.is_empty() {
                return;
            }
            let member = self.client.choose(&To::Any, &tried);
            let (status, delivered) = match self.converse(&member).await {
                End::Idle => return,
                End::Broken(status, delivered) => (status, delivered),
            };
            self.client.note(&member, &status);
            let url = Some(member.url().clone());
            let error = Error::from_status("watch", status.clone(), Effect::Read, url);
            if is_lasting(&status) {
                let keys: Vec<_> = self.watches.keys().copied().collect();
                for key in keys {
                    self.fail(key, error.clone());
                }
                continue;
            }
            tracing::debug!(%error, watches = self.watches.len(), "watch stream broke; resuming");
            self.mail.with(|letters| letters.trouble = Some(error));
            if delivered {
                failures = 0;
                tried.clear();
            }
            failures += 1;
            tried.push(member.url().clone());
            if tried.len() >= self.client.pool().members().len() {
                tried.clear();
            }
            tokio::time::sleep(self.client.inner().options.retry.pause(failures)).await;
        }
    }

    /// Opens one stream at `member` and serves it until it breaks or is not needed any more.
    async fn converse(&mut self, member: &Member) -> End {
        self.by_id.clear();
        self.asked.clear();
        self.outbox.clear();
        let keys: Vec<_> = self
            .watches
            .iter()
            .filter(|(_, w)| !w.parked)
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            self.ask(key);
        }
        let (tx, rx) = mpsc::channel(OUTBOUND);
        let mut request = Request::new(ReceiverStream::new(rx));
        if let Err(error) = self.client.sign(request.metadata_mut(), "watch", None) {
            return End::Broken(Status::invalid_argument(error.to_string()), false);
        }
        // A member cut off from the others ends the stream instead of falling silent.
        request
            .metadata_mut()
            .insert("hasleader", MetadataValue::from_static("true"));
        let mut service = WatchClient::new(member.channel()).max_decoding_message_size(usize::MAX);

        // etcd sends its headers with the first response only, so creations go out meanwhile.
        let patience = self.client.inner().options.attempt_timeout * 2;
        let opening = tokio::time::timeout(patience, service.watch(request));
        tokio::pin!(opening);
        let mut inbound = loop {
            tokio::select! {
                answer = &mut opening => match answer {
                    Ok(Ok(response)) => break response.into_inner(),
                    Ok(Err(status)) => return End::Broken(status, false),
                    Err(_) => return End::Broken(gave_up(patience), false),
                },
                permit = tx.reserve(), if !self.outbox.is_empty() => self.post(permit.ok()),
                () = self.mail.arrived.notified() => self.read_mail(),
                Some((key, room)) = self.waiting.next(), if !self.waiting.is_empty() => {
                    self.unpark(key, room);
                }
            }
            if self.watches.is_empty() {
                return End::Idle;
            }
        };
        let mut delivered = false;
        loop {
            tokio::select! {
                message = inbound.message() => match message {
                    Ok(Some(response)) => {
                        if !delivered {
                            delivered = true;
                            member.well();
                            self.mail.with(|letters| letters.trouble = None);
                        }
                        self.receive(response);
                    }
                    Ok(None) => {
                        let status = Status::unavailable("the member ended the watch stream");
                        return End::Broken(status, delivered);
                    }
                    Err(status) => return End::Broken(status, delivered),
                },
                permit = tx.reserve(), if !self.outbox.is_empty() => self.post(permit.ok()),
                () = self.mail.arrived.notified() => self.read_mail(),
                Some((key, room)) = self.waiting.next(), if !self.waiting.is_empty() => {
                    self.unpark(key, room);
                }
            }
            if self.watches.is_empty() {
                return End::Idle;
            }
        }
    }

    fn read_mail(&mut self) {
        let (open, close, progress) = self.mail.with(|letters| {
            let open = std::mem::take(&mut letters.open);
            let close = std::mem::take(&mut letters.close);
            (open, close, std::mem::take(&mut letters.progress))
        });
        for (
            key,
            Opening {
                spec,
                tx,
                end,
                opened,
            },
        ) in open
        {
            let cursor = Cursor::at(spec.request.start_revision);
            let entry = Entry {
                spec,
                tx,
                end,
                opened,
                cursor,
                wire_id: None,
                parked: false,
                cancels: 0,
            };
            self.watches.insert(key, entry);
            self.ask(key);
        }
        for key in close {
            self.leave(key);
            self.watches.remove(&key);
        }
        if progress {
            self.outbox
                .push_back(RequestUnion::ProgressRequest(wire::WatchProgressRequest {}));
        }
    }

    /// Queues the creation of a watch at its cursor.
    fn ask(&mut self, key: WatchKey) {
        let Some(watch) = self.watches.get_mut(&key) else {
            return;
        };
        let id = self.next_id;
        self.next_id += 1;
        watch.wire_id = Some(id);
        watch.parked = false;
        let create = wire::WatchCreateRequest {
            start_revision: watch.cursor.next(),
            watch_id: id,
            ..watch.spec.request.clone()
        };
        self.by_id.insert(id, key);
        self.outbox.push_back(RequestUnion::CreateRequest(create));
    }

    /// Takes a watch off the stream.
    fn leave(&mut self, key: WatchKey) {
        let Some(id) = self
            .watches
            .get_mut(&key)
            .and_then(|watch| watch.wire_id.take())
        else {
            return;
        };
        self.by_id.remove(&id);
        let unsent = self.outbox.iter().position(
            |request| matches!(request, RequestUnion::CreateRequest(c) if c.watch_id == id),
        );
        match unsent {
            Some(at) => drop(self.outbox.remove(at)),
            None => self
                .outbox
                .push_back(RequestUnion::CancelRequest(wire::WatchCancelRequest {
                    watch_id: id,
                })),
        }
    }

    /// Hands the next request to the stream.
    fn post(&mut self, permit: Option<mpsc::Permit<'_, wire::WatchRequest>>) {
        // A closed channel shows at once as the end of the inbound side.
        let (Some(permit), Some(request)) = (permit, self.outbox.pop_front()) else {
            return;
        };
        if let RequestUnion::CreateRequest(create) = &request {
            self.asked.push_back(create.watch_id);
        }
        permit.send(wire::WatchRequest {
            request_union: Some(request),
        });
    }

    fn receive(&mut self, response: wire::WatchResponse) {
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        if response.created {
            return self.created(&response, revision);
        }
        if response.canceled {
            return self.canceled(&response);
        }
        if response.watch_id == -1 {
            return self.progressed(revision);
        }
        let Some(key) = self.by_id.get(&response.watch_id).copied() else {
            return;
        };
        let Some(watch) = self.watches.get_mut(&key) else {
            return;
        };
        watch.cancels = 0;
        let is_progress = response.events.is_empty();
        let Some((changes, after)) = watch.cursor.cut(response.events, revision) else {
            return;
        };
        if is_progress && !watch.spec.wants_progress {
            watch.cursor = after;
            return;
        }
        match watch.tx.try_send(changes) {
            Ok(()) => watch.cursor = after,
            Err(TrySendError::Full(_)) => self.park_until_read(key),
            Err(TrySendError::Closed(_)) => {}
        }
    }

    /// Answers come in the order the creations were sent; one that was refused has no id of its own.
    fn created(&mut self, response: &wire::WatchResponse, revision: i64) {
        let Some(id) = self.asked.pop_front() else {
            return;
        };
        let Some(key) = self.by_id.get(&id).copied() else {
            return;
        };
        if response.canceled {
            let error = refusal(response);
            return self.fail(key, error);
        }
        let Some(watch) = self.watches.get_mut(&key) else {
            return;
        };
        watch.cursor.made(revision);
        if let Some(opened) = watch.opened.take() {
            // A reader that stopped waiting has closed the watch already.
            let _ = opened.send(watch.cursor.next());
        }
    }

    fn canceled(&mut self, response: &wire::WatchResponse) {
        let Some(key) = self.by_id.remove(&response.watch_id) else {
            return;
        };
        let Some(watch) = self.watches.get_mut(&key) else {
            return;
        };
        watch.wire_id = None;
        watch.cancels += 1;
        let reason = response.cancel_reason.as_str();
        let lasting = response.compact_revision != 0
            || reason.contains("PermissionDenied")
            || reason.contains("Unauthenticated")
            || watch.cancels > CANCELS_MAX;
        if lasting {
            return self.fail(key, refusal(response));
        }
        // The member had its own reasons: the watch goes on at its cursor after a pause.
        watch.parked = true;
        let pause = self.client.inner().options.retry.pause(watch.cancels);
        self.waiting.push(Box::pin(async move {
            tokio::time::sleep(pause).await;
            (key, true)
        }));
    }

    /// The answer to a progress request: holds for every watch of the stream.
    fn progressed(&mut self, revision: i64) {
        // Before 3.5.8 etcd lets this message overtake events, so there it moves no cursor.
        let trusted = self.client.pool().flavour() == Some(Flavour::Meridian);
        for watch in self.watches.values_mut() {
            if watch.wire_id.is_none() || watch.opened.is_some() {
                continue;
            }
            let Some((changes, after)) = watch.cursor.cut(vec![], revision) else {
                continue;
            };
            // Without room the reader has news enough.
            let told = !watch.spec.wants_progress || watch.tx.try_send(changes).is_ok();
            if told && trusted {
                watch.cursor = after;
            }
        }
    }

    /// Takes a watch off the stream until its reader has made room.
    fn park_until_read(&mut self, key: WatchKey) {
        self.leave(key);
        let Some(watch) = self.watches.get_mut(&key) else {
            return;
        };
        watch.parked = true;
        let tx = watch.tx.clone();
        self.waiting.push(Box::pin(async move {
            let room = (tx.max_capacity() / 2).max(1);
            let read = tx.reserve_many(room).await.is_ok();
            (key, read)
        }));
    }

    fn unpark(&mut self, key: WatchKey, room: bool) {
        if room && self.watches.get(&key).is_some_and(|watch| watch.parked) {
            self.ask(key);
        }
    }

    /// Ends a watch with an error.
    fn fail(&mut self, key: WatchKey, error: Error) {
        self.leave(key);
        if let Some(watch) = self.watches.remove(&key) {
            // Set before the channel closes; a second reason is of no interest.
            let _ = watch.end.set(error);
        }
    }
}

/// Whether a stream that ended so would end so again, whoever is asked.
fn is_lasting(status: &Status) -> bool {
    let no = matches!(
        status.code(),
        Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
    );
    no && Reach::of(status) == Reach::Answered
}

/// Why a member refused or cancelled a watch.
fn refusal(response: &wire::WatchResponse) -> Error {
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    if response.compact_revision != 0 {
        let kind = Kind::Compacted {
            compacted: Some(response.compact_revision),
        };
        return Error::of(kind, "watch", compacted).with_code(Some("COMPACTED".into()));
    }
    let reason = response.cancel_reason.as_str();
    let kind = match reason {
        _ if reason == compacted => Kind::Compacted { compacted: None },
        _ if reason.contains("PermissionDenied") => Kind::Denied,
        _ if reason.contains("Unauthenticated") => Kind::Unauthenticated,
        "etcdserver: too many requests" => Kind::Busy,
        _ => Kind::Refused,
    };
    let text = if reason.is_empty() {
        "the member cancelled the watch"
    } else {
        reason
    };
    Error::of(kind, "watch", text).with_code(crate::error::known_text(reason))
}
