//! Three members on loopback, of either product, as real processes with real data directories.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use meridian_proto::etcdserverpb as pb;
use meridian_proto::etcdserverpb::kv_client::KvClient;
use meridian_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use tonic::transport::{Channel, Endpoint};

use crate::load::Failed;
use crate::{Arguments, process};

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Product {
    /// Ours.
    Meridian,
    /// The one to beat.
    Etcd,
}

/// A running cluster. Members are killed when it is dropped.
pub struct Cluster {
    members: Vec<Member>,
    _dir: tempfile::TempDir,
}

struct Member {
    child: Option<Child>,
    program: PathBuf,
    arguments: Vec<String>,
    client_url: String,
    log: PathBuf,
}

/// What `etcd --version` says in its first line.
pub fn version(etcd: &Path) -> Result<String, Failed> {
    let output = Command::new(etcd).arg("--version").output()?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .next()
        .unwrap_or("unknown")
        .to_owned())
}

/// Waits until the disk has done what the run before left it to do: removing its files alone can hold up flushes
/// of the next one for hundreds of milliseconds.
fn settle(dir: &Path) -> Result<(), Failed> {
    Command::new("sync").arg("-f").arg(dir).status()?;
    std::thread::sleep(Duration::from_secs(1));
    Ok(())
}

impl Cluster {
    /// Starts three members and waits until each answers a linearizable read.
    pub async fn start(product: Product, arguments: &Arguments) -> Result<Self, Failed> {
        settle(&arguments.dir)?;
        let dir = tempfile::TempDir::new_in(&arguments.dir)?;
        let ports = free_ports(6)?;
        let urls: Vec<String> = ports
            .iter()
            .map(|p| format!("http://127.0.0.1:{p}"))
            .collect();
        let initial: Vec<String> = urls
            .iter()
            .skip(3)
            .enumerate()
            .map(|(i, url)| format!("m{i}={url}"))
            .collect();
        let mut members = vec![];
        for (i, (client, peer)) in urls.iter().zip(urls.iter().skip(3)).enumerate() {
            let data = dir.path().join(format!("m{i}"));
            let mut flags: Vec<String> = match product {
                Product::Meridian => vec!["server".into(), "--log-level".into(), "warn".into()],
                Product::Etcd => {
                    vec![
                        "--logger".into(),
                        "zap".into(),
                        "--log-level".into(),
                        "error".into(),
                    ]
                }
            };
            for (flag, value) in [
                ("--name", format!("m{i}")),
                ("--data-dir", data.display().to_string()),
                ("--listen-client-urls", client.clone()),
                ("--advertise-client-urls", client.clone()),
                ("--listen-peer-urls", peer.clone()),
                ("--initial-advertise-peer-urls", peer.clone()),
                ("--initial-cluster", initial.join(",")),
                ("--initial-cluster-state", "new".into()),
                ("--initial-cluster-token", "compare".into()),
                ("--quota-backend-bytes", "8589934592".into()),
            ] {
                flags.push(flag.into());
                flags.push(value);
            }
            let program = match product {
                Product::Meridian => arguments.meridian.clone(),
                Product::Etcd => arguments.etcd.clone(),
            };
            members.push(Member {
                child: None,
                program,
                arguments: flags,
                client_url: client.clone(),
                log: dir.path().join(format!("m{i}.log")),
            });
        }
        let mut cluster = Self { members, _dir: dir };
        for i in 0..3 {
            cluster.spawn(i)?;
        }
        for i in 0..3 {
            cluster.wait_ready(i).await?;
        }
        Ok(cluster)
    }

    /// Starts a member's process (again).
    pub fn spawn(&mut self, i: usize) -> Result<(), Failed> {
        let member = self.member_mut(i)?;
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&member.log)?;
        let child = Command::new(&member.program)
            .args(&member.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|e| Failed::new(format!("{}: {e}", member.program.display())))?;
        member.child = Some(child);
        Ok(())
    }

    /// Kills a member with SIGKILL and reaps it.
    pub fn kill(&mut self, i: usize) -> Result<(), Failed> {
        if let Some(mut child) = self.member_mut(i)?.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Waits until a member answers a linearizable read; an error after two minutes.
    pub async fn wait_ready(&mut self, i: usize) -> Result<(), Failed> {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            if self.try_read(i).await.is_ok() {
                return Ok(());
            }
            let member = self.member_mut(i)?;
            if let Some(child) = &mut member.child
                && let Some(status) = child.try_wait()?
            {
                let log = std::fs::read_to_string(&member.log).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(5).collect();
                return Err(Failed::new(format!(
                    "member {i} ended with {status}: {tail:?}"
                )));
            }
            if Instant::now() > deadline {
                return Err(Failed::new(format!(
                    "member {i} is not ready after two minutes"
                )));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn try_read(&self, i: usize) -> Result<(), Failed> {
        let channel = self.connect(i).await?;
        let request = pb::RangeRequest {
            key: "ready".into(),
            ..Default::default()
        };
        let call = async move { KvClient::new(channel).range(request).await };
        tokio::time::timeout(Duration::from_secs(2), call)
            .await
            .map_err(|_| Failed::new("timed out"))??;
        Ok(())
    }

    /// A new connection to a member.
    pub async fn connect(&self, i: usize) -> Result<Channel, Failed> {
        let url = self.url(i)?;
        let endpoint = Endpoint::from_shared(url.clone())
            .map_err(|e| Failed::new(format!("{url}: {e}")))?
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_secs(2));
        Ok(endpoint.connect().await?)
    }

    /// `count` connections, spread over the members.
    pub async fn connections(&self, count: usize) -> Result<Vec<Channel>, Failed> {
        let mut channels = vec![];
        for i in 0..count {
            channels.push(self.connect(i % self.members.len()).await?);
        }
        Ok(channels)
    }

    /// Which member leads.
    pub async fn leader(&self) -> Result<usize, Failed> {
        for i in 0..self.members.len() {
            let Ok(channel) = self.connect(i).await else {
                continue;
            };
            let status = MaintenanceClient::new(channel)
                .status(pb::StatusRequest {})
                .await?;
            let status = status.into_inner();
            if status.header.is_some_and(|h| h.member_id == status.leader) {
                return Ok(i);
            }
        }
        Err(Failed::new("no member says that it leads"))
    }

    /// Where clients reach a member.
    pub fn url(&self, i: usize) -> Result<String, Failed> {
        let member = self
            .members
            .get(i)
            .ok_or_else(|| Failed::new("no such member"))?;
        Ok(member.client_url.clone())
    }

    /// Resident memory of each member, in bytes.
    pub fn rss_bytes(&self) -> Result<Vec<u64>, Failed> {
        self.pids().into_iter().map(process::rss_bytes).collect()
    }

    /// CPU time of all members together so far, in microseconds.
    pub fn cpu_us(&self) -> Result<u64, Failed> {
        self.pids().into_iter().map(process::cpu_us).sum()
    }

    fn pids(&self) -> Vec<u32> {
        self.members
            .iter()
            .filter_map(|m| m.child.as_ref().map(Child::id))
            .collect()
    }

    fn member_mut(&mut self, i: usize) -> Result<&mut Member, Failed> {
        self.members
            .get_mut(i)
            .ok_or_else(|| Failed::new("no such member"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(mut child) = member.child.take() {
                // The process may be gone already; then there is nothing to end.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

/// Ports that were free a moment ago.
fn free_ports(count: usize) -> Result<Vec<u16>, Failed> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()?;
    Ok(listeners
        .iter()
        .map(|l| l.local_addr().map(|a| a.port()))
        .collect::<Result<_, _>>()?)
}
