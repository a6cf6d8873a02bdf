//! Election: one leader by name, and word of who it is.
//!
//! Whoever stands first in line leads; the value of its key is what it says as leader. What a leader does in its
//! name is guarded by the `create_revision` of its key, so that one that was replaced can do nothing more.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use meridian_domain::access::Action;
use meridian_domain::key::{KeyRange, Space};
use meridian_domain::kv::{Delete, KeyValue, Put};
use meridian_domain::revision::Revision;
use meridian_domain::txn::Op;
use meridian_proto::etcdserverpb::ResponseHeader;
use meridian_proto::mvccpb;
use meridian_proto::v3electionpb::election_server;
use meridian_proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use meridian_storage::store::Tenant;
use meridian_storage::watch::Filters;
use tonic::{Request, Response, Status};

use crate::authn::Who;
use crate::service::etcd::contend::{Contest, first_here, line};
use crate::service::etcd::news::News;
use crate::status::{Etcd, Refusal};

/// How often it is looked at whether an observer still may observe.
const LOOK_AT_RIGHTS: Duration = Duration::from_millis(500);

/// The service.
pub struct Election {
    contest: Contest,
}

impl Election {
    /// Serves from what locks and elections share.
    pub fn new(contest: Contest) -> Self {
        Self { contest }
    }

    fn header(&self, revision: Revision) -> Option<ResponseHeader> {
        Some(self.contest.pipeline.header(revision))
    }

    async fn run(&self, request: Request<CampaignRequest>) -> Result<CampaignResponse, Refusal> {
        let mut contender = self.contest.enter(&request)?;
        let CampaignRequest { name, lease, value } = request.into_inner();
        let lease = contender.lease(lease).await?;
        let stood = contender.stand(&name, lease, value.clone()).await?;
        if stood.before.as_ref().is_some_and(|kv| kv.value != value) {
            let put = say(&stood.key, value, lease);
            contender
                .change(&stood.key, stood.create_revision, put)
                .await?
                .ok_or(Etcd::ElectionNotLeader)?;
        }
        if contender.wait(&name, &stood).await? {
            // The lease may have ended while it waited: then another one leads, or nobody.
            let (key, _) = contender.get(&stood.key).await?;
            if key.is_none_or(|kv| kv.create_revision != stood.create_revision) {
                return Err(Etcd::ElectionNotLeader.into());
            }
        }
        let (key, rev) = (stood.key, stood.create_revision);
        let leader = Some(LeaderKey {
            name,
            key,
            rev,
            lease,
        });
        Ok(CampaignResponse {
            header: self.header(stood.revision),
            leader,
        })
    }

    async fn say(&self, request: Request<ProclaimRequest>) -> Result<ProclaimResponse, Refusal> {
        let mut contender = self.contest.enter(&request)?;
        let ProclaimRequest { leader, value } = request.into_inner();
        let LeaderKey {
            key, rev, lease, ..
        } = leader.ok_or(Etcd::ElectionLeaderMissing)?;
        let lease = contender.lease(lease).await?;
        let said = contender.change(&key, rev, say(&key, value, lease)).await?;
        let revision = said.ok_or(Etcd::ElectionNotLeader)?;
        Ok(ProclaimResponse {
            header: self.header(revision),
        })
    }

    async fn show(&self, request: Request<LeaderRequest>) -> Result<LeaderResponse, Refusal> {
        let contender = self.contest.enter(&request)?;
        let (leader, revision) = contender.first(&request.into_inner().name).await?;
        let kv = Some(wire(leader.ok_or(Etcd::ElectionNoLeader)?));
        Ok(LeaderResponse {
            header: self.header(revision),
            kv,
        })
    }

    async fn step_down(&self, request: Request<ResignRequest>) -> Result<ResignResponse, Refusal> {
        let contender = self.contest.enter(&request)?;
        let LeaderKey { key, rev, .. } = request
            .into_inner()
            .leader
            .ok_or(Etcd::ElectionLeaderMissing)?;
        let range = KeyRange::single(key.clone());
        let delete = Op::Delete(Delete {
            space: Space::RAW,
            range,
            prev_kv: false,
        });
        let revision = match contender.change(&key, rev, delete).await? {
            Some(revision) => revision,
            // It does not lead: that is what it wanted.
            None => contender.tenant().await?.root().revision(),
        };
        Ok(ResignResponse {
            header: self.header(revision),
        })
    }

