//! The watch against a naive replay.
//!
//! Random programs of commits, publications, compactions, snapshot installs, watchers that come and go, and
//! streams that read fast, slowly or not at all. Whatever happens, each watcher has seen exactly the events a
//! replay of all commits gives it: in order, whole revisions, none twice, none missing, up to where it
//! was canceled; and what [`Session::settled`] promised was true when it did.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use meridian_domain::changes::{Change, Changes};
use meridian_domain::command::Commit;
use meridian_domain::key::{KeyRange, RangeEnd, Space};
use meridian_domain::kv::KeyValue;
use meridian_domain::name::TenantId;
use meridian_domain::revision::{LogId, Revision};
use meridian_domain::stamp::Stamp;
use meridian_proto::etcdserverpb::WatchResponse;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;

use super::event::Form;
use super::hub::{Hub, Settings};
use super::program::{Op, Start, op};
use super::session::{Filters, Session, Step, Watch};

/// A commit that deletes a key.
pub(super) fn commit_of(revision: Revision, key: &[u8]) -> Commit {
    let row = Change {
        space: Space::RAW,
        key: Bytes::copy_from_slice(key),
        before: None,
        after: None,
    };
    commit(revision, vec![row])
}

fn commit(revision: Revision, rows: Vec<Change>) -> Commit {
    Commit {
        tenant: TenantId::DEFAULT,
        log_id: LogId::default(),
        stamp: Stamp::default(),
        actor: "test".into(),
        changes: Changes { revision, rows },
    }
}

/// One event as the naive replay and the decoded bytes agree on it.
type Seen = (Revision, Bytes, bool, Option<Bytes>);

/// A piece of the past that a session asked for: first and last revision.
type Asked = (Revision, Revision);

struct Watcher {
    watch: Watch,
    /// The first revision it must see.
    first: Revision,
    seen: Vec<Seen>,
    /// How it ended: canceled by the owner, or lost to compaction at this revision.
    over: bool,
}

pub(super) struct World {
    pub(super) hub: Arc<Hub>,
    state: BTreeMap<u8, Arc<KeyValue>>,
    commits: Vec<Commit>,
    compacted: Revision,
    sessions: Vec<(Session, Option<Asked>, BTreeMap<u32, Watcher>)>,
    finished: Vec<Watcher>,
    next_id: i64,
}

impl World {
    pub(super) fn new(ring: usize) -> Self {
        let settings = Settings {
            ring_commits_max: ring,
            ..Settings::default()
        };
        let hub = Arc::new(Hub::new(1, settings));
        let sessions = (0..3)
            .map(|_| (Session::open(hub.clone()), None, BTreeMap::new()))
            .collect();
        Self {
            hub,
            state: BTreeMap::new(),
            commits: vec![],
            compacted: 0,
            sessions,
            finished: vec![],
            next_id: 0,
        }
    }

    pub(super) fn revision(&self) -> Revision {
        1 + self.commits.len() as Revision
    }

