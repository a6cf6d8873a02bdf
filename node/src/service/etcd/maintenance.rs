//! Maintenance: how a member is, alarms, hashes, a copy of everything, who leads.
//!
//! Status and hashes are answered from what this member has, also without a leader. How a copy of everything is
//! made and sent stands in [`super::copy`].

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use meridian_domain::access::{Action, Operation};
use meridian_domain::answer::Found;
use meridian_domain::command::{AlarmKind, Reply, Verdict};
use meridian_domain::intent::Intent;
use meridian_domain::limits;
use meridian_domain::query::Query;
use meridian_domain::rejection::Rejection;
use meridian_domain::view::ClusterView;
use meridian_proto::etcdserverpb as pb;
use meridian_proto::etcdserverpb::alarm_request::AlarmAction;
use meridian_proto::etcdserverpb::downgrade_request::DowngradeAction;
use meridian_proto::etcdserverpb::maintenance_server;
use meridian_raft::Unavailable;
use meridian_storage::store::Tenant;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use crate::directory;
use crate::pipeline::{Consistency, Pipeline, RequestContext};
use crate::service::etcd::copy::{Copy, Format};
use crate::service::http::alarm_name;
use crate::status::{Etcd, Refusal};
use crate::version;

/// Alarms that may be raised for ids that are no members: a stranger's request must not grow the state for ever.
const FOREIGN_ALARMS_MAX: usize = limits::MEMBERS_MAX;

/// Hashes that are computed at a time; more wait. Each looks at every key, on a thread that others need too.
const HASHES_AT_ONCE: usize = 2;

/// The service.
pub struct Maintenance {
    pipeline: Arc<Pipeline>,
    hashes: Semaphore,
    /// Taken while the version store is written out on somebody's behalf.
    flush: Arc<Semaphore>,
    /// Taken while a copy is made: it needs space on the disk.
    copies: Arc<Semaphore>,
}

impl Maintenance {
    /// Serves from a pipeline.
    pub fn new(pipeline: Arc<Pipeline>) -> Self {
        Self {
            pipeline,
            hashes: Semaphore::new(HASHES_AT_ONCE),
            flush: Arc::new(Semaphore::new(1)),
            copies: Arc::new(Semaphore::new(1)),
        }
    }

    fn header(&self, tenant: &Tenant) -> Option<pb::ResponseHeader> {
        Some(self.pipeline.header(tenant.root().revision()))
    }

    /// Who asks, if they may.
    async fn permitted<T>(
        &self,
        request: &Request<T>,
        operation: Operation,
    ) -> Result<RequestContext, Refusal> {
        let ctx = self.pipeline.context(request)?;
        self.pipeline.permit_operation(&ctx, operation).await?;
        Ok(ctx)
    }

    /// The tenant a request means, as this member knows it: without asking anybody, if nobody has to be asked
    /// whether the caller may.
    async fn tenant<T>(
        &self,
        request: &Request<T>,
        operation: Operation,
    ) -> Result<Arc<Tenant>, Refusal> {
        let ctx = self.permitted(request, operation).await?;
        let found = self.pipeline.store.tenant_named(ctx.tenant.as_str());
        found.ok_or_else(|| self.pipeline.no_tenant(&ctx).into())
    }

    async fn alarms(
        &self,
        request: Request<pb::AlarmRequest>,
    ) -> Result<pb::AlarmResponse, Refusal> {
        let ctx = self.pipeline.voters_context(&request)?;
        let request = request.into_inner();
        let kind = kind_of(request.alarm());
        let (revision, alarms) = match request.action() {
            AlarmAction::Get => {
                let answer = self
                    .pipeline
                    .read(&ctx, &Query::Alarms, Consistency::Linearizable)
                    .await?;
                let Found::Alarms(alarms) = answer.found else {
                    return Err(Rejection::UnknownProposal.into());
                };
                let asked = |(_, of): &(u64, AlarmKind)| kind.is_none_or(|kind| kind == *of);
                (answer.revision, alarms.into_iter().filter(asked).collect())
            }
            action => {
                let raised = action == AlarmAction::Activate;
                let member = request.member_id;
                let mut alarms = vec![];
                if let Some(kind) = kind {
                    self.refuse_a_strangers_alarm(member, raised)?;
                    let intent = Intent::Alarm {
                        member,
                        kind,
                        raised,
                    };
                    let receipt = self.pipeline.write(&ctx, intent).await?;
                    let changed = matches!(
                        receipt.verdict,
                        Verdict::Applied(Reply::Alarm { changed: true })
                    );
                    if raised || changed {
                        alarms.push((member, kind));
                    }
                }
                let tenant = self.pipeline.tenant(&ctx, &mut false).await?;
                if kind.is_none() {
                    let look = Action::Read(&Query::Alarms);
                    self.pipeline.permit(&ctx, &tenant, look).await?;
                }
                (tenant.root().revision(), alarms)
            }
        };
        let shown = |(member_id, kind)| pb::AlarmMember {
            member_id,
            alarm: wire_of(kind).into(),
        };
        Ok(pb::AlarmResponse {
            header: Some(self.pipeline.header(revision)),
            alarms: alarms.into_iter().map(shown).collect(),
        })
    }

