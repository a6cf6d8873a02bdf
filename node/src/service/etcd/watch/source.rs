//! What a watch needs of the member it runs on: a seam, so that it is served the same in a test.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::Extensions;
use meridian_domain::command::Commit;
use meridian_domain::key::KeyRange;
use meridian_domain::name::{TenantId, TenantName};
use meridian_domain::rejection::Rejection;
use meridian_domain::revision::Revision;
use meridian_storage::fault::Fault;
use meridian_storage::watch::Hub;
use tonic::metadata::MetadataMap;

use crate::status::Refusal;

/// The member. Every method may be called from any task and returns at once.
pub trait Member: Send + Sync + 'static {
    /// Which cluster, for the headers of responses.
    fn cluster_id(&self) -> u64;
    /// Which member.
    fn member_id(&self) -> u64;
    /// Raft's present term.
    fn term(&self) -> u64;
    /// Whether this member knows a leader.
    fn has_leader(&self) -> bool;
    /// Who opens a stream, on whose keys; or why not.
    fn admit(&self, metadata: MetadataMap, extensions: Extensions) -> Admission;
    /// The hubs of tenants whose rules moved since the last call with the same notes.
    fn moved(&self, notes: &mut Seen) -> Vec<Arc<Hub>>;
}

/// The answer to [`Member::admit`].
pub type Admission = Pin<Box<dyn Future<Output = Result<Admitted, Refusal>> + Send>>;

/// The rules revisions seen last, of tenants that have rules.
#[derive(Debug, Default)]
pub struct Seen {
    /// What was applied then: nothing moved while it stands.
    pub applied: u64,
    /// By tenant.
    pub rules: HashMap<TenantId, u64>,
}

/// A stream that may be opened.
pub struct Admitted {
    /// Whose keys it watches, on whose behalf.
    pub source: Arc<dyn Source>,
}

/// The keys of one tenant, as watches of one caller see them.
pub trait Source: Send + Sync + 'static {
    /// Where commits appear.
    fn hub(&self) -> Arc<Hub>;
    /// The tenant's name.
    fn tenant(&self) -> TenantName;
    /// How many watches it may have on this member; zero is no limit.
    fn watchers_max(&self) -> u64;
    /// Whether these keys may be watched now.
    fn may_watch(&self, range: &KeyRange) -> Result<(), Rejection>;
    /// The number that moves when the answer of [`Source::may_watch`] may be another one.
    fn rules(&self) -> u64;
    /// How long until it may be another one though the number stands; none is for ever.
    fn lasts(&self) -> Option<Duration>;
    /// The revision readers see now; the hub shows it a moment later.
    fn revision(&self) -> Revision;
    /// The oldest revision that can be read; zero if nothing was compacted.
    fn compacted(&self) -> Revision;
    /// Commits `from..=to`, whole revisions, ascending, the first one always, then up to about the bounds given.
    /// May block on the disk.
    fn commits(
        &self,
        from: Revision,
        to: Revision,
        revisions_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Commit>, Fault>;
}
