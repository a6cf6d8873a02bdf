//! Accepting members: TCP, TLS, the handshake, and then one task per connection.
//!
//! ```text
//! frame --+--> a question: its answer joins those under way (bounded; when full, nothing more is read)
//!         +--> a piece of a snapshot: taken at once, in order
//!         +--> writes forwarded to the leader: handed to openraft at once
//! ```
//!
//! The task reads, works on the questions and writes the answers by itself; there are no locks and no queues
//! between. A second connection of the same member for the same lane ends the first: the member forgot it.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use meridian_proto::peer::{self, HelloRefusal, Lane, RefusalCode, envelope::Body};
use parking_lot::Mutex;
use prost::Message;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::codec::FramedRead;
use tokio_util::sync::CancellationToken;

use crate::network::connection::{Reader, Writer};
use crate::network::dial::{self, PROTOCOL};
use crate::network::frame::{self, FrameDecoder};
use crate::network::serve::{self, Guest};
use crate::network::traffic::Meter;
use crate::replica::Core;

/// How long the handshake may take.
const HELLO_TIME: Duration = Duration::from_secs(5);
/// How long one answer may take to leave.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// The most connections that are open or being greeted at a time.
const CONNECTIONS_MAX: usize = 1024;
/// The most questions of one connection that are worked on at a time.
const QUESTIONS_MAX: usize = 512;
/// The most refusals that wait to be told; further ones are dropped, and their writes wait for their end.
const PUSHED_MAX: usize = 4096;

/// The connections of each member and lane.
#[derive(Default)]
pub struct Guests(Mutex<HashMap<(u64, i32), CancellationToken>>);

impl Guests {
    /// Takes the place of an earlier connection of the same member and lane.
    fn replace(&self, member: u64, lane: Lane) -> CancellationToken {
        let token = CancellationToken::new();
        let earlier = self.0.lock().insert((member, lane.into()), token.clone());
        if let Some(earlier) = earlier {
            earlier.cancel();
        }
        token
    }

    /// Whether a member has an open connection on a lane.
    pub fn has(&self, member: u64, lane: Lane) -> bool {
        self.0
            .lock()
            .get(&(member, lane.into()))
            .is_some_and(|token| !token.is_cancelled())
    }
}

/// Accepts members on a listener until the member stops.
pub async fn accept(core: Arc<Core>, listener: TcpListener) {
    let room = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = core.stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a peer connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(place) = room.clone().try_acquire_owned() else {
            tracing::warn!(%from, "too many peer connections");
            continue;
        };
        let core = core.clone();
        tokio::spawn(async move {
            let stopping = core.stopping.clone();
            tokio::select! {
                () = stopping.cancelled() => {}
                result = welcome(&core, stream) => {
                    if let Err(error) = result {
                        tracing::debug!(%from, %error, "a peer connection ended");
                    }
                }
            }
            drop(place);
        });
    }
}

async fn welcome(core: &Arc<Core>, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let greeting = async {
        let (reader, writer): (Reader, Writer) = if let Some(tls) = &core.tls {
            let acceptor = tokio_rustls::TlsAcceptor::from(tls.load().server.clone());
            dial::halves(acceptor.accept(stream).await?)
        } else {
            let (reader, writer) = stream.into_split();
            (Box::new(reader), Box::new(writer))
        };
        greet(core, reader, writer).await
    };
    let greeted = tokio::time::timeout(HELLO_TIME, greeting).await;
    let Some((hello, frames, writer)) = greeted.map_err(|_| io::ErrorKind::TimedOut)?? else {
        return Ok(());
    };
    let member = hello.member_id;
    let lane = hello.lane();
    let replaced = if lane == Lane::Join {
        CancellationToken::new()
    } else {
        core.guests.replace(member, lane)
    };
    let result = tokio::select! {
        () = replaced.cancelled() => Ok(()),
        result = converse(core, &hello, frames, writer) => result,
    };
    replaced.cancel();
    if lane == Lane::Heartbeat {
        core.bereaved(member);
    }
    result
}

type Greeted = Option<(peer::Hello, FramedRead<Reader, FrameDecoder>, Writer)>;

