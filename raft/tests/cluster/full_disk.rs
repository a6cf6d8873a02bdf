//! Full disks: a clear refusal before the log can fail, and nothing to restart when there is space again.

use std::time::Duration;

use meridian_raft::Unavailable;
use tokio::time::Instant;

use crate::harness::{Cluster, put, soon};

fn brief() -> Instant {
    Instant::now() + Duration::from_millis(800)
}

/// Writes until the answer is the wanted one: news of a disk take a moment.
async fn until(cluster: &Cluster, at: usize, key: &str, wanted: Result<(), Unavailable>) {
    let deadline = soon();
    loop {
        let answer = cluster.replica(at).propose(put(key, "1"), brief()).await;
        if answer.clone().map(|_| ()) == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_is_full_takes_only_what_is_urgent_until_there_is_space() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    cluster.member(leader).put("before", "1").await.unwrap();
    cluster.homes[leader].disk.fill(true);
    until(&cluster, leader, "a", Err(Unavailable::DiskFull)).await;
    until(&cluster, follower, "a", Err(Unavailable::DiskFull)).await;
    for at in [leader, follower] {
        let replica = cluster.replica(at);
        replica
            .propose_urgent(put("urgent", "1"), soon())
            .await
            .unwrap();
        let read = cluster.member(at).read("before").await.unwrap();
        assert_eq!(read.unwrap(), "1", "reads go on");
    }
    cluster.homes[leader].disk.fill(false);
    until(&cluster, follower, "after", Ok(())).await;
    cluster.converge().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_full_disk_holds_nobody_up_and_its_member_catches_up_when_there_is_space() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let full = cluster.follower().await;
    cluster.homes[full].disk.fill(true);
    // The disk is looked at a few times a second.
    tokio::time::sleep(Duration::from_millis(600)).await;
    for i in 0..20 {
        cluster
            .member(leader)
            .put(&format!("k{i}"), "1")
            .await
            .unwrap();
    }
    assert_eq!(cluster.member(full).get("k19"), None, "it takes nothing");
    assert!(cluster.replica(full).status().leader.is_some());
    cluster.homes[full].disk.fill(false);
    cluster.converge().await;
    assert_eq!(cluster.member(full).contents().len(), 20);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_most_disks_are_full_writes_are_refused_and_urgent_ones_are_not() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    for at in (0..3).filter(|at| *at != leader) {
        cluster.homes[at].disk.fill(true);
    }
    // The first writes find out: they are on the leader's disk, and nobody else takes them.
    until(&cluster, leader, "a", Err(Unavailable::DiskFull)).await;
    let replica = cluster.replica(leader);
    replica.propose_urgent(put("b", "1"), soon()).await.unwrap();
    for home in &cluster.homes {
        home.disk.fill(false);
    }
    until(&cluster, leader, "after", Ok(())).await;
    cluster.converge().await;
    cluster.stop().await;
}
