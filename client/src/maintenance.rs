//! How members are, and what keeps them well: status, alarms, hashes, defragmentation.
//!
//! Most calls here are about one member, so they name its endpoint.

use std::time::Duration;

use futures::future::join_all;
use meridian_proto::api::v1 as api;
use meridian_proto::api::v1::cluster_service_client::ClusterServiceClient;
use meridian_proto::etcdserverpb as wire;
use meridian_proto::etcdserverpb::alarm_request::AlarmAction;
use meridian_proto::etcdserverpb::maintenance_client::MaintenanceClient;

use crate::connect::{Call, Client, To};
use crate::error::{Kind, Result};

/// How one member is, by its own account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberStatus {
    /// The cluster.
    pub cluster_id: u64,
    /// The member.
    pub member_id: u64,
    /// The version of etcd's API it speaks.
    pub version: String,
    /// Bytes its store takes.
    pub db_size: i64,
    /// Bytes of it that are in use.
    pub db_size_in_use: i64,
    /// The leader it follows, or zero.
    pub leader_id: u64,
    /// The last entry known to be committed.
    pub raft_index: u64,
    /// The term it is in.
    pub raft_term: u64,
    /// The last entry it applied.
    pub raft_applied_index: u64,
    /// Whether it has no vote.
    pub is_learner: bool,
    /// The tenant's revision there.
    pub revision: i64,
    /// What is wrong with it.
    pub errors: Vec<String>,
}

impl MemberStatus {
    /// Whether it leads.
    pub fn is_leader(&self) -> bool {
        self.member_id != 0 && self.leader_id == self.member_id
    }
}

/// What only a member that runs Meridian says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeridianStatus {
    /// Meridian's version.
    pub version: String,
    /// Its name.
    pub name: String,
    /// Its region; empty if not set.
    pub region: String,
    /// Its zone; empty if not set.
    pub zone: String,
    /// Bytes its data directory takes.
    pub disk_bytes: u64,
    /// Bytes its process holds in memory.
    pub memory_bytes: u64,
    /// Since it started.
    pub uptime: Duration,
    /// The applied index and the hash of the state there; equal on members that are equally far.
    pub digest: Option<(u64, u64)>,
}

/// A hash over a tenant's keys: equal on all members for equal revisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// The hash.
    pub hash: u32,
    /// The revision it covers; zero where the server does not say.
    pub hash_revision: i64,
    /// The revision compacted up to.
    pub compact_revision: i64,
}

/// What an alarm is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmKind {
    /// Out of space: writes that need more are refused.
    NoSpace,
    /// The state of a member differs from the others': writes are refused.
    Corrupt,
}

impl std::fmt::Display for AlarmKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoSpace => "NOSPACE",
            Self::Corrupt => "CORRUPT",
        })
    }
}

/// An alarm that is raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// The member it is about.
    pub member_id: u64,
    /// What it is about.
    pub kind: AlarmKind,
}

impl Client {
    /// How the member at one of the client's endpoints is; from its own state, also without a leader.
    pub async fn status(&self, endpoint: &str) -> Result<MemberStatus> {
        let to = To::One(self.member_at("status", endpoint)?);
        let send =
            |channel, request| async move { MaintenanceClient::new(channel).status(request).await };
        let answer = self
            .call(Call::read("status").to(to), wire::StatusRequest {}, send)
            .await?;
        let header = answer.header.unwrap_or_default();
        Ok(MemberStatus {
            cluster_id: header.cluster_id,
            member_id: header.member_id,
            version: answer.version,
            db_size: answer.db_size,
            db_size_in_use: answer.db_size_in_use,
            leader_id: answer.leader,
            raft_index: answer.raft_index,
            raft_term: answer.raft_term,
            raft_applied_index: answer.raft_applied_index,
            is_learner: answer.is_learner,
            revision: header.revision,
            errors: answer.errors,
        })
    }

