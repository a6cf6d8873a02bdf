//! What events carry, and how they are put into responses.

use meridian_proto::mvccpb::KeyValue;

use super::*;

#[tokio::test]
async fn a_live_event_comes_with_its_own_revision() {
    let world = World::new().await;
    let mut client = world.stream().await;
    client.created(on("a")).await;
    world.put("a", "1");
    let response = client.next().await;
    assert_eq!((response.watch_id, revision(&response)), (0, 2));
    let header = response.header.unwrap();
    assert_eq!(
        (header.cluster_id, header.member_id, header.raft_term),
        (7, 8, 3)
    );
    assert_eq!(response.events.len(), 1);
    let event = &response.events[0];
    assert_eq!((event.r#type, &event.prev_kv), (0, &None));
    let expected = KeyValue {
        key: "a".into(),
        create_revision: 2,
        mod_revision: 2,
        version: 1,
        value: "1".into(),
        lease: 0,
    };
    assert_eq!(event.kv.as_ref(), Some(&expected));
}

#[tokio::test]
async fn what_was_before_comes_if_asked_for_and_still_known() {
    let world = World::new().await;
    let mut client = world.stream().await;
    client
        .created(WatchCreateRequest {
            prev_kv: true,
            ..on("a")
        })
        .await;
    world.put("a", "1");
    assert_eq!(client.next().await.events[0].prev_kv, None);
    world.put("a", "2");
    let prev = client.next().await.events[0].prev_kv.clone().unwrap();
    assert_eq!(
        (prev.value, prev.mod_revision, prev.version),
        ("1".into(), 2, 1)
    );
    world.delete("a");
    let response = client.next().await;
    let event = &response.events[0];
    assert_eq!(event.prev_kv.as_ref().unwrap().value, "2");
    let kv = event.kv.as_ref().unwrap();
    assert_eq!(
        (
            kv.create_revision,
            kv.mod_revision,
            kv.version,
            kv.value.len()
        ),
        (0, 4, 0, 0)
    );
    // A later watch gets the same from the past; at the compacted revision what was before is gone.
    world.put("a", "3");
    world.put("a", "4");
    for (compacted, start, expected) in [
        (0, 3, vec![true, true, false, true]),
        (3, 3, vec![false, true, false, true]),
    ] {
        if compacted > 0 {
            world.compact(compacted);
        }
        let create = WatchCreateRequest {
            prev_kv: true,
            start_revision: start,
            ..on("a")
        };
        let mut late = world.stream().await;
        late.created(create).await;
        let mut shown = vec![];
        while shown.len() < expected.len() {
            shown.extend(late.next().await.events.iter().map(|e| e.prev_kv.is_some()));
        }
        assert_eq!(shown, expected, "compacted {compacted}");
    }
}

#[tokio::test]
async fn filters_take_events_out_and_nothing_is_sent_for_what_is_left() {
    let world = World::new().await;
    let mut client = world.stream().await;
    let with = |filters: &[i32]| WatchCreateRequest {
        filters: filters.to_vec(),
        ..on("a")
    };
    client.created(with(&[0])).await;
    client.created(with(&[1])).await;
    client.created(with(&[0, 1])).await;
    world.put("a", "1");
    let put = client.next().await;
    assert_eq!((put.watch_id, put.events[0].r#type), (1, 0));
    world.delete("a");
    let delete = client.next().await;
    assert_eq!((delete.watch_id, delete.events[0].r#type), (0, 1));
    client.is_quiet().await;
}

#[tokio::test]
async fn a_stream_may_ask_for_keys_alone() {
    let world = World::new().await;
    let mut client = world
        .stream_with(&[("meridian-watch-keys-only", "true")])
        .await;
    client
        .created(WatchCreateRequest {
            prev_kv: true,
            ..on("a")
        })
        .await;
    world.put("a", "secret");
    world.put("a", "secret too");
    let mut events = vec![];
    while events.len() < 2 {
        events.extend(client.next().await.events);
    }
    for (event, revision) in events.into_iter().zip([2, 3]) {
        let kv = event.kv.unwrap();
        assert_eq!((kv.mod_revision, kv.value.len()), (revision, 0));
        assert!(
            event
                .prev_kv
                .is_none_or(|kv| kv.value.is_empty() && kv.mod_revision == 2)
        );
    }
}

#[tokio::test]
async fn a_revision_stays_whole_unless_fragments_were_asked_for() {
    let world = World::given(Given {
        message_bytes_max: 20_000,
        ..Given::default()
    })
    .await;
    let mut whole = world.stream().await;
    whole.created(from("k")).await;
    let mut cut = world.stream().await;
    cut.created(WatchCreateRequest {
        fragment: true,
        ..from("k")
    })
    .await;
    // Ten events of about 6 kB: larger than one message may be, three to a piece.
    world.txn(
        (0..10)
            .map(|n| put(&format!("k{n}"), vec![n; 6_000]))
            .collect(),
    );
    let response = whole.next().await;
    assert_eq!((response.events.len(), response.fragment), (10, false));
    let mut pieces = vec![];
    loop {
        let piece = cut.next().await;
        assert_eq!((revision(&piece), piece.watch_id), (2, 0));
        assert!(prost::Message::encoded_len(&piece) < 20_000);
        pieces.push(piece.clone());
        if !piece.fragment {
            break;
        }
    }
    assert_eq!(
        pieces.iter().map(|p| p.events.len()).collect::<Vec<_>>(),
        [3, 3, 3, 1]
    );
    let events: Vec<_> = pieces.into_iter().flat_map(|p| p.events).collect();
    assert_eq!(events, response.events);
    // One event is not cut, however large; what fits is not cut either.
    world.put("k", vec![0; 50_000]);
    let one = cut.next().await;
    assert_eq!((one.events.len(), one.fragment), (1, false));
    world.txn(vec![put("k1", "x"), put("k2", "y")]);
    let two = cut.next().await;
    assert_eq!((two.events.len(), two.fragment), (2, false));
}

#[tokio::test]
async fn events_of_a_transaction_come_in_its_order() {
    let world = World::new().await;
    let mut client = world.stream().await;
    client.created(from("a")).await;
    world.txn(vec![put("c", "1"), put("a", "2"), put("b", "3")]);
    let keys: Vec<_> = client
        .events(3)
        .await
        .into_iter()
        .map(|(_, key, _)| key)
        .collect();
    assert_eq!(keys, ["c", "a", "b"]);
}

#[tokio::test]
async fn every_watch_of_a_stream_gets_an_event_they_share() {
    let world = World::new().await;
    let mut client = world.stream().await;
    for id in 0..500 {
        assert_eq!(
            client
                .created(if id % 2 == 0 { on("a") } else { from("a") })
                .await
                .watch_id,
            id
        );
    }
    world.put("a", "1");
    let mut ids: Vec<i64> = vec![];
    for _ in 0..500 {
        let response = client.next().await;
        assert_eq!((revision(&response), response.events.len()), (2, 1));
        ids.push(response.watch_id);
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..500).collect::<Vec<_>>());
    client.is_quiet().await;
}
