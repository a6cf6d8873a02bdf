//! Form: every byte that leaves the process, to clients, peers or disk.
//!
//! ```text
//! schema/etcd/*.proto          what etcd's clients speak       etcdserverpb mvccpb authpb v3lockpb ...
//! schema/meridian/v1/*.proto   what only Meridian speaks       api::v1
//! schema/peer.proto            what members say to each other  peer
//! schema/record/*.proto        what the log holds              record
//! ```
//!
//! The messages are generated from the schema when the crate is built. Beside them stand the crossings
//! between wire and [`meridian_domain`]: total one way, refusing the other.
//!
//! Deliberately absent: sockets, status codes, anything that waits.

use std::sync::LazyLock;

use prost_reflect::DescriptorPool;

/// Declares a module of generated code; it is written by a program and read by nobody.
macro_rules! generated {
    ($(#[$doc:meta])* $name:ident, $file:literal) => {
        $(#[$doc])*
        #[allow(missing_docs, rust_2018_idioms, unused_qualifications, clippy::all)]
        #[allow(clippy::pedantic, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
        pub mod $name {
            include!(concat!(env!("OUT_DIR"), "/", $file));
        }
    };
}

generated!(
    /// etcd's services and messages.
    etcdserverpb,
    "etcdserverpb.rs"
);
generated!(
    /// etcd's keys and events.
    mvccpb,
    "mvccpb.rs"
);
generated!(
    /// etcd's users and roles.
    authpb,
    "authpb.rs"
);
generated!(
    /// etcd's locks.
    v3lockpb,
    "v3lockpb.rs"
);
generated!(
    /// etcd's elections.
    v3electionpb,
    "v3electionpb.rs"
);
generated!(
    /// The standard health service of gRPC.
    health,
    "grpc.health.v1.rs"
);

generated!(
    /// What members say to each other.
    peer,
    "meridian.peer.rs"
);

pub mod api;
pub mod etcd;
pub mod record;

static DESCRIPTORS: LazyLock<DescriptorPool> = LazyLock::new(|| {
    #[expect(
        clippy::expect_used,
        reason = "the bytes are made by build.rs; a test decodes them"
    )]
    DescriptorPool::decode(include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin")).as_slice())
        .expect("the descriptors that were compiled in")
});

/// The descriptors of every message and service, for code that learns their shape at run time.
pub fn descriptors() -> &'static DescriptorPool {
    &DESCRIPTORS
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    #[test]
    fn every_service_of_etcd_is_described() {
        let pool = super::descriptors();
        let mut methods = vec![];
        for service in pool.services() {
            for method in service.methods() {
                methods.push(format!("/{}/{}", service.full_name(), method.name()));
            }
        }
        for path in [
            "/etcdserverpb.KV/RangeStream",
            "/etcdserverpb.Watch/Watch",
            "/etcdserverpb.Lease/LeaseLeases",
            "/etcdserverpb.Cluster/MemberPromote",
            "/etcdserverpb.Maintenance/Downgrade",
            "/etcdserverpb.Auth/RoleRevokePermission",
            "/v3lockpb.Lock/Unlock",
            "/v3electionpb.Election/Observe",
            "/grpc.health.v1.Health/Watch",
            "/meridian.v1.TenantService/Change",
            "/meridian.v1.ClusterService/Status",
        ] {
            assert!(
                methods.iter().any(|m| m == path),
                "{path} is not in {methods:?}"
            );
        }
    }
}
