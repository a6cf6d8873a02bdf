//! How the log runs on one node.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::fault::Fault;

/// Called with the fault that stops the log, once, from the thread that met it.
pub type OnFault = Arc<dyn Fn(Fault) + Send + Sync>;

/// How the log runs.
#[derive(Clone)]
pub struct Settings {
    /// The size of a new segment in bytes; kept between 16 KiB and 1 GiB.
    pub segment_bytes: u32,
    /// About how many bytes go out in one write.
    pub batch_bytes: usize,
    /// How many bytes may wait to be written. A caller beyond it blocks until there is room.
    pub queue_bytes: usize,
    /// How many bytes of the newest entries stay in memory.
    pub tail_bytes: usize,
    /// How many free bytes the disk must have, or [`super::Wal::reserve_ok`] refuses.
    pub reserve_bytes: u64,
    /// How long the log must be quiet before what is lazy is written.
    pub settle_after: Duration,
    /// Told of the fault that stops the log. The process should exit.
    pub on_fault: OnFault,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            batch_bytes: 1024 * 1024,
            queue_bytes: 64 * 1024 * 1024,
            tail_bytes: 4 * 1024 * 1024,
            reserve_bytes: 64 * 1024 * 1024,
            settle_after: Duration::from_millis(100),
            on_fault: Arc::new(|_| {}),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("segment_bytes", &self.segment_bytes)
            .field("batch_bytes", &self.batch_bytes)
            .field("queue_bytes", &self.queue_bytes)
            .field("tail_bytes", &self.tail_bytes)
            .field("reserve_bytes", &self.reserve_bytes)
            .field("settle_after", &self.settle_after)
            .finish_non_exhaustive()
    }
}
