//! The members of the cluster: list, add, promote, update, remove, and who leads.

use meridian_proto::etcdserverpb as wire;
use meridian_proto::etcdserverpb::cluster_client::ClusterClient;
use meridian_proto::etcdserverpb::maintenance_client::MaintenanceClient;

use crate::connect::{Call, Client, To};
use crate::error::{Error, Kind, Result};

/// A member as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Its name; empty until it starts for the first time.
    pub name: String,
    /// Where the other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it starts for the first time.
    pub client_urls: Vec<String>,
    /// Whether it has no vote.
    pub is_learner: bool,
}

/// The members after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The cluster.
    pub cluster_id: u64,
    /// The member that was added, if one was.
    pub added: Option<Member>,
    /// All members.
    pub members: Vec<Member>,
}

impl Membership {
    fn of(header: Option<wire::ResponseHeader>, members: Vec<wire::Member>) -> Self {
        Self {
            cluster_id: header.map_or(0, |header| header.cluster_id),
            added: None,
            members: members.into_iter().map(member).collect(),
        }
    }
}

fn member(member: wire::Member) -> Member {
    Member {
        id: member.id,
        name: member.name,
        peer_urls: member.peer_ur_ls,
        client_urls: member.client_ur_ls,
        is_learner: member.is_learner,
    }
}

impl Client {
    /// The members, by id; linearizable where the server can.
    pub async fn members(&self) -> Result<Membership> {
        let request = wire::MemberListRequest { linearizable: true };
        let send = |channel, request| async move {
            ClusterClient::new(channel).member_list(request).await
        };
        let answer = self.call(Call::read("member list"), request, send).await?;
        Ok(Membership::of(answer.header, answer.members))
    }

    /// Adds a member that other members will reach at `peer_urls`, with a vote or as a learner.
    pub async fn member_add(&self, peer_urls: Vec<String>, is_learner: bool) -> Result<Membership> {
        let request = wire::MemberAddRequest {
            peer_ur_ls: peer_urls,
            is_learner,
        };
        let send =
            |channel, request| async move { ClusterClient::new(channel).member_add(request).await };
        let answer = self.call(Call::change("member add"), request, send).await?;
        let membership = Membership::of(answer.header, answer.members);
        Ok(Membership {
            added: answer.member.map(member),
            ..membership
        })
    }

    /// Removes a member for good; its id is never used again.
    pub async fn member_remove(&self, id: u64) -> Result<Membership> {
        let request = wire::MemberRemoveRequest { id };
        let send = |channel, request| async move {
            ClusterClient::new(channel).member_remove(request).await
        };
        let answer = self
            .call(Call::change("member remove"), request, send)
            .await?;
        Ok(Membership::of(answer.header, answer.members))
    }

    /// Changes where the other members reach a member.
    pub async fn member_update(&self, id: u64, peer_urls: Vec<String>) -> Result<Membership> {
        let request = wire::MemberUpdateRequest {
            id,
            peer_ur_ls: peer_urls,
        };
        let send = |channel, request| async move {
            ClusterClient::new(channel).member_update(request).await
        };
        let answer = self
            .call(Call::change("member update"), request, send)
            .await?;
        Ok(Membership::of(answer.header, answer.members))
    }

    /// Gives a learner that has caught up a vote.
    pub async fn member_promote(&self, id: u64) -> Result<Membership> {
        let request = wire::MemberPromoteRequest { id };
        let send = |channel, request| async move {
            ClusterClient::new(channel).member_promote(request).await
        };
        let answer = self
            .call(Call::change("member promote"), request, send)
            .await?;
        Ok(Membership::of(answer.header, answer.members))
    }

    /// Hands leadership to the member `id`. One of the client's endpoints must be the leader's, since
    /// only the leader can hand over.
    pub async fn move_leader(&self, id: u64) -> Result<()> {
        let mut leader = None;
        for (endpoint, status) in self.statuses().await {
            match status {
                Ok(status) if status.member_id == id && status.leader_id == id => return Ok(()),
                Ok(status) if status.is_leader() => leader = Some(endpoint),
                _ => {}
            }
        }
        let Some(leader) = leader else {
            let text = "none of the endpoints is the leader's; add it to the endpoints";
            return Err(Error::of(Kind::Unavailable, "move leader", text));
        };
        let leader = self.member_at("move leader", &leader)?;
        let request = wire::MoveLeaderRequest { target_id: id };
        let send = |channel, request| async move {
            MaintenanceClient::new(channel).move_leader(request).await
        };
        self.call(
            Call::change("move leader").to(To::One(leader)),
            request,
            send,
        )
        .await?;
        Ok(())
    }
}
