//! Writers: how many tenants wrote within the last second, on any member, as what was applied here shows.
//!
//! Each member keeps its own account of what is in flight, but all members' writes meet in one log: a member whose
//! clients are all of one busy tenant must know that others are kept waiting.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_domain::name::TenantId;
use meridian_domain::revision::Revision;

use crate::pipeline::Pipeline;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// How long a tenant counts as writing.
const RECENT: Duration = Duration::from_secs(1);

/// Works until the task is aborted.
pub async fn count(pipeline: Arc<Pipeline>) {
    let mut seen = Seen::default();
    loop {
        tokio::time::sleep(LOOK).await;
        let tenants = pipeline.store.tenants();
        let revisions = tenants
            .iter()
            .map(|tenant| (tenant.id(), tenant.hub().revision()));
        let writers = seen.look(revisions, Instant::now());
        pipeline.admission.note_writers(writers);
    }
}

/// Where each tenant stood, and when it last moved. Bounded by the number of tenants.
#[derive(Default)]
struct Seen(HashMap<TenantId, (Revision, Option<Instant>)>);

impl Seen {
    /// How many moved within the last second. What was not seen before may have stood there for long.
    fn look(
        &mut self,
        revisions: impl Iterator<Item = (TenantId, Revision)>,
        now: Instant,
    ) -> usize {
        let before = std::mem::take(&mut self.0);
        self.0 = revisions
            .map(|(id, revision)| {
                let moved = match before.get(&id) {
                    Some((stood, _)) if *stood != revision => Some(now),
                    Some((_, moved)) => *moved,
                    None => None,
                };
                (id, (revision, moved))
            })
            .collect();
        let recent = |(_, moved): &&(Revision, Option<Instant>)| {
            moved.is_some_and(|moved| now.duration_since(moved) < RECENT)
        };
        self.0.values().filter(recent).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_count_from_their_first_move_until_a_second_after_their_last() {
        let (a, b) = (TenantId(1), TenantId(2));
        let mut seen = Seen::default();
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        assert_eq!(seen.look([(a, 10), (b, 20)].into_iter(), after(0)), 0);
        assert_eq!(seen.look([(a, 11), (b, 20)].into_iter(), after(250)), 1);
        assert_eq!(seen.look([(a, 12), (b, 21)].into_iter(), after(500)), 2);
        assert_eq!(seen.look([(a, 13), (b, 21)].into_iter(), after(1400)), 2);
        assert_eq!(seen.look([(a, 14), (b, 21)].into_iter(), after(1600)), 1);
        assert_eq!(seen.look([(b, 21)].into_iter(), after(1700)), 0);
        assert!(seen.0.len() == 1, "a tenant that went is forgotten");
    }
}
