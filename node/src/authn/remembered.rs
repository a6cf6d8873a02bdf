//! What was proven and compiled, remembered: a request costs two looks, not a signature and a compilation.
//!
//! ```text
//!   credential      -->  who it proved, under rules revision r
//!   who, address    -->  what they may do, under rules revision r, until a moment
//! ```
//!
//! What is of other rules, or over, is not found. Each table keeps the [`REMEMBERED_MAX`] used last, about: a new
//! half is filled, and when it is full the older half is forgotten.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use bytes::Bytes;
use meridian_domain::access::grant::Address;
use meridian_domain::access::{Caller, Identity};
use meridian_domain::name::TenantId;
use meridian_domain::view::View;
use parking_lot::Mutex;

use super::Held;
use super::evidence::{Evidence, Shown};

/// Entries of each table.
pub const REMEMBERED_MAX: usize = 8192;

/// Somebody's rights, and which password they have.
#[derive(Clone, Debug)]
pub struct Rights {
    /// Of a user: moves when the password does.
    pub generation: Option<u64>,
    /// With what they may do.
    pub caller: Arc<Caller>,
}

/// What a member remembers.
#[derive(Default)]
pub struct Remembered {
    proven: Recent<(TenantId, Credential), Proven>,
    rights: Recent<(Arc<Identity>, Option<Address>), Rights>,
}

/// What was shown, as a key. Held against what is shown as a whole.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Credential {
    Token(Bytes, Option<Box<str>>),
    Certificate(Box<str>, u64),
}

#[derive(Clone)]
struct Proven {
    rules_revision: u64,
    shown_until_ms: Option<u64>,
    held: Arc<Held>,
}

impl Credential {
    fn of(evidence: &Evidence) -> Option<Self> {
        let named = evidence.certificate.as_ref();
        let name = named.and_then(|named| named.name()).map(Box::from);
        match &evidence.token {
            Some(Shown::Session(text) | Shown::Token(text)) => {
                Some(Self::Token(text.clone(), name))
            }
            Some(Shown::Unreadable) => None,
            None => Some(Self::Certificate(name?, named?.not_after_ms)),
        }
    }
}

impl Remembered {
    /// Whom this proved before, under the rules a view shows.
    pub fn proven(&self, view: &dyn View, evidence: &Evidence, now_ms: u64) -> Option<Arc<Held>> {
        let key = (view.tenant().id, Credential::of(evidence)?);
        let found = self.proven.get(&key)?;
        let over = found.shown_until_ms.is_some_and(|until| now_ms >= until)
            || found.held.until_ms.is_some_and(|until| now_ms >= until);
        let fits = found.rules_revision == view.rules_revision()
            && found.held.from.source == evidence.source;
        (fits && !over).then_some(found.held)
    }

    /// Remembers it.
    pub fn keep_proven(
        &self,
        view: &dyn View,
        evidence: &Evidence,
        held: &Arc<Held>,
        shown_until_ms: Option<u64>,
    ) {
        if let Some(credential) = Credential::of(evidence) {
            let proven = Proven {
                rules_revision: view.rules_revision(),
                shown_until_ms,
                held: Arc::clone(held),
            };
            self.proven.put((view.tenant().id, credential), proven);
        }
    }

    /// The rights somebody had before, under the rules a view shows.
    pub fn rights(&self, view: &dyn View, held: &Held, now_ms: u64) -> Option<Rights> {
        let anywhere = (Arc::clone(&held.identity), None);
        let found = self
            .rights
            .get(&anywhere)
            .or_else(|| self.rights.get(&(anywhere.0, held.from.source)))?;
        let rights = &found.caller.rights;
        let over = rights.until_ms().is_some_and(|until| now_ms >= until);
        let fits =
            rights.tenant() == view.tenant().id && rights.rules_revision() == view.rules_revision();
        (fits && !over).then_some(found)
    }

    /// Remembers them.
    pub fn keep_rights(&self, held: &Held, rights: &Rights) {
        let by_source = rights.caller.rights.is_by_source();
        let anywhere = (Arc::clone(&held.identity), None);
        if by_source {
            // What holds for one address must not be found for all.
            self.rights.forget(&anywhere);
        }
        let source = held.from.source.filter(|_| by_source);
        if by_source && source.is_none() {
            return;
        }
        self.rights
            .put((Arc::clone(&held.identity), source), rights.clone());
    }
}

/// A table of bounded size that keeps what was used last.
struct Recent<K, V> {
    halves: Mutex<(HashMap<K, V>, HashMap<K, V>)>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self {
            halves: Mutex::new((HashMap::new(), HashMap::new())),
        }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Recent<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        let mut halves = self.halves.lock();
        if let Some(found) = halves.0.get(key) {
            return Some(found.clone());
        }
        let (key, found) = halves.1.remove_entry(key)?;
        insert(&mut halves, key, found.clone());
        Some(found)
    }

    fn put(&self, key: K, value: V) {
        let mut halves = self.halves.lock();
        halves.1.remove(&key);
        insert(&mut halves, key, value);
    }

    fn forget(&self, key: &K) {
        let mut halves = self.halves.lock();
        halves.0.remove(key);
        halves.1.remove(key);
    }
}

fn insert<K: Eq + Hash, V>(halves: &mut (HashMap<K, V>, HashMap<K, V>), key: K, value: V) {
    if halves.0.len() >= REMEMBERED_MAX / 2 && !halves.0.contains_key(&key) {
        halves.1 = std::mem::take(&mut halves.0);
    }
    halves.0.insert(key, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let recent = Recent::default();
        for n in 0..REMEMBERED_MAX * 4 {
            recent.put(n, n);
            assert_eq!(recent.get(&0), Some(0), "at {n}");
        }
        let (young, old) = &*recent.halves.lock();
        assert!(young.len() + old.len() <= REMEMBERED_MAX);
        assert!(!young.contains_key(&1) && !old.contains_key(&1));
    }
}
