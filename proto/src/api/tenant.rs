//! Tenants, between `meridian.v1.TenantService` and the domain.

use meridian_domain::intent::Intent;
use meridian_domain::name::TenantName;
use meridian_domain::rejection::Rejection;
use meridian_domain::revision::Revision;
use meridian_domain::tenant::{Quota, Retention, TenantRecord, Usage};

use super::v1;

/// Reads a request to make a tenant. What it does not say is not limited and kept for ever.
pub fn create(request: &v1::CreateTenantRequest) -> Result<Intent, Rejection> {
    Ok(Intent::TenantCreate {
        name: TenantName::new(&request.name)?,
        quota: request.quota.map(quota).unwrap_or_default(),
        retention: request.retention.map(retention).unwrap_or_default(),
    })
}

/// Reads a request to change a tenant. What it does not say stays as it is.
pub fn change(request: &v1::ChangeTenantRequest) -> Result<Intent, Rejection> {
    Ok(Intent::TenantChange {
        name: TenantName::new(&request.name)?,
        quota: request.quota.map(quota),
        retention: request.retention.map(retention),
    })
}

/// Reads a request to remove a tenant.
pub fn delete(request: &v1::DeleteTenantRequest) -> Result<Intent, Rejection> {
    Ok(Intent::TenantDelete {
        name: TenantName::new(&request.name)?,
    })
}

/// Reads a quota.
pub fn quota(quota: v1::Quota) -> Quota {
    Quota {
        bytes: quota.bytes,
        keys: quota.keys,
        watchers: quota.watchers,
        requests_per_second: quota.requests_per_second,
    }
}

/// Reads a retention.
pub fn retention(retention: v1::Retention) -> Retention {
    Retention {
        revisions: retention.revisions,
        seconds: retention.seconds,
    }
}

/// Writes a tenant as it is at `revision`, with the oldest revision of it that can be read.
pub fn tenant(
    record: &TenantRecord,
    usage: Usage,
    revision: Revision,
    compacted: Revision,
) -> v1::Tenant {
    v1::Tenant {
        id: record.id.0,
        name: record.name.as_str().to_owned(),
        quota: Some(v1::Quota {
            bytes: record.quota.bytes,
            keys: record.quota.keys,
            watchers: record.quota.watchers,
            requests_per_second: record.quota.requests_per_second,
        }),
        retention: Some(v1::Retention {
            revisions: record.retention.revisions,
            seconds: record.retention.seconds,
        }),
        created_unix_ms: record.created.unix_ms,
        usage: Some(v1::Usage {
            bytes: usage.bytes,
            keys: usage.keys,
        }),
        revision,
        compacted_revision: compacted,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use meridian_domain::name::TenantId;
    use meridian_domain::stamp::Stamp;

    use super::*;

    #[test]
    fn what_a_change_does_not_mention_is_kept() {
        let request = v1::ChangeTenantRequest {
            name: "a".into(),
            quota: Some(v1::Quota {
                keys: 7,
                ..v1::Quota::default()
            }),
            retention: None,
        };
        let Intent::TenantChange {
            quota, retention, ..
        } = change(&request).unwrap()
        else {
            panic!("not a change");
        };
        assert_eq!(
            quota,
            Some(Quota {
                keys: 7,
                ..Quota::default()
            })
        );
        assert_eq!(retention, None);
    }

    #[test]
    fn a_bad_name_is_refused_by_every_request() {
        let bad = Rejection::InvalidTenantName { name: "No".into() };
        let name = || "No".to_owned();
        let made = v1::CreateTenantRequest {
            name: name(),
            ..v1::CreateTenantRequest::default()
        };
        assert_eq!(create(&made), Err(bad.clone()));
        let changed = v1::ChangeTenantRequest {
            name: name(),
            ..v1::ChangeTenantRequest::default()
        };
        assert_eq!(change(&changed), Err(bad.clone()));
        assert_eq!(delete(&v1::DeleteTenantRequest { name: name() }), Err(bad));
    }

    #[test]
    fn quota_and_retention_come_back_as_they_were_shown() {
        let record = TenantRecord {
            id: TenantId(9),
            name: TenantName::new("team").unwrap(),
            quota: Quota {
                bytes: 1,
                keys: 2,
                watchers: 3,
                requests_per_second: 4,
            },
            retention: Retention {
                revisions: 5,
                seconds: 6,
            },
            created: Stamp { unix_ms: 7 },
        };
        let shown = tenant(&record, Usage { bytes: 8, keys: 9 }, 10, 11);
        assert_eq!(quota(shown.quota.unwrap()), record.quota);
        assert_eq!(retention(shown.retention.unwrap()), record.retention);
        assert_eq!((shown.revision, shown.compacted_revision), (10, 11));
        assert_eq!(shown.usage, Some(v1::Usage { bytes: 8, keys: 9 }));
    }
}
