//! Keeping: bytes on disk, revisions in order. Synchronous; knows neither gRPC nor openraft.
//!
//! ```text
//!   record (encoded proposal)                      reads, watches
//!        |                                              ^
//!        v                                              |
//!     machine ---- publishes immutable roots ------> store (tenants, views, hubs)
//!        |
//!        | rows (versions, facts), in applied order
//!        v
//!     history ---- written behind ----> backend (sled): what the log can rebuild
//!        |
//!        +------- snapshot (rows at one applied index, checksummed)
//!
//!     wal: the log and the votes; the only thing on the commit path
//! ```
//!
//! Deliberately absent: a tokio runtime, sockets, the nouns of the product.

pub mod disk;
pub mod fault;
pub mod seal;
pub mod wal;

pub mod machine;
pub mod mvcc;
pub mod row;
pub mod store;

pub mod backend;
pub mod export;
pub mod history;
pub mod import;
pub mod snapshot;
pub mod watch;
