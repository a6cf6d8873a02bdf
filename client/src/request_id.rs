//! Request ids: a client's own name for each write, so that a retry is applied at most once.
//!
//! ```text
//! 8f14e45fceea167a5a36dedd4bea2543-1b
//! '------------------------------' ''
//!   128 random bits, one per client  counter, one per call, in hexadecimal
//! ```
//!
//! Every attempt of one call carries the same id in the metadata `meridian-request-id`. etcd ignores it.

use std::sync::atomic::{AtomicU64, Ordering};

/// The metadata key.
pub(crate) const METADATA: &str = "meridian-request-id";

/// Hands out ids.
#[derive(Debug)]
pub(crate) struct RequestIds {
    client: String,
    next: AtomicU64,
}

impl RequestIds {
    /// A source whose ids no other source hands out.
    pub(crate) fn new() -> Self {
        Self {
            client: format!("{:032x}", rand::random::<u128>()),
            next: AtomicU64::new(1),
        }
    }

    /// The next id: at most 49 printable characters.
    pub(crate) fn next(&self) -> String {
        format!(
            "{}-{:x}",
            self.client,
            self.next.fetch_add(1, Ordering::Relaxed)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_within_and_between_clients_and_fit_the_limit() {
        let (a, b) = (RequestIds::new(), RequestIds::new());
        let all = [a.next(), a.next(), b.next(), b.next()];
        let unique: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(unique.len(), 4);
        assert!(
            all.iter()
                .all(|id| id.len() <= meridian_domain::limits::REQUEST_ID_BYTES_MAX)
        );
    }
}
