//! Watches that start in the past or the future, and clients that do not read.

use super::*;

#[tokio::test]
async fn a_watch_of_the_past_reads_history_and_goes_on_live() {
    // Almost everything is older than the ring.
    let world = World::given(Given {
        ring_commits_max: 8,
        ..Given::default()
    })
    .await;
    for n in 0..3_000 {
        world.put(if n % 3 == 0 { "a" } else { "b" }, format!("{n}"));
    }
    let mut client = world.stream().await;
    client
        .created(WatchCreateRequest {
            start_revision: 1,
            ..on("a")
        })
        .await;
    client
        .created(WatchCreateRequest {
            start_revision: 1_000,
            ..from("")
        })
        .await;
    client.created(on("b")).await;
    for n in 0..10 {
        world.put("b", format!("live {n}"));
    }
    let mut seen: [Vec<i64>; 3] = Default::default();
    while seen[0].len() < 1_000 || seen[1].len() < 2_012 || seen[2].len() < 10 {
        let response = client.next().await;
        let revisions: Vec<_> = response
            .events
            .iter()
            .map(|e| e.kv.as_ref().unwrap().mod_revision)
            .collect();
        assert!(revision(&response) >= *revisions.last().unwrap());
        let mut distinct = revisions.clone();
        distinct.dedup();
        assert!(distinct.len() <= 1_000);
        seen[usize::try_from(response.watch_id).unwrap()].extend(revisions);
    }
    assert_eq!(seen[0], (2..=3_001).step_by(3).collect::<Vec<_>>());
    assert_eq!(seen[1], (1_000..=3_011).collect::<Vec<_>>());
    assert_eq!(seen[2], (3_002..=3_011).collect::<Vec<_>>());
    client.is_quiet().await;
}

#[tokio::test]
async fn a_start_in_the_future_is_a_floor() {
    let world = World::new().await;
    let mut client = world.stream().await;
    client
        .created(WatchCreateRequest {
            start_revision: 4,
            ..on("a")
        })
        .await;
    world.put("a", "1");
    world.put("a", "2");
    client.ask_progress().await;
    client.is_quiet().await;
    world.put("a", "3");
    assert_eq!(client.events(1).await, [(4, "a".to_owned(), false)]);
    client.ask_progress().await;
    let progress = client.next().await;
    assert_eq!((progress.watch_id, revision(&progress)), (-1, 4));
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_nobody_and_misses_nothing() {
    let world = World::given(Given {
        ring_commits_max: 64,
        ..Given::default()
    })
    .await;
    let mut slow = world.stream().await;
    slow.created(from("")).await;
    let mut quick = world.stream().await;
    quick.created(on("last")).await;
    // Far more than the connection's windows take.
    let value = Bytes::from(vec![b'x'; 16 << 10]);
    for _ in 0..600 {
        world.put("a", value.clone());
    }
    let last = world.put("last", "1");
    assert_eq!(quick.events(1).await, [(last, "last".to_owned(), false)]);
    let seen: Vec<_> = slow
        .events(601)
        .await
        .into_iter()
        .map(|(revision, ..)| revision)
        .collect();
    assert_eq!(seen, (2..=last).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_watch_that_is_overtaken_by_compaction_is_canceled() {
    let world = World::given(Given {
        ring_commits_max: 8,
        ..Given::default()
    })
    .await;
    let mut slow = world.stream().await;
    slow.created(from("")).await;
    let value = Bytes::from(vec![b'x'; 16 << 10]);
    for _ in 0..600 {
        world.put("a", value.clone());
    }
    world.compact(600);
    let mut next = 2;
    loop {
        let response = slow.next().await;
        if response.canceled {
            assert_eq!((response.compact_revision, revision(&response)), (600, 0));
            break;
        }
        for event in response.events {
            assert_eq!(event.kv.unwrap().mod_revision, next);
            next += 1;
        }
    }
    assert!(next < 600);
    slow.is_quiet().await;
}
