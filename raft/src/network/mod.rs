//! How members talk: a transport of our own under openraft, for everything members say to each other.
//!
//! ```text
//! send (openraft's requests)  propose  read_index  membership  digest
//!        \                        |        |          |        /
//!         +------------------- lanes: one connection per purpose
//!                                 | dial: TCP, TLS, hello
//!  ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~|~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
//!                                 | receive: TCP, TLS, hello
//!                               serve: what this member answers
//! ```
//!
//! Frames are checked, questions are numbered, and each has a deadline. Deliberately absent: gRPC between
//! members. Heartbeats, entries and snapshots need connections that do not share anything, and a frame that
//! is written by whoever has something to say.

pub mod frame;
pub mod tls;
pub mod traffic;

pub mod connection;
pub mod dial;
pub mod lanes;
pub mod roster;

pub mod receive;
pub mod send;
pub mod serve;