    fn refuse_a_strangers_alarm(&self, member: u64, raised: bool) -> Result<(), Refusal> {
        let members = self.pipeline.replica.status().members;
        let is_member = |id: u64| members.iter().any(|peer| peer.id == id);
        if !raised || is_member(member) {
            return Ok(());
        }
        let alarms = self.pipeline.store.cluster().alarms();
        if alarms.iter().filter(|(id, _)| !is_member(*id)).count() < FOREIGN_ALARMS_MAX {
            return Ok(());
        }
        let what = format!("{FOREIGN_ALARMS_MAX} alarms are raised for ids that are no members");
        Err(Etcd::TooManyRequests { what }.into())
    }

    async fn state(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<pb::StatusResponse, Refusal> {
        let tenant = self.tenant(&request, Operation::Status).await?;
        let status = self.pipeline.replica.status();
        let in_use = bytes_in_use(&self.pipeline);
        let history = directory::history_of(&self.pipeline.settings.data_dir());
        let on_disk = blocking(move || directory::bytes_below(&history)).await?;
        Ok(pb::StatusResponse {
            header: self.header(&tenant),
            version: version::ETCD.into(),
            // What was written a moment ago is in memory and in the log before it is here.
            db_size: on_disk.max(in_use) as i64,
            leader: status.leader.unwrap_or(0),
            raft_index: status.commit_index,
            raft_term: status.term,
            raft_applied_index: status.applied.index,
            errors: errors(&self.pipeline, status.leader.is_some()),
            db_size_in_use: in_use as i64,
            is_learner: status.is_learner,
            storage_version: version::ETCD_STORAGE.into(),
            db_size_quota: self.pipeline.settings.quota_bytes().unwrap_or(0) as i64,
            downgrade_info: Some(pb::DowngradeInfo::default()),
        })
    }

    async fn hash_at(
        &self,
        tenant: Arc<Tenant>,
        revision: i64,
    ) -> Result<(u32, i64, i64), Refusal> {
        // Never closed.
        let _turn = self.hashes.acquire().await;
        Ok(blocking(move || tenant.hash_kv(revision)).await??)
    }
}

/// What is wrong with this member, in etcd's words.
pub fn errors(pipeline: &Pipeline, has_leader: bool) -> Vec<String> {
    let mut errors = vec![];
    if !has_leader {
        errors.push(Etcd::NoLeader.to_string());
    }
    for (member, kind) in pipeline.store.cluster().alarms() {
        // With the blank at the end that etcd has there.
        errors.push(format!("memberID:{member} alarm:{} ", alarm_name(kind)));
    }
    errors
}

/// Bytes of live keys and values, of all tenants.
pub fn bytes_in_use(pipeline: &Pipeline) -> u64 {
    pipeline
        .store
        .tenants()
        .iter()
        .map(|tenant| tenant.root().usage().bytes)
        .sum()
}

/// Runs what may block on a thread where it may.
pub(super) async fn blocking<T: Send + 'static>(
    what: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(what)
        .await
        .map_err(|_| Unavailable::Stopped.into())
}

fn kind_of(alarm: pb::AlarmType) -> Option<AlarmKind> {
    match alarm {
        pb::AlarmType::None => None,
        pb::AlarmType::Nospace => Some(AlarmKind::NoSpace),
        pb::AlarmType::Corrupt => Some(AlarmKind::Corrupt),
    }
}

fn wire_of(kind: AlarmKind) -> pb::AlarmType {
    match kind {
        AlarmKind::NoSpace => pb::AlarmType::Nospace,
        AlarmKind::Corrupt => pb::AlarmType::Corrupt,
    }
}

/// Major and minor of a version that may leave out the patch.
fn major_minor(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.split('.').map(str::parse::<u64>);
    let (major, minor) = (parts.next()?.ok()?, parts.next()?.ok()?);
    match (parts.next(), parts.next()) {
        (None | Some(Ok(_)), None) => Some((major, minor)),
        _ => None,
    }
}

