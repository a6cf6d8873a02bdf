//! Requests: from the socket to the pipeline and back.
//!
//! The layers, outermost first, each with its why:
//!
//! 1. [`listen`]: connections, TLS, HTTP; bounds on everything a stranger can make grow. [`authority`] mends what
//!    some clients call this server.
//! 2. [`door`]: gRPC or HTTP; counts every call; etcd's words where the library has others.
//! 3. a service ([`etcd`], [`tenant`], [`cluster`], [`health`], [`http`]): parses wire into meaning, and back.
//!    [`gateway`] stands before them for those who speak JSON.
//! 4. [`context`]: who asks, for which tenant, until when.
//! 5. [`crate::pipeline`]: plans, proposes, answers; [`admission`] says whose turn it is.

pub mod admission;
pub mod authority;
pub mod context;
pub mod door;
pub mod listen;

pub mod cluster;
pub mod etcd;
pub mod gateway;
pub mod health;
pub mod http;
pub mod scrape;
pub mod tenant;

use std::sync::Arc;

use meridian_domain::limits;
use meridian_proto::api::v1::cluster_service_server::ClusterServiceServer;
use meridian_proto::api::v1::tenant_service_server::TenantServiceServer;
use meridian_proto::etcdserverpb::auth_server::AuthServer;
use meridian_proto::etcdserverpb::cluster_server::ClusterServer;
use meridian_proto::etcdserverpb::kv_server::KvServer;
use meridian_proto::etcdserverpb::lease_server::LeaseServer;
use meridian_proto::etcdserverpb::maintenance_server::MaintenanceServer;
use meridian_proto::health::health_server::HealthServer;
use meridian_proto::v3electionpb::election_server::ElectionServer;
use meridian_proto::v3lockpb::lock_server::LockServer;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

use crate::background;
use crate::background::leases::Lessor;
use crate::pipeline::Pipeline;
use crate::service::etcd::contend::Contest;
use crate::service::etcd::watch::Watches;

/// The largest message the transport takes in, in bytes: etcd's.
pub const MESSAGE_BYTES_MAX: usize = limits::REQUEST_BYTES_MAX + limits::REQUEST_OVERHEAD_BYTES;

/// The largest message the transport sends, in bytes: what a length on the wire can say.
pub const ANSWER_BYTES_MAX: usize = i32::MAX as usize;

/// Sets a generated server's bounds on messages.
macro_rules! bounded {
    ($server:expr) => {
        $server
            .max_decoding_message_size($crate::service::MESSAGE_BYTES_MAX)
            .max_encoding_message_size($crate::service::ANSWER_BYTES_MAX)
    };
}

/// The services of a running member.
pub struct Services {
    pipeline: Arc<Pipeline>,
    lessor: Arc<Lessor>,
    watches: Watches<Arc<Pipeline>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Services {
    /// Starts what services need beside the pipeline. Tasks end at `stop`.
    pub fn start(pipeline: &Arc<Pipeline>, stop: &CancellationToken, tasks: &TaskTracker) -> Self {
        let lessor = Lessor::new(Arc::clone(pipeline));
        background::start(pipeline, &lessor, stop, tasks);
        let settings = etcd::watch::Settings {
            progress_interval: pipeline.settings.watch_progress_interval(),
            election_timeout: pipeline.settings.election_timeout(),
            message_bytes_max: MESSAGE_BYTES_MAX,
        };
        let watches = Watches::new(Arc::clone(pipeline), settings);
        Self {
            pipeline: Arc::clone(pipeline),
            lessor,
            watches,
            stop: stop.clone(),
            tasks: tasks.clone(),
        }
    }

    /// Every gRPC service of the client port.
    pub fn grpc(&self) -> Routes {
        let pipeline = || Arc::clone(&self.pipeline);
        let contest = || Contest {
            pipeline: pipeline(),
            watches: self.watches.clone(),
            stop: self.stop.clone(),
        };
        let lease = etcd::lease::Lease::new(pipeline(), Arc::clone(&self.lessor));
        Routes::new(bounded!(KvServer::new(etcd::kv::Kv::new(pipeline()))))
            .add_service(self.watches.clone())
            .add_service(bounded!(LeaseServer::new(lease)))
            .add_service(bounded!(ClusterServer::new(etcd::cluster::Cluster::new(
                pipeline()
            ))))
            .add_service(bounded!(MaintenanceServer::new(
                etcd::maintenance::Maintenance::new(pipeline())
            )))
            .add_service(bounded!(AuthServer::new(etcd::auth::Auth::new(pipeline()))))
            .add_service(bounded!(LockServer::new(etcd::lock::Lock::new(contest()))))
            .add_service(bounded!(ElectionServer::new(
                etcd::election::Election::new(contest())
            )))
            .add_service(bounded!(HealthServer::new(health::Health::new(pipeline()))))
            .add_service(bounded!(TenantServiceServer::new(tenant::Tenants::new(
                pipeline()
            ))))
            .add_service(bounded!(ClusterServiceServer::new(cluster::Cluster::new(
                pipeline()
            ))))
    }

    /// Everything on the client port that is not gRPC: plain HTTP, and the gateway to `grpc`.
    pub fn http(&self, outside: http::Outside, grpc: door::Grpc) -> axum::Router {
        let sockets = gateway::socket::Sockets::new(self.stop.clone(), self.tasks.clone());
        http::router(outside).merge(gateway::router(grpc, sockets))
    }

    /// Ends streams that would go on for ever.
    pub fn stop(&self) {
        self.watches.stop();
    }
}
