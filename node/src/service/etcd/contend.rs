//! What locks and elections share: keys that stand in line under a name.
//!
//! ```text
//!   <name>/<lease, hexadecimal>     created at revision r
//!
//!   r7  r9  r12  r15        the lowest create_revision is first: it holds the lock, it leads
//!   ^first    ^this one waits for the deletion of the one just before it, not for all of them
//! ```
//!
//! Whoever stands in line waits on its tenant's watch hub; nothing is polled. A place in the line that is given up
//! while waiting is removed ([`Place`]): when the caller goes away its call is dropped, and so is the place.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meridian_domain::access::Action;
use meridian_domain::answer::Found;
use meridian_domain::command::{Reply, Verdict};
use meridian_domain::intent::Intent;
use meridian_domain::key::{KeyRange, Space};
use meridian_domain::kv::{Delete, KeyValue, LeaseId, Order, Put, Range, Target};
use meridian_domain::query::Query;
use meridian_domain::rejection::Rejection;
use meridian_domain::revision::Revision;
use meridian_domain::stamp::RequestId;
use meridian_domain::txn::{Compare, Op, OpReply, Operand, Relation, Txn, TxnReply};
use meridian_domain::view::View;
use meridian_raft::Unavailable;
use meridian_storage::store::Tenant;
use meridian_storage::watch::Filters;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Request;

use crate::authn::Who;
use crate::pipeline::{Consistency, Pipeline, RequestContext};
use crate::service::context::grpc_timeout;
use crate::service::etcd::kv::txn_reply;
use crate::service::etcd::lease::drawn_id;
use crate::service::etcd::news::News;
use crate::service::etcd::watch::Watches;
use crate::status::{Etcd, Refusal};

/// The time to live of a lease made for whoever brings none, in seconds: etcd's. Nobody keeps it alive.
const LEASE_TTL_SECONDS: i64 = 60;
/// How long the removal of a place is tried.
const REMOVAL: Duration = Duration::from_secs(10);

/// What locks and elections serve from.
#[derive(Clone)]
pub struct Contest {
    /// The path of every request.
    pub pipeline: Arc<Pipeline>,
    /// Sees to it that hubs are dispatched.
    pub watches: Watches<Arc<Pipeline>>,
    /// The member stops: nobody waits any longer.
    pub stop: CancellationToken,
}

/// One call: who asks, and until when.
pub struct Contender<'a> {
    contest: &'a Contest,
    ctx: RequestContext,
    request_id: Option<RequestId>,
    deadline: Option<Instant>,
}

/// How a key came to stand in line.
pub struct Stood {
    /// The key.
    pub key: Bytes,
    /// Since when it stands there.
    pub create_revision: Revision,
    /// The key as it stood there before, if this call did not make it.
    pub before: Option<KeyValue>,
    /// The revision after the transaction.
    pub revision: Revision,
}

impl Contest {
    /// Begins a call.
    pub fn enter<T>(&self, request: &Request<T>) -> Result<Contender<'_>, Refusal> {
        let mut ctx = self.pipeline.voters_context(request)?;
        self.pipeline.hold(&mut ctx);
        let timeout = request.metadata().as_ref().get("grpc-timeout");
        let timeout = timeout.and_then(|value| grpc_timeout(value.as_bytes()));
        let request_id = ctx.request_id.take();
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        Ok(Contender {
            contest: self,
            ctx,
            request_id,
            deadline,
        })
    }
}

