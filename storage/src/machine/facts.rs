//! Facts, encoded: everything of the state that is overwritten in place.
//!
//! ```text
//!   key                                      value: a byte 1, then a protobuf message
//!   01                                       digest
//!   02                                       number of the next tenant
//!   03                                       membership (raft's own bytes behind the byte 1)
//!   04 member:8 kind:1                       alarm that is raised
//!   05 member:8                              what a member published
//!   10 tenant:4                              tenant
//!   11 tenant:4                              counters
//!   12 tenant:4 lease:8                      lease
//!   13 tenant:4 request id                   applied request; tenant 0 is the cluster
//! ```
//!
//! Numbers in keys are big-endian; lease ids have their sign bit flipped, so that they sort. A byte other
//! than 1, or a key this version does not know, was written by a newer version and refused.
//! `storage/docs/FORMATS.md` lists the messages.

use bytes::{BufMut, Bytes, BytesMut};
use meridian_domain::command::{AlarmKind, MemberRecord};
use meridian_domain::kv::LeaseId;
use meridian_domain::name::{TenantId, TenantName};
use meridian_domain::revision::{LogId, Revision};
use meridian_domain::stamp::Stamp;
use meridian_domain::tenant::{Quota, Retention, TenantRecord};
use prost::Message;

use super::requests::Remembered;
use crate::fault::Fault;
use crate::mvcc::Keyspace;
use crate::mvcc::lease::{self, Lease};

const VERSION: u8 = 1;

const DIGEST: u8 = 0x01;
const NEXT_TENANT: u8 = 0x02;
const MEMBERSHIP: u8 = 0x03;
const ALARM: u8 = 0x04;
const MEMBER: u8 = 0x05;
const TENANT: u8 = 0x10;
const COUNTERS: u8 = 0x11;
const LEASE: u8 = 0x12;
const REQUEST: u8 = 0x13;

#[derive(Clone, PartialEq, Message)]
struct DigestBody {
    #[prost(fixed64, tag = "1")]
    hash: u64,
}

#[derive(Clone, PartialEq, Message)]
struct NextTenantBody {
    #[prost(uint32, tag = "1")]
    id: u32,
}

#[derive(Clone, PartialEq, Message)]
struct MemberBody {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, repeated, tag = "2")]
    client_urls: Vec<String>,
    #[prost(string, tag = "3")]
    region: String,
    #[prost(string, tag = "4")]
    zone: String,
    #[prost(string, tag = "5")]
    version: String,
    #[prost(fixed64, tag = "6")]
    instance: u64,
}

#[derive(Clone, PartialEq, Message)]
struct TenantBody {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    quota_bytes: u64,
    #[prost(uint64, tag = "3")]
    quota_keys: u64,
    #[prost(uint64, tag = "4")]
    quota_watchers: u64,
    #[prost(uint64, tag = "5")]
    quota_requests_per_second: u64,
    #[prost(uint64, tag = "6")]
    retention_revisions: u64,
    #[prost(uint64, tag = "7")]
    retention_seconds: u64,
    #[prost(uint64, tag = "8")]
    created_unix_ms: u64,
}

#[derive(Clone, PartialEq, Message)]
struct CountersBody {
    #[prost(int64, tag = "1")]
    revision: i64,
    #[prost(int64, tag = "2")]
    compacted: i64,
    #[prost(uint64, tag = "3")]
    rules_revision: u64,
}

#[derive(Clone, PartialEq, Message)]
struct LeaseBody {
    #[prost(int64, tag = "1")]
    ttl_seconds: i64,
    #[prost(int64, tag = "2")]
    checkpoint_seconds: i64,
}

#[derive(Clone, PartialEq, Message)]
struct RequestBody {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
    #[prost(int64, tag = "3")]
    revision: i64,
    #[prost(bytes = "bytes", optional, tag = "4")]
    answer: Option<Bytes>,
}

/// A fact, decoded.
#[derive(Debug)]
pub(super) enum Fact {
    Digest(u64),
    NextTenant(u32),
    Membership(Bytes),
    Alarm(u64, AlarmKind),
    Member(MemberRecord),
    Tenant(TenantRecord),
    Counters {
        tenant: TenantId,
        revision: Revision,
        compacted: Revision,
        rules_revision: u64,
    },
    Lease(TenantId, Lease),
    Request(TenantId, Remembered),
}

