//! Which path means which method: etcd's table, word for word.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost_reflect::MethodDescriptor;

/// Path below `/v3`, service, method. `RangeStream` and the services of Meridian have no path.
const TABLE: &[(&str, &str, &str)] = &[
    ("/kv/range", "etcdserverpb.KV", "Range"),
    ("/kv/put", "etcdserverpb.KV", "Put"),
    ("/kv/deleterange", "etcdserverpb.KV", "DeleteRange"),
    ("/kv/txn", "etcdserverpb.KV", "Txn"),
    ("/kv/compaction", "etcdserverpb.KV", "Compact"),
    ("/watch", "etcdserverpb.Watch", "Watch"),
    ("/lease/grant", "etcdserverpb.Lease", "LeaseGrant"),
    ("/lease/revoke", "etcdserverpb.Lease", "LeaseRevoke"),
    ("/kv/lease/revoke", "etcdserverpb.Lease", "LeaseRevoke"),
    ("/lease/keepalive", "etcdserverpb.Lease", "LeaseKeepAlive"),
    ("/lease/timetolive", "etcdserverpb.Lease", "LeaseTimeToLive"),
    (
        "/kv/lease/timetolive",
        "etcdserverpb.Lease",
        "LeaseTimeToLive",
    ),
    ("/lease/leases", "etcdserverpb.Lease", "LeaseLeases"),
    ("/kv/lease/leases", "etcdserverpb.Lease", "LeaseLeases"),
    ("/cluster/member/add", "etcdserverpb.Cluster", "MemberAdd"),
    (
        "/cluster/member/remove",
        "etcdserverpb.Cluster",
        "MemberRemove",
    ),
    (
        "/cluster/member/update",
        "etcdserverpb.Cluster",
        "MemberUpdate",
    ),
    ("/cluster/member/list", "etcdserverpb.Cluster", "MemberList"),
    (
        "/cluster/member/promote",
        "etcdserverpb.Cluster",
        "MemberPromote",
    ),
    ("/maintenance/alarm", "etcdserverpb.Maintenance", "Alarm"),
    ("/maintenance/status", "etcdserverpb.Maintenance", "Status"),
    (
        "/maintenance/defragment",
        "etcdserverpb.Maintenance",
        "Defragment",
    ),
    ("/maintenance/hash", "etcdserverpb.Maintenance", "Hash"),
    ("/maintenance/hashkv", "etcdserverpb.Maintenance", "HashKV"),
    (
        "/maintenance/snapshot",
        "etcdserverpb.Maintenance",
        "Snapshot",
    ),
    (
        "/maintenance/transfer-leadership",
        "etcdserverpb.Maintenance",
        "MoveLeader",
    ),
    (
        "/maintenance/downgrade",
        "etcdserverpb.Maintenance",
        "Downgrade",
    ),
    ("/auth/enable", "etcdserverpb.Auth", "AuthEnable"),
    ("/auth/disable", "etcdserverpb.Auth", "AuthDisable"),
    ("/auth/status", "etcdserverpb.Auth", "AuthStatus"),
    ("/auth/authenticate", "etcdserverpb.Auth", "Authenticate"),
    ("/auth/user/add", "etcdserverpb.Auth", "UserAdd"),
    ("/auth/user/get", "etcdserverpb.Auth", "UserGet"),
    ("/auth/user/list", "etcdserverpb.Auth", "UserList"),
    ("/auth/user/delete", "etcdserverpb.Auth", "UserDelete"),
    (
        "/auth/user/changepw",
        "etcdserverpb.Auth",
        "UserChangePassword",
    ),
    ("/auth/user/grant", "etcdserverpb.Auth", "UserGrantRole"),
    ("/auth/user/revoke", "etcdserverpb.Auth", "UserRevokeRole"),
    ("/auth/role/add", "etcdserverpb.Auth", "RoleAdd"),
    ("/auth/role/get", "etcdserverpb.Auth", "RoleGet"),
    ("/auth/role/list", "etcdserverpb.Auth", "RoleList"),
    ("/auth/role/delete", "etcdserverpb.Auth", "RoleDelete"),
    (
        "/auth/role/grant",
        "etcdserverpb.Auth",
        "RoleGrantPermission",
    ),
    (
        "/auth/role/revoke",
        "etcdserverpb.Auth",
        "RoleRevokePermission",
    ),
    ("/lock/lock", "v3lockpb.Lock", "Lock"),
    ("/lock/unlock", "v3lockpb.Lock", "Unlock"),
    ("/election/campaign", "v3electionpb.Election", "Campaign"),
    ("/election/proclaim", "v3electionpb.Election", "Proclaim"),
    ("/election/leader", "v3electionpb.Election", "Leader"),
    ("/election/observe", "v3electionpb.Election", "Observe"),
    ("/election/resign", "v3electionpb.Election", "Resign"),
];

static METHODS: LazyLock<HashMap<&'static str, MethodDescriptor>> = LazyLock::new(|| {
    let pool = meridian_proto::descriptors();
    let find = |service: &str, method: &str| {
        let service = pool.get_service_by_name(service)?;
        service.methods().find(|known| known.name() == method)
    };
    TABLE
        .iter()
        .filter_map(|(path, service, method)| Some((*path, find(service, method)?)))
        .collect()
});

/// The method a path means; `/v3beta` is an old name of `/v3`.
pub fn find(path: &str) -> Option<&'static MethodDescriptor> {
    let below = path
        .strip_prefix("/v3beta")
        .or_else(|| path.strip_prefix("/v3"))?;
    METHODS.get(below)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn every_path_of_the_table_means_a_method_that_exists() {
        for (path, service, method) in TABLE {
            let found = find(&format!("/v3{path}")).unwrap();
            assert_eq!(found.full_name(), format!("{service}.{method}"));
        }
    }

    #[test]
    fn every_method_of_etcds_services_has_a_path_but_range_stream() {
        for service in meridian_proto::descriptors().services() {
            if service.full_name().starts_with("meridian.") || service.name() == "Health" {
                continue;
            }
            for method in service.methods() {
                let has = METHODS
                    .values()
                    .any(|known| known.full_name() == method.full_name());
                assert_eq!(
                    has,
                    method.name() != "RangeStream",
                    "{}",
                    method.full_name()
                );
            }
        }
    }

    #[test]
    fn the_old_prefix_means_the_same() {
        assert_eq!(find("/v3beta/kv/range").unwrap().name(), "Range");
        assert!(find("/v3alpha/kv/range").is_none());
        assert!(find("/v3/kv/range/").is_none());
        assert!(find("/v3").is_none());
    }
}
