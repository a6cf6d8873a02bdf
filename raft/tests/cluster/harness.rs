//! A cluster in one process: real sockets on the loopback, real logs in a temporary directory.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meridian_domain::command::{Command, Guards, MemberRecord, Proposal, Receipt};
use meridian_domain::key::{KeyRange, Space};
use meridian_domain::kv::{Put, Range};
use meridian_domain::name::TenantId;
use meridian_domain::stamp::Stamp;
use meridian_domain::txn::{Op, Txn};
use meridian_domain::view::View;
use meridian_proto::record::proposal;
use meridian_raft::network::tls::SharedTls;
use meridian_raft::{
    Doors, Engine, Founder, Replica, Settings, Start, StartError, Unavailable, identity,
};
use meridian_storage::disk::Disk;
use meridian_storage::history::{self, History};
use meridian_storage::machine::{self, Machine};
use meridian_storage::seal::Plain;
use meridian_storage::store::Store;
use meridian_storage::wal::{self, Wal};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::disk::Moody;

/// A member that runs.
pub struct Member {
    pub replica: Replica,
    pub store: Store,
    pub wal: Wal,
}

/// Where a member lives, whether it runs or not.
pub struct Home {
    pub id: u64,
    pub addr: SocketAddr,
    pub dir: PathBuf,
    pub instance: u64,
    pub running: Option<Member>,
    pub disk: Moody,
    /// How much of the log stays in memory.
    pub tail_bytes: usize,
    pub tls: Option<SharedTls>,
    /// Makes the state the member starts with out of an empty one and its log.
    pub prepare: Option<fn(&Wal, &mut Machine)>,
    listener: Option<TcpListener>,
}

pub struct Cluster {
    pub homes: Vec<Home>,
    pub founders: Vec<Founder>,
    pub id: u64,
    pub tune: Box<dyn Fn(&mut Settings) + Send + Sync>,
    root: tempfile::TempDir,
}

pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

pub fn url(addr: SocketAddr) -> String {
    format!("http://{addr}")
}

impl Cluster {
    /// Lays out so many founding members; nobody runs yet.
    pub async fn lay_out(members: usize) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut homes = vec![];
        for at in 0..members {
            homes.push(Home::new(root.path().join(format!("m{at}"))).await);
        }
        let mut founders = vec![];
        for (at, home) in homes.iter_mut().enumerate() {
            let peer_urls = vec![url(home.addr)];
            home.id = identity::founder_id(&peer_urls, "test");
            founders.push(Founder {
                id: home.id,
                name: format!("m{at}"),
                peer_urls,
            });
        }
        let ids: Vec<u64> = founders.iter().map(|founder| founder.id).collect();
        let id = identity::cluster_id(&ids);
        Self {
            homes,
            founders,
            id,
            tune: Box::new(|_| ()),
            root,
        }
    }

    /// Lays out and starts so many founding members, and waits for a leader.
    pub async fn start(members: usize) -> Self {
        let mut cluster = Self::lay_out(members).await;
        cluster.start_all().await;
        cluster.leader().await;
        cluster
    }

    pub async fn start_all(&mut self) {
        for at in 0..self.homes.len() {
            self.start_member(at).await;
        }
    }

    pub async fn start_member(&mut self, at: usize) {
        self.try_start_member(at).await.unwrap();
    }

    pub async fn try_start_member(&mut self, at: usize) -> Result<(), StartError> {
        let home = &mut self.homes[at];
        let founder = self.founders.iter().any(|founder| founder.id == home.id);
        let start = if founder {
            Start::Found(self.founders.clone())
        } else {
            Start::Join
        };
        let mut settings = Settings::new(self.id, home.id, home.instance, start);
        // Elections should be quick, but not so quick that a busy machine disturbs them.
        settings.heartbeat_interval_ms = 50;
        settings.election_timeout_ms = 500;
        settings.name = format!("m{at}");
        (self.tune)(&mut settings);
        let member = home.open(settings).await?;
        home.running = Some(member);
        Ok(())
    }

    /// Makes room for one more member; it does not run and is no founder.
    pub async fn another(&mut self) -> usize {
        let at = self.homes.len();
        let mut home = Home::new(self.root.path().join(format!("m{at}"))).await;
        home.id = identity::random_id();
        self.homes.push(home);
        at
    }

    pub fn member(&self, at: usize) -> &Member {
        self.homes[at].running.as_ref().unwrap()
    }

    pub fn replica(&self, at: usize) -> &Replica {
        &self.member(at).replica
    }

    fn running(&self) -> impl Iterator<Item = (usize, &Member)> {
        self.homes
            .iter()
            .enumerate()
            .filter_map(|(at, h)| h.running.as_ref().map(|m| (at, m)))
    }

    /// Waits until one of those that run leads, and answers which.
    pub async fn leader(&self) -> usize {
        eventually("a leader", || {
            self.running()
                .find(|(_, member)| member.replica.status().is_leader)
                .map(|(at, _)| at)
        })
        .await
    }

    /// One that runs and does not lead.
    pub async fn follower(&self) -> usize {
        let leader = self.leader().await;
        self.running()
            .map(|(at, _)| at)
            .find(|at| *at != leader)
            .unwrap()
    }

    /// Stops a member at once, without handing anything over.
    pub async fn kill(&mut self, at: usize) {
        let member = self.homes[at].running.take().unwrap();
        self.homes[at].disk.stall(false);
        member.replica.shutdown().await;
        member.wal.close();
    }

    /// Everybody has the same state, as far as the furthest.
    pub async fn converge(&self) {
        eventually("the same state everywhere", || {
            let applied: Vec<_> = self
                .running()
                .map(|(_, m)| m.replica.status().applied)
                .collect();
            let contents: Vec<_> = self.running().map(|(_, m)| m.contents()).collect();
            let equal = applied.windows(2).all(|pair| pair[0] == pair[1])
                && contents.windows(2).all(|pair| pair[0] == pair[1]);
            equal.then_some(())
        })
        .await;
    }

    pub async fn stop(mut self) {
        for at in 0..self.homes.len() {
            if self.homes[at].running.is_some() {
                self.kill(at).await;
            }
        }
    }
}

