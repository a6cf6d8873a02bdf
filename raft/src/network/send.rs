//! What openraft sends, put on the lanes.
//!
//! Entries go out one request at a time per member, each as large as the log reader makes it; while one is on
//! its way the next gathers, so batches grow with the latency by themselves. Every request has a deadline.
//!
//! A member whose disk is full answers so and is left alone for a moment, as one that can not be reached.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use meridian_proto::peer::envelope::Body;
use meridian_proto::peer::{self, Lane, append_response, transfer_leader_reply};
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkV2};
use tokio::time::Instant;

use crate::form::{self, Malformed};
use crate::network::connection::CallError;
use crate::network::lanes::{Link, Peers};
use crate::network::traffic;
use crate::pressure::Pressure;
use crate::snapshot::{self, SnapshotData, Snapshots};
use crate::type_config::{Address, Snapshot, TypeConfig, Vote};

type RpcError = RPCError<TypeConfig>;

/// How long one piece of a snapshot may take to leave.
const CHUNK_TIME: Duration = Duration::from_secs(10);
/// How long installing may take beside what its size allows for.
const INSTALL_TIME: Duration = Duration::from_mins(1);
/// The slowest installing that is waited for.
const INSTALL_BYTES_PER_SECOND: u64 = 10 * 1024 * 1024;
/// How large a piece of a snapshot is.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Makes a sender for each member and purpose.
#[derive(Clone)]
pub struct Senders {
    /// The lanes.
    pub peers: Arc<Peers>,
    /// Where snapshots lie.
    pub snapshots: Snapshots,
    /// Whether disks are full.
    pub pressure: Arc<Pressure>,
    /// How long entries may take to be on the other side's disk.
    pub append_time: Duration,
}

/// Sends to one member, for one purpose.
pub struct Sender {
    to: Senders,
    link: Arc<Link>,
    lane: Lane,
}

impl RaftNetworkFactory<TypeConfig> for Senders {
    type Network = Sender;

    async fn new_client(&mut self, target: u64, node: &Address) -> Sender {
        self.sender(target, node, Lane::Entries)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Address) -> Sender {
        self.sender(target, node, Lane::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Address) -> Sender {
        self.sender(target, node, Lane::Snapshot)
    }
}

impl Senders {
    fn sender(&self, target: u64, node: &Address, lane: Lane) -> Sender {
        Sender {
            to: self.clone(),
            link: self.peers.link(target, &node.peer_urls),
            lane,
        }
    }
}

impl Sender {
    async fn call(&self, lane: Lane, body: Body, time: Duration) -> Result<Body, CallError> {
        self.to
            .peers
            .call(&self.link, lane, body, Instant::now() + time)
            .await
    }

    fn failed(&self, action: RPCTypes, time: Duration, error: &CallError) -> RpcError {
        match error {
            // openraft waits before it tries again.
            CallError::NotSent(_) => RPCError::Unreachable(Unreachable::from_string(error)),
            CallError::Lost | CallError::Refused(_) => {
                RPCError::Network(NetworkError::from_string(error))
            }
            CallError::TimedOut => RPCError::Timeout(Timeout {
                action,
                id: self.to.peers.roster().identity().member_id,
                target: self.link.id,
                timeout: time,
            }),
        }
    }

