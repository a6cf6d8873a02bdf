//! Records survive the round trip, refuse rubbish, and share no memory with where they came from.
#![allow(clippy::unwrap_used, reason = "tests")]
