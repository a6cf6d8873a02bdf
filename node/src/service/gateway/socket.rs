//! WebSocket before the gateway, for those who can not stream the body of a request: pages in a browser.
//!
//! ```text
//!   GET /v3/watch  Upgrade: websocket
//!     a message in     {"create_request":{..}}     -> one JSON object of a POST to the same path
//!     a message out    {"result":{..}}             <- one line of its answer
//! ```
//!
//! The same as in front of etcd's gateway: any path of the table, one call per socket, the answer's end closes the
//! socket, the socket's end ends the call. The sub-protocols `Bearer, <token>` become `Authorization: Bearer <token>`.
//! Cookies are not looked at: a foreign page could send them.
//!
//! Bounded: sockets of a member ([`SOCKETS_MAX`]), the size of a message, messages read ahead of the call
//! ([`AHEAD`]). One whose other side does not answer a ping within [`PING`] is closed.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::IntoResponse;
use bytes::{Bytes, BytesMut};
use futures::stream::SplitStream;
use futures::{SinkExt, StreamExt};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use super::request::OBJECT_BYTES_MAX;
use super::{answer, response, route};
use crate::service::door::Grpc;
use crate::status::{Etcd, Refusal};

/// Sockets open at a time, of all clients.
const SOCKETS_MAX: usize = 4096;
/// Messages that were read and that the call did not take yet.
const AHEAD: usize = 4;
/// How often the other side is asked whether it is there, and how long it may take to say so.
const PING: Duration = Duration::from_secs(30);
/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// The sub-protocol that carries a token.
const BEARER: &str = "Bearer";

/// The sockets of a member.
#[derive(Clone)]
pub struct Sockets {
    room: Arc<Semaphore>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Sockets {
    /// None yet. They end at `stop` and are tracked in `tasks`.
    pub fn new(stop: CancellationToken, tasks: TaskTracker) -> Self {
        Self {
            room: Arc::new(Semaphore::new(SOCKETS_MAX)),
            stop,
            tasks,
        }
    }

    /// Makes a request a socket, and that one call.
    pub async fn accept(self, grpc: Grpc, request: Request<Body>) -> Response<Body> {
        if route::find(request.uri().path()).is_none() {
            return response::refusal(&Status::not_found("Not Found"));
        }
        let Ok(place) = Arc::clone(&self.room).try_acquire_owned() else {
            let what = format!("this member has {SOCKETS_MAX} WebSockets open");
            return response::refusal(&Refusal::from(Etcd::TooManyRequests { what }).into());
        };
        let (mut head, _) = request.into_parts();
        let upgrade = WebSocketUpgrade::from_request_parts(&mut head, &()).await;
        let mut upgrade = match upgrade {
            Ok(upgrade) => upgrade
                .max_message_size(OBJECT_BYTES_MAX)
                .max_frame_size(OBJECT_BYTES_MAX)
                // Each message is written out before the next one is taken.
                .write_buffer_size(0),
            Err(rejection) => return rejection.into_response(),
        };
        if let Some(token) = token(&head.headers) {
            upgrade.set_selected_protocol(HeaderValue::from_static(BEARER));
            head.headers.insert(header::AUTHORIZATION, token);
        }
        head.method = Method::POST;
        let Self { stop, tasks, .. } = self;
        upgrade.on_upgrade(move |socket| {
            tasks.track_future(async move {
                converse(socket, grpc, head, &stop).await;
                drop(place);
            })
        })
    }
}

/// Whether a request asks for a socket.
pub fn is_asked_for(headers: &HeaderMap) -> bool {
    headers
        .get(header::UPGRADE)
        .is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// What stands behind `Bearer,` among the sub-protocols, as the value of a header.
fn token(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocols = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let token = protocols.strip_prefix(BEARER)?.trim_start();
    let token = token.strip_prefix(',')?.trim();
    HeaderValue::try_from(format!("{BEARER} {token}")).ok()
}

/// Carries one call over a socket, until either side ends or the member stops.
async fn converse(socket: WebSocket, grpc: Grpc, head: Parts, stop: &CancellationToken) {
    let (mut outgoing, incoming) = socket.split();
    let (objects, body) = mpsc::channel(AHEAD);
    let body = Body::from_stream(ReceiverStream::new(body).map(Ok::<_, Infallible>));
    let heard = AtomicBool::new(true);
    let lines = futures::stream::once(answer(grpc, Request::from_parts(head, body)))
        .map(|response| response.into_body().into_data_stream())
        .flatten();
    let mut lines = pin!(lines);
    let call = async {
        let mut ping = tokio::time::interval(PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let message = tokio::select! {
                line = lines.next() => match line {
                    Some(Ok(line)) => text(&line),
                    _ => return close_code::NORMAL,
                },
                _ = ping.tick() => {
                    if !heard.swap(false, Ordering::Relaxed) {
                        return close_code::AWAY;
                    }
                    Some(Message::Ping(Bytes::new()))
                }
            };
            if let Some(message) = message
                && outgoing.send(message).await.is_err()
            {
                return close_code::AWAY;
            }
        }
    };
    let code = tokio::select! {
        code = call => code,
        code = read(incoming, objects, &heard) => code,
        () = stop.cancelled() => close_code::AWAY,
    };
    let frame = CloseFrame {
        code,
        reason: Utf8Bytes::default(),
    };
    let goodbye = outgoing.send(Message::Close(Some(frame)));
    // The other side may be gone, or not reading: then it does not hear it.
    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
}

/// A line of the answer as a message: without what ends it.
fn text(line: &Bytes) -> Option<Message> {
    let end = line.strip_suffix(b"\n").map_or(line.len(), <[u8]>::len);
    let text = Utf8Bytes::try_from(line.slice(..end)).ok()?;
    (!text.is_empty()).then_some(Message::Text(text))
}

/// Hands messages to the call until the other side ends. Says with which code to answer.
async fn read(
    mut incoming: SplitStream<WebSocket>,
    objects: mpsc::Sender<Bytes>,
    heard: &AtomicBool,
) -> u16 {
    while let Some(message) = incoming.next().await {
        heard.store(true, Ordering::Relaxed);
        let object = match message {
            Ok(Message::Text(text)) => Bytes::from(text),
            Ok(Message::Binary(bytes)) => bytes,
            Ok(Message::Ping(_) | Message::Pong(_)) => continue,
            Ok(Message::Close(_)) => return close_code::NORMAL,
            Err(_) => return close_code::PROTOCOL,
        };
        let mut line = BytesMut::with_capacity(object.len() + 1);
        line.extend_from_slice(&object);
        line.extend_from_slice(b"\n");
        // A call that took all it wanted does not hear the rest; that the socket ends, it does.
        let _ = objects.send(line.freeze()).await;
    }
    close_code::AWAY
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(protocols: &'static str) -> HeaderMap {
        let value = HeaderValue::from_static(protocols);
        HeaderMap::from_iter([(header::SEC_WEBSOCKET_PROTOCOL, value)])
    }

    #[test]
    fn a_token_among_the_sub_protocols_becomes_a_header() {
        let found = token(&headers("Bearer, abc.123"));
        assert_eq!(found, Some(HeaderValue::from_static("Bearer abc.123")));
        let found = token(&headers("Bearer,abc"));
        assert_eq!(found, Some(HeaderValue::from_static("Bearer abc")));
        for none in ["graphql-ws", "Bearer", "Bearers, x", "x, Bearer, y"] {
            assert_eq!(token(&headers(none)), None, "{none}");
        }
        assert_eq!(token(&HeaderMap::new()), None);
    }
}
