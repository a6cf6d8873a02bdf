//! Progress messages: what they promise, and when there are none.

use super::*;

#[tokio::test]
async fn progress_comes_after_the_events_before_it() {
    let world = World::new().await;
    let mut client = world.stream().await;
    client.created(on("a")).await;
    client.created(on("b")).await;
    for round in 0..200 {
        world.put("a", "1");
        let last = world.put("b", "2");
        client.ask_progress().await;
        let mut events = 0;
        loop {
            let response = client.next().await;
            events += response.events.len();
            if response.events.is_empty() {
                let told = (response.watch_id, revision(&response), response.created);
                assert_eq!(told, (-1, last, false), "round {round}");
                break;
            }
        }
        assert_eq!(events, 2, "round {round}");
    }
}

#[tokio::test]
async fn a_stream_without_watches_gets_no_progress() {
    let world = World::new().await;
    let mut client = world.stream().await;
    client.ask_progress().await;
    client.is_quiet().await;
}

#[tokio::test]
async fn progress_of_other_keys_reaches_a_quiet_watch() {
    let world = World::new().await;
    let mut client = world.stream().await;
    client.created(on("a")).await;
    let last = world.put("b", "1");
    client.ask_progress().await;
    let progress = client.next().await;
    assert_eq!((progress.watch_id, revision(&progress)), (-1, last));
    assert!(progress.events.is_empty() && !progress.canceled && progress.compact_revision == 0);
}

#[tokio::test]
async fn a_stream_may_set_its_own_interval_and_only_watches_that_asked_are_told() {
    let world = World::new().await;
    let mut client = world
        .stream_with(&[("meridian-progress-interval-ms", "1")])
        .await;
    client.created(on("a")).await;
    client
        .created(WatchCreateRequest {
            progress_notify: true,
            ..on("a")
        })
        .await;
    let last = world.put("b", "1");
    for _ in 0..3 {
        let progress = client.next().await;
        assert_eq!((progress.watch_id, progress.events.len()), (1, 0));
        assert!(revision(&progress) <= last);
    }
    assert_eq!(revision(&client.next().await), last);
    client.cancel(1).await;
    while !client.next().await.canceled {}
    client.is_quiet().await;
}

#[tokio::test]
async fn a_watch_that_waits_for_the_future_is_told_nothing_below_it() {
    let world = World::new().await;
    let mut client = world
        .stream_with(&[("meridian-progress-interval-ms", "100")])
        .await;
    let create = WatchCreateRequest {
        progress_notify: true,
        start_revision: 4,
        ..on("a")
    };
    client.created(create).await;
    client
        .created(WatchCreateRequest {
            progress_notify: true,
            ..on("a")
        })
        .await;
    // The second is told; the first is not.
    for _ in 0..2 {
        assert_eq!(client.next().await.watch_id, 1);
    }
    for _ in 0..3 {
        world.put("b", "1");
    }
    loop {
        let progress = client.next().await;
        if progress.watch_id == 0 {
            assert_eq!(revision(&progress), 4);
            break;
        }
    }
}
