//! Who asks, and whether they may.
//!
//! The check is asked for every intent and every query from the first day. Until roles exist every
//! principal is [`Principal::Anonymous`] and the answer is yes.

use crate::intent::Intent;
use crate::query::Query;
use crate::rejection::Rejection;

/// Who a request comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Principal {
    /// Authentication is off.
    #[default]
    Anonymous,
    /// The cluster itself: lease expiry, automatic compaction.
    System,
}

impl Principal {
    /// The name written into proposals.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::System => "system",
        }
    }
}

/// What is about to be done.
#[derive(Clone, Copy, Debug)]
pub enum Action<'a> {
    /// A write.
    Write(&'a Intent),
    /// A read.
    Read(&'a Query),
}

/// Decides whether `principal` may do `action`.
#[expect(
    clippy::unnecessary_wraps,
    reason = "it refuses once roles exist; callers are ready"
)]
pub fn check(principal: &Principal, action: Action<'_>) -> Result<(), Rejection> {
    match (principal, action) {
        (Principal::Anonymous | Principal::System, Action::Write(_) | Action::Read(_)) => Ok(()),
    }
}