    pub(super) fn make(&mut self, transactions: Vec<Vec<(u8, bool)>>) -> Vec<Arc<Commit>> {
        let mut made = vec![];
        for transaction in transactions {
            let revision = self.revision() + 1;
            let mut rows = vec![];
            for (key, put) in transaction {
                let before = self.state.get(&key).cloned();
                let name = Bytes::from(vec![key]);
                let after = put.then(|| {
                    Arc::new(KeyValue {
                        key: name.clone(),
                        create_revision: before.as_ref().map_or(revision, |b| b.create_revision),
                        mod_revision: revision,
                        version: before.as_ref().map_or(1, |b| b.version + 1),
                        value: Bytes::from(format!("{revision}")),
                        lease: 0,
                    })
                });
                match &after {
                    Some(kv) => self.state.insert(key, kv.clone()),
                    None if before.is_none() => continue,
                    None => self.state.remove(&key),
                };
                rows.push(Change {
                    space: Space::RAW,
                    key: name,
                    before,
                    after,
                });
            }
            if !rows.is_empty() {
                let commit = commit(revision, rows);
                self.commits.push(commit.clone());
                made.push(Arc::new(commit));
            }
        }
        made
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Commit(transactions) => {
                let made = self.make(transactions);
                self.hub.publish(made, self.revision());
            }
            Op::Install(transactions) => {
                self.make(transactions);
                self.hub.publish(vec![], self.revision());
            }
            Op::Dispatch => {
                self.hub.dispatch();
            }
            Op::Compact(at) => {
                let at = 1 + at.index(self.revision() as usize) as Revision;
                self.compacted = self.compacted.max(at);
            }
            Op::Create {
                session,
                start,
                end,
                from,
                no_put,
                no_delete,
                prev,
            } => {
                self.create(
                    session,
                    start,
                    end,
                    from,
                    Filters { no_put, no_delete },
                    prev,
                );
            }
            Op::Cancel { session, watch } => {
                let at = session.index(self.sessions.len());
                let (session, _, watchers) = &mut self.sessions[at];
                let Some(slot) = watchers
                    .keys()
                    .nth(watch.index(watchers.len().max(1)))
                    .copied()
                else {
                    return;
                };
                session.remove(slot);
                let mut watcher = watchers.remove(&slot).unwrap();
                watcher.over = true;
                self.finished.push(watcher);
            }
            Op::Read {
                session,
                steps,
                budget,
                history,
                hurry,
            } => {
                let at = session.index(self.sessions.len());
                self.read(at, usize::from(steps), budget, history, hurry);
            }
        }
    }

    fn create(
        &mut self,
        session: Index,
        start: u8,
        end: Option<u8>,
        from: Start,
        filters: Filters,
        prev: bool,
    ) {
        let at = session.index(self.sessions.len());
        let range = KeyRange {
            start: Bytes::from(vec![start]),
            end: match end {
                None => RangeEnd::Single,
                Some(6) => RangeEnd::Open,
                Some(end) => RangeEnd::Before(Bytes::from(vec![end])),
            },
        };
        let revision = self.revision();
        let start = match from {
            Start::Now => 0,
            Start::Past(ago) => (revision - Revision::from(ago)).max(1),
            Start::Future(ahead) => revision + Revision::from(ahead),
        };
        if range.is_empty() || (start > 0 && start < self.compacted) {
            return;
        }
        self.next_id += 1;
        let watch = Watch {
            id: self.next_id,
            space: Space::RAW,
            range,
            start,
            seen: 0,
            filters,
            form: Form {
                prev,
                keys_only: false,
            },
            notes: 0,
        };
        let (session, _, watchers) = &mut self.sessions[at];
        let added = session.add(&watch, 0).unwrap();
        assert_eq!(added.revision, revision);
        let first = if start == 0 { revision + 1 } else { start };
        let watcher = Watcher {
            watch,
            first,
            seen: vec![],
            over: false,
        };
        assert!(watchers.insert(added.slot, watcher).is_none());
    }

    /// Lets a session read. `history`: what becomes of reads of the past: refused, one revision, or more.
    fn read(
        &mut self,
        at: usize,
        steps: usize,
        budget: usize,
        history: usize,
        hurry: bool,
    ) -> bool {
        let Self {
            hub,
            commits,
            compacted,
            sessions,
            finished,
            ..
        } = self;
        let (session, asked, watchers) = &mut sessions[at];
        if hurry {
            session.hurry();
        }
        session.collect(Waker::noop(), *compacted);
        if hurry {
            assert_eq!(hub.dispatched(), hub.revision());
        }
        let mut idle = false;
        for _ in 0..steps {
            match session.next(budget) {
                Step::Idle => {
                    idle = asked.is_none();
                    break;
                }
                Step::Busy => {}
                Step::Past { from, to } => {
                    assert!(asked.is_none(), "asked for the past twice");
                    *asked = Some((from, to));
                }
                Step::Batch(batch) => {
                    let watcher = watchers
                        .get_mut(&batch.slot)
                        .expect("a watch that is there");
                    assert_eq!(batch.id, watcher.watch.id);
                    let mut body = vec![];
                    for event in batch.events() {
                        assert_eq!(event.bytes(), event.shared());
                        body.extend_from_slice(event.bytes());
                    }
                    assert_eq!(body.len(), batch.bytes);
                    let response = WatchResponse::decode(body.as_slice()).unwrap();
                    assert_eq!(response.events.len(), batch.events);
                    let mut batch_revisions = vec![];
                    for event in response.events {
                        let kv = event.kv.unwrap();
                        batch_revisions.push(kv.mod_revision);
                        watcher.seen.push((
                            kv.mod_revision,
                            kv.key,
                            event.r#type == 1,
                            event.prev_kv.map(|p| p.value),
                        ));
                    }
                    if let Some(live) = batch.live {
                        assert_eq!(batch_revisions.last(), Some(&live));
                    }
                    // Whole revisions: what the replay has between the first and the last is all there.
                    let (first, last) = (batch_revisions[0], *batch_revisions.last().unwrap());
                    let expected = replay(commits, &watcher.watch, first, last).len();
                    assert_eq!(batch_revisions.len(), expected, "a revision was cut");
                }
            }
        }
        if let Some((from, to)) = *asked
            && history > 0
        {
            *asked = None;
            let compacted = *compacted;
            for slot in session.lost(compacted) {
                session.remove(slot);
                let mut watcher = watchers.remove(&slot).unwrap();
                let next = watcher.seen.last().map_or(watcher.first, |s| s.0 + 1);
                assert!(
                    next < compacted,
                    "a watch was canceled that had what was compacted"
                );
                watcher.over = true;
                finished.push(watcher);
            }
            if from < compacted {
                session.unread();
            } else {
                let read: Vec<Commit> = commits
                    .iter()
                    .filter(|c| (from..=to).contains(&c.changes.revision))
                    .take(history)
                    .cloned()
                    .collect();
                assert!(session.feed(from, read));
            }
        }
        if let Some(upto) = session.settled() {
            for watcher in watchers.values() {
                check(commits, watcher, Some(upto));
            }
        }
        for slot in watchers.keys() {
            if let Some(upto) = session.settled_of(*slot) {
                check(commits, &watchers[slot], Some(upto));
            }
        }
        idle
    }

    /// Everybody reads until there is nothing left.
    fn finish(mut self) {
        for at in 0..self.sessions.len() {
            let mut rounds = 0;
            while !self.read(at, 100, 1000, 3, true) {
                rounds += 1;
                assert!(rounds < 10_000, "a session does not come to rest");
            }
            let upto = self.sessions[at].0.settled();
            let future = self.sessions[at]
                .2
                .values()
                .any(|w| w.first > self.hub.revision() && w.watch.start > 0);
            assert_eq!(upto.is_none(), future, "rest is only missed for the future");
        }
        let revision = self.revision();
        for (session, _, watchers) in &self.sessions {
            assert!(session.is_synced());
            assert_eq!(session.watches(), watchers.len());
            for watcher in watchers.values() {
                check(&self.commits, watcher, Some(revision));
            }
        }
        for watcher in &self.finished {
            check(&self.commits, watcher, None);
        }
        let Self { hub, sessions, .. } = self;
        drop(sessions);
        assert_eq!(hub.watchers(), 0);
    }
}

