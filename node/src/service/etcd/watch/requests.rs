//! What the client sends: messages cut out of the request body.
//!
//! ```text
//!   +---+-----------+----------------+
//!   | 0 | len (u32) | WatchRequest   |  repeated
//!   +---+-----------+----------------+
//! ```
//!
//! Nothing is kept between messages; a message that comes in pieces is gathered up to the bound.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body as _;
use meridian_proto::etcdserverpb::WatchRequest;
use prost::Message;
use tonic::body::Body;

use crate::status::{Etcd, Refusal};

/// Flag and length.
const PREFIX: usize = 5;

/// Room made for a message of which only the length is known.
const PARTIAL_BYTES_MAX: usize = 16 << 10;

/// The client's requests, in order.
pub(super) struct Requests {
    /// None once the client has said everything.
    body: Option<Body>,
    whole: Bytes,
    partial: BytesMut,
    bytes_max: usize,
}

impl Requests {
    pub(super) fn new(body: Body, bytes_max: usize) -> Self {
        Self {
            body: Some(body),
            whole: Bytes::new(),
            partial: BytesMut::new(),
            bytes_max,
        }
    }

    /// The next request; none when the client will send no more. (The watches go on then, as in etcd.)
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<WatchRequest>, Refusal>> {
        loop {
            if let Some(message) = self.cut()? {
                let request =
                    WatchRequest::decode(message).map_err(|error| Etcd::MalformedMessage {
                        what: error.to_string(),
                    })?;
                return Poll::Ready(Ok(Some(request)));
            }
            let Some(body) = &mut self.body else {
                return Poll::Ready(Ok(None));
            };
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.take(data);
                    }
                }
                // The client, or the connection, is gone; so will be the response body.
                Some(Err(_)) => return Poll::Ready(Err(Etcd::WatchCanceled.into())),
                None => self.body = None,
            }
        }
    }

    fn take(&mut self, data: Bytes) {
        if self.partial.is_empty() {
            self.whole = data;
        } else {
            self.partial.extend_from_slice(&data);
        }
    }

    /// Cuts the next whole message off; gathers what is left of one.
    fn cut(&mut self) -> Result<Option<Bytes>, Refusal> {
        if !self.partial.is_empty() {
            let Some(len) = self.length(&self.partial)? else {
                return Ok(None);
            };
            if self.partial.len() < PREFIX + len {
                return Ok(None);
            }
            // All that came together: the message, and what followed it.
            self.whole = std::mem::take(&mut self.partial).freeze();
        }
        let Some(len) = self.length(&self.whole)? else {
            self.gather(PREFIX);
            return Ok(None);
        };
        if self.whole.len() < PREFIX + len {
            self.gather(PREFIX + len);
            return Ok(None);
        }
        self.whole.advance(PREFIX);
        let message = self.whole.split_to(len);
        if self.whole.is_empty() {
            self.whole = Bytes::new();
        }
        Ok(Some(message))
    }

    fn gather(&mut self, expected: usize) {
        let whole = std::mem::take(&mut self.whole);
        if !whole.is_empty() {
            self.partial.reserve(expected.min(PARTIAL_BYTES_MAX));
            self.partial.extend_from_slice(&whole);
        }
    }

    /// The length of the message that begins here, if its prefix is there.
    fn length(&self, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        let Some((&[compressed, a, b, c, d], _)) = bytes.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        if compressed != 0 {
            return Err(Etcd::CompressedMessage.into());
        }
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        if len > self.bytes_max {
            let (bytes, limit) = (len as u64, self.bytes_max as u64);
            return Err(Etcd::MessageTooLarge { bytes, limit }.into());
        }
        Ok(Some(len))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use std::convert::Infallible;
    use std::task::Waker;

    use http_body::Frame;
    use http_body_util::StreamBody;
    use meridian_proto::etcdserverpb::WatchCancelRequest;
    use meridian_proto::etcdserverpb::watch_request::RequestUnion;

    use super::*;

    fn message(id: i64) -> Vec<u8> {
        let union = RequestUnion::CancelRequest(WatchCancelRequest { watch_id: id });
        let body = WatchRequest {
            request_union: Some(union),
        }
        .encode_to_vec();
        let mut message = vec![0];
        message.extend_from_slice(&(body.len() as u32).to_be_bytes());
        message.extend_from_slice(&body);
        message
    }

    fn requests(pieces: Vec<Vec<u8>>, bytes_max: usize) -> Requests {
        let frames = pieces
            .into_iter()
            .map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from(piece))));
        Requests::new(
            Body::new(StreamBody::new(tokio_stream::iter(frames))),
            bytes_max,
        )
    }

    fn ids(mut requests: Requests) -> Vec<i64> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut ids = vec![];
        loop {
            // A body may be pending at any time; this one wakes at once.
            let Poll::Ready(request) = requests.poll(&mut cx) else {
                continue;
            };
            match request.unwrap().map(|request| request.request_union) {
                Some(Some(RequestUnion::CancelRequest(cancel))) => ids.push(cancel.watch_id),
                Some(other) => panic!("{other:?}"),
                None => return ids,
            }
        }
    }

    #[test]
    fn messages_are_cut_the_same_wherever_the_body_is() {
        let all: Vec<u8> = (1..6).flat_map(|id| message(id * 1000)).collect();
        for piece in 1..=all.len() {
            let pieces = all.chunks(piece).map(<[u8]>::to_vec).collect();
            assert_eq!(
                ids(requests(pieces, 100)),
                [1000, 2000, 3000, 4000, 5000],
                "by {piece}"
            );
        }
    }

    #[test]
    fn what_is_too_large_compressed_or_garbled_is_refused() {
        let mut cx = Context::from_waker(Waker::noop());
        for (bytes, code) in [
            (vec![0, 0, 0, 0, 11], "MESSAGE_TOO_LARGE"),
            (vec![1, 0, 0, 0, 1, 0], "COMPRESSED_MESSAGE"),
            (vec![0, 0, 0, 0, 2, 0xff, 0xff], "MALFORMED_MESSAGE"),
        ] {
            let mut requests = requests(vec![bytes], 10);
            let Poll::Ready(Err(refusal)) = requests.poll(&mut cx) else {
                panic!("{code}")
            };
            assert_eq!(refusal.code(), code);
        }
    }
}
