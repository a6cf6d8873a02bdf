//! Locks and elections over several members, and over the loss of one.

use bytes::Bytes;
use meridian_proto::etcdserverpb::LeaseGrantRequest;
use meridian_proto::etcdserverpb::lease_client::LeaseClient;
use meridian_proto::v3electionpb::election_client::ElectionClient;
use meridian_proto::v3electionpb::{
    CampaignRequest, LeaderRequest, ProclaimRequest, ResignRequest,
};
use tonic::transport::Channel;

use crate::ctl::{command, etcdctl, run};
use crate::world::{PATIENCE, World};

/// Somebody who wants to lead, with a lease of its own.
async fn candidate(channel: &Channel, value: &str) -> CampaignRequest {
    let grant = LeaseGrantRequest { ttl: 600, id: 0 };
    let lease = LeaseClient::new(channel.clone()).lease_grant(grant).await;
    CampaignRequest {
        name: Bytes::from_static(b"e"),
        lease: lease.unwrap().into_inner().id,
        value: value.to_owned().into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_election_goes_on_while_the_cluster_loses_its_leader() {
    let mut world = World::start(3, &[]).await;
    let lost = world.leader().await;
    let [a, b] = [1, 2].map(|other| (lost + other) % 3);
    let (a, b) = (
        world.connect(a).await.unwrap(),
        world.connect(b).await.unwrap(),
    );
    let (mut at_a, mut at_b) = (
        ElectionClient::new(a.clone()),
        ElectionClient::new(b.clone()),
    );
    let name = || LeaderRequest {
        name: Bytes::from_static(b"e"),
    };
    let ann = at_a.campaign(candidate(&a, "ann").await).await.unwrap();
    let ann = ann.into_inner().leader.unwrap();
    let mut observed = at_b.observe(name()).await.unwrap().into_inner();
    let mut next_value = async || {
        let next = tokio::time::timeout(PATIENCE, observed.message());
        let next = next.await.expect("in time").unwrap().unwrap();
        next.kv.unwrap().value
    };
    assert_eq!(next_value().await, "ann");

    let bob = candidate(&b, "bob").await;
    let mut stands = at_b.clone();
    let bob = tokio::spawn(async move { stands.campaign(bob).await });
    world.kill(lost);
    let said = ProclaimRequest {
        leader: Some(ann.clone()),
        value: Bytes::from_static(b"ann goes"),
    };
    at_a.proclaim(said).await.unwrap();
    assert_eq!(next_value().await, "ann goes");
    assert!(!bob.is_finished(), "two lead");
    let resign = ResignRequest { leader: Some(ann) };
    at_a.resign(resign.clone()).await.unwrap();
    let elected = tokio::time::timeout(PATIENCE, bob).await.expect("in time");
    let elected = elected.unwrap().unwrap().into_inner().leader.unwrap();
    assert_eq!(next_value().await, "bob");
    let leads = at_a.leader(name()).await.unwrap().into_inner().kv.unwrap();
    assert_eq!((leads.value, leads.key), ("bob".into(), elected.key));
    // Whoever was replaced can do nothing more.
    let late = ProclaimRequest {
        leader: resign.leader,
        value: Bytes::new(),
    };
    let refused = at_b.proclaim(late).await.unwrap_err();
    assert_eq!(refused.message(), "election: not leader");
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_etcd), ignore = "etcd and etcdctl are not installed")]
async fn under_a_lock_what_is_read_is_what_is_written() {
    let world = World::start(3, &[]).await;
    etcdctl(&world.endpoints(), &["put", "n", "0"]).await.ok();
    // Without the lock, two that read the same number would write the same one.
    let step = "v=$(etcdctl get n --print-value-only); etcdctl put n $((v + 1))";
    let endpoints = |i: usize| world.members[i % 3].endpoint.clone();
    let all = (0..9).map(|i| {
        let mut command = command("etcdctl", &endpoints(i));
        async move { run(command.args(["lock", "l", "--", "sh", "-c", step])).await }
    });
    for ran in futures::future::join_all(all).await {
        ran.ok();
    }
    let n = etcdctl(&world.endpoints(), &["get", "n", "--print-value-only"]).await;
    assert_eq!(n.ok().trim(), "9");
    let line = etcdctl(&world.endpoints(), &["get", "l/", "--prefix"]).await;
    assert_eq!(line.ok(), "", "a lock was not given up");
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_etcd), ignore = "etcd and etcdctl are not installed")]
async fn etcdctl_hears_who_is_elected_on_another_member() {
    use tokio::io::{AsyncBufReadExt, BufReader};

    let world = World::start(3, &[]).await;
    let mut listener = command("etcdctl", &world.members[0].endpoint)
        .args(["elect", "--listen", "e"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut heard = BufReader::new(listener.stdout.take().unwrap()).lines();
    for (i, value) in [(1, "ann"), (2, "bob")] {
        let mut leads = command("etcdctl", &world.members[i].endpoint)
            .args(["elect", "e", value])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = async || {
            let line = tokio::time::timeout(PATIENCE, heard.next_line());
            line.await.expect("in time").unwrap().unwrap()
        };
        while line().await != value {}
        // It resigns when it is asked to end.
        let process = leads.id().unwrap();
        let done = run(tokio::process::Command::new("kill").arg(process.to_string())).await;
        done.ok();
        tokio::time::timeout(PATIENCE, leads.wait())
            .await
            .expect("in time")
            .unwrap();
    }
}
