//! Authorities that are none: what some of etcd's clients send as the name of the server.
//!
//! The maintenance calls of etcdctl 3.4 send the whole URL (`http://127.0.0.1:2379`) as `:authority`, clients 3.5.0
//! send `#initially=[..]`. etcd does not look at it. The HTTP/2 library does, and ends the call. Nobody behind this
//! door looks at it either, so it is mended before the library sees it:
//!
//! ```text
//!   first bytes  not HTTP/2 ------------------------------> plain: never looked at again
//!        |
//!   frames       first header block, its authority is one -> plain
//!        |
//!                its authority is none -> this connection's header blocks are all looked at, and mended
//! ```
//!
//! What may not stand in an authority becomes `-`, octet for octet. An entry of a HPACK table is as large as its
//! decoded octets, so the tables of both sides stay the same however often the client refers to the entry later.
//! At most one header frame is held back, and never more than a frame may be.
//!
//! Deliberately absent: any other repair. Whatever is not understood goes on as it came, for the library to judge.

mod block;
mod huffman;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How a connection that speaks HTTP/2 begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Before every frame: length (3), type, flags, stream (4).
const FRAME_HEAD: usize = 9;
/// The largest payload of a frame this server takes: HTTP/2's default.
const FRAME_MAX: usize = 16 << 10;
/// The type of a frame with a header block.
const HEADERS: u8 = 1;
/// Bytes read at a time while a connection is looked at.
const READ: usize = 4 << 10;

/// A connection whose authorities are mended, and what it holds until it is closed.
pub struct Mended<S, P> {
    stream: S,
    /// None once there is nothing more to look for.
    look: Option<Box<Look>>,
    _holds: P,
}

impl<S, P> Mended<S, P> {
    /// Looks at what comes in on a stream.
    pub fn new(stream: S, holds: P) -> Self {
        Self {
            stream,
            look: Some(Box::default()),
            _holds: holds,
        }
    }
}

/// What was seen so far.
#[derive(Default)]
struct Look {
    /// Came in, not understood yet.
    raw: BytesMut,
    /// To be read by HTTP.
    out: BytesMut,
    at: At,
    /// A header block needed mending: others will.
    needed: bool,
}

/// Where in the connection `raw` begins.
#[derive(Clone, Copy, Default)]
enum At {
    #[default]
    Preface,
    Frame,
    /// Inside a frame of no interest, of which so many bytes are still to come.
    Payload(usize),
    /// Nothing is looked for any more.
    Plain,
}

impl Look {
    /// Understands as much of `raw` as is there.
    fn advance(&mut self) {
        while let Some(pass) = self.next() {
            let piece = self.raw.split_to(pass.min(self.raw.len()));
            self.out.unsplit(piece);
        }
    }

    /// How many bytes of `raw` go on as they are; none if more must come first.
    fn next(&mut self) -> Option<usize> {
        match self.at {
            At::Plain => (!self.raw.is_empty()).then_some(self.raw.len()),
            At::Preface => {
                let both = PREFACE.iter().zip(&self.raw);
                if both.clone().any(|(wanted, came)| wanted != came) {
                    self.at = At::Plain;
                    return Some(self.raw.len());
                }
                if both.count() < PREFACE.len() {
                    return None;
                }
                self.at = At::Frame;
                Some(PREFACE.len())
            }
            At::Payload(left) => {
                if self.raw.is_empty() && left > 0 {
                    return None;
                }
                let here = left.min(self.raw.len());
                self.at = if here == left {
                    At::Frame
                } else {
                    At::Payload(left - here)
                };
                Some(here)
            }
            At::Frame => self.frame(),
        }
    }

    fn frame(&mut self) -> Option<usize> {
        let [high, middle, low, kind, flags, ..] = *self.raw.get(..FRAME_HEAD)? else {
            return None;
        };
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if length > FRAME_MAX {
            self.at = At::Plain;
            return Some(self.raw.len());
        }
        if kind != HEADERS {
            self.at = At::Payload(length);
            return Some(FRAME_HEAD);
        }
        let payload = self.raw.get(FRAME_HEAD..FRAME_HEAD + length)?;
        let mended = block::mend(payload, flags).filter(|mended| mended.len() <= FRAME_MAX);
        let Some(mended) = mended else {
            if !self.needed {
                self.at = At::Plain;
            }
            return Some(FRAME_HEAD + length);
        };
        self.needed = true;
        let head = self.raw.split_to(FRAME_HEAD);
        let _ = self.raw.split_to(length);
        self.out.put_uint(mended.len() as u64, 3);
        self.out.put_slice(head.get(3..).unwrap_or_default());
        self.out.put_slice(&mended);
        // What follows is looked at next.
        Some(0)
    }
}

