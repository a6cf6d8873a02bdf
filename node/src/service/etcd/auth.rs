//! Auth: users, roles and permissions, as etcd's clients manage them.
//!
//! Every change is an intent and every question a query, like any other: checked, planned and logged by the
//! pipeline. Passwords are hashed here, before anything goes further, and only for callers who may set one.

use std::sync::Arc;

use meridian_domain::access::change::{AccessChange, AccessFound, AccessQuery};
use meridian_domain::access::grant::{Permission, PermissionKind};
use meridian_domain::access::role::{Assignment, Role};
use meridian_domain::access::{Action, principal::Subject};
use meridian_domain::answer::Found;
use meridian_domain::intent::Intent;
use meridian_domain::key::{KeyRange, RangeEnd};
use meridian_domain::query::Query;
use meridian_domain::rejection::Rejection;
use meridian_domain::revision::Revision;
use meridian_proto::authpb;
use meridian_proto::authpb::permission::Type;
use meridian_proto::etcdserverpb as pb;
use meridian_proto::etcdserverpb::auth_server;
use tonic::{Request, Response, Status};

use super::kv::mismatch;
use crate::authn::evidence::source;
use crate::pipeline::{Consistency, Pipeline, RequestContext};
use crate::status::Refusal;

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

    /// Changes rules; the header of the answer.
    async fn change<T>(
        &self,
        request: &Request<T>,
        change: AccessChange,
    ) -> Result<Option<pb::ResponseHeader>, Refusal> {
        let ctx = self.pipeline.voters_context(request)?;
        self.change_as(&ctx, change).await
    }

    async fn change_as(
        &self,
        ctx: &RequestContext,
        change: AccessChange,
    ) -> Result<Option<pb::ResponseHeader>, Refusal> {
        let receipt = self.pipeline.write(ctx, Intent::Access(change)).await?;
        Ok(Some(self.pipeline.header(receipt.revision)))
    }

    async fn ask<T>(
        &self,
        request: &Request<T>,
        query: AccessQuery,
    ) -> Result<(AccessFound, Option<pb::ResponseHeader>), Status> {
        let ctx = self.pipeline.voters_context(request)?;
        let query = Query::Access(query);
        let answer = self
            .pipeline
            .read(&ctx, &query, Consistency::Linearizable)
            .await?;
        let header = self.pipeline.header(answer.revision);
        match answer.found {
            Found::Access(found) => Ok((found, Some(header))),
            _ => Err(mismatch("access")),
        }
    }

    async fn names<T>(
        &self,
        request: &Request<T>,
        query: AccessQuery,
    ) -> Result<(Vec<String>, Option<pb::ResponseHeader>), Status> {
        match self.ask(request, query).await? {
            (AccessFound::Names(names), header) => {
                Ok((names.into_iter().map(String::from).collect(), header))
            }
            _ => Err(mismatch("names")),
        }
    }

    /// Hashes a password for a change, if the caller may make the change.
    async fn hashed(
        &self,
        ctx: &RequestContext,
        change: AccessChange,
        password: String,
    ) -> Result<Box<str>, Refusal> {
        let tenant = self.pipeline.tenant(ctx, &mut false).await?;
        let intent = Intent::Access(change);
        let action = Action::Write(&intent);
        self.pipeline.permit(ctx, &tenant, action).await?;
        self.pipeline.hashed(&tenant, password).await
    }
}

/// The right of a wire permission; none if it says none.
fn permission(wire: Option<authpb::Permission>) -> Option<Permission> {
    let wire = wire?;
    let kind = match Type::try_from(wire.perm_type).ok()? {
        Type::Read => PermissionKind::Read,
        Type::Write => PermissionKind::Write,
        Type::Readwrite => PermissionKind::ReadWrite,
    };
    let range = KeyRange::from_wire(wire.key, wire.range_end);
    Some(Permission { kind, range })
}

fn shown(permission: Permission) -> authpb::Permission {
    let Permission { kind, range } = permission;
    let perm_type = match kind {
        PermissionKind::Read => Type::Read,
        PermissionKind::Write => Type::Write,
        PermissionKind::ReadWrite => Type::Readwrite,
    };
    authpb::Permission {
        perm_type: perm_type.into(),
        key: range.start,
        range_end: match range.end {
            RangeEnd::Single => bytes::Bytes::new(),
            RangeEnd::Before(end) => end,
            RangeEnd::Open => bytes::Bytes::from_static(&[0]),
        },
    }
}

