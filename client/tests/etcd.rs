//! The client against real etcd processes: what holds for etcd's API holds for Meridian's.
//!
//! Without etcd on the machine these tests are shown as ignored.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "tests"
)]

mod cluster;

use std::collections::HashSet;
use std::time::Duration;

use cluster::Etcd;
use meridian_client::{Client, Compare, Delete, Event, Keys, Kind, Options, Put, Range, Watch};

/// Reads events until the one with this key, itself included; fails if the watch ends.
async fn events_until(watch: &mut Watch, key: &str) -> Vec<Event> {
    let mut events = vec![];
    loop {
        let next = tokio::time::timeout(Duration::from_mins(1), watch.next_event());
        let event = next
            .await
            .expect("an event in time")
            .expect("the watch is open")
            .unwrap();
        events.push(event);
        if events.last().unwrap().key() == key {
            return events;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_etcd), ignore = "etcd is not installed")]
async fn keys_are_written_read_compared_and_deleted() {
    let etcd = Etcd::start(1).await;
    let client = etcd.client().await;
    let first = client.put("a/1", "one").await.unwrap();
    assert_eq!(first.prev_kv, None);
    let second = client.put("a/1", "uno").prev_kv().await.unwrap();
    assert_eq!(second.revision, first.revision + 1);
    assert_eq!(second.prev_kv.unwrap().value, "one");
    assert_eq!(client.get("a/1").await.unwrap().unwrap().version, 2);
    assert_eq!(
        client
            .get("a/1")
            .revision(first.revision)
            .await
            .unwrap()
            .unwrap()
            .value,
        "one"
    );
    assert_eq!(client.get("none").await.unwrap(), None);

    let txn = client
        .txn()
        .when(Compare::value("a/1").equals("uno"))
        .when(Compare::missing("a/2"))
        .then(Put::new("a/2", "two"))
        .then(Range::of(Keys::prefix("a/")))
        .otherwise(Delete::of("a/1"));
    let answer = txn.clone().await.unwrap();
    assert!(answer.succeeded);
    assert_eq!(answer.range(1).unwrap().count, 2);
    let answer = txn.await.unwrap();
    assert!(!answer.succeeded);
    assert_eq!(
        client.range(Keys::all()).count_only().await.unwrap().count,
        1
    );
    assert_eq!(
        client
            .delete(Keys::prefix("a/"))
            .prev_kv()
            .await
            .unwrap()
            .prev_kvs
            .len(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_etcd), ignore = "etcd is not installed")]
async fn pages_show_one_revision_whatever_is_written_meanwhile() {
    let etcd = Etcd::start(1).await;
    let client = etcd.client().await;
    for i in 0..25 {
        client.put(format!("p/{i:02}"), "old").await.unwrap();
    }
    let mut pages = client.pages(Keys::prefix("p/")).size(10);
    let mut read = pages.next().await.unwrap().unwrap();
    assert_eq!(read.len(), 10);
    client.put("p/15", "new").await.unwrap();
    client.delete("p/20").await.unwrap();
    while let Some(page) = pages.next().await.unwrap() {
        read.extend(page);
    }
    assert_eq!(read.len(), 25);
    assert!(read.iter().all(|kv| kv.value == "old"));
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_etcd), ignore = "etcd is not installed")]
async fn a_refusal_has_a_kind_and_a_code_and_a_known_outcome() {
    let etcd = Etcd::start(1).await;
    let client = etcd.client().await;
    let no_lease = client.put("k", "v").lease(99).await.unwrap_err();
    assert_eq!(
        (no_lease.kind(), no_lease.code()),
        (&Kind::NotFound, Some("LEASE_NOT_FOUND"))
    );
    assert!(!no_lease.outcome_unknown() && !no_lease.is_retryable());

    let revision = client.put("k", "v").await.unwrap().revision;
    client.put("k", "w").await.unwrap();
    client.compact(revision).await.unwrap();
    let old = client.get("k").revision(1).await.unwrap_err();
    assert_eq!(old.kind(), &Kind::Compacted { compacted: None });
    let mut watch = client.watch("k").start_revision(1).await.unwrap();
    let error = watch.next().await.unwrap().unwrap_err();
    assert_eq!(
        error.kind(),
        &Kind::Compacted {
            compacted: Some(revision)
        }
    );
    assert!(watch.next().await.is_none());

    let range = client.watch(Keys::range("b", "a")).await.unwrap_err();
    assert_eq!(range.kind(), &Kind::Refused);
    assert_eq!(
        client.tenants().await.unwrap_err().kind(),
        &Kind::Unsupported
    );
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_etcd), ignore = "etcd is not installed")]
async fn watches_share_streams_and_each_sees_its_own_keys() {
    let etcd = Etcd::start(1).await;
    let client = etcd
        .client_with(Options {
            watch_streams: 2,
            ..Options::default()
        })
        .await;
    let mut watches = vec![];
    for i in 0..50 {
        watches.push(
            client
                .watch(Keys::prefix(format!("w/{i:02}/")))
                .prev_kv()
                .await
                .unwrap(),
        );
    }
    for i in 0..50 {
        client.put(format!("w/{i:02}/a"), "1").await.unwrap();
        client.put(format!("w/{i:02}/a"), "2").await.unwrap();
        client.delete(format!("w/{i:02}/a")).await.unwrap();
    }
    for (i, watch) in watches.iter_mut().enumerate() {
        for expected in ["1", "2", "gone"] {
            let event = watch.next_event().await.unwrap().unwrap();
            assert_eq!(event.key(), &format!("w/{i:02}/a"));
            match event {
                Event::Put { kv, .. } => assert_eq!(kv.value, expected),
                Event::Delete { prev_kv, .. } => {
                    assert_eq!(
                        (prev_kv.unwrap().value.as_ref(), expected),
                        (&b"2"[..], "gone")
                    );
                }
            }
        }
    }
    watches.truncate(1);
    client.put("w/00/z", "still here").await.unwrap();
    assert_eq!(
        watches[0].next_event().await.unwrap().unwrap().key(),
        "w/00/z"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_etcd), ignore = "etcd is not installed")]
