//! Asking members how they are: who leads, who is near, who is gone, what software they run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use meridian_proto::api::v1::ClusterStatusRequest;
use meridian_proto::api::v1::cluster_service_client::ClusterServiceClient;
use meridian_proto::etcdserverpb::StatusRequest;
use meridian_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::connect::pool::Flavour;
use crate::connect::{Member, Pool};
use crate::error::{Error, Result};
use crate::retry::{Effect, Reach, gave_up};

/// The least time between two rounds, however much doubt there is.
const ROUND_MIN: Duration = Duration::from_millis(200);
/// How long a member may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(2);

/// Probes all members every `interval`, and sooner when a call failed, until `stop`.
pub(crate) async fn run(pool: Arc<Pool>, interval: Duration, stop: CancellationToken) {
    let rounds = async {
        loop {
            let mut round: FuturesUnordered<_> =
                pool.members().iter().map(|m| probe(&pool, m)).collect();
            while round.next().await.is_some() {}
            tokio::time::sleep(ROUND_MIN.min(interval)).await;
            let wait = interval.saturating_sub(ROUND_MIN);
            let _ = tokio::time::timeout(wait, pool.doubt.notified()).await;
        }
    };
    stop.run_until_cancelled(rounds).await;
}

/// Waits until one member has answered; the error of the last one if none did.
pub(crate) async fn first_answer(pool: &Pool, patience: Duration) -> Result<()> {
    let mut round: FuturesUnordered<_> = pool
        .members()
        .iter()
        .map(|m| async move { (m.url().clone(), probe(pool, m).await) })
        .collect();
    let mut last = None;
    let answers = async {
        while let Some((url, answer)) = round.next().await {
            match answer {
                Ok(()) => return true,
                Err(status) => last = Some((url, status)),
            }
        }
        false
    };
    let answered = tokio::time::timeout(patience, answers)
        .await
        .unwrap_or(false);
    if answered {
        return Ok(());
    }
    let (url, status) = match last {
        Some((url, status)) => (Some(url), status),
        None => (None, gave_up(patience)),
    };
    Err(Error::from_status("connect", status, Effect::Read, url))
}

/// Asks one member for its status and notes what it says. An answer of any kind is an answer.
async fn probe(pool: &Pool, member: &Arc<Member>) -> Result<(), Status> {
    let started = Instant::now();
    let mut client = MaintenanceClient::new(member.channel());
    let answer = match tokio::time::timeout(PATIENCE, client.status(StatusRequest {})).await {
        Ok(answer) => answer,
        Err(_) => Err(gave_up(PATIENCE)),
    };
    match answer {
        Ok(status) => {
            member.answered(started.elapsed());
            let status = status.into_inner();
            let id = status.header.map_or(0, |h| h.member_id);
            member.is_known_as(id != 0 && status.leader == id, status.is_learner);
        }
        Err(status) if Reach::of(&status) == Reach::Answered => member.well(),
        Err(status) => {
            member.failed();
            return Err(status);
        }
    }
    if pool.flavour().is_none() {
        let _ = flavour_of(pool, member).await;
    }
    Ok(())
}

/// What software the members run: as known, else by asking `member` for what only Meridian has.
pub(crate) async fn flavour_of(pool: &Pool, member: &Arc<Member>) -> Option<Flavour> {
    if let Some(known) = pool.flavour() {
        return Some(known);
    }
    let mut client = ClusterServiceClient::new(member.channel());
    let asked = client.status(ClusterStatusRequest {});
    let flavour = match tokio::time::timeout(PATIENCE, asked).await.ok()? {
        Ok(_) => Flavour::Meridian,
        Err(status) if Reach::of(&status) != Reach::Answered => return None,
        Err(status) => match status.code() {
            Code::Unimplemented => Flavour::Etcd,
            Code::PermissionDenied | Code::Unauthenticated => Flavour::Meridian,
            _ => return None,
        },
    };
    pool.learn_flavour(flavour);
    Some(flavour)
}
