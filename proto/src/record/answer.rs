//! Answers: what a proposal that took effect was answered with (`schema/record/answer.proto`).
//!
//! Kept beside the request id, so that a retry hears the same again. What was refused or stale changed
//! nothing and is not kept: a retry of it is judged anew.

use bytes::Bytes;
use meridian_domain::command::{Receipt, Reply, Verdict};
use meridian_domain::kv::{KeyValue, RangeReply};
use meridian_domain::revision::LogId;
use meridian_domain::txn::{OpReply, TxnReply};

use super::schema::answer::Reply as Body;
use super::schema::op_reply;
use super::{NESTING_MAX, Unreadable, open, required, schema, seal, tenant};

/// The version this program writes and reads; the first byte of the record.
pub const VERSION: u8 = 1;

/// Encodes the receipt of a proposal that took effect; none if it did not.
pub fn encode(receipt: &Receipt) -> Option<Bytes> {
    let Verdict::Applied(reply) = &receipt.verdict else {
        return None;
    };
    let reply = match reply {
        Reply::Txn(txn) => Body::Txn(write_txn(txn)),
        Reply::LeaseGranted { id, ttl_seconds } => Body::LeaseGranted(schema::LeaseGranted {
            id: *id,
            ttl_seconds: *ttl_seconds,
        }),
        Reply::Tenant(record) => Body::Tenant(tenant::write_tenant(record)),
        Reply::Alarm { changed } => Body::AlarmChanged(*changed),
        Reply::Done => Body::Done(schema::Done {}),
    };
    let message = schema::Answer {
        term: receipt.log_id.term,
        index: receipt.log_id.index,
        revision: receipt.revision,
        reply: Some(reply),
    };
    Some(seal(VERSION, &message))
}

/// Decodes the receipt of a proposal that took effect. Nothing in it shares memory with `record`.
pub fn decode(record: &[u8]) -> Result<Receipt, Unreadable> {
    let message: schema::Answer = open(VERSION, record)?;
    let reply = match required(message.reply, "reply")? {
        Body::Txn(txn) => Reply::Txn(read_txn(txn, 1)?),
        Body::LeaseGranted(lease) => Reply::LeaseGranted {
            id: lease.id,
            ttl_seconds: lease.ttl_seconds,
        },
        Body::Tenant(record) => Reply::Tenant(tenant::read_tenant(&record)?),
        Body::AlarmChanged(changed) => Reply::Alarm { changed },
        Body::Done(schema::Done {}) => Reply::Done,
    };
    Ok(Receipt {
        log_id: LogId {
            term: message.term,
            index: message.index,
        },
        revision: message.revision,
        verdict: Verdict::Applied(reply),
    })
}

fn write_txn(reply: &TxnReply) -> schema::TxnReply {
    schema::TxnReply {
        succeeded: reply.succeeded,
        replies: reply.replies.iter().map(write_op).collect(),
    }
}

fn write_op(reply: &OpReply) -> schema::OpReply {
    let reply = match reply {
        OpReply::Put { revision, prev_kv } => op_reply::Reply::Put(schema::PutReply {
            revision: *revision,
            prev_kv: prev_kv.as_ref().map(write_kv),
        }),
        OpReply::Delete {
            revision,
            deleted,
            prev_kvs,
        } => op_reply::Reply::Delete(schema::DeleteReply {
            revision: *revision,
            deleted: *deleted,
            prev_kvs: prev_kvs.iter().map(write_kv).collect(),
        }),
        OpReply::Range { revision, reply } => op_reply::Reply::Range(schema::RangeReply {
            revision: *revision,
            kvs: reply.kvs.iter().map(write_kv).collect(),
            more: reply.more,
            count: reply.count,
        }),
        OpReply::Txn(txn) => op_reply::Reply::Txn(write_txn(txn)),
    };
    schema::OpReply { reply: Some(reply) }
}

fn write_kv(kv: &KeyValue) -> schema::KeyValue {
    schema::KeyValue {
        key: kv.key.clone(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value.clone(),
        lease: kv.lease,
    }
}

/// Reads a reply that stands `depth` levels deep, the outermost at 1.
fn read_txn(reply: schema::TxnReply, depth: usize) -> Result<TxnReply, Unreadable> {
    if depth > NESTING_MAX {
        return Err(Unreadable::TooDeep);
    }
    let replies = reply.replies.into_iter().map(|op| read_op(op, depth));
    Ok(TxnReply {
        succeeded: reply.succeeded,
        replies: replies.collect::<Result<_, _>>()?,
    })
}

fn read_op(reply: schema::OpReply, depth: usize) -> Result<OpReply, Unreadable> {
    Ok(match required(reply.reply, "reply to an operation")? {
        op_reply::Reply::Put(put) => OpReply::Put {
            revision: put.revision,
            prev_kv: put.prev_kv.map(read_kv),
        },
        op_reply::Reply::Delete(delete) => OpReply::Delete {
            revision: delete.revision,
            deleted: delete.deleted,
            prev_kvs: delete.prev_kvs.into_iter().map(read_kv).collect(),
        },
        op_reply::Reply::Range(range) => OpReply::Range {
            revision: range.revision,
            reply: RangeReply {
                kvs: range.kvs.into_iter().map(read_kv).collect(),
                more: range.more,
                count: range.count,
            },
        },
        op_reply::Reply::Txn(txn) => OpReply::Txn(read_txn(txn, depth + 1)?),
    })
}

fn read_kv(kv: schema::KeyValue) -> KeyValue {
    KeyValue {
        key: kv.key,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value,
        lease: kv.lease,
    }
}
