//! Automatic compaction: tenants forget history by count and by age.
//!
//! ```text
//!   samples of a tenant    (t0,r10) (t1,r25) (t2,r25) (t3,r90)     on every member, oldest first
//!                                     |<---- seconds ---->| now
//!   by age     forget up to r25: what is younger was written after it
//!   by count   forget up to r90 - revisions
//! ```
//!
//! Where both rules are set, what either keeps is kept. A tenant without rules of its own has the cluster's
//! settings'. Every member samples, so that a new leader knows the past; only the leader proposes. A member that
//! starts knows no past: by age, it keeps a little more at first, never less.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use meridian_domain::intent::Intent;
use meridian_domain::name::TenantId;
use meridian_domain::rejection::Rejection;
use meridian_domain::revision::Revision;
use meridian_domain::tenant::Retention;
use meridian_storage::store::Tenant;
use prometheus::{IntCounter, register_int_counter};
use tokio::time::Instant;

use crate::pipeline::Pipeline;
use crate::settings::AutoCompaction;
use crate::status::Refusal;

/// Between two looks at all tenants.
const LOOK: Duration = Duration::from_secs(1);
/// Samples of a tenant: history is kept at most this part longer than asked for.
const SAMPLES: u32 = 32;
/// Between two compactions of a tenant.
const PAUSE: Duration = Duration::from_secs(5);
/// Compactions proposed in one look: clients come first.
const COMPACTIONS_PER_LOOK: usize = 64;

#[expect(
    clippy::expect_used,
    reason = "registering a metric fails only if its name is taken"
)]
static COMPACTIONS: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!(
        "meridian_node_compactions_total",
        "Automatic compactions this member proposed."
    )
    .expect("registered once")
});

/// What is remembered of a tenant.
struct Past {
    /// When the tenant stood at which revision, oldest first.
    samples: VecDeque<(Instant, Revision)>,
    compacted_at: Option<Instant>,
}

/// The compactor of this member.
pub struct Compactor {
    pipeline: Arc<Pipeline>,
    tenants: HashMap<TenantId, Past>,
}

impl Compactor {
    /// A compactor that knows no past; [`Compactor::run`] makes it work.
    pub fn new(pipeline: Arc<Pipeline>) -> Self {
        Self {
            pipeline,
            tenants: HashMap::new(),
        }
    }

    /// Works until the task is aborted.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let due = self.look(Instant::now());
            for (tenant, revision) in due {
                self.compact(&tenant, revision).await;
            }
        }
    }

    /// Samples every tenant. The answer is what this member should compact now: nothing unless it leads.
    fn look(&mut self, now: Instant) -> Vec<(Arc<Tenant>, Revision)> {
        let tenants = self.pipeline.store.tenants();
        let leads = self.pipeline.standing.borrow().is_leader;
        let cluster = self.pipeline.settings.auto_compaction();
        if self.tenants.len() > tenants.len() {
            self.tenants
                .retain(|id, _| tenants.iter().any(|tenant| tenant.id() == *id));
        }
        let mut due = vec![];
        for tenant in tenants {
            let root = tenant.root();
            let Some(retention) = retention(root.record().retention, cluster) else {
                self.tenants.remove(&tenant.id());
                continue;
            };
            let past = self.tenants.entry(tenant.id()).or_insert_with(Past::new);
            past.sample(now, root.revision(), retention.seconds);
            if !leads || due.len() == COMPACTIONS_PER_LOOK || past.rests(now) {
                continue;
            }
            let target = past.target(now, root.revision(), retention);
            if target.is_some_and(|target| target > root.compacted()) {
                past.compacted_at = Some(now);
                due.extend(target.map(|target| (tenant, target)));
            }
        }
        due
    }

    async fn compact(&self, tenant: &Tenant, revision: Revision) {
        let name = tenant.record().name.clone();
        let ctx = self.pipeline.system_context(name);
        match self
            .pipeline
            .write(&ctx, Intent::Compact { revision })
            .await
        {
            Ok(_) => {
                COMPACTIONS.inc();
                tracing::debug!(tenant = %ctx.tenant, revision, "compacted");
            }
            // Somebody else was faster, or the tenant is gone.
            Err(Refusal::Rejection(
                Rejection::Compacted { .. } | Rejection::TenantNotFound { .. },
            )) => {}
            Err(refusal) => {
                tracing::debug!(tenant = %ctx.tenant, code = refusal.code(), "not compacted");
            }
        }
    }
}

impl Past {
    fn new() -> Self {
        Self {
            samples: VecDeque::new(),
            compacted_at: None,
        }
    }

