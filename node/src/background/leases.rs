//! The lessor: how long leases have left, known by the leader alone.
//!
//! Which leases exist is replicated; when they run out is not. The leader keeps a deadline per lease on its
//! monotonic clock, renews it without the log, and proposes the end of those that ran out like any other write.
//!
//! ```text
//!   becomes leader -> read barrier -> every lease starts again: election timeout + what a checkpoint left it
//!   keep-alive     -> deadline = now + granted        (only while a quorum confirms this leader)
//!   deadline over  -> LeaseExpire{term} through the log; a deposed leader's proposal is stale in apply
//! ```
//!
//! Invariants: a lease never ends early. A new leader can exist only after an election timeout without contact
//! to the old one, or after the old one handed over, and adds an election timeout to every lease, so a renewal
//! the old leader still answered is covered. What a checkpoint says is cleared through the log before a renewal
//! after it is answered. A lease is found here at the latest one sweep after it was applied, so it may end that
//! much late.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures::StreamExt;
use meridian_domain::intent::Intent;
use meridian_domain::kv::LeaseId;
use meridian_domain::name::TenantId;
use meridian_domain::rejection::Rejection;
use meridian_domain::view::LeaseView;
use meridian_raft::{Delay, Unavailable};
use meridian_storage::mvcc::lease::Lease;
use meridian_storage::store::Tenant;
use parking_lot::Mutex;
use prometheus::{IntCounter, register_int_counter};
use tokio::sync::{RwLock, watch};
use tokio::time::Instant;

use crate::background::deadlines::{Deadlines, Name};
use crate::pipeline::{Pipeline, RequestContext};
use crate::status::{Etcd, Refusal};

/// The shortest between two looks at which leases exist.
const SWEEP: Duration = Duration::from_millis(500);
/// Looking takes at most one part in so many of the time, however many leases there are.
const SWEEP_SHARE: u32 = 20;
/// The shortest between two looks at what ran out: an end that can not be proposed must not spin.
const REST_MIN: Duration = Duration::from_millis(20);
/// How often a lease that ran out is looked for by whoever waits for its end.
const END_LOOK: Duration = Duration::from_millis(10);
/// Ends proposed at a time, and in one sweep: expiry must not crowd out clients.
const EXPIRIES_AT_ONCE: usize = 32;
const EXPIRIES_PER_SWEEP: usize = 1_000;
/// Leases with more than this left are recorded every so often, so that a new leader does not start them anew.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(300);
/// Leases in one checkpoint.
const CHECKPOINT_LEASES_MAX: usize = 1_000;

#[expect(
    clippy::expect_used,
    reason = "registering a metric fails only if its name is taken"
)]
static EXPIRED: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!(
        "etcd_debugging_server_lease_expired_total",
        "Leases that ran out."
    )
    .expect("registered once")
});
#[expect(
    clippy::expect_used,
    reason = "registering a metric fails only if its name is taken"
)]
static RENEWED: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!(
        "etcd_debugging_lease_renewed_total",
        "Renewals the leader answered."
    )
    .expect("registered once")
});

/// What the leader knows of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Seconds left, truncated, zero if it ran out.
    pub left_seconds: i64,
    /// Seconds granted.
    pub granted_seconds: i64,
}

/// The lessor of this member: idle unless it leads.
pub struct Lessor {
    pipeline: Arc<Pipeline>,
    clock: Mutex<Deadlines>,
    /// The term this member is lessor of; zero if it is not.
    term: watch::Sender<u64>,
    /// Held for writing while leases are recorded, so that no renewal falls between the look at what a lease
    /// has left and the record of it.
    recording: RwLock<()>,
}

impl Lessor {
    /// An idle lessor; [`Lessor::run`] makes it work.
    pub fn new(pipeline: Arc<Pipeline>) -> Arc<Self> {
        let (term, _) = watch::channel(0);
        let (clock, recording) = (Mutex::default(), RwLock::default());
        Arc::new(Self {
            pipeline,
            clock,
            term,
            recording,
        })
    }

