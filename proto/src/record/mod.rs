//! Records: what the log and the state machine keep in encoded form.
//!
//! ```text
//!   byte 0      bytes 1..
//! +---------+--------------------------------------+
//! | version | protobuf message of that version     |
//! +---------+--------------------------------------+
//! ```
//!
//! - [`proposal`]: an entry of the replicated log.
//! - [`answer`]: what it was answered with, kept beside its request id.
//! - [`audit`]: who did what, as it is kept and hashed.
//!
//! Encoding is total. Decoding refuses, with an [`Unreadable`] that says what is wrong, everything this
//! version did not write: another version, damage, fields it does not know (half-understood entries would
//! make members differ), nesting below [`NESTING_MAX`]. It never panics and never reserves memory on the word
//! of a length it read.
//!
//! Everything decoded is a copy: no key or value shares memory with the record, so that a stored value of
//! ten bytes does not keep a log buffer of a megabyte alive.

pub mod answer;
pub mod audit;
pub mod proposal;
mod tenant;
mod txn;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

/// The messages, as they lie behind the version byte.
#[allow(missing_docs, rust_2018_idioms, unused_qualifications, clippy::all)]
#[allow(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing
)]
pub mod schema {
    include!(concat!(env!("OUT_DIR"), "/meridian.record.rs"));
}

/// How deep transactions may nest in a record of version 1. Above what requests may
/// ([`meridian_domain::limits::TXN_DEPTH_MAX`]), and part of the format: every member must read the same.
pub const NESTING_MAX: usize = 32;

/// Why a record can not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// No byte at all.
    #[error("the record is empty")]
    Empty,
    /// Another version of the format.
    #[error("the record has version {found}; this program reads version {known}")]
    Version {
        /// What it begins with.
        found: u8,
        /// What this program knows.
        known: u8,
    },
    /// Not a message of the format.
    #[error("the record is damaged: {0}")]
    Damaged(#[from] prost::DecodeError),
    /// Written by a newer program that forgot to raise the version, or damaged.
    #[error("the record holds something this program does not know")]
    Unknown,
    /// A part that must be there is not.
    #[error("the record lacks {what}")]
    Missing {
        /// The part.
        what: &'static str,
    },
    /// A part has a value it can not have.
    #[error("the record has an impossible {what}")]
    Impossible {
        /// The part.
        what: &'static str,
    },
    /// Transactions nested deeper than [`NESTING_MAX`].
    #[error("the record nests transactions deeper than {NESTING_MAX}")]
    TooDeep,
}

/// Puts the version before a message.
fn seal(version: u8, message: &impl Message) -> Bytes {
    let mut record = BytesMut::with_capacity(1 + message.encoded_len());
    record.put_u8(version);
    message.encode_raw(&mut record);
    record.freeze()
}

/// Checks the version and reads the message, every byte field a copy of its own.
fn open<M: Message + Default>(known: u8, record: &[u8]) -> Result<M, Unreadable> {
    let (&found, body) = record.split_first().ok_or(Unreadable::Empty)?;
    if found != known {
        return Err(Unreadable::Version { found, known });
    }
    // Read from a slice, not from `Bytes`: a slice has no owner to share.
    let message = M::decode(body)?;
    // What prost skips as unknown is missing when the message is measured again.
    if message.encoded_len() != body.len() {
        return Err(Unreadable::Unknown);
    }
    Ok(message)
}

/// The part, or the error that it is missing.
fn required<T>(part: Option<T>, what: &'static str) -> Result<T, Unreadable> {
    part.ok_or(Unreadable::Missing { what })
}

#[cfg(test)]
mod tests;
