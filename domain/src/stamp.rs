//! What a proposal says about its own making: when, by whom, under which request id.

use bytes::Bytes;

use crate::limits;
use crate::rejection::Rejection;

/// Wall-clock time at the edge that made a proposal, in milliseconds since the Unix epoch.
///
/// It is data for history and audit. Nothing in apply compares it with a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub unix_ms: u64,
}

/// A client's own name for a write, under which it is applied at most once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(Bytes);

impl RequestId {
    /// Takes 1 to [`limits::REQUEST_ID_BYTES_MAX`] bytes.
    pub fn new(id: Bytes) -> Result<Self, Rejection> {
        if id.is_empty() || id.len() > limits::REQUEST_ID_BYTES_MAX {
            return Err(Rejection::InvalidRequestId { bytes: id.len() });
        }
        Ok(Self(id))
    }

    /// The bytes of the id.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}
