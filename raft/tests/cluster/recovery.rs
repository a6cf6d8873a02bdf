//! Restarts, snapshots, and members that come back wrong.

use std::time::Duration;

use meridian_raft::{Expelled, identity};

use crate::harness::{Cluster, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_stops_whole_comes_back_with_everything_acknowledged() {
    let mut cluster = Cluster::start(3).await;
    for i in 0..50 {
        cluster
            .member(i % 3)
            .put(&format!("k{i}"), "v")
            .await
            .unwrap();
    }
    for at in 0..3 {
        cluster.kill(at).await;
    }
    cluster.start_all().await;
    for at in 0..3 {
        assert_eq!(cluster.member(at).read("k49").await.unwrap().unwrap(), "v");
        assert_eq!(cluster.member(at).contents().len(), 50);
    }
    cluster.member(0).put("after", "1").await.unwrap();
    cluster.converge().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_member_restarts_from_its_snapshot_and_the_log_behind_it() {
    let mut cluster = Cluster::lay_out(1).await;
    cluster.tune = Box::new(|settings| settings.entries_kept = 10);
    cluster.start_all().await;
    for i in 0..100 {
        cluster.member(0).put(&format!("k{i}"), "v").await.unwrap();
    }
    let covered = cluster.replica(0).snapshot().await.unwrap();
    eventually("the log to be purged", || {
        let status = cluster.replica(0).status();
        (status.purged.index + 10 >= covered.index && status.purged.index > 0).then_some(())
    })
    .await;
    cluster.member(0).put("behind", "1").await.unwrap();
    cluster.kill(0).await;
    cluster.start_member(0).await;
    assert_eq!(
        cluster.member(0).read("behind").await.unwrap().unwrap(),
        "1"
    );
    assert_eq!(cluster.member(0).contents().len(), 101);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_away_too_long_gets_a_snapshot() {
    let mut cluster = Cluster::lay_out(3).await;
    cluster.tune = Box::new(|settings| settings.entries_kept = 5);
    cluster.start_all().await;
    cluster.leader().await;
    cluster.member(0).put("early", "1").await.unwrap();
    let away = cluster.follower().await;
    cluster.kill(away).await;
    let leader = cluster.leader().await;
    for i in 0..200 {
        cluster
            .member(leader)
            .put(&format!("k{i}"), "v")
            .await
            .unwrap();
    }
    for at in (0..3).filter(|at| *at != away) {
        cluster.replica(at).snapshot().await.unwrap();
        eventually("the log to be purged", || {
            (cluster.replica(at).status().purged.index > 100).then_some(())
        })
        .await;
    }
    cluster.start_member(away).await;
    assert_eq!(
        cluster.member(away).read("k199").await.unwrap().unwrap(),
        "v"
    );
    assert!(cluster.replica(away).status().snapshot.index > 100);
    cluster.member(away).put("again", "1").await.unwrap();
    cluster.converge().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_another_cluster_is_refused() {
    let mut cluster = Cluster::start(3).await;
    let stranger = cluster.follower().await;
    cluster.kill(stranger).await;
    // The same member, the same log, but it believes to belong elsewhere.
    cluster.tune = Box::new(|settings| settings.cluster_id ^= 1);
    cluster.start_member(stranger).await;
    cluster
        .member(cluster.leader().await)
        .put("a", "1")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(cluster.member(stranger).get("a"), None);
    assert!(cluster.replica(stranger).status().leader.is_none());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_lost_its_disk_is_refused_under_its_old_id() {
    let mut cluster = Cluster::start(3).await;
    for at in 0..3 {
        let (id, instance) = (cluster.homes[at].id, cluster.homes[at].instance);
        cluster
            .member(at)
            .publish(id, &format!("m{at}"), instance)
            .await;
    }
    cluster.converge().await;
    let lost = cluster.follower().await;
    cluster.kill(lost).await;
    std::fs::remove_dir_all(&cluster.homes[lost].dir).unwrap();
    cluster.homes[lost].instance = identity::random_id();
    cluster.start_member(lost).await;
    let changed = cluster.replica(lost).changed();
    eventually("the refusal", || {
        (changed.borrow().expelled == Some(Expelled::ReusedId)).then_some(())
    })
    .await;
    cluster
        .member(cluster.leader().await)
        .put("a", "1")
        .await
        .unwrap();
    assert_eq!(cluster.member(lost).get("a"), None);
    cluster.stop().await;
}
