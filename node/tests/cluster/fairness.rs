//! Tenants take turns: what one has waiting, another does not stand behind.

use meridian_proto::api::v1::CreateTenantRequest;
use meridian_proto::api::v1::tenant_service_client::TenantServiceClient;
use rustix::process::Signal;
use tokio::task::JoinSet;
use tonic::Request;

use crate::world::{World, get, put, until};

/// Puts of the busy tenant, all sent at once: more than a member has in flight.
const BACKLOG: i64 = 3_200;
const CONNECTIONS: usize = 8;

fn of<T>(tenant: &'static str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("meridian-tenant", tenant.parse().unwrap());
    request
}

/// A gauge of a member.
async fn gauge(world: &World, i: usize, name: &str) -> i64 {
    let text = world.http(i, "/metrics").await;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim().parse().unwrap()
}

/// The revision of a tenant, as the member has it now.
async fn revision(world: &World, i: usize, tenant: &'static str) -> i64 {
    let mut read = get("k");
    read.serializable = true;
    let answer = world.kv(i).await.range(of(tenant, read)).await.unwrap();
    answer.into_inner().header.unwrap().revision
}

#[tokio::test(flavor = "multi_thread")]
async fn one_put_of_a_quiet_tenant_does_not_stand_behind_the_backlog_of_a_busy_one() {
    // Nothing is decided while the followers stand still, and the leader does not give up that soon.
    let slow = ["--election-timeout", "5000", "--heartbeat-interval", "500"];
    let world = World::start(3, &slow).await;
    let leader = world.leader().await;
    let followers = [1, 2].map(|other| (leader + other) % 3);
    let mut tenants = TenantServiceClient::new(world.connect(leader).await.unwrap());
    for name in ["busy", "quiet"] {
        let create = CreateTenantRequest {
            name: name.into(),
            ..CreateTenantRequest::default()
        };
        tenants.create(create).await.unwrap();
    }
    let mut quiet = world.kv(leader).await;
    for i in followers {
        world.signal(i, Signal::STOP);
    }
    let mut backlog = JoinSet::new();
    for c in 0..CONNECTIONS {
        let kv = world.kv(leader).await;
        for n in 0..BACKLOG as usize / CONNECTIONS {
            let mut kv = kv.clone();
            let put = of("busy", put(&format!("k{c}/{n}"), vec![7; 1_000]));
            backlog.spawn(async move { kv.put(put).await });
        }
    }
    let world = &world;
    let sum = async || {
        let waiting = gauge(world, leader, "meridian_node_writes_waiting ").await;
        waiting + gauge(world, leader, "meridian_node_writes_in_flight ").await
    };
    until("the whole backlog", || async {
        (sum().await == BACKLOG).then_some(())
    })
    .await;
    let one = tokio::spawn(async move { quiet.put(of("quiet", put("k", "v"))).await });
    until("the one put behind it", || async {
        (sum().await == BACKLOG + 1).then_some(())
    })
    .await;
    for i in followers {
        world.signal(i, Signal::CONT);
    }
    one.await.unwrap().unwrap();
    let done = revision(world, leader, "busy").await - 1;
    assert!(
        done < BACKLOG,
        "the quiet tenant was served after all {BACKLOG} puts that were there before it"
    );
    // And nothing of the backlog is lost.
    while let Some(put) = backlog.join_next().await {
        put.unwrap().unwrap();
    }
    assert_eq!(revision(world, leader, "busy").await - 1, BACKLOG);
}