    async fn ask_vote(
        &self,
        body: Body,
        option: &RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let time = option.soft_ttl();
        match self.call(Lane::Heartbeat, body, time).await {
            Ok(Body::VoteResponse(response) | Body::PreVoteResponse(response)) => {
                form::parse_vote_response(&response).map_err(|e| malformed(&e))
            }
            Ok(_) => Err(malformed(&Malformed("answer to a vote"))),
            Err(error) => Err(self.failed(RPCTypes::Vote, time, &error)),
        }
    }
}

fn malformed(error: &Malformed) -> RpcError {
    RPCError::Unreachable(Unreachable::new(error))
}

impl RaftNetworkV2<TypeConfig> for Sender {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        let heartbeat = self.lane == Lane::Heartbeat;
        let time = if heartbeat {
            option.hard_ttl()
        } else {
            self.to.append_time
        };
        let prev_fits = match (&request.prev_log_id, request.entries.first()) {
            (_, None) => true,
            (None, Some(first)) => first.log_id.index() == 0,
            (Some(prev), Some(first)) => first.log_id.index() == prev.index() + 1,
        };
        if !prev_fits {
            // openraft checks this in debug builds only; sent, it would corrupt the other side's log.
            tracing::error!("the log gave entries that do not follow each other; not sent");
            return Err(malformed(&Malformed("order of entries")));
        }
        let started = Instant::now();
        let body = Body::Append(form::append(request, self.to.pressure.takes_urgent_only()));
        let response = match self.call(self.lane, body, time).await {
            Ok(Body::AppendResponse(response)) => response,
            Ok(_) => return Err(malformed(&Malformed("answer to entries"))),
            Err(error) => {
                if heartbeat {
                    crate::metrics::HEARTBEAT_SEND_FAILURES.inc();
                }
                return Err(self.failed(RPCTypes::AppendEntries, time, &error));
            }
        };
        if heartbeat {
            traffic::round_trip(self.link.id, started.elapsed().as_secs_f64());
        }
        self.to.pressure.reported(self.link.id, response.full);
        Ok(match response.outcome {
            Some(append_response::Outcome::Success(_)) => AppendEntriesResponse::Success,
            Some(append_response::Outcome::Partial(partial)) => {
                AppendEntriesResponse::PartialSuccess(form::parse_raft_log_id(
                    partial.matching.as_ref(),
                ))
            }
            Some(append_response::Outcome::Conflict(_)) => AppendEntriesResponse::Conflict,
            Some(append_response::Outcome::HigherVote(vote)) => {
                let vote = form::parse_vote(Some(&vote)).map_err(|e| malformed(&e))?;
                AppendEntriesResponse::HigherVote(vote)
            }
            Some(append_response::Outcome::DiskFull(_)) => {
                return Err(RPCError::Unreachable(Unreachable::from_string(
                    "its disk is full",
                )));
            }
            None => return Err(malformed(&Malformed("answer to entries"))),
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.ask_vote(Body::Vote(form::vote_request(&request)), &option)
            .await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.ask_vote(Body::PreVote(form::vote_request(&request)), &option)
            .await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, snapshot) => sent,
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let time = option.soft_ttl();
        let body = Body::Transfer(peer::TransferLeader {
            from_leader: Some(form::vote(request.from_leader())),
            to: *request.to_node_id(),
            last_log_id: form::log_id(request.last_log_id()),
        });
        let reply = match self.call(Lane::Heartbeat, body, time).await {
            Ok(Body::TransferReply(reply)) => reply,
            Ok(_) => return Err(malformed(&Malformed("answer to a transfer"))),
            Err(error) => return Err(self.failed(RPCTypes::TransferLeader, time, &error)),
        };
        match reply.outcome {
            Some(transfer_leader_reply::Outcome::Ok(_)) => Ok(Ok(())),
            Some(transfer_leader_reply::Outcome::VoteChanged(votes)) => {
                let parse = |vote: Option<&peer::Vote>| {
                    form::parse_vote(vote).map_err(|error| malformed(&error))
                };
                Ok(Err(TransferLeaderError::VoteChanged {
                    expected: parse(votes.expected.as_ref())?,
                    actual: parse(votes.actual.as_ref())?,
                }))
            }
            Some(transfer_leader_reply::Outcome::LogNotFlushed(logs)) => {
                Ok(Err(TransferLeaderError::LogNotFlushed {
                    expected: form::parse_raft_log_id(logs.expected.as_ref()),
                    actual: form::parse_raft_log_id(logs.actual.as_ref()),
                }))
            }
            None => Err(malformed(&Malformed("answer to a transfer"))),
        }
    }
}

impl Sender {
    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let failed = |error: CallError| {
            StreamingError::from(self.failed(RPCTypes::InstallSnapshot, CHUNK_TIME, &error))
        };
        let unreadable = |what: String| StreamingError::Unreachable(Unreachable::from_string(what));
        let opened = self.to.snapshots.outgoing(&snapshot.snapshot).await;
        let outgoing = opened.map_err(|fault| unreadable(fault.to_string()))?;
        let bytes = outgoing.size();
        let membership = &snapshot.meta.last_membership;
        let transfer = rand::random();
        let header = peer::SnapshotHeader {
            vote: Some(form::vote(&vote)),
            last_log_id: form::log_id(snapshot.meta.last_log_id.as_ref()),
            membership: Some(form::membership(
                membership
                    .log_id()
                    .as_ref()
                    .map(crate::type_config::to_domain),
                membership.membership(),
            )),
            bytes,
            transfer,
        };
        tracing::info!(
            to = format_args!("{:x}", self.link.id),
            bytes,
            "sending a snapshot"
        );
        let deadline = Instant::now() + CHUNK_TIME;
        let connection = self
            .to
            .peers
            .connection(&self.link, Lane::Snapshot, deadline)
            .await
            .map_err(failed)?;
        let reply = connection
            .call(Body::SnapshotHeader(header), deadline)
            .await
            .map_err(failed)?;
        if let Some(done) = self.snapshot_reply(reply)? {
            return Ok(done);
        }
        let mut offset = 0;
        loop {
            let from = outgoing.clone();
            let data = snapshot::run(move || from.read(offset, CHUNK_BYTES))
                .await
                .map_err(|fault| unreadable(fault.to_string()))?;
            let next = offset + data.len() as u64;
            let last = next >= bytes || data.is_empty();
            let chunk = peer::SnapshotChunk {
                transfer,
                offset,
                data,
                last,
            };
            let body = Body::SnapshotChunk(chunk);
            if last {
                let time = INSTALL_TIME + Duration::from_secs(bytes / INSTALL_BYTES_PER_SECOND);
                let reply = connection
                    .call(body, Instant::now() + time)
                    .await
                    .map_err(failed)?;
                return self
                    .snapshot_reply(reply)?
                    .ok_or_else(|| unreadable("the other side took no snapshot".into()));
            }
            connection
                .tell(body, Instant::now() + CHUNK_TIME)
                .await
                .map_err(failed)?;
            offset = next;
        }
    }

    /// What the other side's answer means: done, refused, or go on.
    fn snapshot_reply(
        &self,
        reply: Body,
    ) -> Result<Option<SnapshotResponse<TypeConfig>>, StreamingError<TypeConfig>> {
        let Body::SnapshotReply(reply) = reply else {
            return Err(malformed(&Malformed("answer to a snapshot")).into());
        };
        if !reply.error.is_empty() {
            tracing::warn!(
                to = format_args!("{:x}", self.link.id),
                error = reply.error,
                "a snapshot was refused"
            );
            return Err(StreamingError::Unreachable(Unreachable::from_string(
                reply.error,
            )));
        }
        if reply.vote.is_none() {
            return Ok(None);
        }
        let theirs = form::parse_vote(reply.vote.as_ref()).map_err(|e| malformed(&e))?;
        Ok(Some(SnapshotResponse::new(theirs)))
    }
}
