//! Tenants: virtual stores, each with its own keyspace, revision, quota and history. Meridian only.

use std::time::{Duration, SystemTime};

use meridian_domain::tenant::{Quota, Retention, Usage};
use meridian_proto::api::v1 as api;
use meridian_proto::api::v1::tenant_service_client::TenantServiceClient;

use crate::connect::{Call, Client};
use crate::error::{Error, Kind, Result};

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its number; never used again.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// What it may use. Zero is no limit.
    pub quota: Quota,
    /// What history it keeps. Zero is off.
    pub retention: Retention,
    /// When it was made.
    pub created: SystemTime,
    /// What it uses now.
    pub usage: Usage,
    /// Its revision.
    pub revision: i64,
    /// The oldest revision that can be read; zero if nothing was ever compacted.
    pub compacted_revision: i64,
}

impl Client {
    /// Makes a tenant.
    pub async fn tenant_create(
        &self,
        name: &str,
        quota: Quota,
        retention: Retention,
    ) -> Result<Tenant> {
        let request = api::CreateTenantRequest {
            name: name.to_owned(),
            quota: Some(quota_to_wire(quota)),
            retention: Some(retention_to_wire(retention)),
        };
        let send = |channel, request| async move {
            TenantServiceClient::new(channel).create(request).await
        };
        let answer = self
            .call(Call::write("tenant create"), request, send)
            .await?;
        tenant("tenant create", answer.tenant)
    }

    /// All tenants, by name.
    pub async fn tenants(&self) -> Result<Vec<Tenant>> {
        let send = |channel, request| async move {
            TenantServiceClient::new(channel)
                .max_decoding_message_size(usize::MAX)
                .list(request)
                .await
        };
        let answer = self
            .call(Call::read("tenant list"), api::ListTenantsRequest {}, send)
            .await?;
        answer
            .tenants
            .into_iter()
            .map(|t| tenant("tenant list", Some(t)))
            .collect()
    }

    /// One tenant.
    pub async fn tenant_show(&self, name: &str) -> Result<Tenant> {
        let request = api::GetTenantRequest {
            name: name.to_owned(),
        };
        let send =
            |channel, request| async move { TenantServiceClient::new(channel).get(request).await };
        let answer = self.call(Call::read("tenant show"), request, send).await?;
        tenant("tenant show", answer.tenant)
    }

    /// Changes what a tenant may use and keeps; none leaves it as it is.
    pub async fn tenant_change(
        &self,
        name: &str,
        quota: Option<Quota>,
        retention: Option<Retention>,
    ) -> Result<Tenant> {
        let request = api::ChangeTenantRequest {
            name: name.to_owned(),
            quota: quota.map(quota_to_wire),
            retention: retention.map(retention_to_wire),
        };
        let send = |channel, request| async move {
            TenantServiceClient::new(channel).change(request).await
        };
        let answer = self
            .call(Call::write("tenant change"), request, send)
            .await?;
        tenant("tenant change", answer.tenant)
    }

    /// Removes a tenant with everything in it. There is no way back.
    pub async fn tenant_delete(&self, name: &str) -> Result<()> {
        let request = api::DeleteTenantRequest {
            name: name.to_owned(),
        };
        let send = |channel, request| async move {
            TenantServiceClient::new(channel).delete(request).await
        };
        self.call(Call::write("tenant delete"), request, send)
            .await?;
        Ok(())
    }
}

fn quota_to_wire(quota: Quota) -> api::Quota {
    api::Quota {
        bytes: quota.bytes,
        keys: quota.keys,
        watchers: quota.watchers,
        requests_per_second: quota.requests_per_second,
    }
}

fn retention_to_wire(retention: Retention) -> api::Retention {
    api::Retention {
        revisions: retention.revisions,
        seconds: retention.seconds,
    }
}

fn tenant(operation: &'static str, tenant: Option<api::Tenant>) -> Result<Tenant> {
    let Some(tenant) = tenant else {
        return Err(Error::of(
            Kind::Internal,
            operation,
            "the answer holds no tenant",
        ));
    };
    let quota = tenant.quota.unwrap_or_default();
    let retention = tenant.retention.unwrap_or_default();
    let usage = tenant.usage.unwrap_or_default();
    Ok(Tenant {
        id: tenant.id,
        name: tenant.name,
        quota: Quota {
            bytes: quota.bytes,
            keys: quota.keys,
            watchers: quota.watchers,
            requests_per_second: quota.requests_per_second,
        },
        retention: Retention {
            revisions: retention.revisions,
            seconds: retention.seconds,
        },
        created: SystemTime::UNIX_EPOCH + Duration::from_millis(tenant.created_unix_ms),
        usage: Usage {
            bytes: usage.bytes,
            keys: usage.keys,
        },
        revision: tenant.revision,
        compacted_revision: tenant.compacted_revision,
    })
}
