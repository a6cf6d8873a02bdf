//! What the client gets: responses put together from shared pieces.
//!
//! ```text
//!   [0 len] [1: header] [2: watch_id] [7: fragment] [11: event] [11: event] ...
//!   ------------------ per delivery --------------- ---- encoded once, shared ----
//! ```
//!
//! Small events are copied behind each other, so that many deliveries leave as one chunk; large ones are
//! referred to. The fields of a protobuf message may come in any order.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use meridian_proto::etcdserverpb::{ResponseHeader, WatchResponse};
use meridian_storage::watch::{Batch, Event};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, int64};

/// An event of so many bytes is referred to instead of copied.
const SHARED_BYTES_MIN: usize = 8 << 10;
/// But for its beginning, which goes with what stands before it: clients take many tiny frames for an attack.
const COPIED_BYTES: usize = 1 << 10;
/// Flag and length of a message.
const PREFIX: usize = 5;
/// The bytes of `fragment = true`.
const FRAGMENT: [u8; 2] = [7 << 3, 1];

/// Bytes on their way out, in order.
#[derive(Default)]
pub(super) struct Outbox {
    chunks: VecDeque<Bytes>,
    open: BytesMut,
    bytes: usize,
}

impl Outbox {
    /// Bytes in it.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The next chunk.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let chunk = match self.chunks.pop_front() {
            Some(chunk) => chunk,
            None if self.open.is_empty() => return None,
            None => std::mem::take(&mut self.open).freeze(),
        };
        self.bytes -= chunk.len();
        if self.chunks.is_empty() {
            self.chunks = VecDeque::new();
        }
        Some(chunk)
    }

    /// A response without events.
    pub(super) fn push(&mut self, response: &WatchResponse) {
        let len = response.encoded_len();
        self.begin(len, len);
        response.encode_raw(&mut self.open);
        self.bytes += PREFIX + len;
    }

    /// The events of a batch, as one response; or as several, each smaller than `split` unless it is a single
    /// event.
    pub(super) fn push_batch(
        &mut self,
        header: &ResponseHeader,
        batch: &Batch<'_>,
        split: Option<usize>,
    ) {
        let head = Head {
            header,
            id: batch.id,
        };
        match split {
            Some(limit) if batch.events > 1 && head.len() + batch.bytes >= limit => {
                self.push_pieces(&head, batch, limit);
            }
            _ => {
                self.begin_events(&head, batch.bytes, batch.events, false);
                batch.events().for_each(|event| self.push_event(&event));
            }
        }
    }

    fn push_pieces(&mut self, head: &Head<'_>, batch: &Batch<'_>, limit: usize) {
        let events: Vec<Event<'_>> = batch.events().collect();
        let mut rest = events.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fit = rest.iter().position(|event| {
                let more = event.bytes().len();
                let full = bytes > 0 && head.len() + FRAGMENT.len() + bytes + more >= limit;
                bytes += if full { 0 } else { more };
                full
            });
            let (piece, left) = rest.split_at(fit.unwrap_or(rest.len()));
            self.begin_events(head, bytes, piece.len(), !left.is_empty());
            for event in piece {
                self.push_event(event);
            }
            rest = left;
        }
    }

    fn begin_events(&mut self, head: &Head<'_>, bytes: usize, events: usize, fragment: bool) {
        let mark = if fragment { &FRAGMENT[..] } else { &[] };
        let own = head.len() + mark.len();
        // Room for what will be copied, going by their mean.
        let large = bytes >= events * SHARED_BYTES_MIN;
        let near = if large {
            events.min(1) * COPIED_BYTES
        } else {
            bytes
        };
        self.begin(own + bytes, own + near);
        head.encode(&mut self.open);
        self.open.put_slice(mark);
        self.bytes += PREFIX + own;
    }

    fn push_event(&mut self, event: &Event<'_>) {
        let bytes = event.bytes();
        self.bytes += bytes.len();
        match bytes.split_at_checked(COPIED_BYTES) {
            Some((beginning, _)) if bytes.len() >= SHARED_BYTES_MIN => {
                self.open.put_slice(beginning);
                let open = std::mem::take(&mut self.open).freeze();
                self.chunks
                    .extend([open, event.shared().slice(COPIED_BYTES..)]);
            }
            _ => self.open.put_slice(bytes),
        }
    }

    /// Begins a message of `len` bytes, of which about `near` will be copied here.
    fn begin(&mut self, len: usize, near: usize) {
        self.open.reserve(PREFIX + near);
        self.open.put_u8(0);
        self.open.put_u32(len as u32);
    }
}

/// What stands before the events.
struct Head<'a> {
    header: &'a ResponseHeader,
    id: i64,
}

impl Head<'_> {
    fn len(&self) -> usize {
        // A header has at most four numbers of ten bytes: its length is one byte.
        let header = 2 + self.header.encoded_len();
        header
            + if self.id == 0 {
                0
            } else {
                int64::encoded_len(2, &self.id)
            }
    }

    fn encode(&self, into: &mut BytesMut) {
        encode_key(1, WireType::LengthDelimited, into);
        encode_varint(self.header.encoded_len() as u64, into);
        self.header.encode_raw(into);
        if self.id != 0 {
            int64::encode(2, &self.id, into);
        }
    }
}
