//! `meridian lock`: one holder at a time, by itself or while a command runs.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use meridian_client::{Client, Lock as Held};
use serde_json::json;

use super::failure::Failure;
use super::out::{Form, Out};

/// Holds a lock until interrupted, or while a command runs.
///
/// The command sees MERIDIAN_LOCK_KEY and MERIDIAN_LOCK_TOKEN (the fencing token, greater than that of
/// every earlier holder). Its exit code becomes this command's. If the lock is lost while it runs, it is
/// killed.
#[derive(Debug, Args)]
pub(super) struct Lock {
    /// The lock
    name: OsString,
    /// Seconds the lock outlives a holder that falls silent
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    ttl: u64,
    /// Give up instead of waiting if someone else holds the lock
    #[arg(long)]
    no_wait: bool,
    /// A command to run while the lock is held
    #[arg(last = true)]
    command: Vec<OsString>,
}

impl Lock {
    pub(super) async fn run(&self, client: &Client, out: &mut Out) -> Result<ExitCode, Failure> {
        let name = self.name.as_encoded_bytes();
        let lock = client.lock(name).ttl(Duration::from_secs(self.ttl));
        let held = if self.no_wait {
            let free = lock.try_acquire().await?;
            free.ok_or_else(|| Failure::refused("someone else holds the lock"))?
        } else {
            tokio::select! {
                held = lock.acquire() => held?,
                () = interrupted() => return Ok(ExitCode::from(130)),
            }
        };
        let code = match self.command.split_first() {
            Some((program, arguments)) => self.hold_for(&held, program, arguments).await,
            None => hold(&held, out).await,
        };
        held.unlock().await?;
        code
    }

    async fn hold_for(
        &self,
        held: &Held,
        program: &OsString,
        arguments: &[OsString],
    ) -> Result<ExitCode, Failure> {
        let key = String::from_utf8_lossy(held.key()).into_owned();
        let mut child = tokio::process::Command::new(program)
            .args(arguments)
            .env("MERIDIAN_LOCK_KEY", key)
            .env("MERIDIAN_LOCK_TOKEN", held.token().to_string())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure::io(&format!("can not run {}", program.display()), &error))?;
        tokio::select! {
            ended = child.wait() => {
                let status = ended.map_err(|error| Failure::io("can not wait for the command", &error))?;
                // A command that was killed has no code of its own.
                let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
                Ok(ExitCode::from(code))
            }
            lost = held.lost() => {
                // If it ended meanwhile there is nothing to kill.
                let _ = child.kill().await;
                Err(Failure::from(lost).hint("the command was killed: it no longer held the lock"))
            }
        }
    }
}

/// Shows the lock and holds it until interrupted.
async fn hold(held: &Held, out: &mut Out) -> Result<ExitCode, Failure> {
    match out.form_or(Form::Simple) {
        Form::Json => {
            let mut object = serde_json::Map::new();
            out.put_bytes(&mut object, "key", held.key());
            object.insert("token".into(), json!(held.token()));
            out.json(&object.into())?;
        }
        _ => out.bytes(held.key())?,
    }
    tokio::select! {
        lost = held.lost() => Err(lost.into()),
        () = interrupted() => Ok(ExitCode::SUCCESS),
    }
}

/// Waits for Ctrl-C or a polite request to end.
pub(super) async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}
