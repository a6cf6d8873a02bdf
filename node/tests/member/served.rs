//! A member in this process, on ports the system chose, for tests that speak to it over real sockets.

use std::path::Path;
use std::time::Duration;

use meridian_node::run::member::Member;
use meridian_node::run::{Failure, on_fault};
use meridian_node::settings::Settings;
use meridian_proto::etcdserverpb::kv_client::KvClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::{Channel, Endpoint};

/// A member that serves, with a directory of its own.
pub struct Served {
    member: Member,
    dir: tempfile::TempDir,
    flags: Vec<(&'static str, String)>,
}

impl Served {
    /// A cluster of one, ready.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A cluster of one with these flags, ready.
    pub async fn with(flags: &[(&'static str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let flags: Vec<_> = flags
            .iter()
            .map(|(flag, value)| (*flag, (*value).to_owned()))
            .collect();
        let member = start(dir.path(), &flags).await.unwrap();
        Self { member, dir, flags }
    }

    /// Stops it and starts it again on the same directory. Its ports change.
    pub async fn restart(self) -> Self {
        let Self { member, dir, flags } = self;
        let mut patience = 20;
        member.stop().await;
        // Connections that were cut give back what they hold a moment later.
        let member = loop {
            match start(dir.path(), &flags).await {
                Ok(member) => break member,
                Err(failure) if failure.code() == 3 && patience > 0 => patience -= 1,
                Err(failure) => panic!("{failure}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        Self { member, dir, flags }
    }

    /// Stops it.
    pub async fn stop(self) {
        self.member.stop().await;
    }

    /// The member itself.
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// Where it listens: `host:port`.
    pub fn authority(&self) -> String {
        let url = self.member.client_urls().first().unwrap();
        url.split_once("://").unwrap().1.to_owned()
    }

    /// A connection to it.
    pub async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.authority())).unwrap();
        endpoint.connect().await.unwrap()
    }

    /// A client of its KV service.
    pub async fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel().await).max_encoding_message_size(64 << 20)
    }

    /// One HTTP/1.1 request: status and body.
    pub async fn http(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = tokio::net::TcpStream::connect(self.authority())
            .await
            .unwrap();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }
}

async fn start(dir: &Path, flags: &[(&'static str, String)]) -> Result<Member, Failure> {
    let mut given = vec![
        ("data-dir", dir.join("data").display().to_string()),
        ("listen-client-urls", "http://127.0.0.1:0".to_owned()),
        ("listen-peer-urls", "http://127.0.0.1:0".to_owned()),
    ];
    given.extend(flags.iter().cloned());
    let settings = Settings::load(None, &given).unwrap();
    let hook = on_fault(|fault| panic!("the disk of a test failed: {fault}"));
    let member = Member::start(settings, hook).await?;
    let ready = tokio::time::timeout(Duration::from_secs(60), member.ready()).await;
    assert!(ready.is_ok(), "the member did not become ready");
    Ok(member)
}
