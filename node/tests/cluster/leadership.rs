//! Who leads, and who should.

use meridian_proto::etcdserverpb::MoveLeaderRequest;
use meridian_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use tonic::Code;

use crate::ctl::etcdctl;
use crate::world::{World, put, until};

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_etcd), ignore = "etcd and etcdctl are not installed")]
async fn etcdctl_moves_the_leader_to_the_member_it_names() {
    let world = World::start(3, &[]).await;
    let first = world.leader().await;
    let next = (first + 1) % 3;
    let target = world.id(next).await;
    let named = format!("{target:x}");

    // Once with bare endpoints, once with URLs, which old clients send as the authority of the call.
    let moved = etcdctl(&world.endpoints(), &["move-leader", &named]).await;
    let said = format!(
        "Leadership transferred from {:x} to {named}",
        world.id(first).await
    );
    assert_eq!(moved.ok().trim(), said);
    until("every member sees the new leader", || async {
        (world.leader().await == next).then_some(())
    })
    .await;
    let urls = format!("http://{}", world.endpoints().replace(',', ",http://"));
    let back = format!("{:x}", world.id(first).await);
    etcdctl(&urls, &["move-leader", &back]).await.ok();
    until("the first one leads again", || async {
        (world.leader().await == first).then_some(())
    })
    .await;
    for i in 0..3 {
        world.kv(i).await.put(put("k", "v")).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_leader_hands_over_and_only_to_a_voter() {
    let world = World::start(3, &[]).await;
    let leader = world.leader().await;
    let follower = (leader + 1) % 3;
    let to = |target_id| MoveLeaderRequest { target_id };
    let own = world.id(follower).await;
    let mut asked = MaintenanceClient::new(world.connect(follower).await.unwrap());
    let refused = asked.move_leader(to(own)).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::FailedPrecondition, "etcdserver: not leader")
    );
    let mut asked = MaintenanceClient::new(world.connect(leader).await.unwrap());
    let refused = asked.move_leader(to(7)).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (
            Code::FailedPrecondition,
            "etcdserver: bad leader transferee"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_etcd), ignore = "etcd and etcdctl are not installed")]
async fn etcdctl_may_name_endpoints_as_urls() {
    let world = World::start(3, &[]).await;
    let urls = format!("http://{}", world.endpoints().replace(',', ",http://"));
    let status = etcdctl(&urls, &["endpoint", "status", "-w", "json"]).await;
    assert_eq!(status.json().as_array().unwrap().len(), 3);
    let hashes = etcdctl(&urls, &["endpoint", "hashkv", "-w", "json"]).await;
    assert_eq!(hashes.json().as_array().unwrap().len(), 3);
    let health = etcdctl(&urls, &["endpoint", "health"]).await;
    assert_eq!(health.code, 0, "{health:?}");
    let defragmented = etcdctl(&urls, &["defrag"]).await;
    assert_eq!(
        defragmented.ok().matches("Finished defragmenting").count(),
        3
    );
    let one = format!("http://{}", world.members[0].endpoint);
    let whole = etcdctl(&one, &["endpoint", "status", "--cluster"]).await;
    assert_eq!(whole.ok().lines().count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_says_over_http_who_leads_and_whether_a_client_could_write() {
    let mut world = World::start(3, &[]).await;
    let leader = world.leader().await;
    for i in 0..3 {
        until("what it shows fits", || async {
            let shown = world.http(i, "/metrics").await;
            let has = |line: &str| shown.lines().any(|shown| shown == line);
            let leads = format!("etcd_server_is_leader {}", u8::from(i == leader));
            (has("etcd_server_has_leader 1") && has(&leads)).then_some(())
        })
        .await;
        let health = world.http(i, "/health").await;
        assert_eq!(health, r#"{"health":"true","reason":""}"#);
    }
    let alone = (leader + 1) % 3;
    world.kill(leader);
    world.kill((leader + 2) % 3);
    until("it sees that nobody leads", || async {
        let health = world.http(alone, "/health").await;
        health.contains("RAFT NO LEADER").then_some(())
    })
    .await;
    let near = world.http(alone, "/health?serializable=true").await;
    assert_eq!(near, r#"{"health":"true","reason":""}"#);
    let shown = world.http(alone, "/metrics").await;
    assert!(shown.contains("\netcd_server_has_leader 0\n"));
    assert_eq!(world.http(alone, "/livez").await, "ok\n");
}