impl Contender<'_> {
    /// The context of one step: as long as a request may take, or the call has left.
    fn step(&self) -> RequestContext {
        let own = Instant::now() + self.contest.pipeline.settings.request_timeout();
        let callers = self.deadline.filter(|callers| *callers < own);
        RequestContext {
            deadline: callers.unwrap_or(own),
            deadline_is_callers: callers.is_some(),
            ..self.ctx.clone()
        }
    }

    /// The lease to stand with: the caller's, or one made for it.
    pub async fn lease(&mut self, lease: LeaseId) -> Result<LeaseId, Refusal> {
        if lease != 0 {
            return Ok(lease);
        }
        // A call that is repeated gets another lease, so it is not the same write.
        self.request_id = None;
        let intent = Intent::LeaseGrant {
            id: drawn_id(),
            ttl_seconds: LEASE_TTL_SECONDS,
            ttl_seconds_min: self.contest.pipeline.settings.lease_ttl_seconds_min(),
        };
        let receipt = self.contest.pipeline.write(&self.step(), intent).await?;
        match receipt.verdict {
            Verdict::Applied(Reply::LeaseGranted { id, .. }) => Ok(id),
            _ => Err(Rejection::UnknownProposal.into()),
        }
    }

    /// Stands in line under a name with a lease, unless it does already.
    pub async fn stand(
        &mut self,
        name: &[u8],
        lease: LeaseId,
        value: Bytes,
    ) -> Result<Stood, Refusal> {
        // Whoever stands in it learns when others come and go.
        let tenant = self.tenant().await?;
        self.may_see(&tenant, name).await?;
        let key = key_of(name, lease);
        let put = Put {
            space: Space::RAW,
            key: key.clone(),
            value: Some(value),
            lease: Some(lease),
            prev_kv: false,
        };
        let look = Range::of(Space::RAW, KeyRange::single(key.clone()));
        let txn = Txn {
            compares: vec![created_at(&key, 0)],
            success: vec![Op::Put(put)],
            failure: vec![Op::Range(look)],
        };
        let request_id = self.request_id.take();
        let (reply, revision) = self.write(txn, request_id).await?;
        let before = found(reply);
        let create_revision = before.as_ref().map_or(revision, |kv| kv.create_revision);
        Ok(Stood {
            key,
            create_revision,
            before,
            revision,
        })
    }

    /// Waits until nobody stands in line before; says whether anybody did. If the wait fails or is dropped the
    /// place is given up.
    pub async fn wait(&self, name: &[u8], stood: &Stood) -> Result<bool, Refusal> {
        let tenant = self.tenant().await?;
        let Some(mut before) = one_before(&tenant, name, stood.create_revision)? else {
            return Ok(false);
        };
        let place = Place::hold(self, stood);
        loop {
            let range = KeyRange::single(before.key.clone());
            let filters = Filters {
                no_put: true,
                no_delete: false,
            };
            let mut news = News::open(self.contest, &tenant, range, filters);
            loop {
                let still = first(&tenant, &before.key)?;
                if still.is_none_or(|kv| kv.create_revision != before.create_revision) {
                    break;
                }
                self.until(news.next()).await??;
            }
            match one_before(&tenant, name, stood.create_revision)? {
                Some(next) => before = next,
                None => break,
            }
        }
        place.keep();
        Ok(true)
    }

    /// Refuses whoever may not see the whole line.
    async fn may_see(&self, tenant: &Arc<Tenant>, name: &[u8]) -> Result<(), Refusal> {
        let query = Query::Range(first_of(name));
        let look = Action::Read(&query);
        let pipeline = &self.contest.pipeline;
        pipeline.permit(&self.step(), tenant, look).await
    }

    /// Who asks.
    pub fn who(&self) -> &Who {
        &self.ctx.who
    }

    /// A key, read freshly, with the revision it was read at.
    pub async fn get(&self, key: &Bytes) -> Result<(Option<KeyValue>, Revision), Refusal> {
        self.read(Range::of(Space::RAW, KeyRange::single(key.clone())))
            .await
    }

    /// The first of the line, read freshly, with the revision it was read at.
    pub async fn first(&self, name: &[u8]) -> Result<(Option<KeyValue>, Revision), Refusal> {
        self.read(first_of(name)).await
    }

    /// Changes a key if it stands in line since `create_revision`; none if it does not.
    pub async fn change(
        &self,
        key: &Bytes,
        create_revision: Revision,
        op: Op,
    ) -> Result<Option<Revision>, Refusal> {
        let compares = vec![created_at(key, create_revision)];
        let txn = Txn {
            compares,
            success: vec![op],
            failure: vec![],
        };
        let (reply, revision) = self.write(txn, self.request_id.clone()).await?;
        Ok(reply.succeeded.then_some(revision))
    }

    /// Deletes a key, whatever it is.
    pub async fn delete(&self, key: Bytes) -> Result<Revision, Refusal> {
        let range = KeyRange::single(key);
        let delete = Delete {
            space: Space::RAW,
            range,
            prev_kv: false,
        };
        let ctx = RequestContext {
            request_id: self.request_id.clone(),
            ..self.step()
        };
        let receipt = self
            .contest
            .pipeline
            .write(&ctx, Intent::Delete(delete))
            .await?;
        Ok(receipt.revision)
    }

    /// Who is asked about: the tenant of the call.
    pub async fn tenant(&self) -> Result<Arc<Tenant>, Refusal> {
        self.contest.pipeline.tenant(&self.step(), &mut false).await
    }

    async fn write(
        &self,
        txn: Txn,
        request_id: Option<RequestId>,
    ) -> Result<(TxnReply, Revision), Refusal> {
        let ctx = RequestContext {
            request_id,
            ..self.step()
        };
        txn_reply(self.contest.pipeline.write(&ctx, Intent::Txn(txn)).await?)
    }

    async fn read(&self, range: Range) -> Result<(Option<KeyValue>, Revision), Refusal> {
        let query = Query::Range(range);
        let ctx = self.step();
        let answer = self
            .contest
            .pipeline
            .read(&ctx, &query, Consistency::Linearizable)
            .await?;
        match answer.found {
            Found::Range(reply) => Ok((reply.kvs.into_iter().next(), answer.revision)),
            _ => Err(Rejection::UnknownProposal.into()),
        }
    }

    /// Waits for something, but not beyond the call's deadline or the member's end.
    async fn until<T>(&self, what: impl Future<Output = T>) -> Result<T, Refusal> {
        let too_late = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            done = what => Ok(done),
            () = too_late => Err(Etcd::DeadlineExceeded.into()),
            () = self.contest.stop.cancelled() => Err(Unavailable::Stopped.into()),
        }
    }
}

