//! One frame of a peer connection.
//!
//! ```text
//! 4 bytes   length of what follows
//! 4 bytes   CRC-32 of the rest: TCP's own sum lets one damaged frame in some ten million through
//! n bytes   peer.Envelope (Hello and HelloReply before it)
//! ```
//!
//! A frame that is too long, damaged or not understood ends the connection: nothing after it can be
//! trusted to be a frame.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use tokio_util::codec::{Decoder, LengthDelimitedCodec};

/// The longest frame, in bytes: a full batch of entries and one entry of the largest size beside it.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Before the connection is known to be a member's, frames are short.
pub const HELLO_BYTES_MAX: usize = 64 * 1024;

/// Cuts the stream of bytes into frames and checks them.
#[derive(Debug)]
pub struct FrameDecoder {
    lengths: LengthDelimitedCodec,
}

impl FrameDecoder {
    /// A decoder that refuses frames longer than `bytes_max`.
    pub fn new(bytes_max: usize) -> Self {
        let lengths = LengthDelimitedCodec::builder()
            .max_frame_length(bytes_max)
            .new_codec();
        Self { lengths }
    }

    /// Changes the longest frame that is accepted.
    pub fn set_bytes_max(&mut self, bytes_max: usize) {
        self.lengths.set_max_frame_length(bytes_max);
    }
}

impl Decoder for FrameDecoder {
    type Item = Bytes;
    type Error = io::Error;

    fn decode(&mut self, from: &mut BytesMut) -> io::Result<Option<Bytes>> {
        let Some(mut frame) = self.lengths.decode(from)? else {
            return Ok(None);
        };
        if frame.len() < 4 {
            return Err(damaged("a frame without a checksum"));
        }
        let expected = frame.get_u32();
        if crc32fast::hash(&frame) != expected {
            return Err(damaged("a frame whose checksum does not hold"));
        }
        Ok(Some(frame.freeze()))
    }
}

/// Encodes a message as one frame.
pub fn encode(message: &impl Message) -> io::Result<Bytes> {
    let length = message.encoded_len() + 4;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a frame of {length} bytes; {FRAME_BYTES_MAX} are allowed"),
        ));
    }
    let mut frame = BytesMut::with_capacity(4 + length);
    frame.put_u32(length as u32);
    frame.put_u32(0);
    message.encode(&mut frame).map_err(io::Error::other)?;
    let checksum = crc32fast::hash(frame.get(8..).unwrap_or_default());
    if let Some(place) = frame.get_mut(4..8) {
        place.copy_from_slice(&checksum.to_be_bytes());
    }
    Ok(frame.freeze())
}

/// What is said when a peer sends what it should not.
pub fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use meridian_proto::peer;

    fn hello() -> peer::Hello {
        peer::Hello {
            cluster_id: 1,
            version: "x".repeat(100),
            ..Default::default()
        }
    }

    #[test]
    fn a_frame_arrives_in_whatever_pieces() {
        let bytes = encode(&hello()).unwrap();
        for cut in 0..bytes.len() {
            let mut decoder = FrameDecoder::new(HELLO_BYTES_MAX);
            let mut buffer = BytesMut::from(&bytes[..cut]);
            assert!(decoder.decode(&mut buffer).unwrap().is_none());
            buffer.extend_from_slice(&bytes[cut..]);
            let frame = decoder.decode(&mut buffer).unwrap().unwrap();
            assert_eq!(peer::Hello::decode(frame).unwrap(), hello());
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = encode(&hello()).unwrap();
        for bit in 32..bytes.len() * 8 {
            let mut flipped = BytesMut::from(&bytes[..]);
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(
                FrameDecoder::new(HELLO_BYTES_MAX)
                    .decode(&mut flipped)
                    .is_err(),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn a_frame_that_announces_too_much_is_refused_before_it_arrives() {
        let mut bytes = BytesMut::new();
        bytes.put_u32(HELLO_BYTES_MAX as u32 + 1);
        assert!(
            FrameDecoder::new(HELLO_BYTES_MAX)
                .decode(&mut bytes)
                .is_err()
        );
    }
}