/// Hears the hello and answers it. None if the answer was no.
async fn greet(core: &Core, reader: Reader, mut writer: Writer) -> io::Result<Greeted> {
    let mut frames = dial::frames(reader);
    let bytes = frames.next().await.ok_or(io::ErrorKind::UnexpectedEof)??;
    let hello = peer::Hello::decode(bytes).map_err(io::Error::other)?;
    let roster = core.peers.roster();
    let identity = roster.identity();
    let refused = if hello.protocol == 0 {
        Some((HelloRefusal::Protocol, "no protocol was named".to_owned()))
    } else {
        match hello.lane() {
            Lane::Join => None,
            Lane::Unspecified => Some((HelloRefusal::Protocol, "unknown lane".to_owned())),
            _ => roster.admits(&hello).err(),
        }
    };
    let (refusal, reason) = refused
        .clone()
        .unwrap_or((HelloRefusal::Unspecified, String::new()));
    let reply = peer::HelloReply {
        ok: refused.is_none(),
        reason,
        member_id: identity.member_id,
        protocol: PROTOCOL.min(hello.protocol),
        version: env!("CARGO_PKG_VERSION").into(),
        cluster_id: identity.cluster_id,
        instance: identity.instance,
        refusal: refusal.into(),
    };
    writer.write_all(&frame::encode(&reply)?).await?;
    writer.flush().await?;
    if let Some((_, reason)) = refused {
        tracing::warn!(
            member = format_args!("{:x}", hello.member_id),
            reason,
            "refused a peer"
        );
        return Ok(None);
    }
    frames.decoder_mut().set_bytes_max(frame::FRAME_BYTES_MAX);
    Ok(Some((hello, frames, writer)))
}

/// Reads, answers, and writes, until the connection ends.
async fn converse(
    core: &Arc<Core>,
    hello: &peer::Hello,
    mut frames: FramedRead<Reader, FrameDecoder>,
    mut writer: Writer,
) -> io::Result<()> {
    let meter = Meter::of(hello.member_id);
    let mut guest = Guest::new(hello.member_id, hello.lane());
    let mut working = FuturesUnordered::new();
    let (push, mut pushed) = mpsc::channel::<Body>(PUSHED_MAX);
    loop {
        tokio::select! {
            biased;
            Some((id, body)) = working.next() => {
                answer(&mut writer, &meter, id, body).await?;
            }
            Some(body) = pushed.recv() => {
                answer(&mut writer, &meter, 0, body).await?;
            }
            next = frames.next(), if working.len() < QUESTIONS_MAX => {
                let Some(bytes) = next else { return Ok(()) };
                let bytes = bytes?;
                meter.received(bytes.len());
                let envelope = peer::Envelope::decode(bytes).map_err(io::Error::other)?;
                match envelope.body {
                    Some(Body::Propose(propose)) => {
                        serve::take_writes(core, hello.member_id, propose, &push).await;
                    }
                    Some(Body::SnapshotHeader(header)) => {
                        let body = guest.begin_snapshot(core, header).await;
                        answer(&mut writer, &meter, envelope.id, body).await?;
                    }
                    Some(Body::SnapshotChunk(chunk)) => {
                        if let Some(body) = guest.take_chunk(core, chunk).await {
                            answer(&mut writer, &meter, envelope.id, body).await?;
                        }
                    }
                    Some(body) => {
                        let (core, lane, id) = (core.clone(), hello.lane(), envelope.id);
                        working.push(async move { (id, serve::answer(&core, lane, body).await) });
                    }
                    None => {
                        let body = refusal(RefusalCode::UnknownQuestion, "not understood here");
                        answer(&mut writer, &meter, envelope.id, body).await?;
                    }
                }
            }
        }
    }
}

async fn answer(writer: &mut Writer, meter: &Meter, id: u64, body: Body) -> io::Result<()> {
    let bytes = frame::encode(&peer::Envelope {
        id,
        body: Some(body),
    })?;
    let written = async {
        writer.write_all(&bytes).await?;
        writer.flush().await
    };
    tokio::time::timeout(ANSWER_TIME, written)
        .await
        .map_err(|_| io::ErrorKind::TimedOut)??;
    meter.sent(bytes.len());
    Ok(())
}

/// "I can not answer that."
pub fn refusal(code: RefusalCode, reason: &str) -> Body {
    Body::Refusal(peer::Refusal {
        code: code.into(),
        reason: reason.into(),
        leader_id: 0,
    })
}
