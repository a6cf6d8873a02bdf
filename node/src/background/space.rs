//! Space: raises the alarm `NOSPACE` when all tenants together hold more than the cluster may.
//!
//! A tenant's own quota is exact and decided in apply. The bound of the cluster guards the members' memory and
//! disks; it is looked at every so often, so it may be passed by what is written in between. The alarm stays until
//! somebody disarms it, as in etcd, and comes back if there is still too much.

use std::sync::Arc;
use std::time::Duration;

use meridian_domain::command::AlarmKind;
use meridian_domain::intent::Intent;
use meridian_domain::name::TenantName;
use meridian_domain::view::ClusterView;

use crate::pipeline::Pipeline;
use crate::service::etcd::maintenance::bytes_in_use;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// Works until the task is aborted; does nothing unless this member leads.
pub async fn watch(pipeline: Arc<Pipeline>) {
    let Some(limit) = pipeline.settings.quota_bytes() else {
        return;
    };
    let Ok(tenant) = TenantName::new(TenantName::DEFAULT) else {
        return;
    };
    let member = pipeline.ids.member;
    loop {
        tokio::time::sleep(LOOK).await;
        if !pipeline.standing.borrow().is_leader {
            continue;
        }
        let used = bytes_in_use(&pipeline);
        let raised = |(_, kind): &(u64, AlarmKind)| *kind == AlarmKind::NoSpace;
        if used < limit || pipeline.store.cluster().alarms().iter().any(raised) {
            continue;
        }
        let intent = Intent::Alarm {
            member,
            kind: AlarmKind::NoSpace,
            raised: true,
        };
        let ctx = pipeline.system_context(tenant.clone());
        match pipeline.write(&ctx, intent).await {
            Ok(_) => tracing::warn!(
                used,
                limit,
                "all tenants together hold more than --quota-backend-bytes: no more puts until keys are deleted \
                 and the alarm is disarmed"
            ),
            Err(refusal) => tracing::debug!(code = refusal.code(), "the alarm could not be raised"),
        }
    }
}
