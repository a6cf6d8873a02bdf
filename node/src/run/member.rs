//! One running member: its parts wired in order, and stopped in reverse.

use std::future::pending;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use meridian_domain::command::MemberRecord;
use meridian_domain::intent::Intent;
use meridian_domain::name::TenantName;
use meridian_domain::view::ClusterView;
use meridian_raft::{Doors, Expelled, Replica};
use meridian_storage::fault::Fault;
use meridian_storage::wal::Wal;
use tokio::net::{TcpListener, TcpSocket, lookup_host};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::directory::Directory;
use crate::pipeline::Pipeline;
use crate::run::recovery::{Asking, Ready};
use crate::run::{Failure, founding, recovery};
use crate::service;
use crate::service::door::{Door, Grpc};
use crate::service::http::Outside;
use crate::service::listen::{self, Listener};
use crate::settings::{Settings, check};
use crate::{tls, version};

/// Called with the fault when the disk fails under the log or the history. The process should end.
pub type OnFault = Arc<dyn Fn(Fault) + Send + Sync>;

/// Connections the system queues before they are accepted.
const BACKLOG: u32 = 4096;
/// How long open requests may go on after the port closed.
const DRAIN: Duration = Duration::from_secs(3);
/// Between two tries to tell the cluster how clients reach this member.
const PUBLISH_PAUSE: Duration = Duration::from_millis(200);

/// A member that runs.
pub struct Member {
    /// What its services serve from.
    pub pipeline: Arc<Pipeline>,
    client_urls: Vec<String>,
    services: service::Services,
    ready: watch::Receiver<bool>,
    reload: watch::Sender<u64>,
    /// No new connections, no new background work.
    stop: CancellationToken,
    /// What is open ends.
    end: CancellationToken,
    connections: TaskTracker,
    tasks: TaskTracker,
    wal: Wal,
    directory: Directory,
}

impl Member {
    /// Starts a member. It serves health checks when this returns, and clients once it is [`Member::ready`].
    pub async fn start(settings: Settings, on_fault: OnFault) -> Result<Self, Failure> {
        let settings = Arc::new(settings);
        let certificates =
            tls::client_port(&settings.client.tls).map_err(|error| unusable(&error))?;
        let peer_certificates =
            tls::peer_port(&settings.peer.tls).map_err(|error| unusable(&error))?;
        let peer_tls = peer_certificates.as_ref().map(tls::Certificates::current);
        let directory = Directory::open(&settings.data_dir())?;
        let client_sockets = bind("listen-client-urls", &settings.client.listen_urls).await?;
        let peer_sockets = bind("listen-peer-urls", &settings.peer.listen_urls).await?;
        let standpoint = founding::settle(&settings, &directory, peer_tls.as_ref()).await?;
        let ids = standpoint.ids;
        tracing::info!(
            name = settings.name,
            cluster_id = format!("{:x}", ids.cluster),
            member_id = format!("{:x}", ids.member),
            data_dir = %directory.path().display(),
            version = version::MERIDIAN,
            "starting"
        );

        let asking = Asking {
            ids,
            peer_urls: standpoint.others,
            own_urls: settings.advertised_peer_urls(),
            tls: peer_tls.as_ref(),
        };
        let (directory, ready) = recovery::open(directory, asking, on_fault).await?;
        let Ready { engine, recovering } = ready;
        let wal = engine.wal.clone();
        let store = engine.machine.store();
        let mut raft =
            meridian_raft::Settings::new(ids.cluster, ids.member, ids.instance, standpoint.start);
        raft.name.clone_from(&settings.name);
        raft.recovering = recovering;
        raft.heartbeat_interval_ms = settings.raft.heartbeat_interval;
        raft.election_timeout_ms = settings.raft.election_timeout;
        raft.learners_max = settings.cluster.max_learners;
        raft.strict_reconfiguration = settings.cluster.strict_reconfig_check;
        let doors = Doors {
            listeners: peer_sockets,
            tls: peer_tls,
        };
        let replica = Replica::start(raft, engine, doors)
            .await
            .map_err(|error| match error {
                meridian_raft::StartError::Fault(fault) => Failure::Fault(fault),
                other => Failure::Start(other.to_string()),
            })?;

        let client_urls = reached_at(&settings, &client_sockets);
        let pipeline = Arc::new(Pipeline::new(store, replica, Arc::clone(&settings), ids));
        let stop = CancellationToken::new();
        let end = CancellationToken::new();
        let tasks = TaskTracker::new();
        let connections = TaskTracker::new();
        let services = service::Services::start(&pipeline, &stop, &tasks);
        let outside = Outside {
            pipeline: Arc::clone(&pipeline),
            wal: wal.clone(),
        };
        let grpc = Grpc::new(services.grpc(), settings.log.metrics == "extensive");
        let door = Door::new(grpc.clone(), services.http(outside, grpc));
        let room = listen::room(settings.limits.connections);
        let client_tls = certificates.as_ref().map(tls::Certificates::current);
        for socket in client_sockets {
            let listener = Listener {
                socket,
                tls: client_tls.clone(),
                door: door.clone(),
                room: Arc::clone(&room),
                streams: settings.limits.streams_per_connection,
                naming: settings.certificate_naming(),
            };
            tasks.spawn(listener.serve(stop.clone(), end.clone(), connections.clone()));
        }

        let (reload, asked) = watch::channel(0);
        if let Some(certificates) = certificates {
            spawn_until(&tasks, &stop, certificates.keep_fresh(asked.clone()));
        }
        if let Some(certificates) = peer_certificates {
            spawn_until(&tasks, &stop, certificates.keep_fresh(asked));
        }
        let (published, ready) = watch::channel(false);
        let publish = publish(
            Arc::clone(&pipeline),
            client_urls.clone(),
            directory.path().to_owned(),
            published,
        );
        spawn_until(&tasks, &stop, publish);
        Ok(Self {
            pipeline,
            client_urls,
            services,
            ready,
            reload,
            stop,
            end,
            connections,
            tasks,
            wal,
            directory,
        })
    }

