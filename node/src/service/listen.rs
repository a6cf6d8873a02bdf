//! The client port: accepts, encrypts, and hands each connection to HTTP.
//!
//! ```text
//!   accept -> room for one more? -> nodelay -> TLS (if on) -> authority -> HTTP/1 or HTTP/2 -> door
//! ```
//!
//! Everything a stranger can make grow has a bound here: connections, the time of a handshake, the time until
//! the first byte, the size of headers, streams per connection, streams that are reset as soon as opened.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authn::certificate::{Named, Naming};
use crate::authn::evidence::Peer;
use crate::metrics;
use crate::service::authority::Mended;
use crate::service::door::Door;

/// A connection must say something within this time after it was opened.
const FIRST_BYTE: Duration = Duration::from_secs(30);
/// A TLS handshake must end within this time.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A quiet connection is asked whether it is still there.
const KEEPALIVE_INTERVAL: Duration = Duration::from_hours(2);
/// And must answer within this time.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// The headers of one request, in bytes.
const HEADER_LIST_BYTES: u32 = 64 << 10;
/// What one stream may send before it is read from: a whole request without a round trip.
const STREAM_WINDOW: u32 = 1 << 20;
/// What all streams of a connection may send before they are read from.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Streams that were reset before they were looked at; more end the connection (rapid reset).
const PENDING_RESETS: usize = 64;
/// Bytes of an answer that wait for the client to read them, per stream.
const SEND_BUFFER: usize = 256 << 10;
/// Files kept for what is no client: the log, history, snapshots, the other members.
const FILES_KEPT: usize = 256;
/// Between two tries to accept when the system refuses (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Room for so many connections, or for fewer if the system does not let this process have the files: without
/// one the log could not go on.
pub fn room(most: usize) -> Arc<Semaphore> {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let files = files.map_or(usize::MAX, |files| {
        usize::try_from(files).unwrap_or(usize::MAX)
    });
    let fit = files.saturating_sub(FILES_KEPT).max(files / 4);
    if fit < most {
        tracing::warn!(
            files,
            connections = fit,
            "fewer client connections than --max-connections: the limit of open files is too low"
        );
    }
    Arc::new(Semaphore::new(most.min(fit)))
}

/// One client port.
pub struct Listener {
    /// The socket, bound and listening.
    pub socket: TcpListener,
    /// Certificates, if the port is encrypted.
    pub tls: Option<Arc<ArcSwap<ServerConfig>>>,
    /// Where requests go.
    pub door: Door,
    /// Room for connections, shared by all ports of this member.
    pub room: Arc<Semaphore>,
    /// The most streams of one connection.
    pub streams: u32,
    /// What of a client's certificate is its name.
    pub naming: Naming,
}

impl Listener {
    /// Accepts until `stop`; then no new connections. Open ones, tracked in `open`, are asked to end after what
    /// they have begun, and are cut off at `end`.
    pub async fn serve(self, stop: CancellationToken, end: CancellationToken, open: TaskTracker) {
        let http = Arc::new(http(self.streams));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.socket.accept() => accepted,
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    pause_after(&error).await;
                    continue;
                }
            };
            let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
                metrics::CONNECTIONS_REFUSED.inc();
                continue;
            };
            let connection = Connection {
                http: Arc::clone(&http),
                tls: self.tls.as_ref().map(|tls| tls.load_full()),
                door: self.door.clone(),
                place: Place::take(room),
                stop: stop.clone(),
                naming: self.naming,
            };
            let end = end.clone();
            open.spawn(async move {
                tokio::select! {
                    () = connection.serve(stream, from) => {}
                    () = end.cancelled() => {}
                }
            });
        }
    }
}

/// A failed accept is the client's doing, or there are no file descriptors left: neither ends the port.
async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionReset) {
        tracing::warn!(%error, "a connection could not be accepted");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

fn http(streams: u32) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(FIRST_BYTE)
        .max_buf_size(HEADER_LIST_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .max_header_list_size(HEADER_LIST_BYTES)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(PENDING_RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    builder
}

struct Connection {
    http: Arc<auto::Builder<TokioExecutor>>,
    tls: Option<Arc<ServerConfig>>,
    door: Door,
    place: Place,
    stop: CancellationToken,
    naming: Naming,
}

impl Connection {
    async fn serve(self, stream: TcpStream, from: SocketAddr) {
        // Without it every small answer waits for the client's delayed acknowledgement.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let Some(tls) = self.tls.clone() else {
            if tokio::time::timeout(FIRST_BYTE, stream.readable())
                .await
                .is_ok()
            {
                self.speak_http(stream, None, from).await;
            }
            return;
        };
        let handshake = TlsAcceptor::from(tls).accept(stream);
        match tokio::time::timeout(HANDSHAKE, handshake).await {
            Ok(Ok(stream)) => {
                let certificate = stream
                    .get_ref()
                    .1
                    .peer_certificates()
                    .and_then(|chain| chain.first())
                    .map(|leaf| Named::read(leaf, self.naming));
                if let Some(trouble) = certificate.as_ref().and_then(Named::trouble) {
                    tracing::debug!(%from, trouble, "a client certificate names nobody");
                }
                self.speak_http(stream, certificate, from).await;
            }
            Ok(Err(error)) => {
                metrics::HANDSHAKES_FAILED.inc();
                tracing::debug!(%from, %error, "a TLS handshake failed");
            }
            Err(_) => {
                metrics::HANDSHAKES_FAILED.inc();
                tracing::debug!(%from, "a TLS handshake took too long");
            }
        }
    }

    async fn speak_http<S>(self, stream: S, certificate: Option<Named>, from: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let door = self.door.for_connection(Peer {
            address: from.ip().to_canonical(),
            certificate: certificate.map(Arc::new),
        });
        let stream = TokioIo::new(Mended::new(stream, self.place));
        let connection = self.http.serve_connection_with_upgrades(stream, door);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%from, %error, "a connection ended early");
        }
    }
}

/// A connection's place among all that are open. It goes with the stream, whatever the stream is used for: HTTP, or
/// what HTTP was left for.
struct Place {
    _room: OwnedSemaphorePermit,
}

impl Place {
    fn take(room: OwnedSemaphorePermit) -> Self {
        metrics::CONNECTIONS.inc();
        Self { _room: room }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        metrics::CONNECTIONS.dec();
    }
}