impl<S: AsyncRead + Unpin, P: Unpin> AsyncRead for Mended<S, P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, look, .. } = &mut *self;
        while let Some(now) = look {
            if !now.out.is_empty() {
                let some = now.out.len().min(buf.remaining());
                buf.put_slice(&now.out.split_to(some));
                return Poll::Ready(Ok(()));
            }
            if matches!(now.at, At::Plain) {
                *look = None;
                break;
            }
            let mut read = [0; READ];
            let mut read = ReadBuf::new(&mut read);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                // The end: what was held back goes on as it is.
                now.at = At::Plain;
            }
            now.raw.extend_from_slice(read.filled());
            now.advance();
        }
        Pin::new(stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin, P: Unpin> AsyncWrite for Mended<S, P> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What etcdctl 3.4.23 sends with `--endpoints=http://127.0.0.1:23999 endpoint status`, up to its first call.
    const FROM_ETCDCTL: &str = "505249202a20485454502f322e300d0a0d0a534d0d0a0d0a000000040000000000000000040100000000\
        000076010400000001\
        8386459760a924882d9dcb6571afa066a925a87510ac6e48d36a3f41909d29aee30c044eae05c0b86e0997df7f5f8b1d75d0620d263d\
        4c4d65647a8b9acac8b4c7602bb2caecff40027465864d833505b11f40899acac8b24d494f6a7f857df75b086d408d25062d4958759\
        96ee5b1063d5f03332e340000050001000000010000000000";

    fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text
            .bytes()
            .filter(u8::is_ascii_hexdigit)
            .map(|digit| (digit as char).to_digit(16).unwrap() as u8)
            .collect();
        digits.chunks(2).map(|two| two[0] << 4 | two[1]).collect()
    }

    /// What HTTP reads of bytes that come in pieces of a size.
    fn through(bytes: &[u8], size: usize) -> Vec<u8> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (mut client, server) = tokio::io::duplex(size);
            let writing = async {
                client.write_all(bytes).await.unwrap();
                drop(client);
            };
            let mut read = vec![];
            let mut mended = Mended::new(server, ());
            let ((), done) = tokio::join!(writing, mended.read_to_end(&mut read));
            done.unwrap();
            read
        })
    }

    #[test]
    fn the_url_etcdctl_sends_becomes_an_authority_however_it_arrives() {
        let sent = unhex(FROM_ETCDCTL);
        let whole = through(&sent, 1 << 16);
        let name = b"\x41\x16http---127.0.0.1-23999";
        assert!(
            whole.windows(name.len()).any(|part| part == name),
            "{whole:?}"
        );
        // The literal grew by six octets; the frame says so, and what follows is untouched.
        assert_eq!(whole.len(), sent.len() + 6);
        let head = PREFACE.len() + 2 * FRAME_HEAD;
        assert_eq!(whole[head..head + FRAME_HEAD], unhex("00007c010400000001"));
        assert!(whole.ends_with(&unhex("000005000100000001 0000000000")));
        for size in [1, 2, 7, 30, 100] {
            assert_eq!(through(&sent, size), whole, "in pieces of {size}");
        }
    }

    #[test]
    fn later_calls_of_such_a_connection_are_mended_too() {
        let mut sent = unhex(FROM_ETCDCTL);
        // A second header block in which the name stands anew, not compressed.
        sent.extend_from_slice(b"\x00\x00\x0e\x01\x05\x00\x00\x00\x03\x83\x41\x0bhttp://h:80");
        let read = through(&sent, 1 << 16);
        assert!(read.ends_with(b"\x83\x41\x0bhttp---h-80"), "{read:?}");
    }

    #[test]
    fn what_needs_no_mending_goes_through_as_it_is() {
        let http1 = b"POST /v3/kv/put HTTP/1.1\r\nHost: http://x\r\n\r\n";
        assert_eq!(through(http1, 3), http1);
        assert_eq!(through(b"", 3), b"");
        assert_eq!(through(b"PRI * HTT", 3), b"PRI * HTT");
        let good = [
            PREFACE,
            b"\x00\x00\x0c\x01\x05\x00\x00\x00\x01\x83\x41\x09host:2379",
        ]
        .concat();
        assert_eq!(through(&good, 5), good);
    }

    proptest! {
        #[test]
        fn rubbish_goes_through_and_is_no_panic(bytes in any::<Vec<u8>>(), after in any::<bool>()) {
            let sent = if after { [PREFACE, &bytes].concat() } else { bytes };
            let read = through(&sent, 64);
            prop_assert!(after || read == sent);
        }
    }
}