async fn a_reader_that_falls_behind_gets_everything_and_delays_nobody() {
    let etcd = Etcd::start(1).await;
    let options = Options {
        watch_streams: 1,
        watch_buffer: 2,
        ..Options::default()
    };
    let client = etcd.client_with(options).await;
    let mut slow = client.watch(Keys::prefix("s/")).await.unwrap();
    let mut quick = client.watch(Keys::prefix("s/")).await.unwrap();
    let reading = tokio::spawn(async move { events_until(&mut quick, "s/end").await.len() });
    for i in 0..300 {
        client.put(format!("s/{i}"), "x").await.unwrap();
    }
    client.put("s/end", "x").await.unwrap();
    assert_eq!(reading.await.unwrap(), 301);
    let events = events_until(&mut slow, "s/end").await;
    let revisions: Vec<_> = events.iter().map(Event::revision).collect();
    let first = revisions[0];
    assert_eq!(revisions, (first..first + 301).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_etcd), ignore = "etcd is not installed")]
async fn watches_and_calls_go_on_while_members_are_killed_one_after_another() {
    let mut etcd = Etcd::start(3).await;
    let client = etcd.client().await;
    let mut watch = client.watch(Keys::prefix("f/")).await.unwrap();
    let writer = {
        let client = client.clone();
        tokio::spawn(async move {
            let mut surely_written = HashSet::new();
            for i in 0..400 {
                let key = format!("f/{i:03}");
                if client.put(key.clone(), "x").await.is_ok() {
                    surely_written.insert(key);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            surely_written
        })
    };
    for member in 0..3 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        etcd.kill(member);
        // Reads are repeated until the members left have a leader.
        client.get("f/000").await.unwrap();
        etcd.restart(member);
        etcd.serves(member).await;
    }
    let written = writer.await.unwrap();
    while client.put("f/end", "x").await.is_err() {}
    let events = events_until(&mut watch, "f/end").await;
    let seen: Vec<String> = events
        .iter()
        .map(|e| String::from_utf8(e.key().to_vec()).unwrap())
        .collect();
    let unique: HashSet<&String> = seen.iter().collect();
    assert_eq!(unique.len(), seen.len(), "an event came twice");
    let missing: Vec<_> = written.iter().filter(|key| !unique.contains(key)).collect();
    assert!(missing.is_empty(), "events are missing: {missing:?}");
    assert!(events.is_sorted_by_key(Event::revision));
    assert!(
        written.len() > 300,
        "only {} writes succeeded",
        written.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_etcd), ignore = "etcd is not installed")]