    /// Renews a lease here; `NotPrimaryLessor` unless this member leads. None if the lease does not exist.
    /// A lease that ran out is awaited to its end and then does not exist.
    pub async fn renew(
        &self,
        tenant: &Arc<Tenant>,
        id: LeaseId,
        deadline: Instant,
    ) -> Result<Option<Left>, Refusal> {
        let name = (tenant.id(), id);
        loop {
            self.primary(deadline).await?;
            let Some(lease) = self.find(tenant, id, deadline).await? else {
                return Ok(None);
            };
            if let Some(left) = self.renew_unless_over(name, lease, deadline).await? {
                return Ok(Some(left));
            }
            if Instant::now() >= deadline {
                return Err(Unavailable::TimedOut(Delay::Plain).into());
            }
            tokio::time::sleep(END_LOOK).await;
        }
    }

    async fn renew_unless_over(
        &self,
        name: Name,
        lease: LeaseView,
        deadline: Instant,
    ) -> Result<Option<Left>, Refusal> {
        let _not_recorded_now = self.recording.read().await;
        if self.clock.lock().is_over(name, Instant::now()) {
            return Ok(None);
        }
        // Looked at again: the record may have been made while this waited.
        let recorded = self
            .pipeline
            .store
            .tenant(name.0)
            .and_then(|tenant| view(&tenant, name.1));
        if recorded.is_some_and(|lease| lease.checkpoint_seconds > 0) {
            self.clear(name, deadline).await?;
        }
        let granted_seconds = lease.ttl_seconds;
        let mut clock = self.clock.lock();
        let now = Instant::now();
        if clock.is_over(name, now) {
            return Ok(None);
        }
        clock.set(name, now + seconds(granted_seconds));
        RENEWED.inc();
        Ok(Some(Left {
            left_seconds: granted_seconds,
            granted_seconds,
        }))
    }

    /// Forgets through the log what a checkpoint said a lease has left.
    async fn clear(&self, (tenant, id): Name, deadline: Instant) -> Result<(), Refusal> {
        let Some(mut ctx) = self.system(tenant) else {
            return Ok(());
        };
        ctx.deadline = deadline;
        let term = *self.term.borrow();
        let intent = Intent::LeaseCheckpoint {
            remaining: vec![(id, 0)],
            term,
        };
        match self.pipeline.write(&ctx, intent).await {
            Ok(_) => Ok(()),
            // The term is over, and with it this lessor's word.
            Err(Refusal::Etcd(Etcd::Contended { .. })) => Err(Etcd::NotPrimaryLessor.into()),
            Err(refusal) => Err(refusal),
        }
    }

    /// How long a lease has left; `NotPrimaryLessor` unless this member leads.
    pub async fn left(
        &self,
        tenant: &Arc<Tenant>,
        id: LeaseId,
        deadline: Instant,
    ) -> Result<Option<Left>, Refusal> {
        self.primary(deadline).await?;
        let Some(lease) = self.find(tenant, id, deadline).await? else {
            return Ok(None);
        };
        let granted_seconds = lease.ttl_seconds;
        let known = self.clock.lock().by_lease.get(&(tenant.id(), id)).copied();
        let left_seconds = known.map_or(granted_seconds, |deadline| {
            deadline.saturating_duration_since(Instant::now()).as_secs() as i64
        });
        Ok(Some(Left {
            left_seconds: left_seconds.min(granted_seconds),
            granted_seconds,
        }))
    }

    /// The leases of a tenant by how long they have left, if this member leads; else nothing is known.
    pub fn by_time_left(&self, tenant: TenantId, ids: &mut [LeaseId]) {
        let clock = self.clock.lock();
        ids.sort_by_cached_key(|id| (clock.by_lease.get(&(tenant, *id)).copied(), *id));
    }

