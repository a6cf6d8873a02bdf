//! How streams end.

use http_body_util::{BodyExt, Full};
use tonic::Code;
use tower::Service;

use super::*;

fn ends_with(end: Result<Option<WatchResponse>, Status>, code: Code, text: &str) {
    let status = end.expect_err("the stream ends");
    assert_eq!((status.code(), status.message()), (code, text));
}

#[tokio::test]
async fn without_a_leader_a_stream_that_needs_one_does_not_open() {
    let world = World::new().await;
    world.leader.store(false, Ordering::SeqCst);
    let status = world
        .try_stream(&[("hasleader", "true")])
        .await
        .err()
        .unwrap();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "etcdserver: no leader")
    );
    world.stream().await.created(on("a")).await;
}

#[tokio::test]
async fn a_leader_lost_ends_the_streams_that_need_one() {
    let world = World::new().await;
    let mut needs = world.stream_with(&[("hasleader", "true")]).await;
    needs.created(on("a")).await;
    let mut other = world.stream().await;
    other.created(on("a")).await;
    world.leader.store(false, Ordering::SeqCst);
    ends_with(
        needs.try_next().await,
        Code::Unavailable,
        "etcdserver: no leader",
    );
    world.put("a", "1");
    assert_eq!(other.events(1).await.len(), 1);
    world.leader.store(true, Ordering::SeqCst);
    world
        .stream_with(&[("hasleader", "true")])
        .await
        .created(on("a"))
        .await;
}

#[tokio::test]
async fn a_member_that_stops_ends_every_stream() {
    let world = World::new().await;
    let mut with = world.stream().await;
    with.created(on("a")).await;
    let mut without = world.stream().await;
    world.watches.stop();
    let text = "etcdserver: server stopped";
    ends_with(with.try_next().await, Code::Unavailable, text);
    ends_with(without.try_next().await, Code::Unavailable, text);
    ends_with(
        world.stream().await.try_next().await,
        Code::Unavailable,
        text,
    );
}

#[tokio::test]
async fn a_tenant_that_is_removed_ends_its_streams() {
    let world = World::new().await;
    let (name, quota) = (tenant("gone"), meridian_domain::tenant::Quota::default());
    let retention = meridian_domain::tenant::Retention::default();
    let create = Command::TenantCreate {
        name: name.clone(),
        quota,
        retention,
    };
    world.apply(TenantId::SYSTEM, create);
    let mut client = world.stream_with(&[("meridian-tenant", "gone")]).await;
    client.created(on("a")).await;
    world.apply(TenantId::SYSTEM, Command::TenantDelete { name });
    let text = "meridian: tenant \"gone\" does not exist";
    ends_with(client.try_next().await, Code::NotFound, text);
}

#[tokio::test]
async fn a_client_that_has_said_everything_still_gets_events() {
    let world = World::new().await;
    let mut client = world.stream().await;
    client.created(on("a")).await;
    client.requests = None;
    for _ in 0..3 {
        world.put("a", "1");
        assert_eq!(client.events(1).await.len(), 1);
    }
}

#[tokio::test]
async fn a_stream_that_goes_takes_its_watches_along() {
    let world = World::new().await;
    let mut client = world.stream().await;
    for _ in 0..10 {
        client.created(on("a")).await;
    }
    let store = world.machine.lock().0.store();
    let hub = Arc::clone(store.tenant_named("default").unwrap().hub());
    assert_eq!(hub.watchers(), 10);
    drop(client);
    let gone = async {
        while hub.watchers() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(FOREVER, gone).await.unwrap();
}

#[tokio::test]
async fn what_is_not_a_request_ends_the_stream_with_grpcs_words() {
    let world = World::new().await;
    for (body, code, text) in [
        (
            &[0, 0, 0, 0, 2, 0xff, 0xff][..],
            "13",
            "grpc: failed to unmarshal the received message",
        ),
        (
            &[0, 0x7f, 0, 0, 0],
            "8",
            "grpc: received message larger than max (2130706432 vs. 2097152)",
        ),
        (
            &[1, 0, 0, 0, 1, 0],
            "12",
            "grpc: Decompressor is not installed",
        ),
    ] {
        let request = http::Request::builder()
            .uri("/etcdserverpb.Watch/Watch")
            .body(tonic::body::Body::new(Full::new(Bytes::copy_from_slice(
                body,
            ))))
            .unwrap();
        let response = world.watches.clone().call(request).await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/grpc");
        let body = response.into_body().collect().await.unwrap();
        let trailers = body.trailers().unwrap();
        assert_eq!(trailers["grpc-status"], code);
        let status = Status::from_header_map(trailers).unwrap();
        assert!(status.message().starts_with(text), "{status:?}");
        assert!(trailers.contains_key("meridian-code"));
    }
}

#[tokio::test]
async fn a_connection_that_breaks_takes_its_streams_along() {
    let world = World::new().await;
    let endpoint = Channel::from_shared(format!("http://{}", world.address)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let connected = runtime.spawn(async move {
        let channel = endpoint.connect().await.unwrap();
        let (requests, receiver) = mpsc::channel(4);
        let create = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(on("a"))),
        };
        requests.send(create).await.unwrap();
        let stream = WatchClient::new(channel)
            .watch(ReceiverStream::new(receiver))
            .await
            .unwrap();
        let mut responses = stream.into_inner();
        assert!(responses.message().await.unwrap().unwrap().created);
        (requests, responses)
    });
    let held = connected.await.unwrap();
    let store = world.machine.lock().0.store();
    let hub = Arc::clone(store.tenant_named("default").unwrap().hub());
    assert_eq!(hub.watchers(), 1);
    // The client's tasks die with their runtime, mid-stream, without a word of goodbye.
    runtime.shutdown_background();
    std::mem::forget(held);
    let gone = async {
        while hub.watchers() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(FOREVER, gone).await.unwrap();
}
