//! The log against a naive one: after any crash it stands where some prefix of the calls left it, and that
//! prefix holds everything that was acknowledged.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;

/// The whole log, naively.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub vote: Option<Bytes>,
    pub committed: Option<LogId>,
    pub purged: Option<LogId>,
    pub last: Option<LogId>,
    pub entries: BTreeMap<u64, Entry>,
}

/// A log, the states it went through record by record, and how many of them are acknowledged.
pub struct Model {
    pub wal: Wal,
    disk: FaultyDisk,
    settings: Settings,
    states: Vec<State>,
    acknowledged: Arc<AtomicUsize>,
    term: u64,
}

impl Model {
    pub fn open(disk: &FaultyDisk, settings: Settings) -> Self {
        let (wal, _) = open_with(disk, settings.clone()).unwrap();
        let (states, acknowledged) = (vec![State::default()], Arc::default());
        Self {
            wal,
            disk: disk.clone(),
            settings,
            states,
            acknowledged,
            term: 1,
        }
    }

    pub fn now(&self) -> &State {
        self.states.last().unwrap()
    }

    fn step(&mut self, change: impl FnOnce(&mut State)) {
        let mut state = self.now().clone();
        change(&mut state);
        self.states.push(state);
    }

    /// Acknowledges all that was asked for so far.
    fn done(&self) -> Done {
        let (acknowledged, at) = (Arc::clone(&self.acknowledged), self.states.len() - 1);
        Box::new(move |outcome| {
            if outcome.is_ok() {
                let before = acknowledged.swap(at, Ordering::SeqCst);
                assert!(before <= at, "acknowledged out of order");
            }
        })
    }

    /// Appends `count` entries, replacing the last `back` that may be replaced.
    pub fn append(&mut self, count: u64, len: usize, back: u64) {
        let next = self.now().last.map_or(0, |last| last.index + 1);
        let first = next.saturating_sub(back).max(self.floor());
        if first < next {
            self.term += 1;
            self.step(|state| cut(state, first));
        }
        let entries = entries(self.term, first..first + count, len);
        for entry in &entries {
            self.step(|state| {
                state.last = Some(entry.log_id);
                state.entries.insert(entry.log_id.index, entry.clone());
            });
        }
        self.wal.append(entries, self.done());
    }

    pub fn vote(&mut self, vote: Bytes) {
        self.step(|state| state.vote = Some(vote.clone()));
        self.wal.save_vote(vote, self.done());
    }

    pub fn truncate(&mut self, back: u64) {
        let next = self.now().last.map_or(0, |last| last.index + 1);
        let first = next.saturating_sub(back).max(self.floor()).min(next);
        self.term += 1;
        self.step(|state| cut(state, first));
        self.wal.truncate_after(self.now().last, self.done());
    }

    pub fn commit(&mut self, back: u64) {
        let Some(last) = self.now().last else { return };
        let index = last.index.saturating_sub(back);
        let known = self
            .now()
            .committed
            .is_none_or(|committed| committed.index < index);
        if let Some(entry) = self.now().entries.get(&index).filter(|_| known) {
            let committed = entry.log_id;
            self.step(|state| state.committed = Some(committed));
            self.wal.save_committed(committed);
        }
    }

    /// Purges all but about the last `back`.
    pub fn purge(&mut self, back: u64) {
        let Some(last) = self.now().last else { return };
        let index = last.index.saturating_sub(back);
        if let Some(entry) = self.now().entries.get(&index) {
            self.purge_to(entry.log_id);
        }
    }

    /// A snapshot beyond the end was installed.
    pub fn install(&mut self, ahead: u64) {
        self.term += 1;
        let index = self.now().last.map_or(0, |last| last.index) + ahead;
        self.purge_to(id(self.term, index));
    }

    fn purge_to(&mut self, upto: LogId) {
        self.step(|state| {
            state.purged = Some(upto);
            state.entries = state.entries.split_off(&(upto.index + 1));
            if state.entries.is_empty() {
                state.last = Some(upto);
            }
        });
        self.wal.purge(upto);
    }

    /// The first index that may be truncated.
    fn floor(&self) -> u64 {
        let (purged, committed) = (self.now().purged, self.now().committed);
        purged.max(committed).map_or(0, |kept| kept.index + 1)
    }

    /// Everything asked for so far is flushed or refused when this returns.
    pub fn wait(&self) {
        let (done, receive) = waiting();
        // A truncation to the end changes nothing.
        self.wal.truncate_after(self.now().last, done);
        drop(answer(&receive));
    }

