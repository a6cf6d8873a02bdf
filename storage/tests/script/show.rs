//! Answers as scripts show them.

use std::fmt::Write;

use bytes::Bytes;
use meridian_domain::command::{Commit, Receipt, Reply, Verdict};
use meridian_domain::kv::{KeyValue, RangeReply};
use meridian_domain::rejection::Rejection;
use meridian_domain::tenant::{TenantRecord, Usage};
use meridian_domain::txn::{OpReply, TxnReply};
use meridian_domain::view::LeaseView;
use meridian_storage::row::Version;

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn kv(kv: &KeyValue) -> String {
    let KeyValue {
        key,
        create_revision: c,
        mod_revision: m,
        version: v,
        value,
        lease,
    } = kv;
    let lease = if *lease == 0 {
        String::new()
    } else {
        format!(" lease={lease}")
    };
    format!(
        "{}={} create={c} mod={m} version={v}{lease}",
        text(key),
        text(value)
    )
}

pub fn range(reply: &RangeReply) -> String {
    let mut said = format!(
        " count {}{}\n",
        reply.count,
        if reply.more { ", more" } else { "" }
    );
    for row in &reply.kvs {
        let _ = writeln!(said, "  {}", kv(row));
    }
    said
}

pub fn refused(rejection: &Rejection) -> String {
    let hint = rejection
        .hint()
        .map(|hint| format!("\n  {hint}"))
        .unwrap_or_default();
    format!("{}: {rejection}{hint}\n", rejection.code())
}

pub fn receipt(receipt: &Receipt) -> String {
    let revision = receipt.revision;
    match &receipt.verdict {
        Verdict::Stale => format!("@{revision} stale\n"),
        Verdict::Rejected(rejection) => format!("@{revision} {}", refused(rejection)),
        Verdict::Applied(reply) => match reply {
            Reply::Txn(txn) => match (txn.replies.as_slice(), txn.succeeded) {
                ([one @ (OpReply::Put { .. } | OpReply::Delete { .. })], true) => {
                    format!("@{revision} {}", op(one, 0))
                }
                _ => format!("@{revision} {}", branch(txn, 0)),
            },
            Reply::LeaseGranted { id, ttl_seconds } => {
                format!("@{revision} lease {id} for {ttl_seconds} s\n")
            }
            Reply::Tenant(record) => {
                format!("@{revision} tenant {} is {}\n", record.name, record.id)
            }
            Reply::Alarm { changed } => format!("@{revision} alarm changed: {changed}\n"),
            Reply::Done => format!("@{revision} done\n"),
        },
    }
}

fn branch(reply: &TxnReply, depth: usize) -> String {
    let mut said = format!(
        "txn {}\n",
        if reply.succeeded {
            "success"
        } else {
            "failure"
        }
    );
    for one in &reply.replies {
        let _ = write!(said, "{}- {}", "  ".repeat(depth), op(one, depth + 1));
    }
    said
}

fn op(reply: &OpReply, depth: usize) -> String {
    let indent = "  ".repeat(depth + 1);
    match reply {
        OpReply::Put { revision, prev_kv } => {
            let mut said = format!("put @{revision}\n");
            if let Some(prev) = prev_kv {
                let _ = writeln!(said, "{indent}was {}", kv(prev));
            }
            said
        }
        OpReply::Delete {
            revision,
            deleted,
            prev_kvs,
        } => {
            let mut said = format!("delete @{revision}: {deleted}\n");
            for prev in prev_kvs {
                let _ = writeln!(said, "{indent}was {}", kv(prev));
            }
            said
        }
        OpReply::Range { revision, reply } => {
            let mut said = format!("get @{revision} count {}\n", reply.count);
            for row in &reply.kvs {
                let _ = writeln!(said, "{indent}{}", kv(row));
            }
            said
        }
        OpReply::Txn(inner) => branch(inner, depth),
    }
}

/// What was changed, as history has it.
pub fn commit(commit: &Commit) -> String {
    let mut said = String::new();
    for (sub, change) in commit.changes.rows.iter().enumerate() {
        let revision = commit.changes.revision;
        let before = change
            .before
            .as_ref()
            .map_or("nothing".into(), |kv| text(&kv.value));
        let after = match &change.after {
            Some(after) => format!("put {}", kv(after)),
            None => format!("delete {}", text(&change.key)),
        };
        let _ = writeln!(said, "    {revision}.{sub} {after} (was {before})");
    }
    said
}

pub fn version(version: &Version) -> String {
    let (revision, sub) = (version.at.revision, version.at.sub);
    match &version.after {
        Some(after) => format!(
            "{revision}.{sub} put {}={}\n",
            text(&after.key),
            text(&after.value)
        ),
        None => format!("{revision}.{sub} delete {}\n", text(&version.key)),
    }
}

pub fn lease(lease: Option<LeaseView>, keys: &[Bytes]) -> String {
    let Some(lease) = lease else {
        return "gone\n".into();
    };
    let keys: Vec<String> = keys.iter().map(|key| text(key)).collect();
    format!(
        "lease {} for {} s, checkpoint {} s, keys [{}]\n",
        lease.id,
        lease.ttl_seconds,
        lease.checkpoint_seconds,
        keys.join(" ")
    )
}

pub fn tenant((record, usage): &(TenantRecord, Usage)) -> String {
    format!(
        "{} {}: {} keys of {}, {} bytes of {}\n",
        record.id, record.name, usage.keys, record.quota.keys, usage.bytes, record.quota.bytes
    )
}
