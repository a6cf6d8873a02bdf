//! The watch service on a real member: the pipeline admits, the store shows.

use std::sync::Arc;

use meridian_domain::command::Commit;
use meridian_domain::name::TenantName;
use meridian_domain::revision::Revision;
use meridian_storage::fault::Fault;
use meridian_storage::store::{Store, Tenant};
use meridian_storage::watch::Hub;
use tonic::metadata::MetadataMap;

use super::source::{Admission, Admitted, Member, Source};
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

    fn admit(&self, metadata: MetadataMap) -> Admission {
        let pipeline = Self::clone(self);
        Box::pin(async move {
            let ctx = pipeline.context(&metadata)?;
            let tenant = pipeline.tenant(&ctx, &mut false).await?;
            pipeline.admission.count(&tenant.record())?;
            let source = Arc::new(Keys {
                store: pipeline.store.clone(),
                tenant,
            });
            Ok(Admitted {
                source,
                principal: ctx.principal,
            })
        })
    }
}

/// The keys of a tenant of the store.
pub(crate) struct Keys {
    /// Where older commits are.
    pub(crate) store: Store,
    /// Whose.
    pub(crate) tenant: Arc<Tenant>,
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
