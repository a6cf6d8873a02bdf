//! Clusters of real processes, asked as clients of etcd ask: by etcdctl where it is installed, else over gRPC.
//!
//! Each test has a cluster of its own, on ports and in directories of its own. Nothing here measures time: what is
//! waited for is waited for as long as a slow machine may take.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod compaction;
mod contest;
mod copies;
mod crowd;
mod ctl;
mod fairness;
mod leadership;
mod membership;
mod socket;
mod space;
mod traces;
mod world;
