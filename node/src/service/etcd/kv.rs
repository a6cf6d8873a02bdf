//! KV: range, put, delete, transaction, compaction.
//!
//! A request is read into an intent or a query, carried through the pipeline, and its answer written. A
//! transaction that only reads takes the read path and never the log.

use std::sync::Arc;

use meridian_domain::answer::{Answer, Found};
use meridian_domain::command::{Receipt, Reply, Verdict};
use meridian_domain::intent::Intent;
use meridian_domain::limits;
use meridian_domain::query::Query;
use meridian_domain::rejection::Rejection;
use meridian_domain::txn::{Op, Txn, TxnReply};
use meridian_proto::etcd;
use meridian_proto::etcdserverpb::kv_server;
use meridian_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};
use tonic::{Request, Response, Status};

use crate::pipeline::{Consistency, Pipeline};
use crate::service::etcd::range_stream::{self, RangeStream};
use crate::status::Refusal;

/// The service.
pub struct Kv {
    pipeline: Arc<Pipeline>,
}

impl Kv {
    /// Serves from a pipeline.
    pub fn new(pipeline: Arc<Pipeline>) -> Self {
        Self { pipeline }
    }

    /// Carries a write that is a transaction, and hands out its answer with the revision.
    async fn transact<T>(
        &self,
        request: &Request<T>,
        intent: Intent,
    ) -> Result<(TxnReply, i64), Refusal> {
        let ctx = self.pipeline.voters_context(request)?;
        let receipt = self.pipeline.write(&ctx, intent).await?;
        txn_reply(receipt)
    }

    /// Reads a request whose operations an operator may have limited further than the product does.
    fn parse_txn(&self, request: TxnRequest) -> Result<Txn, Rejection> {
        let txn = etcd::txn::txn(request)?;
        let most = self.pipeline.settings.limits.txn_ops;
        if most < limits::TXN_OPS_MAX && !fits(&txn, most) {
            return Err(Rejection::TooManyOps);
        }
        Ok(txn)
    }
}

#[tonic::async_trait]
impl kv_server::Kv for Kv {
    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        let ctx = self.pipeline.context(&request)?;
        let request = request.into_inner();
        let consistency = consistency(request.serializable);
        let range = etcd::kv::range(request).map_err(Refusal::from)?;
        let answer = self
            .pipeline
            .read(&ctx, &Query::Range(range), consistency)
            .await?;
        let Answer {
            revision,
            found: Found::Range(reply),
        } = answer
        else {
            return Err(mismatch("range"));
        };
        Ok(Response::new(etcd::kv::range_response(
            self.pipeline.header(revision),
            reply,
        )))
    }

    type RangeStreamStream = RangeStream;

    async fn range_stream(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeStream>, Status> {
        let ctx = self.pipeline.context(&request)?;
        let request = request.into_inner();
        Ok(Response::new(
            range_stream::open(&self.pipeline, ctx, request).await?,
        ))
    }

    async fn put(&self, mut request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let put = std::mem::take(request.get_mut());
        let intent = Intent::Put(etcd::kv::put(put).map_err(Refusal::from)?);
        let (reply, revision) = self.transact(&request, intent).await?;
        etcd::kv::put_response(self.pipeline.header(revision), reply)
            .map(Response::new)
            .ok_or_else(|| mismatch("put"))
    }

    async fn delete_range(
        &self,
        mut request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let delete = std::mem::take(request.get_mut());
        let intent = Intent::Delete(etcd::kv::delete(delete).map_err(Refusal::from)?);
        let (reply, revision) = self.transact(&request, intent).await?;
        etcd::kv::delete_response(self.pipeline.header(revision), reply)
            .map(Response::new)
            .ok_or_else(|| mismatch("delete"))
    }

    async fn txn(&self, mut request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let txn = std::mem::take(request.get_mut());
        let consistency = consistency(etcd::txn::is_serializable(&txn));
        let txn = self.parse_txn(txn).map_err(Refusal::from)?;
        let (reply, revision) = if txn.is_read_only() {
            let ctx = self.pipeline.context(&request)?;
            let answer = self
                .pipeline
                .read(&ctx, &Query::Txn(txn), consistency)
                .await?;
            let Answer {
                revision,
                found: Found::Txn(reply),
            } = answer
            else {
                return Err(mismatch("txn"));
            };
            (reply, revision)
        } else {
            self.transact(&request, Intent::Txn(txn)).await?
        };
        let header = self.pipeline.header(revision);
        Ok(Response::new(etcd::txn::txn_response(header, reply)))
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        let ctx = self.pipeline.voters_context(&request)?;
        let CompactionRequest { revision, physical } = request.into_inner();
        let receipt = self
            .pipeline
            .write(&ctx, Intent::Compact { revision })
            .await?;
        if physical {
            self.pipeline.until_reclaimed(&ctx).await?;
        }
        let header = Some(self.pipeline.header(receipt.revision));
        Ok(Response::new(CompactionResponse { header }))
    }
}

/// How fresh a range must be that says whether it is `serializable`.
pub fn consistency(serializable: bool) -> Consistency {
    if serializable {
        Consistency::Serializable
    } else {
        Consistency::Linearizable
    }
}

/// The answer to a transaction, with the revision after it.
pub fn txn_reply(receipt: Receipt) -> Result<(TxnReply, i64), Refusal> {
    match receipt.verdict {
        Verdict::Applied(Reply::Txn(reply)) => Ok((reply, receipt.revision)),
        _ => Err(Rejection::UnknownProposal.into()),
    }
}

/// Whether every level has at most `most` operations; a nested level gets what the one around it left.
fn fits(txn: &Txn, most: usize) -> bool {
    let count = txn
        .compares
        .len()
        .max(txn.success.len())
        .max(txn.failure.len());
    let Some(rest) = most.checked_sub(count) else {
        return false;
    };
    txn.success.iter().chain(&txn.failure).all(|op| match op {
        Op::Txn(inner) => fits(inner, rest),
        Op::Put(_) | Op::Delete(_) | Op::Range(_) => true,
    })
}

/// The state machine answered something else than was asked: a fault of the program, shown as such.
pub fn mismatch(asked: &'static str) -> Status {
    tracing::error!(
        asked,
        "the state machine gave the answer to another question"
    );
    Status::internal("meridian: the answer does not fit the question")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_transaction_gets_what_the_level_around_it_left() {
        let nested = |inner: usize| {
            let ops = (0..inner).map(|_| Op::Txn(Txn::default())).collect();
            let inner = Txn {
                success: ops,
                ..Txn::default()
            };
            Txn {
                success: vec![Op::Txn(inner)],
                ..Txn::default()
            }
        };
        assert!(fits(&nested(3), 4));
        assert!(!fits(&nested(4), 4));
        assert!(!fits(&nested(0), 0));
    }
}