/// A place in the line, given up when dropped.
struct Place {
    held: Option<(Contest, RequestContext, Bytes, Revision)>,
}

impl Place {
    fn hold(contender: &Contender<'_>, stood: &Stood) -> Self {
        let ctx = RequestContext {
            request_id: None,
            ..contender.ctx.clone()
        };
        let contest = contender.contest.clone();
        Self {
            held: Some((contest, ctx, stood.key.clone(), stood.create_revision)),
        }
    }

    fn keep(mut self) {
        self.held = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((contest, mut ctx, key, create_revision)) = self.held.take() else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        ctx.deadline = Instant::now() + REMOVAL;
        ctx.deadline_is_callers = false;
        // One task per call that ended, at most; each ends with its deadline.
        runtime.spawn(async move {
            let range = KeyRange::single(key.clone());
            let delete = Op::Delete(Delete {
                space: Space::RAW,
                range,
                prev_kv: false,
            });
            let compares = vec![created_at(&key, create_revision)];
            let txn = Txn {
                compares,
                success: vec![delete],
                failure: vec![],
            };
            if let Err(refusal) = contest.pipeline.write(&ctx, Intent::Txn(txn)).await {
                // The lease ends it, then.
                tracing::debug!(
                    code = refusal.code(),
                    "a place in a line could not be given up"
                );
            }
        });
    }
}

/// The key that stands in line under a name with a lease.
pub fn key_of(name: &[u8], lease: LeaseId) -> Bytes {
    let mut key = name.to_vec();
    let sign = if lease < 0 { "-" } else { "" };
    key.extend_from_slice(format!("/{sign}{:x}", lease.unsigned_abs()).as_bytes());
    key.into()
}

/// Everybody who stands in line under a name.
pub fn line(name: &[u8]) -> KeyRange {
    let mut prefix = name.to_vec();
    prefix.push(b'/');
    KeyRange::prefix(prefix.into())
}

/// The first of a line.
fn first_of(name: &[u8]) -> Range {
    Range {
        limit: 1,
        order: Order::Ascend,
        target: Target::Create,
        ..Range::of(Space::RAW, line(name))
    }
}

/// The first of a line, as this member sees it now, and at which revision.
pub fn first_here(
    tenant: &Arc<Tenant>,
    name: &[u8],
) -> Result<(Option<KeyValue>, Revision), Refusal> {
    let view = tenant.view();
    let reply = view.range(&first_of(name))?;
    Ok((reply.kvs.into_iter().next(), view.revision()))
}

/// The last of those who stand in line since before `create_revision`.
fn one_before(
    tenant: &Arc<Tenant>,
    name: &[u8],
    create_revision: Revision,
) -> Result<Option<KeyValue>, Refusal> {
    let mut range = Range {
        limit: 1,
        order: Order::Descend,
        target: Target::Create,
        keys_only: true,
        ..Range::of(Space::RAW, line(name))
    };
    // A bound of zero would be none; nothing is created before the second revision.
    range.bounds.create_max = (create_revision - 1).max(1);
    Ok(tenant.view().range(&range)?.kvs.into_iter().next())
}

fn first(tenant: &Arc<Tenant>, key: &Bytes) -> Result<Option<KeyValue>, Refusal> {
    let range = Range {
        keys_only: true,
        ..Range::of(Space::RAW, KeyRange::single(key.clone()))
    };
    Ok(tenant.view().range(&range)?.kvs.into_iter().next())
}

fn created_at(key: &Bytes, create_revision: Revision) -> Compare {
    Compare {
        space: Space::RAW,
        range: KeyRange::single(key.clone()),
        relation: Relation::Equal,
        operand: Operand::Create(create_revision),
    }
}

/// The key a transaction found, if it looked for one.
fn found(reply: TxnReply) -> Option<KeyValue> {
    reply.replies.into_iter().find_map(|reply| match reply {
        OpReply::Range { reply, .. } => reply.kvs.into_iter().next(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_ends_in_its_lease_as_etcd_writes_it() {
        assert_eq!(key_of(b"l", 0x2040_a207_1186_4713), "l/2040a20711864713");
        assert_eq!(key_of(b"", 10), "/a");
        assert_eq!(key_of(b"x", -26), "x/-1a");
        assert_eq!(key_of(b"x", i64::MIN), "x/-8000000000000000");
    }

    #[test]
    fn a_line_is_what_stands_below_its_name() {
        assert!(line(b"l").contains(b"l/1"));
        assert!(!line(b"l").contains(b"l"));
        assert!(!line(b"l").contains(b"lock/1"));
        assert!(line(b"").contains(b"/1"));
    }
}
