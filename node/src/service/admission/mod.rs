//! Whose turn it is: requests per second, and a fair share of the log between tenants.
//!
//! ```text
//!   tenant a   [w w w w w w w w]  \
//!   tenant b   [w]                 >-- deficit round robin --> window (count, bytes) --> raft
//!   tenant c   [w w]              /
//!   the cluster itself  -------------- lane of its own ------>
//! ```
//!
//! A write takes a place in the window before it is proposed and gives it back when its outcome is known. While
//! one tenant writes alone it may fill the window. As soon as a second one wrote within the last second, on
//! whichever member ([`Admission::note_writers`]), each is held to an equal share of a much smaller one, whose size
//! [`pace`] finds: what a busy tenant has in flight is what a quiet one waits behind, in the log, on the disk and on
//! the processor. A tenant with nothing in flight enters even when the window is still full of another's writes, up
//! to [`RESERVE`].
//!
//! Every queue has a bound, per tenant and over all; beyond it a write is refused at once with
//! `too many requests`. Nothing here survives a restart, and each member keeps its own account.

pub mod bucket;
mod pace;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_domain::access::Principal;
use meridian_domain::limits;
use meridian_domain::name::TenantId;
use meridian_domain::rejection::Rejection;
use meridian_domain::tenant::{QuotaKind, TenantRecord};
use meridian_raft::unavailable::Unavailable;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::metrics;
use crate::pipeline::RequestContext;
use crate::service::admission::bucket::Buckets;
use crate::service::admission::pace::Pace;
use crate::status::{Etcd, Refusal};

/// Writes in flight while one tenant writes alone.
pub const WINDOW: usize = 1024;
/// Bytes in flight, whoever writes. One write may always go.
pub const WINDOW_BYTES: usize = 16 << 20;
/// Places beyond the window for tenants that have nothing in flight.
pub const RESERVE: usize = 1024;
/// Writes the cluster itself has in flight.
pub const PRIORITY_WINDOW: usize = 4096;
/// Writes one tenant may have waiting.
pub const WAITING_PER_TENANT: usize = 16_384;
/// Bytes one tenant may have waiting.
pub const WAITING_BYTES_PER_TENANT: usize = 64 << 20;
/// Bytes all tenants together may have waiting.
pub const WAITING_BYTES: usize = 256 << 20;
/// What a tenant's turn is worth, in bytes.
const QUANTUM: usize = 16 << 10;
/// What a write costs beside its bytes: the share of the work that does not depend on its size.
const WRITE_COST: usize = 1 << 10;
/// How long a tenant counts as writing after its last write.
const RECENT: Duration = Duration::from_secs(1);

/// Which way a write goes into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The cluster's own: lease expiry, checkpoints, automatic compaction. Never behind a tenant.
    Priority,
    /// A tenant's.
    Tenant(TenantId),
}

impl Lane {
    /// The lane of a write on behalf of `principal`.
    pub fn of(principal: &Principal, tenant: TenantId) -> Self {
        match principal {
            Principal::System => Self::Priority,
            Principal::Anonymous | Principal::Caller(_) => Self::Tenant(tenant),
        }
    }
}

/// The account of one member.
#[derive(Default)]
pub struct Admission {
    buckets: Buckets,
    books: Mutex<Books>,
}

/// A place in the window; given back when dropped.
pub struct Pass {
    admission: Arc<Admission>,
    lane: Lane,
    bytes: usize,
    began: Instant,
}

#[derive(Default)]
struct Books {
    lines: HashMap<TenantId, Line>,
    /// Tenants with writes waiting, in the order of their turns.
    turns: VecDeque<TenantId>,
    in_flight: usize,
    in_flight_bytes: usize,
    priority_in_flight: usize,
    waiting_bytes: usize,
    swept: Option<Instant>,
    /// Tenants that wrote within the last second, on any member.
    writers: usize,
    pace: Pace,
}

/// One tenant's line.
struct Line {
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    in_flight: usize,
    deficit: usize,
    last_write: Instant,
}

struct Waiting {
    bytes: usize,
    ready: oneshot::Sender<Pass>,
}

impl Admission {
    /// Counts a request against its tenant's requests per second.
    pub fn count(&self, tenant: &TenantRecord) -> Result<(), Rejection> {
        let limit = tenant.quota.requests_per_second;
        if self.buckets.take(tenant.id, limit, Instant::now()) {
            return Ok(());
        }
        metrics::REQUESTS_OVER_RATE.inc();
        Err(Rejection::RateExceeded {
            tenant: tenant.name.clone(),
            kind: QuotaKind::RequestsPerSecond,
            limit,
        })
    }

