//! The types openraft is told to use, and how they map to the words of the rest of Meridian.
//!
//! ```text
//! openraft                              here
//! LogId { leader term, index i }        LogId { term, index: i + 1 }
//! None (an empty log)                   LogId { 0, 0 }
//! D                                     Envelope: who asked, its number for the write, the record
//! Node                                  Address: how a member is reached
//! ```
//!
//! openraft counts entries from zero and the rest of Meridian (like etcd) from one, so that zero can mean
//! "nothing yet" without an `Option`. Every crossing goes through [`to_domain`] and [`to_raft`].
//!
//! Leader ids are in standard mode: at most one leader per term, so a term and an index name an entry.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use meridian_domain::revision::LogId;
use openraft::raft::responder::Responder;
use openraft::vote::leader_id_std;
use openraft::{OptionalSend, RaftTypeConfig};

use crate::snapshot::SnapshotData;

/// What one write is to the log: 8 bytes who asked, 8 bytes its number for the write, the record. The same
/// bytes stand in the WAL and on the wire; the parts are views of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope(Bytes);

impl Envelope {
    /// Bytes before the record.
    pub const HEADER_BYTES: usize = 16;

    /// Wraps a record.
    pub fn new(origin: u64, seq: u64, record: &Bytes) -> Self {
        let mut bytes = BytesMut::with_capacity(Self::HEADER_BYTES + record.len());
        bytes.put_u64(origin);
        bytes.put_u64(seq);
        bytes.put_slice(record);
        Self(bytes.freeze())
    }

    /// Takes encoded bytes, if they are long enough to hold the header.
    pub fn from_bytes(bytes: Bytes) -> Option<Self> {
        (bytes.len() >= Self::HEADER_BYTES).then_some(Self(bytes))
    }

    /// The encoded bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The member that asked.
    pub fn origin(&self) -> u64 {
        self.word(0)
    }

    /// Its number for the write.
    pub fn seq(&self) -> u64 {
        self.word(8)
    }

    /// The record, opaque here.
    pub fn record(&self) -> Bytes {
        self.0.slice(Self::HEADER_BYTES..)
    }

    fn word(&self, at: usize) -> u64 {
        let mut word = [0; 8];
        if let Some(bytes) = self.0.get(at..at + 8) {
            word.copy_from_slice(bytes);
        }
        u64::from_be_bytes(word)
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:x}/{:x} ({} bytes)",
            self.origin(),
            self.seq(),
            self.0.len()
        )
    }
}

/// How a member is reached, as the log's membership entries hold it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Address {
    /// Its name, if it was known when it was added.
    pub name: String,
    /// Where the others reach it.
    pub peer_urls: Vec<String>,
    /// It is to become a voter as soon as it has caught up.
    pub joining: bool,
}

/// The types openraft works with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeConfig;

impl RaftTypeConfig for TypeConfig {
    type D = Envelope;
    type R = ();
    type NodeId = u64;
    type Node = Address;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    type Responder<T>
        = Verdict<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type AsyncRuntime = openraft::TokioRuntime;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// A leader: term and member, at most one per term.
pub type LeaderId = leader_id_std::LeaderId<u64, u64>;
/// A leader a quorum granted: the term says it all.
pub type CommittedLeaderId = leader_id_std::CommittedLeaderId<u64>;
/// openraft's vote.
pub type Vote = openraft::Vote<LeaderId>;
/// openraft's log id.
pub type RaftLogId = openraft::LogId<CommittedLeaderId>;
/// openraft's content of an entry.
pub type Payload = openraft::EntryPayload<Envelope, u64, Address>;
/// openraft's entry.
pub type Entry = openraft::Entry<CommittedLeaderId, Payload>;
/// openraft's membership.
pub type Membership = openraft::Membership<u64, Address>;
/// openraft's membership with the entry that holds it.
pub type StoredMembership = openraft::StoredMembership<CommittedLeaderId, u64, Address>;
/// openraft's description of a snapshot.
pub type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId, u64, Address>;
/// openraft's snapshot: its description and where it lies.
pub type Snapshot = openraft::Snapshot<CommittedLeaderId, u64, Address, SnapshotData>;
/// openraft's handle, with our state machine.
pub type Raft = openraft::Raft<TypeConfig, crate::state_machine::StateMachine>;

/// What is called with the outcome of a write on the leader that appended it. A write that is applied is
/// answered by the member that asked, when it applies it itself; so only refusals matter here.
pub struct Verdict<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Verdict<T> {
    /// Wraps a function.
    pub fn new(then: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(then))
    }
}

impl<T: OptionalSend + 'static> Responder<TypeConfig, T> for Verdict<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

/// openraft's log id as the rest of Meridian counts.
pub fn to_domain(log_id: &RaftLogId) -> LogId {
    LogId {
        term: log_id.committed_leader_id().term,
        index: log_id.index() + 1,
    }
}

/// As [`to_domain`], with "nothing yet" as zero.
pub fn to_domain_or_zero(log_id: Option<&RaftLogId>) -> LogId {
    log_id.map(to_domain).unwrap_or_default()
}

/// The way back; zero is "nothing yet".
pub fn to_raft(log_id: LogId) -> Option<RaftLogId> {
    let index = log_id.index.checked_sub(1)?;
    Some(RaftLogId::new(CommittedLeaderId::new(log_id.term), index))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_envelope_gives_back_its_parts() {
        let envelope = Envelope::new(7, 9, &Bytes::from_static(b"record"));
        assert_eq!((envelope.origin(), envelope.seq()), (7, 9));
        assert_eq!(envelope.record(), &b"record"[..]);
        assert_eq!(
            Envelope::from_bytes(envelope.as_bytes().clone()).unwrap(),
            envelope
        );
        assert!(Envelope::from_bytes(Bytes::from_static(&[0; 15])).is_none());
    }

    #[test]
    fn the_first_entry_has_index_one_and_nothing_has_index_zero() {
        let first = RaftLogId::new(CommittedLeaderId::new(0), 0);
        assert_eq!(to_domain(&first), LogId { term: 0, index: 1 });
        assert_eq!(to_raft(LogId { term: 0, index: 1 }), Some(first));
        assert_eq!(to_raft(LogId::default()), None);
        assert_eq!(to_domain_or_zero(None), LogId::default());
    }
}