    /// The status of every endpoint, asked all at once; in the order of the endpoints.
    pub async fn statuses(&self) -> Vec<(String, Result<MemberStatus>)> {
        join_all(self.endpoints().into_iter().map(|endpoint| async move {
            let status = self.status(&endpoint).await;
            (endpoint, status)
        }))
        .await
    }

    /// What a member says about itself beyond etcd's status; none if it does not run Meridian.
    pub async fn meridian_status(&self, endpoint: &str) -> Result<Option<MeridianStatus>> {
        let to = To::One(self.member_at("status", endpoint)?);
        let send = |channel, request| async move {
            ClusterServiceClient::new(channel).status(request).await
        };
        let call = Call::read("status").to(to);
        let answer = match self.call(call, api::ClusterStatusRequest {}, send).await {
            Ok(answer) => answer,
            Err(error) if *error.kind() == Kind::Unsupported => return Ok(None),
            Err(error) => return Err(error),
        };
        let member = answer.member.unwrap_or_default();
        Ok(Some(MeridianStatus {
            version: member.version,
            name: member.name,
            region: member.region,
            zone: member.zone,
            disk_bytes: answer.disk_bytes,
            memory_bytes: answer.memory_bytes,
            uptime: Duration::from_secs(answer.uptime_seconds),
            digest: answer
                .digest
                .map(|digest| (digest.applied_index, digest.digest)),
        }))
    }

    /// A hash over the tenant's keys at `revision` (zero: now), as the member at `endpoint` has them.
    pub async fn hash_kv(&self, endpoint: &str, revision: i64) -> Result<HashKv> {
        let to = To::One(self.member_at("hash", endpoint)?);
        let send = |channel, request| async move {
            MaintenanceClient::new(channel).hash_kv(request).await
        };
        let request = wire::HashKvRequest { revision };
        let answer = self.call(Call::read("hash").to(to), request, send).await?;
        Ok(HashKv {
            hash: answer.hash,
            hash_revision: answer.hash_revision,
            compact_revision: answer.compact_revision,
        })
    }

    /// Gives unused space of the member at `endpoint` back to its disk.
    pub async fn defragment(&self, endpoint: &str) -> Result<()> {
        let to = To::One(self.member_at("defragment", endpoint)?);
        let send = |channel, request| async move {
            MaintenanceClient::new(channel).defragment(request).await
        };
        let call = Call::read("defragment")
            .to(to)
            .within(Duration::from_mins(10));
        self.call(call, wire::DefragmentRequest {}, send).await?;
        Ok(())
    }

    /// The alarms that are raised.
    pub async fn alarms(&self) -> Result<Vec<Alarm>> {
        let request = wire::AlarmRequest {
            action: AlarmAction::Get.into(),
            ..Default::default()
        };
        self.alarm(Call::read("alarm list"), request).await
    }

    /// Takes an alarm back. Returns what was taken back.
    pub async fn disarm(&self, alarm: Alarm) -> Result<Vec<Alarm>> {
        let kind = match alarm.kind {
            AlarmKind::NoSpace => wire::AlarmType::Nospace,
            AlarmKind::Corrupt => wire::AlarmType::Corrupt,
        };
        let request = wire::AlarmRequest {
            action: AlarmAction::Deactivate.into(),
            member_id: alarm.member_id,
            alarm: kind.into(),
        };
        self.alarm(Call::change("alarm disarm"), request).await
    }

    async fn alarm(&self, call: Call, request: wire::AlarmRequest) -> Result<Vec<Alarm>> {
        let send =
            |channel, request| async move { MaintenanceClient::new(channel).alarm(request).await };
        let answer = self.call(call, request, send).await?;
        let alarms = answer.alarms.into_iter().filter_map(|alarm| {
            let kind = match alarm.alarm() {
                wire::AlarmType::None => return None,
                wire::AlarmType::Nospace => AlarmKind::NoSpace,
                wire::AlarmType::Corrupt => AlarmKind::Corrupt,
            };
            Some(Alarm {
                member_id: alarm.member_id,
                kind,
            })
        });
        Ok(alarms.collect())
    }
}
