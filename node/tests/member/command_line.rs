//! The command line against a member, as a person or a program uses it: what it prints, and how it ends.

use std::path::Path;
use std::process::{Output, Stdio};

use crate::served::Served;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// What a command printed, and its exit code.
#[derive(Debug)]
struct Ran {
    out: String,
    err: String,
    code: i32,
}

impl Ran {
    fn of(output: Output) -> Self {
        Self {
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code().unwrap_or(-1),
        }
    }

    /// Its output, if it worked.
    fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "{self:?}");
        &self.out
    }

    fn json(&self) -> Value {
        serde_json::from_str(self.ok()).unwrap()
    }
}

fn command(endpoints: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meridian"));
    command
        .args(arguments)
        .env("MERIDIAN_ENDPOINTS", endpoints)
        .env_remove("MERIDIAN_TENANT")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn run(member: &Served, line: &str) -> Ran {
    let words: Vec<&str> = line.split(' ').collect();
    run_words(member, &words).await
}

async fn run_words(member: &Served, words: &[&str]) -> Ran {
    Ran::of(command(&member.authority(), words).output().await.unwrap())
}

async fn run_with_input(member: &Served, line: &str, input: &str) -> Ran {
    let words: Vec<&str> = line.split(' ').collect();
    let mut child = command(&member.authority(), &words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    Ran::of(child.wait_with_output().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_put_got_watched_and_deleted() {
    let member = Served::start().await;
    assert_eq!(run(&member, "kv put greeting hello").await.ok(), "OK\n");
    assert_eq!(
        run(&member, "kv put greeting hi --prev-kv").await.ok(),
        "OK\ngreeting\nhello\n"
    );
    assert_eq!(run(&member, "kv get greeting").await.ok(), "greeting\nhi\n");
    assert_eq!(
        run(&member, "kv get greeting --hex --print-value-only")
            .await
            .ok(),
        "\\x68\\x69\n"
    );
    assert_eq!(
        run_with_input(&member, "kv put typed", "from stdin")
            .await
            .ok(),
        "OK\n"
    );
    let got = run(&member, "kv get typed -o json").await.json();
    assert_eq!(got["kvs"][0]["value"], "from stdin");
    assert_eq!((&got["count"], &got["more"]), (&1.into(), &false.into()));
    assert_eq!(run(&member, "kv del greeting").await.ok(), "1\n");

    let missing = run(&member, "kv get greeting").await;
    assert_eq!((missing.code, missing.out.as_str()), (3, ""));
    assert_eq!(run(&member, "kv get gr --prefix").await.ok(), "");
    let past = run(&member, "watch greeting --rev 2 --count 3").await;
    assert_eq!(
        past.ok(),
        "PUT\ngreeting\nhello\nPUT\ngreeting\nhi\nDELETE\ngreeting\n\n"
    );
    run(&member, "kv compact 3").await.ok();
    let compacted = run(&member, "watch greeting --rev 2").await;
    assert_eq!(compacted.code, 1);
    assert!(
        compacted.err.contains("Next:") && compacted.err.contains('3'),
        "{compacted:?}"
    );
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_read_from_flags_and_from_input() {
    let member = Served::start().await;
    let text = "mod(\"k\") > \"0\"\n\nput k again\n\nput k first\nget k\n";
    assert_eq!(
        run_with_input(&member, "txn", text).await.ok(),
        "FAILURE\n\nOK\n\nk\nfirst\n"
    );
    assert_eq!(
        run_with_input(&member, "txn", text).await.ok(),
        "SUCCESS\n\nOK\n"
    );
    let words = [
        "txn",
        "-c",
        "val(k) = again",
        "-s",
        "get k",
        "-f",
        "del k",
        "-o",
        "json",
    ];
    let answer = run_words(&member, &words).await.json();
    assert_eq!(answer["succeeded"], true);
    assert_eq!(answer["answers"][0]["get"]["kvs"][0]["value"], "again");
    assert_eq!(run_words(&member, &["txn", "-c", "nonsense"]).await.code, 2);
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_locks_and_elections_work_from_the_command_line() {
    let member = Served::start().await;
    run(&member, "lease grant 100 --id 7b").await.ok();
    run(&member, "kv put leased x --lease 7b").await.ok();
    let left = run(&member, "lease timetolive 7b --keys -o json")
        .await
        .json();
    assert_eq!(
        (&left["granted_ttl"], &left["keys"][0]["key"]),
        (&100.into(), &"leased".into())
    );
    assert!(
        run(&member, "lease keep-alive 7b --once")
            .await
            .ok()
            .contains("TTL(100s)")
    );
    run(&member, "lease revoke 7b").await.ok();
    assert_eq!(run(&member, "kv get leased").await.code, 3);
    assert_eq!(run(&member, "lease revoke 7b").await.code, 3);

    let script = "echo $MERIDIAN_LOCK_KEY $MERIDIAN_LOCK_TOKEN; exit 7";
    let first = run_words(&member, &["lock", "l", "--", "sh", "-c", script]).await;
    let second = run_words(&member, &["lock", "l", "--", "sh", "-c", script]).await;
    assert_eq!((first.code, second.code), (7, 7));
    let token = |ran: &Ran| {
        ran.out
            .trim()
            .split_once(' ')
            .unwrap()
            .1
            .parse::<i64>()
            .unwrap()
    };
    assert!(first.out.starts_with("l/") && token(&second) > token(&first));
    assert_eq!(
        run(&member, "kv get l/ --prefix").await.ok(),
        "",
        "the locks were given up"
    );
    let nothing = run_words(&member, &["lock", "l", "--", "/no/such/program"]).await;
    assert_eq!(nothing.code, 1);
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_made_bounded_shown_and_deleted() {
    let member = Served::start().await;
    assert_eq!(run(&member, "tenant create a --keys 1").await.code, 0);
    run(&member, "kv put k 1 --tenant a").await.ok();
    assert_eq!(
        run(&member, "kv get k").await.code,
        3,
        "another tenant's key"
    );
    let over = run(&member, "kv put l 1 --tenant a -o json").await;
    assert_eq!(over.code, 1);
    let error: Value = serde_json::from_str(&over.err).unwrap();
    assert_eq!(error["error"]["code"], "QUOTA_EXCEEDED");
    assert!(
        error["error"]["hint"]
            .as_str()
            .unwrap()
            .contains("meridian tenant quota a")
    );
    run(&member, "tenant quota a --keys 2").await.ok();
    run(&member, "--tenant a kv put l 1").await.ok();
    let shown = run(&member, "tenant show a -o json").await.json();
    assert_eq!(
        (&shown["usage"]["keys"], &shown["quota"]["keys"]),
        (&2.into(), &2.into())
    );
    assert_eq!(
        run(&member, "tenant list -o simple").await.ok(),
        "a\ndefault\n"
    );
    assert_eq!(
        run(&member, "tenant delete a").await.code,
        2,
        "nobody said yes"
    );
    run(&member, "tenant delete a --yes").await.ok();
    let gone = run(&member, "kv get k --tenant a").await;
    assert_eq!(gone.code, 3);
    assert!(gone.err.contains("meridian tenant create"), "{gone:?}");
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_and_their_health_are_shown() {
    let member = Served::start().await;
    let status = run(&member, "status -o json").await.json();
    assert_eq!(status["endpoints"][0]["role"], "leader");
    assert_eq!(
        status["endpoints"][0]["meridian"]["version"],
        env!("CARGO_PKG_VERSION")
    );
    assert!(
        run(&member, "status --cluster")
            .await
            .ok()
            .contains("leader")
    );
    let members = run(&member, "member list -o json").await.json();
    assert_eq!(members["members"][0]["status"], "started");
    assert_eq!(run(&member, "alarm list").await.ok(), "");
    run(&member, "defrag").await.ok();
    assert_eq!(
        run(&member, "hashkv -o simple").await.ok().lines().count(),
        1
    );
    assert_eq!(run(&member, "member promote 1").await.code, 3);
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_not_there_is_explained() {
    let run = |arguments: &'static [&'static str]| async move {
        Ran::of(
            command("http://127.0.0.1:1", arguments)
                .output()
                .await
                .unwrap(),
        )
    };
    let refused = run(&["kv", "get", "k"]).await;
    assert_eq!(refused.code, 4);
    assert!(refused.err.contains("meridian dev"), "{refused:?}");
    let status = run(&["status"]).await;
    assert_eq!(status.code, 4);
    assert!(
        status.out.contains("127.0.0.1:1"),
        "the table is shown all the same: {status:?}"
    );
    assert_eq!(
        run(&["kv", "get", "k", "--endpoints", "https://127.0.0.1:1"])
            .await
            .code,
        2
    );
    assert_eq!(run(&["kv", "gett", "k"]).await.code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_saved_looked_at_and_restored_as_a_new_cluster() {
    let member = Served::start().await;
    run(&member, "kv put a 1").await.ok();
    run(&member, "kv put a 2").await.ok();
    run(&member, "tenant create t").await.ok();
    run(&member, "kv put b 3 --tenant t").await.ok();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.snapshot").display().to_string();
    let saved = run_words(&member, &["snapshot", "save", &file, "-o", "json"])
        .await
        .json();
    assert_eq!(
        saved["bytes"].as_u64().unwrap(),
        Path::new(&file).metadata().unwrap().len()
    );
    let status = run_words(&member, &["snapshot", "status", &file, "-o", "json"])
        .await
        .json();
    assert_eq!(status["keys"], 2);
    // As etcdctl writes it: with the sum that came over the wire behind it. Nothing else may follow.
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(bytes.len() % 512, 0);
    let other = folder.path().join("other.snapshot").display().to_string();
    std::fs::write(&other, [&bytes[..], &[7; 32]].concat()).unwrap();
    run_words(&member, &["snapshot", "status", &other])
        .await
        .ok();
    std::fs::write(&other, [&bytes[..], &[0; 7]].concat()).unwrap();
    assert_eq!(
        run_words(&member, &["snapshot", "status", &other])
            .await
            .code,
        1
    );
    let old = run(&member, "member list -o json").await.json();
    member.stop().await;

    let data = folder.path().join("data").display().to_string();
    let peer = "http://127.0.0.1:0";
    let restore = ["snapshot", "restore", &file, "--data-dir", &data];
    let offline = |words: Vec<&str>| {
        let mut command = command("http://127.0.0.1:1", &words);
        async move { Ran::of(command.output().await.unwrap()) }
    };
    // Ids are derived from peers and token, so the token is what makes the cluster another one.
    let flags = ["--initial-advertise-peer-urls", peer, "--name", "r"];
    let flags = [&flags[..], &["--initial-cluster-token", "restored"]].concat();
    let restored = offline([&restore[..], &flags[..]].concat()).await;
    assert!(
        restored.ok().contains("meridian server --data-dir"),
        "{restored:?}"
    );
    let again = offline([&restore[..], &flags[..]].concat()).await;
    assert_eq!(again.code, 1, "a directory that exists is not touched");

    let flags = [
        ("data-dir", data.as_str()),
        ("name", "r"),
        ("initial-advertise-peer-urls", peer),
        ("initial-cluster-token", "restored"),
    ];
    let member = Served::with(&flags).await;
    assert_eq!(run(&member, "kv get a").await.ok(), "a\n2\n");
    assert_eq!(run(&member, "kv get a --rev 2").await.ok(), "a\n1\n");
    assert_eq!(run(&member, "kv get b --tenant t").await.ok(), "b\n3\n");
    run(&member, "kv put a 4").await.ok();
    let new = run(&member, "member list -o json").await.json();
    assert_ne!(new["cluster_id"], old["cluster_id"], "a new cluster");
    assert_eq!(new["members"].as_array().unwrap().len(), 1);
    let member = member.restart().await;
    assert_eq!(
        run(&member, "kv get a --print-value-only").await.ok(),
        "4\n"
    );
    member.stop().await;

    let damaged = folder.path().join("damaged").display().to_string();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    std::fs::write(&damaged, bytes).unwrap();
    let other = folder.path().join("other").display().to_string();
    let refused = offline(vec!["snapshot", "restore", &damaged, "--data-dir", &other]).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(!Path::new(&other).exists());
    assert_eq!(
        offline(vec!["snapshot", "status", "/no/such/file"])
            .await
            .code,
        3
    );
}
