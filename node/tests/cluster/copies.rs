//! Equal state on every member, and copies of it.

use meridian_proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, RangeRequest};
use tokio::process::Command;

use crate::ctl::{etcdctl, run};
use crate::world::{World, get, put};

/// Writes some history through one member: puts, deletes, a compaction. The revision it ends at.
async fn write(world: &World, i: usize) -> i64 {
    let mut kv = world.kv(i).await;
    let mut last = 0;
    for n in 0..60 {
        let written = kv.put(put(&format!("k{}", n % 7), format!("{i}/{n}")));
        last = written.await.unwrap().into_inner().header.unwrap().revision;
    }
    let delete = DeleteRangeRequest {
        key: "k3".into(),
        ..DeleteRangeRequest::default()
    };
    kv.delete_range(delete).await.unwrap();
    let compact = CompactionRequest {
        revision: last - 5,
        physical: i == 0,
    };
    kv.compact(compact).await.unwrap();
    last + 1
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_etcd), ignore = "etcd and etcdctl are not installed")]
async fn every_member_has_the_same_hash_also_after_defragmenting() {
    let world = World::start(3, &[]).await;
    let mut seen = vec![];
    for i in 0..3 {
        write(&world, i).await;
        let one = &world.members[i].endpoint;
        let hashes = ["endpoint", "hashkv", "--cluster", "-w", "json"];
        // Members are asked by their URLs as the cluster knows them. Each first applies what was acknowledged.
        for member in 0..3 {
            world.kv(member).await.range(get("k0")).await.unwrap();
        }
        let answers = etcdctl(one, &hashes).await.json();
        let all: Vec<_> = answers
            .as_array()
            .unwrap()
            .iter()
            .map(|answer| {
                let hash = &answer["HashKV"];
                (
                    hash["hash"].as_u64().unwrap(),
                    hash["compact_revision"].clone(),
                )
            })
            .collect();
        assert_eq!(all.len(), 3, "{answers}");
        assert!(all.iter().all(|one| *one == all[0]), "{answers}");
        assert!(!seen.contains(&all[0].0), "the hash does not see writes");
        seen.push(all[0].0);
        let defragmented = etcdctl(&world.endpoints(), &["defrag", "--cluster"]).await;
        assert_eq!(
            defragmented.ok().matches("Finished defragmenting").count(),
            3
        );
        let again = etcdctl(one, &hashes).await.json();
        assert_eq!(again[0]["HashKV"]["hash"], answers[0]["HashKV"]["hash"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_one_member_becomes_a_cluster_of_three() {
    let old = World::start(3, &[]).await;
    let last = write(&old, 1).await;
    let file = old.path("saved.snapshot");
    let mut save = Command::new(env!("CARGO_BIN_EXE_meridian"));
    save.env("MERIDIAN_ENDPOINTS", &old.members[2].endpoint);
    run(save.args(["snapshot", "save", &file])).await.ok();
    // What comes later is not in the copy.
    old.kv(0).await.put(put("k0", "later")).await.unwrap();

    let mut new = World::planned(3);
    let initial = new.initial_cluster();
    let token = "restored";
    for member in &new.members {
        let data = member.data.display().to_string();
        let words = [
            "snapshot",
            "restore",
            &file,
            "--data-dir",
            &data,
            "--name",
            &member.name,
            "--initial-cluster",
            &initial,
            "--initial-cluster-token",
            token,
            "--initial-advertise-peer-urls",
            &member.peer_url,
        ];
        run(Command::new(env!("CARGO_BIN_EXE_meridian")).args(words))
            .await
            .ok();
    }
    for i in 0..3 {
        let flags = [
            "--initial-cluster",
            &initial,
            "--initial-cluster-token",
            token,
        ];
        new.run(i, &flags);
    }
    assert!(new.all_ready().await);
    new.leader().await;
    let everything = || RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        ..RangeRequest::default()
    };
    let at = |revision| RangeRequest {
        revision,
        ..everything()
    };
    let wanted = old.kv(0).await.range(at(last)).await.unwrap().into_inner();
    for i in 0..3 {
        let found = new.kv(i).await.range(everything()).await.unwrap();
        let found = found.into_inner();
        assert_eq!(found.header.unwrap().revision, last);
        assert_eq!(found.kvs, wanted.kvs);
    }
    let next = new.kv(1).await.put(put("k0", "anew")).await.unwrap();
    assert_eq!(next.into_inner().header.unwrap().revision, last + 1);
    assert_ne!(
        new.status(0).await.unwrap().header.unwrap().cluster_id,
        old.status(0).await.unwrap().header.unwrap().cluster_id,
        "two clusters under one id"
    );
}
