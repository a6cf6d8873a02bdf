//! News: word that something changed in a range of keys, for whoever waits inside this member.
//!
//! It takes part in the tenant's watch hub like a client's stream, but never reads history: what changed is looked
//! up by its owner, so all it must not do is stay silent.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use meridian_domain::key::{KeyRange, Space};
use meridian_domain::rejection::Rejection;
use meridian_storage::store::Tenant;
use meridian_storage::watch::{Filters, Form, Session, Step, Watch};

use crate::service::etcd::contend::Contest;
use crate::status::Refusal;

/// How much is taken out of the hub at a time; what it is does not matter, only that something came.
const BATCH_BYTES: usize = 64 << 10;

/// Word of changes in a range of keys. What changed must be looked up: this only says that something did.
pub struct News {
    contest: Contest,
    tenant: Arc<Tenant>,
    range: KeyRange,
    filters: Filters,
    session: Session,
}

impl News {
    /// Word of what changes from now on. State looked at after this returned is not missed.
    pub fn open(
        contest: &Contest,
        tenant: &Arc<Tenant>,
        range: KeyRange,
        filters: Filters,
    ) -> Self {
        let session = begin(contest, tenant, &range, filters);
        Self {
            contest: contest.clone(),
            tenant: Arc::clone(tenant),
            range,
            filters,
            session,
        }
    }

    /// Returns when something changed since the last time, or may have.
    pub async fn next(&mut self) -> Result<(), Refusal> {
        let fell_behind = poll_fn(|cx| {
            self.session.collect(cx.waker(), 0);
            if self.session.hub().is_closed() {
                let name = self.tenant.record().name.to_string();
                return Poll::Ready(Err(Rejection::TenantNotFound { name }));
            }
            match self.session.next(BATCH_BYTES) {
                Step::Idle => Poll::Pending,
                Step::Busy | Step::Batch(_) => Poll::Ready(Ok(false)),
                Step::Past { .. } => Poll::Ready(Ok(true)),
            }
        })
        .await;
        if fell_behind? {
            // What it missed does not matter: it starts anew, and its owner looks.
            self.session = begin(&self.contest, &self.tenant, &self.range, self.filters);
        }
        Ok(())
    }
}

fn begin(contest: &Contest, tenant: &Arc<Tenant>, range: &KeyRange, filters: Filters) -> Session {
    contest.watches.attend(tenant.hub());
    let mut session = Session::open(Arc::clone(tenant.hub()));
    let watch = Watch {
        id: 0,
        space: Space::RAW,
        range: range.clone(),
        start: 0,
        seen: 0,
        filters,
        form: Form {
            prev: false,
            keys_only: true,
        },
        notes: 0,
    };
    // Without a limit it is always taken: the call that waits was admitted already.
    let _added = session.add(&watch, 0);
    session
}
