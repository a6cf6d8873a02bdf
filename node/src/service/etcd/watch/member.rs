//! The watch service on a real member: the pipeline admits, the store shows, the rules say to whom.

use std::sync::Arc;
use std::time::Duration;

use http::Extensions;
use meridian_domain::access::Action;
use meridian_domain::command::Commit;
use meridian_domain::key::{KeyRange, Space};
use meridian_domain::name::TenantName;
use meridian_domain::rejection::Rejection;
use meridian_domain::revision::Revision;
use meridian_storage::fault::Fault;
use meridian_storage::store::{Store, Tenant};
use meridian_storage::watch::Hub;
use parking_lot::Mutex;
use tonic::metadata::MetadataMap;

use super::source::{Admission, Admitted, Member, Seen, Source};
use crate::authn::{Who, is_closed, unix_ms};
use crate::pipeline::Pipeline;

impl Member for Arc<Pipeline> {
    fn cluster_id(&self) -> u64 {
        self.ids.cluster
    }

    fn member_id(&self) -> u64 {
        self.ids.member
    }

    fn term(&self) -> u64 {
        self.replica.status().term
    }

    fn has_leader(&self) -> bool {
        self.replica.status().leader.is_some()
    }

    fn admit(&self, metadata: MetadataMap, extensions: Extensions) -> Admission {
        let pipeline = Self::clone(self);
        Box::pin(async move {
            let ctx = pipeline.context_of(metadata.as_ref(), &extensions)?;
            let tenant = pipeline.tenant(&ctx, &mut false).await?;
            if is_closed(&tenant.view())? {
                // A watch that is refused is not asked for again: it is not refused by rules this member is behind
                // with. Without a quorum the rules it has hold.
                let _ = pipeline.barrier(&ctx).await;
            }
            if pipeline.is_known(&tenant, &ctx) {
                pipeline.admission.count(&tenant.record())?;
            }
            let guard = Guard {
                pipeline: Self::clone(&pipeline),
                who: Mutex::new(ctx.who),
            };
            let source = Arc::new(Keys {
                store: pipeline.store.clone(),
                tenant,
                guard: Some(guard),
            });
            Ok(Admitted { source })
        })
    }

    fn moved(&self, seen: &mut Seen) -> Vec<Arc<Hub>> {
        let applied = self.store.applied().index;
        if applied == seen.applied {
            return vec![];
        }
        seen.applied = applied;
        let mut moved = vec![];
        for tenant in self.store.tenants() {
            let rules = tenant.root().rules_revision();
            if rules != 0 && seen.rules.insert(tenant.id(), rules) != Some(rules) {
                moved.push(Arc::clone(tenant.hub()));
            }
        }
        moved
    }
}

/// Who watches.
pub(crate) struct Guard {
    /// Knows the rules.
    pipeline: Arc<Pipeline>,
    /// Proven with the first watch that is allowed, and held from then on.
    who: Mutex<Who>,
}

/// The keys of a tenant of the store.
pub(crate) struct Keys {
    /// Where older commits are.
    pub(crate) store: Store,
    /// Whose.
    pub(crate) tenant: Arc<Tenant>,
    /// Who looks at them; none sees everything.
    pub(crate) guard: Option<Guard>,
}

impl Source for Keys {
    fn hub(&self) -> Arc<Hub> {
        Arc::clone(self.tenant.hub())
    }

    fn tenant(&self) -> TenantName {
        self.tenant.record().name.clone()
    }

    fn watchers_max(&self) -> u64 {
        self.tenant.record().quota.watchers
    }

    fn may_watch(&self, range: &KeyRange) -> Result<(), Rejection> {
        let Some(Guard { pipeline, who }) = &self.guard else {
            return Ok(());
        };
        let mut who = who.lock();
        if matches!(*who, Who::Shown(_)) {
            *who = pipeline.authn.hold(&self.tenant.view(), &who)?;
        }
        let space = Space::RAW;
        pipeline.permits(&self.tenant, &who, Action::Watch { space, range })
    }

    fn rules(&self) -> u64 {
        match &self.guard {
            Some(_) => self.tenant.root().rules_revision(),
            None => 0,
        }
    }

    fn lasts(&self) -> Option<Duration> {
        let Guard { pipeline, who } = self.guard.as_ref()?;
        let until = pipeline.authn.until_ms(&self.tenant.view(), &who.lock())?;
        Some(Duration::from_millis(until.saturating_sub(unix_ms())))
    }

    fn revision(&self) -> Revision {
        self.tenant.root().revision()
    }

    fn compacted(&self) -> Revision {
        self.tenant.root().compacted()
    }

    fn commits(
        &self,
        from: Revision,
        to: Revision,
        revisions_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Commit>, Fault> {
        self.store
            .history()
            .commits(self.tenant.id(), from, to, revisions_max, bytes_max)
    }
}
