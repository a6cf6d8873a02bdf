//! Plain HTTP on the client port, beside gRPC on the same socket.

use crate::served::Served;

#[tokio::test(flavor = "multi_thread")]
async fn health_checks_answer_in_etcds_form() {
    let served = Served::start().await;
    let (status, body) = served.http("GET", "/health").await;
    assert_eq!(
        (status, body.as_str()),
        (200, r#"{"health":"true","reason":""}"#)
    );
    let (status, _) = served
        .http("GET", "/health?serializable=true&exclude=NOSPACE")
        .await;
    assert_eq!(status, 200);
    let (status, _) = served.http("POST", "/health").await;
    assert_eq!(status, 405);
    let (status, body) = served.http("GET", "/livez").await;
    assert_eq!((status, body.as_str()), (200, "ok\n"));
    let (status, body) = served.http("GET", "/readyz?verbose").await;
    let lines = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n";
    assert_eq!((status, body.as_str()), (200, lines));
    let (status, body) = served.http("GET", "/readyz/linearizable_read").await;
    assert_eq!((status, body.as_str()), (200, "ok\n"));
    assert_eq!(served.http("GET", "/readyz/no_such_check").await.0, 404);
    assert_eq!(served.http("GET", "/nowhere").await.0, 404);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_is_one_kubernetes_accepts_with_our_own_beside_it() {
    let served = Served::start().await;
    let (status, body) = served.http("GET", "/version").await;
    assert_eq!(status, 200);
    let version: serde_json::Value = serde_json::from_str(&body).unwrap();
    let etcd = version
        .get("etcdserver")
        .and_then(|text| text.as_str())
        .unwrap();
    let numbers: Vec<u32> = etcd
        .split('.')
        .map(|number| number.parse().unwrap())
        .collect();
    assert!(numbers >= vec![3, 5, 13], "{etcd}");
    assert_eq!(version.get("meridian").unwrap(), env!("CARGO_PKG_VERSION"));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_carry_etcds_names() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    kv.range(meridian_proto::etcdserverpb::RangeRequest {
        key: "k".into(),
        ..Default::default()
    })
    .await
    .unwrap();
    let (status, text) = served.http("GET", "/metrics").await;
    assert_eq!(status, 200);
    for name in [
        "etcd_server_has_leader ",
        "etcd_server_is_leader ",
        "etcd_server_version{server_version=\"",
        "etcd_debugging_mvcc_current_revision",
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "process_resident_memory_bytes",
        "process_open_fds",
        "meridian_node_tenant_bytes{tenant=\"default\"}",
        "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Range\",grpc_service=\"etcdserverpb.KV\"",
        "etcd_server_client_requests_total{client_api_version=\"unknown\",type=\"unary\"}",
    ] {
        assert!(text.contains(name), "{name} is missing");
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_is_a_connection_like_any_other_and_ends_with_its_member() {
    let served = Served::with(&[("max-connections", "1")]).await;
    let open = async |served: &Served| {
        let authority = served.authority();
        let stream = tokio::net::TcpStream::connect(&authority).await.unwrap();
        let url = format!("ws://{authority}/v3/watch");
        tokio_tungstenite::client_async(url, stream).await
    };
    let (mut socket, _) = open(&served).await.unwrap();
    assert!(open(&served).await.is_err(), "two where one may be");
    socket.close(None).await.unwrap();
    let mut tries = 0;
    let (mut socket, _) = loop {
        if let Ok(opened) = open(&served).await {
            break opened;
        }
        tries += 1;
        assert!(tries < 100, "nobody is let in again");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    // Its directory can be opened anew only when nothing of the member is left.
    let served = served.restart().await;
    loop {
        use tokio_tungstenite::tungstenite::Message;
        match futures::StreamExt::next(&mut socket).await {
            Some(Ok(Message::Ping(_))) => {}
            Some(Ok(Message::Close(Some(frame)))) => break assert_eq!(u16::from(frame.code), 1001),
            other => panic!("not told: {other:?}"),
        }
    }
    served.stop().await;
}
