//! Who belongs to the cluster, as far as this member has applied it: the answer to "may I talk to you?".

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use meridian_domain::view::ClusterView;
use meridian_proto::peer::{Hello, HelloRefusal};
use meridian_storage::store::Store;

use crate::status::Peer;
use crate::type_config::{StoredMembership, to_domain};

/// Who this member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: u64,
    /// The member.
    pub member_id: u64,
    /// The random number its data directory was stamped with.
    pub instance: u64,
}

/// The members known here. Shared; the newest membership is put in by a task that follows openraft.
#[derive(Clone)]
pub struct Roster {
    identity: Identity,
    store: Store,
    newest: Arc<ArcSwap<StoredMembership>>,
}

impl Roster {
    /// A roster that begins with the membership the state held at start.
    pub fn new(identity: Identity, store: Store, membership: StoredMembership) -> Self {
        Self {
            identity,
            store,
            newest: Arc::new(ArcSwap::from_pointee(membership)),
        }
    }

    /// Who this member is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Takes the newest membership.
    pub fn update(&self, membership: Arc<StoredMembership>) {
        self.newest.store(membership);
    }

    /// The newest membership.
    pub fn membership(&self) -> Arc<StoredMembership> {
        self.newest.load_full()
    }

    /// Where the newest membership stands in the log; zero if there is none.
    pub fn membership_index(&self) -> u64 {
        self.newest
            .load()
            .log_id()
            .as_ref()
            .map_or(0, |id| to_domain(id).index)
    }

    /// Everybody, by id, with what they published.
    pub fn peers(&self) -> Vec<Peer> {
        let membership = self.membership();
        let published: BTreeMap<u64, _> = self
            .store
            .cluster()
            .members()
            .into_iter()
            .map(|record| (record.id, record))
            .collect();
        let voters: Vec<u64> = membership.voter_ids().collect();
        membership
            .membership()
            .nodes()
            .map(|(id, address)| {
                let record = published.get(id);
                let voter = voters.contains(id);
                Peer {
                    id: *id,
                    name: record.map_or_else(|| address.name.clone(), |r| r.name.clone()),
                    peer_urls: address.peer_urls.clone(),
                    client_urls: record.map(|r| r.client_urls.clone()).unwrap_or_default(),
                    learner: !voter && !address.joining,
                    voter,
                    started: record.is_some() || !address.name.is_empty(),
                }
            })
            .collect()
    }

    /// Whether a member has published anything of itself, as far as this one has applied it.
    pub fn is_published(&self, id: u64) -> bool {
        let members = self.store.cluster().members();
        members.iter().any(|record| record.id == id)
    }

    /// Whether a member that says hello may talk to this one.
    pub fn admits(&self, hello: &Hello) -> Result<(), (HelloRefusal, String)> {
        let identity = self.identity;
        if hello.cluster_id != identity.cluster_id {
            let text = format!(
                "this is a member of cluster {:x}, you belong to {:x}",
                identity.cluster_id, hello.cluster_id
            );
            return Err((HelloRefusal::WrongCluster, text));
        }
        if hello.to_member_id != 0 && hello.to_member_id != identity.member_id {
            let text = format!(
                "this is member {:x}, you asked for {:x}",
                identity.member_id, hello.to_member_id
            );
            return Err((HelloRefusal::WrongMember, text));
        }
        self.admits_instance(hello.member_id, hello.instance)?;
        let membership = self.membership();
        let known = membership.membership().get_node(&hello.member_id).is_some();
        // A cluster that was not founded yet knows nobody and turns nobody away.
        if known || membership.log_id().is_none() {
            return Ok(());
        }
        // It knows a newer membership than this member, which may have been away while it joined.
        if hello.membership_index > self.membership_index() {
            return Ok(());
        }
        if hello.membership_index > 0 && hello.membership_index < self.membership_index() {
            let text = format!("member {:x} was removed from the cluster", hello.member_id);
            return Err((HelloRefusal::Removed, text));
        }
        let text = format!("member {:x} is not known here (yet)", hello.member_id);
        Err((HelloRefusal::UnknownMember, text))
    }

    /// Whether a member still has the data directory it published.
    pub fn admits_instance(
        &self,
        member: u64,
        instance: u64,
    ) -> Result<(), (HelloRefusal, String)> {
        let published = self
            .store
            .cluster()
            .members()
            .into_iter()
            .find(|r| r.id == member);
        let Some(record) = published else {
            return Ok(());
        };
        if record.instance == 0 || record.instance == instance {
            return Ok(());
        }
        let text = format!(
            "member {member:x} came back with another data directory. Its old log is lost, and with it \
             what it promised: remove it and add it as a new member"
        );
        Err((HelloRefusal::ReusedId, text))
    }
}
