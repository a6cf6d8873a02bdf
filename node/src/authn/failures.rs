//! Wrong passwords, counted, so that nobody tries them all.
//!
//! ```text
//!   user and address   so many in a row lock the pair for a while; another address is not locked
//!   address            so many at once, then one a second, whomever they are for
//! ```
//!
//! A user is locked for one address alone: otherwise strangers could lock anybody out. An address of 128 bits counts by
//! its first 64, which is what one customer has. Users that do not exist are counted like others.
//!
//! Each member counts for itself, in memory. Tables hold [`PAIRS_MAX`] and [`ADDRESSES_MAX`]; beyond that the
//! oldest entry gives way.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::time::{Duration, Instant};

use meridian_domain::access::grant::Address;
use meridian_domain::name::TenantId;
use parking_lot::Mutex;

/// Pairs of user and address that are remembered.
pub const PAIRS_MAX: usize = 65_536;
/// Addresses that are remembered.
pub const ADDRESSES_MAX: usize = 65_536;
/// Wrong passwords one address may give at once.
pub const ADDRESS_BURST: u32 = 100;
/// It gets one back each time this passed.
pub const ADDRESS_EVERY: Duration = Duration::from_secs(1);

/// Whom somebody says to be, and from where.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The tenant.
    pub tenant: TenantId,
    /// The user, whether there is one or not.
    pub user: &'a str,
    /// From where.
    pub from: Option<Address>,
}

/// When a pair is locked.
#[derive(Clone, Copy, Debug)]
pub struct Lock {
    /// After so many in a row; zero is never.
    pub after: u32,
    /// For so long.
    pub span: Duration,
}

/// The failures a member saw.
#[derive(Default)]
pub struct Failures {
    names: RandomState,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    pairs: HashMap<u64, Row>,
    addresses: HashMap<u64, Row>,
}

#[derive(Clone, Copy)]
struct Row {
    count: u32,
    last: Instant,
}

impl Failures {
    /// How long a pair, or its address, still has to wait; none if it may try.
    pub fn wait(&self, attempt: Attempt<'_>, lock: Lock, now: Instant) -> Option<Duration> {
        let (pair, address) = self.keys(attempt);
        let mut books = self.books.lock();
        if let Some(row) = books.pairs.get(&pair).copied() {
            let end = row.last + lock.span;
            if now >= end {
                books.pairs.remove(&pair);
            } else if lock.after > 0 && row.count >= lock.after {
                return Some(end - now);
            }
        }
        let row = books.addresses.get(&address)?;
        let given_back =
            now.saturating_duration_since(row.last).as_secs() / ADDRESS_EVERY.as_secs();
        let left = u64::from(row.count).saturating_sub(given_back);
        (left >= u64::from(ADDRESS_BURST)).then_some(ADDRESS_EVERY)
    }

    /// A wrong password.
    pub fn note(&self, attempt: Attempt<'_>, now: Instant) {
        let (pair, address) = self.keys(attempt);
        let mut books = self.books.lock();
        let row = room(&mut books.pairs, pair, PAIRS_MAX, now);
        row.count = row.count.saturating_add(1);
        row.last = now;
        let row = room(&mut books.addresses, address, ADDRESSES_MAX, now);
        let passed = now.saturating_duration_since(row.last).as_secs() / ADDRESS_EVERY.as_secs();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        if passed > 0 {
            row.count = row.count.saturating_sub(passed);
            row.last = now;
        }
        row.count = row.count.saturating_add(1);
    }

    /// A right one: the count of the pair begins anew.
    pub fn forget(&self, attempt: Attempt<'_>) {
        let (pair, _) = self.keys(attempt);
        self.books.lock().pairs.remove(&pair);
    }

    /// Names are kept as keyed hashes: what strangers send does not stay in memory.
    fn keys(&self, attempt: Attempt<'_>) -> (u64, u64) {
        let Address(bytes) = attempt.from.unwrap_or(Address([0; 16]));
        let whole = u128::from_be_bytes(bytes);
        let v4 = whole >> 32 == 0xffff;
        let network = if v4 { whole } else { whole >> 64 << 64 };
        let pair = (attempt.tenant, attempt.user, network);
        (self.hash(&pair), self.hash(&network))
    }

    fn hash(&self, what: &impl Hash) -> u64 {
        self.names.hash_one(what)
    }
}

/// The row of a key, made if there is none; the oldest gives way if there is no room.
fn room(rows: &mut HashMap<u64, Row>, key: u64, most: usize, now: Instant) -> &mut Row {
    if rows.len() >= most && !rows.contains_key(&key) {
        let oldest = rows.iter().min_by_key(|(_, row)| row.last);
        if let Some(oldest) = oldest.map(|(key, _)| *key) {
            rows.remove(&oldest);
        }
    }
    rows.entry(key).or_insert(Row {
        count: 0,
        last: now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: Lock = Lock {
        after: 10,
        span: Duration::from_mins(30),
    };

    fn attempt(user: &str, last: u8) -> Attempt<'_> {
        Attempt {
            tenant: TenantId(1),
            user,
            from: Some(Address::v4([10, 0, 0, last])),
        }
    }

    #[test]
    fn ten_wrong_passwords_lock_a_user_for_their_address_alone() {
        let failures = Failures::default();
        let now = Instant::now();
        for _ in 0..10 {
            assert_eq!(failures.wait(attempt("alice", 1), LOCK, now), None);
            failures.note(attempt("alice", 1), now);
        }
        assert_eq!(
            failures.wait(attempt("alice", 1), LOCK, now),
            Some(LOCK.span)
        );
        assert_eq!(failures.wait(attempt("alice", 2), LOCK, now), None);
        assert_eq!(failures.wait(attempt("bob", 1), LOCK, now), None);
        assert_eq!(
            failures.wait(attempt("alice", 1), LOCK, now + LOCK.span),
            None
        );
    }

    #[test]
    fn a_right_password_begins_the_count_anew() {
        let failures = Failures::default();
        let now = Instant::now();
        for _ in 0..9 {
            failures.note(attempt("alice", 1), now);
        }
        failures.forget(attempt("alice", 1));
        failures.note(attempt("alice", 1), now);
        assert_eq!(failures.wait(attempt("alice", 1), LOCK, now), None);
    }

    #[test]
    fn an_address_that_tries_many_users_is_slowed_down() {
        let failures = Failures::default();
        let now = Instant::now();
        for n in 0..ADDRESS_BURST {
            failures.note(attempt(&format!("user{n}"), 1), now);
        }
        assert!(failures.wait(attempt("other", 1), LOCK, now).is_some());
        assert!(failures.wait(attempt("other", 2), LOCK, now).is_none());
        let later = now + ADDRESS_EVERY;
        assert!(failures.wait(attempt("other", 1), LOCK, later).is_none());
        failures.note(attempt("other", 1), later);
        assert!(failures.wait(attempt("other", 1), LOCK, later).is_some());
    }

    #[test]
    fn tables_stay_within_their_bounds() {
        let mut rows = HashMap::new();
        let now = Instant::now();
        for key in 0..20u64 {
            room(&mut rows, key, 8, now + Duration::from_secs(key));
        }
        assert_eq!(rows.len(), 8);
        assert!(rows.contains_key(&19) && !rows.contains_key(&0));
    }
}
