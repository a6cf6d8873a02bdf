//! Strangers on the client port: whatever they send, they get an answer or a closed connection, and everybody
//! else is served as before.

use std::time::Duration;

use meridian_proto::etcdserverpb::RangeRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::served::Served;

/// Sends bytes and reads until the other side closes, or a while has passed.
async fn send(served: &Served, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(served.authority()).await.unwrap();
    // The other side may close before everything is written.
    let _ = stream.write_all(bytes).await;
    let mut answer = vec![];
    let _ = tokio::time::timeout(Duration::from_millis(500), stream.read_to_end(&mut answer)).await;
    answer
}

async fn assert_serves(served: &Served) {
    let request = RangeRequest {
        key: "k".into(),
        ..RangeRequest::default()
    };
    served.kv().await.range(request).await.unwrap();
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn garbage_closes_its_own_connection_only() {
    let served = Served::start().await;
    let cases: Vec<Vec<u8>> = vec![
        b"\0\0\0\0\0\0\0\0\0\0".to_vec(),
        b"GET".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        vec![0xff; 100_000],
        [PREFACE, &[0xff; 1000]].concat(),
        // A frame that says it is sixteen megabytes.
        [PREFACE, b"\xff\xff\xff\x00\x00\x00\x00\x00\x01"].concat(),
        // Headers that never end.
        [b"GET / HTTP/1.1\r\n".to_vec(), b"a: b\r\n".repeat(50_000)].concat(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc".to_vec(),
    ];
    for case in cases {
        send(&served, &case).await;
        assert_serves(&served).await;
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_no_messages_are_refused_with_a_reason() {
    let served = Served::start().await;
    let post = |path: &str, body: &[u8]| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/grpc\r\nTE: trailers\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let range = "/etcdserverpb.KV/Range";
    let cases: [(&str, &[u8], &str); 4] = [
        (range, b"\0\0\0\0\x03\xff\xff\xff", "grpc-status: 13"),
        (range, b"\0\xff\xff\xff\xff", "grpc-status: 8"),
        ("/etcdserverpb.KV/Rnage", b"", "unknown%20method%20Rnage"),
        ("/no.Such/Thing", b"", "unknown%20service%20no.Such"),
    ];
    for (path, body, expected) in cases {
        let answer = send(&served, &post(path, body)).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.contains(expected), "{path}: {answer}");
    }
    assert_serves(&served).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_bound_are_closed_and_come_in_when_others_leave() {
    let served = Served::with(&[("max-connections", "20")]).await;
    let mut open = vec![];
    for _ in 0..20 {
        open.push(TcpStream::connect(served.authority()).await.unwrap());
    }
    let refused = send(&served, b"GET /version HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(refused.is_empty());
    open.clear();
    let mut tries = 0;
    while send(&served, b"GET /version HTTP/1.1\r\nHost: h\r\n\r\n")
        .await
        .is_empty()
    {
        tries += 1;
        assert!(tries < 100, "nobody is let in again");
    }
    served.stop().await;
}
