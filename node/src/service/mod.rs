//! Requests: from the socket to the pipeline and back.
//!
//! The layers, outermost first, each with its why:
//!
//! 1. [`listen`]: connections, TLS, HTTP; bounds on everything a stranger can make grow.
//! 2. [`door`]: gRPC or HTTP; counts every call; etcd's words where the library has others.
//! 3. a service ([`etcd`], [`tenant`], [`http`]): parses wire into meaning, and back.
//! 4. [`context`]: who asks, for which tenant, until when.
//! 5. [`crate::pipeline`]: plans, proposes, answers; [`admission`] says whose turn it is.

pub mod admission;
pub mod context;
pub mod door;
pub mod listen;

pub mod etcd;
pub mod http;
pub mod scrape;
pub mod tenant;

use std::sync::Arc;

use meridian_domain::limits;
use meridian_proto::api::v1::tenant_service_server::TenantServiceServer;
use meridian_proto::etcdserverpb::kv_server::KvServer;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

use crate::pipeline::Pipeline;

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
pub(crate) use bounded;

/// The services of a running member.
pub struct Services {
    pipeline: Arc<Pipeline>,
}

impl Services {
    /// Starts what services need beside the pipeline. Tasks end at `stop`.
    pub fn start(
        pipeline: &Arc<Pipeline>,
        _stop: &CancellationToken,
        _tasks: &TaskTracker,
    ) -> Self {
        Self { pipeline: Arc::clone(pipeline) }
    }

    /// Every gRPC service of the client port.
    pub fn grpc(&self) -> Routes {
        let pipeline = || Arc::clone(&self.pipeline);
        Routes::new(bounded!(KvServer::new(etcd::kv::Kv::new(pipeline()))))
            .add_service(bounded!(TenantServiceServer::new(tenant::Tenants::new(pipeline()))))
    }

    /// Everything on the client port that is not gRPC.
    pub fn http(&self, outside: http::Outside) -> axum::Router {
        http::router(outside)
    }

    /// Ends streams that would go on for ever.
    pub fn stop(&self) {}
}
