//! One request, seen on every member it passed: a receiver of OpenTelemetry's protocol that remembers what it is told.

use std::sync::{Arc, Mutex};

use meridian_proto::etcdserverpb::kv_client::KvClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::world::{World, put, until};

/// A span as it arrived.
#[derive(Clone, Debug)]
struct Seen {
    member: String,
    name: String,
    trace: Vec<u8>,
    id: Vec<u8>,
    parent: Vec<u8>,
}

#[derive(Clone, Default)]
struct Receiver {
    seen: Arc<Mutex<Vec<Seen>>>,
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of_member in request.into_inner().resource_spans {
            let attributes = of_member.resource.unwrap().attributes;
            let member = attributes
                .into_iter()
                .find(|attribute| attribute.key == "service.instance.id")
                .and_then(|attribute| attribute.value?.value);
            let Some(Value::StringValue(member)) = member else {
                return Err(Status::invalid_argument("who is this?"));
            };
            let spans = of_member.scope_spans.into_iter().flat_map(|of| of.spans);
            let spans = spans.map(|span| Seen {
                member: member.clone(),
                name: span.name,
                trace: span.trace_id,
                id: span.span_id,
                parent: span.parent_span_id,
            });
            self.seen.lock().unwrap().extend(spans);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Receiver {
    /// Starts to listen; where.
    async fn listen(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let service = TraceServiceServer::new(self.clone());
        let serving = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serving);
        url
    }

    /// The span of a trace with a name, if it has arrived.
    fn find(&self, trace: &[u8], name: &str) -> Option<Seen> {
        let seen = self.seen.lock().unwrap();
        let mut named = seen
            .iter()
            .filter(|span| span.trace == trace && span.name == name);
        named.next().cloned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_is_one_trace_from_the_client_over_the_member_it_asked_to_the_leader_and_back() {
    let receiver = Receiver::default();
    let url = receiver.listen().await;
    let world = World::start(3, &["--otlp-endpoint", &url]).await;
    let leader = world.leader().await;
    let asked = (leader + 1) % 3;
    let (trace, client) = (0xabcd_u128 << 64 | 1, 0xef01_u64);
    let traceparent = format!("00-{trace:032x}-{client:016x}-01");
    let (trace, client) = (trace.to_be_bytes(), client.to_be_bytes());
    let mut request = Request::new(put("k", "v"));
    let metadata = request.metadata_mut();
    metadata.insert("traceparent", traceparent.parse().unwrap());
    let mut kv = KvClient::new(world.connect(asked).await.unwrap());
    kv.put(request).await.unwrap();

    let found =
        async |name: &'static str| until(name, || async { receiver.find(&trace, name) }).await;
    let call = found("call").await;
    assert_eq!(
        (call.parent.as_slice(), &call.member),
        (&client[..], &world.members[asked].name)
    );
    let propose = found("propose").await;
    assert_eq!((&propose.parent, &propose.member), (&call.id, &call.member));
    let append = found("append").await;
    assert_eq!(
        (&append.parent, &append.member),
        (&propose.id, &world.members[leader].name)
    );
    let apply = found("apply").await;
    assert_eq!((&apply.parent, &apply.member), (&propose.id, &call.member));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_not_there_harms_nobody() {
    let world = World::start(1, &["--otlp-endpoint", "http://127.0.0.1:1"]).await;
    let mut kv = world.kv(0).await;
    for n in 0..100 {
        kv.put(put(&format!("k{n}"), "v")).await.unwrap();
    }
}
