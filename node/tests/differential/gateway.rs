//! Runs steps over the JSON gateway. The request is written as a client would write it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use meridian_proto::etcdserverpb as pb;
use meridian_proto::etcdserverpb::compare::TargetUnion;
use meridian_proto::etcdserverpb::request_op::Request;
use serde_json::{Value, json};

use crate::program::Step;
use crate::server::Server;

/// Runs a step; status and body as JSON, without ids and terms.
pub async fn run(server: &Server, step: &Step) -> Value {
    let (path, body) = match step {
        Step::Put(r) => ("kv/put", put(r)),
        Step::Range(r) => ("kv/range", range(r)),
        Step::Delete(r) => ("kv/deleterange", delete(r)),
        Step::Txn(r) => ("kv/txn", txn(r)),
        Step::Grant(r) => (
            "lease/grant",
            json!({"TTL": r.ttl.to_string(), "ID": r.id.to_string()}),
        ),
        Step::Revoke(r) => ("lease/revoke", json!({"ID": r.id})),
        Step::TimeToLive(r) => ("lease/timetolive", json!({"ID": r.id, "keys": r.keys})),
        Step::Leases => ("lease/leases", json!({})),
        Step::Compact(r) => (
            "kv/compaction",
            json!({"revision": r.revision, "physical": r.physical}),
        ),
        Step::Watch(_) => return Value::Null,
    };
    let (status, answer) = call(server, path, &body, None).await;
    comparable(status, answer)
}

/// Posts a request, with a token if there is one; status and body.
pub async fn call(server: &Server, path: &str, body: &Value, token: Option<&str>) -> (u16, Value) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let mut request = http::Request::post(format!("{}/v3/{path}", server.url))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap();
    if let Some(token) = token {
        let token = http::HeaderValue::from_str(token).unwrap();
        request.headers_mut().insert("authorization", token);
    }
    let patience = std::time::Duration::from_secs(30);
    let answered = tokio::time::timeout(patience, client.request(request)).await;
    let response = answered.expect("an answer in time").unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| panic!("{path} answered {:?}", String::from_utf8_lossy(&bytes)));
    (status, answer)
}

/// Drops what may differ: ids, terms, what is left of a lease, and the older shape of errors.
pub fn comparable(status: u16, mut answer: Value) -> Value {
    if status != 200 {
        // A packaged etcd 3.4 answers 412 where every other build answers 400, and repeats the text as `error`.
        let status = if status == 412 { 400 } else { status };
        return json!({"status": status, "code": answer["code"], "message": answer["message"]});
    }
    if let Some(header) = answer.get_mut("header").and_then(Value::as_object_mut) {
        for id in ["cluster_id", "member_id", "raft_term"] {
            assert!(header.remove(id).is_some(), "the header has no {id}");
        }
    }
    let is_lease = answer.get("grantedTTL").is_some();
    if is_lease && let Some(object) = answer.as_object_mut() {
        object.remove("TTL");
    }
    for list in ["keys", "leases"] {
        if let Some(list) = answer.get_mut(list).and_then(Value::as_array_mut) {
            list.sort_by_key(Value::to_string);
        }
    }
    answer
}

fn b64(bytes: &Bytes) -> String {
    STANDARD.encode(bytes)
}

fn put(r: &pb::PutRequest) -> Value {
    json!({
        "key": b64(&r.key), "value": b64(&r.value), "lease": r.lease.to_string(),
        "prev_kv": r.prev_kv, "ignoreValue": r.ignore_value, "ignore_lease": r.ignore_lease,
    })
}

fn range(r: &pb::RangeRequest) -> Value {
    let order = ["NONE", "ASCEND", "DESCEND"][r.sort_order as usize];
    let target = ["KEY", "VERSION", "CREATE", "MOD", "VALUE"][r.sort_target as usize];
    json!({
        "key": b64(&r.key), "range_end": b64(&r.range_end), "limit": r.limit,
        "revision": r.revision.to_string(), "sort_order": order, "sortTarget": target,
        "serializable": r.serializable, "keys_only": r.keys_only, "count_only": r.count_only,
        "min_mod_revision": r.min_mod_revision, "max_mod_revision": r.max_mod_revision,
        "min_create_revision": r.min_create_revision, "max_create_revision": r.max_create_revision,
    })
}

fn delete(r: &pb::DeleteRangeRequest) -> Value {
    json!({"key": b64(&r.key), "range_end": b64(&r.range_end), "prev_kv": r.prev_kv})
}

fn txn(r: &pb::TxnRequest) -> Value {
    let ops = |ops: &[pb::RequestOp]| ops.iter().map(op).collect::<Vec<_>>();
    json!({
        "compare": r.compare.iter().map(compare).collect::<Vec<_>>(),
        "success": ops(&r.success), "failure": ops(&r.failure),
    })
}

fn op(op: &pb::RequestOp) -> Value {
    match &op.request {
        Some(Request::RequestPut(r)) => json!({"request_put": put(r)}),
        Some(Request::RequestRange(r)) => json!({"requestRange": range(r)}),
        Some(Request::RequestDeleteRange(r)) => json!({"request_delete_range": delete(r)}),
        Some(Request::RequestTxn(r)) => json!({"request_txn": txn(r)}),
        None => json!({}),
    }
}

fn compare(c: &pb::Compare) -> Value {
    let result = ["EQUAL", "GREATER", "LESS", "NOT_EQUAL"][c.result as usize];
    let mut compare = json!({
        "result": result,
        "target": c.target,
        "key": b64(&c.key), "range_end": b64(&c.range_end),
    });
    match &c.target_union {
        Some(TargetUnion::Version(n)) => compare["version"] = json!(n.to_string()),
        Some(TargetUnion::CreateRevision(n)) => compare["create_revision"] = json!(n),
        Some(TargetUnion::ModRevision(n)) => compare["modRevision"] = json!(n),
        Some(TargetUnion::Value(v)) => compare["value"] = json!(b64(v)),
        Some(TargetUnion::Lease(n)) => compare["lease"] = json!(n),
        None => {}
    }
    compare
}