    /// Where clients reach it, with the port the system chose where the settings say 0.
    pub fn client_urls(&self) -> &[String] {
        &self.client_urls
    }

    /// Where its data lies.
    pub fn data_dir(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// Returns once a write of this member went through the cluster: then clients' writes do, too.
    pub async fn ready(&self) {
        let mut ready = self.ready.clone();
        if ready.wait_for(|ready| *ready).await.is_err() {
            // Stopped before it was ready: it never will be.
            pending::<()>().await;
        }
    }

    /// Returns when this member can not go on, with the reason.
    pub async fn broken(&self) -> Failure {
        let mut standing = self.pipeline.replica.changed();
        loop {
            let now = standing.borrow_and_update().clone();
            match now.expelled {
                Some(Expelled::Removed) => {
                    return Failure::Expelled(
                        "the member has been permanently removed from the cluster; its data directory can be \
                         deleted"
                            .into(),
                    );
                }
                Some(Expelled::ReusedId) => {
                    return Failure::Expelled(
                        "the cluster knows this member with another disk: what it promised is lost. Remove it \
                         from the cluster, give it an empty data directory and add it anew"
                            .into(),
                    );
                }
                None => {}
            }
            if let Some(what) = now.broken {
                return Failure::Start(format!("agreement stopped: {what}"));
            }
            if standing.changed().await.is_err() {
                pending::<()>().await;
            }
        }
    }

    /// Reads certificates again.
    pub fn reload_certificates(&self) {
        self.reload.send_modify(|times| *times += 1);
    }

    /// Hands leadership over, lets open requests end, and stops every part in reverse.
    pub async fn stop(self) {
        let patience = 2 * self.pipeline.settings.election_timeout();
        if let Err(error) = self
            .pipeline
            .replica
            .step_down(Instant::now() + patience)
            .await
        {
            tracing::warn!(%error, "leadership could not be handed over; the others will elect");
        }
        self.stop.cancel();
        self.services.stop();
        self.connections.close();
        if tokio::time::timeout(DRAIN, self.connections.wait())
            .await
            .is_err()
        {
            tracing::info!("open requests are cut off");
        }
        self.end.cancel();
        self.connections.wait().await;
        self.tasks.close();
        self.tasks.wait().await;
        self.pipeline.replica.shutdown().await;
        let history = self.pipeline.store.history().clone();
        let wal = self.wal;
        let closed = tokio::task::spawn_blocking(move || {
            wal.close();
            history.flush()
        });
        match closed.await {
            Ok(Ok(applied)) => tracing::info!(%applied, "stopped"),
            Ok(Err(fault)) => tracing::warn!(%fault, "stopped; the version store will be rebuilt"),
            Err(error) => tracing::warn!(%error, "stopped, not cleanly"),
        }
    }
}

fn unusable(error: &tls::TlsError) -> Failure {
    Failure::Settings(error.to_string())
}

fn spawn_until(
    tasks: &TaskTracker,
    stop: &CancellationToken,
    task: impl Future<Output = ()> + Send + 'static,
) {
    let stop = stop.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = task => {}
        }
    });
}

