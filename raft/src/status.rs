//! What a member knows about itself and the cluster, for everybody who asks.

use meridian_domain::revision::LogId;

/// A member's view of itself and the cluster at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The cluster.
    pub cluster_id: u64,
    /// This member.
    pub id: u64,
    /// The leader, if one is known and was heard of within an election timeout.
    pub leader: Option<u64>,
    /// The term.
    pub term: u64,
    /// The last entry of the log.
    pub last_index: u64,
    /// How far the log is known to be committed.
    pub commit_index: u64,
    /// How far it was applied here.
    pub applied: LogId,
    /// The last entry covered by a snapshot on disk.
    pub snapshot: LogId,
    /// Entries up to here were purged from the log.
    pub purged: LogId,
    /// This member leads, and a quorum confirmed it within an election timeout.
    pub is_leader: bool,
    /// This member has no vote, and none is planned for it.
    pub is_learner: bool,
    /// The state of this member differs from that of most others: it serves nothing.
    pub fenced: bool,
    /// This member takes back what its damaged log forgot: until then it does not vote.
    pub recovering: bool,
    /// The others refuse this member, for good.
    pub expelled: Option<Expelled>,
    /// The members, by id.
    pub members: Vec<Peer>,
}

/// A member of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_field_names,
    reason = "a peer has peer URLs and client URLs"
)]
pub struct Peer {
    /// Its id.
    pub id: u64,
    /// Its name; empty for one that was added and has not started yet.
    pub name: String,
    /// Where the other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it, once it has published that.
    pub client_urls: Vec<String>,
    /// It has no vote and is not about to get one.
    pub learner: bool,
    /// It has a vote in the log's terms (one that was just added gets it when it has caught up).
    pub voter: bool,
    /// It has started at least once.
    pub started: bool,
}

/// Why the others refuse a member for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expelled {
    /// It was removed from the cluster.
    Removed,
    /// It came back under its id with another disk.
    ReusedId,
}

/// What [`crate::replica::Replica::changed`] tells: the parts of [`Status`] that move seldom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The leader, if one is known and was heard of within an election timeout.
    pub leader: Option<u64>,
    /// The term.
    pub term: u64,
    /// This member leads, and a quorum confirmed it within an election timeout.
    pub is_leader: bool,
    /// The log index of the newest membership.
    pub membership_index: u64,
    /// The state of this member differs from that of most others.
    pub fenced: bool,
    /// The others refuse this member, for good.
    pub expelled: Option<Expelled>,
    /// openraft stopped, with what it said last. The process should end.
    pub broken: Option<String>,
}
