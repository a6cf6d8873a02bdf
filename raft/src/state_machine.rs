//! openraft's state machine: feeds committed entries to the machine, in batches.
//!
//! ```text
//! entries ... -> machine.apply, one by one -> machine.publish -> applied position -> who waited is answered
//!                |------------- a batch --------------|
//! ```
//!
//! Nobody is answered before the batch is published, so whoever is answered can read what it wrote on this
//! member. Batches are short, and between them the task gives way. Publishing may have to wait for the version
//! store; large batches therefore run where they may block.
//!
//! Reclaiming what compaction left behind happens in slices, between batches and when nothing else is to do.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use meridian_domain::command::Receipt;
use meridian_domain::revision::LogId;
use meridian_storage::machine::Machine;
use openraft::OptionalSend;
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::form;
use crate::metrics;
use crate::snapshot::{SnapshotData, Snapshots};
use crate::type_config::{
    self, Entry, Envelope, Payload, RaftLogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig,
};
use crate::waiters::Waiters;

/// The most entries published together.
const BATCH_ENTRIES: usize = 512;
/// The most bytes published together.
const BATCH_BYTES: usize = 1024 * 1024;
/// Batches larger than this run where they may block.
const LIGHT_ENTRIES: usize = 64;
/// How many keys one slice of reclaiming looks at.
const RECLAIM_KEYS: usize = 512;
/// The pause between slices when there is nothing else to do.
const RECLAIM_PAUSE: Duration = Duration::from_millis(2);

/// The machine, shared by who applies, who reclaims and who makes snapshots. Held for a batch at most.
pub type SharedMachine = Arc<Mutex<Machine>>;

/// openraft's view of the machine.
pub struct StateMachine {
    machine: SharedMachine,
    snapshots: Snapshots,
    waiters: Arc<Waiters>,
    applied: Arc<watch::Sender<LogId>>,
    resend: Arc<Notify>,
    reclaim: Arc<Notify>,
}

/// What the state machine tells the rest of the crate.
#[derive(Clone)]
pub struct Feedback {
    /// Who waits for writes.
    pub waiters: Arc<Waiters>,
    /// How far the state is applied and published.
    pub applied: Arc<watch::Sender<LogId>>,
    /// Notified when writes are queued again.
    pub resend: Arc<Notify>,
}

impl StateMachine {
    /// Wraps a machine and begins to reclaim in the background.
    pub fn new(machine: SharedMachine, snapshots: Snapshots, feedback: Feedback) -> Self {
        let reclaim = Arc::new(Notify::new());
        tokio::spawn(reclaim_when_idle(machine.clone(), reclaim.clone()));
        Self {
            machine,
            snapshots,
            waiters: feedback.waiters,
            applied: feedback.applied,
            resend: feedback.resend,
            reclaim,
        }
    }

    fn apply_batch(&self, batch: &mut Vec<Item>) -> io::Result<()> {
        let started = Instant::now();
        let origin = self.waiters.origin();
        let mut receipts: Vec<(u64, Receipt)> = vec![];
        let mut answers: Vec<ApplyResponder<TypeConfig>> = vec![];
        let (applied, more) = {
            let mut machine = self.machine.lock();
            for item in batch.drain(..) {
                match item.what {
                    What::Record(envelope) => {
                        let receipt = machine.apply(item.at, &envelope.record());
                        if envelope.origin() == origin {
                            receipts.push((envelope.seq(), receipt));
                        }
                    }
                    What::Membership(bytes) => machine.set_membership(item.at, bytes),
                    What::Blank => machine.advance(item.at),
                }
                answers.extend(item.answer);
            }
            if let Some(fault) = machine.fault() {
                return Err(io::Error::other(fault.clone()));
            }
            machine.publish();
            (machine.applied(), machine.reclaim(RECLAIM_KEYS))
        };
        metrics::PROPOSALS_APPLIED.set(applied.index as i64);
        self.applied.send_replace(applied);
        if self.waiters.applied(receipts, applied.term) {
            self.resend.notify_one();
        }
        for answer in answers {
            answer.send(());
        }
        if more {
            self.reclaim.notify_one();
        }
        let took = started.elapsed();
        metrics::APPLY_SECONDS.observe(took.as_secs_f64());
        if took > Duration::from_millis(100) {
            metrics::SLOW_APPLY.inc();
        }
        Ok(())
    }

