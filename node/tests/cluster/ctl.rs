//! etcdctl, as a person runs it.

use std::process::Stdio;

use tokio::process::Command;

/// What it printed, and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub out: String,
    pub err: String,
    pub code: i32,
}

impl Ran {
    /// Its output, if it worked.
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "{self:?}");
        &self.out
    }

    /// Its output as JSON, if it worked.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.ok()).unwrap()
    }
}

/// Runs etcdctl against endpoints.
pub async fn etcdctl(endpoints: &str, words: &[&str]) -> Ran {
    run(command("etcdctl", endpoints).args(words)).await
}

/// A program that finds the cluster by its environment, to be run or spawned.
pub fn command(program: &str, endpoints: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env("ETCDCTL_API", "3")
        .env("ETCDCTL_ENDPOINTS", endpoints)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Runs a command to its end.
pub async fn run(command: &mut Command) -> Ran {
    let output = command.output().await.unwrap();
    Ran {
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code().unwrap_or(-1),
    }
}
