//! The form of openraft's values: as members send them to each other, and as the WAL keeps them.
//!
//! Total one way; what comes from outside is checked the other way and refused with [`Malformed`].

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use meridian_domain::limits;
use meridian_domain::revision::LogId;
use meridian_proto::peer;
use meridian_storage::wal;
use openraft::entry::RaftEntry;
use openraft::raft::{AppendEntriesRequest, VoteRequest, VoteResponse};
use prost::Message;

use crate::settings::Founder;
use crate::type_config::{
    self, Address, Entry, Envelope, Membership, Payload, RaftLogId, StoredMembership, TypeConfig,
    Vote,
};

/// Bytes that do not mean anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct Malformed(pub &'static str);

// ---- log ids and votes ----------------------------------------------------------------------

/// A log id, absent for "nothing yet".
pub fn log_id(id: Option<&RaftLogId>) -> Option<peer::LogId> {
    id.map(|id| domain_log_id(type_config::to_domain(id)))
}

/// A log id.
pub fn domain_log_id(id: LogId) -> peer::LogId {
    peer::LogId {
        term: id.term,
        index: id.index,
    }
}

/// A log id, zero for "nothing yet".
pub fn parse_log_id(id: Option<&peer::LogId>) -> LogId {
    id.map(|id| LogId {
        term: id.term,
        index: id.index,
    })
    .unwrap_or_default()
}

/// openraft's log id.
pub fn parse_raft_log_id(id: Option<&peer::LogId>) -> Option<RaftLogId> {
    type_config::to_raft(parse_log_id(id))
}

/// A vote.
pub fn vote(vote: &Vote) -> peer::Vote {
    let leader = vote.leader_id();
    peer::Vote {
        term: leader.term,
        node: Some(leader.voted_for),
        committed: vote.is_committed(),
    }
}

/// The way back.
pub fn parse_vote(vote: Option<&peer::Vote>) -> Result<Vote, Malformed> {
    let vote = vote.ok_or(Malformed("vote"))?;
    let node = vote.node.ok_or(Malformed("vote"))?;
    Ok(if vote.committed {
        Vote::new_committed(vote.term, node)
    } else {
        Vote::new(vote.term, node)
    })
}

/// A vote as the WAL keeps it.
pub fn encode_vote(of: &Vote) -> Bytes {
    vote(of).encode_to_vec().into()
}

/// The way back.
pub fn decode_vote(bytes: &Bytes) -> Result<Vote, Malformed> {
    let vote = peer::Vote::decode(bytes.clone()).map_err(|_| Malformed("vote"))?;
    parse_vote(Some(&vote))
}

/// A request for a vote.
pub fn vote_request(request: &VoteRequest<TypeConfig>) -> peer::VoteRequest {
    peer::VoteRequest {
        vote: Some(vote(&request.vote)),
        last_log_id: log_id(request.last_log_id.as_ref()),
        leadership_transfer: request.leadership_transfer,
    }
}

/// The way back.
pub fn parse_vote_request(
    request: &peer::VoteRequest,
) -> Result<VoteRequest<TypeConfig>, Malformed> {
    Ok(VoteRequest {
        vote: parse_vote(request.vote.as_ref())?,
        last_log_id: parse_raft_log_id(request.last_log_id.as_ref()),
        leadership_transfer: request.leadership_transfer,
    })
}

/// The answer to a request for a vote.
pub fn vote_response(response: &VoteResponse<TypeConfig>) -> peer::VoteResponse {
    peer::VoteResponse {
        vote: Some(vote(&response.vote)),
        granted: response.vote_granted,
        last_log_id: log_id(response.last_log_id.as_ref()),
    }
}

/// The way back.
pub fn parse_vote_response(
    response: &peer::VoteResponse,
) -> Result<VoteResponse<TypeConfig>, Malformed> {
    Ok(VoteResponse {
        vote: parse_vote(response.vote.as_ref())?,
        vote_granted: response.granted,
        last_log_id: parse_raft_log_id(response.last_log_id.as_ref()),
    })
}

// ---- entries --------------------------------------------------------------------------------

/// An entry as the WAL keeps it. Costs no copy of a proposal.
pub fn entry_to_wal(entry: Entry) -> wal::Entry {
    let log_id = type_config::to_domain(&entry.log_id());
    let (kind, payload) = match entry.payload {
        Payload::Blank => (wal::Kind::Blank, Bytes::new()),
        Payload::Normal(envelope) => (wal::Kind::Normal, envelope.as_bytes().clone()),
        Payload::Membership(membership) => {
            (wal::Kind::Membership, encode_membership(None, &membership))
        }
    };
    wal::Entry {
        log_id,
        kind,
        payload,
    }
}

