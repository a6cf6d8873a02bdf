//! Everything a record can hold, at random.
#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use meridian_domain::command::{
    AlarmKind, Command, Guards, MemberRecord, Proposal, Receipt, Reply, Verdict,
};
use meridian_domain::key::{KeyRange, RangeEnd, Space};
use meridian_domain::kv::{
    Delete, KeyValue, Order, Put, Range, RangeReply, RevisionBounds, Target,
};
use meridian_domain::name::{TenantId, TenantName};
use meridian_domain::revision::LogId;
use meridian_domain::stamp::{RequestId, Stamp};
use meridian_domain::tenant::{Quota, Retention, TenantRecord};
use meridian_domain::txn::{Compare, Op, OpReply, Operand, Relation, Txn, TxnReply};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn any_bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

fn any_space() -> impl Strategy<Value = Space> {
    any::<u8>().prop_map(Space)
}

fn any_range() -> impl Strategy<Value = KeyRange> {
    let end = prop_oneof![
        Just(RangeEnd::Single),
        Just(RangeEnd::Open),
        any_bytes().prop_map(RangeEnd::Before),
    ];
    (any_bytes(), end).prop_map(|(start, end)| KeyRange { start, end })
}

fn any_put() -> impl Strategy<Value = Put> {
    let content = (
        any_bytes(),
        option::of(any_bytes()),
        option::of(any::<i64>()),
    );
    (any_space(), content, any::<bool>()).prop_map(|(space, (key, value, lease), prev_kv)| Put {
        space,
        key,
        value,
        lease,
        prev_kv,
    })
}

fn any_delete() -> impl Strategy<Value = Delete> {
    (any_space(), any_range(), any::<bool>()).prop_map(|(space, range, prev_kv)| Delete {
        space,
        range,
        prev_kv,
    })
}

fn any_read() -> impl Strategy<Value = Range> {
    let order = prop_oneof![
        Just(Order::Unordered),
        Just(Order::Ascend),
        Just(Order::Descend)
    ];
    let target = prop_oneof![
        Just(Target::Key),
        Just(Target::Version),
        Just(Target::Create),
        Just(Target::Mod),
        Just(Target::Value),
    ];
    let numbers = any::<[i64; 6]>();
    (
        any_space(),
        any_range(),
        order,
        target,
        any::<[bool; 2]>(),
        numbers,
    )
        .prop_map(
            |(space, range, order, target, [keys_only, count_only], n)| Range {
                space,
                range,
                revision: n[0],
                limit: n[1],
                order,
                target,
                keys_only,
                count_only,
                bounds: RevisionBounds {
                    mod_min: n[2],
                    mod_max: n[3],
                    create_min: n[4],
                    create_max: n[5],
                },
            },
        )
}

fn any_compare() -> impl Strategy<Value = Compare> {
    let relation = prop_oneof![
        Just(Relation::Equal),
        Just(Relation::Greater),
        Just(Relation::Less),
        Just(Relation::NotEqual),
    ];
    let operand = prop_oneof![
        any::<i64>().prop_map(Operand::Version),
        any::<i64>().prop_map(Operand::Create),
        any::<i64>().prop_map(Operand::Mod),
        any_bytes().prop_map(Operand::Value),
        any::<i64>().prop_map(Operand::Lease),
    ];
    (any_space(), any_range(), relation, operand).prop_map(|(space, range, relation, operand)| {
        Compare {
            space,
            range,
            relation,
            operand,
        }
    })
}

fn any_txn() -> impl Strategy<Value = Txn> {
    let leaf = prop_oneof![
        any_put().prop_map(Op::Put),
        any_delete().prop_map(Op::Delete),
        any_read().prop_map(Op::Range),
    ];
    let op = leaf.prop_recursive(4, 24, 3, |op| {
        (
            vec(any_compare(), 0..2),
            vec(op.clone(), 0..3),
            vec(op, 0..3),
        )
            .prop_map(|(compares, success, failure)| {
                Op::Txn(Txn {
                    compares,
                    success,
                    failure,
                })
            })
    });
    (
        vec(any_compare(), 0..3),
        vec(op.clone(), 0..4),
        vec(op, 0..4),
    )
        .prop_map(|(compares, success, failure)| Txn {
            compares,
            success,
            failure,
        })
}

fn any_name() -> impl Strategy<Value = TenantName> {
    "[a-z0-9][a-z0-9._-]{0,62}".prop_map(|name| TenantName::new(&name).unwrap())
}

fn any_quota() -> impl Strategy<Value = Quota> {
    any::<[u64; 4]>().prop_map(|[bytes, keys, watchers, requests_per_second]| Quota {
        bytes,
        keys,
        watchers,
        requests_per_second,
    })
}

fn any_retention() -> impl Strategy<Value = Retention> {
    any::<[u64; 2]>().prop_map(|[revisions, seconds]| Retention { revisions, seconds })
}

