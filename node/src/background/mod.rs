//! What a member does on its own account. Each part proposes like any client: logged, authorised, watched; and only
//! while this member leads.
//!
//! ```text
//!   leases      ends leases that ran out, answers renewals
//!   compactor   forgets history by count and age
//!   space       raises NOSPACE
//!   writers     counts tenants that write (on every member; proposes nothing)
//!   delegate    answers the other members
//! ```

pub mod compactor;
pub mod deadlines;
pub mod delegate;
pub mod leases;
pub mod space;
pub mod writers;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::compactor::Compactor;
use self::delegate::Answers;
use self::leases::Lessor;
use crate::pipeline::Pipeline;
use crate::service::etcd::lease::Lease;

/// Starts all of it. Tasks end at `stop`.
pub fn start(
    pipeline: &Arc<Pipeline>,
    lessor: &Arc<Lessor>,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) {
    let lease = Lease::new(Arc::clone(pipeline), Arc::clone(lessor));
    pipeline.replica.set_delegate(Answers::new(lease));
    let spawn = |part: futures::future::BoxFuture<'static, ()>| {
        let stop = stop.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = part => {}
            }
        });
    };
    spawn(Box::pin(Arc::clone(lessor).run()));
    spawn(Box::pin(Compactor::new(Arc::clone(pipeline)).run()));
    spawn(Box::pin(space::watch(Arc::clone(pipeline))));
    spawn(Box::pin(writers::count(Arc::clone(pipeline))));
}
