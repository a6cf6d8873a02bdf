//! A pin: a moment of the past that stays readable, for snapshots.

use std::sync::Arc;

use meridian_domain::name::TenantId;
use meridian_domain::revision::Revision;

use super::History;
use super::read::after;
use crate::fault::Fault;
use crate::row::{At, Version};

/// Rows one step of a walk takes.
const STEP_ROWS: usize = 1024;

/// Keeps the versions that were there when it was made readable until it is dropped. The cost is disk and 20
/// bytes of memory for each version dropped meanwhile.
#[must_use]
pub struct Pin {
    history: History,
    epoch: u64,
}

impl std::fmt::Debug for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pin")
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

impl Pin {
    pub(super) fn new(history: &History) -> Self {
        let mut state = history.shared().state.lock();
        state.pins += 1;
        let epoch = state.epoch;
        drop(state);
        Self {
            history: history.clone(),
            epoch,
        }
    }

    /// Shows the versions of a tenant up to a revision, ascending. Some that compaction has superseded may be
    /// among them. [`Fault::Inconsistent`] if the history was replaced since the pin was made: give up.
    pub fn versions(
        &self,
        tenant: TenantId,
        upto: Revision,
        each: &mut dyn FnMut(&Arc<Version>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let shared = self.history.shared();
        let mut next = At::default();
        loop {
            let rows = shared.rows_from(tenant, next, STEP_ROWS)?;
            if shared.state.lock().epoch != self.epoch {
                let what = "the history was replaced while it was read".into();
                return Err(Fault::Inconsistent { what });
            }
            let Some(last) = rows.last() else {
                return Ok(());
            };
            let Some(after_last) = after(last.at) else {
                return Ok(());
            };
            next = after_last;
            for row in &rows {
                if row.at.revision > upto {
                    return Ok(());
                }
                each(row)?;
            }
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let shared = self.history.shared();
        let mut state = shared.state.lock();
        state.pins = state.pins.saturating_sub(1);
        state.mark_held();
        drop(state);
        shared.work.notify_all();
    }
}
