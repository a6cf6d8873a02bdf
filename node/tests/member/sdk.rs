//! The client crate against Meridian: what only it has, and that the rest works as on etcd.

use std::time::Duration;

use crate::served::Served;
use meridian_client::{Client, Event, Keys, Kind, Options, Put, Quota, Retention};

async fn client(member: &Served, options: Options) -> Client {
    Client::connect([member.authority()], options)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_do_not_see_each_other_and_keep_to_their_quotas() {
    let member = Served::start().await;
    let default = client(&member, Options::default()).await;
    let quota = Quota {
        keys: 1,
        ..Quota::default()
    };
    let tenant = default
        .tenant_create("a", quota, Retention::default())
        .await
        .unwrap();
    assert_eq!(
        (tenant.name.as_str(), tenant.quota.keys, tenant.revision),
        ("a", 1, 1)
    );
    let taken = default
        .tenant_create("a", quota, Retention::default())
        .await
        .unwrap_err();
    assert_eq!(taken.kind(), &Kind::AlreadyExists);

    let of_a = Options {
        tenant: Some("a".into()),
        ..Options::default()
    };
    let a = client(&member, of_a).await;
    assert_eq!(a.put("k", "mine").await.unwrap().revision, 2);
    assert_eq!(default.get("k").await.unwrap(), None);
    let over = a.put("l", "x").await.unwrap_err();
    assert_eq!(
        (over.kind(), over.code()),
        (&Kind::QuotaExceeded, Some("QUOTA_EXCEEDED"))
    );
    assert!(over.hint().unwrap().contains("tenant a"));
    assert!(!over.outcome_unknown());
    a.delete("k").await.unwrap();
    a.put("l", "x").await.unwrap();

    let nobody = Options {
        tenant: Some("nobody".into()),
        ..Options::default()
    };
    let error = client(&member, nobody).await.get("k").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (&Kind::NotFound, Some("TENANT_NOT_FOUND"))
    );
    default.tenant_delete("a").await.unwrap();
    assert_eq!(default.tenants().await.unwrap().len(), 1);
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_of_a_watch_gets_everything() {
    let member = Served::start().await;
    let options = Options {
        watch_streams: 1,
        watch_buffer: 2,
        ..Options::default()
    };
    let client = client(&member, options).await;
    let mut slow = client.watch(Keys::prefix("s/")).await.unwrap();
    let first = slow.start_revision();
    for i in 0..200 {
        client.put(format!("s/{i}"), "x").await.unwrap();
    }
    for expected in first..first + 200 {
        let next = tokio::time::timeout(Duration::from_mins(1), slow.next_event());
        let event: Event = next.await.expect("in time").unwrap().unwrap();
        assert_eq!(event.revision(), expected);
    }
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_and_elections_fence_and_leases_are_kept() {
    let member = Served::start().await;
    let client = client(&member, Options::default()).await;
    let first = client.lock("m").acquire().await.unwrap();
    assert!(client.lock("m").try_acquire().await.unwrap().is_none());
    let guarded = client.txn().when(first.held()).then(Put::new("g", "1"));
    assert!(guarded.clone().await.unwrap().succeeded);
    let token = first.token();
    first.unlock().await.unwrap();
    assert!(!guarded.await.unwrap().succeeded);
    assert!(client.lock("m").acquire().await.unwrap().token() > token);

    let election = client.election("e");
    let mut observe = election.observe();
    let ann = election.campaign("ann").await.unwrap();
    assert_eq!(observe.next().await.unwrap().value, "ann");
    ann.proclaim("ann!").await.unwrap();
    assert_eq!(observe.next().await.unwrap().value, "ann!");
    ann.resign().await.unwrap();
    assert_eq!(election.leader().await.unwrap(), None);

    let lease = client.grant(Duration::from_secs(2)).await.unwrap();
    let keep_alive = lease.keep_alive();
    client.put("l", "v").lease(lease.id()).await.unwrap();
    tokio::time::sleep(lease.ttl() + Duration::from_secs(2)).await;
    assert!(client.get("l").await.unwrap().is_some());
    lease.revoke().await.unwrap();
    assert_eq!(keep_alive.lost().await.kind(), &Kind::Lost);
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_say_more_of_themselves_than_etcds_and_snapshots_verify() {
    let member = Served::start().await;
    let client = client(&member, Options::default()).await;
    client.put("k", "v").await.unwrap();
    let endpoint = client.endpoints().remove(0);
    let status = client.status(&endpoint).await.unwrap();
    assert!(status.is_leader());
    let own = client
        .meridian_status(&endpoint)
        .await
        .unwrap()
        .expect("it is Meridian");
    assert_eq!(own.version, env!("CARGO_PKG_VERSION"));
    let mut snapshot = client.snapshot(&endpoint).await.unwrap();
    let mut bytes = 0;
    while let Some(chunk) = snapshot.next().await.unwrap() {
        bytes += chunk.bytes.len();
    }
    assert!(bytes > 0);
    member.stop().await;
}
