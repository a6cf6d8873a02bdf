//! Automatic compaction: by count and by age, each tenant by its own rules, on every member.

use meridian_proto::api::v1::tenant_service_client::TenantServiceClient;
use meridian_proto::api::v1::{CreateTenantRequest, Retention};
use meridian_proto::etcdserverpb::RangeRequest;
use tonic::Request;

use crate::world::{World, get, put, until};

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

fn of<T>(tenant: &'static str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("meridian-tenant", tenant.parse().unwrap());
    request
}

fn at(revision: i64) -> RangeRequest {
    RangeRequest {
        revision,
        ..get("k")
    }
}

/// Whether a member has forgotten a revision of a tenant.
async fn forgot(world: &World, i: usize, tenant: &'static str, revision: i64) -> Option<()> {
    match world.kv(i).await.range(of(tenant, at(revision))).await {
        Err(refused) if refused.message() == COMPACTED => Some(()),
        Err(refused) => panic!("{refused:?}"),
        Ok(_) => None,
    }
}

async fn create(world: &World, name: &str, retention: Option<Retention>) {
    let request = CreateTenantRequest {
        name: name.into(),
        quota: None,
        retention,
    };
    let mut tenants = TenantServiceClient::new(world.connect(0).await.unwrap());
    tenants.create(request).await.unwrap();
}

async fn write(world: &World, tenant: &'static str, times: usize) -> i64 {
    let mut kv = world.kv(1).await;
    let mut last = 0;
    for n in 0..times {
        let put = of(tenant, put("k", n.to_string()));
        let header = kv.put(put).await.unwrap().into_inner().header;
        last = header.unwrap().revision;
    }
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn by_count_each_tenant_keeps_what_its_own_rules_say() {
    let flags = [
        "--auto-compaction-mode",
        "revision",
        "--auto-compaction-retention",
        "10",
    ];
    let world = World::start(3, &flags).await;
    let own = Retention {
        revisions: 3,
        seconds: 0,
    };
    create(&world, "short", Some(own)).await;
    create(&world, "quiet", None).await;
    let default = write(&world, "default", 40).await;
    let short = write(&world, "short", 40).await;
    let quiet = write(&world, "quiet", 5).await;
    for i in 0..3 {
        until("the default tenant is compacted", || {
            forgot(&world, i, "default", default - 11)
        })
        .await;
        until("the tenant with rules of its own is compacted", || {
            forgot(&world, i, "short", short - 4)
        })
        .await;
        // What must be kept is there, with the value it had.
        let mut kv = world.kv(i).await;
        for (tenant, revision) in [("default", default - 10), ("short", short - 3)] {
            let kept = kv.range(of(tenant, at(revision))).await.unwrap();
            assert_eq!(kept.get_ref().kvs[0].mod_revision, revision, "{tenant}");
        }
        let oldest = kv.range(of("quiet", at(2))).await.unwrap();
        assert_eq!(oldest.get_ref().kvs[0].mod_revision, 2, "of {quiet}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn by_age_history_is_forgotten_and_the_newest_stays() {
    let flags = [
        "--auto-compaction-mode",
        "periodic",
        "--auto-compaction-retention",
        "1s",
    ];
    let mut world = World::start(3, &flags).await;
    let last = write(&world, "default", 20).await;
    until("history is forgotten", || {
        forgot(&world, 0, "default", last - 1)
    })
    .await;
    // Another leader goes on.
    let leader = world.leader().await;
    world.kill(leader);
    let survivor = (leader + 1) % 3;
    world.leader().await;
    let mut kv = world.kv(survivor).await;
    let second = kv.put(put("k", "after")).await.unwrap().into_inner();
    let second = second.header.unwrap().revision;
    kv.put(put("k", "newest")).await.unwrap();
    until("the new leader forgets too", || {
        forgot(&world, survivor, "default", second)
    })
    .await;
    let newest = kv.range(get("k")).await.unwrap().into_inner();
    assert_eq!(newest.kvs[0].value, "newest");
}