impl Home {
    async fn new(dir: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let instance = identity::random_id();
        Self {
            id: 0,
            addr,
            dir,
            instance,
            running: None,
            disk: Moody::default(),
            tail_bytes: wal::Settings::default().tail_bytes,
            tls: None,
            prepare: None,
            listener: Some(listener),
        }
    }

    async fn open(&mut self, settings: Settings) -> Result<Member, StartError> {
        let listener = match self.listener.take() {
            Some(listener) => listener,
            None => TcpListener::bind(self.addr).await.unwrap(),
        };
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let wal_settings = wal::Settings {
            segment_bytes: 1024 * 1024,
            tail_bytes: self.tail_bytes,
            ..Default::default()
        };
        let seal = Arc::new(Plain);
        let (wal, recovered) = Wal::open(
            disk.clone(),
            seal.clone(),
            &self.dir.join("wal"),
            wal_settings,
        )?;
        // No version store: the state comes from the snapshot and the log.
        let history = History::in_memory(history::Settings::default())?;
        let mut machine = Machine::new(history, machine::Settings::default());
        if let Some(prepare) = self.prepare {
            prepare(&wal, &mut machine);
        }
        let store = machine.store();
        let snapshots = self.dir.join("snapshots");
        let engine = Engine {
            disk,
            seal,
            wal: wal.clone(),
            recovered,
            machine,
            snapshots,
        };
        let doors = Doors {
            listeners: vec![listener],
            tls: self.tls.clone(),
        };
        let replica = Replica::start(settings, engine, doors).await?;
        Ok(Member {
            replica,
            store,
            wal,
        })
    }
}

impl Member {
    pub async fn put(&self, key: &str, value: &str) -> Result<Receipt, Unavailable> {
        self.replica.propose(put(key, value), soon()).await
    }

    /// Reads what is here now.
    pub fn get(&self, key: &str) -> Option<String> {
        let all = self.contents();
        all.into_iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// Reads linearizably.
    pub async fn read(&self, key: &str) -> Result<Option<String>, Unavailable> {
        self.replica.read_barrier(soon()).await?;
        Ok(self.get(key))
    }

    pub fn contents(&self) -> Vec<(String, String)> {
        let tenant = self.store.tenant(TenantId::DEFAULT).unwrap();
        let range = Range::of(Space::RAW, KeyRange::all());
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let reply = tenant.view().range(&range).unwrap();
        reply
            .kvs
            .iter()
            .map(|kv| (text(&kv.key), text(&kv.value)))
            .collect()
    }

    /// Publishes the member's instance, as a node does once it runs.
    pub async fn publish(&self, id: u64, name: &str, instance: u64) {
        let record = MemberRecord {
            id,
            name: name.into(),
            instance,
            ..Default::default()
        };
        let bytes = encode(TenantId::SYSTEM, Command::MemberPublish(record));
        self.replica.propose_urgent(bytes, soon()).await.unwrap();
    }
}

pub fn put(key: &str, value: &str) -> Bytes {
    let put = Put {
        space: Space::RAW,
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        lease: Some(0),
        prev_kv: false,
    };
    encode(TenantId::DEFAULT, Command::Txn(Txn::once(Op::Put(put))))
}

fn encode(tenant: TenantId, command: Command) -> Bytes {
    proposal::encode(&Proposal {
        tenant,
        request_id: None,
        actor: "test".into(),
        stamp: Stamp { unix_ms: 1 },
        guards: Guards::default(),
        command,
    })
}

/// Waits until something is so; panics after half a minute.
pub async fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
