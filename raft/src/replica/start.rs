//! Starting a member: everything is made and wired here, in order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use meridian_domain::revision::LogId;
use meridian_proto::peer::envelope::Body;
use meridian_storage::disk::Disk;
use meridian_storage::fault::Fault;
use meridian_storage::machine::Machine;
use meridian_storage::seal::Seal;
use meridian_storage::wal::{Recovered, Wal};
use openraft::errors::{InitializeError, RaftError};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::leadership::{self, Contact, Leadership};
use crate::log_store::LogStore;
use crate::membership::Changes;
use crate::network::lanes::Peers;
use crate::network::receive::{self, Guests};
use crate::network::roster::{Identity, Roster};
use crate::network::send::Senders;
use crate::network::tls::SharedTls;
use crate::pressure::Pressure;
use crate::propose::{self, Courier, Proposer, Room};
use crate::read_index::{AskLeader, ReadIndex};
use crate::replica::{Core, Replica};
use crate::settings::{Founder, InvalidSettings, Settings, Start};
use crate::snapshot::Snapshots;
use crate::state_machine::{Feedback, SharedMachine, StateMachine};
use crate::status::Standing;
use crate::type_config::{Address, Raft};
use crate::waiters::Waiters;
use crate::{digest, eviction, form, guard, metrics, snapshot};

/// What a member keeps its state in.
pub struct Engine {
    /// The disk of the snapshots.
    pub disk: Arc<dyn Disk>,
    /// The seam for encryption at rest.
    pub seal: Arc<dyn Seal>,
    /// The log, opened.
    pub wal: Wal,
    /// What opening it found.
    pub recovered: Recovered,
    /// The state, as far as it was loaded.
    pub machine: Machine,
    /// Where snapshots lie.
    pub snapshots: PathBuf,
}

/// How a member is reached and reaches others.
pub struct Doors {
    /// Where it listens for the others, bound already.
    pub listeners: Vec<TcpListener>,
    /// Certificates, if members speak TLS.
    pub tls: Option<SharedTls>,
}

/// Why a member could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings.
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
    /// The disk.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The log or the state holds what this version does not understand.
    #[error("the log or the state of this member holds a {0}; start a newer version")]
    Malformed(#[from] form::Malformed),
    /// The log is gone, and with it what this member promised the others.
    #[error(
        "the log of this member is empty but its state is not: the log was lost, and with it what the \
         member promised the others. Remove it from the cluster and add it as a new one"
    )]
    LostLog,
    /// The log, the snapshot and the state do not fit together.
    #[error(
        "the log, the snapshot and the state of this member do not fit together: {0}. If its disk is \
         damaged, remove the member from the cluster and add it as a new one"
    )]
    Inconsistent(String),
}

