//! Members as processes, killed when the test ends.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use meridian_proto::etcdserverpb as pb;
use meridian_proto::etcdserverpb::kv_client::KvClient;
use meridian_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The members of one cluster.
pub struct World {
    pub members: Vec<Member>,
    dir: tempfile::TempDir,
    /// Files a member may have open, if not as many as the system allows.
    files: Option<u32>,
}

/// One member.
pub struct Member {
    pub name: String,
    /// `host:port` for clients.
    pub endpoint: String,
    pub peer_url: String,
    pub data: PathBuf,
    child: Option<Child>,
}

impl World {
    /// A cluster of so many members with these flags, each of which answers a linearizable read.
    pub async fn start(count: usize, flags: &[&str]) -> Self {
        for _ in 0..5 {
            let mut world = Self::planned(count);
            let initial = world.initial_cluster();
            for i in 0..count {
                let flags = [&["--initial-cluster", &initial], flags].concat();
                world.run(i, &flags);
            }
            if world.all_ready().await {
                return world;
            }
        }
        panic!("the ports of five clusters were taken");
    }

    /// Names, ports and directories, and no process.
    pub fn planned(count: usize) -> Self {
        let mut world = Self {
            members: vec![],
            dir: tempfile::tempdir().unwrap(),
            files: None,
        };
        for _ in 0..count {
            world.seat();
        }
        world
    }

    /// Members that are started from now on may have so many files open.
    pub fn within_files(&mut self, files: u32) {
        self.files = Some(files);
    }

    /// A place for one more member; its number.
    pub fn seat(&mut self) -> usize {
        let i = self.members.len();
        let [client, peer] = free_ports();
        self.members.push(Member {
            name: format!("m{i}"),
            endpoint: format!("127.0.0.1:{client}"),
            peer_url: format!("http://127.0.0.1:{peer}"),
            data: self.dir.path().join(format!("m{i}")),
            child: None,
        });
        i
    }

    /// `name=url` of every member.
    pub fn initial_cluster(&self) -> String {
        let all: Vec<String> = self
            .members
            .iter()
            .map(|member| format!("{}={}", member.name, member.peer_url))
            .collect();
        all.join(",")
    }

    /// Starts a member's process.
    pub fn run(&mut self, i: usize, flags: &[&str]) {
        let log = self.dir.path().join(format!("m{i}.log"));
        let log = File::options().create(true).append(true).open(log).unwrap();
        let member = &mut self.members[i];
        let client_url = format!("http://{}", member.endpoint);
        let limit = self
            .files
            .map_or("true".into(), |n| format!("ulimit -n {n}"));
        let child = Command::new("sh")
            .args(["-c", &format!("{limit} && exec \"$0\" \"$@\"")])
            .arg(env!("CARGO_BIN_EXE_meridian"))
            .args(["server", "--name", &member.name, "--data-dir"])
            .arg(&member.data)
            .args(["--listen-client-urls", &client_url])
            .args(["--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &member.peer_url])
            .args(["--initial-advertise-peer-urls", &member.peer_url])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        member.child = Some(child);
    }

    /// Waits until every member answers; false if one of them ended.
    pub async fn all_ready(&mut self) -> bool {
        for i in 0..self.members.len() {
            if !self.ready(i).await {
                return false;
            }
        }
        true
    }

    /// Waits until a member answers a linearizable read; false if its process ended.
    pub async fn ready(&mut self, i: usize) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let child = self.members[i].child.as_mut().unwrap();
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            if let Ok(channel) = self.connect(i).await
                && KvClient::new(channel).range(get("ready")).await.is_ok()
            {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("m{i} does not get ready: {}", self.log(i));
    }

    /// Waits until a member's process ends by itself; its exit code.
    pub async fn end(&mut self, i: usize) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let child = self.members[i].child.as_mut().unwrap();
            if let Some(status) = child.try_wait().unwrap() {
                self.members[i].child = None;
                return status.code().unwrap_or(-1);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("m{i} does not end: {}", self.log(i));
    }

    /// `kill -9`.
    pub fn kill(&mut self, i: usize) {
        if let Some(mut child) = self.members[i].child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends a signal to a member that runs.
    pub fn signal(&self, i: usize, signal: Signal) {
        let process = Pid::from_raw(self.process(i) as i32).unwrap();
        kill_process(process, signal).unwrap();
    }

    /// The process of a member that runs.
    pub fn process(&self, i: usize) -> u32 {
        self.members[i].child.as_ref().unwrap().id()
    }

    /// A new connection to a member.
    pub async fn connect(&self, i: usize) -> Result<Channel, tonic::transport::Error> {
        let url = format!("http://{}", self.members[i].endpoint);
        Endpoint::from_shared(url).unwrap().connect().await
    }

    /// The KV service of a member.
    pub async fn kv(&self, i: usize) -> KvClient<Channel> {
        KvClient::new(self.connect(i).await.unwrap())
    }

    /// What a member answers to a GET over plain HTTP, whatever the status.
    pub async fn http(&self, i: usize, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.members[i].endpoint).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        body.to_owned()
    }

    /// What a member says of itself; none if it does not answer.
    pub async fn status(&self, i: usize) -> Option<pb::StatusResponse> {
        let channel = self.connect(i).await.ok()?;
        let mut asked = MaintenanceClient::new(channel);
        let answer = asked.status(pb::StatusRequest {}).await;
        Some(answer.ok()?.into_inner())
    }

    /// The id of a member.
    pub async fn id(&self, i: usize) -> u64 {
        self.status(i).await.unwrap().header.unwrap().member_id
    }

    /// The number of the member that leads, as soon as all that run agree.
    pub async fn leader(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let mut leads = None;
            let mut said = vec![];
            for i in 0..self.members.len() {
                if self.members[i].child.is_none() {
                    continue;
                }
                let status = self.status(i).await;
                let Some(status) = status else {
                    said.push(0);
                    continue;
                };
                if status.header.unwrap().member_id == status.leader {
                    leads = Some(i);
                }
                said.push(status.leader);
            }
            said.dedup();
            if let (Some(leads), [one]) = (leads, &said[..])
                && *one != 0
            {
                return leads;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("nobody leads");
    }

    /// The endpoints of all members that run, comma separated, without a scheme.
    pub fn endpoints(&self) -> String {
        let running = self.members.iter().filter(|member| member.child.is_some());
        let endpoints: Vec<&str> = running.map(|member| member.endpoint.as_str()).collect();
        endpoints.join(",")
    }

    /// A path in the directory of the test.
    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn log(&self, i: usize) -> String {
        std::fs::read_to_string(Path::new(&self.path(&format!("m{i}.log")))).unwrap_or_default()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for i in 0..self.members.len() {
            self.kill(i);
        }
    }
}

/// Asks again until the answer is there.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, ask: impl Fn() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: not within {PATIENCE:?}");
}

/// A read of one key.
pub fn get(key: &str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.to_owned().into(),
        ..pb::RangeRequest::default()
    }
}

/// A put.
pub fn put(key: &str, value: impl Into<bytes::Bytes>) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_owned().into(),
        value: value.into(),
        ..pb::PutRequest::default()
    }
}

/// Two ports that were free a moment ago.
fn free_ports() -> [u16; 2] {
    let both = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    both.map(|listener| listener.local_addr().unwrap().port())
}
