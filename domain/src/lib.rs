//! What Meridian means, without saying how it is kept, agreed on or transported.
//!
//! The store knows only versioned keys and guarded transactions; everything else compiles to them:
//!
//! ```text
//! Intent --plan(view, principal, intent)--> Plan | Rejection        pure, at the edge
//! Plan   --log, quorum, apply-->            Receipt (Changes @ revision)   in `storage`
//! Query  --answer(view, principal, query)-> Answer | Rejection      pure, at the edge
//! ```
//!
//! Deliberately absent: I/O, async, clocks, randomness, environment variables, logging, status codes
//! of any transport. Time, ids and randomness reach this crate as data.

pub mod limits;
pub mod name;
pub mod revision;
pub mod stamp;

pub mod changes;
pub mod command;
pub mod key;
pub mod kv;
pub mod txn;

pub mod access;
pub mod answer;
pub mod audit;
pub mod intent;
pub mod plan;
pub mod query;
pub mod rejection;
pub mod tenant;
pub mod view;
