//! Dialling a member: TCP, TLS if the URL says so, and the handshake.
//!
//! ```text
//! dials                                   accepts
//! Hello { cluster, member, instance, lane } ->
//!       <- HelloReply { ok, cluster, member, instance }
//! Envelope ...                            <-> Envelope ...
//! ```
//!
//! Both sides check who the other one is: the same cluster, the member that was meant, the data directory it
//! published. A member that lost its disk and came back under its old id is refused by everybody, since it
//! forgot what it promised and could help to elect two leaders.

use std::io;
use std::sync::Arc;

use futures::StreamExt;
use meridian_proto::peer::{self, HelloRefusal, Lane};
use prost::Message;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_util::codec::FramedRead;

use crate::network::connection::{Reader, Writer};
use crate::network::frame::{self, FrameDecoder};
use crate::network::tls::SharedTls;

/// The newest protocol this version speaks.
pub const PROTOCOL: u32 = 1;

/// How many bytes a connection reads at a time.
const READ_BYTES: usize = 64 * 1024;

/// Why a member was not reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Not an address one can dial.
    #[error("{0:?} is not a peer URL (http://host:port or https://host:port)")]
    Url(String),
    /// Nobody listens there: the process is gone, or not there yet.
    #[error("nobody listens at {0}")]
    NobodyListens(String),
    /// The network, or TLS.
    #[error("{operation} {address}: {source}")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// With whom.
        address: String,
        /// What came of it.
        source: io::Error,
    },
    /// It took too long.
    #[error("dialling {0} took too long")]
    TimedOut(String),
    /// The other side said no.
    #[error("member {member:x} refused the connection: {reason}")]
    Refused {
        /// Who.
        member: u64,
        /// For programs.
        refusal: HelloRefusal,
        /// For people.
        reason: String,
    },
    /// The other side is not who it should be.
    #[error("{reason}")]
    NotThem {
        /// For programs.
        refusal: HelloRefusal,
        /// For people.
        reason: String,
    },
}

/// A peer URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// Host name or address.
    pub host: String,
    /// `host:port`, for dialling.
    pub authority: String,
    /// Whether to speak TLS.
    pub tls: bool,
}

impl PeerAddress {
    /// Takes `http://host:port` or `https://host:port` apart.
    pub fn parse(url: &str) -> Result<Self, DialError> {
        let wrong = || DialError::Url(url.chars().take(200).collect());
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(wrong()),
        };
        let authority = rest.trim_end_matches('/');
        let (host, port) = authority.rsplit_once(':').ok_or_else(wrong)?;
        if host.is_empty() || authority.contains('/') || port.parse::<u16>().is_err() {
            return Err(wrong());
        }
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        Ok(Self {
            host,
            authority: authority.to_owned(),
            tls,
        })
    }
}

/// A connection after the handshake.
pub struct Dialled {
    /// What comes in.
    pub frames: FramedRead<Reader, FrameDecoder>,
    /// What goes out.
    pub writer: Writer,
    /// Who answered.
    pub reply: peer::HelloReply,
}

/// Dials one URL and says hello, all before the deadline.
pub async fn dial(
    url: &str,
    tls: Option<&SharedTls>,
    hello: &peer::Hello,
    deadline: Instant,
) -> Result<Dialled, DialError> {
    let address = PeerAddress::parse(url)?;
    match timeout_at(deadline, dial_address(&address, tls, hello)).await {
        Ok(result) => result,
        Err(_) => Err(DialError::TimedOut(address.authority)),
    }
}

async fn dial_address(
    address: &PeerAddress,
    tls: Option<&SharedTls>,
    hello: &peer::Hello,
) -> Result<Dialled, DialError> {
    let failed = |operation| {
        move |source: io::Error| DialError::Io {
            operation,
            address: address.authority.clone(),
            source,
        }
    };
    let stream = TcpStream::connect(&address.authority)
        .await
        .map_err(|source| {
            if source.kind() == io::ErrorKind::ConnectionRefused {
                DialError::NobodyListens(address.authority.clone())
            } else {
                failed("dialling")(source)
            }
        })?;
    stream.set_nodelay(true).map_err(failed("setting up"))?;
    let (reader, writer): (Reader, Writer) = if address.tls {
        let tls = tls.ok_or_else(|| {
            failed("TLS with")(io::Error::other("no peer certificates are configured"))
        })?;
        let name = ServerName::try_from(address.host.clone())
            .map_err(|error| failed("TLS with")(io::Error::other(error)))?;
        let connector = tokio_rustls::TlsConnector::from(tls.load().client.clone());
        let stream = connector
            .connect(name, stream)
            .await
            .map_err(failed("TLS with"))?;
        halves(stream)
    } else {
        let (reader, writer) = stream.into_split();
        (Box::new(reader), Box::new(writer))
    };
    greet(address, reader, writer, hello).await
}

