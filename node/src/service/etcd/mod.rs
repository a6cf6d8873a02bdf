//! etcd's services, one file each. Every semantic, text and code is etcd's.

pub mod auth;
pub mod cluster;
pub mod contend;
mod copy;
pub mod election;
pub mod header;
pub mod kv;
pub mod lease;
pub mod lock;
pub mod maintenance;
pub mod news;
pub mod range_stream;
pub mod watch;