    async fn observation(&self, request: Request<LeaderRequest>) -> Result<Observation, Refusal> {
        let contender = self.contest.enter(&request)?;
        let name = request.into_inner().name;
        let tenant = contender.tenant().await?;
        let news = News::open(&self.contest, &tenant, line(&name), Filters::default());
        // Whoever leads when the call is made is not missed, whatever this member has applied.
        contender.first(&name).await?;
        Ok(Observation {
            contest: self.contest.clone(),
            who: contender.who().clone(),
            tenant,
            name,
            news,
            last: None,
        })
    }
}

/// Who led last, and what changes.
struct Observation {
    contest: Contest,
    who: Who,
    tenant: Arc<Tenant>,
    name: Bytes,
    news: News,
    /// When the leader's key was created, and last written.
    last: Option<(Revision, Revision)>,
}

impl Observation {
    /// The next leader, or the next thing it says. Some in between may be passed over.
    async fn next(&mut self) -> Result<LeaderResponse, Refusal> {
        loop {
            self.is_permitted()?;
            let (leader, read_at) = first_here(&self.tenant, &self.name)?;
            if let Some(kv) = leader {
                let now = (kv.create_revision, kv.mod_revision);
                let before = self.last.replace(now);
                if before != Some(now) {
                    let same = before.is_some_and(|(created, _)| created == kv.create_revision);
                    let revision = if same { kv.mod_revision } else { read_at };
                    let header = Some(self.contest.pipeline.header(revision));
                    return Ok(LeaderResponse {
                        header,
                        kv: Some(wire(kv)),
                    });
                }
            }
            tokio::select! {
                news = self.news.next() => news?,
                // Rights that are taken end it though nothing happens.
                () = tokio::time::sleep(LOOK_AT_RIGHTS), if self.tenant.root().rules_revision() != 0 => {}
                () = self.contest.stop.cancelled() => {
                    return Err(meridian_raft::Unavailable::Stopped.into());
                }
            }
        }
    }
}

impl Observation {
    fn is_permitted(&self) -> Result<(), Refusal> {
        let line = line(&self.name);
        let watch = Action::Watch {
            space: Space::RAW,
            range: &line,
        };
        let pipeline = &self.contest.pipeline;
        Ok(pipeline.permits(&self.tenant, &self.who, watch)?)
    }
}

fn say(key: &Bytes, value: Bytes, lease: i64) -> Op {
    Op::Put(Put {
        space: Space::RAW,
        key: key.clone(),
        value: Some(value),
        lease: Some(lease),
        prev_kv: false,
    })
}

fn wire(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value,
        lease: kv.lease,
    }
}

#[tonic::async_trait]
impl election_server::Election for Election {
    async fn campaign(
        &self,
        request: Request<CampaignRequest>,
    ) -> Result<Response<CampaignResponse>, Status> {
        self.run(request)
            .await
            .map(Response::new)
            .map_err(Refusal::into_unknown_status)
    }

    async fn proclaim(
        &self,
        request: Request<ProclaimRequest>,
    ) -> Result<Response<ProclaimResponse>, Status> {
        self.say(request)
            .await
            .map(Response::new)
            .map_err(Refusal::into_unknown_status)
    }

    async fn leader(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<LeaderResponse>, Status> {
        self.show(request)
            .await
            .map(Response::new)
            .map_err(Refusal::into_unknown_status)
    }

    type ObserveStream = Pin<Box<dyn Stream<Item = Result<LeaderResponse, Status>> + Send>>;

    async fn observe(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let observation = self
            .observation(request)
            .await
            .map_err(Refusal::into_unknown_status)?;
        let answers = futures::stream::unfold(Some(observation), |observation| async {
            let mut observation = observation?;
            match observation.next().await {
                Ok(leader) => Some((Ok(leader), Some(observation))),
                Err(refusal) => Some((Err(refusal.into_unknown_status()), None)),
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn resign(
        &self,
        request: Request<ResignRequest>,
    ) -> Result<Response<ResignResponse>, Status> {
        self.step_down(request)
            .await
            .map(Response::new)
            .map_err(Refusal::into_unknown_status)
    }
}