/// Listens on every URL.
async fn bind(flag: &str, urls: &[String]) -> Result<Vec<TcpListener>, Failure> {
    let mut sockets = Vec::new();
    for url in urls {
        let authority = check::address(url)?.authority();
        let addresses = lookup_host(&authority).await.map_err(|error| {
            Failure::Address(format!("--{flag}: {url} can not be looked up: {error}"))
        })?;
        let mut outcome = None;
        for address in addresses {
            match listen(address) {
                Ok(socket) => {
                    outcome = Some(Ok(socket));
                    break;
                }
                Err(error) => outcome = Some(Err(error)),
            }
        }
        let socket = match outcome {
            Some(Ok(socket)) => socket,
            Some(Err(error)) if error.kind() == std::io::ErrorKind::AddrInUse => {
                return Err(Failure::Address(format!(
                    "--{flag}: {url}: address already in use; another process listens there. Stop it, or choose \
                     another port"
                )));
            }
            Some(Err(error)) => {
                return Err(Failure::Address(format!(
                    "--{flag}: can not listen on {url}: {error}"
                )));
            }
            None => return Err(Failure::Address(format!("--{flag}: {url} has no address"))),
        };
        sockets.push(socket);
    }
    Ok(sockets)
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The URLs told to clients: the advertised ones, or those listened on with their real ports.
fn reached_at(settings: &Settings, sockets: &[TcpListener]) -> Vec<String> {
    if !settings.client.advertise_urls.is_empty() {
        return settings.client.advertise_urls.clone();
    }
    settings
        .client
        .listen_urls
        .iter()
        .zip(sockets)
        .map(
            |(url, socket)| match (url.strip_suffix(":0"), socket.local_addr()) {
                (Some(host), Ok(address)) => format!("{host}:{}", address.port()),
                _ => url.clone(),
            },
        )
        .collect()
}

/// Tells the cluster how clients reach this member, until it knows. For one that recovers, this is also the write
/// of its own that proves that it has everything again.
async fn publish(
    pipeline: Arc<Pipeline>,
    client_urls: Vec<String>,
    data_dir: PathBuf,
    done: watch::Sender<bool>,
) {
    let settings = &pipeline.settings;
    let record = MemberRecord {
        id: pipeline.ids.member,
        name: settings.name.clone(),
        client_urls,
        region: settings.region.clone(),
        zone: settings.zone.clone(),
        version: version::MERIDIAN.to_owned(),
        instance: pipeline.ids.instance,
    };
    let Ok(tenant) = TenantName::new(TenantName::DEFAULT) else {
        return;
    };
    loop {
        let ctx = pipeline.system_context(tenant.clone());
        // What is known already may be what this member knew before it stopped: ask first.
        let recovering = pipeline.replica.is_recovering();
        let known = pipeline.barrier(&ctx).await.is_ok()
            && pipeline.store.cluster().members().contains(&record);
        if known && !recovering {
            break;
        }
        match pipeline
            .write(&ctx, Intent::MemberPublish(record.clone()))
            .await
        {
            Ok(_) if !recovering => break,
            Ok(_) => match recovered(&pipeline.replica, &data_dir, ctx.deadline).await {
                Ok(()) => break,
                Err(error) => tracing::warn!(error, "not recovered yet"),
            },
            Err(refusal) => tracing::debug!(%refusal, "not published yet"),
        }
        tokio::time::sleep(PUBLISH_PAUSE).await;
    }
    done.send_replace(true);
}

/// A write of this member was applied here since it came back: what it has now is all it ever acknowledged.
async fn recovered(replica: &Replica, data_dir: &Path, deadline: Instant) -> Result<(), String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let at = replica.durable(deadline).await.map_err(|e| said(&e))?;
    let data_dir = data_dir.to_owned();
    tokio::task::spawn_blocking(move || recovery::forget(&data_dir))
        .await
        .map_err(|e| said(&e))?
        .map_err(|e| said(&e))?;
    replica.recovered();
    tracing::info!(%at, "this member has everything again, and votes");
    Ok(())
}
