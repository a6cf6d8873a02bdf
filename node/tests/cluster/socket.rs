//! The JSON gateway over WebSocket, as pages in a browser use it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::{Error, handshake::client::Response};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::world::{PATIENCE, World, get, put};

type Socket = WebSocketStream<TcpStream>;

async fn open(
    world: &World,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<(Socket, Response), Error> {
    let endpoint = &world.members[0].endpoint;
    let mut request = format!("ws://{endpoint}{path}").into_client_request()?;
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(endpoint).await.unwrap();
    client_async(request, stream).await
}

/// The next message; none if the other side closed.
async fn next(socket: &mut Socket) -> Option<Value> {
    loop {
        let message = tokio::time::timeout(PATIENCE, socket.next());
        match message.await.expect("in time")? {
            Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

async fn say(socket: &mut Socket, what: Value) {
    socket.send(Message::text(what.to_string())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_over_a_socket_sees_what_is_put_and_ends_with_it() {
    let world = World::start(1, &[]).await;
    let (mut socket, _) = open(&world, "/v3/watch", &[]).await.unwrap();
    let create = |id: i64| {
        let key = STANDARD.encode("k");
        json!({"create_request": {"key": key, "watch_id": id}})
    };
    say(&mut socket, create(7)).await;
    let created = next(&mut socket).await.unwrap();
    assert_eq!(created["result"]["created"], true, "{created}");
    // A second one on the same socket, and an event for both.
    say(&mut socket, create(8)).await;
    let created = next(&mut socket).await.unwrap();
    assert_eq!(created["result"]["watch_id"], "8", "{created}");
    world.kv(0).await.put(put("k", "v")).await.unwrap();
    let mut ids = vec![];
    for _ in 0..2 {
        let event = next(&mut socket).await.unwrap();
        let kv = &event["result"]["events"][0]["kv"];
        assert_eq!(kv["value"], STANDARD.encode("v"), "{event}");
        ids.push(event["result"]["watch_id"].as_str().unwrap().to_owned());
    }
    ids.sort();
    assert_eq!(ids, ["7", "8"]);
    // What can not be read ends the call with its reason, and the socket.
    socket.send(Message::text("nonsense")).await.unwrap();
    let error = next(&mut socket).await.unwrap();
    assert_eq!(error["error"]["code"], 3, "{error}");
    assert_eq!(next(&mut socket).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_kept_over_a_socket_and_any_call_may_use_one() {
    let world = World::start(1, &[]).await;
    let (mut grant, _) = open(&world, "/v3/lease/grant", &[]).await.unwrap();
    say(&mut grant, json!({"TTL": 100, "ID": 77})).await;
    let granted = next(&mut grant).await.unwrap();
    assert_eq!(
        (&granted["ID"], &granted["TTL"]),
        (&json!("77"), &json!("100"))
    );
    assert_eq!(next(&mut grant).await, None, "one call, one answer");

    let (mut keep, _) = open(&world, "/v3/lease/keepalive", &[]).await.unwrap();
    for _ in 0..3 {
        say(&mut keep, json!({"ID": 77})).await;
        let kept = next(&mut keep).await.unwrap();
        assert_eq!(kept["result"]["TTL"], "100", "{kept}");
    }
    let binary = Message::binary(json!({"ID": 78}).to_string());
    keep.send(binary).await.unwrap();
    let unknown = next(&mut keep).await.unwrap();
    assert_eq!(unknown["result"]["ID"], "78");
    assert_eq!(unknown["result"].get("TTL"), None, "{unknown}");
    keep.close(None).await.unwrap();
    assert_eq!(next(&mut keep).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_a_socket_are_those_of_its_call() {
    let world = World::start(1, &[]).await;
    let headers = [
        ("sec-websocket-protocol", "Bearer, some.token"),
        ("meridian-tenant", "nobody"),
    ];
    let (mut socket, response) = open(&world, "/v3/kv/range", &headers).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "Bearer");
    say(&mut socket, json!({"key": STANDARD.encode("k")})).await;
    let refused = next(&mut socket).await.unwrap();
    let text = refused["message"].as_str().unwrap();
    assert!(text.contains("\"nobody\" does not exist"), "{refused}");

    let Err(Error::Http(response)) = open(&world, "/v3/no/such", &[]).await else {
        panic!("a socket to nowhere")
    };
    assert_eq!(response.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_end_closes_its_own_socket_only() {
    let world = World::start(1, &[]).await;
    let (mut socket, _) = open(&world, "/v3/kv/put", &[]).await.unwrap();
    let huge = Message::text("x".repeat(8 << 20));
    // The other side may close before all of it is written.
    let _ = socket.send(huge).await;
    assert_eq!(next(&mut socket).await, None);
    let (mut sleeper, _) = open(&world, "/v3/watch", &[]).await.unwrap();
    let read = world.kv(0).await.range(get("k")).await.unwrap();
    assert_eq!(read.get_ref().count, 0);
    sleeper.send(Message::Ping("x".into())).await.unwrap();
    // It is asked itself whether it is there, and may be first.
    let answered = async {
        while let Some(message) = sleeper.next().await {
            if matches!(message.unwrap(), Message::Pong(pong) if pong == "x") {
                return;
            }
        }
        panic!("the socket ended");
    };
    tokio::time::timeout(PATIENCE, answered)
        .await
        .expect("in time");
}
