//! etcd's messages, between the wire and the domain.
//!
//! A request is read into a value that is well-formed by construction, or refused. Faults are looked for in
//! etcd's order, because the first one found is the one that is answered; what can be judged without any
//! state is judged here or in [`meridian_domain::kv::check`], nothing is judged twice differently.
//!
//! Answers are written from the domain's without loss. The caller gives the header: only it knows cluster,
//! member and term.
//!
//! Deliberately absent: whether a read is linearizable (`serializable` stays on the request for the caller to
//! see), permissions, limits on bytes.

pub mod event;
pub mod kv;
pub mod lease;
pub mod txn;

use crate::etcdserverpb::ResponseHeader;

/// The header of an answer inside a transaction's answer: nothing but the revision.
fn inner_header(revision: i64) -> ResponseHeader {
    ResponseHeader {
        revision,
        ..ResponseHeader::default()
    }
}
