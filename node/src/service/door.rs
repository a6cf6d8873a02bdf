//! The door on the client port: gRPC to the left, HTTP to the right, and a count of every call.
//!
//! ```text
//!   content-type: application/grpc...  -> known method? -> room? -> tonic -> count by code
//!   anything else                      -> axum: /health /metrics /version ... and the JSON gateway
//! ```
//!
//! tonic words two refusals differently from etcd's clients' own library; they are put right here
//! ([`put_right`]): a message that is too large, and a method nobody knows.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use prometheus::{Histogram, IntCounter};
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::ServiceExt;
use tracing::Instrument;

use crate::authn::evidence::{Peer, TOKEN_KEY};
use crate::metrics;
use crate::service::MESSAGE_BYTES_MAX;
use crate::status::{Etcd, Refusal};
use crate::telemetry::continue_trace;

/// Calls open at a time, watches included, over all connections.
pub const CALLS_MAX: usize = 262_144;

/// Where requests on the client port go. Cheap to clone; one per connection.
#[derive(Clone)]
pub struct Door {
    grpc: Grpc,
    http: axum::Router,
    peer: Option<Arc<Peer>>,
}

/// Every gRPC service, counted. Cheap to clone.
#[derive(Clone)]
pub struct Grpc {
    services: axum::Router,
    calls: Arc<Calls>,
}

/// Every method there is, with its counters.
struct Calls {
    methods: HashMap<String, Method>,
    open: AtomicUsize,
}

struct Method {
    kind: &'static str,
    service: String,
    name: String,
    started: IntCounter,
    ok: IntCounter,
    seconds: Option<Histogram>,
}

impl Grpc {
    /// These services. `extensive` measures how long each call takes.
    pub fn new(services: Routes, extensive: bool) -> Self {
        let mut methods = HashMap::new();
        for service in meridian_proto::descriptors().services() {
            for method in service.methods() {
                let kind = match (method.is_client_streaming(), method.is_server_streaming()) {
                    (false, false) => "unary",
                    (false, true) => "server_stream",
                    (true, false) => "client_stream",
                    (true, true) => "bidi_stream",
                };
                let labels = [kind, service.full_name(), method.name()];
                methods.insert(
                    format!("/{}/{}", service.full_name(), method.name()),
                    Method {
                        kind,
                        service: service.full_name().to_owned(),
                        name: method.name().to_owned(),
                        started: metrics::GRPC_STARTED.with_label_values(&labels),
                        ok: metrics::GRPC_HANDLED
                            .with_label_values(&[labels[0], labels[1], labels[2], "OK"]),
                        seconds: extensive
                            .then(|| metrics::GRPC_SECONDS.with_label_values(&labels)),
                    },
                );
            }
        }
        Self {
            services: services.prepare().into_axum_router(),
            calls: Arc::new(Calls {
                methods,
                open: AtomicUsize::new(0),
            }),
        }
    }

    /// Serves one call.
    pub async fn serve<B>(self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let path = request.uri().path();
        let Some(call) = Call::begin(&self.calls, path) else {
            return refuse(unknown_method(&self.calls, path));
        };
        count_client(request.headers(), call.method().kind);
        if self.calls.open.load(Ordering::Relaxed) > CALLS_MAX {
            let what = format!("this member has {CALLS_MAX} calls open");
            return call.count(refuse(
                Refusal::from(Etcd::TooManyRequests { what }).into_status(),
            ));
        }
        let span = tracing::debug_span!("call", path);
        continue_trace(&span, request.headers());
        let request = request.map(Body::new);
        let Ok(mut response) = self.services.oneshot(request).instrument(span).await;
        put_right(response.headers_mut());
        call.count(response)
    }
}

impl Door {
    /// A door to gRPC on one side, to everything else on the other.
    pub fn new(grpc: Grpc, http: axum::Router) -> Self {
        Self {
            grpc,
            http,
            peer: None,
        }
    }

    /// The door as one connection sees it.
    #[must_use]
    pub fn for_connection(mut self, peer: Peer) -> Self {
        self.peer = Some(Arc::new(peer));
        self
    }

    async fn answer(mut self, mut request: Request<Incoming>) -> Response<Body> {
        let is_grpc = is_grpc(request.headers());
        // Only who shows something, or is about to, is looked at: the others are spared the room for it.
        if let Some(peer) = self.peer.take()
            && (!is_grpc || shows_something(&peer, &request))
        {
            request.extensions_mut().insert(peer);
        }
        if !is_grpc {
            let Ok(response) = self.http.oneshot(request).await;
            return response;
        }
        self.grpc.serve(request).await
    }
}

