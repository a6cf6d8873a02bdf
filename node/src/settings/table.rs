//! The list of all settings: one line each, with its place in the file, its flag and its meaning.
//!
//! The variable of a flag is its name in capitals behind `MERIDIAN_`: `--data-dir` is `MERIDIAN_DATA_DIR`.

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{Settings, SettingsError};

/// One setting.
#[derive(Clone, Copy)]
pub struct Row {
    /// Where it stands in the file, sections separated by dots.
    pub place: &'static str,
    /// Its flag, without the dashes.
    pub flag: &'static str,
    /// Another name etcd has for the flag.
    pub alias: Option<&'static str>,
    /// What it means, in a line.
    pub help: &'static str,
}

const fn row(place: &'static str, flag: &'static str, help: &'static str) -> Row {
    Row {
        place,
        flag,
        alias: None,
        help,
    }
}

const fn also(row: Row, alias: &'static str) -> Row {
    Row {
        alias: Some(alias),
        ..row
    }
}

/// Every setting, in the order of the help text.
pub const ROWS: &[Row] = &[
    row("name", "name", "Name of this member, unique in the cluster"),
    row(
        "data-dir",
        "data-dir",
        "Where the data lies [default: <name>.meridian]",
    ),
    row("region", "region", "Region this member stands in"),
    row("zone", "zone", "Zone this member stands in"),
    row(
        "client.listen-urls",
        "listen-client-urls",
        "Where to listen for clients",
    ),
    row(
        "client.advertise-urls",
        "advertise-client-urls",
        "Where clients reach this member [default: the listen URLs]",
    ),
    row(
        "client.tls.cert-file",
        "cert-file",
        "Certificate of the client port, PEM",
    ),
    row("client.tls.key-file", "key-file", "Its key, PEM"),
    row(
        "client.tls.trusted-ca-file",
        "trusted-ca-file",
        "Authorities of client certificates, PEM; a certificate that is shown must verify",
    ),
    row(
        "client.tls.client-cert-auth",
        "client-cert-auth",
        "Clients must show a certificate",
    ),
    row(
        "client.cert-identity",
        "client-cert-identity",
        "What of a client's certificate is its name: spiffe | dns | cn",
    ),
    row(
        "peer.listen-urls",
        "listen-peer-urls",
        "Where to listen for other members",
    ),
    row(
        "peer.advertise-urls",
        "initial-advertise-peer-urls",
        "Where other members reach this one [default: the listen URLs]",
    ),
    row(
        "peer.tls.cert-file",
        "peer-cert-file",
        "Certificate of the peer port, PEM",
    ),
    row("peer.tls.key-file", "peer-key-file", "Its key, PEM"),
    row(
        "peer.tls.trusted-ca-file",
        "peer-trusted-ca-file",
        "Authorities of members, PEM",
    ),
    row(
        "peer.tls.client-cert-auth",
        "peer-client-cert-auth",
        "Members must show a certificate (always so with a trusted authority)",
    ),
    row(
        "cluster.initial-cluster",
        "initial-cluster",
        "name=peer-url of every first member, comma separated",
    ),
    row(
        "cluster.initial-cluster-state",
        "initial-cluster-state",
        "new | existing",
    ),
    row(
        "cluster.initial-cluster-token",
        "initial-cluster-token",
        "Keeps clusters apart that were founded from the same URLs",
    ),
    row(
        "cluster.strict-reconfig-check",
        "strict-reconfig-check",
        "Refuse membership changes that leave too few members running",
    ),
    also(
        row("cluster.max-learners", "max-learners", "The most learners"),
        "experimental-max-learners",
    ),
    row(
        "raft.heartbeat-interval",
        "heartbeat-interval",
        "Between heartbeats, in milliseconds",
    ),
    row(
        "raft.election-timeout",
        "election-timeout",
        "Without a heartbeat for so long a member looks for a new leader, in milliseconds",
    ),
    row(
        "raft.snapshot-count",
        "snapshot-count",
        "Accepted because etcd has it; snapshots are made by the bytes the log grew",
    ),
    row(
        "limits.quota-backend-bytes",
        "quota-backend-bytes",
        "Bytes over all tenants at which NOSPACE is raised; 0 is 2 GiB, below 0 is never",
    ),
    row(
        "limits.request-bytes",
        "max-request-bytes",
        "The most bytes of one write",
    ),
    row(
        "limits.txn-ops",
        "max-txn-ops",
        "The most operations in one level of a transaction",
    ),
    row(
        "limits.connections",
        "max-connections",
        "Connections open on the client port",
    ),
    row(
        "limits.streams-per-connection",
        "max-concurrent-streams",
        "Requests and watches open on one connection",
    ),
    row(
        "compaction.mode",
        "auto-compaction-mode",
        "periodic | revision",
    ),
    row(
        "compaction.retention",
        "auto-compaction-retention",
        "How much history to keep: hours or a duration, or revisions; 0 is all",
    ),
    also(
        row(
            "watch.progress-notify-interval",
            "watch-progress-notify-interval",
            "Between progress messages of a quiet watch",
        ),
        "experimental-watch-progress-notify-interval",
    ),
    row(
        "log.level",
        "log-level",
        "debug | info | warn | error, or a filter by module",
    ),
    row("log.format", "log-format", "text | json"),
    row("log.metrics", "metrics", "basic | extensive"),
    row(
        "log.otlp-endpoint",
        "otlp-endpoint",
        "Where traces go: an OTLP gRPC receiver",
    ),
];

