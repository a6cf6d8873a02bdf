//! Members as real processes on loopback, with real data directories.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use meridian_proto::etcdserverpb as pb;
use meridian_proto::etcdserverpb::kv_client::KvClient;
use meridian_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::{Channel, Endpoint};

/// Which flags the program takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Product {
    /// Ours.
    Meridian,
    /// The control: it must pass what it promises.
    Etcd,
}

/// Why the world could not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The operating system.
    #[error("{0}: {1}")]
    Io(&'static str, #[source] std::io::Error),
    /// A member did not get ready.
    #[error("member {member} is not ready after {seconds} s; its log ends with:\n{log}")]
    NotReady {
        /// Which.
        member: usize,
        /// How long was waited.
        seconds: u64,
        /// The last lines of its log.
        log: String,
    },
    /// A request that must succeed did not.
    #[error("{0}")]
    Request(String),
}

impl From<tonic::Status> for WorldError {
    fn from(status: tonic::Status) -> Self {
        Self::Request(format!("{:?}: {}", status.code(), status.message()))
    }
}

impl From<tonic::transport::Error> for WorldError {
    fn from(error: tonic::transport::Error) -> Self {
        Self::Request(format!("{error:?}"))
    }
}

/// The members. Their processes are killed when it is dropped.
pub struct World {
    members: Vec<Member>,
    _dir: Option<tempfile::TempDir>,
}

struct Member {
    child: Option<Child>,
    stopped: bool,
    program: PathBuf,
    arguments: Vec<String>,
    url: String,
    log: PathBuf,
}

/// How a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its process runs.
    Running,
    /// Its process is there but gets no time.
    Stopped,
    /// It has no process.
    Dead,
}

impl World {
    /// Starts the members and waits until each answers a linearizable read.
    pub async fn start(
        product: Product,
        program: &Path,
        count: usize,
        keep: Option<&Path>,
    ) -> Result<Self, WorldError> {
        let temporary = match keep {
            Some(_) => None,
            None => {
                Some(tempfile::tempdir().map_err(|e| WorldError::Io("temporary directory", e))?)
            }
        };
        let root = match (&temporary, keep) {
            (Some(dir), _) => dir.path().to_path_buf(),
            (None, Some(keep)) => keep.to_path_buf(),
            (None, None) => PathBuf::from("."),
        };
        std::fs::create_dir_all(&root).map_err(|e| WorldError::Io("directory", e))?;
        let ports = free_ports(count * 2)?;
        let url = |port: &u16| format!("http://127.0.0.1:{port}");
        let (clients, peers): (Vec<_>, Vec<_>) = (
            ports.iter().take(count).map(url).collect(),
            ports.iter().skip(count).map(url).collect(),
        );
        let initial: Vec<String> = peers
            .iter()
            .enumerate()
            .map(|(i, peer)| format!("m{i}={peer}"))
            .collect();
        let members = clients
            .iter()
            .zip(&peers)
            .enumerate()
            .map(|(i, (client, peer))| Member {
                child: None,
                stopped: false,
                program: program.to_path_buf(),
                arguments: flags(product, i, &root, client, peer, &initial.join(",")),
                url: client.clone(),
                log: root.join(format!("m{i}.log")),
            });
        let mut world = Self {
            members: members.collect(),
            _dir: temporary,
        };
        for i in 0..count {
            world.start_member(i)?;
        }
        for i in 0..count {
            world.wait_ready(i, 60).await?;
        }
        Ok(world)
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Where clients reach each member.
    pub fn urls(&self) -> Vec<String> {
        self.members
            .iter()
            .map(|member| member.url.clone())
            .collect()
    }

    /// How a member is. One whose process ended by itself counts as dead.
    pub fn state(&mut self, i: usize) -> State {
        let Some(member) = self.members.get_mut(i) else {
            return State::Dead;
        };
        let ended = match &mut member.child {
            None => true,
            Some(child) => !matches!(child.try_wait(), Ok(None)),
        };
        if ended {
            member.child = None;
            return State::Dead;
        }
        if member.stopped {
            State::Stopped
        } else {
            State::Running
        }
    }

    /// Starts a member's process, if it has none.
    pub fn start_member(&mut self, i: usize) -> Result<(), WorldError> {
        if self.state(i) != State::Dead {
            return Ok(());
        }
        let Some(member) = self.members.get_mut(i) else {
            return Ok(());
        };
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&member.log)
            .map_err(|e| WorldError::Io("log of a member", e))?;
        let out = log
            .try_clone()
            .map_err(|e| WorldError::Io("log of a member", e))?;
        let child = Command::new(&member.program)
            .args(&member.arguments)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(log)
            .spawn()
            .map_err(|e| WorldError::Io("start of a member", e))?;
        member.child = Some(child);
        member.stopped = false;
        Ok(())
    }

