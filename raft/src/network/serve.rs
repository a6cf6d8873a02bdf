//! What this member answers to other members' questions.

use std::sync::Arc;
use std::time::Duration;

use meridian_domain::revision::LogId;
use meridian_proto::peer::{self, Lane, RefusalCode, envelope::Body};
use meridian_proto::peer::{append_response, transfer_leader_reply};
use openraft::errors::{Fatal, RaftError};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest,
};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::form::{self, Malformed};
use crate::membership::{Change, MembershipError};
use crate::network::receive::refusal;
use crate::propose;
use crate::replica::Core;
use crate::snapshot::Incoming;
use crate::type_config::{self, SnapshotMeta, StoredMembership, TypeConfig};
use crate::unavailable::Unavailable;

/// The longest anybody is waited for on another member's behalf.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers a question.
pub async fn answer(core: &Arc<Core>, lane: Lane, body: Body) -> Body {
    if lane == Lane::Join {
        return match body {
            Body::MemberList(_) => member_list(core),
            _ => refusal(RefusalCode::UnknownQuestion, "join the cluster first"),
        };
    }
    let answered = match body {
        Body::Append(request) => append(core, lane, request).await,
        Body::Vote(request) => vote(core, &request, false).await,
        Body::PreVote(request) => vote(core, &request, true).await,
        Body::Transfer(request) => transfer(core, &request).await,
        Body::ReadIndex(request) => read_index(core, &request).await,
        Body::Ask(request) => ask(core, request).await,
        Body::Digest(request) => Ok(digests(core, request.from_index)),
        Body::MemberList(_) => Ok(member_list(core)),
        Body::Change(request) => change(core, request).await,
        Body::Obituary(request) => Ok(obituary(core, &request).await),
        Body::Entry(request) => entry(core, &request).await,
        _ => Ok(refusal(RefusalCode::UnknownQuestion, "not a question")),
    };
    answered.unwrap_or_else(|Failed(code, reason)| refusal(code, &reason))
}

struct Failed(RefusalCode, String);

impl From<Malformed> for Failed {
    fn from(error: Malformed) -> Self {
        Self(RefusalCode::UnknownQuestion, error.to_string())
    }
}

impl From<Fatal<TypeConfig>> for Failed {
    fn from(error: Fatal<TypeConfig>) -> Self {
        match error {
            Fatal::Stopped => Self(RefusalCode::Stopped, error.to_string()),
            _ => Self(RefusalCode::Fault, error.to_string()),
        }
    }
}

impl From<RaftError<TypeConfig>> for Failed {
    fn from(error: RaftError<TypeConfig>) -> Self {
        match error {
            RaftError::Fatal(fatal) => fatal.into(),
            RaftError::APIError(never) => match never {},
        }
    }
}

impl From<Unavailable> for Failed {
    fn from(error: Unavailable) -> Self {
        Self(error.to_wire(), error.to_string())
    }
}

type Answer = Result<Body, Failed>;

fn deadline(timeout_ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(timeout_ms).min(PATIENCE)
}

async fn append(core: &Core, lane: Lane, request: peer::AppendEntries) -> Answer {
    use append_response::Outcome;
    let reserve = request.reserve;
    let request = form::parse_append(request)?;
    let leader = *request.vote.leader_id();
    if !request.entries.is_empty() && !reserve && core.pressure.is_full_here() {
        // The leader is alive, all the same.
        core.contact.heard(leader.term);
        let outcome = Some(Outcome::DiskFull(peer::Empty {}));
        let full = true;
        return Ok(Body::AppendResponse(peer::AppendResponse { outcome, full }));
    }
    let response = if lane == Lane::Heartbeat && request.entries.is_empty() {
        heartbeat(core, request).await?
    } else {
        core.raft.append_entries(request).await?
    };
    let outcome = match response {
        AppendEntriesResponse::Success => Outcome::Success(peer::Empty {}),
        AppendEntriesResponse::PartialSuccess(matching) => Outcome::Partial(peer::PartialSuccess {
            matching: form::log_id(matching.as_ref()),
        }),
        AppendEntriesResponse::Conflict => Outcome::Conflict(peer::Empty {}),
        AppendEntriesResponse::HigherVote(vote) => Outcome::HigherVote(form::vote(&vote)),
    };
    if !matches!(outcome, Outcome::HigherVote(_)) {
        core.contact.heard(leader.term);
    }
    Ok(Body::AppendResponse(peer::AppendResponse {
        outcome: Some(outcome),
        full: core.pressure.is_full_here(),
    }))
}