fn any_member() -> impl Strategy<Value = MemberRecord> {
    let words = (".{0,9}", vec(".{0,9}", 0..3), ".{0,9}", ".{0,9}", ".{0,9}");
    (any::<[u64; 2]>(), words).prop_map(
        |([id, instance], (name, client_urls, region, zone, version))| MemberRecord {
            id,
            name,
            client_urls,
            region,
            zone,
            version,
            instance,
        },
    )
}

fn any_command() -> impl Strategy<Value = Command> {
    let kind = || prop_oneof![Just(AlarmKind::NoSpace), Just(AlarmKind::Corrupt)];
    prop_oneof![
        6 => any_txn().prop_map(Command::Txn),
        1 => any::<[i64; 2]>()
            .prop_map(|[id, ttl_seconds]| Command::LeaseGrant { id, ttl_seconds }),
        1 => any::<i64>().prop_map(|id| Command::LeaseRevoke { id }),
        1 => vec(any::<(i64, i64)>(), 0..5)
            .prop_map(|remaining| Command::LeaseCheckpoint { remaining }),
        1 => any::<i64>().prop_map(|revision| Command::Compact { revision }),
        1 => (any_name(), any_quota(), any_retention())
            .prop_map(|(name, quota, retention)| Command::TenantCreate { name, quota, retention }),
        1 => (any_name(), option::of(any_quota()), option::of(any_retention()))
            .prop_map(|(name, quota, retention)| Command::TenantChange { name, quota, retention }),
        1 => any_name().prop_map(|name| Command::TenantDelete { name }),
        1 => (any::<u64>(), kind(), any::<bool>())
            .prop_map(|(member, kind, raised)| Command::Alarm { member, kind, raised }),
        1 => any_member().prop_map(Command::MemberPublish),
        1 => any::<u64>().prop_map(|id| Command::MemberForget { id }),
    ]
}

pub(super) fn any_proposal() -> impl Strategy<Value = Proposal> {
    let request_id = option::of(vec(any::<u8>(), 1..=128))
        .prop_map(|id| id.map(|id| RequestId::new(Bytes::from(id)).unwrap()));
    let guards =
        (option::of(any::<u64>()), option::of(any::<u64>())).prop_map(|(rules_revision, term)| {
            Guards {
                rules_revision,
                term,
            }
        });
    (
        any::<u32>(),
        request_id,
        ".{0,9}",
        any::<u64>(),
        guards,
        any_command(),
    )
        .prop_map(
            |(tenant, request_id, actor, unix_ms, guards, command)| Proposal {
                tenant: TenantId(tenant),
                request_id,
                actor: actor.into_boxed_str(),
                stamp: Stamp { unix_ms },
                guards,
                command,
            },
        )
}

fn any_kv() -> impl Strategy<Value = KeyValue> {
    (any_bytes(), any_bytes(), any::<[i64; 4]>()).prop_map(|(key, value, n)| KeyValue {
        key,
        create_revision: n[0],
        mod_revision: n[1],
        version: n[2],
        value,
        lease: n[3],
    })
}

fn any_reply() -> impl Strategy<Value = Reply> {
    let leaf = prop_oneof![
        (any::<i64>(), option::of(any_kv()))
            .prop_map(|(revision, prev_kv)| OpReply::Put { revision, prev_kv }),
        (any::<[i64; 2]>(), vec(any_kv(), 0..3)).prop_map(|([revision, deleted], prev_kvs)| {
            OpReply::Delete {
                revision,
                deleted,
                prev_kvs,
            }
        }),
        (any::<[i64; 2]>(), vec(any_kv(), 0..3), any::<bool>()).prop_map(
            |([revision, count], kvs, more)| OpReply::Range {
                revision,
                reply: RangeReply { kvs, more, count }
            }
        ),
    ];
    let op = leaf.prop_recursive(4, 16, 3, |op| {
        (any::<bool>(), vec(op, 0..3))
            .prop_map(|(succeeded, replies)| OpReply::Txn(TxnReply { succeeded, replies }))
    });
    let tenant = (
        any::<u32>(),
        any_name(),
        any_quota(),
        any_retention(),
        any::<u64>(),
    )
        .prop_map(|(id, name, quota, retention, unix_ms)| TenantRecord {
            id: TenantId(id),
            name,
            quota,
            retention,
            created: Stamp { unix_ms },
        });
    prop_oneof![
        (any::<bool>(), vec(op, 0..4))
            .prop_map(|(succeeded, replies)| Reply::Txn(TxnReply { succeeded, replies })),
        any::<[i64; 2]>().prop_map(|[id, ttl_seconds]| Reply::LeaseGranted { id, ttl_seconds }),
        tenant.prop_map(Reply::Tenant),
        any::<bool>().prop_map(|changed| Reply::Alarm { changed }),
        Just(Reply::Done),
    ]
}

pub(super) fn any_receipt() -> impl Strategy<Value = Receipt> {
    (any::<[u64; 2]>(), any::<i64>(), any_reply()).prop_map(|([term, index], revision, reply)| {
        Receipt {
            log_id: LogId { term, index },
            revision,
            verdict: Verdict::Applied(reply),
        }
    })
}