    /// A lease. The member that was asked may have applied its grant before this one: the *no* is confirmed.
    async fn find(
        &self,
        tenant: &Arc<Tenant>,
        id: LeaseId,
        deadline: Instant,
    ) -> Result<Option<LeaseView>, Refusal> {
        if let Some(lease) = view(tenant, id) {
            return Ok(Some(lease));
        }
        self.pipeline.replica.read_barrier(deadline).await?;
        Ok(view(tenant, id))
    }

    /// Waits, as long as this member leads, until it is lessor.
    async fn primary(&self, deadline: Instant) -> Result<(), Refusal> {
        let mut term = self.term.subscribe();
        loop {
            let (is_leader, now) = self.standing();
            if !is_leader {
                return Err(Etcd::NotPrimaryLessor.into());
            }
            if *term.borrow_and_update() == now {
                return Ok(());
            }
            if tokio::time::timeout_at(deadline, term.changed())
                .await
                .is_err()
            {
                return Err(Etcd::NotPrimaryLessor.into());
            }
        }
    }

    /// Whether this member leads, and the term.
    fn standing(&self) -> (bool, u64) {
        let standing = self.pipeline.standing.borrow();
        (standing.is_leader, standing.term)
    }

    /// Works until the task is aborted: takes over and gives up with leadership, ends what ran out.
    pub async fn run(self: Arc<Self>) {
        let mut standing = self.pipeline.replica.changed();
        let mut recorded = Instant::now();
        let mut next_sweep = recorded;
        loop {
            standing.mark_unchanged();
            let (is_leader, term) = self.standing();
            let lessor_of = *self.term.borrow();
            if !is_leader {
                if lessor_of != 0 {
                    self.term.send_replace(0);
                    *self.clock.lock() = Deadlines::default();
                }
            } else if lessor_of != term {
                self.take_over(term).await;
                recorded = Instant::now();
                next_sweep = recorded;
            } else {
                let began = Instant::now();
                if began >= next_sweep {
                    self.sweep();
                    next_sweep = Instant::now() + SWEEP.max(began.elapsed() * SWEEP_SHARE);
                }
                self.end_what_ran_out(term).await;
                if recorded.elapsed() >= CHECKPOINT_EVERY {
                    recorded = Instant::now();
                    self.checkpoint(term).await;
                }
            }
            tokio::select! {
                () = self.rest(next_sweep) => {}
                changed = standing.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Until the next deadline, or the next look at which leases exist.
    async fn rest(&self, next_sweep: Instant) {
        let now = Instant::now();
        let next = self.clock.lock().first();
        let next = next.map_or(next_sweep, |next| next.min(next_sweep));
        tokio::time::sleep(next.saturating_duration_since(now).clamp(REST_MIN, SWEEP)).await;
    }

    /// Starts every lease anew, once everything earlier leaders acknowledged is applied here.
    async fn take_over(&self, term: u64) {
        let deadline = Instant::now() + self.pipeline.settings.request_timeout();
        if self.pipeline.replica.read_barrier(deadline).await.is_err() {
            return;
        }
        let start = Instant::now() + self.pipeline.settings.election_timeout();
        let mut clock = Deadlines::default();
        for tenant in self.pipeline.store.tenants() {
            for lease in tenant.root().leases().iter() {
                let view = lease.view();
                let left = match view.checkpoint_seconds {
                    0 => view.ttl_seconds,
                    checkpoint => checkpoint.min(view.ttl_seconds),
                };
                clock.set((tenant.id(), view.id), start + seconds(left));
            }
        }
        *self.clock.lock() = clock;
        if self.standing() == (true, term) {
            self.term.send_replace(term);
        }
    }

    /// Finds leases that are new, and forgets those that are gone.
    fn sweep(&self) {
        let now = Instant::now();
        let mut clock = self.clock.lock();
        let mut there = 0;
        let mut roots = HashMap::new();
        for tenant in self.pipeline.store.tenants() {
            let root = tenant.root();
            for lease in root.leases().iter() {
                there += 1;
                let name = (tenant.id(), lease.id());
                if !clock.by_lease.contains_key(&name) {
                    clock.set(name, now + seconds(lease.ttl_seconds));
                }
            }
            roots.insert(tenant.id(), root);
        }
        // A lease that was renewed but not found may be newer than these roots: only what is gone now goes.
        if clock.by_lease.len() > there {
            let exists = |(tenant, id): &Name| {
                roots
                    .get(tenant)
                    .is_some_and(|root| root.lease(*id).is_some())
                    || self
                        .pipeline
                        .store
                        .tenant(*tenant)
                        .is_some_and(|t| view(&t, *id).is_some())
            };
            let gone: Vec<Name> = clock
                .by_lease
                .keys()
                .filter(|name| !exists(name))
                .copied()
                .collect();
            for name in gone {
                clock.forget(name);
            }
        }
    }

    async fn end_what_ran_out(&self, term: u64) {
        let over = self.clock.lock().over(Instant::now(), EXPIRIES_PER_SWEEP);
        futures::stream::iter(over)
            .for_each_concurrent(EXPIRIES_AT_ONCE, |name| self.end(name, term))
            .await;
    }

    async fn end(&self, name: Name, term: u64) {
        let (tenant, id) = name;
        let Some(ctx) = self.system(tenant) else {
            return self.clock.lock().forget(name);
        };
        match self
            .pipeline
            .write(&ctx, Intent::LeaseExpire { id, term })
            .await
        {
            Ok(_) => {
                EXPIRED.inc();
                self.clock.lock().forget(name);
            }
            Err(Refusal::Rejection(Rejection::LeaseNotFound)) => self.clock.lock().forget(name),
            // Deposed, or not now: the next sweep tries again if this member still leads.
            Err(refusal) => {
                tracing::debug!(
                    lease = id,
                    code = refusal.code(),
                    "a lease could not be ended"
                );
            }
        }
    }

    async fn checkpoint(&self, term: u64) {
        let _no_renewals_now = self.recording.write().await;
        let now = Instant::now();
        let mut by_tenant: HashMap<TenantId, Vec<(LeaseId, i64)>> = HashMap::new();
        for ((tenant, id), deadline) in &self.clock.lock().by_lease {
            let left = deadline.saturating_duration_since(now);
            if left > CHECKPOINT_EVERY {
                by_tenant
                    .entry(*tenant)
                    .or_default()
                    .push((*id, left.as_secs() as i64));
            }
        }
        for (tenant, remaining) in by_tenant {
            for part in remaining.chunks(CHECKPOINT_LEASES_MAX) {
                let Some(ctx) = self.system(tenant) else {
                    break;
                };
                let intent = Intent::LeaseCheckpoint {
                    remaining: part.to_vec(),
                    term,
                };
                if let Err(refusal) = self.pipeline.write(&ctx, intent).await {
                    tracing::debug!(code = refusal.code(), "leases could not be recorded");
                    return;
                }
            }
        }
    }

    /// The context of the lessor's own proposals; none if the tenant is gone.
    fn system(&self, tenant: TenantId) -> Option<RequestContext> {
        let name = self.pipeline.store.tenant(tenant)?.record().name.clone();
        Some(self.pipeline.system_context(name))
    }
}

fn view(tenant: &Tenant, id: LeaseId) -> Option<LeaseView> {
    tenant.root().lease(id).map(Lease::view)
}

/// A time to live as a duration; capped far beyond any process's life, so that adding it never overflows.
fn seconds(ttl: i64) -> Duration {
    const CENTURY_SECONDS: u64 = 100 * 365 * 24 * 3600;
    Duration::from_secs((ttl.max(0) as u64).min(CENTURY_SECONDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_time_to_live_does_not_overflow() {
        let longest = meridian_domain::limits::LEASE_TTL_SECONDS_MAX;
        assert!(Instant::now().checked_add(seconds(longest)).is_some());
    }
}
