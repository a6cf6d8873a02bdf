//! What can be changed about the membership, and why not.

use meridian_proto::peer;

use crate::unavailable::Unavailable;

/// Why a change of the membership was not made. `Display` is etcd's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// No such member, now.
    #[error("etcdserver: member not found")]
    NotFound,
    /// The id is taken.
    #[error("etcdserver: member ID already exist")]
    IdExists,
    /// Another member is reached at the same URL.
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlExists,
    /// A URL can not be dialled.
    #[error("etcdserver: given member URLs are invalid")]
    InvalidUrls,
    /// As many learners as the settings allow.
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    /// As many members as a cluster can have.
    #[error("meridian: the cluster has as many members as it can have")]
    TooManyMembers,
    /// The member is a voter already.
    #[error("etcdserver: can only promote a learner member")]
    NotLearner,
    /// The learner's log is too far behind.
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    /// Too few voters would be left that have started.
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    /// Too few voters are connected.
    #[error("etcdserver: unhealthy cluster")]
    Unhealthy,
    /// Leadership can not go there: not a voter, or not a member.
    #[error("etcdserver: bad leader transferee")]
    BadTransferee,
    /// Leadership did not arrive in time.
    #[error("etcdserver: request timed out, leader transfer took too long")]
    TransferTimedOut,
    /// This member does not lead.
    #[error("etcdserver: not leader")]
    NotLeader,
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl MembershipError {
    const CODES: [Self; 13] = [
        Self::NotFound,
        Self::IdExists,
        Self::PeerUrlExists,
        Self::InvalidUrls,
        Self::TooManyLearners,
        Self::TooManyMembers,
        Self::NotLearner,
        Self::LearnerNotReady,
        Self::NotEnoughStarted,
        Self::Unhealthy,
        Self::BadTransferee,
        Self::TransferTimedOut,
        Self::NotLeader,
    ];

    /// The number members tell each other; zero is "no refusal".
    pub(crate) fn to_wire(self) -> u32 {
        let place = Self::CODES.iter().position(|code| *code == self);
        place.map_or(u32::MAX, |place| place as u32 + 1)
    }

    /// The way back.
    pub(crate) fn from_wire(code: u32) -> Self {
        let place = (code as usize).wrapping_sub(1);
        Self::CODES
            .get(place)
            .copied()
            .unwrap_or(Self::Unavailable(Unavailable::OutcomeUnknown))
    }
}

/// A change of the membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adds a member.
    Add {
        /// Its id, not used before.
        id: u64,
        /// Where the others reach it.
        peer_urls: Vec<String>,
        /// Whether it stays a learner.
        learner: bool,
    },
    /// Makes a learner a voter.
    Promote(u64),
    /// Removes a member for good.
    Remove(u64),
    /// Says where a member is reached from now on.
    Update {
        /// Which.
        id: u64,
        /// Where.
        peer_urls: Vec<String>,
    },
}

impl Change {
    /// As members send it.
    pub(crate) fn to_wire(&self, timeout_ms: u64) -> peer::MembershipChange {
        use peer::membership_change::Change as Wire;
        let peer = |id: u64, peer_urls: &[String]| peer::Peer {
            id,
            peer_urls: peer_urls.to_vec(),
            ..peer::Peer::default()
        };
        let change = match self {
            Self::Add {
                id,
                peer_urls,
                learner,
            } => Wire::Add(peer::AddMember {
                peer: Some(peer(*id, peer_urls)),
                learner: *learner,
            }),
            Self::Promote(id) => Wire::Promote(*id),
            Self::Remove(id) => Wire::Remove(*id),
            Self::Update { id, peer_urls } => Wire::Update(peer(*id, peer_urls)),
        };
        peer::MembershipChange {
            change: Some(change),
            timeout_ms,
        }
    }

    /// The way back; none if it says nothing.
    pub(crate) fn from_wire(change: peer::MembershipChange) -> Option<Self> {
        use peer::membership_change::Change as Wire;
        Some(match change.change? {
            Wire::Add(add) => {
                let peer = add.peer?;
                Self::Add {
                    id: peer.id,
                    peer_urls: peer.peer_urls,
                    learner: add.learner,
                }
            }
            Wire::Promote(id) => Self::Promote(id),
            Wire::Remove(id) => Self::Remove(id),
            Wire::Update(peer) => Self::Update {
                id: peer.id,
                peer_urls: peer.peer_urls,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn refusals_survive_the_wire() {
        for error in MembershipError::CODES {
            assert_ne!(error.to_wire(), 0);
            assert_eq!(MembershipError::from_wire(error.to_wire()), error);
        }
        let unknown = MembershipError::from_wire(99);
        assert!(matches!(unknown, MembershipError::Unavailable(_)));
    }

    #[test]
    fn changes_survive_the_wire() {
        let urls = vec!["http://a:1".to_owned()];
        for change in [
            Change::Add {
                id: 1,
                peer_urls: urls.clone(),
                learner: true,
            },
            Change::Promote(2),
            Change::Remove(3),
            Change::Update {
                id: 4,
                peer_urls: urls,
            },
        ] {
            assert_eq!(Change::from_wire(change.to_wire(5)).unwrap(), change);
        }
        assert!(Change::from_wire(peer::MembershipChange::default()).is_none());
    }
}
