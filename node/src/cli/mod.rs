//! The command line: `meridian <noun> <verb>`, for people at terminals and for programs.
//!
//! ```text
//! arguments -> Verb (one file per noun) -> client calls -> Out (simple, table or json)
//!                                               |
//!                                               '-> Failure: exit code, what happened, what to do next
//! ```
//!
//! Results go to standard output and nothing else does; errors, hints and progress go to standard
//! error. What a program may rely on: the fields of `-o json`, the exit codes below, and that a `simple`
//! key or value is the bytes themselves.

mod failure;
mod out;
mod reach;

mod elect;
mod kv;
mod lease;
mod lock;
mod txn;
mod watch;

mod alarm;
mod completion;
mod defrag;
mod hashkv;
mod member;
mod snapshot;
mod status;
mod tenant;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::{ArgMatches, Args, Command, FromArgMatches as _, Subcommand};

use failure::Failure;
use out::Out;
use reach::Reach;

/// What `--help` of every noun says about exit codes.
const EXIT_CODES: &str = "\
Exit codes:
  0  it worked
  1  it was refused, or failed in another way
  2  the command was not understood; nothing was sent
  3  the key, lease, member, tenant or snapshot named does not exist
  4  no member could serve the request in time; nothing was changed
  5  the outcome of a write is unknown: read before you repeat it";

/// The nouns.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Keys: put, get, delete, compact
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Kv(Cluster<kv::Kv>),
    /// Watch keys change
    Watch(Cluster<watch::Watch>),
    /// Compare and change keys in one transaction
    Txn(Cluster<txn::Txn>),
    /// Leases: grant, revoke, keep alive, look at
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Lease(Cluster<lease::Lease>),
    /// Hold a lock, by itself or while a command runs
    Lock(Cluster<lock::Lock>),
    /// Take part in an election, or follow one
    Elect(Cluster<elect::Elect>),
    /// Tenants: create, list, show, quota, delete
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Tenant(Cluster<tenant::Tenant>),
    /// Members: list, add, promote, update, remove, move leadership
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Member(Cluster<member::Member>),
    /// How every endpoint is
    Status(Cluster<status::Status>),
    /// Alarms: list, disarm
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Alarm(Cluster<alarm::Alarm>),
    /// Give unused space back to the disks of members
    Defrag(Cluster<defrag::Defrag>),
    /// Hash the keys on every endpoint, to compare members
    Hashkv(Cluster<hashkv::HashKv>),
    /// Snapshots: save, look at, restore
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Snapshot(Cluster<snapshot::Snapshot>),
    /// Print a completion script for a shell
    Completion(completion::Completion),
}

/// A noun's own arguments, and those that say which cluster and how to show the answer.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
struct Cluster<A: Args> {
    #[command(flatten)]
    own: A,
    #[command(flatten)]
    reach: Reach,
}

/// Adds the command line's nouns to the program's command. Their flags for the cluster and the output may
/// also stand before the noun, as in etcdctl.
pub fn augment(command: Command) -> Command {
    let before = reach::before_the_noun(command);
    Verb::augment_subcommands(before)
}

/// Runs what was typed. `whole` is the program's command, for completion scripts.
pub fn run(matches: &ArgMatches, whole: Command) -> ExitCode {
    let mut verb = match Verb::from_arg_matches(matches) {
        Ok(verb) => verb,
        Err(error) => error.exit(),
    };
    let form = match verb.reach() {
        Some(reach) => {
            reach.take_over(matches);
            reach.form()
        }
        None => None,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return Failure::io("can not start", &error).report(None),
    };
    let outcome = runtime.block_on(verb.run(whole));
    // A task that still talks to the cluster, such as a lock's farewell, gets a moment to end.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    match outcome {
        Ok(code) => code,
        Err(failure) => failure.report(form),
    }
}

impl Verb {
    /// Which cluster and what form, for every noun that talks to one.
    fn reach(&mut self) -> Option<&mut Reach> {
        Some(match self {
            Self::Kv(c) => &mut c.reach,
            Self::Watch(c) => &mut c.reach,
            Self::Txn(c) => &mut c.reach,
            Self::Lease(c) => &mut c.reach,
            Self::Lock(c) => &mut c.reach,
            Self::Elect(c) => &mut c.reach,
            Self::Tenant(c) => &mut c.reach,
            Self::Member(c) => &mut c.reach,
            Self::Status(c) => &mut c.reach,
            Self::Alarm(c) => &mut c.reach,
            Self::Defrag(c) => &mut c.reach,
            Self::Hashkv(c) => &mut c.reach,
            Self::Snapshot(c) => &mut c.reach,
            Self::Completion(_) => return None,
        })
    }

    async fn run(self, whole: Command) -> Result<ExitCode, Failure> {
        match self {
            Self::Kv(c) => c.own.run(&c.reach.client()?, &mut c.reach.out()).await,
            Self::Watch(c) => c.own.run(&c.reach.client()?, &mut c.reach.out()).await,
            Self::Txn(c) => c.own.run(&c.reach.client()?, &mut c.reach.out()).await,
            Self::Lease(c) => c.own.run(&c.reach.client()?, &mut c.reach.out()).await,
            Self::Lock(c) => c.own.run(&c.reach.client()?, &mut c.reach.out()).await,
            Self::Elect(c) => c.own.run(&c.reach.client()?, &mut c.reach.out()).await,
            Self::Tenant(c) => c.own.run(&c.reach.client()?, &mut c.reach.out()).await,
            Self::Member(c) => c.own.run(&c.reach.client()?, &mut c.reach.out()).await,
            Self::Status(c) => c.own.run(&c.reach.client()?, &mut c.reach.out()).await,
            Self::Alarm(c) => c.own.run(&c.reach.client()?, &mut c.reach.out()).await,
            Self::Defrag(c) => c.own.run(&c.reach.client()?, &mut c.reach.out()).await,
            Self::Hashkv(c) => c.own.run(&c.reach.client()?, &mut c.reach.out()).await,
            Self::Snapshot(c) => c.own.run(&c.reach, &mut c.reach.out()).await,
            Self::Completion(completion) => completion.run(whole, &mut Out::plain()),
        }
    }
}
