//! Leases as the replicated state knows them: how long they were granted, and which keys hang on them.
//!
//! When a lease runs out is the leader's knowledge; the state only hears that it was revoked.

use std::sync::Arc;

use bytes::Bytes;
use meridian_domain::key::Space;
use meridian_domain::kv::LeaseId;
use meridian_domain::view::LeaseView;

use super::tree::{Entry, Tree, Weight};

/// One lease.
#[derive(Clone, Debug)]
pub struct Lease {
    sortable: [u8; 8],
    /// Its time to live as granted, in seconds.
    pub ttl_seconds: i64,
    /// What it had left at the last checkpoint, in seconds; zero if never taken.
    pub checkpoint_seconds: i64,
    keys: Tree<Attached>,
}

/// A key attached to a lease: the space in one byte, then the key.
#[derive(Clone, Debug)]
struct Attached(Arc<[u8]>);

impl Attached {
    fn name(space: Space, key: &[u8]) -> Vec<u8> {
        let mut name = Vec::with_capacity(1 + key.len());
        name.push(space.0);
        name.extend_from_slice(key);
        name
    }
}

impl Entry for Attached {
    type Head = u64;

    fn key(&self) -> &[u8] {
        &self.0
    }

    fn weight(&self) -> Weight {
        Weight::ONE
    }
}

impl Entry for Lease {
    type Head = ();

    fn key(&self) -> &[u8] {
        &self.sortable
    }

    fn weight(&self) -> Weight {
        Weight::ONE
    }
}

/// A lease's number as a key: big-endian, the sign bit flipped, so that numbers below zero come first.
pub fn sortable(id: LeaseId) -> [u8; 8] {
    (id ^ LeaseId::MIN).to_be_bytes()
}

impl Lease {
    /// A lease without keys.
    pub fn new(id: LeaseId, ttl_seconds: i64, checkpoint_seconds: i64) -> Self {
        Self {
            sortable: sortable(id),
            ttl_seconds,
            checkpoint_seconds,
            keys: Tree::new(),
        }
    }

    /// Its number.
    pub fn id(&self) -> LeaseId {
        LeaseId::from_be_bytes(self.sortable) ^ LeaseId::MIN
    }

    /// As the pure parts see it.
    pub fn view(&self) -> LeaseView {
        LeaseView {
            id: self.id(),
            ttl_seconds: self.ttl_seconds,
            checkpoint_seconds: self.checkpoint_seconds,
            keys: self.keys.weight().counted as usize,
        }
    }

    /// The keys attached, by space, then key.
    pub fn keys(&self) -> impl Iterator<Item = (Space, &[u8])> {
        self.keys.iter().filter_map(|name| {
            let (space, key) = name.0.split_first()?;
            Some((Space(*space), key))
        })
    }

    /// The keys of one space, in key order.
    pub fn keys_of(&self, space: Space) -> Vec<Bytes> {
        self.keys()
            .filter(|(of, _)| *of == space)
            .map(|(_, key)| Bytes::copy_from_slice(key))
            .collect()
    }

    /// Attaches a key.
    pub(super) fn attach(&mut self, space: Space, key: &[u8]) {
        let name = Attached::name(space, key);
        self.keys.edit(&name, |_| Some(Attached(Arc::from(&*name))));
    }

    /// Detaches a key.
    pub(super) fn detach(&mut self, space: Space, key: &[u8]) {
        self.keys.remove(&Attached::name(space, key));
    }
}
