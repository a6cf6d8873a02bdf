//! The JSON gateway: etcd's API for whoever speaks HTTP and JSON.
//!
//! ```text
//!   POST /v3/kv/put  {"key":"Zm9v",..}
//!     -> route    which method
//!     -> request  headers to metadata, JSON to messages
//!     -> the gRPC services of this member, as any client reaches them
//!     -> response messages to JSON, status to HTTP
//! ```
//!
//! The gateway is a client like any other: it has no way around the services, so no rule can be missed here.
//! Streams are one JSON object per line, in both directions; or one per message, over a WebSocket ([`socket`]).
//!
//! Deliberately absent: what a request means.

pub mod json;
pub mod request;
pub mod response;
pub mod route;
pub mod socket;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::any;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use prost_reflect::{MessageDescriptor, MethodDescriptor};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::Status;

use self::request::Objects;
use self::response::Messages;
use self::socket::Sockets;
use crate::authn::evidence::Peer;
use crate::service::door::Grpc;
use crate::status::{Etcd, Refusal};

/// Without a timeout of the caller's a call may take as long as it likes.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The routes, served by the gRPC services.
pub fn router(grpc: Grpc, sockets: Sockets) -> Router {
    Router::new()
        .route("/v3/", any(serve))
        .route("/v3/{*path}", any(serve))
        .route("/v3beta/", any(serve))
        .route("/v3beta/{*path}", any(serve))
        .with_state((grpc, sockets))
}

async fn serve(
    State((grpc, sockets)): State<(Grpc, Sockets)>,
    request: Request<Body>,
) -> Response<Body> {
    let mut response = if request.method() == Method::OPTIONS {
        Response::new(Body::empty())
    } else if socket::is_asked_for(request.headers()) {
        sockets.accept(grpc, request).await
    } else {
        answer(grpc, request).await
    };
    allow_origins(response.headers_mut());
    response
}

/// Any page may ask: what protects the data is who asks, not from which page.
fn allow_origins(headers: &mut HeaderMap) {
    for (name, value) in [
        (
            header::ACCESS_CONTROL_ALLOW_METHODS,
            "POST, GET, OPTIONS, PUT, DELETE",
        ),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "accept, content-type, authorization",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

async fn answer(grpc: Grpc, request: Request<Body>) -> Response<Body> {
    let Some(method) = route::find(request.uri().path()) else {
        return response::refusal(&Status::not_found("Not Found"));
    };
    if request.method() != Method::POST {
        return response::refusal(&Status::unimplemented("Method Not Allowed"));
    }
    let (head, body) = request.into_parts();
    let (metadata, timeout) = match request::metadata(&head.headers) {
        Ok(read) => read,
        Err(status) => return response::refusal(&status),
    };
    let deadline = Instant::now() + timeout.unwrap_or(FOR_EVER).min(FOR_EVER);
    let mut objects = Objects::new(body, method.input());
    // The first one is read before the call: most mistakes are found before anything is done.
    let first = match tokio::time::timeout_at(deadline, objects.next()).await {
        Ok(Ok(first)) => first,
        Ok(Err(status)) => return response::refusal(&status),
        Err(_) => return response::refusal(&too_late()),
    };
    let (body, trouble) = if method.is_client_streaming() {
        let (body, trouble) = stream(first, objects);
        (body, Some(trouble))
    } else {
        (
            Body::from(first.unwrap_or_else(|| request::framed(&[]))),
            None,
        )
    };
    let mut call = Request::new(body);
    *call.method_mut() = Method::POST;
    *call.version_mut() = http::Version::HTTP_2;
    *call.headers_mut() = metadata;
    let Ok(uri) = path(method).parse() else {
        return response::refusal(&Status::not_found("Not Found"));
    };
    *call.uri_mut() = uri;
    if let Some(peer) = head.extensions.get::<Arc<Peer>>() {
        call.extensions_mut().insert(Arc::clone(peer));
    }
    let Ok(answered) = tokio::time::timeout_at(deadline, grpc.serve(call)).await else {
        return response::refusal(&too_late());
    };
    let mut headers = HeaderMap::new();
    response::show_metadata(answered.headers(), &mut headers);
    let messages = Messages::new(answered);
    let mut response = if method.is_server_streaming() {
        let lines = Lines {
            messages,
            of: method.output(),
            deadline,
            trouble,
            over: false,
        };
        lines.begin().await
    } else {
        one(messages, &method.output(), deadline).await
    };
    response.headers_mut().extend(headers);
    response
}

fn path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

fn too_late() -> Status {
    Refusal::from(Etcd::DeadlineExceeded).into()
}

/// The one answer to a call.
async fn one(mut messages: Messages, of: &MessageDescriptor, deadline: Instant) -> Response<Body> {
    let whole = async {
        let Some(message) = messages.next().await? else {
            return Err(Status::internal("there was no answer"));
        };
        // The status follows the message.
        while messages.next().await?.is_some() {}
        response::json_of(of, message)
    };
    match tokio::time::timeout_at(deadline, whole).await {
        Ok(Ok(json)) => response::answer(StatusCode::OK, Body::from(json)),
        Ok(Err(status)) => response::refusal(&status),
        Err(_) => response::refusal(&too_late()),
    }
}

/// The messages of a streaming request as they come in, and word of one that could not be read.
fn stream(first: Option<Bytes>, objects: Objects) -> (Body, oneshot::Receiver<Status>) {
    let (trouble, heard) = oneshot::channel();
    let rest = futures::stream::unfold((objects, trouble), |(mut objects, trouble)| async {
        match objects.next().await {
            Ok(Some(message)) => Some((message, (objects, trouble))),
            Ok(None) => None,
            Err(status) => {
                // The other side may be gone already; then nobody needs to know.
                let _ = trouble.send(status);
                None
            }
        }
    });
    let messages = futures::stream::iter(first).chain(rest);
    (Body::from_stream(messages.map(Ok::<_, Infallible>)), heard)
}

/// The lines of a streaming answer.
struct Lines {
    messages: Messages,
    of: MessageDescriptor,
    deadline: Instant,
    trouble: Option<oneshot::Receiver<Status>>,
    over: bool,
}

impl Lines {
    /// Waits for the first line: it decides the HTTP status.
    async fn begin(mut self) -> Response<Body> {
        match self.next().await {
            Ok(first) => {
                let lines = futures::stream::iter(first).chain(self.rest());
                let body = Body::from_stream(lines.map(Ok::<_, Infallible>));
                response::answer(StatusCode::OK, body)
            }
            Err(status) => response::stream_refusal(&status),
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let Self {
            messages,
            deadline,
            trouble,
            ..
        } = self;
        let unreadable = async {
            if let Some(heard) = trouble {
                let said = heard.await;
                // What was heard is not asked for again.
                *trouble = None;
                if let Ok(status) = said {
                    return status;
                }
            }
            std::future::pending().await
        };
        let message = tokio::select! {
            biased;
            message = messages.next() => message?,
            status = unreadable => return Err(status),
            () = tokio::time::sleep_until(*deadline) => return Err(too_late()),
        };
        message
            .map(|message| response::line(&self.of, message))
            .transpose()
    }

    fn rest(self) -> impl Stream<Item = Bytes> + Send {
        futures::stream::unfold(self, |mut lines| async {
            if lines.over {
                return None;
            }
            match lines.next().await {
                Ok(line) => line.map(|line| (line, lines)),
                Err(status) => {
                    lines.over = true;
                    Some((response::error_line(&status), lines))
                }
            }
        })
    }
}
