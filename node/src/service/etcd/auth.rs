//! Auth: answers as etcd does while authentication is off.
//!
//! Status says *disabled*, disabling what is off succeeds, authenticating is refused in etcd's words. Users and
//! roles can not be kept yet: every call that would make or look at one says so.

use std::pin::Pin;
use std::sync::Arc;

use meridian_proto::etcdserverpb as pb;
use meridian_proto::etcdserverpb::auth_server;
use tonic::{Request, Response, Status};

use crate::pipeline::Pipeline;
use crate::status::{Etcd, Refusal};

/// The auth revision of a cluster whose users never changed.
const GENESIS: u64 = 1;

/// The service.
pub struct Auth {
    pipeline: Arc<Pipeline>,
}

impl Auth {
    /// Serves from a pipeline.
    pub fn new(pipeline: Arc<Pipeline>) -> Self {
        Self { pipeline }
    }

    fn header(
        &self,
        request: &tonic::metadata::MetadataMap,
    ) -> Result<pb::ResponseHeader, Refusal> {
        let ctx = self.pipeline.voters_context(request)?;
        let tenant = self.pipeline.store.tenant_named(ctx.tenant.as_str());
        Ok(self
            .pipeline
            .header(tenant.map_or(0, |tenant| tenant.root().revision())))
    }
}

fn not_supported(what: &'static str) -> Status {
    Refusal::from(Etcd::NotSupported { what }).into()
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send + 'a>>;

/// Calls on users and roles: there are none, and none can be made. Written as the trait's macro would, because it
/// does not look into this one.
macro_rules! refused {
    ($($method:ident($request:ident) -> $response:ident;)+) => {
        $(
            fn $method<'me, 'answer>(
                &'me self,
                _request: Request<pb::$request>,
            ) -> Answer<'answer, pb::$response>
            where
                'me: 'answer,
                Self: 'answer,
            {
                Box::pin(std::future::ready(Err(not_supported(stringify!($method)))))
            }
        )+
    };
}

#[tonic::async_trait]
impl auth_server::Auth for Auth {
    async fn auth_enable(
        &self,
        _request: Request<pb::AuthEnableRequest>,
    ) -> Result<Response<pb::AuthEnableResponse>, Status> {
        Err(Refusal::from(Etcd::RootUserMissing).into())
    }

    async fn auth_disable(
        &self,
        request: Request<pb::AuthDisableRequest>,
    ) -> Result<Response<pb::AuthDisableResponse>, Status> {
        let header = Some(self.header(request.metadata())?);
        Ok(Response::new(pb::AuthDisableResponse { header }))
    }

    async fn auth_status(
        &self,
        request: Request<pb::AuthStatusRequest>,
    ) -> Result<Response<pb::AuthStatusResponse>, Status> {
        let header = Some(self.header(request.metadata())?);
        let auth_revision = GENESIS;
        Ok(Response::new(pb::AuthStatusResponse {
            header,
            enabled: false,
            auth_revision,
        }))
    }

    async fn authenticate(
        &self,
        _request: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        Err(Refusal::from(Etcd::AuthNotEnabled).into())
    }

    async fn user_list(
        &self,
        request: Request<pb::AuthUserListRequest>,
    ) -> Result<Response<pb::AuthUserListResponse>, Status> {
        let header = Some(self.header(request.metadata())?);
        Ok(Response::new(pb::AuthUserListResponse {
            header,
            users: vec![],
        }))
    }

    async fn role_list(
        &self,
        request: Request<pb::AuthRoleListRequest>,
    ) -> Result<Response<pb::AuthRoleListResponse>, Status> {
        let header = Some(self.header(request.metadata())?);
        Ok(Response::new(pb::AuthRoleListResponse {
            header,
            roles: vec![],
        }))
    }

    refused! {
        user_add(AuthUserAddRequest) -> AuthUserAddResponse;
        user_get(AuthUserGetRequest) -> AuthUserGetResponse;
        user_delete(AuthUserDeleteRequest) -> AuthUserDeleteResponse;
        user_change_password(AuthUserChangePasswordRequest) -> AuthUserChangePasswordResponse;
        user_grant_role(AuthUserGrantRoleRequest) -> AuthUserGrantRoleResponse;
        user_revoke_role(AuthUserRevokeRoleRequest) -> AuthUserRevokeRoleResponse;
        role_add(AuthRoleAddRequest) -> AuthRoleAddResponse;
        role_get(AuthRoleGetRequest) -> AuthRoleGetResponse;
        role_delete(AuthRoleDeleteRequest) -> AuthRoleDeleteResponse;
        role_grant_permission(AuthRoleGrantPermissionRequest) -> AuthRoleGrantPermissionResponse;
        role_revoke_permission(AuthRoleRevokePermissionRequest) -> AuthRoleRevokePermissionResponse;
    }
}