/// Splits a TLS stream; its halves share a lock.
pub fn halves<S: AsyncRead + AsyncWrite + Send + 'static>(stream: S) -> (Reader, Writer) {
    let (reader, writer) = tokio::io::split(stream);
    (Box::new(reader), Box::new(writer))
}

/// The frames of a connection whose other side is not known yet: short ones.
pub fn frames(reader: Reader) -> FramedRead<Reader, FrameDecoder> {
    FramedRead::with_capacity(
        reader,
        FrameDecoder::new(frame::HELLO_BYTES_MAX),
        READ_BYTES,
    )
}

async fn greet(
    address: &PeerAddress,
    reader: Reader,
    mut writer: Writer,
    hello: &peer::Hello,
) -> Result<Dialled, DialError> {
    let failed = |source: io::Error| DialError::Io {
        operation: "greeting",
        address: address.authority.clone(),
        source,
    };
    let bytes = frame::encode(hello).map_err(failed)?;
    writer.write_all(&bytes).await.map_err(failed)?;
    writer.flush().await.map_err(failed)?;
    let mut frames = frames(reader);
    let bytes = match frames.next().await {
        Some(bytes) => bytes.map_err(failed)?,
        None => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
    };
    let reply = peer::HelloReply::decode(bytes).map_err(|e| failed(io::Error::other(e)))?;
    if !reply.ok {
        return Err(DialError::Refused {
            member: reply.member_id,
            refusal: reply.refusal(),
            reason: reply.reason,
        });
    }
    check_reply(hello, &reply)?;
    frames.decoder_mut().set_bytes_max(frame::FRAME_BYTES_MAX);
    Ok(Dialled {
        frames,
        writer,
        reply,
    })
}

/// Whether whoever answered is who was meant.
fn check_reply(hello: &peer::Hello, reply: &peer::HelloReply) -> Result<(), DialError> {
    if hello.lane() == Lane::Join {
        return Ok(());
    }
    let (refusal, reason) = if reply.cluster_id != hello.cluster_id {
        let reason = format!(
            "member {:x} answered, of cluster {:x}; this is cluster {:x}",
            reply.member_id, reply.cluster_id, hello.cluster_id
        );
        (HelloRefusal::WrongCluster, reason)
    } else if hello.to_member_id != 0 && reply.member_id != hello.to_member_id {
        let reason = format!(
            "member {:x} answered instead of {:x}",
            reply.member_id, hello.to_member_id
        );
        (HelloRefusal::WrongMember, reason)
    } else if reply.protocol == 0 || reply.protocol > PROTOCOL {
        (
            HelloRefusal::Protocol,
            format!("member {:x} speaks no protocol known here", reply.member_id),
        )
    } else {
        return Ok(());
    };
    Err(DialError::NotThem { refusal, reason })
}

/// What is said first, to whom, for what.
pub fn hello(
    identity: &crate::network::roster::Identity,
    to: u64,
    lane: Lane,
    membership_index: u64,
) -> peer::Hello {
    peer::Hello {
        cluster_id: identity.cluster_id,
        member_id: identity.member_id,
        instance: identity.instance,
        version: env!("CARGO_PKG_VERSION").into(),
        protocol: PROTOCOL,
        to_member_id: to,
        lane: lane.into(),
        membership_index,
    }
}

/// What is called with everything a member sends without having been asked.
pub type Pushed = Arc<dyn Fn(u64, peer::envelope::Body) + Send + Sync>;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn peer_urls_are_taken_apart() {
        let parsed = PeerAddress::parse("https://[::1]:2380/").unwrap();
        assert_eq!(
            (parsed.host.as_str(), parsed.authority.as_str()),
            ("::1", "[::1]:2380")
        );
        assert!(parsed.tls);
        assert!(!PeerAddress::parse("http://a.example:1").unwrap().tls);
        for wrong in [
            "a:1",
            "ftp://a:1",
            "http://a",
            "http://:1",
            "http://a:x",
            "http://a:1/p",
        ] {
            assert!(PeerAddress::parse(wrong).is_err(), "{wrong}");
        }
    }
}
