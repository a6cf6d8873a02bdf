//! How it is all wired and stopped.
//!
//! ```text
//!   settings -> log -> sockets bound -> data directory -> identity        (founding)
//!            -> WAL, history, machine                                     (boot, recovery)
//!            -> raft -> pipeline -> background -> services -> ports       (member)
//!   stopped in reverse: leadership handed over, ports, background, raft, storage
//! ```
//!
//! Exit codes of `meridian server`:
//!
//! | code | meaning |
//! |---|---|
//! | 0 | stopped as asked |
//! | 1 | could not start or go on, for another reason |
//! | 2 | settings or flags |
//! | 3 | the data directory: in use, another cluster's, a newer format, damaged |
//! | 4 | a port is taken or an address can not be used |
//! | 5 | the cluster refuses this member for good: removed, or its id was used with another disk |
//! | 6 | the disk failed under the log or the history; recovery decides at the next start |

pub mod boot;
pub mod founding;
pub mod member;
pub mod recovery;

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, Command};
use meridian_storage::fault::Fault;
use tokio::signal::unix::{SignalKind, signal};

use crate::directory::DirectoryError;
use crate::run::member::{Member, OnFault};
use crate::settings::{Settings, SettingsError, table};
use crate::telemetry;

/// The log line of a member that serves: etcd's, because scripts wait for it.
pub const READY_LINE: &str = "ready to serve client requests";

/// A hidden flag: the process ends when the one that started it does.
pub const END_WITH_PARENT: &str = "end-with-parent";

/// Why the process ends though nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Settings or flags.
    #[error("{0}")]
    Settings(String),
    /// The data directory.
    #[error("{0}")]
    Directory(String),
    /// A port or an address.
    #[error("{0}")]
    Address(String),
    /// The others refuse this member.
    #[error("{0}")]
    Expelled(String),
    /// The disk, or what lies on it.
    #[error("{0}")]
    Fault(#[from] Fault),
    /// Anything else.
    #[error("{0}")]
    Start(String),
}

impl Failure {
    /// As the process ends with it.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    /// See the table above.
    pub fn code(&self) -> u8 {
        match self {
            Self::Start(_) => 1,
            Self::Settings(_) => 2,
            Self::Directory(_)
            | Self::Fault(Fault::Directory { .. } | Fault::NewerFormat { .. }) => 3,
            Self::Address(_) => 4,
            Self::Expelled(_) => 5,
            Self::Fault(_) => 6,
        }
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::Settings(error.to_string())
    }
}

impl From<DirectoryError> for Failure {
    fn from(error: DirectoryError) -> Self {
        Self::Directory(error.to_string())
    }
}

/// The subcommand.
pub fn command() -> Command {
    let command = Command::new("server")
        .about("Run one member of a cluster")
        .after_help("Every flag is also a key of the settings file and a variable: --data-dir is MERIDIAN_DATA_DIR.")
        .arg(Arg::new(END_WITH_PARENT).long(END_WITH_PARENT).action(ArgAction::SetTrue).hide(true));
    table::flags(command)
}

/// Runs until it is told to stop.
pub fn server(matches: &ArgMatches) -> ExitCode {
    if matches.get_flag(END_WITH_PARENT) {
        // Where the system does not know this, the parent stops its members itself.
        let _ =
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
    }
    let outcome = match settings(matches) {
        Ok(settings) => until_stopped(settings, |_| ()),
        Err(failure) => {
            eprintln!("meridian server: {failure}");
            Err(failure)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.exit_code(),
    }
}

/// The settings that file, variables and flags come to.
pub fn settings(matches: &ArgMatches) -> Result<Settings, Failure> {
    let file = matches
        .get_one::<String>("config")
        .map(std::path::Path::new);
    Ok(Settings::load(file, &table::given(matches))?)
}

/// Runs one member until a signal or a failure ends it; the failure is in the log then. `ready` is called once
/// it serves.
pub fn until_stopped(settings: Settings, ready: impl FnOnce(&Member)) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("meridian")
        .build()
        .map_err(|error| Failure::Start(format!("the runtime can not be started: {error}")))?;
    runtime.block_on(async {
        let _telemetry = telemetry::start(&settings).map_err(|error| {
            eprintln!("meridian: {error}");
            Failure::Settings(error.to_string())
        })?;
        let outcome = serve(settings, ready).await;
        if let Err(failure) = &outcome {
            tracing::error!(%failure, "the member ends");
        }
        outcome
    })
}

async fn serve(settings: Settings, ready: impl FnOnce(&Member)) -> Result<(), Failure> {
    let signals = |error: std::io::Error| Failure::Start(format!("signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(signals)?;
    raise_file_limit();

    let starting = Member::start(settings, Arc::new(end_the_process));
    let member = tokio::select! {
        member = starting => member?,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    let mut ready = Some(ready);
    let outcome = loop {
        tokio::select! {
            () = member.ready(), if ready.is_some() => {
                tracing::info!(clients = ?member.client_urls(), "{READY_LINE}");
                if let Some(ready) = ready.take() {
                    ready(&member);
                }
            }
            failure = member.broken() => break Err(failure),
            _ = hangup.recv() => member.reload_certificates(),
            _ = interrupt.recv() => break Ok(()),
            _ = terminate.recv() => break Ok(()),
        }
    };
    tracing::info!("stopping");
    tokio::select! {
        () = member.stop() => {}
        // A second signal: at once.
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    outcome
}

/// What the storage threads call when the disk failed under them: nothing may be acknowledged any more.
fn end_the_process(fault: Fault) {
    let failure = Failure::Fault(fault);
    tracing::error!(%failure, "the disk failed; the process ends, recovery decides at the next start");
    std::process::exit(i32::from(failure.code()));
}

/// As many files as the system lets this process have: every connection is one.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// The fault hook of a member, as [`Member::start`] takes it.
pub fn on_fault(hook: impl Fn(Fault) + Send + Sync + 'static) -> OnFault {
    Arc::new(hook)
}
