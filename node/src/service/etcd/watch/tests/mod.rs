//! The service over a real machine and real sockets, held against etcd's words.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod catching_up;
mod creation;
mod ending;
mod events;
mod progress;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use meridian_domain::command::{Command, Guards, Proposal, Verdict};
use meridian_domain::key::{KeyRange, Space};
use meridian_domain::kv::{Delete, Put};
use meridian_domain::name::{TenantId, TenantName};
use meridian_domain::rejection::Rejection;
use meridian_domain::revision::LogId;
use meridian_domain::stamp::Stamp;
use meridian_domain::txn::{Op, Txn};
use meridian_proto::etcdserverpb::watch_client::WatchClient;
use meridian_proto::etcdserverpb::watch_request::RequestUnion;
use meridian_proto::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use meridian_storage::history::{self, History};
use meridian_storage::machine::{self, Machine};
use meridian_storage::store::Store;
use meridian_storage::watch;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Server};
use tonic::{Request, Status, Streaming};

use super::member::Keys;
use super::source::{Admission, Admitted, Member, Seen};
use super::{Settings, Watches};

/// Longer than anything here takes; a test that waits so long has failed.
const FOREVER: Duration = Duration::from_mins(1);

/// One member: a machine that applies what the test says, and the service before it.
struct World {
    machine: Mutex<(Machine, u64)>,
    leader: Arc<AtomicBool>,
    watches: Watches<Standing>,
    channel: Channel,
    address: std::net::SocketAddr,
}

/// What the service knows of the member.
struct Standing {
    store: Store,
    leader: Arc<AtomicBool>,
}

impl Member for Standing {
    fn cluster_id(&self) -> u64 {
        7
    }

    fn member_id(&self) -> u64 {
        8
    }

    fn term(&self) -> u64 {
        3
    }

    fn has_leader(&self) -> bool {
        self.leader.load(Ordering::SeqCst)
    }

    fn admit(&self, metadata: MetadataMap, _: http::Extensions) -> Admission {
        let store = self.store.clone();
        Box::pin(async move {
            let name = metadata
                .get("meridian-tenant")
                .map_or("default", |v| v.to_str().unwrap());
            let tenant = store
                .tenant_named(name)
                .ok_or_else(|| Rejection::TenantNotFound { name: name.into() })?;
            let guard = None;
            let source = Arc::new(Keys {
                store,
                tenant,
                guard,
            });
            Ok(Admitted { source })
        })
    }

    fn moved(&self, _: &mut Seen) -> Vec<Arc<watch::Hub>> {
        vec![]
    }
}

/// How the world differs from the usual.
#[derive(Clone)]
struct Given {
    ring_commits_max: usize,
    message_bytes_max: usize,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            ring_commits_max: 16_384,
            message_bytes_max: 2 << 20,
        }
    }
}

impl World {
    async fn new() -> Self {
        Self::given(Given::default()).await
    }

    async fn given(given: Given) -> Self {
        let history = History::in_memory(history::Settings::default()).unwrap();
        let watch = watch::Settings {
            ring_commits_max: given.ring_commits_max,
            ..watch::Settings::default()
        };
        let machine = Machine::new(history, machine::Settings { watch });
        let leader = Arc::new(AtomicBool::new(true));
        let standing = Standing {
            store: machine.store(),
            leader: Arc::clone(&leader),
        };
        let settings = Settings {
            progress_interval: Duration::from_mins(10),
            election_timeout: Duration::from_millis(20),
            message_bytes_max: given.message_bytes_max,
        };
        let watches = Watches::new(standing, settings);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = TcpListenerStream::new(listener).map(|connection| {
            connection.inspect(|connection| connection.set_nodelay(true).unwrap())
        });
        tokio::spawn(
            Server::builder()
                .add_service(watches.clone())
                .serve_with_incoming(incoming),
        );
        let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
        let channel = endpoint.connect().await.unwrap();
        Self {
            machine: Mutex::new((machine, 0)),
            leader,
            watches,
            channel,
            address,
        }
    }

    /// Applies a command and publishes; the tenant's revision after it.
    fn apply(&self, tenant: TenantId, command: Command) -> i64 {
        self.apply_all(tenant, vec![command])
    }

    /// Applies commands and publishes them together.
    fn apply_all(&self, tenant: TenantId, commands: Vec<Command>) -> i64 {
        let mut guard = self.machine.lock();
        let (machine, index) = &mut *guard;
        let mut revision = 0;
        for command in commands {
            *index += 1;
            let record = meridian_proto::record::proposal::encode(&Proposal {
                tenant,
                request_id: None,
                actor: "test".into(),
                stamp: Stamp::default(),
                guards: Guards::default(),
                command,
            });
            let receipt = machine.apply(
                LogId {
                    term: 3,
                    index: *index,
                },
                &record,
            );
            assert!(
                matches!(receipt.verdict, Verdict::Applied(_)),
                "{receipt:?}"
            );
            revision = receipt.revision;
        }
        machine.publish();
        revision
    }