fn key(tag: u8, parts: &[&[u8]]) -> Bytes {
    let mut key = BytesMut::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
    key.put_u8(tag);
    for part in parts {
        key.put_slice(part);
    }
    key.freeze()
}

fn value(body: &impl Message) -> Bytes {
    let mut value = BytesMut::with_capacity(1 + body.encoded_len());
    value.put_u8(VERSION);
    body.encode_raw(&mut value);
    value.freeze()
}

pub(super) fn digest_key() -> Bytes {
    Bytes::from_static(&[DIGEST])
}

pub(super) fn digest(hash: u64) -> Bytes {
    value(&DigestBody { hash })
}

pub(super) fn next_tenant_key() -> Bytes {
    Bytes::from_static(&[NEXT_TENANT])
}

pub(super) fn next_tenant(id: u32) -> Bytes {
    value(&NextTenantBody { id })
}

pub(super) fn membership_key() -> Bytes {
    Bytes::from_static(&[MEMBERSHIP])
}

pub(super) fn membership(encoded: &[u8]) -> Bytes {
    key(VERSION, &[encoded])
}

pub(super) fn alarm_key(member: u64, kind: AlarmKind) -> Bytes {
    let kind = match kind {
        AlarmKind::NoSpace => 1,
        AlarmKind::Corrupt => 2,
    };
    key(ALARM, &[&member.to_be_bytes(), &[kind]])
}

pub(super) fn alarm() -> Bytes {
    Bytes::from_static(&[VERSION])
}

pub(super) fn member_key(id: u64) -> Bytes {
    key(MEMBER, &[&id.to_be_bytes()])
}

pub(super) fn member(record: &MemberRecord) -> Bytes {
    value(&MemberBody {
        name: record.name.clone(),
        client_urls: record.client_urls.clone(),
        region: record.region.clone(),
        zone: record.zone.clone(),
        version: record.version.clone(),
        instance: record.instance,
    })
}

pub(super) fn tenant_key(id: TenantId) -> Bytes {
    key(TENANT, &[&id.0.to_be_bytes()])
}

pub(super) fn tenant(record: &TenantRecord) -> Bytes {
    value(&TenantBody {
        name: record.name.to_string(),
        quota_bytes: record.quota.bytes,
        quota_keys: record.quota.keys,
        quota_watchers: record.quota.watchers,
        quota_requests_per_second: record.quota.requests_per_second,
        retention_revisions: record.retention.revisions,
        retention_seconds: record.retention.seconds,
        created_unix_ms: record.created.unix_ms,
    })
}

pub(super) fn counters_key(id: TenantId) -> Bytes {
    key(COUNTERS, &[&id.0.to_be_bytes()])
}

pub(super) fn counters(keyspace: &Keyspace) -> Bytes {
    counters_of(
        keyspace.revision(),
        keyspace.compacted(),
        keyspace.rules_revision(),
    )
}

pub(super) fn counters_of(revision: Revision, compacted: Revision, rules_revision: u64) -> Bytes {
    value(&CountersBody {
        revision,
        compacted,
        rules_revision,
    })
}

pub(super) fn lease_key(tenant: TenantId, id: LeaseId) -> Bytes {
    key(LEASE, &[&tenant.0.to_be_bytes(), &lease::sortable(id)])
}

pub(super) fn lease(lease: &Lease) -> Bytes {
    value(&LeaseBody {
        ttl_seconds: lease.ttl_seconds,
        checkpoint_seconds: lease.checkpoint_seconds,
    })
}

pub(super) fn request_key(tenant: TenantId, id: &[u8]) -> Bytes {
    key(REQUEST, &[&tenant.0.to_be_bytes(), id])
}

pub(super) fn request(request: &Remembered) -> Bytes {
    value(&RequestBody {
        term: request.log_id.term,
        index: request.log_id.index,
        revision: request.revision,
        answer: request.answer.clone(),
    })
}

