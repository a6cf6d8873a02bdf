//! Members come as learners, become voters, and go.

use meridian_proto::etcdserverpb::RangeRequest;
use tonic::Code;

use crate::ctl::etcdctl;
use crate::world::{World, get, put, until};

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_etcd), ignore = "etcd and etcdctl are not installed")]
async fn etcdctl_adds_a_learner_promotes_it_and_removes_another() {
    let mut world = World::start(3, &[]).await;
    for n in 0..50 {
        let put = put(&format!("k{n}"), "v");
        world.kv(n % 3).await.put(put).await.unwrap();
    }
    // A client must ask one that has a vote.
    let voters = world.endpoints();
    let new = world.seat();
    let (name, url) = (
        world.members[new].name.clone(),
        world.members[new].peer_url.clone(),
    );
    let peer = format!("--peer-urls={url}");
    let add = ["member", "add", &name, "--learner", &peer];
    let added = etcdctl(&world.endpoints(), &add).await;
    let initial = added
        .ok()
        .lines()
        .find_map(|line| line.strip_prefix("ETCD_INITIAL_CLUSTER="))
        .unwrap()
        .trim_matches('"')
        .to_owned();
    assert_eq!(initial.split(',').count(), 4, "{added:?}");
    let again = etcdctl(&world.endpoints(), &add).await;
    assert!(again.err.contains("Peer URLs already exists"), "{again:?}");
    let flags = ["--initial-cluster-state", "existing"];
    let flags = [&flags[..], &["--initial-cluster", &initial]].concat();
    world.run(new, &flags);

    // A learner answers what needs no vote, and refuses the rest.
    let near = || RangeRequest {
        serializable: true,
        ..get("k49")
    };
    until("the learner has caught up", || async {
        let channel = world.connect(new).await.ok()?;
        let mut kv = meridian_proto::etcdserverpb::kv_client::KvClient::new(channel);
        let read = kv.range(near()).await.ok()?;
        (read.get_ref().count == 1).then_some(())
    })
    .await;
    let refused = world.kv(new).await.put(put("k", "v")).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (
            Code::FailedPrecondition,
            "etcdserver: rpc not supported for learner"
        )
    );
    let status = world.status(new).await.unwrap();
    assert!(status.is_learner);
    let id = format!("{:x}", status.header.unwrap().member_id);
    until("the learner is promoted", || async {
        let promoted = etcdctl(&voters, &["member", "promote", &id]).await;
        let behind = promoted.err.contains("in sync with leader");
        assert!(promoted.code == 0 || behind, "{promoted:?}");
        (promoted.code == 0).then_some(())
    })
    .await;
    assert!(world.ready(new).await);
    let twice = etcdctl(&voters, &["member", "promote", &id]).await;
    let text = "can only promote a learner member";
    assert!(twice.err.contains(text), "{twice:?}");

    // Two of the first three go, the leader and then a follower, and are told so whenever they start again.
    let mut others = vec![0, 1, 2, 3];
    for role in ["leader", "follower"] {
        let leader = world.leader().await;
        let may_go = |i: &usize| *i != new && (*i == leader) == (role == "leader");
        let Some(goes) = others.iter().copied().find(may_go) else {
            continue;
        };
        let id = format!("{:x}", world.id(goes).await);
        others.retain(|i| *i != goes);
        let asked = &world.members[others[0]].endpoint;
        etcdctl(asked, &["member", "remove", &id]).await.ok();
        assert_eq!(world.end(goes).await, 5, "the {role} ends as expelled");
        world.run(goes, &[]);
        assert_eq!(world.end(goes).await, 5, "the {role} ends again");
    }
    for i in &others {
        world.kv(*i).await.put(put("after", "v")).await.unwrap();
    }
    let list = etcdctl(&world.endpoints(), &["member", "list"]).await;
    let lines: Vec<&str> = list.ok().lines().collect();
    assert_eq!(lines.len(), others.len(), "{list:?}");
    assert!(
        lines.iter().all(|line| line.contains("started")),
        "{list:?}"
    );
}
