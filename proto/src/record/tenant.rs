//! Tenants and members within records.

use meridian_domain::command::MemberRecord;
use meridian_domain::name::{TenantId, TenantName};
use meridian_domain::stamp::Stamp;
use meridian_domain::tenant::{Quota, Retention, TenantRecord};

use super::{Unreadable, required, schema};

pub(super) fn write_quota(quota: &Quota) -> schema::Quota {
    schema::Quota {
        bytes: quota.bytes,
        keys: quota.keys,
        watchers: quota.watchers,
        requests_per_second: quota.requests_per_second,
    }
}

pub(super) fn read_quota(quota: schema::Quota) -> Quota {
    Quota {
        bytes: quota.bytes,
        keys: quota.keys,
        watchers: quota.watchers,
        requests_per_second: quota.requests_per_second,
    }
}

pub(super) fn write_retention(retention: &Retention) -> schema::Retention {
    schema::Retention {
        revisions: retention.revisions,
        seconds: retention.seconds,
    }
}

pub(super) fn read_retention(retention: schema::Retention) -> Retention {
    Retention {
        revisions: retention.revisions,
        seconds: retention.seconds,
    }
}

pub(super) fn read_name(name: &str) -> Result<TenantName, Unreadable> {
    TenantName::new(name).map_err(|_| Unreadable::Impossible {
        what: "tenant name",
    })
}

pub(super) fn write_tenant(tenant: &TenantRecord) -> schema::Tenant {
    schema::Tenant {
        id: tenant.id.0,
        name: tenant.name.as_str().to_owned(),
        quota: Some(write_quota(&tenant.quota)),
        retention: Some(write_retention(&tenant.retention)),
        created_unix_ms: tenant.created.unix_ms,
    }
}

pub(super) fn read_tenant(tenant: &schema::Tenant) -> Result<TenantRecord, Unreadable> {
    Ok(TenantRecord {
        id: TenantId(tenant.id),
        name: read_name(&tenant.name)?,
        quota: read_quota(required(tenant.quota, "quota of a tenant")?),
        retention: read_retention(required(tenant.retention, "retention of a tenant")?),
        created: Stamp {
            unix_ms: tenant.created_unix_ms,
        },
    })
}

pub(super) fn write_member(member: &MemberRecord) -> schema::Member {
    schema::Member {
        id: member.id,
        name: member.name.clone(),
        client_urls: member.client_urls.clone(),
        region: member.region.clone(),
        zone: member.zone.clone(),
        version: member.version.clone(),
        instance: member.instance,
    }
}

pub(super) fn read_member(member: schema::Member) -> MemberRecord {
    MemberRecord {
        id: member.id,
        name: member.name,
        client_urls: member.client_urls,
        region: member.region,
        zone: member.zone,
        version: member.version,
        instance: member.instance,
    }
}
