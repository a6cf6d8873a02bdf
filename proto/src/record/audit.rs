//! Audit records (`schema/record/audit.proto`): the bytes that are kept are the bytes that are hashed.

use bytes::Bytes;
use meridian_domain::access::grant::{Address, Proof};
use meridian_domain::access::verb::Verb;
use meridian_domain::audit::record::{Deed, Origin, Outcome, Record, Row};
use meridian_domain::audit::tree::Hash;
use meridian_domain::key::Space;
use meridian_domain::name::TenantId;
use meridian_domain::revision::LogId;
use meridian_domain::stamp::Stamp;

use super::{Unreadable, open, required, schema, seal};

/// The version this program writes and reads; the first byte of the record.
pub const VERSION: u8 = 1;

/// Encodes a record. Equal records are equal bytes.
pub fn encode(record: &Record) -> Bytes {
    let (outcome, code) = match &record.outcome {
        Outcome::Done => (schema::AuditOutcome::Done, ""),
        Outcome::Denied { code } => (schema::AuditOutcome::Denied, &**code),
        Outcome::Refused { code } => (schema::AuditOutcome::Refused, &**code),
    };
    let message = schema::AuditRecord {
        tenant: record.tenant.0,
        stamp_unix_ms: record.stamp.unix_ms,
        place: record.log_id.map(|at| schema::AuditPlace {
            term: at.term,
            index: at.index,
        }),
        actor: record.actor.to_string(),
        origin: Some(write_origin(&record.origin)),
        request_id: record.request_id.clone().unwrap_or_default(),
        deed: record.deed as i32,
        verb: record.verb.map_or(0, |verb| verb as u32 + 1),
        object: record.object.to_string(),
        revision: record.revision,
        rules_revision: record.rules_revision,
        outcome: outcome.into(),
        code: code.to_owned(),
        rows: record.rows.iter().map(write_row).collect(),
        rows_count: record.rows_count,
        rows_root: record.rows_root.map_or_else(Bytes::new, write_hash),
    };
    seal(VERSION, &message)
}

/// Decodes a record. Nothing in it shares memory with `record`.
pub fn decode(record: &[u8]) -> Result<Record, Unreadable> {
    let message: schema::AuditRecord = open(VERSION, record)?;
    let deed = Deed::ALL
        .into_iter()
        .find(|deed| *deed as i32 == message.deed)
        .ok_or(Unreadable::Impossible { what: "deed" })?;
    let code = message.code.into_boxed_str();
    let outcome = match schema::AuditOutcome::try_from(message.outcome) {
        Ok(schema::AuditOutcome::Done) if code.is_empty() => Outcome::Done,
        Ok(schema::AuditOutcome::Denied) => Outcome::Denied { code },
        Ok(schema::AuditOutcome::Refused) => Outcome::Refused { code },
        Ok(schema::AuditOutcome::Done | schema::AuditOutcome::Unspecified) | Err(_) => {
            return Err(Unreadable::Impossible { what: "outcome" });
        }
    };
    let rows_root = match message.rows_root.len() {
        0 => None,
        _ => Some(read_hash(&message.rows_root)?),
    };
    Ok(Record {
        tenant: TenantId(message.tenant),
        stamp: Stamp {
            unix_ms: message.stamp_unix_ms,
        },
        log_id: message.place.map(|at| LogId {
            term: at.term,
            index: at.index,
        }),
        actor: message.actor.into(),
        origin: read_origin(required(message.origin, "origin")?)?,
        request_id: Some(message.request_id).filter(|id| !id.is_empty()),
        deed,
        verb: numbered(Verb::ALL, message.verb, "verb")?,
        object: message.object.into(),
        revision: message.revision,
        rules_revision: message.rules_revision,
        outcome,
        rows: message
            .rows
            .into_iter()
            .map(read_row)
            .collect::<Result<_, _>>()?,
        rows_count: message.rows_count,
        rows_root,
    })
}

pub(super) fn write_origin(origin: &Origin) -> schema::AuditOrigin {
    schema::AuditOrigin {
        proof: origin.proof.map_or(0, |proof| proof as u32 + 1),
        address: origin
            .address
            .map_or_else(Bytes::new, |at| Bytes::copy_from_slice(&at.0)),
        member: origin.member,
        grant: origin.grant.to_string(),
        reason: origin.reason.to_string(),
        ticket: origin.ticket.to_string(),
        trace: origin.trace.clone(),
    }
}

pub(super) fn read_origin(origin: schema::AuditOrigin) -> Result<Origin, Unreadable> {
    let address = match origin.address.len() {
        0 => None,
        _ => {
            let bytes = <[u8; 16]>::try_from(&*origin.address);
            Some(Address(
                bytes.map_err(|_| Unreadable::Impossible { what: "address" })?,
            ))
        }
    };
    if !matches!(origin.trace.len(), 0 | 16) {
        return Err(Unreadable::Impossible { what: "trace" });
    }
    Ok(Origin {
        proof: numbered(&Proof::ALL, origin.proof, "proof")?,
        address,
        member: origin.member,
        grant: origin.grant.into(),
        reason: origin.reason.into(),
        ticket: origin.ticket.into(),
        trace: origin.trace,
    })
}

/// What stands at a number above zero, counted from one.
fn numbered<T: Copy>(all: &[T], number: u32, what: &'static str) -> Result<Option<T>, Unreadable> {
    let Some(place) = number.checked_sub(1) else {
        return Ok(None);
    };
    let found = all.get(place as usize).copied();
    found.map(Some).ok_or(Unreadable::Impossible { what })
}

fn write_row(row: &Row) -> schema::AuditRow {
    schema::AuditRow {
        space: u32::from(row.space.0),
        key: row.key.clone(),
        before: row.before.map(write_hash),
        after: row.after.map(write_hash),
    }
}

fn read_row(row: schema::AuditRow) -> Result<Row, Unreadable> {
    let space = u8::try_from(row.space).map_err(|_| Unreadable::Impossible { what: "space" })?;
    Ok(Row {
        space: Space(space),
        key: row.key,
        before: row.before.as_deref().map(read_hash).transpose()?,
        after: row.after.as_deref().map(read_hash).transpose()?,
    })
}

fn write_hash(hash: Hash) -> Bytes {
    Bytes::copy_from_slice(&hash)
}

fn read_hash(hash: &[u8]) -> Result<Hash, Unreadable> {
    Hash::try_from(hash).map_err(|_| Unreadable::Impossible { what: "hash" })
}
