//! One run: start, break, heal, check.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use meridian_proto::etcdserverpb as pb;
use meridian_proto::etcdserverpb::kv_client::KvClient;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::fault::process;
use crate::history::{History, Log};
use crate::invariant::{
    Faults, acknowledged, equal_state, leases, linearizable, revisions, watching,
};
use crate::workload::{self, PREFIX, Shared};
use crate::world::{self, Product, World, WorldError};

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides faults and what clients do.
    pub seed: u64,
    /// How long faults go on.
    pub duration: Duration,
    /// How many members.
    pub members: usize,
    /// How many clients of registers; watchers and lease holders come on top.
    pub clients: usize,
    /// Which flags the program takes.
    pub product: Product,
    /// The program.
    pub program: PathBuf,
    /// Where to keep data directories and logs.
    pub keep: Option<PathBuf>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every invariant held, and enough happened for that to mean something.
    Passed,
    /// An invariant did not hold.
    Failed,
    /// Too little happened.
    Invalid,
}

/// What happened, and what was wrong.
#[derive(Clone, Debug)]
pub struct Report {
    /// The verdict.
    pub verdict: Verdict,
    /// Answered and unanswered operations.
    pub answered: usize,
    /// Operations whose outcome nobody knows.
    pub unknown: usize,
    /// Events each watcher got.
    pub events: Vec<usize>,
    /// Leases held.
    pub leases: usize,
    /// Faults inflicted.
    pub inflicted: usize,
    /// How far the term moved.
    pub elections: u64,
    /// The last revision.
    pub revision: i64,
    /// What was wrong, by invariant.
    pub faults: Vec<(&'static str, Faults)>,
}

/// Watchers that follow everything.
const WATCHERS: usize = 3;
/// Clients that hold leases.
const HOLDERS: usize = 3;
/// Below these a run proves nothing.
const ANSWERED_MIN: usize = 100;
const INFLICTED_MIN: usize = 2;

/// Runs a plan. `say` receives a line per fault.
pub async fn run(plan: &Plan, mut say: impl FnMut(String)) -> Result<Report, WorldError> {
    let mut world = World::start(
        plan.product,
        &plan.program,
        plan.members,
        plan.keep.as_deref(),
    )
    .await?;
    let shared = Shared {
        urls: Arc::new(world.urls()),
        history: Arc::new(History::default()),
        done: Arc::new(AtomicBool::new(false)),
        seed: plan.seed,
        request_ids: plan.product == Product::Meridian,
    };
    let term_before = highest_term(&shared.urls).await;
    let mut clients = tokio::task::JoinSet::new();
    for i in 0..plan.clients {
        clients.spawn(workload::registers::client(shared.clone(), i));
    }
    for i in 0..WATCHERS {
        clients.spawn(workload::watchers::follow(shared.clone(), i));
    }
    for i in 0..HOLDERS {
        clients.spawn(workload::leases::holder(shared.clone(), i));
    }
    let inflicted = break_things(plan, &mut world, &mut say).await?;
    process::heal(&mut world)?;
    for i in 0..world.len() {
        world.wait_ready(i, 60).await?;
    }
    // Some quiet, so that clients finish what they began and watchers catch up.
    tokio::time::sleep(Duration::from_secs(3)).await;
    shared.done.store(true, Ordering::Relaxed);
    while clients.join_next().await.is_some() {}
    let elections = highest_term(&shared.urls).await.saturating_sub(term_before);
    check(&shared, inflicted, elections).await
}

async fn break_things(
    plan: &Plan,
    world: &mut World,
    say: &mut impl FnMut(String),
) -> Result<usize, WorldError> {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let begun = Instant::now();
    let mut inflicted = 0;
    while begun.elapsed() < plan.duration {
        let (quiet, fault) = process::draw(&mut random, plan.members);
        tokio::time::sleep(quiet).await;
        say(format!(
            "{:>7.2} s  {fault:?}",
            begun.elapsed().as_secs_f64()
        ));
        process::inflict(world, fault).await?;
        inflicted += 1;
    }
    Ok(inflicted)
}

async fn check(shared: &Shared, inflicted: usize, elections: u64) -> Result<Report, WorldError> {
    let log = shared.history.take();
    let revision = fence(&shared.urls).await?;
    let replay = workload::watchers::replay(shared, 0, revision).await?;
    let mut faults = vec![
        ("linearizable", linearizable::check(&log.operations)),
        (
            "acknowledged",
            acknowledged::check(&log.operations, &replay),
        ),
        ("revisions", revisions::check(&log.operations, &replay)),
        ("leases", leases::check(&log.leased, &log.watched)),
        (
            "equal state",
            equal_state::check(&shared.urls, revision).await?,
        ),
    ];
    let mut watched = vec![];
    for (i, watcher) in log.watched.iter().enumerate() {
        watched.extend(watching::check(i, watcher, &replay));
    }
    for i in 1..shared.urls.len() {
        let other = workload::watchers::replay(shared, i, revision).await?;
        watched.extend(watching::check(100 + i, &other, &replay));
    }
    faults.push(("watching", watched));
    Ok(report(&log, faults, inflicted, elections, revision))
}

fn report(
    log: &Log,
    faults: Vec<(&'static str, Faults)>,
    inflicted: usize,
    elections: u64,
    revision: i64,
) -> Report {
    let answered = log
        .operations
        .iter()
        .filter(|o| o.outcome.is_some())
        .count();
    let events: Vec<usize> = log
        .watched
        .iter()
        .map(|w| w.messages.iter().map(Vec::len).sum())
        .collect();
    let too_little = answered < ANSWERED_MIN
        || inflicted < INFLICTED_MIN
        || elections == 0
        || log.leased.is_empty()
        || events.len() < WATCHERS
        || events.iter().any(|count| *count < ANSWERED_MIN / 10);
    let verdict = if faults.iter().any(|(_, faults)| !faults.is_empty()) {
        Verdict::Failed
    } else if too_little {
        Verdict::Invalid
    } else {
        Verdict::Passed
    };
    Report {
        verdict,
        answered,
        unknown: log.operations.len() - answered,
        events,
        leases: log.leased.len(),
        inflicted,
        elections,
        revision,
        faults,
    }
}

/// Puts a last key; its revision is where every comparison ends.
async fn fence(urls: &[String]) -> Result<i64, WorldError> {
    let mut kv = KvClient::new(world::connect(urls, 0).await?);
    let put = pb::PutRequest {
        key: format!("{PREFIX}fence").into(),
        ..Default::default()
    };
    let answer = kv.put(put).await?.into_inner();
    answer
        .header
        .map(|h| h.revision)
        .ok_or_else(|| WorldError::Request("no header".into()))
}

async fn highest_term(urls: &[String]) -> u64 {
    let mut highest = 0;
    for i in 0..urls.len() {
        if let Ok(status) = world::status(urls, i).await {
            highest = highest.max(status.raft_term);
        }
    }
    highest
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} operations answered, {} unknown; watchers got {:?} events; {} leases; {} faults, {} \
             elections; revision {}",
            self.answered,
            self.unknown,
            self.events,
            self.leases,
            self.inflicted,
            self.elections,
            self.revision
        )?;
        for (invariant, faults) in &self.faults {
            writeln!(
                f,
                "{invariant:<14} {}",
                if faults.is_empty() { "holds" } else { "BROKEN" }
            )?;
            for fault in faults {
                writeln!(f, "    {fault}")?;
            }
        }
        write!(f, "verdict: {:?}", self.verdict)
    }
}
