//! etcd's services, one file each. Every semantic, text and code is etcd's.

pub mod header;
pub mod kv;
pub mod range_stream;
pub mod watch;
pub mod lease;
pub mod cluster;
pub mod maintenance;
pub mod auth;
pub mod contend;
pub mod lock;
pub mod election;