    async fn flush(&self, batch: &mut Vec<Item>) -> io::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        if batch.len() > LIGHT_ENTRIES && may_block() {
            tokio::task::block_in_place(|| self.apply_batch(batch))?;
        } else {
            self.apply_batch(batch)?;
        }
        tokio::task::consume_budget().await;
        Ok(())
    }
}

/// Whether this runtime lets a task block its thread.
pub fn may_block() -> bool {
    use tokio::runtime::{Handle, RuntimeFlavor};
    Handle::try_current().is_ok_and(|h| h.runtime_flavor() == RuntimeFlavor::MultiThread)
}

/// An entry, ready to be applied.
struct Item {
    at: LogId,
    what: What,
    answer: Option<ApplyResponder<TypeConfig>>,
}

enum What {
    Record(Envelope),
    Membership(bytes::Bytes),
    Blank,
}

impl Item {
    fn new(entry: Entry, answer: Option<ApplyResponder<TypeConfig>>) -> (Self, usize) {
        let at = type_config::to_domain(&entry.log_id);
        let (what, bytes) = match entry.payload {
            Payload::Blank => (What::Blank, 0),
            Payload::Normal(envelope) => {
                let bytes = envelope.as_bytes().len();
                (What::Record(envelope), bytes)
            }
            Payload::Membership(membership) => (
                What::Membership(form::encode_membership(Some(at), &membership)),
                0,
            ),
        };
        (Self { at, what, answer }, bytes)
    }
}

async fn reclaim_when_idle(machine: SharedMachine, wanted: Arc<Notify>) {
    let weak = Arc::downgrade(&machine);
    drop(machine);
    loop {
        wanted.notified().await;
        loop {
            tokio::time::sleep(RECLAIM_PAUSE).await;
            let Some(machine) = weak.upgrade() else {
                return;
            };
            let slice = move || machine.lock().reclaim(RECLAIM_KEYS);
            match tokio::task::spawn_blocking(slice).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => return,
            }
        }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<RaftLogId>, StoredMembership), io::Error> {
        let machine = self.machine.lock();
        let membership = form::decode_stored_membership(machine.membership().as_ref())
            .map_err(io::Error::other)?;
        Ok((type_config::to_raft(machine.applied()), membership))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut batch: Vec<Item> = vec![];
        let mut bytes = 0;
        while let Some(next) = entries.next().await {
            let (entry, answer) = next?;
            let (item, size) = Item::new(entry, answer);
            bytes += size;
            batch.push(item);
            if batch.len() >= BATCH_ENTRIES || bytes >= BATCH_BYTES {
                self.flush(&mut batch).await?;
                bytes = 0;
            }
        }
        self.flush(&mut batch).await
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        if force {
            return Some(Builder::Make(self.machine.clone(), self.snapshots.clone()));
        }
        Some(Builder::Show(self.snapshots.clone()))
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder::Show(self.snapshots.clone())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        metrics::SNAPSHOT_INSTALLS.inc();
        let result = self.snapshots.install(&snapshot, &self.machine).await;
        metrics::SNAPSHOT_INSTALLS.dec();
        let applied = result.map_err(io::Error::other)?;
        let wanted = type_config::to_domain_or_zero(meta.last_log_id.as_ref());
        if applied != wanted {
            return Err(io::Error::other(format!(
                "the snapshot holds the state at {applied}, {wanted} was announced"
            )));
        }
        self.waiters.jumped(applied.term);
        self.applied.send_replace(applied);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        self.snapshots.current().map_err(io::Error::other)
    }
}

/// What openraft takes for the making of a snapshot. [`Snapshots::keep_making`] makes them, and a failure there
/// is no reason to stop; openraft is only shown the newest. Only where openraft can not do without is one made
/// here.
pub enum Builder {
    /// Shows the newest snapshot.
    Show(Snapshots),
    /// Makes one.
    Make(SharedMachine, Snapshots),
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        match self {
            Self::Show(snapshots) => {
                let newest = snapshots.current().map_err(io::Error::other)?;
                newest.ok_or_else(|| io::Error::other("no snapshot was made"))
            }
            Self::Make(machine, snapshots) => {
                let view = snapshots.view(machine).await.map_err(io::Error::other)?;
                snapshots.build(view).await.map_err(io::Error::other)
            }
        }
    }
}