    /// So many tenants wrote within the last second, as the log shows: on any member.
    pub fn note_writers(&self, tenants: usize) {
        self.books.lock().writers = tenants;
    }

    /// Waits for a place in the window, at most until the deadline of the request.
    pub async fn enter(
        self: &Arc<Self>,
        lane: Lane,
        bytes: usize,
        ctx: &RequestContext,
    ) -> Result<Pass, Refusal> {
        let ready = match self.enter_or_wait(lane, bytes, ctx)? {
            Entrance::Open(pass) => return Ok(pass),
            Entrance::Wait(ready) => ready,
        };
        metrics::WRITES_WAITING.inc();
        let waited = tokio::time::timeout_at(ctx.deadline, ready).await;
        metrics::WRITES_WAITING.dec();
        match waited {
            Ok(Ok(pass)) => Ok(pass),
            Ok(Err(_)) => Err(Unavailable::Stopped.into()),
            Err(_) if ctx.deadline_is_callers => Err(Etcd::DeadlineExceeded.into()),
            Err(_) => Err(Etcd::TooManyRequests {
                what: format!(
                    "tenant {} waited for its turn until the deadline",
                    ctx.tenant
                ),
            }
            .into()),
        }
    }

    fn enter_or_wait(
        self: &Arc<Self>,
        lane: Lane,
        bytes: usize,
        ctx: &RequestContext,
    ) -> Result<Entrance, Refusal> {
        let now = Instant::now();
        let mut books = self.books.lock();
        let tenant = match lane {
            Lane::Priority if books.priority_in_flight >= PRIORITY_WINDOW => {
                return Err(too_many(format!(
                    "the cluster itself has {PRIORITY_WINDOW} writes in flight"
                )));
            }
            Lane::Priority => {
                books.priority_in_flight += 1;
                return Ok(Entrance::Open(self.pass(lane, bytes)));
            }
            Lane::Tenant(tenant) => tenant,
        };
        books.sweep(now);
        let share = {
            let own = books.line(tenant, now);
            own.last_write = now;
            let others = usize::from(!own.waiting.is_empty());
            if others == 0 { books.share() } else { 0 }
        };
        if books.has_room(tenant, share, bytes) {
            books.start(tenant, bytes);
            return Ok(Entrance::Open(self.pass(lane, bytes)));
        }
        if books.waiting_bytes + bytes > WAITING_BYTES {
            return Err(too_many(format!(
                "{WAITING_BYTES} bytes of writes are waiting"
            )));
        }
        let own = books.line(tenant, now);
        if own.waiting.len() >= WAITING_PER_TENANT
            || own.waiting_bytes + bytes > WAITING_BYTES_PER_TENANT
        {
            return Err(too_many(format!(
                "tenant {} has {} writes of {} bytes waiting",
                ctx.tenant,
                own.waiting.len(),
                own.waiting_bytes
            )));
        }
        let (ready, waiting) = oneshot::channel();
        own.waiting.push_back(Waiting { bytes, ready });
        own.waiting_bytes += bytes;
        if own.waiting.len() == 1 {
            books.turns.push_back(tenant);
        }
        books.waiting_bytes += bytes;
        Ok(Entrance::Wait(waiting))
    }

    fn pass(self: &Arc<Self>, lane: Lane, bytes: usize) -> Pass {
        metrics::WRITES_IN_FLIGHT.inc();
        Pass {
            admission: Arc::clone(self),
            lane,
            bytes,
            began: Instant::now(),
        }
    }
}

enum Entrance {
    Open(Pass),
    Wait(oneshot::Receiver<Pass>),
}

fn too_many(what: String) -> Refusal {
    metrics::WRITES_REFUSED.inc();
    Etcd::TooManyRequests { what }.into()
}

impl Drop for Pass {
    fn drop(&mut self) {
        metrics::WRITES_IN_FLIGHT.dec();
        let now = Instant::now();
        let ready = {
            let mut books = self.admission.books.lock();
            match self.lane {
                Lane::Priority => {
                    books.priority_in_flight -= 1;
                    return;
                }
                Lane::Tenant(tenant) => {
                    books.finish(tenant, self.bytes, now.duration_since(self.began));
                }
            }
            // Also here: while all that is left only waits, nobody enters.
            books.sweep(now);
            books.call_next()
        };
        // Outside the lock: a waiter that just gave up hands its place straight back.
        for (tenant, waiting) in ready {
            let pass = self.admission.pass(Lane::Tenant(tenant), waiting.bytes);
            drop(waiting.ready.send(pass));
        }
    }
}