impl hyper::service::Service<Request<Incoming>> for Door {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let door = self.clone();
        Box::pin(async move { Ok(door.answer(request).await) })
    }
}

fn shows_something(peer: &Peer, request: &Request<Incoming>) -> bool {
    peer.certificate.is_some()
        || request.headers().contains_key(header::AUTHORIZATION)
        || request.headers().contains_key(TOKEN_KEY)
        || request.uri().path() == "/etcdserverpb.Auth/Authenticate"
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn refuse(status: Status) -> Response<Body> {
    status.into_http()
}

fn unknown_method(calls: &Calls, path: &str) -> Status {
    let (service, method) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or((path, ""));
    let known = calls.methods.values().any(|known| known.service == service);
    Status::unimplemented(if known {
        format!("unknown method {method} for service {service}")
    } else {
        format!("unknown service {service}")
    })
}

fn count_client(headers: &HeaderMap, kind: &'static str) {
    let said = headers
        .get("client-api-version")
        .and_then(|version| version.to_str().ok());
    let kind = if kind == "unary" { "unary" } else { "stream" };
    metrics::CLIENT_REQUESTS
        .with_label_values(&[kind, metrics::client_version(said)])
        .inc();
}

/// Puts tonic's words for a message that is too large into those of etcd's clients' library.
fn put_right(headers: &mut HeaderMap) {
    const TOO_LARGE: &[u8] = b"Error, decoded message length too large: found ";
    if headers.get(Status::GRPC_STATUS).map(HeaderValue::as_bytes) != Some(b"11") {
        return;
    }
    let Some(status) = Status::from_header_map(headers) else {
        return;
    };
    let Some(rest) = status.message().as_bytes().strip_prefix(TOO_LARGE) else {
        return;
    };
    let digits: Vec<u8> = rest
        .iter()
        .copied()
        .take_while(u8::is_ascii_digit)
        .collect();
    let bytes = String::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok());
    let refusal = Refusal::from(Etcd::MessageTooLarge {
        bytes: bytes.unwrap_or(0),
        limit: MESSAGE_BYTES_MAX as u64,
    });
    headers.remove(Status::GRPC_STATUS);
    headers.remove(Status::GRPC_MESSAGE);
    // Adding to headers fails only for text that can not stand in one; then the code alone remains.
    let _ = refusal.into_status().add_header(headers);
}

/// One call on its way; counted when its answer ends.
struct Call {
    calls: Arc<Calls>,
    path: String,
    began: Instant,
    code: Option<Code>,
}

impl Call {
    fn begin(calls: &Arc<Calls>, path: &str) -> Option<Self> {
        let method = calls.methods.get(path)?;
        method.started.inc();
        calls.open.fetch_add(1, Ordering::Relaxed);
        Some(Self {
            calls: Arc::clone(calls),
            path: path.to_owned(),
            began: Instant::now(),
            code: None,
        })
    }

    fn method(&self) -> &Method {
        #[expect(
            clippy::indexing_slicing,
            reason = "`begin` found the path in the same map"
        )]
        &self.calls.methods[&self.path]
    }

    fn count(mut self, response: Response<Body>) -> Response<Body> {
        self.see(response.headers());
        response.map(|body| Body::new(Counted { body, call: self }))
    }

    fn see(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get(Status::GRPC_STATUS) {
            self.code = Some(Code::from_bytes(status.as_bytes()));
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.calls.open.fetch_sub(1, Ordering::Relaxed);
        let method = self.method();
        if let Some(seconds) = &method.seconds {
            seconds.observe(self.began.elapsed().as_secs_f64());
        }
        match self.code {
            Some(Code::Ok) => method.ok.inc(),
            code => metrics::GRPC_HANDLED
                .with_label_values(&[
                    method.kind,
                    method.service.as_str(),
                    method.name.as_str(),
                    code_name(code.unwrap_or(Code::Cancelled)),
                ])
                .inc(),
        }
    }
}

/// The names grpc-go gives codes in its metrics.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

/// An answer on its way out, with the call it belongs to.
struct Counted {
    body: Body,
    call: Call,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
        {
            self.call.see(trailers);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
