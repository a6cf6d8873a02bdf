//! What a cluster promises, on real sockets and real logs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests"
)]

mod agreement;
mod digest;
mod disk;
mod full_disk;
mod harness;
mod membership;
mod recovery;
mod slow_disk;
mod tls;
