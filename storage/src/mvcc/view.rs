//! A tenant as the pure parts see it: one root, held; answers do not change while it is held.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use meridian_domain::key::Space;
use meridian_domain::kv::{KeyValue, LeaseId, Range, RangeReply};
use meridian_domain::rejection::Rejection;
use meridian_domain::revision::Revision;
use meridian_domain::tenant::{TenantRecord, Usage};
use meridian_domain::view::{ClusterView, LeaseView, View};

use super::keyspace::Keyspace;
use super::range::{self, Unread};
use super::slot::Past;
use crate::fault::Fault;
use crate::store::{ClusterFacts, Tenant};

/// One tenant at one moment. Reads take no lock; a read at an older revision may go to disk.
///
/// If history fails under a read, the read is refused as if its revision had been compacted and
/// [`TenantView::fault`] says why: whoever answers must look there before passing a refusal on.
#[derive(Debug)]
pub struct TenantView {
    tenant: Arc<Tenant>,
    root: Arc<Keyspace>,
    cluster: Arc<ClusterFacts>,
    fault: OnceLock<Fault>,
}

impl TenantView {
    pub(crate) fn new(
        tenant: Arc<Tenant>,
        root: Arc<Keyspace>,
        cluster: Arc<ClusterFacts>,
    ) -> Self {
        Self {
            tenant,
            root,
            cluster,
            fault: OnceLock::new(),
        }
    }

    /// The root it reads.
    pub fn keyspace(&self) -> &Arc<Keyspace> {
        &self.root
    }

    /// What broke under a read of this view, if anything did.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.get()
    }

    /// As [`View::range`], with a fault told apart from a refusal.
    pub fn read(&self, range: &Range) -> Result<RangeReply, Unread> {
        let at = range::judge(&self.root, range.revision)?;
        range::read(&self.root, range, at, &|past| {
            self.fetch(past, range.revision)
        })
    }

    /// The content of an older version, for a reader at revision `asked`.
    fn fetch(&self, past: Past, asked: Revision) -> Result<Arc<KeyValue>, Unread> {
        let version = self.tenant.history().version(self.tenant.id(), past.at())?;
        if let Some(kv) = version.and_then(|version| version.after.clone()) {
            return range::verified(past, kv);
        }
        // It may have been compacted and removed after this root was taken.
        let now = self.tenant.root();
        if self.tenant.is_removed() {
            let name = self.root.record().name.to_string();
            return Err(Rejection::TenantNotFound { name }.into());
        }
        if asked < now.compacted() {
            return Err(Rejection::Compacted {
                compacted: now.compacted(),
            }
            .into());
        }
        let (id, at) = (self.tenant.id(), past.at());
        let what = format!(
            "history lacks the version of tenant {id} at {}.{}",
            at.revision, at.sub
        );
        Err(Fault::Inconsistent { what }.into())
    }
}

impl View for TenantView {
    fn tenant(&self) -> &TenantRecord {
        self.root.record()
    }

    fn revision(&self) -> Revision {
        self.root.revision()
    }

    fn compacted(&self) -> Revision {
        self.root.compacted()
    }

    fn rules_revision(&self) -> u64 {
        self.root.rules_revision()
    }

    fn usage(&self) -> Usage {
        self.root.usage()
    }

    fn range(&self, range: &Range) -> Result<RangeReply, Rejection> {
        self.read(range).map_err(|unread| match unread {
            Unread::Rejected(rejection) => rejection,
            Unread::Broken(fault) => {
                let _ = self.fault.set(fault);
                Rejection::Compacted {
                    compacted: self.root.revision(),
                }
            }
        })
    }

    fn lease(&self, id: LeaseId) -> Option<LeaseView> {
        self.root.lease(id).map(super::lease::Lease::view)
    }

    fn leases(&self) -> Vec<LeaseId> {
        self.root
            .leases()
            .iter()
            .map(super::lease::Lease::id)
            .collect()
    }

    /// Keys of the space `raw`: what other layers attach is theirs.
    fn lease_keys(&self, id: LeaseId) -> Vec<Bytes> {
        self.root
            .lease(id)
            .map_or(vec![], |lease| lease.keys_of(Space::RAW))
    }

    fn cluster(&self) -> &dyn ClusterView {
        &*self.cluster
    }
}
