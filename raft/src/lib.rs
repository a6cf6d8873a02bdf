//! Agreement: one order for all writes, on every member. The only crate that names openraft.
//!
//! ```text
//! replica          propose, read barrier, membership, status: all the rest of the node sees
//!   waiters, propose, read_index, membership, leadership      what openraft leaves to us
//!   guard, obituary, digest, pressure                         what keeps a cluster well
//!   type_config, log_store, state_machine, snapshot           thin adapters: openraft over storage
//!   network                                                   thin adapters: openraft over sockets
//! ```
//!
//! What crosses this crate is opaque to it: records are bytes that the machine in `storage` understands.
//! Deliberately absent: the nouns of the product, gRPC, status codes, wall clocks.

pub mod identity;
pub mod metrics;
pub mod settings;
pub mod status;
pub mod unavailable;

pub mod form;
pub mod log_store;
pub mod snapshot;
pub mod state_machine;
pub mod type_config;

pub mod network;

pub mod leadership;
pub mod membership;
pub mod pressure;
pub mod propose;
pub mod read_index;
pub mod trace;
pub mod waiters;

pub mod digest;
pub mod guard;
mod obituary;

mod eviction;
pub mod join;
pub mod recovery;
pub mod replica;

pub use membership::MembershipError;
pub use replica::{Delegate, Doors, Engine, Replica, StartError};
pub use settings::{Founder, Settings, Start};
pub use status::{Expelled, Peer, Standing, Status};
pub use unavailable::{Delay, Unavailable};
