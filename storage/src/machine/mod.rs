//! The replicated state machine, without Raft: records go in, receipts and changes come out.
//!
//! ```text
//!   record --decode--> Proposal
//!                         |  1. applied before under this request id?   the recorded answer      requests
//!                         |  2. a guard moved?                          Stale
//!                         v  3. the command
//!          txn | leases | compact | cluster
//!                         |
//!            rows, facts, commits, state hash  (Pending)
//!                         |
//!        publish: history first, then roots, then watchers
//! ```
//!
//! Applying is total and deterministic: no clock, no randomness, no floats, no iteration over hash maps. It
//! depends on nothing but the records before, so every member comes to the same answers and the same
//! [`Digest`]. Compaction takes effect in apply; removal from memory and disk runs behind ([`Machine::reclaim`])
//! and can not be observed.
//!
//! One task owns the machine. Readers use the [`Store`], which shows what was published.
//!
//! A history that fails under a read inside a transaction is the one thing that can break apply on one member
//! alone. The machine then stops ([`Machine::fault`]): it applies nothing more, and what it answers must not
//! be passed on.

mod cluster;
mod facts;
mod frozen;
mod leases;
mod load;
pub mod outline;
mod pending;
mod publish;
mod refound;
mod requests;
mod txn;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use meridian_domain::command::{Command, Commit, Guards, Proposal, Receipt, Reply, Verdict};
use meridian_domain::key::Space;
use meridian_domain::kv::KeyValue;
use meridian_domain::name::TenantId;
use meridian_domain::rejection::Rejection;
use meridian_domain::revision::{LogId, Revision};
use meridian_domain::stamp::Stamp;
use meridian_proto::record::proposal;

use crate::fault::Fault;
use crate::history::History;
use crate::mvcc::Keyspace;
use crate::mvcc::compact::Pass;
use crate::mvcc::range::{self, Unread};
use crate::mvcc::slot::Past;
use crate::row::Version;
pub use crate::store::Digest;
use crate::store::{self, ClusterFacts, Store, Tenants};
use crate::watch;
pub use frozen::{Facts, Frozen};
pub use refound::{bumped, refound};

use cluster::Cluster;
use pending::Pending;
use requests::{Recall, Requests};
use work::Work;

/// State hashes are published for log indexes that are multiples of this.
const DIGEST_EVERY: u64 = 1000;

/// How a machine runs. Nothing here may change what it answers.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Of every tenant's watchers.
    pub watch: watch::Settings,
}

/// The state machine. See the chapter above.
#[derive(Debug)]
pub struct Machine {
    history: History,
    settings: Settings,
    shared: Arc<store::Shared>,
    applied: LogId,
    /// The position history was last told.
    submitted: LogId,
    cluster: Cluster,
    tenants: BTreeMap<TenantId, Holding>,
    pending: Pending,
    /// Tenants whose index holds versions that are no longer retained, or may.
    unpruned: BTreeSet<TenantId>,
    fault: Option<Fault>,
}

/// What the machine holds of one tenant.
#[derive(Debug)]
struct Holding {
    /// The working copy.
    keyspace: Keyspace,
    requests: Requests,
    /// Versions and commits not published yet, ascending.
    made: Vec<Arc<Version>>,
    commits: Vec<Arc<Commit>>,
    pass: Option<Pass>,
    tenant: Arc<store::Tenant>,
}

/// What every command is applied with.
struct Entry {
    at: LogId,
    tenant: TenantId,
    stamp: Stamp,
    actor: Box<str>,
}

impl Machine {
    /// The state before the first entry: the tenant `default`, at revision 1.
    pub fn new(history: History, settings: Settings) -> Self {
        let shared = Arc::new(store::Shared {
            cluster: Arc::new(ArcSwap::from_pointee(ClusterFacts::default())),
            tenants: ArcSwap::from_pointee(Tenants::default()),
            applied: ArcSwap::from_pointee(LogId::default()),
            digests: ArcSwap::from_pointee(vec![]),
            history: history.clone(),
        });
        let mut machine = Self {
            history,
            settings,
            shared,
            applied: LogId::default(),
            submitted: LogId::default(),
            cluster: Cluster::default(),
            tenants: BTreeMap::new(),
            pending: Pending::default(),
            unpruned: BTreeSet::new(),
            fault: None,
        };
        machine.make_default_tenant();
        machine.show();
        // History has nothing of it yet: its counters go with the first batch, whatever that is about.
        machine.pending.touch(TenantId::DEFAULT);
        machine
    }

    /// The shared read side.
    pub fn store(&self) -> Store {
        Store::new(Arc::clone(&self.shared))
    }

    /// The last entry applied, published or not.
    pub fn applied(&self) -> LogId {
        self.applied
    }

    /// The state hash after the last entry applied.
    pub fn digest(&self) -> Digest {
        Digest {
            applied: self.applied,
            hash: self.pending.hash(),
        }
    }

