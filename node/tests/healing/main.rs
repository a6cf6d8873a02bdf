//! Damage to what lies on the disk of a member, and what becomes of it: real processes, real files, real bytes.
//!
//! Each test has a cluster of its own. Nothing here measures time; what is waited for is waited for as long as a slow
//! machine may take.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod anywhere;
mod certificates;
mod log;
mod processes;
mod restored;
mod state;
