#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

//! The history against a naive one, across restarts, kills, damage and compaction.

mod damage;
pub(crate) mod frozen;
mod model;
pub(crate) mod naive;
mod space;