/// Reads one fact.
pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Fact, Fault> {
    let damaged = |what: &str| Fault::Inconsistent {
        what: format!("a fact can not be read: {what}"),
    };
    let (tag, rest) = key
        .split_first()
        .ok_or_else(|| damaged("its key is empty"))?;
    let (version, body) = value.split_first().ok_or_else(|| damaged("it is empty"))?;
    let known = matches!(*tag, DIGEST..=MEMBER | TENANT..=REQUEST);
    if *version != VERSION || !known {
        let found = if known {
            u32::from(*version)
        } else {
            u32::from(*tag) << 8
        };
        let path = "state facts".into();
        return Err(Fault::NewerFormat {
            path,
            found,
            known: u32::from(VERSION),
        });
    }
    parse(*tag, rest, body).ok_or_else(|| damaged(&format!("tag {tag:#04x}")))
}

fn parse(tag: u8, mut rest: &[u8], body: &[u8]) -> Option<Fact> {
    let fact = match tag {
        DIGEST => Fact::Digest(DigestBody::decode(body).ok()?.hash),
        NEXT_TENANT => Fact::NextTenant(NextTenantBody::decode(body).ok()?.id),
        MEMBERSHIP => Fact::Membership(Bytes::copy_from_slice(body)),
        ALARM => {
            let member = u64::from_be_bytes(take(&mut rest)?);
            let kind = match take(&mut rest)? {
                [1] => AlarmKind::NoSpace,
                [2] => AlarmKind::Corrupt,
                _ => return None,
            };
            Fact::Alarm(member, kind)
        }
        MEMBER => {
            let id = u64::from_be_bytes(take(&mut rest)?);
            let MemberBody {
                name,
                client_urls,
                region,
                zone,
                version,
                instance,
            } = MemberBody::decode(body).ok()?;
            Fact::Member(MemberRecord {
                id,
                name,
                client_urls,
                region,
                zone,
                version,
                instance,
            })
        }
        TENANT => Fact::Tenant(parse_tenant(take_tenant(&mut rest)?, body)?),
        COUNTERS => {
            let tenant = take_tenant(&mut rest)?;
            let CountersBody {
                revision,
                compacted,
                rules_revision,
            } = CountersBody::decode(body).ok()?;
            Fact::Counters {
                tenant,
                revision,
                compacted,
                rules_revision,
            }
        }
        LEASE => {
            let tenant = take_tenant(&mut rest)?;
            let id = LeaseId::from_be_bytes(take(&mut rest)?) ^ LeaseId::MIN;
            let LeaseBody {
                ttl_seconds,
                checkpoint_seconds,
            } = LeaseBody::decode(body).ok()?;
            Fact::Lease(tenant, Lease::new(id, ttl_seconds, checkpoint_seconds))
        }
        REQUEST => {
            let tenant = take_tenant(&mut rest)?;
            let id = std::mem::take(&mut rest).into();
            // From a slice: what is kept must not share memory with what it was read from.
            let RequestBody {
                term,
                index,
                revision,
                answer,
            } = RequestBody::decode(body).ok()?;
            let log_id = LogId { term, index };
            Fact::Request(
                tenant,
                Remembered {
                    id,
                    log_id,
                    revision,
                    answer,
                },
            )
        }
        _ => return None,
    };
    rest.is_empty().then_some(fact)
}

fn parse_tenant(id: TenantId, body: &[u8]) -> Option<TenantRecord> {
    let body = TenantBody::decode(body).ok()?;
    Some(TenantRecord {
        id,
        name: TenantName::new(&body.name).ok()?,
        quota: Quota {
            bytes: body.quota_bytes,
            keys: body.quota_keys,
            watchers: body.quota_watchers,
            requests_per_second: body.quota_requests_per_second,
        },
        retention: Retention {
            revisions: body.retention_revisions,
            seconds: body.retention_seconds,
        },
        created: Stamp {
            unix_ms: body.created_unix_ms,
        },
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk::<N>()?;
    *rest = left;
    Some(*taken)
}

fn take_tenant(rest: &mut &[u8]) -> Option<TenantId> {
    take(rest).map(|id| TenantId(u32::from_be_bytes(id)))
}