    /// `kill -9`, and reaps the process.
    pub fn kill(&mut self, i: usize) {
        if let Some(member) = self.members.get_mut(i)
            && let Some(mut child) = member.child.take()
        {
            member.stopped = false;
            // It may have ended a moment ago; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGSTOP: the process is there and does nothing.
    pub fn stop(&mut self, i: usize) {
        self.signal(i, Signal::STOP, true);
    }

    /// SIGCONT.
    pub fn go_on(&mut self, i: usize) {
        self.signal(i, Signal::CONT, false);
    }

    fn signal(&mut self, i: usize, signal: Signal, stopped: bool) {
        if self.state(i) == State::Dead {
            return;
        }
        if let Some(member) = self.members.get_mut(i)
            && let Some(child) = &member.child
            && let Some(pid) = Pid::from_raw(child.id() as i32)
            && kill_process(pid, signal).is_ok()
        {
            member.stopped = stopped;
        }
    }

    /// Which member leads, if one that runs says so of itself.
    pub async fn leader(&mut self) -> Option<usize> {
        for i in 0..self.len() {
            if self.state(i) != State::Running {
                continue;
            }
            let Ok(status) = status(&self.urls(), i).await else {
                continue;
            };
            if status
                .header
                .is_some_and(|header| header.member_id == status.leader)
            {
                return Some(i);
            }
        }
        None
    }

    /// Waits until a member answers a linearizable read.
    pub async fn wait_ready(&mut self, i: usize, seconds: u64) -> Result<(), WorldError> {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let urls = self.urls();
        while Instant::now() < deadline {
            let attempt = async {
                let mut kv = KvClient::new(connect(&urls, i).await?);
                let request = pb::RangeRequest {
                    key: "ready".into(),
                    ..Default::default()
                };
                Ok::<_, WorldError>(kv.range(request).await.map(|_| ())?)
            };
            if let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(2), attempt).await {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let log = self
            .members
            .get(i)
            .map(|member| tail(&member.log))
            .unwrap_or_default();
        Err(WorldError::NotReady {
            member: i,
            seconds,
            log,
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for i in 0..self.len() {
            self.kill(i);
        }
    }
}

/// A new connection to a member.
pub async fn connect(urls: &[String], i: usize) -> Result<Channel, WorldError> {
    let url = urls.get(i).cloned().unwrap_or_default();
    let endpoint = Endpoint::from_shared(url)
        .map_err(|e| WorldError::Request(e.to_string()))?
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(1));
    Ok(endpoint.connect().await?)
}

/// What a member says of itself, within a second.
pub async fn status(urls: &[String], i: usize) -> Result<pb::StatusResponse, WorldError> {
    let asked = async {
        let mut maintenance = MaintenanceClient::new(connect(urls, i).await?);
        Ok::<_, WorldError>(maintenance.status(pb::StatusRequest {}).await?.into_inner())
    };
    tokio::time::timeout(Duration::from_secs(1), asked)
        .await
        .map_err(|_| WorldError::Request("no answer within a second".into()))?
}

fn flags(
    product: Product,
    i: usize,
    root: &Path,
    client: &str,
    peer: &str,
    initial: &str,
) -> Vec<String> {
    let mut flags: Vec<String> = match product {
        Product::Meridian => vec!["server".into(), "--log-level".into(), "info".into()],
        Product::Etcd => {
            vec![
                "--logger".into(),
                "zap".into(),
                "--log-level".into(),
                "warn".into(),
            ]
        }
    };
    let data = root.join(format!("m{i}")).display().to_string();
    for (flag, value) in [
        ("--name", format!("m{i}").as_str()),
        ("--data-dir", data.as_str()),
        ("--listen-client-urls", client),
        ("--advertise-client-urls", client),
        ("--listen-peer-urls", peer),
        ("--initial-advertise-peer-urls", peer),
        ("--initial-cluster", initial),
        ("--initial-cluster-state", "new"),
        ("--initial-cluster-token", "chaos"),
    ] {
        flags.push(flag.into());
        flags.push(value.into());
    }
    flags
}

fn free_ports(count: usize) -> Result<Vec<u16>, WorldError> {
    let bind = || TcpListener::bind("127.0.0.1:0").map_err(|e| WorldError::Io("port", e));
    let listeners = (0..count).map(|_| bind()).collect::<Result<Vec<_>, _>>()?;
    let port = |l: &TcpListener| l.local_addr().map(|a| a.port());
    listeners
        .iter()
        .map(|l| port(l).map_err(|e| WorldError::Io("port", e)))
        .collect()
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines
        .get(lines.len().saturating_sub(15)..)
        .unwrap_or_default()
        .join("\n")
}
