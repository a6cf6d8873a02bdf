//! Restarts, snapshots, and members that come back wrong.

use std::time::Duration;

use meridian_raft::network::roster::Identity;
use meridian_raft::{Expelled, identity, recovery};
use meridian_storage::disk::{Disk, OsDisk};
use meridian_storage::seal::Plain;
use meridian_storage::wal::repair;

use crate::harness::{Cluster, eventually, soon, url};

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

/// Sets the log of a member that does not run aside, as a node does when it is damaged.
fn forget(cluster: &Cluster, at: usize) {
    let dir = &cluster.homes[at].dir;
    let disk: std::sync::Arc<dyn Disk> = std::sync::Arc::new(OsDisk::new());
    let (wal, aside) = (dir.join("wal"), dir.join("aside"));
    let report = repair::quarantine(&disk, &Plain, &wal, &aside, 1024 * 1024).unwrap();
    assert!(report.vote_certain);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_forgot_its_log_gives_no_vote_until_it_has_everything_again() {
    let mut cluster = Cluster::start(3).await;
    let lossy = cluster.follower().await;
    for i in 0..40 {
        let key = format!("k{i}");
        cluster.member(lossy).put(&key, "v").await.unwrap();
    }
    cluster.converge().await;
    cluster.kill(lossy).await;
    forget(&cluster, lossy);
    cluster.tune = Box::new(|settings| settings.recovering = true);
    cluster.start_member(lossy).await;
    // The same leader goes on with it, though it has less than it had.
    cluster.member(lossy).put("own", "v").await.unwrap();
    let at = cluster.replica(lossy).durable(soon()).await.unwrap();
    assert!(at.index > 40);
    cluster.converge().await;

    let leader = cluster.leader().await;
    let id = cluster.homes[lossy].id;
    let handed = cluster.replica(leader).transfer_leader(id, brief()).await;
    assert!(handed.is_err(), "it took leadership");
    // The old leader does not lead any more after that: somebody else, or it again, was elected.
    cluster.member(lossy).put("handed", "v").await.unwrap();
    let leader = cluster.leader().await;
    assert_ne!(leader, lossy);
    cluster.kill(leader).await;
    let other = (0..3).find(|at| ![lossy, leader].contains(at)).unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    for at in [lossy, other] {
        assert!(!cluster.replica(at).status().is_leader, "it gave its vote");
    }
    assert!(cluster.replica(lossy).status().recovering);
    cluster.replica(lossy).recovered();
    cluster.member(other).put("after", "v").await.unwrap();
    assert_eq!(
        cluster.member(lossy).read("k39").await.unwrap().unwrap(),
        "v"
    );
    assert_eq!(cluster.member(lossy).contents().len(), 43);
    cluster.stop().await;
}

fn brief() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_other_voter_is_asked_for_its_term_and_who_is_silent_is_named() {
    let mut cluster = Cluster::start(3).await;
    let lossy = cluster.follower().await;
    let leader = cluster.leader().await;
    let term = cluster.replica(leader).status().term;
    cluster.kill(lossy).await;
    let home = &cluster.homes[lossy];
    let identity = Identity {
        cluster_id: cluster.id,
        member_id: home.id,
        instance: home.instance,
    };
    let urls: Vec<String> = cluster.homes.iter().map(|home| url(home.addr)).collect();
    let survey = recovery::survey(identity, &urls, None).await.unwrap();
    assert_eq!((survey.term, survey.silent), (term, vec![]));
    let other = (0..3).find(|at| ![lossy, leader].contains(at)).unwrap();
    cluster.kill(other).await;
    let survey = recovery::survey(identity, &urls, None).await.unwrap();
    let silent: Vec<u64> = survey.silent.iter().map(|(of, _)| of.id).collect();
    assert_eq!(silent, [cluster.homes[other].id]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_meets_damage_in_its_log_stops_instead_of_sending_it() {
    let mut cluster = Cluster::lay_out(3).await;
    for home in &mut cluster.homes {
        home.tail_bytes = 0;
    }
    cluster.start_all().await;
    let leader = cluster.leader().await;
    let away = cluster.follower().await;
    cluster.kill(away).await;
    let value = "a value that nothing else is like";
    cluster.member(leader).put("k", value).await.unwrap();
    for i in 0..20 {
        let key = format!("k{i}");
        cluster.member(leader).put(&key, "v").await.unwrap();
    }
    flip_in_log(&cluster.homes[leader].dir.join("wal"), value);
    // What was read before, to be sent once the member is back, is good.
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.start_member(away).await;
    let standing = cluster.replica(leader).changed();
    eventually("the leader to stop", || standing.borrow().broken.clone()).await;
    let read = cluster.member(away).read("k").await.unwrap().unwrap();
    assert_eq!(read, value);
    // It does not start with that either: a node takes the entry back from another member first.
    cluster.kill(leader).await;
    let refused = cluster.try_start_member(leader).await;
    assert!(refused.unwrap_err().to_string().contains("is damaged"));
    cluster.stop().await;
}

/// Flips a bit in the record of the log that holds a value.
fn flip_in_log(wal: &std::path::Path, value: &str) {
    let mut hit = false;
    for file in std::fs::read_dir(wal).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes
            .windows(value.len())
            .position(|window| window == value.as_bytes());
        if let Some(at) = at {
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            hit = true;
        }
    }
    assert!(hit, "the value is not in the log");
}
