//! Cluster: who belongs to it, and changes of that.
//!
//! Membership has one source of truth, the log. Names and client addresses are what members publish about
//! themselves once they run; a member that was added and has not started has neither.

use std::sync::Arc;

use meridian_domain::access::Operation;
use meridian_domain::intent::Intent;
use meridian_proto::etcdserverpb::cluster_server;
use meridian_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse,
};
use meridian_raft::{MembershipError, identity};
use tonic::{Request, Response, Status};

use crate::pipeline::{Pipeline, RequestContext};
use crate::status::{Etcd, Refusal};

/// The service.
pub struct Cluster {
    pipeline: Arc<Pipeline>,
}

impl Cluster {
    /// Serves from a pipeline.
    pub fn new(pipeline: Arc<Pipeline>) -> Self {
        Self { pipeline }
    }

    /// Who asks, if a voter was asked and they may.
    async fn voter<T>(
        &self,
        request: &Request<T>,
        operation: Operation,
    ) -> Result<RequestContext, Refusal> {
        let ctx = self.pipeline.voters_context(request)?;
        self.pipeline.permit_operation(&ctx, operation).await?;
        Ok(ctx)
    }
}

impl Cluster {
    /// What a removed member published is of no use any more; if this fails it only stays, listed nowhere.
    async fn forget(&self, id: u64, ctx: &RequestContext) {
        let system = self.pipeline.system_context(ctx.tenant.clone());
        let forgotten = self.pipeline.write(&system, Intent::MemberForget { id });
        if let Err(refusal) = forgotten.await {
            tracing::info!(
                member = id,
                code = refusal.code(),
                "what a removed member published stays"
            );
        }
    }
}

impl From<MembershipError> for Refusal {
    fn from(error: MembershipError) -> Self {
        match error {
            MembershipError::NotFound => Etcd::MemberNotFound,
            MembershipError::IdExists => Etcd::MemberIdExists,
            MembershipError::PeerUrlExists => Etcd::PeerUrlsExist,
            MembershipError::InvalidUrls => Etcd::MemberUrlsInvalid,
            MembershipError::TooManyLearners => Etcd::TooManyLearners,
            MembershipError::TooManyMembers => {
                let most = meridian_domain::limits::MEMBERS_MAX;
                Etcd::TooManyRequests {
                    what: format!("a cluster has at most {most} members"),
                }
            }
            MembershipError::NotLearner => Etcd::NotLearner,
            MembershipError::LearnerNotReady => Etcd::LearnerNotReady,
            MembershipError::NotEnoughStarted => Etcd::NotEnoughStartedMembers,
            MembershipError::Unhealthy => Etcd::UnhealthyCluster,
            MembershipError::BadTransferee => Etcd::BadLeaderTransferee,
            MembershipError::TransferTimedOut => Etcd::LeaderTransferTimedOut,
            MembershipError::NotLeader => Etcd::NotLeader,
            MembershipError::Unavailable(unavailable) => return unavailable.into(),
        }
        .into()
    }
}

/// The members, ordered by id.
pub fn members(pipeline: &Pipeline) -> Vec<Member> {
    let mut members: Vec<Member> = pipeline
        .replica
        .status()
        .members
        .into_iter()
        .map(|peer| Member {
            id: peer.id,
            name: peer.name,
            peer_ur_ls: peer.peer_urls,
            client_ur_ls: peer.client_urls,
            is_learner: peer.learner,
        })
        .collect();
    members.sort_by_key(|member| member.id);
    members
}

#[tonic::async_trait]
impl cluster_server::Cluster for Cluster {
    async fn member_add(
        &self,
        request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        let ctx = self.voter(&request, Operation::MemberChange).await?;
        let MemberAddRequest {
            peer_ur_ls,
            is_learner,
        } = request.into_inner();
        let id = identity::random_id();
        let replica = &self.pipeline.replica;
        let deadline = ctx.deadline;
        let added = if is_learner {
            replica.add_learner(id, peer_ur_ls, deadline).await
        } else {
            replica.add_voter(id, peer_ur_ls, deadline).await
        };
        added.map_err(Refusal::from)?;
        let members = members(&self.pipeline);
        Ok(Response::new(MemberAddResponse {
            header: Some(self.pipeline.header_without_revision()),
            member: members.iter().find(|member| member.id == id).cloned(),
            members,
        }))
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        let ctx = self.voter(&request, Operation::MemberChange).await?;
        let id = request.into_inner().id;
        let replica = &self.pipeline.replica;
        replica
            .remove(id, ctx.deadline)
            .await
            .map_err(Refusal::from)?;
        // One that removed itself writes nothing any more.
        if id != self.pipeline.ids.member {
            self.forget(id, &ctx).await;
        }
        Ok(Response::new(MemberRemoveResponse {
            header: Some(self.pipeline.header_without_revision()),
            members: members(&self.pipeline),
        }))
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        let ctx = self.voter(&request, Operation::MemberChange).await?;
        let MemberUpdateRequest { id, peer_ur_ls } = request.into_inner();
        let replica = &self.pipeline.replica;
        replica
            .update(id, peer_ur_ls, ctx.deadline)
            .await
            .map_err(Refusal::from)?;
        Ok(Response::new(MemberUpdateResponse {
            header: Some(self.pipeline.header_without_revision()),
            members: members(&self.pipeline),
        }))
    }

    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        let ctx = self.voter(&request, Operation::MemberList).await?;
        if request.get_ref().linearizable {
            self.pipeline.barrier(&ctx).await?;
        }
        Ok(Response::new(MemberListResponse {
            header: Some(self.pipeline.header_without_revision()),
            members: members(&self.pipeline),
        }))
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        let ctx = self.voter(&request, Operation::MemberChange).await?;
        let id = request.into_inner().id;
        let replica = &self.pipeline.replica;
        replica
            .promote(id, ctx.deadline)
            .await
            .map_err(Refusal::from)?;
        Ok(Response::new(MemberPromoteResponse {
            header: Some(self.pipeline.header_without_revision()),
            members: members(&self.pipeline),
        }))
    }
}
