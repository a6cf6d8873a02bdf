//! Snapshots: when one is made, where it lies, how it goes out and comes in.
//!
//! A snapshot is made from a frozen view on a thread of its own while writes go on, when the log grew enough.
//! openraft hears of it when it is on disk, and only then purges the log behind it. If it can not be made (the
//! disk is full), nothing is lost: the log stays, and it is tried again.
//!
//! One that comes in from the leader lies under a name nobody reads until all of it was verified; only then is
//! it installed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use meridian_domain::revision::LogId;
use meridian_storage::disk::Disk;
use meridian_storage::fault::Fault;
use meridian_storage::history::{History, Pin};
use meridian_storage::machine::{Frozen, Machine};
use meridian_storage::seal::Seal;
use meridian_storage::snapshot::{self, SnapshotFile};
use parking_lot::Mutex;

use crate::form;
use crate::metrics;
use crate::state_machine::SharedMachine;
use crate::type_config::{self, Snapshot, SnapshotMeta};

/// How often the size of the log is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long to wait after a snapshot could not be made.
const RETRY: Duration = Duration::from_secs(30);

/// A snapshot on disk, as openraft passes it around.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotData(SnapshotFile);

impl SnapshotData {
    /// The position it holds.
    pub fn applied(&self) -> LogId {
        self.0.applied
    }
}

/// Where snapshots lie. Shared.
#[derive(Clone)]
pub struct Snapshots {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Arc<dyn Disk>,
    seal: Arc<dyn Seal>,
    dir: PathBuf,
    cluster: u64,
    history: History,
    current: Mutex<Option<Described>>,
    /// Bytes the log grew by since the last snapshot.
    grown: AtomicU64,
    /// The newest snapshot turned out damaged: another one is made at once.
    wanted: AtomicBool,
}

/// A snapshot with the members at its position.
#[derive(Clone)]
struct Described {
    file: SnapshotFile,
    membership: Option<Bytes>,
}

impl Described {
    fn to_openraft(&self) -> Result<Snapshot, Fault> {
        let last_membership =
            form::decode_stored_membership(self.membership.as_ref()).map_err(|error| {
                Fault::Inconsistent {
                    what: error.to_string(),
                }
            })?;
        let last_log_id = type_config::to_raft(self.file.applied);
        let meta = SnapshotMeta {
            last_log_id,
            last_membership,
        };
        Ok(openraft::Snapshot {
            meta,
            snapshot: SnapshotData(self.file.clone()),
        })
    }
}

/// A frozen view with what keeps its versions where they are.
pub struct View {
    frozen: Frozen,
    pin: Pin,
}