    fn rests(&self, now: Instant) -> bool {
        self.compacted_at.is_some_and(|at| now < at + PAUSE)
    }

    /// Remembers where the tenant stands; forgets what no rule will ask for.
    fn sample(&mut self, now: Instant, revision: Revision, keep_seconds: u64) {
        if keep_seconds == 0 {
            self.samples.clear();
            return;
        }
        let keep = Duration::from_secs(keep_seconds);
        let due = self
            .samples
            .back()
            .is_none_or(|(at, _)| now >= *at + keep / SAMPLES);
        if due {
            self.samples.push_back((now, revision));
        }
        // The first one that is old enough is the answer; those before it are not needed.
        while self
            .samples
            .get(1)
            .is_some_and(|(at, _)| is_old(*at, now, keep))
        {
            self.samples.pop_front();
        }
    }

    /// The revision to compact to, if a rule has something to forget.
    fn target(&self, now: Instant, revision: Revision, retention: Retention) -> Option<Revision> {
        let by_count = (retention.revisions > 0).then(|| {
            revision.saturating_sub(i64::try_from(retention.revisions).unwrap_or(i64::MAX))
        });
        let by_age = (retention.seconds > 0).then(|| {
            let keep = Duration::from_secs(retention.seconds);
            let old = self
                .samples
                .iter()
                .rev()
                .find(|(at, _)| is_old(*at, now, keep));
            old.map_or(0, |(_, revision)| *revision)
        });
        let target = match (by_count, by_age) {
            (Some(count), Some(age)) => count.min(age),
            (one, other) => one.or(other)?,
        };
        (target > 0).then_some(target)
    }
}

fn is_old(at: Instant, now: Instant, keep: Duration) -> bool {
    now.saturating_duration_since(at) >= keep
}

/// The rules of a tenant: its own, or the cluster's; none if nothing is ever forgotten.
fn retention(own: Retention, cluster: Option<AutoCompaction>) -> Option<Retention> {
    if own != Retention::default() {
        return Some(own);
    }
    Some(match cluster? {
        AutoCompaction::Revisions(revisions) => Retention {
            revisions,
            seconds: 0,
        },
        // A part of a second is kept as a whole one.
        AutoCompaction::Period(period) => {
            let seconds = period.as_secs() + u64::from(period.subsec_nanos() > 0);
            Retention {
                revisions: 0,
                seconds,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(revisions: u64, seconds: u64) -> Retention {
        Retention { revisions, seconds }
    }

    #[test]
    fn by_count_the_last_so_many_revisions_stay() {
        let past = Past::new();
        let now = Instant::now();
        assert_eq!(past.target(now, 100, rules(10, 0)), Some(90));
        assert_eq!(past.target(now, 10, rules(10, 0)), None);
        assert_eq!(past.target(now, 100, rules(u64::MAX, 0)), None);
    }

    #[test]
    fn by_age_what_is_younger_stays_and_little_more() {
        let (mut past, start) = (Past::new(), Instant::now());
        let rules = rules(0, 100);
        for second in 0..1_000_u64 {
            let now = start + Duration::from_secs(second);
            let revision = 2 + second as i64;
            past.sample(now, revision, rules.seconds);
            let target = past.target(now, revision, rules);
            assert!(past.samples.len() <= SAMPLES as usize + 2);
            if second < 100 {
                assert_eq!(target, None);
            } else {
                let target = target.unwrap_or_default();
                assert!(
                    target <= revision - 100,
                    "{target} at {revision} is too young"
                );
                assert!(
                    target >= revision - 105,
                    "{target} at {revision} is kept too long"
                );
            }
        }
    }

    #[test]
    fn what_either_rule_keeps_is_kept() {
        let (mut past, start) = (Past::new(), Instant::now());
        past.sample(start, 50, 10);
        let later = start + Duration::from_secs(10);
        past.sample(later, 100, 10);
        assert_eq!(past.target(later, 100, rules(10, 10)), Some(50));
        assert_eq!(past.target(later, 100, rules(80, 10)), Some(20));
        assert_eq!(past.target(start, 100, rules(80, 10)), None);
    }

    #[test]
    fn a_tenants_own_rules_come_before_the_clusters() {
        let cluster = Some(AutoCompaction::Period(Duration::from_millis(1500)));
        assert_eq!(retention(rules(5, 0), cluster), Some(rules(5, 0)));
        assert_eq!(retention(rules(0, 0), cluster), Some(rules(0, 2)));
        assert_eq!(
            retention(rules(0, 0), Some(AutoCompaction::Revisions(9))),
            Some(rules(9, 0))
        );
        assert_eq!(retention(rules(0, 0), None), None);
    }
}
