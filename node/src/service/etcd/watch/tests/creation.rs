//! Creating and canceling: ids, refusals, quotas.

use meridian_domain::tenant::{Quota, Retention};

use super::*;

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

fn refused(response: &WatchResponse, reason: &str) {
    assert!(response.created && response.canceled, "{response:?}");
    assert_eq!(
        (response.watch_id, response.cancel_reason.as_str()),
        (-1, reason)
    );
    assert_eq!(response.compact_revision, 0);
}

#[tokio::test]
async fn a_created_message_comes_first_with_the_current_revision() {
    let world = World::new().await;
    world.put("a", "1");
    let mut client = world.stream().await;
    let created = client.created(on("a")).await;
    let header = created.header.unwrap();
    assert_eq!(
        (
            header.cluster_id,
            header.member_id,
            header.revision,
            header.raft_term
        ),
        (7, 8, 2, 3)
    );
    assert_eq!((created.watch_id, created.canceled), (0, false));
    assert_eq!(
        client
            .created(WatchCreateRequest {
                start_revision: 2,
                ..on("a")
            })
            .await
            .watch_id,
        1
    );
    assert_eq!(client.events(1).await, [(2, "a".to_owned(), false)]);
}

#[tokio::test]
async fn ids_are_counted_up_skip_what_is_taken_and_do_not_come_back() {
    let world = World::new().await;
    let mut client = world.stream().await;
    let with_id = |watch_id| WatchCreateRequest {
        watch_id,
        ..on("a")
    };
    assert_eq!(client.created(with_id(1)).await.watch_id, 1);
    assert_eq!(client.created(with_id(0)).await.watch_id, 0);
    assert_eq!(client.created(with_id(0)).await.watch_id, 2);
    client.cancel(2).await;
    let canceled = client.next().await;
    assert!(canceled.canceled && canceled.watch_id == 2 && canceled.cancel_reason.is_empty());
    assert_eq!(revision(&canceled), 1);
    assert_eq!(client.created(with_id(0)).await.watch_id, 3);
    client.create(with_id(1)).await;
    refused(
        &client.next().await,
        "mvcc: duplicate watch ID provided on the WatchStream",
    );
    client.cancel(1).await;
    assert!(client.next().await.canceled);
    assert_eq!(client.created(with_id(1)).await.watch_id, 1);
    // No answer for an id nobody has.
    client.cancel(77).await;
    client.is_quiet().await;
}

#[tokio::test]
async fn a_watch_that_can_not_be_is_refused_and_the_stream_goes_on() {
    let world = World::new().await;
    let mut client = world.stream().await;
    for (start, end) in [("b", "a"), ("b", "b")] {
        client
            .create(WatchCreateRequest {
                range_end: end.into(),
                ..on(start)
            })
            .await;
        refused(&client.next().await, "mvcc: watcher range is empty");
    }
    client
        .create(WatchCreateRequest {
            start_revision: -1,
            ..on("a")
        })
        .await;
    refused(&client.next().await, COMPACTED);
    client.send(RequestUnion::CreateRequest(on("a"))).await;
    assert_eq!(client.next().await.watch_id, 0);
    world.put("a", "1");
    assert_eq!(client.events(1).await.len(), 1);
}

#[tokio::test]
async fn a_request_that_says_nothing_is_ignored() {
    let world = World::new().await;
    let mut client = world.stream().await;
    let nothing = WatchRequest {
        request_union: None,
    };
    client
        .requests
        .as_ref()
        .unwrap()
        .send(nothing)
        .await
        .unwrap();
    client.is_quiet().await;
}

#[tokio::test]
async fn an_empty_key_is_the_smallest() {
    let world = World::new().await;
    let mut client = world.stream().await;
    client.created(from("")).await;
    world.put("a", "1");
    assert_eq!(client.events(1).await, [(2, "a".to_owned(), false)]);
}

#[tokio::test]
async fn a_start_that_was_compacted_is_created_and_canceled_with_the_revision() {
    let world = World::new().await;
    for value in ["1", "2", "3", "4"] {
        world.put("a", value);
    }
    world.delete("a");
    world.compact(5);
    let mut client = world.stream().await;
    let created = client
        .created(WatchCreateRequest {
            start_revision: 4,
            ..on("a")
        })
        .await;
    assert!(!created.canceled);
    let canceled = client.next().await;
    assert!(canceled.canceled && !canceled.created);
    assert_eq!(
        (canceled.watch_id, canceled.compact_revision),
        (created.watch_id, 5)
    );
    assert_eq!(
        (canceled.cancel_reason.as_str(), revision(&canceled)),
        ("", 0)
    );
    assert_eq!(canceled.header.unwrap().raft_term, 3);
    client
        .created(WatchCreateRequest {
            start_revision: 5,
            ..on("a")
        })
        .await;
    assert_eq!(
        client.events(2).await,
        [(5, "a".into(), false), (6, "a".into(), true)]
    );
}

#[tokio::test]
async fn a_tenant_has_as_many_watches_as_its_quota_says() {
    let world = World::new().await;
    let quota = Quota {
        watchers: 2,
        ..Quota::default()
    };
    let retention = Retention::default();
    let create = Command::TenantCreate {
        name: tenant("small"),
        quota,
        retention,
    };
    world.apply(TenantId::SYSTEM, create);
    let mut client = world.stream_with(&[("meridian-tenant", "small")]).await;
    client.created(on("a")).await;
    client.created(on("a")).await;
    client.create(on("a")).await;
    let refused = client.next().await;
    assert!(refused.created && refused.canceled && refused.watch_id == -1);
    let reason = refused.cancel_reason;
    assert!(
        reason.starts_with("etcdserver: too many requests"),
        "{reason}"
    );
    assert!(
        reason.contains("small") && reason.contains("2 watchers"),
        "{reason}"
    );
    client.cancel(0).await;
    assert!(client.next().await.canceled);
    client.created(on("a")).await;
    // Others are not concerned.
    world.stream().await.created(on("a")).await;
}
