//! etcd's services, one file each. Every semantic, text and code is etcd's.

pub mod header;
pub mod kv;
pub mod range_stream;
