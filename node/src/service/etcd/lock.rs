//! Lock: mutual exclusion by name.
//!
//! Whoever stands first in line holds the lock. The `create_revision` of its key is a fencing token: it grows
//! with every holder, and a resource that remembers the highest it saw can refuse an old holder that comes late.

use bytes::Bytes;
use meridian_proto::v3lockpb::lock_server;
use meridian_proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use tonic::{Request, Response, Status};

use crate::service::etcd::contend::Contest;
use crate::status::{Etcd, Refusal};

/// The service.
pub struct Lock {
    contest: Contest,
}

impl Lock {
    /// Serves from what locks and elections share.
    pub fn new(contest: Contest) -> Self {
        Self { contest }
    }

    async fn take(&self, request: Request<LockRequest>) -> Result<LockResponse, Refusal> {
        let mut contender = self.contest.enter(&request)?;
        let LockRequest { name, lease } = request.into_inner();
        let lease = contender.lease(lease).await?;
        let stood = contender.stand(&name, lease, Bytes::new()).await?;
        let mut revision = stood.revision;
        if contender.wait(&name, &stood).await? {
            // The lease may have ended while it waited, and the key with it.
            let (key, read_at) = contender.get(&stood.key).await?;
            if key.is_none_or(|kv| kv.create_revision != stood.create_revision) {
                return Err(Etcd::LockSessionExpired.into());
            }
            revision = read_at;
        }
        let header = Some(self.contest.pipeline.header(revision));
        Ok(LockResponse {
            header,
            key: stood.key,
        })
    }

    async fn give_back(&self, request: Request<UnlockRequest>) -> Result<UnlockResponse, Refusal> {
        let contender = self.contest.enter(&request)?;
        let revision = contender.delete(request.into_inner().key).await?;
        Ok(UnlockResponse {
            header: Some(self.contest.pipeline.header(revision)),
        })
    }
}

#[tonic::async_trait]
impl lock_server::Lock for Lock {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        self.take(request)
            .await
            .map(Response::new)
            .map_err(Refusal::into_unknown_status)
    }

    async fn unlock(
        &self,
        request: Request<UnlockRequest>,
    ) -> Result<Response<UnlockResponse>, Status> {
        self.give_back(request)
            .await
            .map(Response::new)
            .map_err(Refusal::into_unknown_status)
    }
}