fn permissions(role: &Role) -> Vec<authpb::Permission> {
    role.permissions().into_iter().map(shown).collect()
}

fn user(name: String) -> Subject {
    Subject::User(name.into())
}

#[tonic::async_trait]
impl auth_server::Auth for Auth {
    async fn auth_enable(
        &self,
        request: Request<pb::AuthEnableRequest>,
    ) -> Result<Response<pb::AuthEnableResponse>, Status> {
        let header = self.change(&request, AccessChange::Enable).await?;
        Ok(Response::new(pb::AuthEnableResponse { header }))
    }

    async fn auth_disable(
        &self,
        request: Request<pb::AuthDisableRequest>,
    ) -> Result<Response<pb::AuthDisableResponse>, Status> {
        let header = self.change(&request, AccessChange::Disable).await?;
        Ok(Response::new(pb::AuthDisableResponse { header }))
    }

    async fn auth_status(
        &self,
        request: Request<pb::AuthStatusRequest>,
    ) -> Result<Response<pb::AuthStatusResponse>, Status> {
        let (found, header) = self.ask(&request, AccessQuery::Status).await?;
        let AccessFound::Status {
            door,
            rules_revision,
        } = found
        else {
            return Err(mismatch("auth status"));
        };
        Ok(Response::new(pb::AuthStatusResponse {
            header,
            enabled: door.enabled,
            auth_revision: GENESIS + rules_revision,
        }))
    }

    async fn authenticate(
        &self,
        request: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        let mut ctx = self.pipeline.voters_context(&request)?;
        // A token that came along is of no use here; a client renews one that is over.
        ctx.who = crate::authn::Who::Nobody;
        let from = source(request.extensions());
        let pb::AuthenticateRequest { name, password } = request.into_inner();
        let (tenant, token) = self.pipeline.log_in(&ctx, name, password, from).await?;
        let revision: Revision = tenant.root().revision();
        Ok(Response::new(pb::AuthenticateResponse {
            header: Some(self.pipeline.header(revision)),
            token,
        }))
    }

    async fn user_add(
        &self,
        request: Request<pb::AuthUserAddRequest>,
    ) -> Result<Response<pb::AuthUserAddResponse>, Status> {
        let ctx = self.pipeline.voters_context(&request)?;
        let request = request.into_inner();
        if request.name.is_empty() {
            return Err(Refusal::from(Rejection::UserNameEmpty).into());
        }
        let name: Box<str> = request.name.into();
        let add = |password| AccessChange::UserAdd {
            name: name.clone(),
            password,
        };
        let without = request.options.is_some_and(|options| options.no_password);
        let password = if without {
            None
        } else {
            Some(self.hashed(&ctx, add(None), request.password).await?)
        };
        let header = self.change_as(&ctx, add(password)).await?;
        Ok(Response::new(pb::AuthUserAddResponse { header }))
    }

    async fn user_get(
        &self,
        request: Request<pb::AuthUserGetRequest>,
    ) -> Result<Response<pb::AuthUserGetResponse>, Status> {
        let name = request.get_ref().name.as_str().into();
        let (found, header) = self.ask(&request, AccessQuery::User(name)).await?;
        let AccessFound::Assignments(held) = found else {
            return Err(mismatch("user"));
        };
        let mut roles: Vec<String> = held.into_iter().map(|held| held.role.into()).collect();
        roles.sort();
        roles.dedup();
        Ok(Response::new(pb::AuthUserGetResponse { header, roles }))
    }

    async fn user_list(
        &self,
        request: Request<pb::AuthUserListRequest>,
    ) -> Result<Response<pb::AuthUserListResponse>, Status> {
        let (users, header) = self.names(&request, AccessQuery::Users).await?;
        Ok(Response::new(pb::AuthUserListResponse { header, users }))
    }

    async fn user_delete(
        &self,
        request: Request<pb::AuthUserDeleteRequest>,
    ) -> Result<Response<pb::AuthUserDeleteResponse>, Status> {
        let name = request.get_ref().name.as_str().into();
        let header = self
            .change(&request, AccessChange::UserDelete { name })
            .await?;
        Ok(Response::new(pb::AuthUserDeleteResponse { header }))
    }