async fn a_lease_is_kept_alive_and_its_end_is_noticed() {
    let etcd = Etcd::start(1).await;
    let client = etcd.client().await;
    let lease = client.grant(Duration::from_secs(2)).await.unwrap();
    client.put("l", "v").lease(lease.id()).await.unwrap();
    let keep_alive = lease.keep_alive();
    tokio::time::sleep(lease.ttl() + Duration::from_secs(2)).await;
    assert!(client.get("l").await.unwrap().is_some());
    assert_eq!(keep_alive.is_lost().map(|e| e.to_string()), None);
    assert_eq!(lease.status(true).await.unwrap().keys, ["l"]);
    assert_eq!(client.leases().await.unwrap(), [lease.id()]);
    lease.revoke().await.unwrap();
    assert_eq!(keep_alive.lost().await.kind(), &Kind::Lost);
    assert!(client.get("l").await.unwrap().is_none());
    assert_eq!(lease.renew().await.unwrap_err().kind(), &Kind::Lost);
    assert_eq!(lease.status(false).await.unwrap().remaining, None);
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_etcd), ignore = "etcd is not installed")]
async fn a_lock_has_one_holder_and_tokens_grow() {
    let etcd = Etcd::start(1).await;
    let client = etcd.client().await;
    let first = client.lock("mutex").acquire().await.unwrap();
    assert!(client.lock("mutex").try_acquire().await.unwrap().is_none());
    let (tx, mut rx) = tokio::sync::mpsc::channel(1);
    let other = client.clone();
    let waiting = tokio::spawn(async move {
        let second = other.lock("mutex").acquire().await.unwrap();
        tx.send(()).await.unwrap();
        second
    });
    // The second is in the queue once it has a key there, and then it must not get the lock.
    while client
        .range(Keys::prefix("mutex/"))
        .count_only()
        .await
        .unwrap()
        .count
        < 2
    {}
    assert!(rx.try_recv().is_err());
    let token = first.token();
    let fenced = client
        .txn()
        .when(first.held())
        .then(Put::new("guarded", "1"));
    assert!(fenced.clone().await.unwrap().succeeded);
    first.unlock().await.unwrap();
    let second = waiting.await.unwrap();
    assert!(second.token() > token);
    assert!(
        !fenced.await.unwrap().succeeded,
        "a stale token must not pass"
    );

    // A holder whose key is removed behind its back is told by its fence, one whose lease ends at once.
    let key = String::from_utf8(second.key().to_vec()).unwrap();
    let lease = i64::from_str_radix(key.rsplit('/').next().unwrap(), 16).unwrap();
    client.lease(lease).revoke().await.unwrap();
    assert_eq!(second.lost().await.kind(), &Kind::Lost);

    drop(client.lock("dropped").acquire().await.unwrap());
    client
        .lock("dropped")
        .acquire()
        .await
        .unwrap()
        .unlock()
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_etcd), ignore = "etcd is not installed")]
async fn an_election_has_one_leader_that_everyone_sees_change() {
    let etcd = Etcd::start(1).await;
    let client = etcd.client().await;
    let election = client.election("boss");
    assert_eq!(election.leader().await.unwrap(), None);
    let mut observe = election.observe();
    let ann = election.campaign("ann").await.unwrap();
    assert_eq!(observe.next().await.unwrap().value, "ann");
    let bob = tokio::spawn({
        let election = election.clone();
        async move { election.campaign("bob").await.unwrap() }
    });
    ann.proclaim("ann!").await.unwrap();
    assert_eq!(observe.next().await.unwrap().value, "ann!");
    let token = ann.token();
    ann.resign().await.unwrap();
    let bob = bob.await.unwrap();
    assert!(bob.token() > token);
    assert_eq!(observe.next().await.unwrap().value, "bob");
    assert_eq!(election.leader().await.unwrap().unwrap().value, "bob");
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_etcd), ignore = "etcd is not installed")]
async fn members_tell_how_they_are_and_hand_out_snapshots_that_verify() {
    let etcd = Etcd::start(3).await;
    let client = etcd.client().await;
    client.put("k", "v").await.unwrap();
    let members = client.members().await.unwrap().members;
    assert_eq!(members.len(), 3);
    let statuses = client.statuses().await;
    let leaders: Vec<_> = statuses
        .iter()
        .filter(|(_, s)| s.as_ref().unwrap().is_leader())
        .collect();
    assert_eq!(leaders.len(), 1);
    assert_eq!(
        client.meridian_status(etcd.endpoint(0)).await.unwrap(),
        None
    );

    let old = leaders[0].1.as_ref().unwrap().member_id;
    let target = members.iter().find(|member| member.id != old).unwrap().id;
    client.move_leader(target).await.unwrap();
    let now = client.status(etcd.endpoint(0)).await.unwrap();
    assert_eq!(now.leader_id, target);

    let revision = client.range(Keys::all()).await.unwrap().revision;
    let mut hashes = HashSet::new();
    for endpoint in etcd.endpoints() {
        // A follower may lag behind the write by a moment.
        let single = Client::lazy([endpoint], Options::default()).unwrap();
        single.get("k").await.unwrap();
        hashes.insert(client.hash_kv(endpoint, revision).await.unwrap().hash);
    }
    assert_eq!(hashes.len(), 1);
    assert_eq!(client.alarms().await.unwrap(), []);

    let mut snapshot = client.snapshot(etcd.endpoint(1)).await.unwrap();
    let mut bytes = 0;
    while let Some(chunk) = snapshot.next().await.unwrap() {
        bytes += chunk.bytes.len();
    }
    assert!(bytes > 4096, "{bytes}");
    client.defragment(etcd.endpoint(2)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_etcd), ignore = "etcd is not installed")]
async fn a_cluster_that_is_gone_is_an_error_that_says_so() {
    let mut etcd = Etcd::start(1).await;
    let timeout = Duration::from_millis(500);
    let client = etcd
        .client_with(Options {
            timeout,
            ..Options::default()
        })
        .await;
    etcd.kill(0);
    let error = client.put("k", "v").await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let error = client.put("k", "v").await.unwrap_err();
    assert_eq!(error.kind(), &Kind::Unavailable);
    assert!(!error.outcome_unknown(), "nothing was sent: {error}");
    let refused = Client::connect(etcd.endpoints(), Options::default())
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), &Kind::Unavailable);
    assert!(refused.to_string().contains("can not connect"), "{refused}");
}