/// What a watch must see from revision `first` to `last`.
fn replay(commits: &[Commit], watch: &Watch, first: Revision, last: Revision) -> Vec<Seen> {
    let mut events = vec![];
    for commit in commits {
        let revision = commit.changes.revision;
        if revision < first || revision > last {
            continue;
        }
        for change in &commit.changes.rows {
            let delete = change.is_delete();
            let filtered = if delete {
                watch.filters.no_delete
            } else {
                watch.filters.no_put
            };
            if !filtered && watch.range.contains(&change.key) {
                let before = change.before.as_ref().map(|kv| kv.value.clone());
                events.push((revision, change.key.clone(), delete, before));
            }
        }
    }
    events
}

/// Holds what a watcher saw against the replay; up to `upto`, or up to what it saw last if it is over.
fn check(commits: &[Commit], watcher: &Watcher, upto: Option<Revision>) {
    let last = watcher.seen.last().map_or(0, |s| s.0);
    let upto = upto.unwrap_or(last).max(last);
    let expected = replay(commits, &watcher.watch, watcher.first, upto);
    let bare = |seen: &[Seen]| -> Vec<_> {
        seen.iter()
            .map(|(r, k, d, _)| (*r, k.clone(), *d))
            .collect()
    };
    assert_eq!(bare(&watcher.seen), bare(&expected), "{:?}", watcher.watch);
    for (seen, expected) in watcher.seen.iter().zip(&expected) {
        // What was before may be gone, but never wrong, and never there unasked.
        assert!(seen.3.is_none() || (watcher.watch.form.prev && seen.3 == expected.3));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_watcher_sees_what_a_replay_says_whatever_happens(
        ring in prop_oneof![Just(1_usize), Just(3), Just(64)],
        program in proptest::collection::vec(op(), 1..120),
    ) {
        let mut world = World::new(ring);
        for op in program {
            world.run(op);
        }
        world.finish();
    }
}