/// A heartbeat asks one thing: do you still follow me? openraft answers it only when everything appended
/// before is on the disk, so a busy disk would look like a lost member, and reads on the leader, which wait for
/// a quorum of these answers, would wait for writes. The answer is known as soon as openraft has seen the
/// heartbeat: either it refused it, or it holds the leader's vote. On the heartbeat lane the answer says nothing
/// about the log; on the others it does, and is openraft's own.
async fn heartbeat(
    core: &Core,
    request: AppendEntriesRequest<TypeConfig>,
) -> Result<AppendEntriesResponse<TypeConfig>, Failed> {
    let leader = request.vote;
    let answered = core.raft.append_entries(request);
    let seen = core.raft.with_raft_state(|state| *state.vote_ref());
    tokio::pin!(answered, seen);
    // In this order: the heartbeat must be in openraft's queue before the question about the vote.
    tokio::select! {
        biased;
        response = &mut answered => {
            // Asked already, as it may be: openraft logs an error if nobody hears its answer.
            let _ = seen.await;
            Ok(response?)
        }
        vote = &mut seen => {
            let vote = vote?;
            if vote == leader {
                Ok(AppendEntriesResponse::Success)
            } else {
                Ok(AppendEntriesResponse::HigherVote(vote))
            }
        }
    }
}

async fn vote(core: &Core, request: &peer::VoteRequest, pre: bool) -> Answer {
    let request = form::parse_vote_request(request)?;
    if pre || core.abstains() {
        // Looks and changes nothing: all that a member that recovers may do.
        let mut response = core.raft.pre_vote(request).await?;
        response.vote_granted &= !core.abstains();
        let response = form::vote_response(&response);
        return Ok(if pre {
            Body::PreVoteResponse(response)
        } else {
            Body::VoteResponse(response)
        });
    }
    let response = core.raft.vote(request).await?;
    Ok(Body::VoteResponse(form::vote_response(&response)))
}

async fn transfer(core: &Core, request: &peer::TransferLeader) -> Answer {
    use transfer_leader_reply::Outcome;
    if request.to == core.id() && !core.may_campaign() {
        let reason = "this member may not lead now".into();
        return Err(Failed(RefusalCode::Fault, reason));
    }
    let request = TransferLeaderRequest::new(
        form::parse_vote(request.from_leader.as_ref())?,
        request.to,
        form::parse_raft_log_id(request.last_log_id.as_ref()),
    );
    let outcome = match core.raft.handle_transfer_leader(request).await? {
        Ok(()) => Outcome::Ok(peer::Empty {}),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            Outcome::VoteChanged(peer::VoteChanged {
                expected: Some(form::vote(&expected)),
                actual: Some(form::vote(&actual)),
            })
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            Outcome::LogNotFlushed(peer::LogNotFlushed {
                expected: form::log_id(expected.as_ref()),
                actual: form::log_id(actual.as_ref()),
            })
        }
    };
    Ok(Body::TransferReply(peer::TransferLeaderReply {
        outcome: Some(outcome),
    }))
}

