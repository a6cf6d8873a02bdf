//! This member's part in the cluster: everything the rest of the node sees of Raft.
//!
//! ```text
//!                 Replica
//!   propose ----> waiters -- courier --> leader's log --> quorum --> applied here --> Receipt
//!   read_barrier -> read index rounds --> leader --> quorum --> applied here
//!   change, transfer, step_down --> membership
//!   status, changed <-- leadership, roster
//!   ask_leader -> the leader's Delegate
//! ```
//!
//! [`Replica`] is a handle and cheap to clone. All of it runs on the runtime [`Replica::start`] was called on.
//! A fault of the log ends the process through the hook the WAL was given; a fault in openraft shows in
//! [`Standing::broken`], and the node should end the process then.

mod core;
mod start;

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use meridian_domain::command::Receipt;
use meridian_domain::revision::LogId;
use meridian_storage::fault::Fault;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::membership::{Change, MembershipError};
use crate::status::{Standing, Status};
use crate::unavailable::{Delay, Unavailable};

pub use self::core::Core;
pub use self::start::{Doors, Engine, StartError};

/// A member of the cluster, running.
#[derive(Clone)]
pub struct Replica {
    core: Arc<Core>,
}

/// Answers other members' questions to this one's memory, e.g. about the time a lease has left.
pub trait Delegate: Send + Sync + 'static {
    /// Answers one question. Called on the runtime; must not block.
    fn answer(
        &self,
        method: u16,
        body: Bytes,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Bytes, Unavailable>>;
}

impl Replica {
    /// Proposes an encoded proposal and waits until it is committed and applied on this member, so that
    /// whoever asked can read here what it wrote. Works on every member.
    pub async fn propose(&self, record: Bytes, deadline: Instant) -> Result<Receipt, Unavailable> {
        self.core.check_serving()?;
        self.core.proposer.propose(&record, false, deadline).await
    }

    /// As [`Replica::propose`], for what frees space, keeps leases alive or keeps the cluster going: it has
    /// room of its own, and is taken when disks are full.
    pub async fn propose_urgent(
        &self,
        record: Bytes,
        deadline: Instant,
    ) -> Result<Receipt, Unavailable> {
        self.core.check_serving()?;
        self.core.proposer.propose(&record, true, deadline).await
    }

    /// Returns when this member's state holds everything that was acknowledged anywhere before the call.
    /// Works on every member, learners too. Answers with the applied position.
    pub async fn read_barrier(&self, deadline: Instant) -> Result<LogId, Unavailable> {
        self.core.check_serving()?;
        self.core.read_index.barrier(deadline).await
    }

    /// What this member knows about itself and the cluster.
    pub fn status(&self) -> Status {
        self.core.status()
    }

    /// The parts of the status that move seldom, to wait on.
    pub fn changed(&self) -> watch::Receiver<Standing> {
        self.core.standing.clone()
    }

    /// Adds a member that stays a learner until it is promoted. `id` must never have been used; see
    /// [`crate::identity::random_id`].
    pub async fn add_learner(
        &self,
        id: u64,
        peer_urls: Vec<String>,
        deadline: Instant,
    ) -> Result<(), MembershipError> {
        self.change(
            Change::Add {
                id,
                peer_urls,
                learner: true,
            },
            deadline,
        )
        .await
    }

    /// Adds a member that votes as soon as it has caught up.
    pub async fn add_voter(
        &self,
        id: u64,
        peer_urls: Vec<String>,
        deadline: Instant,
    ) -> Result<(), MembershipError> {
        self.change(
            Change::Add {
                id,
                peer_urls,
                learner: false,
            },
            deadline,
        )
        .await
    }

    /// Makes a learner a voter.
    pub async fn promote(&self, id: u64, deadline: Instant) -> Result<(), MembershipError> {
        self.change(Change::Promote(id), deadline).await
    }

    /// Removes a member for good. Its id is never used again.
    pub async fn remove(&self, id: u64, deadline: Instant) -> Result<(), MembershipError> {
        self.change(Change::Remove(id), deadline).await
    }

    /// Says where a member is reached from now on.
    pub async fn update(
        &self,
        id: u64,
        peer_urls: Vec<String>,
        deadline: Instant,
    ) -> Result<(), MembershipError> {
        self.change(Change::Update { id, peer_urls }, deadline)
            .await
    }

    /// Hands leadership to a voter and waits until it has it. Only the leader can.
    pub async fn transfer_leader(&self, to: u64, deadline: Instant) -> Result<(), MembershipError> {
        self.core.changes.transfer(to, deadline).await
    }

    /// Hands leadership to the voter whose log is furthest, if this member leads: so that stopping it costs no
    /// election. Does nothing on others and where there is nobody else.
    pub async fn step_down(&self, deadline: Instant) -> Result<(), MembershipError> {
        self.core.step_down(deadline).await
    }

    /// Asks the leader's [`Delegate`]; this member's own if it leads. Waits for a leader if there is none. A
    /// question that may have been heard is not repeated.
    pub async fn ask_leader(
        &self,
        method: u16,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Unavailable> {
        self.core.ask_leader(method, body, deadline).await
    }

    /// Asks a member's [`Delegate`], whether it leads or not.
    pub async fn ask_member(
        &self,
        id: u64,
        method: u16,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Unavailable> {
        if id == self.core.id() {
            return self.core.ask_here(method, body, deadline).await;
        }
        self.core.ask_there(id, false, method, body, deadline).await
    }

    /// Sets who answers other members' questions here.
    pub fn set_delegate(&self, delegate: impl Delegate) {
        self.core.delegate.store(Some(Arc::new(Box::new(delegate))));
    }

    /// Whether this member was started as one that recovers, and does not vote yet: see [`crate::recovery`].
    pub fn is_recovering(&self) -> bool {
        self.core.abstains()
    }

    /// Returns once everything applied here by now is on this member's disk; answers how far that is.
    pub async fn durable(&self, deadline: Instant) -> Result<LogId, Unavailable> {
        self.core.durable(deadline).await
    }

    /// This member has again all it ever acknowledged, durably, and votes from now on. The caller has noted that
    /// on the disk before.
    pub fn recovered(&self) {
        self.core.recovered();
    }

    /// Makes a snapshot now, whatever the log's size, and waits until it is on disk.
    pub async fn snapshot(&self) -> Result<LogId, Fault> {
        let view = self.core.snapshots.view(&self.core.machine).await?;
        let made = self.core.snapshots.build(view).await?;
        let _ = self.core.raft.trigger().snapshot().await;
        Ok(made.snapshot.applied())
    }

    /// Stops taking part. Everybody who waits is told. The log and the state may be closed afterwards.
    pub async fn shutdown(&self) {
        self.core.shutdown().await;
    }

    async fn change(&self, change: Change, deadline: Instant) -> Result<(), MembershipError> {
        let at = self.core.change(change, deadline).await?;
        // So that who asked sees the new list here.
        let mut standing = self.changed();
        let seen = standing.wait_for(|standing| standing.membership_index >= at.index);
        match tokio::time::timeout_at(deadline, seen).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Unavailable::TimedOut(Delay::Apply).into()),
        }
    }
}
