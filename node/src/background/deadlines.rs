//! Deadlines: when each lease ends, by lease and in order. Both sides hold the same leases.

use std::collections::{BTreeSet, HashMap};

use meridian_domain::kv::LeaseId;
use meridian_domain::name::TenantId;
use tokio::time::Instant;

/// A lease: numbers of leases are the tenants' own.
pub type Name = (TenantId, LeaseId);

/// Deadlines, by lease and in order.
#[derive(Default)]
pub struct Deadlines {
    pub(super) by_lease: HashMap<Name, Instant>,
    in_order: BTreeSet<(Instant, Name)>,
}

impl Deadlines {
    /// Sets when a lease ends.
    pub fn set(&mut self, name: Name, deadline: Instant) {
        if let Some(before) = self.by_lease.insert(name, deadline) {
            self.in_order.remove(&(before, name));
        }
        self.in_order.insert((deadline, name));
    }

    /// Forgets a lease.
    pub fn forget(&mut self, name: Name) {
        if let Some(deadline) = self.by_lease.remove(&name) {
            self.in_order.remove(&(deadline, name));
        }
    }

    /// Whether a lease is known and ran out.
    pub fn is_over(&self, name: Name, now: Instant) -> bool {
        self.by_lease
            .get(&name)
            .is_some_and(|deadline| *deadline <= now)
    }

    /// The leases that ran out, the longest ago first, at most so many.
    pub fn over(&self, now: Instant, most: usize) -> Vec<Name> {
        let over = self
            .in_order
            .iter()
            .take_while(|(deadline, _)| *deadline <= now);
        over.take(most).map(|(_, name)| *name).collect()
    }

    /// When the next lease ends.
    pub fn first(&self) -> Option<Instant> {
        self.in_order.first().map(|(deadline, _)| *deadline)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_renewed_lease_moves_back_in_the_order() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let name = |id| (TenantId::DEFAULT, id);
        let mut clock = Deadlines::default();
        clock.set(name(1), at(1));
        clock.set(name(2), at(2));
        clock.set(name(1), at(3));
        assert_eq!(clock.over(at(2), 10), [name(2)]);
        assert_eq!(clock.over(at(3), 10), [name(2), name(1)]);
        assert_eq!(clock.over(at(3), 1), [name(2)]);
        clock.forget(name(2));
        assert_eq!(clock.over(at(3), 10), [name(1)]);
        assert_eq!(clock.in_order.len(), clock.by_lease.len());
    }
}
