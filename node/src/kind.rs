//! What kind of request it is: what a *no* may depend on, whose facts a command changes, what a read costs.
//!
//! Judged from the request alone, or from a count on the view; the pipeline asks and acts.

use meridian_domain::command::Command;
use meridian_domain::kv::Range;
use meridian_domain::query::Query;
use meridian_domain::rejection::Rejection;
use meridian_domain::txn::Op;
use meridian_domain::view::View;

/// Up to so many keys a range is read on the thread that serves the connection.
const LIGHT_KEYS_MAX: i64 = 512;

/// Whether a view that lags could be the reason for this *no*.
pub(crate) fn may_be_the_views_age(no: &Rejection) -> bool {
    matches!(
        no,
        Rejection::Compacted { .. }
            | Rejection::FutureRevision { .. }
            | Rejection::LeaseNotFound
            | Rejection::LeaseExists
            | Rejection::KeyNotFound
            | Rejection::QuotaExceeded { .. }
            | Rejection::NoSpaceAlarm
            | Rejection::CorruptAlarm
            | Rejection::TenantNotFound { .. }
            | Rejection::TenantExists { .. }
            | Rejection::TooManyTenants { .. }
            | Rejection::PermissionDenied
            | Rejection::Forbidden { .. }
            | Rejection::UserNameEmpty
            | Rejection::InvalidToken
            | Rejection::AuthNotEnabled
            | Rejection::AuthOld
            | Rejection::RootUserMissing
            | Rejection::RootRoleMissing
            | Rejection::UserExists
            | Rejection::UserNotFound
            | Rejection::RoleExists
            | Rejection::RoleNotFound
            | Rejection::RoleNotGranted
            | Rejection::PermissionNotGranted
            | Rejection::InvalidAuthManagement
            | Rejection::TokenExists
            | Rejection::TokenNotFound
    )
}

/// Whether it is about who asks. A view that lags could be the reason.
pub(crate) fn is_about_rights(no: &Rejection) -> bool {
    matches!(
        no,
        Rejection::PermissionDenied
            | Rejection::Forbidden { .. }
            | Rejection::UserNameEmpty
            | Rejection::InvalidToken
            | Rejection::AuthOld
    )
}

/// Whether a command changes the cluster's own facts and no tenant's.
pub(crate) fn concerns_the_cluster(command: &Command) -> bool {
    match command {
        Command::TenantCreate { .. }
        | Command::TenantChange { .. }
        | Command::TenantDelete { .. }
        | Command::Alarm { .. }
        | Command::MemberPublish(_)
        | Command::MemberForget { .. } => true,
        Command::Txn(_)
        | Command::LeaseGrant { .. }
        | Command::LeaseRevoke { .. }
        | Command::LeaseCheckpoint { .. }
        | Command::Compact { .. } => false,
    }
}

/// Whether a command makes room, or ends something: it is taken even where disks are full.
pub(crate) fn frees_space(command: &Command) -> bool {
    match command {
        Command::Txn(txn) => !txn.has_put(),
        Command::LeaseRevoke { .. }
        | Command::Compact { .. }
        | Command::TenantDelete { .. }
        | Command::TenantChange { .. }
        | Command::Alarm { .. }
        | Command::MemberForget { .. } => true,
        Command::LeaseGrant { .. }
        | Command::LeaseCheckpoint { .. }
        | Command::TenantCreate { .. }
        | Command::MemberPublish(_) => false,
    }
}

/// Whether a query may touch many keys, or the disk: then other requests must not wait on its thread.
pub(crate) fn is_heavy(view: &dyn View, query: &Query) -> bool {
    match query {
        Query::Range(range) => is_heavy_range(view, range),
        Query::Txn(txn) => {
            let reads = txn.success.iter().chain(&txn.failure);
            txn.compares
                .iter()
                .any(|compare| !compare.range.is_single())
                || reads
                    .into_iter()
                    .any(|op| matches!(op, Op::Range(range) if is_heavy_range(view, range)))
        }
        Query::Leases | Query::Tenants | Query::Access(_) => true,
        Query::Lease { keys, .. } => *keys,
        Query::Alarms | Query::Members => false,
    }
}

fn is_heavy_range(view: &dyn View, range: &Range) -> bool {
    if range.revision > 0 && range.revision < view.revision() {
        return true;
    }
    if range.range.is_single() || range.count_only {
        return false;
    }
    let count = Range {
        count_only: true,
        ..Range::of(range.space, range.range.clone())
    };
    view.range(&count)
        .is_ok_and(|reply| reply.count > LIGHT_KEYS_MAX)
}

/// Runs work that may take long without holding up the tasks queued on this thread.
pub fn off_the_reactor<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
