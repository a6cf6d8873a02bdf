//! Writes and reads, on every member, with and without a leader being lost.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use meridian_raft::{Delegate, Unavailable};
use tokio::time::Instant;

use crate::harness::{Cluster, eventually, put, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_member_leads_itself_and_serves() {
    let cluster = Cluster::start(1).await;
    let member = cluster.member(0);
    let receipt = member.put("a", "1").await.unwrap();
    assert_eq!(receipt.revision, 2);
    assert_eq!(
        member.get("a").unwrap(),
        "1",
        "whoever is answered reads its own write"
    );
    assert_eq!(member.read("a").await.unwrap().unwrap(), "1");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_takes_writes_and_reads_what_any_other_wrote() {
    let cluster = Cluster::start(3).await;
    for at in 0..3 {
        let key = format!("k{at}");
        cluster.member(at).put(&key, "v").await.unwrap();
        assert_eq!(
            cluster.member(at).get(&key).unwrap(),
            "v",
            "its own write, at once"
        );
        for other in 0..3 {
            let read = cluster.member(other).read(&key).await.unwrap();
            assert_eq!(read.unwrap(), "v", "written on {at}, read on {other}");
        }
    }
    cluster.converge().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_on_all_of_five_members_end_in_one_state() {
    let cluster = Arc::new(Cluster::start(5).await);
    let mut writers = vec![];
    for at in 0..5 {
        for writer in 0..8 {
            let replica = cluster.replica(at).clone();
            writers.push(tokio::spawn(async move {
                for i in 0..20 {
                    let record = put(&format!("{at}/{writer}/{i}"), "v");
                    replica.propose(record, soon()).await.unwrap();
                }
            }));
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    cluster.converge().await;
    assert_eq!(cluster.member(0).contents().len(), 5 * 8 * 20);
    Arc::into_inner(cluster).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_under_way_survive_the_loss_of_the_leader_and_take_effect_once() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let replica = cluster.replica(follower).clone();
    let before = cluster
        .member(follower)
        .put("start", "x")
        .await
        .unwrap()
        .revision;
    let writing = tokio::spawn(async move {
        let mut revisions = vec![];
        for i in 0..300 {
            let record = put(&format!("w{i:03}"), "v");
            revisions.push(replica.propose(record, soon()).await.unwrap().revision);
        }
        revisions
    });
    tokio::time::sleep(Duration::from_millis(30)).await;
    cluster.kill(leader).await;
    let revisions = writing.await.unwrap();
    // One writer at a time: each write is the next revision, none is lost and none is there twice.
    let expected: Vec<i64> = (before + 1..=before + 300).collect();
    assert_eq!(revisions, expected);
    cluster.start_member(leader).await;
    cluster.converge().await;
    assert_eq!(cluster.member(leader).contents().len(), 301);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_on_after_the_leader_is_lost_and_are_never_old() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    for i in 0..10 {
        cluster
            .member(leader)
            .put("x", &i.to_string())
            .await
            .unwrap();
    }
    cluster.kill(leader).await;
    for at in (0..3).filter(|at| *at != leader) {
        assert_eq!(cluster.member(at).read("x").await.unwrap().unwrap(), "9");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_written_or_read_and_the_answer_says_so() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    for at in (0..3).filter(|at| *at != leader) {
        cluster.kill(at).await;
    }
    let member = cluster.member(leader);
    let brief = || Instant::now() + Duration::from_millis(1500);
    let written = member.replica.propose(put("a", "1"), brief()).await;
    assert!(written.is_err(), "{written:?}");
    let read = member.replica.read_barrier(brief()).await;
    assert!(read.is_err(), "{read:?}");
    eventually("no leader", || {
        member.replica.status().leader.is_none().then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_and_whoever_stops_hands_it_over_too() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let to = cluster.follower().await;
    let id = cluster.homes[to].id;
    cluster
        .replica(leader)
        .transfer_leader(id, soon())
        .await
        .unwrap();
    eventually("the new leader", || {
        cluster.replica(to).status().is_leader.then_some(())
    })
    .await;
    let error = cluster
        .replica(leader)
        .transfer_leader(id, soon())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "etcdserver: not leader");
    let error = cluster
        .replica(to)
        .transfer_leader(99, soon())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "etcdserver: bad leader transferee");
    cluster.replica(to).step_down(soon()).await.unwrap();
    eventually("another leader", || {
        (0..3).find(|at| *at != to && cluster.replica(*at).status().is_leader)
    })
    .await;
    cluster.member(to).put("after", "1").await.unwrap();
    cluster.stop().await;
}

struct Echo(u64);

impl Delegate for Echo {
    fn answer(
        &self,
        method: u16,
        body: Bytes,
        _deadline: Instant,
    ) -> BoxFuture<'_, Result<Bytes, Unavailable>> {
        Box::pin(async move { Ok(format!("{}:{method}:{body:?}", self.0).into()) })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_to_the_leader_is_answered_by_the_leader() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let ask = |at: usize| {
        cluster
            .replica(at)
            .ask_leader(7, Bytes::from_static(b"q"), soon())
    };
    assert_eq!(ask(0).await, Err(Unavailable::NotCapable));
    for at in 0..3 {
        cluster.replica(at).set_delegate(Echo(at as u64));
    }
    for at in 0..3 {
        assert_eq!(ask(at).await.unwrap(), format!("{leader}:7:b\"q\""));
    }
    cluster.stop().await;
}
