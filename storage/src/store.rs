//! The store: what readers share. The machine publishes into it; nobody waits for anybody.
//!
//! ```text
//!   Store -> tenants by id, by name -> Tenant -> root (swapped whole after each applied batch)
//!         |                                 '--> hub  (watchers)
//!         '> cluster facts (swapped when they change)
//! ```
//!
//! A reader takes a root and keeps it as long as it likes. After `applied` shows a position, every root
//! taken holds at least what was applied up to there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use arc_swap::ArcSwap;
use meridian_domain::access::document::{Place, decode};
use meridian_domain::access::policy::Door;
use meridian_domain::command::{AlarmKind, MemberRecord};
use meridian_domain::name::{TenantId, TenantName};
use meridian_domain::rejection::Rejection;
use meridian_domain::revision::{LogId, Revision};
use meridian_domain::tenant::{TenantRecord, Usage};
use meridian_domain::view::ClusterView;

use crate::history::History;
use crate::mvcc::Keyspace;
use crate::mvcc::hash::{self, KvHash};
use crate::mvcc::view::TenantView;
use crate::watch::Hub;

/// How many past digests are kept: the last 64,000 entries.
pub(crate) const DIGESTS_KEPT: usize = 64;

/// The shared read side. Cheap to clone; every method may be called from any thread.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

/// The state hash after an applied entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// The entry.
    pub applied: LogId,
    /// A hash over every effect up to it, equal on every member.
    pub hash: u64,
}

/// What the machine swaps.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) cluster: Arc<ArcSwap<ClusterFacts>>,
    pub(crate) tenants: ArcSwap<Tenants>,
    pub(crate) applied: ArcSwap<LogId>,
    pub(crate) digests: ArcSwap<Vec<Digest>>,
    pub(crate) history: History,
}

/// The tenants there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tenants {
    by_id: BTreeMap<TenantId, Arc<Tenant>>,
    by_name: HashMap<TenantName, Arc<Tenant>>,
}

impl Tenants {
    pub(crate) fn new(tenants: impl IntoIterator<Item = Arc<Tenant>>) -> Self {
        let mut all = Self::default();
        for tenant in tenants {
            all.by_name
                .insert(tenant.record().name.clone(), Arc::clone(&tenant));
            all.by_id.insert(tenant.id(), tenant);
        }
        all
    }
}

impl Store {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The cluster's own facts.
    pub fn cluster(&self) -> Arc<ClusterFacts> {
        self.shared.cluster.load_full()
    }

    /// A tenant by number.
    pub fn tenant(&self, id: TenantId) -> Option<Arc<Tenant>> {
        self.shared.tenants.load().by_id.get(&id).cloned()
    }

    /// A tenant by name.
    pub fn tenant_named(&self, name: &str) -> Option<Arc<Tenant>> {
        let name = TenantName::new(name).ok()?;
        self.shared.tenants.load().by_name.get(&name).cloned()
    }

    /// Every tenant, by number.
    pub fn tenants(&self) -> Vec<Arc<Tenant>> {
        self.shared.tenants.load().by_id.values().cloned().collect()
    }

    /// The last entry whose effects can be read.
    pub fn applied(&self) -> LogId {
        **self.shared.applied.load()
    }

    /// State hashes at recent log indexes that are multiples of 1000, oldest first.
    pub fn digests(&self) -> Arc<Vec<Digest>> {
        self.shared.digests.load_full()
    }

    /// Older versions.
    pub fn history(&self) -> &History {
        &self.shared.history
    }
}

/// One tenant, for readers and watchers. The same object from creation to removal.
#[derive(Debug)]
pub struct Tenant {
    id: TenantId,
    root: Arc<ArcSwap<Keyspace>>,
    hub: Arc<Hub>,
    cluster: Arc<ArcSwap<ClusterFacts>>,
    history: History,
    removed: AtomicBool,
    reclaimed: AtomicI64,
}

