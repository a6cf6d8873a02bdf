//! A member that computed another state than the others.

use std::time::Duration;

use futures::future::join_all;
use meridian_raft::{Unavailable, form};
use meridian_storage::machine::Machine;
use meridian_storage::wal::{Kind, Wal};

use crate::harness::{Cluster, eventually, put, soon};

/// Applies the whole log, but leaves one write out.
fn all_but_one(wal: &Wal, machine: &mut Machine) {
    let (_, last) = wal.state();
    let to = last.unwrap().index;
    let mut left_out = false;
    let mut next = 1;
    while next <= to {
        for entry in wal.read(next, to + 1, 1 << 20).unwrap() {
            next = entry.log_id.index + 1;
            match entry.kind {
                Kind::Normal if left_out => {
                    machine.apply(entry.log_id, &entry.payload.slice(16..));
                }
                Kind::Membership => {
                    let stored = form::decode_stored_membership(Some(&entry.payload)).unwrap();
                    let encoded = form::encode_membership(Some(entry.log_id), stored.membership());
                    machine.set_membership(entry.log_id, encoded);
                }
                kind => {
                    left_out |= kind == Kind::Normal;
                    machine.advance(entry.log_id);
                }
            }
        }
    }
    machine.publish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_state_differs_from_that_of_most_fences_itself() {
    let mut cluster = Cluster::lay_out(3).await;
    cluster.tune = Box::new(|settings| settings.digest_interval = Duration::from_millis(100));
    cluster.start_all().await;
    let odd = cluster.follower().await;
    for i in 0..5 {
        let key = format!("early{i}");
        cluster.member(odd).put(&key, "1").await.unwrap();
    }
    cluster.converge().await;
    cluster.kill(odd).await;
    cluster.homes[odd].prepare = Some(all_but_one);
    cluster.start_member(odd).await;
    let leader = cluster.leader().await;
    assert_ne!(leader, odd);
    assert_eq!(cluster.member(odd).contents().len(), 4, "it differs");
    // States are compared at round places of the log.
    for some in 0..11 {
        let replica = cluster.replica(leader);
        let puts = (0..100).map(|i| {
            let key = format!("k{some}-{i}");
            async move { replica.propose(put(&key, "1"), soon()).await }
        });
        for done in join_all(puts).await {
            done.unwrap();
        }
    }
    eventually("the odd one to notice", || {
        cluster.replica(odd).status().fenced.then_some(())
    })
    .await;
    let standing = cluster.replica(odd).changed();
    eventually("everybody to be told", || {
        standing.borrow().fenced.then_some(())
    })
    .await;
    let replica = cluster.replica(odd);
    let refused = Err(Unavailable::Fenced);
    assert_eq!(replica.propose(put("a", "1"), soon()).await, refused);
    assert_eq!(replica.read_barrier(soon()).await, Err(Unavailable::Fenced));
    for at in (0..3).filter(|at| *at != odd) {
        assert!(!cluster.replica(at).status().fenced);
        cluster.member(at).put("after", "1").await.unwrap();
    }
    cluster.stop().await;
}
