//! The whole state at one applied position, held without stopping the machine.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use meridian_domain::name::TenantId;
use meridian_domain::revision::LogId;

use super::cluster::Cluster;
use super::facts;
use super::requests::Requests;
use crate::mvcc::Keyspace;
use crate::store::Digest;

/// Everything at one applied position. Making one costs O(tenants).
#[derive(Debug)]
pub struct Frozen {
    /// The position.
    pub applied: LogId,
    /// Who the members were, as Raft encodes it.
    pub membership: Option<Bytes>,
    /// Every fact, by key.
    pub facts: Facts,
    /// The keyspaces, by tenant. [`Keyspace::retains`] says which versions belong to the state.
    pub tenants: Vec<(TenantId, Arc<Keyspace>)>,
}

/// Facts by key, encoded when they are first looked at: there may be millions, and the apply task must not
/// wait for that.
#[derive(Debug)]
pub struct Facts {
    encoded: OnceLock<Vec<(Bytes, Bytes)>>,
    source: Source,
}

#[derive(Debug)]
struct Source {
    digest: Digest,
    cluster: Cluster,
    tenants: Vec<(TenantId, Arc<Keyspace>)>,
    requests: Vec<(TenantId, Requests)>,
}

impl Frozen {
    pub(super) fn new(
        digest: Digest,
        cluster: &Cluster,
        tenants: Vec<(TenantId, Arc<Keyspace>)>,
        requests: Vec<(TenantId, Requests)>,
    ) -> Self {
        let source = Source {
            digest,
            cluster: cluster.clone(),
            tenants: tenants.clone(),
            requests,
        };
        Self {
            applied: digest.applied,
            membership: cluster.membership.clone(),
            facts: Facts {
                encoded: OnceLock::new(),
                source,
            },
            tenants,
        }
    }
}

impl Deref for Facts {
    type Target = [(Bytes, Bytes)];

    fn deref(&self) -> &Self::Target {
        self.encoded.get_or_init(|| self.source.encode())
    }
}

impl<'a> IntoIterator for &'a Facts {
    type Item = &'a (Bytes, Bytes);
    type IntoIter = std::slice::Iter<'a, (Bytes, Bytes)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Source {
    fn encode(&self) -> Vec<(Bytes, Bytes)> {
        let cluster = &self.cluster;
        let mut all = vec![
            (facts::digest_key(), facts::digest(self.digest.hash)),
            (
                facts::next_tenant_key(),
                facts::next_tenant(cluster.next_tenant),
            ),
        ];
        if let Some(membership) = &cluster.membership {
            all.push((facts::membership_key(), facts::membership(membership)));
        }
        for (member, kind) in &cluster.alarms {
            all.push((facts::alarm_key(*member, *kind), facts::alarm()));
        }
        for record in cluster.members.values() {
            all.push((facts::member_key(record.id), facts::member(record)));
        }
        for (id, keyspace) in &self.tenants {
            all.push((facts::tenant_key(*id), facts::tenant(keyspace.record())));
            all.push((facts::counters_key(*id), facts::counters(keyspace)));
            for lease in keyspace.leases() {
                all.push((facts::lease_key(*id, lease.id()), facts::lease(lease)));
            }
        }
        let system = (TenantId::SYSTEM, &cluster.requests);
        for (id, requests) in self
            .requests
            .iter()
            .map(|(id, of)| (*id, of))
            .chain([system])
        {
            for request in requests.iter() {
                all.push((facts::request_key(id, &request.id), facts::request(request)));
            }
        }
        all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        all
    }
}
