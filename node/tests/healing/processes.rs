//! Members as processes, killed when the test ends.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use meridian_proto::etcdserverpb as pb;
use meridian_proto::etcdserverpb::kv_client::KvClient;
use meridian_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use meridian_proto::mvccpb;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);
const READY: &str = "ready to serve client requests";

/// The members of one cluster.
pub struct Processes {
    pub members: Vec<Member>,
    pub dir: tempfile::TempDir,
    token: &'static str,
    initial: String,
}

/// One member, whether it runs or not.
pub struct Member {
    pub name: String,
    pub data: PathBuf,
    pub peer_url: String,
    client: String,
    flags: Vec<String>,
    child: Option<Child>,
}

impl Drop for Processes {
    fn drop(&mut self) {
        for at in 0..self.members.len() {
            if self.members[at].child.is_some() {
                self.kill(at);
            }
        }
    }
}

impl Processes {
    /// Lays out so many members; nobody runs yet.
    pub fn lay_out(count: usize, scheme: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // All at once, so that none is given out twice.
        let sockets: Vec<_> = (0..2 * count)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let port = |at: usize| sockets[at].local_addr().unwrap().port();
        let members: Vec<Member> = (0..count)
            .map(|at| Member {
                name: format!("m{at}"),
                data: dir.path().join(format!("m{at}")),
                peer_url: format!("{scheme}://127.0.0.1:{}", port(2 * at)),
                client: format!("127.0.0.1:{}", port(2 * at + 1)),
                flags: vec![],
                child: None,
            })
            .collect();
        let initial: Vec<_> = members
            .iter()
            .map(|member| format!("{}={}", member.name, member.peer_url))
            .collect();
        Self {
            initial: initial.join(","),
            members,
            dir,
            token: "healing",
        }
    }

    /// Starts so many members and waits until all serve.
    pub fn start(count: usize) -> Self {
        let mut all = Self::lay_out(count, "http");
        all.start_all();
        all
    }

    pub fn start_all(&mut self) {
        for at in 0..self.members.len() {
            self.spawn(at);
        }
        for at in 0..self.members.len() {
            self.ready(at);
        }
    }

    /// Flags a member is started with from now on.
    pub fn flags(&mut self, at: usize, flags: &[(&str, &str)]) {
        let words = flags
            .iter()
            .flat_map(|(flag, value)| [format!("--{flag}"), (*value).to_owned()]);
        self.members[at].flags = words.collect();
    }

    /// The members are those of another cluster from now on, with directories of their own.
    pub fn found_anew(&mut self, token: &'static str) {
        self.token = token;
        for member in &mut self.members {
            assert!(member.child.is_none(), "{} runs", member.name);
            member.data = self.dir.path().join(format!("{}-{token}", member.name));
        }
    }

    fn log(&self, at: usize) -> PathBuf {
        self.dir
            .path()
            .join(format!("{}.log", self.members[at].name))
    }

    /// What a member wrote to its log since it was started last.
    pub fn said(&self, at: usize) -> String {
        std::fs::read_to_string(self.log(at)).unwrap_or_default()
    }

    /// What makes a member who it is.
    pub fn identity(&self, at: usize) -> Vec<String> {
        let member = &self.members[at];
        [
            ("name", &member.name),
            ("data-dir", &member.data.display().to_string()),
            ("initial-cluster", &self.initial),
            ("initial-cluster-token", &self.token.to_owned()),
            ("initial-advertise-peer-urls", &member.peer_url),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [format!("--{flag}"), value.clone()])
        .collect()
    }

    /// Starts a process.
    pub fn spawn(&mut self, at: usize) {
        let log = File::create(self.log(at)).unwrap();
        let identity = self.identity(at);
        let member = &mut self.members[at];
        assert!(member.child.is_none(), "{} runs", member.name);
        let child = Command::new(env!("CARGO_BIN_EXE_meridian"))
            .arg("server")
            .args(identity)
            .args(["--listen-peer-urls", &member.peer_url])
            .args(["--listen-client-urls", &format!("http://{}", member.client)])
            .args(&member.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap();
        member.child = Some(child);
    }

    /// Whether a member said that it serves.
    pub fn is_ready(&self, at: usize) -> bool {
        self.said(at).contains(READY)
    }

    /// Waits until a member serves.
    pub fn ready(&mut self, at: usize) {
        let deadline = Instant::now() + PATIENCE;
        while !self.is_ready(at) {
            let ended = self.members[at].child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", self.said(at));
            assert!(Instant::now() < deadline, "not ready: {}", self.said(at));
            std::thread::sleep(LOOK);
        }
    }

    pub fn start_member(&mut self, at: usize) {
        self.spawn(at);
        self.ready(at);
    }

    /// `kill -9`.
    pub fn kill(&mut self, at: usize) {
        let mut child = self.members[at].child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends a signal.
    pub fn signal(&self, at: usize, signal: rustix::process::Signal) {
        let child = self.members[at].child.as_ref().unwrap();
        let process = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(process, signal).unwrap();
    }

    /// Asks a member to stop, and waits until it has.
    pub fn stop(&mut self, at: usize) -> ExitStatus {
        self.signal(at, rustix::process::Signal::TERM);
        self.ended(at)
    }

    /// Waits until a member ends by itself.
    pub fn ended(&mut self, at: usize) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.members[at].child.as_mut().unwrap().try_wait().unwrap() {
                self.members[at].child = None;
                return status;
            }
            assert!(Instant::now() < deadline, "still there: {}", self.said(at));
            std::thread::sleep(LOOK);
        }
    }

