//! Which path means which method: etcd's table, word for word.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost_reflect::MethodDescriptor;

/// Service, and the paths below `/v3` that mean its methods. `RangeStream` and the services of Meridian have none.
const TABLE: &[(&str, &[(&str, &str)])] = &[
    (
        "etcdserverpb.KV",
        &[
            ("/kv/range", "Range"),
            ("/kv/put", "Put"),
            ("/kv/deleterange", "DeleteRange"),
            ("/kv/txn", "Txn"),
            ("/kv/compaction", "Compact"),
        ],
    ),
    ("etcdserverpb.Watch", &[("/watch", "Watch")]),
    (
        "etcdserverpb.Lease",
        &[
            ("/lease/grant", "LeaseGrant"),
            ("/lease/revoke", "LeaseRevoke"),
            ("/kv/lease/revoke", "LeaseRevoke"),
            ("/lease/keepalive", "LeaseKeepAlive"),
            ("/lease/timetolive", "LeaseTimeToLive"),
            ("/kv/lease/timetolive", "LeaseTimeToLive"),
            ("/lease/leases", "LeaseLeases"),
            ("/kv/lease/leases", "LeaseLeases"),
        ],
    ),
    (
        "etcdserverpb.Cluster",
        &[
            ("/cluster/member/add", "MemberAdd"),
            ("/cluster/member/remove", "MemberRemove"),
            ("/cluster/member/update", "MemberUpdate"),
            ("/cluster/member/list", "MemberList"),
            ("/cluster/member/promote", "MemberPromote"),
        ],
    ),
    (
        "etcdserverpb.Maintenance",
        &[
            ("/maintenance/alarm", "Alarm"),
            ("/maintenance/status", "Status"),
            ("/maintenance/defragment", "Defragment"),
            ("/maintenance/hash", "Hash"),
            ("/maintenance/hashkv", "HashKV"),
            ("/maintenance/snapshot", "Snapshot"),
            ("/maintenance/transfer-leadership", "MoveLeader"),
            ("/maintenance/downgrade", "Downgrade"),
        ],
    ),
    (
        "etcdserverpb.Auth",
        &[
            ("/auth/enable", "AuthEnable"),
            ("/auth/disable", "AuthDisable"),
            ("/auth/status", "AuthStatus"),
            ("/auth/authenticate", "Authenticate"),
            ("/auth/user/add", "UserAdd"),
            ("/auth/user/get", "UserGet"),
            ("/auth/user/list", "UserList"),
            ("/auth/user/delete", "UserDelete"),
            ("/auth/user/changepw", "UserChangePassword"),
            ("/auth/user/grant", "UserGrantRole"),
            ("/auth/user/revoke", "UserRevokeRole"),
            ("/auth/role/add", "RoleAdd"),
            ("/auth/role/get", "RoleGet"),
            ("/auth/role/list", "RoleList"),
            ("/auth/role/delete", "RoleDelete"),
            ("/auth/role/grant", "RoleGrantPermission"),
            ("/auth/role/revoke", "RoleRevokePermission"),
        ],
    ),
    (
        "v3lockpb.Lock",
        &[("/lock/lock", "Lock"), ("/lock/unlock", "Unlock")],
    ),
    (
        "v3electionpb.Election",
        &[
            ("/election/campaign", "Campaign"),
            ("/election/proclaim", "Proclaim"),
            ("/election/leader", "Leader"),
            ("/election/observe", "Observe"),
            ("/election/resign", "Resign"),
        ],
    ),
];

/// Path, service, method.
fn rows() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let of = |(service, paths): &'static (&'static str, &'static [(&str, &str)])| {
        paths
            .iter()
            .map(move |(path, method)| (*path, *service, *method))
    };
    TABLE.iter().flat_map(of)
}

static METHODS: LazyLock<HashMap<&'static str, MethodDescriptor>> = LazyLock::new(|| {
    let pool = meridian_proto::descriptors();
    let find = |service: &str, method: &str| {
        let service = pool.get_service_by_name(service)?;
        service.methods().find(|known| known.name() == method)
    };
    rows()
        .filter_map(|(path, service, method)| Some((path, find(service, method)?)))
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
        for (path, service, method) in rows() {
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