impl Books {
    fn line(&mut self, tenant: TenantId, now: Instant) -> &mut Line {
        self.lines.entry(tenant).or_insert_with(|| Line {
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            in_flight: 0,
            deficit: 0,
            last_write: now,
        })
    }

    /// Forgets tenants that have not written for a while, so that the rest share the window.
    fn sweep(&mut self, now: Instant) {
        let due = self
            .swept
            .is_none_or(|swept| now.duration_since(swept) >= RECENT / 4);
        if due || self.lines.len() > limits::TENANTS_MAX {
            if let Some(swept) = self.swept {
                self.pace.forget(now.duration_since(swept));
            }
            self.swept = Some(now);
            self.lines.retain(|_, line| {
                line.in_flight > 0
                    || !line.waiting.is_empty()
                    || now.duration_since(line.last_write) < RECENT
            });
        }
    }

    /// How many writes each tenant may have in flight now.
    fn share(&self) -> usize {
        match self.tenants() {
            0 | 1 => WINDOW,
            tenants => (self.pace.window() / tenants).max(1),
        }
    }

    /// How many tenants write now, on this member or another.
    fn tenants(&self) -> usize {
        self.lines.len().max(self.writers)
    }

    fn has_room(&self, tenant: TenantId, share: usize, bytes: usize) -> bool {
        let own = self.lines.get(&tenant).map_or(0, |line| line.in_flight);
        if own >= share {
            return false;
        }
        let fits = self.in_flight == 0 || self.in_flight_bytes + bytes <= WINDOW_BYTES;
        let places = if own == 0 { WINDOW + RESERVE } else { WINDOW };
        self.in_flight < places && (fits || own == 0)
    }

    fn start(&mut self, tenant: TenantId, bytes: usize) {
        self.in_flight += 1;
        self.in_flight_bytes += bytes;
        if let Some(line) = self.lines.get_mut(&tenant) {
            line.in_flight += 1;
        }
    }

    fn finish(&mut self, tenant: TenantId, bytes: usize, took: Duration) {
        self.pace.finished(took, self.tenants());
        self.in_flight -= 1;
        self.in_flight_bytes -= bytes;
        if let Some(line) = self.lines.get_mut(&tenant) {
            line.in_flight -= 1;
        }
    }

    /// Takes as many waiting writes as there is room for, tenant by tenant, each for its quantum.
    fn call_next(&mut self) -> Vec<(TenantId, Waiting)> {
        let mut ready = Vec::new();
        let share = self.share();
        let mut blocked_turns = 0;
        while blocked_turns < self.turns.len() {
            let Some(tenant) = self.turns.pop_front() else {
                break;
            };
            let blocked = self.take_turn(tenant, share, &mut ready);
            let Some(line) = self.lines.get_mut(&tenant) else {
                continue;
            };
            if line.waiting.is_empty() {
                line.deficit = 0;
                continue;
            }
            if blocked {
                // What is saved up while there is no room would be a burst later.
                line.deficit = line.deficit.min(QUANTUM);
                blocked_turns += 1;
            } else {
                blocked_turns = 0;
            }
            self.turns.push_back(tenant);
        }
        ready
    }

    /// One tenant's turn. Says whether it ended because there is no room, and not because its quantum did.
    fn take_turn(
        &mut self,
        tenant: TenantId,
        share: usize,
        ready: &mut Vec<(TenantId, Waiting)>,
    ) -> bool {
        if let Some(line) = self.lines.get_mut(&tenant) {
            line.deficit += QUANTUM;
        }
        loop {
            let Some(line) = self.lines.get(&tenant) else {
                return false;
            };
            let Some(next) = line.waiting.front() else {
                return false;
            };
            let (bytes, deficit, gone) = (next.bytes, line.deficit, next.ready.is_closed());
            if !gone {
                if !self.has_room(tenant, share, bytes) {
                    return true;
                }
                if deficit < bytes + WRITE_COST {
                    return false;
                }
            }
            let Some(line) = self.lines.get_mut(&tenant) else {
                return false;
            };
            let Some(waiting) = line.waiting.pop_front() else {
                return false;
            };
            line.waiting_bytes -= bytes;
            self.waiting_bytes -= bytes;
            if !gone {
                line.deficit -= bytes + WRITE_COST;
                self.start(tenant, bytes);
                ready.push((tenant, waiting));
            }
        }
    }
}

#[cfg(test)]
mod tests;
