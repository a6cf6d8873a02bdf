//! Runs steps over gRPC and brings the answers into a form that can be compared.

use std::collections::BTreeMap;
use std::time::Duration;

use meridian_proto::etcdserverpb as pb;
use meridian_proto::etcdserverpb::kv_client::KvClient;
use meridian_proto::etcdserverpb::lease_client::LeaseClient;
use meridian_proto::etcdserverpb::watch_client::WatchClient;
use meridian_proto::etcdserverpb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status, Streaming};

use crate::program::Step;
use crate::server::Server;

/// A client of one store, with one watch stream.
pub struct Driver {
    kv: KvClient<Channel>,
    lease: LeaseClient<Channel>,
    watch: WatchClient<Channel>,
    stream: Option<(mpsc::Sender<pb::WatchRequest>, Streaming<pb::WatchResponse>)>,
    /// By watch id, what came, in order.
    seen: BTreeMap<i64, Vec<String>>,
}

impl Driver {
    pub async fn connect(server: &Server) -> Self {
        let channel = Endpoint::from_shared(server.url.clone())
            .unwrap()
            .connect()
            .await
            .unwrap();
        Self {
            kv: KvClient::new(channel.clone()),
            lease: LeaseClient::new(channel.clone()),
            watch: WatchClient::new(channel),
            stream: None,
            seen: BTreeMap::new(),
        }
    }

    /// Runs a step; the answer, or the error, as text without ids and terms.
    pub async fn run(&mut self, step: &Step) -> String {
        match step.clone() {
            Step::Put(r) => shown(self.kv.put(r).await, |m| &mut m.header),
            Step::Range(r) => shown(self.kv.range(r).await, |m| &mut m.header),
            Step::Delete(r) => shown(self.kv.delete_range(r).await, |m| &mut m.header),
            Step::Txn(r) => shown(self.kv.txn(r).await, |m| &mut m.header),
            Step::Compact(r) => shown(self.kv.compact(r).await, |m| &mut m.header),
            Step::Grant(r) => shown(self.lease.lease_grant(r).await, |m| &mut m.header),
            Step::Revoke(r) => shown(self.lease.lease_revoke(r).await, |m| &mut m.header),
            Step::TimeToLive(r) => {
                let mut answer = self.lease.lease_time_to_live(r).await;
                if let Ok(answer) = &mut answer {
                    // What is left depends on the moment; whether something is left does not.
                    answer.get_mut().ttl = answer.get_ref().ttl.signum();
                    answer.get_mut().keys.sort();
                }
                shown(answer, |m| &mut m.header)
            }
            Step::Leases => {
                let mut answer = self.lease.lease_leases(pb::LeaseLeasesRequest {}).await;
                if let Ok(answer) = &mut answer {
                    answer.get_mut().leases.sort_by_key(|lease| lease.id);
                }
                shown(answer, |m| &mut m.header)
            }
            Step::Watch(create) => {
                self.send(RequestUnion::CreateRequest(create)).await;
                // What a watch delivers is compared at the end: when it comes is free.
                self.receive_until_quiet().await;
                String::new()
            }
        }
    }

    async fn send(&mut self, union: RequestUnion) {
        let request = pb::WatchRequest {
            request_union: Some(union),
        };
        if let Some((sender, _)) = &self.stream {
            sender.send(request).await.unwrap();
            return;
        }
        let (sender, receiver) = mpsc::channel(64);
        sender.send(request).await.unwrap();
        let answers = self
            .watch
            .watch(ReceiverStream::new(receiver))
            .await
            .unwrap()
            .into_inner();
        self.stream = Some((sender, answers));
    }

    /// Reads what the watches have to say until they are silent: so a compaction that follows can not overtake a
    /// watch that is still catching up (etcd looks after those every 100 ms).
    async fn receive_until_quiet(&mut self) {
        const QUIET: Duration = Duration::from_millis(300);
        loop {
            let (_, answers) = self.stream.as_mut().unwrap();
            let Ok(next) = tokio::time::timeout(QUIET, answers.message()).await else {
                return;
            };
            let answer = next.unwrap().expect("the watch stream stays open");
            self.remember(answer);
        }
    }

    fn remember(&mut self, answer: pb::WatchResponse) {
        let log = self.seen.entry(answer.watch_id).or_default();
        if answer.created || answer.canceled {
            log.push(format!(
                "created {} canceled {} compact {} reason {:?}",
                answer.created, answer.canceled, answer.compact_revision, answer.cancel_reason
            ));
        }
        // How events are cut into answers is free, as long as a revision is not torn apart.
        for event in answer.events {
            log.push(format!("{event:?}"));
        }
    }

    /// Everything every watch got so far, by watch id.
    pub async fn watched(&mut self) -> Vec<Vec<String>> {
        if self.stream.is_some() {
            self.receive_until_quiet().await;
        }
        let named = |(id, log): (&i64, &Vec<String>)| {
            std::iter::once(format!("watch {id}"))
                .chain(log.iter().cloned())
                .collect()
        };
        self.seen.iter().map(named).collect()
    }
}

/// An answer as text, with the ids and the term of its header taken out.
fn shown<M: std::fmt::Debug>(
    answer: Result<Response<M>, Status>,
    header: impl FnOnce(&mut M) -> &mut Option<pb::ResponseHeader>,
) -> String {
    match answer {
        Ok(answer) => {
            let mut message = answer.into_inner();
            if let Some(header) = header(&mut message) {
                header.cluster_id = 0;
                header.member_id = 0;
                header.raft_term = 0;
            }
            format!("{message:#?}")
        }
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    }
}