    /// The process ends; with a seed the power goes too. Then the log is opened again and compared.
    pub fn crash(mut self, power: Option<u64>) -> Result<Self, String> {
        self.disk.power_off_at(0);
        self.wal.close();
        match power {
            Some(seed) => self.disk.crash(seed),
            None => self.disk.restart(),
        }
        self.reopen()
    }

    /// The process ends in order.
    pub fn close(mut self) -> Result<Self, String> {
        self.wal.close();
        self.disk.restart();
        self.reopen()
    }

    fn reopen(&mut self) -> Result<Self, String> {
        let opened = open_with(&self.disk, self.settings.clone());
        let (wal, recovered) = opened.map_err(|fault| fault.to_string())?;
        let Recovered {
            vote,
            committed,
            purged,
            last,
        } = recovered;
        let there = if last == purged {
            Vec::new()
        } else {
            all(&wal)
        };
        let entries = there
            .into_iter()
            .map(|entry| (entry.log_id.index, entry))
            .collect();
        let found = State {
            vote,
            committed,
            purged,
            last,
            entries,
        };
        let acknowledged = self.acknowledged.load(Ordering::SeqCst);
        if !self.states[acknowledged..].contains(&found) {
            return Err(format!(
                "stands at {:?}, but acknowledged was {:?}",
                brief(&found),
                brief(&self.states[acknowledged])
            ));
        }
        Ok(Self {
            wal,
            disk: self.disk.clone(),
            settings: self.settings.clone(),
            states: vec![found],
            acknowledged: Arc::default(),
            term: self.term + 1,
        })
    }
}

fn cut(state: &mut State, first: u64) {
    state.entries.split_off(&first);
    state.last = state
        .entries
        .values()
        .next_back()
        .map(|entry| entry.log_id)
        .or(state.purged);
}

fn brief(state: &State) -> impl std::fmt::Debug {
    let State {
        vote,
        committed,
        purged,
        last,
        entries,
    } = state.clone();
    (vote, committed, purged, last, entries.len())
}

#[derive(Clone, Debug)]
enum Op {
    Append(u64, usize, u64),
    Vote(u8),
    Truncate(u64),
    Commit(u64),
    Purge(u64),
    Install(u64),
    Wait,
    PowerOffSoon(u64),
    Crash(u64),
    Kill,
    Close,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (1u64..8, 0usize..900, 0u64..2).prop_map(|(n, len, back)| Op::Append(n, len, back)),
        2 => (1u64..4, 0usize..6000, 0u64..9).prop_map(|(n, len, back)| Op::Append(n, len, back)),
        3 => any::<u8>().prop_map(Op::Vote),
        2 => (0u64..9).prop_map(Op::Truncate),
        3 => (0u64..9).prop_map(Op::Commit),
        3 => (0u64..9).prop_map(Op::Purge),
        1 => (1u64..9).prop_map(Op::Install),
        3 => Just(Op::Wait),
        2 => (1u64..40).prop_map(Op::PowerOffSoon),
        2 => any::<u64>().prop_map(Op::Crash),
        1 => Just(Op::Kill),
        1 => Just(Op::Close),
    ]
}

fn run(ops: Vec<Op>) -> Result<(), String> {
    let disk = FaultyDisk::new();
    let settings = Settings {
        tail_bytes: 3000,
        ..settings()
    };
    let mut model = Model::open(&disk, settings);
    for op in ops {
        match op {
            Op::Append(count, len, back) => model.append(count, len, back),
            Op::Vote(vote) => model.vote(vec![vote; 9].into()),
            Op::Truncate(back) => model.truncate(back),
            Op::Commit(back) => model.commit(back),
            Op::Purge(back) => model.purge(back),
            Op::Install(ahead) => model.install(ahead),
            Op::Wait => model.wait(),
            Op::PowerOffSoon(after) => disk.power_off_at(disk.changes() + after),
            Op::Crash(seed) => model = model.crash(Some(seed))?,
            Op::Kill => model = model.crash(None)?,
            Op::Close => model = model.close()?,
        }
    }
    model.wait();
    model.close()?.crash(Some(1)).map(drop)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_stands_where_a_prefix_of_the_calls_left_it(
        ops in prop::collection::vec(op(), 1..80)
    ) {
        if let Err(what) = run(ops) {
            prop_assert!(false, "{}", what);
        }
    }
}