impl Replica {
    /// Starts a member.
    pub async fn start(
        settings: Settings,
        engine: Engine,
        doors: Doors,
    ) -> Result<Self, StartError> {
        settings.validate()?;
        let config = Arc::new(settings.to_openraft()?);
        let Engine {
            disk,
            seal,
            wal,
            recovered,
            machine,
            snapshots,
        } = engine;
        let store = machine.store();
        let cluster = settings.cluster_id;
        let (machine, snapshots) = snapshot::run(move || {
            let mut machine = machine;
            let snapshots = Snapshots::open(disk, seal, snapshots, cluster, &mut machine)?;
            Ok((machine, snapshots))
        })
        .await?;
        let empty_log = recovered.last.is_none() && recovered.vote.is_none();
        let empty_state = machine.applied() == LogId::default();
        let fresh = empty_log && empty_state && !settings.recovering;
        let known = settings.start == Start::Restore || settings.recovering;
        if empty_log && !empty_state && !known {
            return Err(StartError::LostLog);
        }
        if recovered
            .purged
            .is_some_and(|purged| purged.index > machine.applied().index)
        {
            let text = format!(
                "the log begins after {}, the state ends at {}",
                recovered.purged.unwrap_or_default(),
                machine.applied()
            );
            return Err(StartError::Inconsistent(text));
        }
        metrics::RECOVERING.set(i64::from(settings.recovering));
        let log = LogStore::new(wal.clone(), &recovered, snapshots.clone())?;
        let flushes = log.flushes();
        let own_log = log.clone();

        let identity = Identity {
            cluster_id: settings.cluster_id,
            member_id: settings.member_id,
            instance: settings.instance,
        };
        let membership = form::decode_stored_membership(machine.membership().as_ref())?;
        let roster = Roster::new(identity, store.clone(), membership);
        let pressure = Arc::new(Pressure::new(wal, roster.clone()));

        let waiters = Arc::new(Waiters::new(settings.member_id));
        let wake = Arc::new(Notify::new());
        let (heard, woken) = (waiters.clone(), wake.clone());
        let pushed = Arc::new(move |_, body| {
            if let Body::ProposeRefused(refusal) = body {
                propose::hear_refusal(&heard, &woken, &refusal);
            }
        });
        let peers = Arc::new(Peers::new(roster.clone(), doors.tls.clone(), pushed));

        let (applied, applied_here) = watch::channel(machine.applied());
        let machine: SharedMachine = Arc::new(Mutex::new(machine));
        let feedback = Feedback {
            waiters: waiters.clone(),
            applied: Arc::new(applied),
            resend: wake.clone(),
        };
        let last = recovered.last.unwrap_or_default();
        if machine.lock().applied() > last.max(snapshots.covers()) {
            // The log goes on behind the state: what lies before it can be had from a snapshot only.
            let view = snapshots.view(&machine).await?;
            snapshots.build(view).await?;
        }
        let state_machine = StateMachine::new(machine.clone(), snapshots.clone(), feedback);
        let senders = Senders {
            peers: peers.clone(),
            snapshots: snapshots.clone(),
            pressure: pressure.clone(),
            append_time: settings.election_timeout() * 4,
        };
        let raft = Raft::new(settings.member_id, config, senders, log, state_machine)
            .await
            .map_err(|error| StartError::Inconsistent(error.to_string()))?;

        let (leadership_tx, leadership) = watch::channel(Leadership::default());
        let (standing_tx, standing) = watch::channel(Standing::default());
        let changes = Arc::new(Changes::new(
            raft.clone(),
            roster.clone(),
            settings.learners_max,
            settings.strict_reconfiguration,
            settings.election_timeout() * 2,
        ));
        let read_index = Arc::new(ReadIndex::new(
            leadership.clone(),
            applied_here,
            settings.election_timeout() * 2,
        ));
        let proposer = Proposer {
            waiters: waiters.clone(),
            room: Room::new(
                settings.writes_waiting_max,
                settings.write_bytes_waiting_max,
            ),
            wake: wake.clone(),
            leadership: leadership.clone(),
        };
        let core = Arc::new(Core {
            raft: raft.clone(),
            store,
            peers: peers.clone(),
            tls: doors.tls,
            guests: Guests::default(),
            contact: Contact::default(),
            pressure: pressure.clone(),
            snapshots: snapshots.clone(),
            changes: changes.clone(),
            read_index: read_index.clone(),
            leadership: leadership.clone(),
            stopping: CancellationToken::new(),
            proposer,
            standing,
            fenced: Arc::default(),
            recovering: AtomicBool::new(settings.recovering),
            log: own_log,
            delegate: ArcSwapOption::empty(),
            tasks: Mutex::default(),
            machine: machine.clone(),
        });

        let following = leadership::Follow {
            raft: raft.clone(),
            roster,
            contact: core.contact.clone(),
            election_timeout: settings.election_timeout(),
            expelled: peers.expelled(),
            fenced: core.fenced.clone(),
            leadership: leadership_tx,
            standing: standing_tx,
        };
        let followed = peers.clone();
        core.spawn(following.run(move || followed.follow_membership()));
        core.spawn(
            Courier {
                raft: raft.clone(),
                peers: peers.clone(),
                waiters,
                pressure,
                wake,
                leadership: leadership.clone(),
            }
            .run(),
        );
        let ask = AskLeader {
            raft: raft.clone(),
            peers,
            leadership: leadership.clone(),
        };
        core.spawn(read_index.run(ask));
        for listener in doors.listeners {
            core.spawn(receive::accept(core.clone(), listener));
        }
        let watched = Arc::downgrade(&core);
        core.spawn(guard::watch(
            raft.clone(),
            changes.clone(),
            flushes,
            leadership,
            settings.election_timeout(),
            move || watched.upgrade().is_some_and(|core| core.may_campaign()),
        ));
        core.spawn(digest::watch(core.clone(), settings.digest_interval));
        core.spawn(eviction::watch(
            core.peers.clone(),
            settings.election_timeout(),
        ));
        core.spawn(async move { changes.promote_joining().await });
        let (made, log_bytes) = (raft, settings.snapshot_log_bytes);
        let made = move || {
            let raft = made.clone();
            async move {
                // openraft looks for itself what the newest snapshot is.
                let _ = raft.trigger().snapshot().await;
            }
        };
        let fenced = core.clone();
        let broken = move || {
            let core = fenced.clone();
            async move { core.fence().await }
        };
        core.spawn(snapshots.keep_making(machine, log_bytes, made, broken));
        if let (true, Start::Found(founders)) = (fresh, settings.start) {
            let time = Duration::from_millis(settings.election_timeout_ms);
            core.spawn(found(core.clone(), founders, time));
        }
        Ok(Self { core })
    }
}

/// Founds the cluster with the others that were given the same list. The first of them does it; the next ones
/// only if the first does not come, so that founders do not run against each other.
async fn found(core: Arc<Core>, founders: Vec<Founder>, election_timeout: Duration) {
    let own = core.id();
    let mut ids: Vec<u64> = founders.iter().map(|founder| founder.id).collect();
    ids.sort_unstable();
    let rank = ids.iter().position(|id| *id == own).unwrap_or_default();
    if rank > 0 {
        let patience = election_timeout * (1 + rank as u32);
        let wait = core.raft.wait(Some(patience));
        if wait
            .metrics(|metrics| metrics.last_log_index.is_some(), "founded")
            .await
            .is_ok()
        {
            return;
        }
    }
    let members: BTreeMap<u64, Address> = founders
        .into_iter()
        .map(
            |Founder {
                 id,
                 name,
                 peer_urls,
             }| {
                (
                    id,
                    Address {
                        name,
                        peer_urls,
                        joining: false,
                    },
                )
            },
        )
        .collect();
    match core.raft.initialize(members).await {
        Ok(()) => tracing::info!("founding the cluster"),
        // Somebody else was faster.
        Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
        Err(error) => tracing::error!(%error, "the cluster could not be founded"),
    }
}
