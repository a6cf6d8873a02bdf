//! Registers: writes, linearizable reads and compare-and-set on few keys, by clients that move from member to
//! member.
//!
//! Keys are taken in generations, so that no register's history outgrows what a checker can search. Half of the
//! writes carry a request id and are sent again under it when nobody answered: they must still happen once.

use std::time::Duration;

use bytes::Bytes;
use meridian_proto::etcdserverpb as pb;
use meridian_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use meridian_proto::etcdserverpb::kv_client::KvClient;
use meridian_proto::etcdserverpb::request_op::Request as Op;
use meridian_proto::etcdserverpb::response_op::Response as OpAnswer;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tonic::Request;
use tonic::transport::Channel;

use crate::history::{Ask, Operation, Outcome};
use crate::workload::{PREFIX, Shared};
use crate::world;

/// Registers in use at a time.
const REGISTERS: usize = 5;
/// Operations of one client before it moves on to the next generation of registers.
const GENERATION: u64 = 60;
/// How long a client waits for one answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// One client, until the run is done.
pub async fn client(shared: Shared, number: usize) {
    let mut random = StdRng::seed_from_u64(shared.seed ^ (number as u64).wrapping_mul(0x9e37_79b9));
    let mut member = number;
    let mut channel: Option<Channel> = None;
    let mut last_seen: Option<Bytes> = None;
    let mut n = 0_u64;
    while !shared.is_done() {
        n += 1;
        let Some(open) = channel.clone() else {
            channel = world::connect(&shared.urls, member % shared.urls.len())
                .await
                .ok();
            if channel.is_none() {
                member += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            continue;
        };
        let generation = n / GENERATION;
        let register = random.random_range(0..REGISTERS);
        let key = Bytes::from(format!("{PREFIX}register/{generation}/{register}"));
        let new = Bytes::from(format!("{number}-{n}"));
        let ask = match random.random_range(0..10) {
            0..=3 => Ask::Write(new),
            4..=7 => Ask::Read,
            _ => Ask::CompareAndSet {
                expected: last_seen.clone(),
                new,
            },
        };
        let named = shared.request_ids && random.random_bool(0.5);
        let request_id = named.then(|| format!("{}-{number}-{n}", shared.seed));
        let begun = shared.history.now();
        let mut outcome = once(&open, &key, &ask, request_id.as_deref()).await;
        if outcome.is_none() {
            member += 1;
            channel = world::connect(&shared.urls, member % shared.urls.len())
                .await
                .ok();
            // Sent again under its id, through another member: at most once all the same.
            if let (Some(id), Some(open), Ask::Write(_)) = (&request_id, &channel, &ask) {
                outcome = once(open, &key, &ask, Some(id)).await;
            }
        }
        let ended = shared.history.now();
        if let Some(outcome) = &outcome {
            last_seen = match &ask {
                Ask::Write(value) => Some(value.clone()),
                Ask::CompareAndSet { new, .. } if outcome.set => Some(new.clone()),
                Ask::Read | Ask::CompareAndSet { .. } => outcome.found.clone(),
            };
        }
        let operation = Operation {
            client: number,
            key,
            ask,
            outcome,
            begun,
            ended,
        };
        shared.history.record(|log| log.operations.push(operation));
        tokio::time::sleep(Duration::from_millis(random.random_range(0..20))).await;
    }
}

/// Sends one operation; none if nobody knows what came of it.
async fn once(
    channel: &Channel,
    key: &Bytes,
    ask: &Ask,
    request_id: Option<&str>,
) -> Option<Outcome> {
    let mut kv = KvClient::new(channel.clone());
    let answer = async {
        match ask {
            Ask::Read => {
                let range = pb::RangeRequest {
                    key: key.clone(),
                    ..Default::default()
                };
                let answer = kv.range(range).await.ok()?.into_inner();
                let found = answer.kvs.into_iter().next().map(|kv| kv.value);
                Some(Outcome {
                    revision: answer.header?.revision,
                    found,
                    set: false,
                })
            }
            Ask::Write(value) => {
                let put = pb::PutRequest {
                    key: key.clone(),
                    value: value.clone(),
                    ..Default::default()
                };
                let answer = kv.put(named(put, request_id)).await.ok()?.into_inner();
                Some(Outcome {
                    revision: answer.header?.revision,
                    found: None,
                    set: true,
                })
            }
            Ask::CompareAndSet { expected, new } => {
                let txn = compare_and_set(key, expected.as_ref(), new);
                let answer = kv.txn(named(txn, request_id)).await.ok()?.into_inner();
                let found = answer
                    .responses
                    .into_iter()
                    .find_map(|op| match op.response {
                        Some(OpAnswer::ResponseRange(range)) => range.kvs.into_iter().next(),
                        _ => None,
                    });
                let found = found.map(|kv| kv.value);
                Some(Outcome {
                    revision: answer.header?.revision,
                    found,
                    set: answer.succeeded,
                })
            }
        }
    };
    tokio::time::timeout(PATIENCE, answer).await.ok().flatten()
}

fn named<T>(message: T, request_id: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(id) = request_id.and_then(|id| id.parse().ok()) {
        request.metadata_mut().insert("meridian-request-id", id);
    }
    request
}

fn compare_and_set(key: &Bytes, expected: Option<&Bytes>, new: &Bytes) -> pb::TxnRequest {
    let (target, union) = match expected {
        Some(value) => (CompareTarget::Value, TargetUnion::Value(value.clone())),
        None => (CompareTarget::Create, TargetUnion::CreateRevision(0)),
    };
    let compare = pb::Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: key.clone(),
        target_union: Some(union),
        ..Default::default()
    };
    let put = pb::PutRequest {
        key: key.clone(),
        value: new.clone(),
        ..Default::default()
    };
    let range = pb::RangeRequest {
        key: key.clone(),
        ..Default::default()
    };
    pb::TxnRequest {
        compare: vec![compare],
        success: vec![pb::RequestOp {
            request: Some(Op::RequestPut(put)),
        }],
        failure: vec![pb::RequestOp {
            request: Some(Op::RequestRange(range)),
        }],
    }
}
