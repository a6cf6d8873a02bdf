//! Requests per second: a token bucket per tenant, on this member.
//!
//! A bucket holds one second's worth, so a tenant may send its whole second at once. A tenant without a limit
//! has no bucket.

use std::collections::HashMap;
use std::time::Instant;

use meridian_domain::limits;
use meridian_domain::name::TenantId;
use parking_lot::Mutex;

/// The buckets of all tenants with a limit.
#[derive(Default)]
pub struct Buckets {
    buckets: Mutex<HashMap<TenantId, Bucket>>,
}

struct Bucket {
    /// Thousandths of a request.
    tokens_milli: u64,
    filled: Instant,
}

impl Buckets {
    /// Takes one token; false if there is none. `per_second` zero is no limit.
    pub fn take(&self, tenant: TenantId, per_second: u64, now: Instant) -> bool {
        if per_second == 0 {
            return true;
        }
        let full = per_second.saturating_mul(1000);
        let mut buckets = self.buckets.lock();
        if buckets.len() > limits::TENANTS_MAX {
            // Only tenants that were deleted can have brought it here; a new bucket begins full.
            buckets.clear();
        }
        let bucket = buckets.entry(tenant).or_insert(Bucket {
            tokens_milli: full,
            filled: now,
        });
        let since_micros = now.saturating_duration_since(bucket.filled).as_micros() as u64;
        let earned_milli = since_micros.saturating_mul(per_second) / 1000;
        if earned_milli > 0 {
            bucket.tokens_milli = bucket.tokens_milli.saturating_add(earned_milli);
            bucket.filled = now;
        }
        bucket.tokens_milli = bucket.tokens_milli.min(full);
        if bucket.tokens_milli < 1000 {
            return false;
        }
        bucket.tokens_milli -= 1000;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_second_s_worth_may_come_at_once_and_then_only_the_rate() {
        let buckets = Buckets::default();
        let start = Instant::now();
        let tenant = TenantId(7);
        let granted = (0..25).filter(|_| buckets.take(tenant, 10, start)).count();
        assert_eq!(granted, 10);
        let later = start + Duration::from_millis(300);
        let granted = (0..25).filter(|_| buckets.take(tenant, 10, later)).count();
        assert_eq!(granted, 3);
    }

    #[test]
    fn tenants_have_buckets_of_their_own_and_zero_is_no_limit() {
        let buckets = Buckets::default();
        let now = Instant::now();
        assert!(buckets.take(TenantId(1), 1, now));
        assert!(!buckets.take(TenantId(1), 1, now));
        assert!(buckets.take(TenantId(2), 1, now));
        assert!((0..1000).all(|_| buckets.take(TenantId(3), 0, now)));
    }

    #[test]
    fn fractions_of_a_token_are_not_lost_to_frequent_calls() {
        let buckets = Buckets::default();
        let start = Instant::now();
        let tenant = TenantId(1);
        assert!(buckets.take(tenant, 1, start));
        let granted = (1..=2000u64)
            .filter(|ms| buckets.take(tenant, 1, start + Duration::from_millis(*ms)))
            .count();
        assert_eq!(granted, 2);
    }
}