    fn put(&self, key: &str, value: impl Into<Bytes>) -> i64 {
        self.apply(TenantId::DEFAULT, Command::Txn(Txn::once(put(key, value))))
    }

    fn delete(&self, key: &str) -> i64 {
        let range = KeyRange::single(Bytes::copy_from_slice(key.as_bytes()));
        let delete = Delete {
            space: Space::RAW,
            range,
            prev_kv: false,
        };
        self.apply(
            TenantId::DEFAULT,
            Command::Txn(Txn::once(Op::Delete(delete))),
        )
    }

    fn txn(&self, ops: Vec<Op>) -> i64 {
        let txn = Txn {
            compares: vec![],
            success: ops,
            failure: vec![],
        };
        self.apply(TenantId::DEFAULT, Command::Txn(txn))
    }

    fn compact(&self, revision: i64) {
        self.apply(TenantId::DEFAULT, Command::Compact { revision });
        while self.machine.lock().0.reclaim(1000) {}
    }

    async fn stream(&self) -> Client {
        self.stream_with(&[]).await
    }

    async fn stream_with(&self, metadata: &[(&'static str, &'static str)]) -> Client {
        self.try_stream(metadata).await.unwrap()
    }

    async fn try_stream(
        &self,
        metadata: &[(&'static str, &'static str)],
    ) -> Result<Client, Status> {
        let (requests, receiver) = mpsc::channel(1024);
        let mut request = Request::new(ReceiverStream::new(receiver));
        for (key, value) in metadata {
            request.metadata_mut().insert(*key, value.parse().unwrap());
        }
        let mut client = WatchClient::new(self.channel.clone()).max_decoding_message_size(64 << 20);
        let responses = client.watch(request).await?.into_inner();
        Ok(Client {
            requests: Some(requests),
            responses,
        })
    }
}

fn put(key: &str, value: impl Into<Bytes>) -> Op {
    Op::Put(Put {
        space: Space::RAW,
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Some(value.into()),
        lease: Some(0),
        prev_kv: false,
    })
}

/// One stream, as a client sees it.
struct Client {
    requests: Option<mpsc::Sender<WatchRequest>>,
    responses: Streaming<WatchResponse>,
}

impl Client {
    async fn send(&self, union: RequestUnion) {
        let request = WatchRequest {
            request_union: Some(union),
        };
        self.requests.as_ref().unwrap().send(request).await.unwrap();
    }

    async fn create(&self, create: WatchCreateRequest) {
        self.send(RequestUnion::CreateRequest(create)).await;
    }

    async fn cancel(&self, watch_id: i64) {
        self.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }))
            .await;
    }

    async fn ask_progress(&self) {
        self.send(RequestUnion::ProgressRequest(WatchProgressRequest {}))
            .await;
    }

    async fn next(&mut self) -> WatchResponse {
        self.try_next().await.unwrap().expect("the stream goes on")
    }

    async fn try_next(&mut self) -> Result<Option<WatchResponse>, Status> {
        tokio::time::timeout(FOREVER, self.responses.message())
            .await
            .expect("something comes")
    }

    /// Creates a watch and takes the message that says so.
    async fn created(&mut self, create: WatchCreateRequest) -> WatchResponse {
        self.create(create).await;
        let response = self.next().await;
        assert!(response.created, "{response:?}");
        assert!(response.events.is_empty());
        response
    }

    /// What comes until there are so many events: (mod revision, key, deleted).
    async fn events(&mut self, count: usize) -> Vec<(i64, String, bool)> {
        let mut events = vec![];
        while events.len() < count {
            let response = self.next().await;
            assert!(!response.canceled && !response.created, "{response:?}");
            for event in &response.events {
                let kv = event.kv.as_ref().unwrap();
                assert!(response.header.as_ref().unwrap().revision >= kv.mod_revision);
                let key = String::from_utf8(kv.key.to_vec()).unwrap();
                events.push((kv.mod_revision, key, event.r#type == 1));
            }
        }
        events
    }

    /// Nothing is on its way: the answer to a cancellation comes next.
    async fn is_quiet(&mut self) {
        self.created(WatchCreateRequest {
            watch_id: 987_654,
            ..on("nobody writes this")
        })
        .await;
        self.cancel(987_654).await;
        let response = self.next().await;
        assert!(
            response.canceled && response.watch_id == 987_654,
            "{response:?}"
        );
    }
}

/// A watch of one key.
fn on(key: &str) -> WatchCreateRequest {
    WatchCreateRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        ..WatchCreateRequest::default()
    }
}

/// A watch of every key from one on.
fn from(key: &str) -> WatchCreateRequest {
    WatchCreateRequest {
        range_end: Bytes::from_static(b"\0"),
        ..on(key)
    }
}

fn revision(response: &WatchResponse) -> i64 {
    response.header.as_ref().unwrap().revision
}

fn tenant(name: &str) -> TenantName {
    TenantName::new(name).unwrap()
}
