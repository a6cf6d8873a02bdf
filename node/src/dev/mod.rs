//! `meridian dev`: a node, or a local cluster, for trying things.
//!
//! ```text
//!   --nodes 1    the server itself, in this process
//!   --nodes 3    three processes `meridian server`, with ports and directories of their own;
//!                this one writes their logs to files, says what to try, and ends them when it ends
//! ```
//!
//! Nothing here is special to development but the ports and the directories: what runs is what runs in
//! production. Members end with their parent, however it ends.

pub mod member;
pub mod ports;
pub mod show;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command, value_parser};
use tokio::signal::unix::{SignalKind, signal};

use crate::dev::member::Member;
use crate::run;
use crate::settings::Settings;

/// The most members on one machine.
const NODES_MAX: u16 = 5;
/// How long members may take to be ready.
const READY_WITHIN: Duration = Duration::from_mins(1);

/// The subcommand.
pub fn command() -> Command {
    Command::new("dev")
        .about("Start a node, or a cluster on this machine, for trying things")
        .arg(
            Arg::new("nodes")
                .long("nodes")
                .value_name("N")
                .default_value("1")
                .value_parser(value_parser!(u16).range(1..=i64::from(NODES_MAX)))
                .help("Members to start; more than one run as processes of their own"),
        )
        .arg(
            Arg::new("data-dir")
                .long("data-dir")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Where the data lies; kept afterwards [default: a temporary directory, removed]"),
        )
        .arg(
            Arg::new("port")
                .long("port")
                .value_name("PORT")
                .default_value("2379")
                .value_parser(value_parser!(u16).range(1..=65_000))
                .help("Client port of the first member; its peer port is the next one"),
        )
        .arg(
            Arg::new("server-flags")
                .value_name("SERVER FLAGS")
                .num_args(0..)
                .last(true)
                .help("Passed on to `meridian server`, e.g. -- --log-level debug"),
        )
}

/// Runs until it is told to stop.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let nodes = matches.get_one::<u16>("nodes").copied().unwrap_or(1);
    let port = matches.get_one::<u16>("port").copied().unwrap_or(2379);
    let kept = matches.get_one::<PathBuf>("data-dir").cloned();
    let flags: Vec<String> = matches
        .get_many::<String>("server-flags")
        .unwrap_or_default()
        .cloned()
        .collect();
    let directory = match Directory::open(kept) {
        Ok(directory) => directory,
        Err(error) => {
            eprintln!("meridian dev: {error}");
            return run::Failure::Directory(error.to_string()).exit_code();
        }
    };
    let plan = ports::plan(nodes, port, directory.path());
    let outcome = if nodes == 1 {
        alone(&plan, &flags)
    } else {
        together(&plan, &flags)
    };
    drop(directory);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("meridian dev: {failure}");
            failure.exit_code()
        }
    }
}

/// One member, in this process.
fn alone(plan: &[ports::Seat], flags: &[String]) -> Result<(), run::Failure> {
    let Some(seat) = plan.first() else {
        return Ok(());
    };
    // The terminal is for what to try; whoever wants the log asks for it.
    let quiet = ["--log-level", "warn"].map(str::to_owned);
    let arguments = ["server".to_owned()]
        .into_iter()
        .chain(if flags.is_empty() {
            quiet.to_vec()
        } else {
            vec![]
        })
        .chain(seat.flags(plan))
        .chain(flags.to_vec());
    let matches = run::command()
        .try_get_matches_from(arguments)
        .map_err(|error| run::Failure::Settings(error.to_string()))?;
    let settings: Settings = run::settings(&matches)?;
    run::until_stopped(settings, |_| show::welcome(plan, &[]))
}

/// Several members, each a process.
fn together(plan: &[ports::Seat], flags: &[String]) -> Result<(), run::Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| run::Failure::Start(error.to_string()))?;
    runtime.block_on(watch_over(plan, flags))
}

async fn watch_over(plan: &[ports::Seat], flags: &[String]) -> Result<(), run::Failure> {
    let start = |error: std::io::Error| run::Failure::Start(error.to_string());
    let mut interrupt = signal(SignalKind::interrupt()).map_err(start)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(start)?;
    let mut members = Vec::new();
    for seat in plan {
        members.push(Member::start(seat, plan, flags)?);
    }
    let ready = tokio::select! {
        ready = tokio::time::timeout(READY_WITHIN, all_ready(&mut members)) => match ready {
            Ok(ready) => ready,
            Err(_) => Err(run::Failure::Start(format!(
                "the members were not ready within {} s; their logs lie beside their data",
                READY_WITHIN.as_secs()
            ))),
        },
        _ = interrupt.recv() => return stop(members).await,
        _ = terminate.recv() => return stop(members).await,
    };
    if let Err(failure) = ready {
        stop(members).await?;
        return Err(failure);
    }
    let processes: Vec<u32> = members.iter().map(Member::process).collect();
    show::welcome(plan, &processes);
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            ended = member::first_end(&mut members) => {
                let Some(ended) = ended else {
                    return Err(run::Failure::Start("every member has ended".into()));
                };
                show::ended(&ended);
            }
        }
    }
    stop(members).await
}

async fn all_ready(members: &mut [Member]) -> Result<(), run::Failure> {
    for member in members {
        member.ready().await?;
    }
    Ok(())
}

async fn stop(members: Vec<Member>) -> Result<(), run::Failure> {
    println!("stopping");
    for member in &members {
        member.terminate();
    }
    for member in members {
        member.wait().await;
    }
    Ok(())
}

/// Where the members' data lies; removed with everything in it if nobody named it.
struct Directory {
    path: PathBuf,
    temporary: bool,
}

impl Directory {
    fn open(kept: Option<PathBuf>) -> std::io::Result<Self> {
        let temporary = kept.is_none();
        let path = kept.unwrap_or_else(|| {
            let name = format!(
                "meridian-dev-{}-{:08x}",
                std::process::id(),
                rand::random::<u32>()
            );
            std::env::temp_dir().join(name)
        });
        std::fs::create_dir_all(&path)?;
        Ok(Self { path, temporary })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.temporary {
            // What can not be removed lies in the directory for temporary files.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