/// Only a leader answers: a chain of members asking each other could run in a circle.
async fn read_index(core: &Core, request: &peer::ReadIndex) -> Answer {
    if !core.leadership.borrow().here {
        return Err(Unavailable::NotLeader.into());
    }
    let LogId { term, index } = core
        .read_index
        .position(deadline(request.timeout_ms))
        .await?;
    let log_id = Some(peer::LogId { term, index });
    Ok(Body::ReadIndexReply(peer::ReadIndexReply {
        round: request.round,
        log_id,
    }))
}

async fn ask(core: &Core, request: peer::Ask) -> Answer {
    let method = u16::try_from(request.method).map_err(|_| Malformed("method"))?;
    if request.leader_only && !core.leadership.borrow().here {
        return Err(Unavailable::NotLeader.into());
    }
    let body = core
        .ask_here(method, request.body, deadline(request.timeout_ms))
        .await?;
    Ok(Body::AskReply(peer::AskReply { body }))
}

fn digests(core: &Core, from_index: u64) -> Body {
    let digests = core
        .store
        .digests()
        .iter()
        .filter(|digest| digest.applied.index >= from_index)
        .map(|digest| peer::DigestAt {
            index: digest.applied.index,
            digest: digest.hash,
        })
        .collect();
    Body::DigestReply(peer::DigestReply { digests })
}

fn member_list(core: &Core) -> Body {
    let roster = core.peers.roster();
    let membership = roster.membership();
    let log_id = membership.log_id().as_ref().map(type_config::to_domain);
    Body::MemberListReply(peer::MemberList {
        cluster_id: roster.identity().cluster_id,
        membership: Some(form::membership(log_id, membership.membership())),
        leader_id: core.leadership.borrow().leader.unwrap_or_default(),
    })
}

async fn change(core: &Core, request: peer::MembershipChange) -> Answer {
    let deadline = deadline(request.timeout_ms);
    let change = Change::from_wire(request).ok_or(Malformed("change"))?;
    let reply = match core.changes.make(change, deadline).await {
        Ok(at) => peer::MembershipChangeReply {
            log_id: Some(form::domain_log_id(at)),
            refusal: 0,
        },
        Err(MembershipError::Unavailable(error)) => return Err(error.into()),
        Err(error) => peer::MembershipChangeReply {
            log_id: None,
            refusal: error.to_wire(),
        },
    };
    Ok(Body::ChangeReply(reply))
}

async fn obituary(core: &Core, request: &peer::Obituary) -> Body {
    let gone = core.is_leader_gone(request.leader, request.term).await;
    let last_log_id = gone.then(|| form::domain_log_id(core.last_log_id()));
    Body::ObituaryReply(peer::ObituaryReply { gone, last_log_id })
}

/// An entry of the log as it lies here, for a member whose own copy is damaged.
async fn entry(core: &Core, request: &peer::EntryRequest) -> Answer {
    let log_id = form::parse_log_id(request.log_id.as_ref());
    let read = core.log.entry(log_id).await;
    let found = read.map_err(|error| Failed(RefusalCode::Fault, error.to_string()))?;
    let entry = found.map(|entry| peer::LogEntry {
        log_id: Some(form::domain_log_id(entry.log_id)),
        kind: u32::from(entry.kind as u8),
        payload: entry.payload,
    });
    Ok(Body::EntryReply(peer::EntryReply { entry }))
}

/// Takes writes another member forwarded to this one as the leader.
pub async fn take_writes(core: &Core, from: u64, writes: peer::Propose, push: &mpsc::Sender<Body>) {
    let push = push.clone();
    let refuse = move |refused: peer::ProposeRefused| {
        if push.try_send(Body::ProposeRefused(refused)).is_err() {
            tracing::debug!(
                from = format_args!("{from:x}"),
                "refused writes are not told"
            );
        }
    };
    propose::take_forwarded(&core.raft, &core.pressure, writes, refuse).await;
}

/// What one connection remembers between its frames.
pub struct Guest {
    member: u64,
    lane: Lane,
    snapshot: Option<Transfer>,
}

struct Transfer {
    id: u64,
    header: peer::SnapshotHeader,
    incoming: Incoming,
}