/// Whether the cluster could go down to a version. One minor version below is what etcd allows; there is no
/// Meridian that speaks it and reads this one's data, so that one is refused too, in other words.
fn downgrade(action: DowngradeAction, target: &str) -> Etcd {
    if action == DowngradeAction::Cancel {
        return Etcd::NoDowngrade;
    }
    let Some(target) = major_minor(target) else {
        return Etcd::DowngradeVersionFormat;
    };
    match major_minor(version::ETCD_CLUSTER) {
        Some((major, minor)) if target == (major, minor.saturating_sub(1)) => Etcd::NotCapable,
        _ => Etcd::DowngradeVersionInvalid,
    }
}

#[tonic::async_trait]
impl maintenance_server::Maintenance for Maintenance {
    async fn alarm(
        &self,
        request: Request<pb::AlarmRequest>,
    ) -> Result<Response<pb::AlarmResponse>, Status> {
        Ok(Response::new(self.alarms(request).await?))
    }

    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        Ok(Response::new(self.state(request).await?))
    }

    async fn defragment(
        &self,
        request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        self.permitted(&request, Operation::Defragment).await?;
        // Space is reclaimed all the time, beside the writes; this only sees to it that what compaction forgot
        // is written out now. It goes on after the answer; who asks meanwhile gets what is going on.
        if let Ok(turn) = Arc::clone(&self.flush).try_acquire_owned() {
            let history = self.pipeline.store.history().clone();
            tokio::task::spawn_blocking(move || {
                if let Err(fault) = history.flush() {
                    tracing::warn!(%fault, "the version store could not be written out");
                }
                drop(turn);
            });
        }
        Ok(Response::new(pb::DefragmentResponse { header: None }))
    }

    async fn hash(
        &self,
        request: Request<pb::HashRequest>,
    ) -> Result<Response<pb::HashResponse>, Status> {
        let tenant = self.tenant(&request, Operation::Hash).await?;
        let (hash, ..) = self.hash_at(Arc::clone(&tenant), 0).await?;
        Ok(Response::new(pb::HashResponse {
            header: self.header(&tenant),
            hash,
        }))
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        let tenant = self.tenant(&request, Operation::Hash).await?;
        let revision = request.get_ref().revision;
        let (hash, compact_revision, hash_revision) =
            self.hash_at(Arc::clone(&tenant), revision).await?;
        let header = self.header(&tenant);
        Ok(Response::new(pb::HashKvResponse {
            header,
            hash,
            compact_revision,
            hash_revision,
        }))
    }

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<pb::SnapshotResponse, Status>> + Send>>;

    async fn snapshot(
        &self,
        request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let tenant = self.tenant(&request, Operation::Snapshot).await?;
        let format = Format::asked(request.metadata())?;
        // Never closed.
        let turn = Arc::clone(&self.copies).acquire_owned().await;
        let copy = Copy::take(&self.pipeline, tenant.id(), format).await?;
        drop(turn);
        let pieces = futures::stream::unfold(Some(copy), |copy| async {
            let mut copy = copy?;
            match copy.next().await {
                Ok(piece) => piece.map(|piece| (Ok(piece), Some(copy))),
                Err(refusal) => Some((Err(refusal.into()), None)),
            }
        });
        Ok(Response::new(Box::pin(pieces)))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        let ctx = self.permitted(&request, Operation::MoveLeader).await?;
        let target = request.into_inner().target_id;
        if !self.pipeline.standing.borrow().is_leader {
            return Err(Refusal::from(Etcd::NotLeader).into());
        }
        if target != self.pipeline.ids.member {
            let moved = self
                .pipeline
                .replica
                .transfer_leader(target, ctx.deadline)
                .await;
            moved.map_err(Refusal::from)?;
        }
        Ok(Response::new(pb::MoveLeaderResponse { header: None }))
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        let ctx = self.pipeline.voters_context(&request)?;
        let operation = Operation::Downgrade;
        self.pipeline.permit_operation(&ctx, operation).await?;
        let request = request.into_inner();
        Err(Refusal::from(downgrade(request.action(), &request.version)).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_downgrade_is_refused_for_the_reason_that_holds() {
        let validate = |version| downgrade(DowngradeAction::Validate, version);
        for bad in ["", "3", "3.5.0.0", "3.x", "3.5.x", "v3.5", "-3.5"] {
            assert_eq!(validate(bad), Etcd::DowngradeVersionFormat, "{bad}");
        }
        for other in ["3.6.0", "3.4", "2.3.0", "4.0.0"] {
            assert_eq!(validate(other), Etcd::DowngradeVersionInvalid, "{other}");
        }
        assert_eq!(validate("3.5.0"), Etcd::NotCapable);
        assert_eq!(downgrade(DowngradeAction::Enable, "3.5"), Etcd::NotCapable);
        assert_eq!(downgrade(DowngradeAction::Cancel, ""), Etcd::NoDowngrade);
    }
}
