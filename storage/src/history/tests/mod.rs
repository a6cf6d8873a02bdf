#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

//! The history against a naive one, across restarts, kills, damage and compaction.

mod damage;
mod frozen;
mod model;
mod naive;
mod space;
