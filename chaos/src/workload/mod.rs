//! What clients do while things break. Each writes down what it saw, and nothing else.

pub mod leases;
pub mod registers;
pub mod watchers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::history::History;

/// What every client shares.
#[derive(Clone)]
pub struct Shared {
    /// Where clients reach the members.
    pub urls: Arc<Vec<String>>,
    /// What is written down.
    pub history: Arc<History>,
    /// Set when clients should come to an end.
    pub done: Arc<AtomicBool>,
    /// Decides what clients do.
    pub seed: u64,
    /// Whether the store knows request ids, so that a write nobody answered may be sent again.
    pub request_ids: bool,
}

impl Shared {
    /// Whether clients should come to an end.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }
}

/// Everything the workloads write lies under this.
pub const PREFIX: &str = "chaos/";
