//! Equal state on every member, and copies of it.

use std::process::Stdio;
use std::time::Instant;

use meridian_proto::etcdserverpb::kv_client::KvClient;
use meridian_proto::etcdserverpb::lease_client::LeaseClient;
use meridian_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseTimeToLiveRequest, PutRequest,
    RangeRequest,
};
use meridian_proto::mvccpb::KeyValue;
use tokio::process::{Child, Command};
use tonic::transport::{Channel, Endpoint};

use crate::ctl::{etcdctl, run};
use crate::world::{PATIENCE, World, get, put};

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
    has_applied(&old, 2).await;
    let file = old.path("saved.snapshot");
    let mut save = Command::new(env!("CARGO_BIN_EXE_meridian"));
    save.env("MERIDIAN_ENDPOINTS", &old.members[2].endpoint);
    run(save.args(["snapshot", "save", &file])).await.ok();
    becomes_three(&old, last, &file).await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_etcd), ignore = "etcd and etcdctl are not installed")]
async fn a_snapshot_etcdctl_saved_becomes_a_cluster_of_three() {
    let old = World::start(3, &[]).await;
    let last = write(&old, 1).await;
    has_applied(&old, 2).await;
    let file = old.path("saved.db");
    let save = ["snapshot", "save", &file];
    etcdctl(&old.members[2].endpoint, &save).await.ok();
    becomes_three(&old, last, &file).await;
}

/// A copy holds what its member has applied: waits until that is all that was acknowledged.
async fn has_applied(world: &World, i: usize) {
    world.kv(i).await.range(get("k0")).await.unwrap();
}