/// The way back.
pub fn entry_from_wal(entry: wal::Entry) -> Result<Entry, Malformed> {
    let log_id = type_config::to_raft(entry.log_id).ok_or(Malformed("log id"))?;
    let payload = match entry.kind {
        wal::Kind::Blank => Payload::Blank,
        wal::Kind::Normal => {
            Payload::Normal(Envelope::from_bytes(entry.payload).ok_or(Malformed("envelope"))?)
        }
        wal::Kind::Membership => Payload::Membership(decode_membership(&entry.payload)?.1),
    };
    Ok(Entry { log_id, payload })
}

/// Entries for another member. Proposals are shared, not copied.
pub fn append(request: AppendEntriesRequest<TypeConfig>, reserve: bool) -> peer::AppendEntries {
    peer::AppendEntries {
        vote: Some(vote(&request.vote)),
        prev_log_id: log_id(request.prev_log_id.as_ref()),
        entries: request
            .entries
            .into_iter()
            .map(|entry| {
                let entry = entry_to_wal(entry);
                peer::LogEntry {
                    log_id: Some(domain_log_id(entry.log_id)),
                    kind: u32::from(entry.kind as u8),
                    payload: entry.payload,
                }
            })
            .collect(),
        leader_commit: log_id(request.leader_commit.as_ref()),
        reserve,
    }
}

/// The way back. The entries must follow `prev_log_id` without a gap: openraft checks that only in debug
/// builds, and a gap would corrupt the log.
pub fn parse_append(
    request: peer::AppendEntries,
) -> Result<AppendEntriesRequest<TypeConfig>, Malformed> {
    let prev = parse_log_id(request.prev_log_id.as_ref());
    let mut index = prev.index;
    let mut term = prev.term;
    let mut entries = Vec::with_capacity(request.entries.len());
    for entry in request.entries {
        let log_id = parse_log_id(entry.log_id.as_ref());
        if log_id.index != index + 1 || log_id.term < term {
            return Err(Malformed("order of entries"));
        }
        (index, term) = (log_id.index, log_id.term);
        let kind = u8::try_from(entry.kind).ok().and_then(wal::Kind::of);
        let kind = kind.ok_or(Malformed("kind of entry"))?;
        // Its own allocation: a slice would keep the whole frame in memory with a value.
        let payload = Bytes::copy_from_slice(&entry.payload);
        entries.push(entry_from_wal(wal::Entry {
            log_id,
            kind,
            payload,
        })?);
    }
    Ok(AppendEntriesRequest {
        vote: parse_vote(request.vote.as_ref())?,
        prev_log_id: type_config::to_raft(prev),
        entries,
        leader_commit: parse_raft_log_id(request.leader_commit.as_ref()),
    })
}

// ---- memberships ----------------------------------------------------------------------------

/// A membership, with the entry that holds it.
pub fn membership(log_id: Option<LogId>, of: &Membership) -> peer::Membership {
    peer::Membership {
        log_id: log_id.map(domain_log_id),
        joint: of
            .get_joint_config()
            .iter()
            .map(|ids| peer::VoterSet {
                ids: ids.iter().copied().collect(),
            })
            .collect(),
        peers: of
            .nodes()
            .map(|(id, address)| peer::Peer {
                id: *id,
                name: address.name.clone(),
                peer_urls: address.peer_urls.clone(),
                joining: address.joining,
            })
            .collect(),
    }
}

/// The way back.
pub fn parse_membership(of: &peer::Membership) -> Result<(Option<LogId>, Membership), Malformed> {
    if of.peers.len() > limits::MEMBERS_MAX || of.joint.len() > 2 {
        return Err(Malformed("membership"));
    }
    let nodes: BTreeMap<u64, Address> = of
        .peers
        .iter()
        .map(|peer| {
            let address = Address {
                name: peer.name.clone(),
                peer_urls: peer.peer_urls.clone(),
                joining: peer.joining,
            };
            (peer.id, address)
        })
        .collect();
    let joint: Vec<BTreeSet<u64>> = of
        .joint
        .iter()
        .map(|set| set.ids.iter().copied().collect())
        .collect();
    let log_id = of.log_id.as_ref().map(|id| parse_log_id(Some(id)));
    if joint.is_empty() && nodes.is_empty() {
        return Ok((log_id, Membership::default()));
    }
    let membership = Membership::new(joint, nodes).map_err(|_| Malformed("membership"))?;
    Ok((log_id, membership))
}

/// A membership as the WAL and the state keep it.
pub fn encode_membership(log_id: Option<LogId>, of: &Membership) -> Bytes {
    membership(log_id, of).encode_to_vec().into()
}

