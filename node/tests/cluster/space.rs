//! Too much: the alarm NOSPACE is raised, holds back what grows, and goes when it is disarmed.

use meridian_proto::etcdserverpb::{DeleteRangeRequest, LeaseGrantRequest, lease_client};
use tonic::Code;

use crate::ctl::etcdctl;
use crate::world::{World, get, put, until};

const EXCEEDED: &str = "etcdserver: mvcc: database space exceeded";

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_etcd), ignore = "etcd and etcdctl are not installed")]
async fn without_space_puts_wait_for_the_alarm_to_be_disarmed() {
    let world = World::start(3, &["--quota-backend-bytes", "300000"]).await;
    let all = world.endpoints();
    let mut kv = world.kv(1).await;
    let mut written = 0;
    let refused = loop {
        match kv
            .put(put(&format!("k{written:03}"), vec![7; 10_000]))
            .await
        {
            Ok(_) => written += 1,
            Err(refused) => break refused,
        }
        assert!(written < 1000, "no bound");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::ResourceExhausted, EXCEEDED)
    );
    assert!(written >= 29, "refused after {written} puts of 10 kB");

    // Seen everywhere, as in etcd.
    let listed = etcdctl(&all, &["alarm", "list"]).await;
    assert!(listed.ok().contains("alarm:NOSPACE"), "{listed:?}");
    let status = etcdctl(&all, &["endpoint", "status"]).await;
    assert!(status.ok().contains("alarm:NOSPACE"), "{status:?}");
    for i in 0..3 {
        let refused = world.kv(i).await.put(put("more", "x")).await.unwrap_err();
        assert_eq!(refused.message(), EXCEEDED);
        let channel = world.connect(i).await.unwrap();
        let grant = LeaseGrantRequest { ttl: 60, id: 0 };
        let refused = lease_client::LeaseClient::new(channel)
            .lease_grant(grant)
            .await
            .unwrap_err();
        assert_eq!(refused.message(), EXCEEDED);
    }

    // Reads and deletes go on; and room alone does not end the alarm.
    assert_eq!(kv.range(get("k000")).await.unwrap().get_ref().count, 1);
    let delete = DeleteRangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        ..DeleteRangeRequest::default()
    };
    let deleted = kv.delete_range(delete).await.unwrap().into_inner().deleted;
    assert_eq!(deleted, written);
    let refused = kv.put(put("more", "x")).await.unwrap_err();
    assert_eq!(refused.message(), EXCEEDED);
    let disarmed = etcdctl(&all, &["alarm", "disarm"]).await;
    assert!(disarmed.ok().contains("alarm:NOSPACE"), "{disarmed:?}");
    kv.put(put("more", "x")).await.unwrap();
    assert_eq!(etcdctl(&all, &["alarm", "list"]).await.ok(), "");
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_etcd), ignore = "etcd and etcdctl are not installed")]
async fn an_alarm_disarmed_too_early_comes_back() {
    let world = World::start(1, &["--quota-backend-bytes", "50000"]).await;
    let mut kv = world.kv(0).await;
    let mut n = 0;
    while kv.put(put(&format!("k{n}"), vec![7; 10_000])).await.is_ok() {
        n += 1;
        assert!(n < 1000, "no bound");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    etcdctl(&world.endpoints(), &["alarm", "disarm"]).await.ok();
    until("the alarm is raised again", || async {
        let listed = etcdctl(&world.endpoints(), &["alarm", "list"]).await;
        listed.ok().contains("alarm:NOSPACE").then_some(())
    })
    .await;
}
