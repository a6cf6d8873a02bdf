//! The standard health service of gRPC: SERVING while this member can serve a client.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use meridian_proto::health::health_check_response::ServingStatus;
use meridian_proto::health::health_server;
use meridian_proto::health::{HealthCheckRequest, HealthCheckResponse};
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};

use crate::pipeline::Pipeline;

/// The service. Known names are the empty one (the member) and those of etcd's services.
pub struct Health {
    pipeline: Arc<Pipeline>,
}

impl Health {
    /// Serves from a pipeline.
    pub fn new(pipeline: Arc<Pipeline>) -> Self {
        Self { pipeline }
    }
}

fn is_known(service: &str) -> bool {
    service.is_empty()
        || meridian_proto::descriptors()
            .get_service_by_name(service)
            .is_some()
}

fn answer(is_serving: bool) -> HealthCheckResponse {
    let status = if is_serving {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !is_known(&request.get_ref().service) {
            return Err(Status::not_found("unknown service"));
        }
        let standing = self.pipeline.replica.changed().borrow().clone();
        Ok(Response::new(answer(serves(&standing))))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        if !is_known(&request.get_ref().service) {
            let unknown = HealthCheckResponse {
                status: ServingStatus::ServiceUnknown.into(),
            };
            let stay =
                futures::stream::once(async move { Ok(unknown) }).chain(futures::stream::pending());
            return Ok(Response::new(Box::pin(stay)));
        }
        let mut last = None;
        let answers =
            WatchStream::new(self.pipeline.replica.changed()).filter_map(move |standing| {
                let now = serves(&standing);
                let news = (last != Some(now)).then(|| Ok(answer(now)));
                last = Some(now);
                futures::future::ready(news)
            });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Whether a client can be served: there is a leader, and this member is in good standing.
fn serves(standing: &meridian_raft::Standing) -> bool {
    standing.leader.is_some() && !standing.fenced && standing.expelled.is_none()
}
