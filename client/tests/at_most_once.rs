//! What the client repeats and what it does not, against a server that follows a script.
//!
//! The server applies every put, but the first answer to each says that the request timed out: the
//! outcome is unknown to the client. One that runs Meridian remembers request ids.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures::Stream;
use meridian_client::{Client, Kind, Options};
use meridian_proto::api::v1 as api;
use meridian_proto::api::v1::cluster_service_server::{ClusterService, ClusterServiceServer};
use meridian_proto::etcdserverpb as wire;
use meridian_proto::etcdserverpb::kv_server::{Kv, KvServer};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

type Pages = Pin<Box<dyn Stream<Item = Result<wire::RangeStreamResponse, Status>> + Send>>;

/// The ids of all puts that arrived, and how many were applied.
#[derive(Clone, Default)]
struct Server {
    seen: Arc<Mutex<Vec<String>>>,
    applied: Arc<Mutex<HashSet<String>>>,
}

#[tonic::async_trait]
impl Kv for Server {
    type RangeStreamStream = Pages;

    async fn put(
        &self,
        put: Request<wire::PutRequest>,
    ) -> Result<Response<wire::PutResponse>, Status> {
        let id = put.metadata().get("meridian-request-id");
        let id = id.map_or("none", |id| id.to_str().unwrap()).to_owned();
        self.seen.lock().unwrap().push(id.clone());
        if self.applied.lock().unwrap().insert(id) {
            return Err(Status::unavailable("etcdserver: request timed out"));
        }
        Ok(Response::new(wire::PutResponse::default()))
    }

    async fn range(
        &self,
        _: Request<wire::RangeRequest>,
    ) -> Result<Response<wire::RangeResponse>, Status> {
        let mut calls = self.seen.lock().unwrap();
        calls.push("range".into());
        match calls.len() {
            0..3 => Err(Status::unavailable("etcdserver: leader changed")),
            _ => Ok(Response::new(wire::RangeResponse::default())),
        }
    }

    async fn delete_range(
        &self,
        _: Request<wire::DeleteRangeRequest>,
    ) -> Result<Response<wire::DeleteRangeResponse>, Status> {
        self.seen.lock().unwrap().push("delete".into());
        Err(Status::permission_denied("etcdserver: permission denied"))
    }

    async fn txn(
        &self,
        _: Request<wire::TxnRequest>,
    ) -> Result<Response<wire::TxnResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn compact(
        &self,
        _: Request<wire::CompactionRequest>,
    ) -> Result<Response<wire::CompactionResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn range_stream(
        &self,
        _: Request<wire::RangeRequest>,
    ) -> Result<Response<Pages>, Status> {
        Err(Status::unimplemented("not in the script"))
    }
}

#[tonic::async_trait]
impl ClusterService for Server {
    async fn status(
        &self,
        _: Request<api::ClusterStatusRequest>,
    ) -> Result<Response<api::ClusterStatusResponse>, Status> {
        Ok(Response::new(api::ClusterStatusResponse::default()))
    }
}

/// Starts the server, as Meridian or as etcd, and a client of it.
async fn serve(as_meridian: bool) -> (Server, Client) {
    let server = Server::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let cluster = as_meridian.then(|| ClusterServiceServer::new(server.clone()));
    let router = tonic::transport::Server::builder()
        .add_service(KvServer::new(server.clone()))
        .add_optional_service(cluster);
    tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
    (
        server,
        Client::connect([endpoint], Options::default())
            .await
            .unwrap(),
    )
}

#[tokio::test]
async fn meridian_is_sent_an_uncertain_write_again_under_the_same_id() {
    let (server, client) = serve(true).await;
    client.put("k", "v").await.unwrap();
    client.put("k", "v").await.unwrap();
    let seen = server.seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 4);
    assert_eq!(
        server.applied.lock().unwrap().len(),
        2,
        "each put once: {seen:?}"
    );
}

#[tokio::test]
async fn etcd_is_not_sent_an_uncertain_write_again_and_the_caller_is_told() {
    let (server, client) = serve(false).await;
    let error = client.put("k", "v").await.unwrap_err();
    assert!(error.outcome_unknown());
    assert_eq!(error.kind(), &Kind::Unavailable);
    assert!(error.to_string().contains("may or may not"), "{error}");
    assert_eq!(server.seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn reads_are_sent_again_until_they_are_answered_and_refusals_are_final() {
    let (server, client) = serve(false).await;
    assert_eq!(client.get("k").await.unwrap(), None);
    assert_eq!(server.seen.lock().unwrap().len(), 3);
    let error = client.delete("k").await.unwrap_err();
    assert_eq!(error.kind(), &Kind::Denied);
    assert_eq!(server.seen.lock().unwrap().len(), 4);
}
