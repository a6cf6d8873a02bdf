//! One member of either store, as a real process in a directory of its own.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running member; killed when dropped.
pub struct Server {
    child: Child,
    pub url: String,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary under test.
pub async fn meridian() -> Server {
    start(
        env!("CARGO_BIN_EXE_meridian"),
        &["server", "--log-level", "warn"],
    )
    .await
}

/// The etcd on the path.
pub async fn etcd() -> Server {
    start("etcd", &["--logger", "zap", "--log-level", "error"]).await
}

async fn start(program: &str, first: &[&str]) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let ports: Vec<u16> = {
        let listeners: Vec<_> = (0..2)
            .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        listeners
            .iter()
            .map(|l| l.local_addr().unwrap().port())
            .collect()
    };
    let (client, peer) = (
        format!("http://127.0.0.1:{}", ports[0]),
        format!("http://127.0.0.1:{}", ports[1]),
    );
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    let child = Command::new(program)
        .args(first)
        .args(["--name", "n1", "--data-dir"])
        .arg(dir.path().join("data"))
        .args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ])
        .args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ])
        .args(["--initial-cluster", &format!("n1={peer}")])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let server = Server {
        child,
        url: client,
        _dir: dir,
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Ok(channel) = tonic::transport::Endpoint::from_shared(server.url.clone())
            .unwrap()
            .connect()
            .await
        {
            let mut kv = meridian_proto::etcdserverpb::kv_client::KvClient::new(channel);
            let request = meridian_proto::etcdserverpb::RangeRequest {
                key: "x".into(),
                ..Default::default()
            };
            if kv.range(request).await.is_ok() {
                return server;
            }
        }
        assert!(Instant::now() < deadline, "{program} did not start");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