/// The way back.
pub fn decode_membership(bytes: &Bytes) -> Result<(Option<LogId>, Membership), Malformed> {
    let membership =
        peer::Membership::decode(bytes.clone()).map_err(|_| Malformed("membership"))?;
    parse_membership(&membership)
}

/// The membership of a cluster that begins with these members, as the state keeps it: for restoring a
/// snapshot as a new cluster.
pub fn founding_membership(at: LogId, founders: &[Founder]) -> Result<Bytes, Malformed> {
    let nodes: BTreeMap<u64, Address> = founders
        .iter()
        .map(
            |Founder {
                 id,
                 name,
                 peer_urls,
             }| {
                let (name, peer_urls) = (name.clone(), peer_urls.clone());
                (
                    *id,
                    Address {
                        name,
                        peer_urls,
                        joining: false,
                    },
                )
            },
        )
        .collect();
    let voters = vec![nodes.keys().copied().collect()];
    let membership = Membership::new(voters, nodes).map_err(|_| Malformed("membership"))?;
    Ok(encode_membership(Some(at), &membership))
}

/// The vote of a member that begins from a restored state at `at`, as the WAL keeps it. That it is there says
/// that the log is this member's own and was not lost.
pub fn founding_vote(member: u64, at: LogId) -> Bytes {
    encode_vote(&Vote::new(at.term, member))
}

/// The membership the state keeps, as openraft wants it.
pub fn decode_stored_membership(bytes: Option<&Bytes>) -> Result<StoredMembership, Malformed> {
    let Some(bytes) = bytes else {
        return Ok(StoredMembership::default());
    };
    let (log_id, membership) = decode_membership(bytes)?;
    Ok(StoredMembership::new(
        log_id.and_then(type_config::to_raft),
        membership,
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use crate::type_config::CommittedLeaderId;

    fn entry(term: u64, index: u64, payload: Payload) -> Entry {
        Entry {
            log_id: RaftLogId::new(CommittedLeaderId::new(term), index),
            payload,
        }
    }

    fn some_membership() -> Membership {
        let address = |name: &str, joining| Address {
            name: name.into(),
            peer_urls: vec![format!("http://{name}:2380")],
            joining,
        };
        Membership::new(
            vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])],
            BTreeMap::from([
                (1, address("a", false)),
                (2, address("b", false)),
                (3, address("c", false)),
                (9, address("", true)),
            ]),
        )
        .unwrap()
    }

    #[test]
    fn votes_survive_the_log() {
        for vote in [Vote::new(3, 7), Vote::new_committed(u64::MAX, 1)] {
            assert_eq!(decode_vote(&encode_vote(&vote)).unwrap(), vote);
        }
        assert!(decode_vote(&Bytes::from_static(b"\xff")).is_err());
    }

    #[test]
    fn entries_of_every_kind_survive_the_log() {
        let envelope = Envelope::new(1, 2, &Bytes::from_static(b"put"));
        for payload in [
            Payload::Blank,
            Payload::Normal(envelope),
            Payload::Membership(some_membership()),
        ] {
            let entry = entry(4, 11, payload);
            let stored = entry_to_wal(entry.clone());
            assert_eq!(stored.log_id, LogId { term: 4, index: 12 });
            assert_eq!(entry_from_wal(stored).unwrap(), entry);
        }
    }

    #[test]
    fn entries_with_a_gap_are_refused() {
        let request = |prev: u64, first: u64| AppendEntriesRequest {
            vote: Vote::new_committed(4, 1),
            prev_log_id: Some(RaftLogId::new(CommittedLeaderId::new(4), prev)),
            entries: vec![
                entry(4, first, Payload::Blank),
                entry(4, first + 1, Payload::Blank),
            ],
            leader_commit: None,
        };
        let good = parse_append(append(request(10, 11), false)).unwrap();
        assert_eq!(good.entries.len(), 2);
        assert!(parse_append(append(request(10, 12), false)).is_err());
        assert!(parse_append(append(request(10, 10), false)).is_err());
    }

    #[test]
    fn a_membership_keeps_voters_learners_and_addresses() {
        let at = Some(LogId { term: 2, index: 5 });
        let bytes = encode_membership(at, &some_membership());
        assert_eq!(decode_membership(&bytes).unwrap(), (at, some_membership()));
        let stored = decode_stored_membership(Some(&bytes)).unwrap();
        assert_eq!(stored.membership(), &some_membership());
        assert_eq!(
            decode_stored_membership(None).unwrap(),
            StoredMembership::default()
        );
    }

    #[test]
    fn a_membership_with_a_voter_nobody_can_reach_is_refused() {
        let mut wire = membership(None, &some_membership());
        wire.peers.clear();
        assert!(parse_membership(&wire).is_err());
    }
}
