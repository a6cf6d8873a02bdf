//! Real etcd processes on loopback, for the length of a test.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use meridian_client::{Client, Options};
use tempfile::TempDir;

/// A cluster of etcd processes; they end with it.
pub struct Etcd {
    members: Vec<Member>,
    folder: TempDir,
}

struct Member {
    endpoint: String,
    arguments: Vec<String>,
    process: Option<Child>,
}

impl Etcd {
    /// Starts a cluster and waits until each member serves.
    pub async fn start(size: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports: Vec<u16> = free_ports(size * 2);
        let peers: Vec<String> = ports[size..]
            .iter()
            .map(|port| format!("http://127.0.0.1:{port}"))
            .collect();
        let cluster: Vec<String> = peers
            .iter()
            .enumerate()
            .map(|(i, peer)| format!("m{i}={peer}"))
            .collect();
        let mut etcd = Self {
            members: vec![],
            folder,
        };
        for i in 0..size {
            let endpoint = format!("http://127.0.0.1:{}", ports[i]);
            let data = etcd.folder.path().join(format!("m{i}"));
            let flags = [
                ("--name", format!("m{i}")),
                ("--data-dir", data.display().to_string()),
                ("--listen-client-urls", endpoint.clone()),
                ("--advertise-client-urls", endpoint.clone()),
                ("--listen-peer-urls", peers[i].clone()),
                ("--initial-advertise-peer-urls", peers[i].clone()),
                ("--initial-cluster", cluster.join(",")),
                ("--log-level", "error".into()),
            ];
            let arguments = flags
                .into_iter()
                .flat_map(|(flag, value)| [flag.to_owned(), value])
                .collect();
            etcd.members.push(Member {
                endpoint,
                arguments,
                process: None,
            });
            etcd.restart(i);
        }
        for i in 0..size {
            etcd.serves(i).await;
        }
        etcd
    }

    /// Waits until a member answers a linearizable read.
    pub async fn serves(&self, member: usize) {
        let client = Client::lazy([self.endpoint(member)], Options::default()).unwrap();
        for _ in 0..300 {
            if client.get("up?").await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{} does not serve", self.endpoint(member));
    }

    /// A client of all members.
    pub async fn client(&self) -> Client {
        self.client_with(Options::default()).await
    }

    /// A client of all members with its own options.
    pub async fn client_with(&self, options: Options) -> Client {
        Client::connect(self.endpoints(), options).await.unwrap()
    }

    pub fn endpoints(&self) -> Vec<&str> {
        self.members
            .iter()
            .map(|member| member.endpoint.as_str())
            .collect()
    }

    pub fn endpoint(&self, member: usize) -> &str {
        &self.members[member].endpoint
    }

    /// Kills a member as a crash would.
    pub fn kill(&mut self, member: usize) {
        if let Some(mut process) = self.members[member].process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts a member again on its data.
    pub fn restart(&mut self, member: usize) {
        let member = &mut self.members[member];
        let process = Command::new("etcd")
            .args(&member.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        member.process = Some(process);
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|member| self.kill(member));
    }
}

/// Ports nobody listens on. Held all at once, so that they differ.
fn free_ports(count: usize) -> Vec<u16> {
    let held: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    held.iter()
        .map(|listener| listener.local_addr().unwrap().port())
        .collect()
}
