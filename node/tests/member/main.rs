//! One member in this process, on ports the system chose, asked over real sockets: each service, the command line, the
//! client crate, and strangers.
//!
//! Figures of `/metrics` belong to the process, and here several members share one: tests of figures have processes of
//! their own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod access;
mod command_line;
mod hostile;
mod http;
mod kv;
mod requests;
mod sdk;
mod served;
mod tenants;
mod tls;