    async fn user_change_password(
        &self,
        request: Request<pb::AuthUserChangePasswordRequest>,
    ) -> Result<Response<pb::AuthUserChangePasswordResponse>, Status> {
        let ctx = self.pipeline.voters_context(&request)?;
        let request = request.into_inner();
        let name: Box<str> = request.name.into();
        let set = |password| AccessChange::UserPassword {
            name: name.clone(),
            password,
        };
        let password = self.hashed(&ctx, set(None), request.password).await?;
        let header = self.change_as(&ctx, set(Some(password))).await?;
        Ok(Response::new(pb::AuthUserChangePasswordResponse { header }))
    }

    async fn user_grant_role(
        &self,
        request: Request<pb::AuthUserGrantRoleRequest>,
    ) -> Result<Response<pb::AuthUserGrantRoleResponse>, Status> {
        let pb::AuthUserGrantRoleRequest { user: name, role } = request.get_ref().clone();
        let change = AccessChange::Assign {
            subject: user(name),
            assignment: Assignment::of(&role),
        };
        let header = self.change(&request, change).await?;
        Ok(Response::new(pb::AuthUserGrantRoleResponse { header }))
    }

    async fn user_revoke_role(
        &self,
        request: Request<pb::AuthUserRevokeRoleRequest>,
    ) -> Result<Response<pb::AuthUserRevokeRoleResponse>, Status> {
        let pb::AuthUserRevokeRoleRequest { name, role } = request.get_ref().clone();
        let change = AccessChange::Unassign {
            subject: user(name),
            role: role.into(),
        };
        let header = self.change(&request, change).await?;
        Ok(Response::new(pb::AuthUserRevokeRoleResponse { header }))
    }

    async fn role_add(
        &self,
        request: Request<pb::AuthRoleAddRequest>,
    ) -> Result<Response<pb::AuthRoleAddResponse>, Status> {
        let name = request.get_ref().name.as_str().into();
        let header = self
            .change(&request, AccessChange::RoleAdd { name })
            .await?;
        Ok(Response::new(pb::AuthRoleAddResponse { header }))
    }

    async fn role_get(
        &self,
        request: Request<pb::AuthRoleGetRequest>,
    ) -> Result<Response<pb::AuthRoleGetResponse>, Status> {
        let name = request.get_ref().role.as_str().into();
        let (found, header) = self.ask(&request, AccessQuery::Role(name)).await?;
        let AccessFound::Role(role) = found else {
            return Err(mismatch("role"));
        };
        let perm = permissions(&role);
        Ok(Response::new(pb::AuthRoleGetResponse { header, perm }))
    }

    async fn role_list(
        &self,
        request: Request<pb::AuthRoleListRequest>,
    ) -> Result<Response<pb::AuthRoleListResponse>, Status> {
        let (roles, header) = self.names(&request, AccessQuery::Roles).await?;
        Ok(Response::new(pb::AuthRoleListResponse { header, roles }))
    }

    async fn role_delete(
        &self,
        request: Request<pb::AuthRoleDeleteRequest>,
    ) -> Result<Response<pb::AuthRoleDeleteResponse>, Status> {
        let name = request.get_ref().role.as_str().into();
        let header = self
            .change(&request, AccessChange::RoleDelete { name })
            .await?;
        Ok(Response::new(pb::AuthRoleDeleteResponse { header }))
    }

    async fn role_grant_permission(
        &self,
        request: Request<pb::AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<pb::AuthRoleGrantPermissionResponse>, Status> {
        let pb::AuthRoleGrantPermissionRequest { name, perm } = request.get_ref().clone();
        let change = AccessChange::PermissionGrant {
            role: name.into(),
            permission: permission(perm),
        };
        let header = self.change(&request, change).await?;
        Ok(Response::new(pb::AuthRoleGrantPermissionResponse {
            header,
        }))
    }

    async fn role_revoke_permission(
        &self,
        request: Request<pb::AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<pb::AuthRoleRevokePermissionResponse>, Status> {
        let pb::AuthRoleRevokePermissionRequest {
            role,
            key,
            range_end,
        } = request.get_ref().clone();
        let change = AccessChange::PermissionRevoke {
            role: role.into(),
            range: KeyRange::from_wire(key, range_end),
        };
        let header = self.change(&request, change).await?;
        Ok(Response::new(pb::AuthRoleRevokePermissionResponse {
            header,
        }))
    }
}
