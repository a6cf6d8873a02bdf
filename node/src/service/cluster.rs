//! Cluster: how a member is and who its cluster is, in Meridian's words.
//!
//! Answered from what this member has, also without a leader.

use std::sync::Arc;
use std::time::Instant;

use meridian_domain::access::Operation;
use meridian_domain::command::MemberRecord;
use meridian_domain::view::ClusterView;
use meridian_proto::api::v1::cluster_service_server::ClusterService;
use meridian_proto::api::v1::{
    ClusterMember, ClusterStatusRequest, ClusterStatusResponse, Position, Role, StateDigest,
};
use meridian_raft::{Peer, Unavailable};
use meridian_storage::store;
use tonic::{Request, Response, Status};

use crate::directory;
use crate::pipeline::Pipeline;
use crate::service::{etcd, scrape};
use crate::status::Refusal;
use crate::version;

/// The service.
pub struct Cluster {
    pipeline: Arc<Pipeline>,
    began: Instant,
}

impl Cluster {
    /// Serves from a pipeline. The member's time counts from now.
    pub fn new(pipeline: Arc<Pipeline>) -> Self {
        Self {
            pipeline,
            began: Instant::now(),
        }
    }

    fn members(&self, status: &meridian_raft::Status) -> Vec<ClusterMember> {
        let published = self.pipeline.store.cluster().members();
        let own = (status.id, self.pipeline.settings.as_ref());
        let mut members: Vec<ClusterMember> = status
            .members
            .iter()
            .map(|peer| {
                let said = published.iter().find(|record| record.id == peer.id);
                let mut member = shown(peer, said, status.leader);
                if member.id == own.0 {
                    // What it is going to publish, if it has not yet.
                    own.1.name.clone_into(&mut member.name);
                    own.1.region.clone_into(&mut member.region);
                    own.1.zone.clone_into(&mut member.zone);
                    version::MERIDIAN.clone_into(&mut member.version);
                }
                member
            })
            .collect();
        members.sort_by_key(|member| member.id);
        members
    }
}

fn shown(peer: &Peer, said: Option<&MemberRecord>, leader: Option<u64>) -> ClusterMember {
    let role = match leader {
        Some(leader) if leader == peer.id => Role::Leader,
        _ if peer.learner => Role::Learner,
        Some(_) => Role::Follower,
        None => Role::Unspecified,
    };
    ClusterMember {
        id: peer.id,
        name: peer.name.clone(),
        role: role.into(),
        peer_urls: peer.peer_urls.clone(),
        client_urls: peer.client_urls.clone(),
        region: said.map(|said| said.region.clone()).unwrap_or_default(),
        zone: said.map(|said| said.zone.clone()).unwrap_or_default(),
        version: said.map(|said| said.version.clone()).unwrap_or_default(),
    }
}

fn digest(digest: &store::Digest) -> StateDigest {
    StateDigest {
        applied_index: digest.applied.index,
        digest: digest.hash,
    }
}

#[tonic::async_trait]
impl ClusterService for Cluster {
    async fn status(
        &self,
        request: Request<ClusterStatusRequest>,
    ) -> Result<Response<ClusterStatusResponse>, Status> {
        let ctx = self.pipeline.context(&request)?;
        let operation = Operation::Status;
        self.pipeline.permit_operation(&ctx, operation).await?;
        let status = self.pipeline.replica.status();
        let members = self.members(&status);
        let recent: Vec<StateDigest> = self.pipeline.store.digests().iter().map(digest).collect();
        let data = self.pipeline.settings.data_dir();
        let disk_bytes = tokio::task::spawn_blocking(move || directory::bytes_below(&data))
            .await
            .map_err(|_| Refusal::from(Unavailable::Stopped))?;
        let mut errors = etcd::maintenance::errors(&self.pipeline, status.leader.is_some());
        if status.fenced {
            errors.push(Unavailable::Fenced.to_string());
        }
        if status.recovering {
            errors.push("takes back what its damaged log forgot; does not vote yet".into());
        }
        let applied = Position {
            term: status.applied.term,
            index: status.applied.index,
        };
        Ok(Response::new(ClusterStatusResponse {
            cluster_id: status.cluster_id,
            member: members
                .iter()
                .find(|member| member.id == status.id)
                .cloned(),
            etcd_version: version::ETCD.into(),
            leader_id: status.leader.unwrap_or(0),
            term: status.term,
            last_index: status.last_index,
            committed_index: status.commit_index,
            applied: Some(applied),
            digest: recent.last().copied(),
            recent_digests: recent,
            disk_bytes,
            memory_bytes: scrape::resident_bytes(),
            uptime_seconds: self.began.elapsed().as_secs(),
            errors,
            members,
        }))
    }
}