/// The default of a setting, as the file would hold it. None if there is no such place.
pub fn default_of(place: &str) -> Option<toml::Value> {
    let defaults = toml::Value::try_from(Settings::default()).ok()?;
    place
        .split('.')
        .try_fold(defaults, |value, key| value.get(key).cloned())
}

/// Adds a flag and a variable for every setting, and `--config`.
pub fn flags(mut command: Command) -> Command {
    command = command.arg(
        Arg::new("config")
            .long("config")
            .alias("config-file")
            .env("MERIDIAN_CONFIG")
            .value_name("FILE")
            .help("Settings file, TOML; flags and variables go over it"),
    );
    for row in ROWS {
        let default = default_of(row.place);
        let mut arg = Arg::new(row.flag)
            .long(row.flag)
            .env(format!(
                "MERIDIAN_{}",
                row.flag.replace('-', "_").to_uppercase()
            ))
            .hide_env(true)
            .action(ArgAction::Set)
            .help(help(row, default.as_ref()));
        if let Some(alias) = row.alias {
            arg = arg.alias(alias);
        }
        arg = match default {
            Some(toml::Value::Boolean(_)) => arg
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_name("true|false"),
            Some(toml::Value::Integer(_)) => arg.value_name("N").allow_negative_numbers(true),
            Some(toml::Value::Array(_)) => arg.value_name("URL,..."),
            _ => arg.value_name("TEXT"),
        };
        command = command.arg(arg);
    }
    command
}

fn help(row: &Row, default: Option<&toml::Value>) -> String {
    let shown = match default {
        Some(toml::Value::String(text)) if !text.is_empty() => text.clone(),
        Some(toml::Value::Integer(number)) => number.to_string(),
        Some(toml::Value::Boolean(true)) => "true".into(),
        Some(toml::Value::Array(items)) => items
            .iter()
            .filter_map(toml::Value::as_str)
            .collect::<Vec<_>>()
            .join(","),
        _ => String::new(),
    };
    if shown.is_empty() || row.help.contains("[default") {
        row.help.into()
    } else {
        format!("{} [default: {shown}]", row.help)
    }
}

/// What flags and variables gave.
pub fn given(matches: &ArgMatches) -> Vec<(&'static str, String)> {
    ROWS.iter()
        .filter_map(|row| Some((row.flag, matches.get_one::<String>(row.flag)?.clone())))
        .collect()
}

/// Lays one flag's value over the tree of the file.
pub fn lay(tree: &mut toml::Table, flag: &str, value: &str) -> Result<(), SettingsError> {
    let Some(row) = ROWS.iter().find(|row| row.flag == flag) else {
        return Err(SettingsError::Contradiction(format!(
            "--{flag} is not a setting"
        )));
    };
    let wrong = |expected| SettingsError::Value {
        flag: row.flag,
        value: value.to_owned(),
        expected,
    };
    let parsed = match default_of(row.place) {
        Some(toml::Value::Boolean(_)) => {
            toml::Value::Boolean(value.parse().map_err(|_| wrong("true or false"))?)
        }
        Some(toml::Value::Integer(_)) => {
            toml::Value::Integer(value.parse().map_err(|_| wrong("a whole number"))?)
        }
        Some(toml::Value::Array(_)) => toml::Value::Array(
            value
                .split(',')
                .map(|item| toml::Value::String(item.trim().to_owned()))
                .collect(),
        ),
        _ => toml::Value::String(value.to_owned()),
    };
    let (sections, key) = row.place.rsplit_once('.').unwrap_or(("", row.place));
    let mut section = tree;
    for name in sections.split('.').filter(|name| !name.is_empty()) {
        let entry = section
            .entry(name)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        let toml::Value::Table(inner) = entry else {
            return Err(SettingsError::Contradiction(format!(
                "`{name}` must be a section"
            )));
        };
        section = inner;
    }
    section.insert(key.to_owned(), parsed);
    Ok(())
}
