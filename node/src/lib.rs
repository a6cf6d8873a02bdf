//! The door: process, sockets, identity. One binary, `meridian`, is made of it.
//!
//! ```text
//!   socket -> service (layers, services) -> pipeline (write, read, watch) -> raft, storage
//!                                              ^    |
//!   background (the leader's own writes) ------+    +-- authn (who asks)
//! ```
//!
//! Start reading at [`pipeline`]. How everything is wired and stopped is in [`run`]. Status codes live in
//! [`status`] and nowhere else; settings are read once, in [`settings`], and passed.
//!
//! Deliberately absent: what a request means (`domain`), how it is kept (`storage`) and agreed on (`raft`).

pub mod authn;
pub mod background;
pub mod kind;
pub mod pipeline;
pub mod service;
pub mod status;

pub mod cli;
pub mod dev;
pub mod directory;
pub mod run;
pub mod settings;

pub mod metrics;
pub mod telemetry;
pub mod tls;
pub mod version;
