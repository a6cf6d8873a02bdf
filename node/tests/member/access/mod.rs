//! Access over real sockets: who gets in, what they may do, and what ends when rights do.

mod etcdctl;
mod methods;
mod proofs;
mod rights;

use std::future::Future;

use meridian_proto::authpb::Permission;
use meridian_proto::authpb::permission::Type;
use meridian_proto::etcdserverpb as pb;
use meridian_proto::etcdserverpb::auth_client::AuthClient;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::served::Served;

/// A member with authentication on: `root`, `alice` who has the role `r`, and `nobody` who has none.
pub struct Closed {
    pub served: Served,
    pub root: String,
}

/// A request with a token.
pub fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("token", token.parse().unwrap());
    request
}

/// A request with a token, under a tenant.
pub fn with_under<T>(token: &str, tenant: &'static str, message: T) -> Request<T> {
    let mut request = with(token, message);
    request
        .metadata_mut()
        .insert("meridian-tenant", tenant.parse().unwrap());
    request
}

pub fn role(name: &str, kind: Type, key: &str, end: &str) -> pb::AuthRoleGrantPermissionRequest {
    pb::AuthRoleGrantPermissionRequest {
        name: name.into(),
        perm: Some(Permission {
            perm_type: kind.into(),
            key: key.to_owned().into(),
            range_end: end.to_owned().into(),
        }),
    }
}

pub fn grant(user: &str, role: &str) -> pb::AuthUserGrantRoleRequest {
    pb::AuthUserGrantRoleRequest {
        user: user.into(),
        role: role.into(),
    }
}

pub fn user(name: &str) -> pb::AuthUserAddRequest {
    pb::AuthUserAddRequest {
        name: name.into(),
        password: password(name),
        ..Default::default()
    }
}

fn password(name: &str) -> String {
    format!("{name}'s password")
}

/// Makes `root`, and switches authentication on in a tenant.
pub async fn close(auth: &mut AuthClient<Channel>, tenant: &'static str) {
    let under = |message| with_under("", tenant, message);
    auth.user_add(under(user("root"))).await.unwrap();
    let mut request = Request::new(grant("root", "root"));
    let name = tenant.parse().unwrap();
    request.metadata_mut().insert("meridian-tenant", name);
    auth.user_grant_role(request).await.unwrap();
    let mut request = Request::new(pb::AuthEnableRequest {});
    let name = tenant.parse().unwrap();
    request.metadata_mut().insert("meridian-tenant", name);
    auth.auth_enable(request).await.unwrap();
}

impl Closed {
    pub async fn start() -> Self {
        let served = Served::start().await;
        let mut auth = AuthClient::new(served.channel().await);
        close(&mut auth, "default").await;
        let root = log_in(&mut auth, "default", "root").await.unwrap();
        for name in ["alice", "nobody"] {
            auth.user_add(with(&root, user(name))).await.unwrap();
        }
        let add = pb::AuthRoleAddRequest { name: "r".into() };
        auth.role_add(with(&root, add)).await.unwrap();
        auth.user_grant_role(with(&root, grant("alice", "r")))
            .await
            .unwrap();
        Self { served, root }
    }

    pub async fn auth(&self) -> AuthClient<Channel> {
        AuthClient::new(self.served.channel().await)
    }

    /// Gives the role `r` a right.
    pub async fn permit(&self, kind: Type, key: &str, end: &str) {
        let grant = with(&self.root, role("r", kind, key, end));
        self.auth()
            .await
            .role_grant_permission(grant)
            .await
            .unwrap();
    }

    /// Takes one from it.
    pub async fn forbid(&self, key: &str, end: &str) {
        let revoke = pb::AuthRoleRevokePermissionRequest {
            role: "r".into(),
            key: key.to_owned().into(),
            range_end: end.to_owned().into(),
        };
        let revoke = with(&self.root, revoke);
        self.auth()
            .await
            .role_revoke_permission(revoke)
            .await
            .unwrap();
    }

    pub async fn log_in(&self, name: &str) -> String {
        log_in(&mut self.auth().await, "default", name)
            .await
            .unwrap()
    }
}

/// A user's session.
pub async fn log_in(
    auth: &mut AuthClient<Channel>,
    tenant: &'static str,
    name: &str,
) -> Result<String, Status> {
    log_in_as(auth, tenant, name, &password(name)).await
}

/// A session for a password.
pub async fn log_in_as(
    auth: &mut AuthClient<Channel>,
    tenant: &'static str,
    name: &str,
    password: &str,
) -> Result<String, Status> {
    let mut request = Request::new(pb::AuthenticateRequest {
        name: name.into(),
        password: password.into(),
    });
    request
        .metadata_mut()
        .insert("meridian-tenant", tenant.parse().unwrap());
    Ok(auth.authenticate(request).await?.into_inner().token)
}

/// Waits for something that must come; a test that waits so long has failed.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    let patience = std::time::Duration::from_secs(60);
    tokio::time::timeout(patience, what).await.unwrap()
}
