//! The README's transcript, run: a cluster as `meridian dev --nodes 3` starts it, the commands as they stand
//! there, and every answer compared with what the README shows.
//!
//! Ports are mapped, since the default ones may be taken: the first endpoint of the transcript is the leader, so
//! that the watcher sits on a member that stays.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use meridian_proto::etcdserverpb::StatusRequest;
use meridian_proto::etcdserverpb::maintenance_client::MaintenanceClient;

const PATIENCE: Duration = Duration::from_secs(60);

/// One command of the transcript with what is shown below it.
struct Shown {
    command: String,
    output: Vec<String>,
}

fn transcript() -> Vec<Shown> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("README.md");
    let text = std::fs::read_to_string(readme).unwrap();
    let (_, after) = text
        .split_once("<!-- transcript -->\n```console\n")
        .unwrap();
    let (block, _) = after.split_once("\n```").unwrap();
    let mut shown: Vec<Shown> = vec![];
    for line in block.split('\n') {
        match line.strip_prefix("$ ") {
            Some(command) => shown.push(Shown {
                command: command.into(),
                output: vec![],
            }),
            None => shown.last_mut().unwrap().output.push(line.into()),
        }
    }
    shown
}

/// `meridian dev --nodes 3`, stopped when dropped.
struct Cluster {
    child: Child,
    /// Client endpoint and process of each member.
    members: Vec<(String, String)>,
    _dir: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let id = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Starts it on ports that were free a moment ago; on others if somebody took one of them meanwhile.
fn start() -> Cluster {
    let started = (0..5).find_map(|_| try_start());
    started.expect("`meridian dev` showed three members")
}

fn try_start() -> Option<Cluster> {
    let dir = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut child = Command::new(env!("CARGO_BIN_EXE_meridian"))
        .args([
            "dev",
            "--nodes",
            "3",
            "--port",
            &port.to_string(),
            "--data-dir",
        ])
        .arg(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut members = vec![];
    for line in lines.by_ref() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [_, clients, _, process, _] = words[..]
            && let Some(endpoint) = clients.strip_prefix("http://")
        {
            members.push((endpoint.to_owned(), process.to_owned()));
        }
        if members.len() == 3 {
            break;
        }
    }
    if members.len() != 3 {
        let _ = child.kill();
        child.wait().unwrap();
        return None;
    }
    // What it prints later is read, so that it never waits for a reader.
    std::thread::spawn(move || lines.for_each(drop));
    Some(Cluster {
        child,
        members,
        _dir: dir,
    })
}

async fn leader(members: &[(String, String)]) -> usize {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        for (i, (endpoint, _)) in members.iter().enumerate() {
            let Ok(mut client) = MaintenanceClient::connect(format!("http://{endpoint}")).await
            else {
                continue;
            };
            if let Ok(status) = client.status(StatusRequest {}).await
                && status.get_ref().header.as_ref().unwrap().member_id == status.get_ref().leader
            {
                return i;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no member leads");
}

/// A shell with the transcript's variables.
fn shell(command: &str, variables: &[(&str, String)]) -> Command {
    let binaries = Path::new(env!("CARGO_BIN_EXE_meridian")).parent().unwrap();
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell
        .args(["-c", command])
        .env("PATH", path)
        .envs(variables.iter().cloned());
    shell.stdin(Stdio::null()).stdout(Stdio::piped());
    shell
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_etcd), ignore = "etcd and etcdctl are not installed")]
async fn the_readme_shows_what_happens() {
    let cluster = start();
    let leads = leader(&cluster.members).await;
    let mut members = cluster.members.clone();
    members.swap(0, leads);
    let map = |text: &str| {
        // The longer ports first: the short one is a part of them.
        text.replace("127.0.0.1:22379", &members[1].0)
            .replace("127.0.0.1:32379", &members[2].0)
            .replace("127.0.0.1:2379", &members[0].0)
    };
    let mut variables = vec![
        ("LEADER", members[0].1.clone()),
        ("SURVIVORS", format!("{},{}", members[1].0, members[2].0)),
    ];
    let mut watcher: Option<Child> = None;
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut expected_of_watcher: Vec<String> = vec![];
    for Shown { command, output } in transcript() {
        let command = map(&command);
        if let Some(exports) = command.strip_prefix("export ") {
            for (name, value) in exports.split(' ').filter_map(|word| word.split_once('=')) {
                variables.push((name.to_owned().leak(), value.to_owned()));
            }
            continue;
        }
        if let Some(command) = command.strip_suffix(" &") {
            let mut child = shell(&format!("exec {command}"), &variables)
                .spawn()
                .unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let sink = Arc::clone(&seen);
            std::thread::spawn(move || {
                lines.for_each(|line| sink.lock().unwrap().push(line.unwrap()));
            });
            watcher = Some(child);
            expected_of_watcher.extend(output);
        } else {
            let done = shell(&command, &variables).output().unwrap();
            let own: Vec<String> = String::from_utf8(done.stdout)
                .unwrap()
                .lines()
                .map(str::to_owned)
                .collect();
            assert_eq!(
                output[..own.len().min(output.len())],
                own,
                "after {command}"
            );
            expected_of_watcher.extend_from_slice(&output[own.len()..]);
        }
        let deadline = Instant::now() + PATIENCE;
        while seen.lock().unwrap().len() < expected_of_watcher.len() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(
            *seen.lock().unwrap(),
            expected_of_watcher,
            "the watcher, after {command}"
        );
    }
    let mut watcher = watcher.expect("the transcript has a watcher");
    watcher.kill().unwrap();
    watcher.wait().unwrap();
}