    pub fn channel(&self, at: usize) -> Channel {
        let url = format!("http://{}", self.members[at].client);
        Endpoint::from_shared(url)
            .unwrap()
            .timeout(Duration::from_secs(10))
            .connect_lazy()
    }

    pub fn kv(&self, at: usize) -> KvClient<Channel> {
        KvClient::new(self.channel(at))
    }

    /// Puts a key through a member, however often it takes. The revision it got.
    pub async fn put(&self, at: usize, key: &str, value: &str) -> i64 {
        let request = pb::PutRequest {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            ..pb::PutRequest::default()
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.kv(at).put(request.clone()).await {
                Ok(done) => return done.into_inner().header.unwrap().revision,
                Err(error) => assert!(Instant::now() < deadline, "{error:?}: {}", self.said(at)),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Puts so many keys through a member.
    pub async fn fill(&self, at: usize, prefix: &str, count: usize) {
        for i in 0..count {
            self.put(at, &format!("{prefix}{i:03}"), &value_of(prefix, i))
                .await;
        }
    }

    /// Reads a key linearizably through a member, at a revision if it is not zero.
    pub async fn get(&self, at: usize, key: &str, revision: i64) -> Result<Option<String>, Status> {
        let request = pb::RangeRequest {
            key: key.to_owned().into(),
            revision,
            ..pb::RangeRequest::default()
        };
        let reply = self.kv(at).range(request).await?.into_inner();
        let value = |kv: &mvccpb::KeyValue| String::from_utf8(kv.value.to_vec()).unwrap();
        Ok(reply.kvs.first().map(value))
    }

    /// Checks what [`Processes::fill`] wrote, on a member.
    pub async fn check(&self, at: usize, prefix: &str, count: usize) {
        for i in 0..count {
            let found = self.get(at, &format!("{prefix}{i:03}"), 0).await.unwrap();
            assert_eq!(found, Some(value_of(prefix, i)), "{prefix}{i}");
        }
    }

    pub async fn status(&self, at: usize) -> Option<pb::StatusResponse> {
        let mut client = MaintenanceClient::new(self.channel(at));
        let status = client.status(pb::StatusRequest {}).await;
        status.ok().map(tonic::Response::into_inner)
    }

    fn running(&self) -> Vec<usize> {
        (0..self.members.len())
            .filter(|at| self.members[*at].child.is_some())
            .collect()
    }

    /// Which of those that run leads.
    pub async fn leader(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for at in self.running() {
                if let Some(status) = self.status(at).await
                    && status.header.unwrap().member_id == status.leader
                {
                    return at;
                }
            }
            assert!(Instant::now() < deadline, "nobody leads");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// One that runs and does not lead.
    pub async fn follower(&self) -> usize {
        let leader = self.leader().await;
        self.running().into_iter().find(|at| *at != leader).unwrap()
    }

    /// Revision, compacted revision and hash of the state of a member.
    async fn hash(&self, at: usize) -> Option<(i64, i64, u32)> {
        let mut client = MaintenanceClient::new(self.channel(at));
        let reply = client.hash_kv(pb::HashKvRequest { revision: 0 }).await;
        let reply = reply.ok()?.into_inner();
        let revision = reply.header?.revision;
        Some((revision, reply.compact_revision, reply.hash))
    }

    /// Waits until all that run have the same state.
    pub async fn converge(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut hashes = vec![];
            for at in self.running() {
                hashes.push(self.hash(at).await);
            }
            if hashes
                .iter()
                .all(|hash| hash.is_some() && *hash == hashes[0])
            {
                return;
            }
            assert!(Instant::now() < deadline, "states differ: {hashes:?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Runs the command line against a member.
    pub fn meridian(&self, at: usize, words: &[&str]) -> String {
        let done = Command::new(env!("CARGO_BIN_EXE_meridian"))
            .args(words)
            .env("MERIDIAN_ENDPOINTS", &self.members[at].client)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(done.status.success(), "{words:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    }
}

fn value_of(prefix: &str, i: usize) -> String {
    format!("value of {prefix}{i:03} that nothing else is like")
}

/// The newest segment of the log in a data directory.
pub fn segment(data: &Path) -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir(data.join("wal"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|of| of == "wal"))
        .collect();
    found.sort();
    found.pop().expect("a segment")
}

/// Where in the beginning of a file some bytes stand.
pub fn find(path: &Path, bytes: &[u8]) -> Option<u64> {
    let mut content = vec![];
    let file = File::open(path).unwrap();
    file.take(1 << 20).read_to_end(&mut content).unwrap();
    let at = content.windows(bytes.len()).position(|at| at == bytes)?;
    Some(at as u64)
}

/// Flips a bit of a byte.
pub fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}