    /// What broke under this machine, if anything did. It must be looked at after applying and before
    /// receipts are passed on; a machine with a fault must not be used any more.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// Raft's encoding of the members, as it was last set.
    pub fn membership(&self) -> Option<Bytes> {
        self.cluster.membership.clone()
    }

    /// Applies the next entry of the log.
    pub fn apply(&mut self, at: LogId, record: &Bytes) -> Receipt {
        if self.fault.is_some() {
            return Receipt {
                log_id: at,
                revision: 0,
                verdict: Verdict::Stale,
            };
        }
        let receipt = proposal::decode(record).map_or_else(
            |_| Receipt {
                log_id: at,
                revision: 0,
                verdict: Verdict::Rejected(Rejection::UnknownProposal),
            },
            |proposal| self.settle(at, proposal),
        );
        if self.fault.is_none() {
            self.arrive(at);
        }
        receipt
    }

    /// Passes over an entry without a proposal.
    pub fn advance(&mut self, at: LogId) {
        if self.fault.is_none() {
            self.arrive(at);
        }
    }

    /// Takes over who the members are, as Raft encodes it.
    pub fn set_membership(&mut self, at: LogId, membership: Bytes) {
        if self.fault.is_some() {
            return;
        }
        self.pending.note(
            at,
            facts::membership_key(),
            Some(facts::membership(&membership)),
        );
        self.cluster.membership = Some(membership);
        self.arrive(at);
    }

    fn arrive(&mut self, at: LogId) {
        self.applied = at;
        if at.index.is_multiple_of(DIGEST_EVERY) {
            let mut digests = self.shared.digests.load().to_vec();
            if digests.len() >= store::DIGESTS_KEPT {
                digests.remove(0);
            }
            digests.push(self.digest());
            self.shared.digests.store(Arc::new(digests));
        }
    }

    /// Decides a proposal: remembered, stale, or applied now.
    fn settle(&mut self, at: LogId, proposal: Proposal) -> Receipt {
        let Proposal {
            tenant,
            request_id,
            actor,
            stamp,
            guards,
            command,
        } = proposal;
        let entry = Entry {
            at,
            tenant,
            stamp,
            actor,
        };
        let refuse = |revision, rejection| Receipt {
            log_id: at,
            revision,
            verdict: Verdict::Rejected(rejection),
        };
        let Some((revision, rules_revision)) = self.counters(tenant) else {
            return refuse(
                0,
                Rejection::TenantNotFound {
                    name: format!("#{tenant}"),
                },
            );
        };
        if let Some(id) = &request_id {
            match self
                .requests(tenant)
                .and_then(|requests| requests.recall(id))
            {
                Some(Recall::Answer(receipt)) => return receipt,
                Some(Recall::Applied { log_id, revision }) => {
                    let verdict = Verdict::Rejected(Rejection::AlreadyApplied { revision });
                    return Receipt {
                        log_id,
                        revision,
                        verdict,
                    };
                }
                None => {}
            }
        }
        if !hold(guards, at, rules_revision) {
            return Receipt {
                log_id: at,
                revision,
                verdict: Verdict::Stale,
            };
        }
        match self.run(entry, command) {
            Ok(reply) => {
                let revision = self
                    .counters(tenant)
                    .map_or(revision, |(revision, _)| revision);
                let receipt = Receipt {
                    log_id: at,
                    revision,
                    verdict: Verdict::Applied(reply),
                };
                if let Some(id) = request_id {
                    self.remember(tenant, &id, &receipt);
                }
                receipt
            }
            Err(Unread::Rejected(rejection)) => refuse(revision, rejection),
            Err(Unread::Broken(fault)) => {
                tracing::error!(%fault, applied = %at, "a transaction could not be read; stopping");
                self.fault = Some(fault);
                Receipt {
                    log_id: at,
                    revision,
                    verdict: Verdict::Stale,
                }
            }
        }
    }

    /// One line per command.
    fn run(&mut self, entry: Entry, command: Command) -> Result<Reply, Unread> {
        Ok(match command {
            Command::Txn(txn) => self.txn(entry, &txn)?,
            Command::LeaseGrant { id, ttl_seconds } => self.grant(&entry, id, ttl_seconds)?,
            Command::LeaseRevoke { id } => self.revoke(entry, id)?,
            Command::LeaseCheckpoint { remaining } => self.checkpoint(&entry, &remaining)?,
            Command::Compact { revision } => self.compact(&entry, revision)?,
            Command::TenantCreate {
                name,
                quota,
                retention,
            } => self.create_tenant(&entry, name, quota, retention)?,
            Command::TenantChange {
                name,
                quota,
                retention,
            } => self.change_tenant(&entry, &name, quota, retention)?,
            Command::TenantDelete { name } => self.delete_tenant(&entry, &name)?,
            Command::Alarm {
                member,
                kind,
                raised,
            } => self.alarm(&entry, member, kind, raised),
            Command::MemberPublish(record) => self.publish_member(&entry, record),
            Command::MemberForget { id } => self.forget_member(&entry, id),
        })
    }

