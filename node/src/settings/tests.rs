//! Every setting has its place, and contradictions are found.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::table::{ROWS, default_of};
use super::*;

const SAMPLE: &str = include_str!("../settings.sample.toml");

fn load(given: &[(&'static str, &str)]) -> Result<Settings, String> {
    let given: Vec<_> = given
        .iter()
        .map(|(flag, value)| (*flag, (*value).to_owned()))
        .collect();
    Settings::load(None, &given).map_err(|error| error.to_string())
}

fn leaves(prefix: &str, value: &toml::Value, into: &mut Vec<String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, inner) in table {
                let place = if prefix.is_empty() {
                    key.clone()
                } else {
                    format!("{prefix}.{key}")
                };
                leaves(&place, inner, into);
            }
        }
        _ => into.push(prefix.to_owned()),
    }
}

#[test]
fn every_setting_has_a_flag_and_every_flag_a_setting() {
    let mut places = vec![];
    leaves(
        "",
        &toml::Value::try_from(Settings::default()).unwrap(),
        &mut places,
    );
    let mut listed: Vec<_> = ROWS.iter().map(|row| row.place.to_owned()).collect();
    places.sort();
    listed.sort();
    assert_eq!(places, listed);
    assert!(ROWS.iter().all(|row| default_of(row.place).is_some()));
}

#[test]
fn the_sample_file_holds_exactly_the_defaults() {
    let sample: Settings = toml::from_str(SAMPLE).unwrap();
    assert_eq!(sample, Settings::default());
    let tree: toml::Table = SAMPLE.parse().unwrap();
    let mut places = vec![];
    leaves("", &toml::Value::Table(tree), &mut places);
    places.sort();
    let mut all: Vec<_> = ROWS.iter().map(|row| row.place.to_owned()).collect();
    all.sort();
    assert_eq!(places, all, "the sample leaves something out");
}

#[test]
fn the_defaults_are_valid() {
    assert_eq!(load(&[]).unwrap(), Settings::default());
    assert_eq!(
        Settings::default().request_timeout(),
        Duration::from_secs(7)
    );
    assert_eq!(Settings::default().lease_ttl_seconds_min(), 2);
}

#[test]
fn flags_go_over_the_file_and_unknown_keys_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    std::fs::write(
        &path,
        "name = \"a\"\nzone = \"z1\"\n[raft]\nsnapshot-count = 5\n",
    )
    .unwrap();
    let given = [("zone", "z2".to_owned())];
    let settings = Settings::load(Some(&path), &given).unwrap();
    assert_eq!(
        (settings.name.as_str(), settings.zone.as_str()),
        ("a", "z2")
    );
    assert_eq!(settings.raft.snapshot_count, 5);

    std::fs::write(&path, "[raft]\nsnapshot-cuont = 5\n").unwrap();
    let error = Settings::load(Some(&path), &[]).unwrap_err().to_string();
    assert!(error.contains("snapshot-cuont"), "{error}");
    let missing = dir.path().join("missing.toml");
    let error = Settings::load(Some(&missing), &[]).unwrap_err().to_string();
    assert!(error.contains("missing.toml"), "{error}");
}

#[test]
fn contradictions_are_refused_by_the_name_of_the_flag() {
    let cases: &[(&[(&'static str, &str)], &str)] = &[
        (&[("listen-client-urls", "localhost:1")], "neither http://"),
        (&[("listen-client-urls", "http://localhost")], "no port"),
        (
            &[("listen-client-urls", "http://localhost:1/x")],
            "more than a host",
        ),
        (
            &[("listen-client-urls", "https://localhost:1")],
            "--cert-file",
        ),
        (&[("cert-file", "c.pem")], "--key-file"),
        (&[("cert-file", "c"), ("key-file", "k")], "plain text"),
        (&[("client-cert-auth", "true")], "--trusted-ca-file"),
        (
            &[("listen-client-urls", "http://0.0.0.0:1")],
            "--advertise-client-urls",
        ),
        (&[("election-timeout", "200")], "5 times"),
        (
            &[("initial-cluster", "b=http://127.0.0.1:1")],
            "couldn't find local name",
        ),
        (
            &[("initial-cluster", "default=http://127.0.0.1:1")],
            "--initial-advertise-peer-urls",
        ),
        (&[("initial-cluster", "default")], "name=peer-url"),
        (&[("initial-cluster-state", "old")], "new, existing"),
        (
            &[("initial-cluster-state", "existing")],
            "--initial-cluster",
        ),
        (&[("max-request-bytes", "99999999")], "1572864"),
        (&[("max-txn-ops", "x")], "whole number"),
        (&[("auto-compaction-mode", "never")], "periodic"),
        (&[("auto-compaction-retention", "soon")], "hours"),
        (&[("watch-progress-notify-interval", "1ms")], "100ms"),
        (&[("log-format", "xml")], "text, json"),
        (&[("name", "")], "--name"),
    ];
    for (given, expected) in cases {
        let error = load(given).unwrap_err();
        assert!(error.contains(expected), "{given:?}: {error}");
    }
}

#[test]
fn compaction_is_read_in_hours_durations_or_revisions() {
    let of = |mode, retention| {
        load(&[
            ("auto-compaction-mode", mode),
            ("auto-compaction-retention", retention),
        ])
        .unwrap()
        .auto_compaction()
    };
    assert_eq!(of("periodic", "0"), None);
    assert_eq!(
        of("periodic", "1"),
        Some(AutoCompaction::Period(Duration::from_hours(1)))
    );
    assert_eq!(
        of("periodic", "30m"),
        Some(AutoCompaction::Period(Duration::from_mins(30)))
    );
    assert_eq!(
        of("revision", "1000"),
        Some(AutoCompaction::Revisions(1000))
    );
}

#[test]
fn three_members_in_one_line_are_understood() {
    let line = "a=http://127.0.0.1:1,b=http://127.0.0.1:2,c=http://127.0.0.1:3";
    let settings = load(&[
        ("name", "b"),
        ("initial-cluster", line),
        ("listen-peer-urls", "http://127.0.0.1:2"),
    ])
    .unwrap();
    let members = check::initial_cluster(&settings).unwrap();
    assert_eq!(members.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
    let twice = "b=http://127.0.0.1:2,c=http://127.0.0.1:2";
    let error = load(&[
        ("name", "b"),
        ("initial-cluster", twice),
        ("listen-peer-urls", "http://127.0.0.1:2"),
    ])
    .unwrap_err();
    assert!(error.contains("twice"), "{error}");
}
