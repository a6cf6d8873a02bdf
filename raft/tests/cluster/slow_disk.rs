//! Gray failures: a leader whose network is well and whose disk is not.

use std::time::Duration;

use crate::harness::{Cluster, eventually, put, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_whose_disk_stands_still_gives_up_leading_and_follows_when_it_moves_again() {
    let cluster = Cluster::start(3).await;
    let stuck = cluster.leader().await;
    cluster.member(stuck).put("before", "1").await.unwrap();
    cluster.homes[stuck].disk.stall(true);
    // Something has to wait for the disk, or nobody would notice.
    let replica = cluster.replica(stuck).clone();
    let waiting = tokio::spawn(async move { replica.propose(put("during", "1"), soon()).await });
    let leader = eventually("another leader", || {
        (0..3).find(|at| *at != stuck && cluster.replica(*at).status().is_leader)
    })
    .await;
    cluster.member(leader).put("after", "1").await.unwrap();
    assert_eq!(
        cluster
            .member(leader)
            .read("before")
            .await
            .unwrap()
            .unwrap(),
        "1"
    );
    cluster.homes[stuck].disk.stall(false);
    waiting.await.unwrap().unwrap();
    cluster.converge().await;
    assert_eq!(cluster.member(stuck).contents().len(), 3);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_whose_disk_stands_still_holds_nobody_up() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let stuck = cluster.follower().await;
    cluster.homes[stuck].disk.stall(true);
    for i in 0..20 {
        let key = format!("k{i}");
        cluster.member(leader).put(&key, "1").await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(
        cluster.replica(leader).status().is_leader,
        "nobody else ran"
    );
    cluster.homes[stuck].disk.stall(false);
    cluster.converge().await;
    cluster.stop().await;
}