    /// The revision and the rules revision of a tenant. The cluster has no revision, and the rules on it are kept
    /// in the tenant `default`.
    fn counters(&self, tenant: TenantId) -> Option<(Revision, u64)> {
        if tenant == TenantId::SYSTEM {
            let rules = self.tenants.get(&TenantId::DEFAULT);
            return Some((0, rules.map_or(0, |held| held.keyspace.rules_revision())));
        }
        let keyspace = &self.tenants.get(&tenant)?.keyspace;
        Some((keyspace.revision(), keyspace.rules_revision()))
    }

    fn requests(&mut self, tenant: TenantId) -> Option<&mut Requests> {
        if tenant == TenantId::SYSTEM {
            return Some(&mut self.cluster.requests);
        }
        self.tenants
            .get_mut(&tenant)
            .map(|holding| &mut holding.requests)
    }

    fn txn(&mut self, entry: Entry, txn: &meridian_domain::txn::Txn) -> Result<Reply, Unread> {
        let reply = self.write(entry, |work, fetch| txn::run(work, txn, fetch))?;
        Ok(Reply::Txn(reply))
    }

    /// Lets `change` write keys of the entry's tenant, all at the next revision, and takes in what changed.
    fn write<T>(
        &mut self,
        entry: Entry,
        change: impl FnOnce(&mut Work<'_>, range::Fetch<'_>) -> Result<T, Unread>,
    ) -> Result<T, Unread> {
        let Entry {
            at,
            tenant,
            stamp,
            actor,
        } = entry;
        let Some(holding) = self.tenants.get_mut(&tenant) else {
            return Err(Rejection::TenantNotFound {
                name: format!("#{tenant}"),
            }
            .into());
        };
        let Holding {
            keyspace,
            made,
            commits,
            ..
        } = holding;
        let history = &self.history;
        let fetch = |past: Past| fetch(history, tenant, made, past);
        let mut work = Work::new(keyspace);
        let answer = change(&mut work, &fetch)?;
        if let Some(changed) = work.finish() {
            // Plans made under the rules before are stale from here on.
            if changed.sums().any(|(space, _)| space == Space::ACCESS) {
                keyspace.rules_revision += 1;
            }
            let actor_shared = self.pending.actor(&actor);
            self.pending.touch(tenant);
            self.pending.roll(at, tenant, &changed);
            made.extend(changed.versions(stamp, &actor_shared));
            let changes = changed.into_changes();
            commits.push(Arc::new(Commit {
                tenant,
                log_id: at,
                stamp,
                actor,
                changes,
            }));
        }
        Ok(answer)
    }

    /// Forgets what was superseded at or before a revision. Takes effect at once.
    fn compact(&mut self, entry: &Entry, revision: Revision) -> Result<Reply, Rejection> {
        let keyspace = self.keyspace(entry.tenant)?;
        if revision == 0 && keyspace.compacted == 0 {
            return Ok(Reply::Done);
        }
        if revision <= keyspace.compacted {
            return Err(Rejection::Compacted {
                compacted: keyspace.compacted,
            });
        }
        if revision > keyspace.revision {
            return Err(Rejection::FutureRevision {
                current: keyspace.revision,
            });
        }
        keyspace.compacted = revision;
        self.unpruned.insert(entry.tenant);
        self.pending.touch(entry.tenant);
        self.pending.mark(
            entry.at,
            "compact",
            &[u64::from(entry.tenant.0), revision as u64],
        );
        Ok(Reply::Done)
    }

    fn keyspace(&mut self, tenant: TenantId) -> Result<&mut Keyspace, Rejection> {
        match self.tenants.get_mut(&tenant) {
            Some(holding) => Ok(&mut holding.keyspace),
            None => Err(Rejection::TenantNotFound {
                name: format!("#{tenant}"),
            }),
        }
    }
}

/// Whether every guard still stands.
fn hold(guards: Guards, at: LogId, rules_revision: u64) -> bool {
    guards
        .rules_revision
        .is_none_or(|planned| planned == rules_revision)
        && guards.term.is_none_or(|planned| planned == at.term)
}

/// The content of an older version: what is not published yet is not in history yet.
fn fetch(
    history: &History,
    tenant: TenantId,
    made: &[Arc<Version>],
    past: Past,
) -> Result<Arc<KeyValue>, Unread> {
    let at = past.at();
    let version = match made.binary_search_by_key(&at, |version| version.at) {
        Ok(place) => made.get(place).cloned(),
        Err(_) => history.version(tenant, at)?,
    };
    if let Some(kv) = version.and_then(|version| version.after.clone()) {
        return range::verified(past, kv);
    }
    let (revision, sub) = (at.revision, at.sub);
    let what = format!("history lacks the version of tenant {tenant} at {revision}.{sub}");
    Err(Fault::Inconsistent { what }.into())
}

#[cfg(test)]
mod tests;
