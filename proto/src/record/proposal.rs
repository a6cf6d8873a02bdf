//! Proposals: one entry of the replicated log (`schema/record/proposal.proto`).

use bytes::Bytes;
use meridian_domain::audit::record::Origin;
use meridian_domain::command::{AlarmKind, Command, Guards, Proposal};
use meridian_domain::name::TenantId;
use meridian_domain::stamp::{RequestId, Stamp};

use super::schema::proposal::Command as Body;
use super::{Unreadable, audit, open, required, schema, seal, tenant, txn};

/// The version of a proposal that does not say where it came from; the first byte of the record.
pub const VERSION: u8 = 1;

/// The version of one that does.
pub const VERSION_WITH_ORIGIN: u8 = 2;

/// Encodes a proposal.
pub fn encode(proposal: &Proposal) -> Bytes {
    seal(VERSION, &message(proposal))
}

/// Encodes a proposal with where it came from. Members of a version that knows no origins refuse it, so it must not be
/// written before every member runs this one.
pub fn encode_with(proposal: &Proposal, origin: &Origin) -> Bytes {
    let mut message = message(proposal);
    message.origin = Some(audit::write_origin(origin));
    seal(VERSION_WITH_ORIGIN, &message)
}

fn message(proposal: &Proposal) -> schema::Proposal {
    schema::Proposal {
        tenant: proposal.tenant.0,
        request_id: proposal
            .request_id
            .as_ref()
            .map_or_else(Bytes::new, |id| id.as_bytes().clone()),
        actor: String::from(&*proposal.actor),
        stamp_unix_ms: proposal.stamp.unix_ms,
        guard_rules_revision: proposal.guards.rules_revision,
        guard_term: proposal.guards.term,
        origin: None,
        command: Some(write(&proposal.command)),
    }
}

/// Decodes a proposal, of whichever version. Nothing in it shares memory with `record`.
pub fn decode(record: &[u8]) -> Result<Proposal, Unreadable> {
    decode_with(record).map(|(proposal, _)| proposal)
}

/// Decodes a proposal, and where it came from if it says so.
pub fn decode_with(record: &[u8]) -> Result<(Proposal, Option<Origin>), Unreadable> {
    if record.first() != Some(&VERSION) {
        let mut message: schema::Proposal = open(VERSION_WITH_ORIGIN, record)?;
        let origin = audit::read_origin(required(message.origin.take(), "origin")?)?;
        return Ok((parse(message)?, Some(origin)));
    }
    let message: schema::Proposal = open(VERSION, record)?;
    // Version 1 knows no such field.
    if message.origin.is_some() {
        return Err(Unreadable::Unknown);
    }
    Ok((parse(message)?, None))
}

fn parse(message: schema::Proposal) -> Result<Proposal, Unreadable> {
    let request_id = if message.request_id.is_empty() {
        None
    } else {
        let id = RequestId::new(message.request_id)
            .map_err(|_| Unreadable::Impossible { what: "request id" })?;
        Some(id)
    };
    Ok(Proposal {
        tenant: TenantId(message.tenant),
        request_id,
        actor: message.actor.into_boxed_str(),
        stamp: Stamp {
            unix_ms: message.stamp_unix_ms,
        },
        guards: Guards {
            rules_revision: message.guard_rules_revision,
            term: message.guard_term,
        },
        command: read(required(message.command, "command")?)?,
    })
}

fn write(command: &Command) -> Body {
    match command {
        Command::Txn(txn) => Body::Txn(txn::write(txn)),
        Command::LeaseGrant { id, ttl_seconds } => Body::LeaseGrant(schema::LeaseGrant {
            id: *id,
            ttl_seconds: *ttl_seconds,
        }),
        Command::LeaseRevoke { id } => Body::LeaseRevoke(schema::LeaseRevoke { id: *id }),
        Command::LeaseCheckpoint { remaining } => {
            let leases = remaining
                .iter()
                .map(|&(id, seconds)| schema::LeaseRemaining { id, seconds })
                .collect();
            Body::LeaseCheckpoint(schema::LeaseCheckpoint { leases })
        }
        Command::Compact { revision } => Body::Compact(schema::Compact {
            revision: *revision,
        }),
        Command::TenantCreate {
            name,
            quota,
            retention,
        } => Body::TenantCreate(schema::TenantCreate {
            name: name.as_str().to_owned(),
            quota: Some(tenant::write_quota(quota)),
            retention: Some(tenant::write_retention(retention)),
        }),
        Command::TenantChange {
            name,
            quota,
            retention,
        } => Body::TenantChange(schema::TenantChange {
            name: name.as_str().to_owned(),
            quota: quota.as_ref().map(tenant::write_quota),
            retention: retention.as_ref().map(tenant::write_retention),
        }),
        Command::TenantDelete { name } => Body::TenantDelete(schema::TenantDelete {
            name: name.as_str().to_owned(),
        }),
        Command::Alarm {
            member,
            kind,
            raised,
        } => {
            let kind = match kind {
                AlarmKind::NoSpace => schema::AlarmKind::NoSpace,
                AlarmKind::Corrupt => schema::AlarmKind::Corrupt,
            };
            Body::Alarm(schema::Alarm {
                member: *member,
                kind: kind.into(),
                raised: *raised,
            })
        }
        Command::MemberPublish(member) => Body::MemberPublish(tenant::write_member(member)),
        Command::MemberForget { id } => Body::MemberForget(schema::MemberForget { id: *id }),
    }
}

fn read(command: Body) -> Result<Command, Unreadable> {
    Ok(match command {
        Body::Txn(txn) => Command::Txn(txn::read(txn, 1)?),
        Body::LeaseGrant(lease) => Command::LeaseGrant {
            id: lease.id,
            ttl_seconds: lease.ttl_seconds,
        },
        Body::LeaseRevoke(lease) => Command::LeaseRevoke { id: lease.id },
        Body::LeaseCheckpoint(checkpoint) => Command::LeaseCheckpoint {
            remaining: checkpoint
                .leases
                .into_iter()
                .map(|l| (l.id, l.seconds))
                .collect(),
        },
        Body::Compact(compact) => Command::Compact {
            revision: compact.revision,
        },
        Body::TenantCreate(create) => Command::TenantCreate {
            name: tenant::read_name(&create.name)?,
            quota: tenant::read_quota(required(create.quota, "quota of a new tenant")?),
            retention: tenant::read_retention(required(
                create.retention,
                "retention of a new tenant",
            )?),
        },
        Body::TenantChange(change) => Command::TenantChange {
            name: tenant::read_name(&change.name)?,
            quota: change.quota.map(tenant::read_quota),
            retention: change.retention.map(tenant::read_retention),
        },
        Body::TenantDelete(delete) => Command::TenantDelete {
            name: tenant::read_name(&delete.name)?,
        },
        Body::Alarm(alarm) => {
            let kind = match schema::AlarmKind::try_from(alarm.kind) {
                Ok(schema::AlarmKind::NoSpace) => AlarmKind::NoSpace,
                Ok(schema::AlarmKind::Corrupt) => AlarmKind::Corrupt,
                Ok(schema::AlarmKind::Unspecified) | Err(_) => {
                    return Err(Unreadable::Impossible {
                        what: "kind of alarm",
                    });
                }
            };
            Command::Alarm {
                member: alarm.member,
                kind,
                raised: alarm.raised,
            }
        }
        Body::MemberPublish(member) => Command::MemberPublish(tenant::read_member(member)),
        Body::MemberForget(member) => Command::MemberForget { id: member.id },
    })
}
