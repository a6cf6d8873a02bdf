//! etcd's Watch: one stream, any number of watches.
//!
//! ```text
//!   request body --> requests --> create, cancel, progress --+
//!                                                            v
//!   tenant's hub --marks--> session (cursors) --batches--> outbox --> response body
//!                              ^
//!   history --slices-----------+     read on a thread that may block
//! ```
//!
//! The service stands below tonic's codec: the response body *is* the stream. The connection polls it when the
//! client takes bytes; then it reads what the client sent, looks what concerns its watches, and hands out one
//! chunk. So a stream has one task (the connection's own), no queue, and between chunks nothing but its cursors: a
//! client that never reads leaves its cursors behind and costs a bounded chunk. A response is put together from
//! shared pieces ([`outbox`]); an event is encoded once, however many receive it.
//!
//! Beyond etcd, by metadata when the stream is opened:
//!
//! ```text
//!   meridian-watch-keys-only: true          events without values
//!   meridian-progress-interval-ms: 5000     the stream's own interval of progress messages, 100 at least
//! ```

pub mod source;

mod background;
mod catch_up;
mod control;
mod member;
mod outbox;
mod requests;
mod rights;
mod stream;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Request, Response, header};
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;

use self::background::Background;
use self::source::Member;
use self::stream::{Manner, Stream};
use crate::status::{Etcd, Refusal};

/// Asks for events without values.
pub const KEYS_ONLY_KEY: &str = "meridian-watch-keys-only";
/// The stream's own interval of progress messages, in milliseconds.
pub const PROGRESS_INTERVAL_KEY: &str = "meridian-progress-interval-ms";
/// Asks that the stream end when there is no leader.
const HAS_LEADER_KEY: &str = "hasleader";

/// The shortest interval of progress messages: etcd's.
pub const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// How watches are served.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Between progress messages of a quiet watch that asked for them; etcd's default is ten minutes.
    pub progress_interval: Duration,
    /// Every so often it is checked whether there is a leader.
    pub election_timeout: Duration,
    /// The largest message taken in, and where a response is cut if the client allows it.
    pub message_bytes_max: usize,
}

/// The service `etcdserverpb.Watch`. Cheap to clone; clones share their background tasks.
pub struct Watches<M> {
    shared: Arc<Shared<M>>,
}

/// What all streams share.
pub(crate) struct Shared<M> {
    member: M,
    settings: Settings,
    background: Background,
}

impl<M> Clone for Watches<M> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<M: Member> Watches<M> {
    /// The service of a member.
    pub fn new(member: M, settings: Settings) -> Self {
        Self {
            shared: Arc::new(Shared {
                member,
                settings,
                background: Background::default(),
            }),
        }
    }

    /// Ends every stream, and those that come: the member stops. Clients resume on another one.
    pub fn stop(&self) {
        self.shared.background.stop();
    }

    /// Sees to it that whoever watches this hub without a stream is told of changes.
    pub fn attend(&self, hub: &Arc<meridian_storage::watch::Hub>) {
        background::watch_over(&self.shared, hub);
    }

    async fn open(self, request: Request<Body>) -> Result<Stream<M>, Refusal> {
        let (head, body) = request.into_parts();
        if head.uri.path() != "/etcdserverpb.Watch/Watch" {
            return Err(Etcd::NotSupported {
                what: "this method of the service Watch",
            }
            .into());
        }
        let shared = self.shared;
        let extensions = head.extensions;
        let metadata = MetadataMap::from_headers(head.headers);
        let manner = Manner::read(&metadata, shared.settings.progress_interval);
        if manner.needs_leader && !shared.member.has_leader() {
            return Err(Etcd::NoLeader.into());
        }
        let admitted = shared.member.admit(metadata, extensions).await?;
        shared.background.note_term(shared.member.term());
        background::watch_over(&shared, &admitted.source.hub());
        Ok(Stream::new(shared, admitted, manner, body))
    }
}

impl<M> NamedService for Watches<M> {
    const NAME: &'static str = "etcdserverpb.Watch";
}

impl<M: Member> tower::Service<Request<Body>> for Watches<M> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            Ok(match this.open(request).await {
                Ok(stream) => {
                    let mut response = Response::new(Body::new(stream));
                    let grpc = HeaderValue::from_static("application/grpc");
                    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
                    response
                }
                Err(refusal) => refusal.into_status().into_http(),
            })
        })
    }
}
