//! Meridian's own services: what etcd's API has no words for.

generated!(
    /// The first version of the messages and services.
    v1,
    "meridian.v1.rs"
);

pub mod tenant;
