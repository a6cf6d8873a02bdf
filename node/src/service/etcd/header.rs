//! The header of every answer: which cluster, which member, at which revision, in which term.

use meridian_proto::etcdserverpb::ResponseHeader;

use crate::pipeline::Pipeline;

impl Pipeline {
    /// All four fields: KV, lease, auth, hash, status, alarm, lock, election.
    pub fn header(&self, revision: i64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.ids.cluster,
            member_id: self.ids.member,
            revision,
            raft_term: self.standing.borrow().term,
        }
    }

    /// Without a revision: membership, and watches that ended because of compaction.
    pub fn header_without_revision(&self) -> ResponseHeader {
        self.header(0)
    }
}

/// Inside a transaction the answers of operations carry the revision alone.
pub fn of_op(revision: i64) -> ResponseHeader {
    ResponseHeader {
        revision,
        ..ResponseHeader::default()
    }
}