impl Guest {
    /// A connection that just began.
    pub fn new(member: u64, lane: Lane) -> Self {
        Self {
            member,
            lane,
            snapshot: None,
        }
    }

    /// The leader begins to send a snapshot.
    pub async fn begin_snapshot(&mut self, core: &Core, header: peer::SnapshotHeader) -> Body {
        let id = header.transfer;
        if self.lane != Lane::Snapshot {
            return snapshot_reply(id, Err("snapshots have a lane of their own".into()));
        }
        // An old leader learns here that it is old, before it sends everything.
        match form::parse_vote(header.vote.as_ref()) {
            Ok(vote) if vote.leader_id().term < core.leadership.borrow().term => {
                let reply = core
                    .raft
                    .with_raft_state(|state| form::vote(state.vote_ref()))
                    .await;
                let vote = reply.ok();
                return Body::SnapshotReply(peer::SnapshotReply {
                    transfer: id,
                    vote,
                    error: String::new(),
                });
            }
            Ok(_) => {}
            Err(error) => return snapshot_reply(id, Err(error.to_string())),
        }
        match core.snapshots.receive(header.bytes).await {
            Ok(incoming) => {
                let bytes = header.bytes;
                tracing::info!(
                    from = format_args!("{:x}", self.member),
                    bytes,
                    "a snapshot comes in"
                );
                self.snapshot = Some(Transfer {
                    id,
                    header,
                    incoming,
                });
                snapshot_reply(id, Ok(None))
            }
            Err(error) => snapshot_reply(id, Err(error.to_string())),
        }
    }

    /// A piece of it. The last one is answered.
    pub async fn take_chunk(&mut self, core: &Core, chunk: peer::SnapshotChunk) -> Option<Body> {
        let id = chunk.transfer;
        let last = chunk.last;
        let refused = |reason: String| last.then(|| snapshot_reply(id, Err(reason)));
        let Some(mut transfer) = self.snapshot.take().filter(|transfer| transfer.id == id) else {
            return refused("no such transfer".into());
        };
        match transfer.incoming.take(chunk.offset, chunk.data).await {
            Ok(incoming) => transfer.incoming = incoming,
            Err(fault) => return refused(fault.to_string()),
        }
        if !last {
            self.snapshot = Some(transfer);
            return None;
        }
        let installed = install(core, transfer).await;
        Some(snapshot_reply(id, installed.map(Some)))
    }
}

async fn install(core: &Core, transfer: Transfer) -> Result<peer::Vote, String> {
    let vote = form::parse_vote(transfer.header.vote.as_ref()).map_err(|e| e.to_string())?;
    let membership = transfer.header.membership.unwrap_or_default();
    let (at, membership) = form::parse_membership(&membership).map_err(|e| e.to_string())?;
    let at = at.and_then(type_config::to_raft);
    let meta = SnapshotMeta {
        last_log_id: form::parse_raft_log_id(transfer.header.last_log_id.as_ref()),
        last_membership: StoredMembership::new(at, membership),
    };
    let data = transfer
        .incoming
        .finish()
        .await
        .map_err(|fault| fault.to_string())?;
    if type_config::to_raft(data.applied()) != meta.last_log_id {
        return Err("the snapshot is not the one that was announced".into());
    }
    let snapshot = openraft::Snapshot {
        meta,
        snapshot: data,
    };
    let response = core
        .raft
        .install_full_snapshot(vote, snapshot)
        .await
        .map_err(|error| error.to_string())?;
    Ok(form::vote(&response.vote))
}

fn snapshot_reply(transfer: u64, result: Result<Option<peer::Vote>, String>) -> Body {
    let (vote, error) = match result {
        Ok(vote) => (vote, String::new()),
        Err(error) => (None, error),
    };
    Body::SnapshotReply(peer::SnapshotReply {
        transfer,
        vote,
        error,
    })
}
