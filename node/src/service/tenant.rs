//! Tenants: made, listed, shown, changed, removed.
//!
//! These requests speak of the cluster and not of the tenant they are sent under.

use std::sync::Arc;

use meridian_domain::answer::{Answer, Found};
use meridian_domain::command::{Reply, Verdict};
use meridian_domain::intent::Intent;
use meridian_domain::name::TenantName;
use meridian_domain::query::Query;
use meridian_domain::rejection::Rejection;
use meridian_domain::tenant::{TenantRecord, Usage};
use meridian_domain::view::View;
use meridian_proto::api::tenant as wire;
use meridian_proto::api::v1::tenant_service_server::TenantService;
use meridian_proto::api::v1::{
    ChangeTenantRequest, ChangeTenantResponse, CreateTenantRequest, CreateTenantResponse,
    DeleteTenantRequest, DeleteTenantResponse, GetTenantRequest, GetTenantResponse,
    ListTenantsRequest, ListTenantsResponse, Tenant,
};
use tonic::{Request, Response, Status};

use crate::pipeline::{Consistency, Pipeline, RequestContext};
use crate::status::Refusal;

/// The service.
pub struct Tenants {
    pipeline: Arc<Pipeline>,
}

impl Tenants {
    /// Serves from a pipeline.
    pub fn new(pipeline: Arc<Pipeline>) -> Self {
        Self { pipeline }
    }

    /// The context of a request about the cluster: planned on the view of the tenant that always exists.
    fn context<T>(&self, request: &Request<T>) -> Result<RequestContext, Refusal> {
        let mut ctx = self.pipeline.context(request)?;
        ctx.tenant = TenantName::new(TenantName::DEFAULT)?;
        Ok(ctx)
    }

    async fn write(&self, ctx: RequestContext, intent: Intent) -> Result<Reply, Refusal> {
        self.pipeline.refuse_on_learner()?;
        match self.pipeline.write(&ctx, intent).await?.verdict {
            Verdict::Applied(reply) => Ok(reply),
            _ => Err(Rejection::UnknownProposal.into()),
        }
    }

    async fn all<T>(&self, request: &Request<T>) -> Result<Vec<(TenantRecord, Usage)>, Refusal> {
        let ctx = self.context(request)?;
        let answer = self
            .pipeline
            .read(&ctx, &Query::Tenants, Consistency::Linearizable)
            .await?;
        match answer {
            Answer {
                found: Found::Tenants(tenants),
                ..
            } => Ok(tenants),
            _ => Err(Rejection::UnknownProposal.into()),
        }
    }

    /// A tenant with the revisions it stands at here.
    fn show(&self, record: &TenantRecord, usage: Usage) -> Tenant {
        let (revision, compacted) =
            self.pipeline
                .store
                .tenant(record.id)
                .map_or((0, 0), |tenant| {
                    let view = tenant.view();
                    (view.revision(), view.compacted())
                });
        wire::tenant(record, usage, revision, compacted)
    }

    fn shown(&self, reply: Reply) -> Result<Tenant, Refusal> {
        match reply {
            Reply::Tenant(record) => {
                let usage = self
                    .pipeline
                    .store
                    .tenant(record.id)
                    .map(|tenant| tenant.view().usage())
                    .unwrap_or_default();
                Ok(self.show(&record, usage))
            }
            _ => Err(Rejection::UnknownProposal.into()),
        }
    }
}

#[tonic::async_trait]
impl TenantService for Tenants {
    async fn create(
        &self,
        request: Request<CreateTenantRequest>,
    ) -> Result<Response<CreateTenantResponse>, Status> {
        let ctx = self.context(&request)?;
        let request = request.into_inner();
        let intent = wire::create(&request).map_err(Refusal::from)?;
        let tenant = Some(self.shown(self.write(ctx, intent).await?)?);
        Ok(Response::new(CreateTenantResponse { tenant }))
    }

    async fn list(
        &self,
        request: Request<ListTenantsRequest>,
    ) -> Result<Response<ListTenantsResponse>, Status> {
        let tenants = self.all(&request).await?;
        let tenants = tenants
            .iter()
            .map(|(record, usage)| self.show(record, *usage))
            .collect();
        Ok(Response::new(ListTenantsResponse { tenants }))
    }

    async fn get(
        &self,
        request: Request<GetTenantRequest>,
    ) -> Result<Response<GetTenantResponse>, Status> {
        let tenants = self.all(&request).await?;
        let request = request.into_inner();
        let name = TenantName::new(&request.name).map_err(Refusal::from)?;
        let (record, usage) = tenants
            .into_iter()
            .find(|(record, _)| record.name == name)
            .ok_or_else(|| {
                Refusal::from(Rejection::TenantNotFound {
                    name: name.to_string(),
                })
            })?;
        let tenant = Some(self.show(&record, usage));
        Ok(Response::new(GetTenantResponse { tenant }))
    }

    async fn change(
        &self,
        request: Request<ChangeTenantRequest>,
    ) -> Result<Response<ChangeTenantResponse>, Status> {
        let ctx = self.context(&request)?;
        let request = request.into_inner();
        let intent = wire::change(&request).map_err(Refusal::from)?;
        let tenant = Some(self.shown(self.write(ctx, intent).await?)?);
        Ok(Response::new(ChangeTenantResponse { tenant }))
    }

    async fn delete(
        &self,
        request: Request<DeleteTenantRequest>,
    ) -> Result<Response<DeleteTenantResponse>, Status> {
        let ctx = self.context(&request)?;
        let request = request.into_inner();
        let intent = wire::delete(&request).map_err(Refusal::from)?;
        self.write(ctx, intent).await?;
        Ok(Response::new(DeleteTenantResponse {}))
    }
}
