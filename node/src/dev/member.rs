//! One member of a local cluster, as a process.

use std::fs::File;
use std::io::Write;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::dev::ports::Seat;
use crate::dev::show;
use crate::run::{self, READY_LINE};

/// How long a member may take to stop before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// The last lines of its log, shown when it does not come up.
const LAST_LINES: usize = 5;

/// A running member.
pub struct Member {
    name: String,
    process: u32,
    arguments: Vec<String>,
    child: Child,
    ready: watch::Receiver<bool>,
    last: std::sync::Arc<parking_lot::Mutex<Vec<String>>>,
    ended: bool,
}

/// A member that ended though nobody here asked it to.
pub struct Ended {
    /// Its name.
    pub name: String,
    /// How.
    pub status: ExitStatus,
    /// The command that starts it again.
    pub again: String,
}

impl Member {
    /// Starts the process. Its log goes to a file beside its data.
    pub fn start(seat: &Seat, all: &[Seat], flags: &[String]) -> Result<Self, run::Failure> {
        let failed = |error: std::io::Error| {
            run::Failure::Start(format!("{} can not be started: {error}", seat.name))
        };
        let program = std::env::current_exe().map_err(failed)?;
        let mut arguments = vec!["server".to_owned()];
        arguments.extend(seat.flags(all));
        arguments.extend(flags.iter().cloned());
        let log = File::create(seat.data.with_extension("log")).map_err(failed)?;
        let mut child = Command::new(&program)
            .args(&arguments)
            .arg(format!("--{}", run::END_WITH_PARENT))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let (tell, ready) = watch::channel(false);
        let last = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
        if let Some(lines) = child.stderr.take() {
            tokio::spawn(copy(lines, log, tell, std::sync::Arc::clone(&last)));
        }
        let process = child.id().unwrap_or_default();
        let program = program.display().to_string();
        let arguments = std::iter::once(program).chain(arguments).collect();
        Ok(Self {
            name: seat.name.clone(),
            process,
            arguments,
            child,
            ready,
            last,
            ended: false,
        })
    }

    /// Its process id.
    pub fn process(&self) -> u32 {
        self.process
    }

    /// Returns once it serves clients, or says why it does not.
    pub async fn ready(&mut self) -> Result<(), run::Failure> {
        let ended = tokio::select! {
            ready = self.ready.wait_for(|ready| *ready) => match ready {
                Ok(_) => return Ok(()),
                Err(_) => self.child.wait().await,
            },
            ended = self.child.wait() => ended,
        };
        self.ended = true;
        let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
        let last = self.last.lock().join("\n  ");
        Err(run::Failure::Start(format!(
            "{} ended before it was ready ({how}):\n  {last}",
            self.name
        )))
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        let process = i32::try_from(self.process).ok().and_then(Pid::from_raw);
        if let (Some(process), false) = (process, self.ended) {
            // One that is gone already needs no telling.
            let _ = kill_process(process, Signal::TERM);
        }
    }

    /// Waits until it has stopped; kills it if that takes too long.
    pub async fn wait(mut self) {
        if tokio::time::timeout(STOP_WITHIN, self.child.wait())
            .await
            .is_err()
        {
            eprintln!("{} does not stop and is killed", self.name);
            let _ = self.child.kill().await;
        }
    }
}

/// Waits until one of them ends. None if all have.
pub async fn first_end(members: &mut [Member]) -> Option<Ended> {
    let waits: Vec<_> = members
        .iter_mut()
        .filter(|member| !member.ended)
        .map(|member| {
            Box::pin(async move {
                let status = member.child.wait().await;
                member.ended = true;
                let words = member.arguments.iter().map(|word| show::shell_word(word));
                let again = words.collect::<Vec<_>>().join(" ");
                (member.name.clone(), status, again)
            })
        })
        .collect();
    if waits.is_empty() {
        return None;
    }
    let ((name, status, again), _, _) = futures::future::select_all(waits).await;
    Some(Ended {
        name,
        status: status.unwrap_or_default(),
        again,
    })
}

/// Copies the log line by line, and tells when the line comes by that says it is ready.
async fn copy(
    from: tokio::process::ChildStderr,
    mut to: File,
    ready: watch::Sender<bool>,
    last: std::sync::Arc<parking_lot::Mutex<Vec<String>>>,
) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line.contains(READY_LINE) {
            ready.send_replace(true);
        }
        // A log that can not be written must not stop the member that writes it.
        let _ = writeln!(to, "{line}");
        let mut last = last.lock();
        if last.len() == LAST_LINES {
            last.remove(0);
        }
        last.push(line);
    }
}
