//! Members come, are promoted, move and go.

use std::time::Duration;

use meridian_raft::{Expelled, MembershipError, join};
use tokio::time::Instant;

use crate::harness::{Cluster, eventually, soon, url};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_grows_from_one_member_to_three() {
    let mut cluster = Cluster::start(1).await;
    cluster.member(0).put("before", "1").await.unwrap();
    for _ in 0..2 {
        let at = cluster.another().await;
        let (id, urls) = (cluster.homes[at].id, vec![url(cluster.homes[at].addr)]);
        cluster
            .replica(0)
            .add_voter(id, urls.clone(), soon())
            .await
            .unwrap();
        let existing = join::discover(&[url(cluster.homes[0].addr)], None)
            .await
            .unwrap();
        assert_eq!(existing.cluster_id, cluster.id);
        assert_eq!(existing.member_with(&urls).unwrap().id, id);
        cluster.start_member(at).await;
        eventually("the new member to vote", || {
            let members = cluster.replica(0).status().members;
            members
                .iter()
                .any(|peer| peer.id == id && peer.voter)
                .then_some(())
        })
        .await;
        let name = format!("m{at}");
        cluster
            .member(at)
            .publish(id, &name, cluster.homes[at].instance)
            .await;
    }
    assert_eq!(
        cluster.member(2).read("before").await.unwrap().unwrap(),
        "1"
    );
    // The first may go now, and is told so.
    let (first, last) = (cluster.homes[0].id, cluster.replica(2).clone());
    last.remove(first, soon()).await.unwrap();
    eventually("a leader among the rest", || {
        (1..3).find(|at| cluster.replica(*at).status().is_leader)
    })
    .await;
    cluster.member(1).put("after", "1").await.unwrap();
    assert_eq!(cluster.member(2).read("after").await.unwrap().unwrap(), "1");
    assert_eq!(last.status().members.len(), 2);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_reads_does_not_count_and_is_promoted_when_in_sync() {
    let mut cluster = Cluster::start(3).await;
    cluster.member(0).put("a", "1").await.unwrap();
    let at = cluster.another().await;
    let (id, urls) = (cluster.homes[at].id, vec![url(cluster.homes[at].addr)]);
    let follower = cluster.replica(cluster.follower().await).clone();
    follower
        .add_learner(id, urls.clone(), soon())
        .await
        .unwrap();
    let error = follower.promote(id, soon()).await.unwrap_err();
    assert_eq!(
        error,
        MembershipError::LearnerNotReady,
        "it has not even started"
    );
    cluster.start_member(at).await;
    assert_eq!(cluster.member(at).read("a").await.unwrap().unwrap(), "1");
    assert!(cluster.replica(at).status().is_learner);
    cluster.member(at).put("b", "2").await.unwrap();
    let promoted = async {
        loop {
            match follower.promote(id, soon()).await {
                Ok(()) => return,
                Err(MembershipError::LearnerNotReady) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    promoted.await;
    let error = follower.promote(id, soon()).await.unwrap_err();
    assert_eq!(error, MembershipError::NotLearner);
    eventually("its vote", || {
        (!cluster.replica(at).status().is_learner).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_would_harm_are_refused_in_etcds_words() {
    let mut cluster = Cluster::lay_out(3).await;
    cluster.tune = Box::new(|settings| settings.learners_max = 1);
    cluster.start_all().await;
    cluster.leader().await;
    // As far as the leader knows, everybody is connected.
    cluster.member(0).put("a", "1").await.unwrap();
    let replica = cluster.replica(cluster.follower().await).clone();
    let taken = vec![url(cluster.homes[0].addr)];
    let free = |port: u16| vec![format!("http://127.0.0.1:{port}")];
    let refused = |error: MembershipError| error.to_string();
    let add = replica.add_learner(7, taken, soon()).await.unwrap_err();
    assert_eq!(refused(add), "etcdserver: Peer URLs already exists");
    let add = replica
        .add_learner(7, vec!["nonsense".into()], soon())
        .await
        .unwrap_err();
    assert_eq!(refused(add), "etcdserver: given member URLs are invalid");
    let add = replica
        .add_learner(cluster.homes[1].id, free(1), soon())
        .await
        .unwrap_err();
    assert_eq!(refused(add), "etcdserver: member ID already exist");
    replica.add_learner(7, free(1), soon()).await.unwrap();
    let add = replica.add_learner(8, free(2), soon()).await.unwrap_err();
    assert_eq!(
        refused(add),
        "etcdserver: too many learner members in cluster"
    );
    for error in [
        replica.remove(99, soon()).await.unwrap_err(),
        replica.promote(99, soon()).await.unwrap_err(),
        replica.update(99, free(3), soon()).await.unwrap_err(),
    ] {
        assert_eq!(refused(error), "etcdserver: member not found");
    }
    replica.remove(7, soon()).await.unwrap();
    // With one of three down, neither of the other two may go.
    let down = cluster.follower().await;
    cluster.kill(down).await;
    let leader = cluster.leader().await;
    let other = (0..3).find(|at| *at != down && *at != leader).unwrap();
    tokio::time::sleep(Duration::from_millis(1300)).await;
    let other = cluster.homes[other].id;
    let remove = cluster
        .replica(leader)
        .remove(other, soon())
        .await
        .unwrap_err();
    assert_eq!(refused(remove), "etcdserver: unhealthy cluster");
    let brief = Instant::now() + Duration::from_secs(5);
    let add = cluster
        .replica(leader)
        .add_voter(9, free(4), brief)
        .await
        .unwrap_err();
    assert_eq!(refused(add), "etcdserver: unhealthy cluster");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_member_can_not_be_removed() {
    let cluster = Cluster::start(1).await;
    let id = cluster.homes[0].id;
    let error = cluster.replica(0).remove(id, soon()).await.unwrap_err();
    let text = "etcdserver: re-configuration failed due to not enough started members";
    assert_eq!(error.to_string(), text);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_removed_while_it_was_down_learns_it() {
    let mut cluster = Cluster::start(3).await;
    let gone = cluster.follower().await;
    let id = cluster.homes[gone].id;
    cluster.kill(gone).await;
    let leader = cluster.leader().await;
    cluster.replica(leader).remove(id, soon()).await.unwrap();
    cluster.start_member(gone).await;
    let changed = cluster.replica(gone).changed();
    eventually("the refusal", || {
        (changed.borrow().expelled == Some(Expelled::Removed)).then_some(())
    })
    .await;
    cluster.member(leader).put("a", "1").await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_may_move_to_another_address() {
    let mut cluster = Cluster::start(3).await;
    let moves = cluster.follower().await;
    let id = cluster.homes[moves].id;
    cluster.kill(moves).await;
    let spare = cluster.another().await;
    let addr = cluster.homes[spare].addr;
    cluster.homes.pop();
    let leader = cluster.leader().await;
    cluster
        .replica(leader)
        .update(id, vec![url(addr)], soon())
        .await
        .unwrap();
    cluster.homes[moves].addr = addr;
    cluster.start_member(moves).await;
    cluster.member(leader).put("a", "1").await.unwrap();
    eventually("the entry", || cluster.member(moves).get("a")).await;
    assert_eq!(cluster.member(moves).read("a").await.unwrap().unwrap(), "1");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_away_follows_a_leader_that_joined_meanwhile() {
    let mut cluster = Cluster::start(3).await;
    cluster.member(0).put("a", "1").await.unwrap();
    let away = cluster.follower().await;
    cluster.kill(away).await;
    let newcomer = cluster.another().await;
    let (id, urls) = (
        cluster.homes[newcomer].id,
        vec![url(cluster.homes[newcomer].addr)],
    );
    let leader = cluster.leader().await;
    cluster
        .replica(leader)
        .add_learner(id, urls, soon())
        .await
        .unwrap();
    cluster.start_member(newcomer).await;
    eventually("the new member to catch up", || {
        cluster.member(newcomer).get("a")
    })
    .await;
    eventually_promoted(&cluster, leader, id).await;
    cluster
        .replica(leader)
        .transfer_leader(id, soon())
        .await
        .unwrap();
    eventually("the new member to lead", || {
        cluster.replica(newcomer).status().is_leader.then_some(())
    })
    .await;
    cluster.member(newcomer).put("b", "1").await.unwrap();
    cluster.start_member(away).await;
    assert_eq!(cluster.member(away).read("b").await.unwrap().unwrap(), "1");
    cluster.converge().await;
    cluster.stop().await;
}

/// Promotes a learner as soon as it is in sync.
async fn eventually_promoted(cluster: &Cluster, leader: usize, id: u64) {
    let deadline = soon();
    while let Err(error) = cluster.replica(leader).promote(id, soon()).await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
