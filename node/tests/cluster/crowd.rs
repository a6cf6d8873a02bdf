//! Many clients, and bad ones: everybody gets an answer, or is turned away, and the member goes on.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::StreamExt as _;
use meridian_proto::etcdserverpb as pb;
use meridian_proto::etcdserverpb::watch_client::WatchClient;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tonic::transport::{Channel, Endpoint};

use crate::world::{PATIENCE, World, get, put};

/// Connections of a crowd.
const CROWD: usize = 10_000;
/// Connections that are being opened at a time: fewer than a system queues.
const AT_ONCE: usize = 200;
/// Files this process needs beside them.
const FILES: usize = 500;

/// How a connection was received.
#[derive(Debug, PartialEq, Eq)]
enum Received {
    Answered,
    TurnedAway,
}

/// As many connections as this process may have, up to a crowd.
fn crowd() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    let files = limit.maximum.map_or(usize::MAX, |files| files as usize);
    CROWD.min(files.saturating_sub(FILES))
}

/// Asks for the version over a new connection, and keeps it open.
async fn visit(endpoint: &str) -> (Received, Option<TcpStream>) {
    let asked = async {
        let mut stream = TcpStream::connect(endpoint).await.ok()?;
        let request = b"GET /version HTTP/1.1\r\nHost: h\r\n\r\n";
        stream.write_all(request).await.ok()?;
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.ok()?;
        assert_eq!(&first, b"HTTP/1.1 200");
        Some(stream)
    };
    let asked = tokio::time::timeout(PATIENCE, asked).await;
    match asked.expect("a connection hears something") {
        Some(stream) => (Received::Answered, Some(stream)),
        None => (Received::TurnedAway, None),
    }
}

/// Opens so many connections and keeps them; how many were answered.
async fn fill(endpoint: &str, count: usize) -> Vec<TcpStream> {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let visits = (0..count).map(|_| {
        let (turns, endpoint) = (Arc::clone(&turns), endpoint.to_owned());
        tokio::spawn(async move {
            let _turn = turns.acquire_owned().await.unwrap();
            visit(&endpoint).await
        })
    });
    let mut open = vec![];
    for visit in visits.collect::<Vec<_>>() {
        let (received, stream) = visit.await.unwrap();
        assert_eq!(received == Received::Answered, stream.is_some());
        open.extend(stream);
    }
    open
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_connections_are_answered_and_kept() {
    let world = World::start(1, &[]).await;
    let mut before = world.kv(0).await;
    let count = crowd();
    let mut open = fill(&world.members[0].endpoint, count).await;
    assert_eq!(open.len(), count, "some were turned away below the bound");
    before.put(put("k", "v")).await.unwrap();
    let mut late = world.kv(0).await;
    assert_eq!(late.range(get("k")).await.unwrap().get_ref().count, 1);
    // Each of them still works.
    for stream in open.iter_mut().step_by(97) {
        let request = b"GET /version HTTP/1.1\r\nHost: h\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut some = [0; 64];
        assert!(stream.read(&mut some).await.unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_few_files_turns_connections_away_and_keeps_some_for_its_disk() {
    let mut world = World::planned(1);
    world.within_files(400);
    let initial = world.initial_cluster();
    world.run(0, &["--initial-cluster", &initial]);
    assert!(world.ready(0).await);
    let mut kv = world.kv(0).await;
    let open = fill(&world.members[0].endpoint, 1000).await;
    assert!(!open.is_empty() && open.len() < 400, "{}", open.len());
    // Enough to fill segments of the log: new files are opened while the crowd stands there.
    for n in 0..200 {
        kv.put(put(&format!("k{}", n % 3), vec![n; 1 << 20]))
            .await
            .unwrap();
    }
    drop(open);
    assert!(world.ready(0).await, "nobody is let in again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_its_watch_holds_up_nobody_and_misses_nothing() {
    const PUTS: u8 = 150;
    const BYTES: usize = 1 << 20;
    let world = World::start(1, &[]).await;
    // Its window is as small as HTTP/2 allows by default, so what it does not read stays with the member.
    let url = format!("http://{}", world.members[0].endpoint);
    let endpoint = Endpoint::from_shared(url).unwrap();
    let endpoint = endpoint.initial_stream_window_size(65_535);
    let mut awake = watch(world.connect(0).await.unwrap()).await;
    let mut kv = world.kv(0).await;
    // By how much so many writes make the member grow, whoever watches; then with somebody asleep.
    let before = resident(&world);
    for n in 0..PUTS {
        kv.put(put("k", vec![n; BYTES])).await.unwrap();
        assert_eq!(next(&mut awake).await, (n, BYTES));
    }
    let between = resident(&world);
    let mut asleep = watch(endpoint.connect().await.unwrap()).await;
    for n in 0..PUTS {
        kv.put(put("k", vec![n; BYTES])).await.unwrap();
        assert_eq!(next(&mut awake).await, (n, BYTES));
    }
    let (usual, with_it) = (
        between.saturating_sub(before),
        resident(&world).saturating_sub(between),
    );
    assert!(
        with_it < usual + u64::from(PUTS) * 2 / 3 * BYTES as u64,
        "it grew by {with_it} bytes, and by {usual} while nobody slept"
    );
    for n in 0..PUTS {
        assert_eq!(next(&mut asleep).await, (n, BYTES));
    }
}

/// A watch of the key `k`, made.
async fn watch(channel: Channel) -> Events {
    let create = pb::WatchCreateRequest {
        key: "k".into(),
        ..Default::default()
    };
    let create = pb::watch_request::RequestUnion::CreateRequest(create);
    let create = pb::WatchRequest {
        request_union: Some(create),
    };
    // The stream of requests stays open.
    let asked = futures::stream::iter([create]).chain(futures::stream::pending());
    let client = WatchClient::new(channel);
    let mut client = client.max_decoding_message_size(512 << 20);
    let mut stream = client.watch(asked).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().unwrap().created);
    Events {
        stream,
        came: VecDeque::new(),
    }
}

/// The events of a watch.
struct Events {
    stream: tonic::Streaming<pb::WatchResponse>,
    came: VecDeque<meridian_proto::mvccpb::Event>,
}

/// The first byte of the next value, and its length.
async fn next(of: &mut Events) -> (u8, usize) {
    loop {
        if let Some(event) = of.came.pop_front() {
            let value = event.kv.unwrap().value;
            return (value[0], value.len());
        }
        let message = tokio::time::timeout(PATIENCE, of.stream.message());
        let response = message.await.expect("in time").unwrap().unwrap();
        of.came.extend(response.events);
    }
}

/// Bytes a member has in memory.
fn resident(world: &World) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", world.process(0))).unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size() as u64
}