impl Snapshots {
    /// The snapshots in a directory. If the newest that verifies is ahead of the machine, the machine takes
    /// over its state. Blocks.
    pub fn open(
        disk: Arc<dyn Disk>,
        seal: Arc<dyn Seal>,
        dir: PathBuf,
        cluster: u64,
        machine: &mut Machine,
    ) -> Result<Self, Fault> {
        snapshot::tidy(&*disk, &dir)?;
        let mut current = None;
        if let Some(file) = snapshot::latest(&*disk, &dir)? {
            current = Self::take_over(&disk, &seal, &dir, machine, file)?;
        }
        let history = machine.store().history().clone();
        let current = Mutex::new(current);
        let grown = AtomicU64::new(0);
        let wanted = AtomicBool::new(false);
        let inner = Inner {
            disk,
            seal,
            dir,
            cluster,
            history,
            current,
            grown,
            wanted,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    fn take_over(
        disk: &Arc<dyn Disk>,
        seal: &Arc<dyn Seal>,
        dir: &std::path::Path,
        machine: &mut Machine,
        newest: SnapshotFile,
    ) -> Result<Option<Described>, Fault> {
        let membership = machine.membership();
        let unchanged = form::decode_stored_membership(membership.as_ref())
            .ok()
            .and_then(|stored| stored.log_id().as_ref().map(type_config::to_domain))
            .is_some_and(|at| at.index <= newest.applied.index);
        if newest.applied <= machine.applied() && unchanged {
            // What is in it is known without reading it.
            return Ok(Some(Described {
                file: newest,
                membership,
            }));
        }
        let Some((file, mut rows)) = snapshot::open_latest(&**disk, seal, dir)? else {
            return Ok(None);
        };
        let membership = rows.membership();
        if file.applied > machine.applied() {
            tracing::info!(applied = %file.applied, "taking over the state of a snapshot");
            machine.store().history().reset(&mut rows)?;
            machine.install(&mut rows)?;
        }
        Ok(Some(Described { file, membership }))
    }

    /// The log grew.
    pub fn log_grew(&self, bytes: u64) {
        self.inner.grown.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The position the newest snapshot covers.
    pub fn covers(&self) -> LogId {
        self.inner
            .current
            .lock()
            .as_ref()
            .map(|of| of.file.applied)
            .unwrap_or_default()
    }

    /// The newest snapshot, with what openraft wants to know about it.
    pub fn current(&self) -> Result<Option<Snapshot>, Fault> {
        self.inner
            .current
            .lock()
            .as_ref()
            .map(Described::to_openraft)
            .transpose()
    }

    /// The state as it is now, to make a snapshot of. Cheap, but may wait for the machine.
    pub async fn view(&self, machine: &SharedMachine) -> Result<View, Fault> {
        let (inner, machine) = (self.inner.clone(), machine.clone());
        run(move || {
            // The pin first: nothing the view holds may be dropped.
            let pin = inner.history.pin();
            Ok(View {
                pin,
                frozen: machine.lock().freeze(),
            })
        })
        .await
    }

    /// Makes a snapshot of a view.
    pub async fn build(&self, view: View) -> Result<Snapshot, Fault> {
        let grown = self.inner.grown.load(Ordering::Relaxed);
        let timer = metrics::SNAPSHOT_SECONDS.start_timer();
        let inner = self.inner.clone();
        let made = run(move || {
            let View { frozen, pin } = view;
            let Inner {
                disk,
                seal,
                dir,
                cluster,
                ..
            } = &*inner;
            let file = snapshot::write(&**disk, seal, dir, *cluster, &frozen, &pin)?;
            snapshot::remove_old(&**disk, dir)?;
            Ok(Described {
                file,
                membership: frozen.membership,
            })
        })
        .await?;
        timer.observe_duration();
        self.inner.grown.fetch_sub(grown, Ordering::Relaxed);
        self.inner.wanted.store(false, Ordering::Relaxed);
        self.keep(&made);
        made.to_openraft()
    }

    /// Replaces the state by that of a snapshot; answers with the position it holds.
    pub async fn install(
        &self,
        data: &SnapshotData,
        machine: &SharedMachine,
    ) -> Result<LogId, Fault> {
        let (inner, file, machine) = (self.inner.clone(), data.0.clone(), machine.clone());
        let installed = run(move || {
            let Inner {
                disk,
                seal,
                dir,
                cluster,
                ..
            } = &*inner;
            let mut rows = snapshot::open(&**disk, seal, &file.path)?;
            if rows.cluster() != *cluster {
                let what = format!("a snapshot of cluster {:x} came in", rows.cluster());
                return Err(Fault::Inconsistent { what });
            }
            // No entry may be applied in between: history and machine change together.
            let mut machine = machine.lock();
            inner.history.reset(&mut rows)?;
            machine.install(&mut rows)?;
            drop(machine);
            snapshot::remove_old(&**disk, dir)?;
            Ok(Described {
                file,
                membership: rows.membership(),
            })
        })
        .await?;
        self.inner.grown.store(0, Ordering::Relaxed);
        self.keep(&installed);
        Ok(installed.file.applied)
    }

    /// Makes a snapshot the current one, if it is newer.
    fn keep(&self, made: &Described) {
        let mut current = self.inner.current.lock();
        if current
            .as_ref()
            .is_none_or(|now| now.file.applied <= made.file.applied)
        {
            *current = Some(made.clone());
        }
    }

    /// Opens a snapshot to send it, verified: it may have lain there for long. One that is damaged is set aside,
    /// and another one made in its place; who asks then tries again.
    pub async fn outgoing(&self, data: &SnapshotData) -> Result<snapshot::Outgoing, Fault> {
        let (inner, file) = (self.inner.clone(), data.0.clone());
        run(move || {
            let opened = snapshot::verify(&*inner.disk, &*inner.seal, &file.path)
                .and_then(|_| snapshot::Outgoing::open(&*inner.disk, &file));
            match &opened {
                Err(fault @ Fault::Damaged { .. }) => {
                    inner.wanted.store(true, Ordering::Relaxed);
                    snapshot::set_aside(&*inner.disk, &inner.dir, &file, fault)?;
                }
                Err(fault) if fault.is_not_found() => inner.wanted.store(true, Ordering::Relaxed),
                _ => {}
            }
            opened
        })
        .await
    }

    /// Begins to take a snapshot of so many bytes from the leader.
    pub async fn receive(&self, bytes: u64) -> Result<Incoming, Fault> {
        let inner = self.inner.clone();
        let snapshots = self.clone();
        run(move || {
            let available = inner.disk.available_space(&inner.dir)?;
            if available < bytes {
                let path = inner.dir.clone();
                return Err(Fault::DiskFull {
                    path,
                    available,
                    reserve: bytes,
                });
            }
            let taken = snapshot::Incoming::begin(inner.disk.clone(), &inner.dir)?;
            Ok(Incoming {
                snapshots,
                taken,
                expected: bytes,
            })
        })
        .await
    }

    /// Whether the log grew enough for a new snapshot.
    fn is_due(&self, log_bytes: u64) -> bool {
        let half = self
            .inner
            .current
            .lock()
            .as_ref()
            .map_or(0, |of| of.file.bytes / 2);
        self.inner.wanted.load(Ordering::Relaxed)
            || self.inner.grown.load(Ordering::Relaxed) >= log_bytes.max(half)
    }

    /// Makes snapshots whenever they are due, for as long as the member lives. `made` is called after each,
    /// `broken` if the state turns out to be inconsistent.
    pub async fn keep_making<F, G>(
        self,
        machine: SharedMachine,
        log_bytes: u64,
        made: impl Fn() -> F,
        broken: impl Fn() -> G,
    ) where
        F: Future<Output = ()>,
        G: Future<Output = ()>,
    {
        loop {
            tokio::time::sleep(LOOK).await;
            if !self.is_due(log_bytes) {
                continue;
            }
            let made_one = match self.view(&machine).await {
                Ok(view) => self.build(view).await,
                Err(fault) => Err(fault),
            };
            match made_one {
                Ok(_) => made().await,
                Err(fault @ Fault::Inconsistent { .. }) => {
                    tracing::error!(%fault, "the state of this member is not whole; it serves nothing");
                    broken().await;
                    return;
                }
                Err(fault) => {
                    tracing::error!(%fault, "no snapshot could be made; the log grows until one can");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

/// A snapshot that is coming in. Dropped before it is finished, it is removed.
pub struct Incoming {
    snapshots: Snapshots,
    taken: snapshot::Incoming,
    expected: u64,
}

impl Incoming {
    /// Takes a piece. Pieces come in order, and not more of them than was announced.
    pub async fn take(mut self, offset: u64, data: Bytes) -> Result<Self, Fault> {
        let end = offset.saturating_add(data.len() as u64);
        if end > self.expected {
            let what = "more of a snapshot came in than was announced".into();
            return Err(Fault::Inconsistent { what });
        }
        run(move || {
            self.taken.append(offset, &data)?;
            Ok(self)
        })
        .await
    }

    /// All pieces are there: flushes, verifies, and gives the snapshot its name.
    pub async fn finish(self) -> Result<SnapshotData, Fault> {
        let Self {
            snapshots,
            taken,
            expected,
        } = self;
        if taken.written() != expected {
            return Err(Fault::Inconsistent {
                what: "a snapshot ended early".into(),
            });
        }
        run(move || taken.finish(&*snapshots.inner.seal))
            .await
            .map(SnapshotData)
    }
}

/// Runs what may block on a thread where it may.
pub async fn run<T: Send + 'static>(
    what: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(what).await {
        Ok(result) => result,
        Err(error) => Err(Fault::Poisoned {
            part: "the snapshot thread",
            cause: error.to_string(),
        }),
    }
}