impl Tenant {
    pub(crate) fn new(id: TenantId, root: Keyspace, hub: Hub, shared: &Shared) -> Self {
        Self {
            id,
            root: Arc::new(ArcSwap::from_pointee(root)),
            hub: Arc::new(hub),
            cluster: Arc::clone(&shared.cluster),
            history: shared.history.clone(),
            removed: AtomicBool::new(false),
            reclaimed: AtomicI64::new(0),
        }
    }

    /// Its number.
    pub fn id(&self) -> TenantId {
        self.id
    }

    /// What the cluster knows of it.
    pub fn record(&self) -> Arc<TenantRecord> {
        Arc::clone(self.root.load().record())
    }

    /// Its state now.
    pub fn root(&self) -> Arc<Keyspace> {
        self.root.load_full()
    }

    /// Its state now, as the pure parts see it.
    pub fn view(self: &Arc<Self>) -> TenantView {
        TenantView::new(
            Arc::clone(self),
            self.root.load_full(),
            self.cluster.load_full(),
        )
    }

    /// Its watchers.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Whether it was removed from the cluster.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// The last compaction whose versions are gone from memory and handed to history for removal. It is behind
    /// what the root says was compacted while there is something left to remove.
    pub fn reclaimed(&self) -> Revision {
        self.reclaimed.load(Ordering::Acquire)
    }

    /// A hash over the versions retained at or below a revision (zero: the current one), the compacted
    /// revision it was made under, and the revision it goes up to. Walks every key.
    pub fn hash_kv(&self, revision: Revision) -> Result<(u32, Revision, Revision), Rejection> {
        let KvHash {
            hash,
            compacted,
            revision,
        } = hash::hash_kv(&self.root.load_full(), revision)?;
        Ok((hash, compacted, revision))
    }

    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    pub(crate) fn publish(&self, root: Keyspace) {
        self.root.store(Arc::new(root));
    }

    pub(crate) fn root_cell(&self) -> Arc<ArcSwap<Keyspace>> {
        Arc::clone(&self.root)
    }

    pub(crate) fn set_reclaimed(&self, compacted: Revision) {
        self.reclaimed.store(compacted, Ordering::Release);
    }

    pub(crate) fn remove(&self) {
        self.removed.store(true, Ordering::Release);
        self.hub.close();
    }
}

/// The cluster's own facts at one moment. What tenants use is read when asked for.
#[derive(Debug, Default)]
pub struct ClusterFacts {
    tenants: BTreeMap<TenantName, Arc<ArcSwap<Keyspace>>>,
    alarms: Vec<(u64, AlarmKind)>,
    members: Vec<MemberRecord>,
}

impl ClusterFacts {
    pub(crate) fn new<'a>(
        tenants: impl Iterator<Item = &'a Arc<Tenant>>,
        alarms: Vec<(u64, AlarmKind)>,
        members: Vec<MemberRecord>,
    ) -> Self {
        let tenants = tenants
            .map(|t| (t.record().name.clone(), t.root_cell()))
            .collect();
        Self {
            tenants,
            alarms,
            members,
        }
    }
}

impl ClusterView for ClusterFacts {
    fn tenant_named(&self, name: &TenantName) -> Option<TenantRecord> {
        self.tenants
            .get(name)
            .map(|root| TenantRecord::clone(root.load().record()))
    }

    fn tenants(&self) -> Vec<(TenantRecord, Usage)> {
        let current = |root: &Arc<ArcSwap<Keyspace>>| {
            let root = root.load();
            (TenantRecord::clone(root.record()), root.usage())
        };
        self.tenants.values().map(current).collect()
    }

    fn alarms(&self) -> Vec<(u64, AlarmKind)> {
        self.alarms.clone()
    }

    fn members(&self) -> Vec<MemberRecord> {
        self.members.clone()
    }

    fn is_guarded(&self) -> bool {
        let name = TenantName::new(TenantName::DEFAULT);
        let Some(root) = name.ok().and_then(|name| self.tenants.get(&name)) else {
            return false;
        };
        let root = root.load();
        if root.rules_revision() == 0 {
            return false;
        }
        let Place { space, key } = Place::door();
        // What can not be read guards as well as what says so.
        root.live(space, &key)
            .is_some_and(|cell| decode::<Door>(cell.value()).map_or(true, |door| door.enabled))
    }
}
