//! The adversary: a cluster of real processes, clients that write down what they saw, faults from a seed, and
//! invariants that must hold afterwards.
//!
//! ```text
//!   seed -> world (members) <- fault (kill -9, stop, restart)
//!             ^
//!             | workload: registers, leases, watchers  -> history
//!                                                            |
//!                                    invariant (one a file) <+   -> verdict
//! ```
//!
//! The faults of a seed are the same in every run; how processes and the network interleave is not, so a seed
//! that failed is likely, not sure, to fail again. A run in which too little happened is *invalid*, not passed.
//!
//! Deliberately absent: knowledge of Meridian's inside. Everything goes through etcd's API, so the same run can
//! be made against etcd, which must pass it.

pub mod fault;
pub mod history;
pub mod invariant;
pub mod run;
pub mod workload;
pub mod world;