/// Restores what was saved at a revision to three members, and compares.
async fn becomes_three(old: &World, last: i64, file: &str) {
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
            file,
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

/// The seat of a world without processes as a real etcd, and a connection to it.
async fn etcd(world: &World) -> (Child, Channel) {
    let member = &world.members[0];
    let client_url = format!("http://{}", member.endpoint);
    let mut child = Command::new("etcd")
        .args(["--name", &member.name, "--data-dir"])
        .arg(&member.data)
        .args(["--listen-client-urls", &client_url])
        .args(["--advertise-client-urls", &client_url])
        .args(["--listen-peer-urls", &member.peer_url])
        .args(["--initial-advertise-peer-urls", &member.peer_url])
        .args(["--initial-cluster", &world.initial_cluster()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(child.try_wait().unwrap().is_none(), "etcd ended");
        assert!(Instant::now() < deadline, "etcd does not get ready");
        let endpoint = Endpoint::from_shared(client_url.clone()).unwrap();
        if let Ok(channel) = endpoint.connect().await
            && KvClient::new(channel.clone())
                .range(get("ready"))
                .await
                .is_ok()
        {
            return (child, channel);
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// A history with a lease, deletions and a compaction; the revision it is compacted to, and the lease.
async fn live(channel: &Channel) -> (i64, i64) {
    let mut kv = KvClient::new(channel.clone());
    let grant = LeaseGrantRequest {
        ttl: 5_000,
        ..LeaseGrantRequest::default()
    };
    let granted = LeaseClient::new(channel.clone()).lease_grant(grant).await;
    let lease = granted.unwrap().into_inner().id;
    let mut last = 0;
    for n in 0..60 {
        let value = format!("{n}").repeat(if n == 50 { 5_000 } else { n });
        let written = kv.put(PutRequest {
            lease: if n % 7 == 2 { lease } else { 0 },
            ..put(&format!("k{}", n % 7), value)
        });
        last = written.await.unwrap().into_inner().header.unwrap().revision;
    }
    for key in ["k3", "k4"] {
        let delete = DeleteRangeRequest {
            key: key.into(),
            ..DeleteRangeRequest::default()
        };
        kv.delete_range(delete).await.unwrap();
    }
    kv.put(put("k4", "again")).await.unwrap();
    let compact = CompactionRequest {
        revision: last - 20,
        physical: true,
    };
    kv.compact(compact).await.unwrap();
    (last - 20, lease)
}

/// Every state from a revision on to the present, and what the first refused one is told.
async fn states(channel: &Channel, from: i64) -> (Vec<Vec<KeyValue>>, i64, String) {
    let mut kv = KvClient::new(channel.clone());
    let at = |revision| RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        revision,
        ..RangeRequest::default()
    };
    let present = kv.range(at(0)).await.unwrap().into_inner();
    let now = present.header.unwrap().revision;
    let mut states = vec![present.kvs];
    for revision in from..=now {
        states.push(kv.range(at(revision)).await.unwrap().into_inner().kvs);
    }
    let refused = kv.range(at(from - 1)).await.unwrap_err();
    (states, now, refused.message().to_owned())
}

/// The granted time of a lease, and its keys.
async fn lease_of(channel: &Channel, id: i64) -> (i64, Vec<bytes::Bytes>) {
    let ask = LeaseTimeToLiveRequest { id, keys: true };
    let mut leases = LeaseClient::new(channel.clone());
    let answer = leases.lease_time_to_live(ask).await.unwrap().into_inner();
    (answer.granted_ttl, answer.keys)
}

/// The words with which the first member of a world is restored from a file.
fn restore<'a>(world: &'a World, file: &'a str, data: &'a str, initial: &'a str) -> Vec<&'a str> {
    let member = &world.members[0];
    let words = ["snapshot", "restore", file, "--data-dir", data];
    let identity = [
        "--name",
        &member.name,
        "--initial-cluster",
        initial,
        "--initial-advertise-peer-urls",
        &member.peer_url,
    ];
    [&words[..], &identity[..]].concat()
}

/// Compares two stores in all a client sees of their past and present, and that both go on alike.
async fn alike(one: &Channel, other: &Channel, from: i64, lease: i64) {
    let (states_of_one, now, refused) = states(one, from).await;
    assert!(refused.contains("compacted"), "{refused}");
    assert_eq!(states(other, from).await, (states_of_one, now, refused));
    let held = lease_of(one, lease).await;
    assert_eq!(held, (5_000, vec!["k2".into()]));
    assert_eq!(lease_of(other, lease).await, held);
    for channel in [one, other] {
        let next = KvClient::new(channel.clone()).put(put("k0", "next")).await;
        assert_eq!(next.unwrap().into_inner().header.unwrap().revision, now + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_etcd), ignore = "etcd and etcdctl are not installed")]
async fn what_etcdctl_saved_of_meridian_becomes_an_etcd() {
    let old = World::start(1, &[]).await;
    let before = old.connect(0).await.unwrap();
    let (from, lease) = live(&before).await;
    let file = old.path("saved.db");
    etcdctl(&old.members[0].endpoint, &["snapshot", "save", &file])
        .await
        .ok();
    let new = World::planned(1);
    let (data, initial) = (
        new.members[0].data.display().to_string(),
        new.initial_cluster(),
    );
    etcdctl("127.0.0.1:1", &restore(&new, &file, &data, &initial))
        .await
        .ok();
    let (_etcd, after) = etcd(&new).await;
    alike(&before, &after, from, lease).await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_etcd), ignore = "etcd and etcdctl are not installed")]
async fn what_etcdctl_saved_of_an_etcd_becomes_a_cluster() {
    let old = World::planned(1);
    let (_etcd, before) = etcd(&old).await;
    let (from, lease) = live(&before).await;
    let file = old.path("saved.db");
    etcdctl(&old.members[0].endpoint, &["snapshot", "save", &file])
        .await
        .ok();
    let mut new = World::planned(1);
    let (data, initial) = (
        new.members[0].data.display().to_string(),
        new.initial_cluster(),
    );
    let meridian = || Command::new(env!("CARGO_BIN_EXE_meridian"));
    let status = run(meridian().args(["snapshot", "status", &file, "-o", "json"])).await;
    assert_eq!(status.json()["format"], "etcd");
    assert_eq!(status.json()["keys"], 6);

    // As it lies in a data directory: without a sum.
    let bare = old.path("bare.db");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&bare, &bytes[..bytes.len() - 32]).unwrap();
    let words = restore(&new, &bare, &data, &initial);
    let refused = run(meridian().args(&words)).await;
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("--skip-hash-check"), "{refused:?}");
    // And as it is after a disk's mistake.
    let wrong = old.path("wrong.db");
    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    std::fs::write(&wrong, &changed).unwrap();
    let refused = run(meridian().args(restore(&new, &wrong, &data, &initial))).await;
    assert!(refused.err.contains("SHA-256"), "{refused:?}");
    assert_eq!(refused.code, 1);

    let taken = run(meridian().args(words).arg("--skip-hash-check")).await;
    taken.ok();
    std::fs::remove_dir_all(&data).unwrap();
    let words = restore(&new, &file, &data, &initial);
    run(meridian().args(words)).await.ok();
    new.run(0, &["--initial-cluster", &initial]);
    assert!(new.all_ready().await);
    let after = new.connect(0).await.unwrap();
    alike(&before, &after, from, lease).await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_etcd), ignore = "etcd and etcdctl are not installed")]
async fn revisions_of_an_etcd_are_raised_on_the_way_in() {
    let old = World::planned(1);
    let (_etcd, before) = etcd(&old).await;
    let (from, _) = live(&before).await;
    let (wanted, now, _) = states(&before, from).await;
    let file = old.path("saved.db");
    etcdctl(&old.members[0].endpoint, &["snapshot", "save", &file])
        .await
        .ok();
    let mut new = World::planned(1);
    let (data, initial) = (
        new.members[0].data.display().to_string(),
        new.initial_cluster(),
    );
    let words = restore(&new, &file, &data, &initial);
    let bump = ["--bump-revision", "1000", "--mark-compacted"];
    let mut meridian = Command::new(env!("CARGO_BIN_EXE_meridian"));
    run(meridian.args(words).args(bump)).await.ok();
    new.run(0, &["--initial-cluster", &initial]);
    assert!(new.all_ready().await);
    let after = new.connect(0).await.unwrap();
    let (found, raised, refused) = states(&after, now + 1_000).await;
    assert_eq!((&found[0], raised), (&wanted[0], now + 1_000));
    assert!(refused.contains("compacted"), "{refused}");
}
