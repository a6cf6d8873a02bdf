//! Settings that do not go together, found before anything is opened.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meridian_domain::limits;

use super::{AutoCompaction, Compaction, Settings, SettingsError, Tls};
use crate::authn::certificate::Naming;

/// An address to listen on or to reach, parsed from a URL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Whether the URL says https.
    pub secure: bool,
    /// Name or number, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Address {
    /// `host:port`, with brackets around a number of version 6.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Parses `http://host:port` or `https://host:port`, with nothing behind the port.
pub fn address(url: &str) -> Result<Address, SettingsError> {
    let wrong = |why: &str| {
        SettingsError::Contradiction(format!(
            "{url:?} is not an address: {why}; write it like http://10.0.0.1:2379"
        ))
    };
    let (secure, rest) = if let Some(rest) = url.strip_prefix("http://") {
        (false, rest)
    } else if let Some(rest) = url.strip_prefix("https://") {
        (true, rest)
    } else {
        return Err(wrong("it begins with neither http:// nor https://"));
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#', '@', ' ']) {
        return Err(wrong("it has more than a host and a port"));
    }
    let (host, port) = authority
        .rsplit_once(':')
        .ok_or_else(|| wrong("it has no port"))?;
    let host = match host.strip_prefix('[').map(|inner| inner.strip_suffix(']')) {
        Some(Some(inner)) => inner,
        Some(None) => return Err(wrong("its brackets do not match")),
        None if host.contains(':') => return Err(wrong("a version 6 number needs brackets")),
        None => host,
    };
    if host.is_empty() {
        return Err(wrong("it has no host"));
    }
    let port = port
        .parse()
        .map_err(|_| wrong("its port is not a number up to 65535"))?;
    Ok(Address {
        secure,
        host: host.to_owned(),
        port,
    })
}

/// The first members of the cluster, by name, with their peer URLs.
pub fn initial_cluster(
    settings: &Settings,
) -> Result<BTreeMap<String, Vec<String>>, SettingsError> {
    let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let text = &settings.cluster.initial_cluster;
    if text.is_empty() {
        members.insert(
            settings.name.clone(),
            settings.advertised_peer_urls().to_vec(),
        );
        return Ok(members);
    }
    let mut seen = BTreeSet::new();
    for part in text.split(',').map(str::trim) {
        let Some((name, url)) = part.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(SettingsError::Contradiction(format!(
                "--initial-cluster: {part:?} is not name=peer-url"
            )));
        };
        let parsed = address(url)?;
        if !seen.insert(parsed.authority()) {
            return Err(SettingsError::Contradiction(format!(
                "--initial-cluster: the address {} stands there twice; every member has its own",
                parsed.authority()
            )));
        }
        members
            .entry(name.to_owned())
            .or_default()
            .push(url.to_owned());
    }
    Ok(members)
}

/// How much history automatic compaction keeps; none is all.
pub fn auto_compaction(of: &Compaction) -> Result<Option<AutoCompaction>, SettingsError> {
    let wrong = |what: &str| {
        SettingsError::Contradiction(format!(
            "--auto-compaction-retention: {:?} is not {what}",
            of.retention
        ))
    };
    match of.mode.as_str() {
        "revision" => match of.retention.parse::<u64>() {
            Ok(0) => Ok(None),
            Ok(revisions) => Ok(Some(AutoCompaction::Revisions(revisions))),
            Err(_) => Err(wrong(
                "a number of revisions, as --auto-compaction-mode revision needs",
            )),
        },
        "periodic" => {
            let period = match of.retention.parse::<u64>() {
                Ok(hours) => Duration::from_secs(hours.saturating_mul(3600)),
                Err(_) => humantime::parse_duration(&of.retention)
                    .map_err(|_| wrong("a number of hours or a duration like 30m"))?,
            };
            Ok((!period.is_zero()).then_some(AutoCompaction::Period(period)))
        }
        other => Err(SettingsError::Contradiction(format!(
            "--auto-compaction-mode: {other:?} is neither `periodic` nor `revision`"
        ))),
    }
}

/// Refuses what can not work, naming the settings by their flags.
pub fn check(settings: &Settings) -> Result<(), SettingsError> {
    let no = |text: String| Err(SettingsError::Contradiction(text));
    if settings.name.is_empty() || settings.name.contains([',', '=']) {
        return no(format!(
            "--name: {:?} is empty or holds `,` or `=`",
            settings.name
        ));
    }
    let client = &settings.client;
    let peer = &settings.peer;
    port("listen-client-urls", &client.listen_urls, "", &client.tls)?;
    port("listen-peer-urls", &peer.listen_urls, "peer-", &peer.tls)?;
    reachable("advertise-client-urls", settings.advertised_client_urls())?;
    reachable(
        "initial-advertise-peer-urls",
        settings.advertised_peer_urls(),
    )?;
    members(settings)?;
    if Naming::named(&client.cert_identity).is_none() {
        return no(format!(
            "--client-cert-identity: {:?} is none of spiffe, dns, cn",
            client.cert_identity
        ));
    }

    let raft = &settings.raft;
    if raft.heartbeat_interval == 0 {
        return no("--heartbeat-interval must be above 0".into());
    }
    if raft.election_timeout < raft.heartbeat_interval.saturating_mul(5) {
        return no(format!(
            "--election-timeout[{}ms] should be at least as 5 times as --heartbeat-interval[{}ms]",
            raft.election_timeout, raft.heartbeat_interval
        ));
    }
    if raft.election_timeout > 50_000 {
        return no(format!(
            "--election-timeout[{}ms] is too long, and should be set less than 50000ms",
            raft.election_timeout
        ));
    }
    if raft.snapshot_count == 0 {
        return no("--snapshot-count must be above 0".into());
    }

    let bounds = &settings.limits;
    within(
        "max-request-bytes",
        bounds.request_bytes,
        1024,
        limits::REQUEST_BYTES_MAX,
    )?;
    within("max-txn-ops", bounds.txn_ops, 1, limits::TXN_OPS_MAX)?;
    within("max-connections", bounds.connections, 1, 1_000_000)?;
    within(
        "max-concurrent-streams",
        bounds.streams_per_connection as usize,
        1,
        1_000_000,
    )?;
    within(
        "max-learners",
        settings.cluster.max_learners,
        0,
        limits::MEMBERS_MAX,
    )?;

    auto_compaction(&settings.compaction)?;
    let interval = &settings.watch.progress_notify_interval;
    match humantime::parse_duration(interval) {
        Ok(interval) if interval >= Duration::from_millis(100) => {}
        _ => {
            return no(format!(
                "--watch-progress-notify-interval: {interval:?} is not a duration of at least 100ms"
            ));
        }
    }
    one_of("log-format", &settings.log.format, &["text", "json"])?;
    one_of("metrics", &settings.log.metrics, &["basic", "extensive"])?;
    Ok(())
}

fn within(flag: &str, value: usize, min: usize, max: usize) -> Result<(), SettingsError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(SettingsError::Contradiction(format!(
        "--{flag}: {value} is not within {min} to {max}"
    )))
}

fn one_of(flag: &str, value: &str, allowed: &[&str]) -> Result<(), SettingsError> {
    if allowed.contains(&value) {
        return Ok(());
    }
    Err(SettingsError::Contradiction(format!(
        "--{flag}: {value:?} is not one of {}",
        allowed.join(", ")
    )))
}

/// A port's URLs and certificates must say the same about encryption.
fn port(flag: &str, urls: &[String], prefix: &str, tls: &Tls) -> Result<(), SettingsError> {
    let no = |text: String| Err(SettingsError::Contradiction(text));
    if urls.is_empty() {
        return no(format!("--{flag} is empty"));
    }
    if tls.cert_file.is_empty() != tls.key_file.is_empty() {
        return no(format!(
            "--{prefix}cert-file and --{prefix}key-file go together"
        ));
    }
    if tls.client_cert_auth && tls.trusted_ca_file.is_empty() {
        return no(format!(
            "--{prefix}client-cert-auth needs --{prefix}trusted-ca-file to check certificates against"
        ));
    }
    if !tls.is_on() && !tls.trusted_ca_file.is_empty() {
        return no(format!(
            "--{prefix}trusted-ca-file needs --{prefix}cert-file and --{prefix}key-file"
        ));
    }
    for url in urls {
        let parsed = address(url)?;
        if parsed.secure && !tls.is_on() {
            return no(format!(
                "--{flag} says {url} but there is no --{prefix}cert-file and --{prefix}key-file"
            ));
        }
        if !parsed.secure && tls.is_on() {
            return no(format!(
                "--{flag} says {url} in plain text though --{prefix}cert-file is set; write https://"
            ));
        }
    }
    Ok(())
}

/// What is told to others must be an address they can use.
fn reachable(flag: &str, urls: &[String]) -> Result<(), SettingsError> {
    for url in urls {
        let parsed = address(url)?;
        if matches!(parsed.host.as_str(), "0.0.0.0" | "::") {
            return Err(SettingsError::Contradiction(format!(
                "--{flag}: nobody can reach {url}; set it to an address others can use"
            )));
        }
    }
    Ok(())
}

fn members(settings: &Settings) -> Result<(), SettingsError> {
    let no = |text: String| Err(SettingsError::Contradiction(text));
    let cluster = &settings.cluster;
    one_of(
        "initial-cluster-state",
        &cluster.initial_cluster_state,
        &["new", "existing"],
    )?;
    let members = initial_cluster(settings)?;
    if members.len() > limits::MEMBERS_MAX {
        return no(format!(
            "--initial-cluster has {} members; a cluster has at most {}",
            members.len(),
            limits::MEMBERS_MAX
        ));
    }
    let Some(own) = members.get(&settings.name) else {
        return no(format!(
            "couldn't find local name {:?} in the initial cluster configuration; --name and \
             --initial-cluster must agree",
            settings.name
        ));
    };
    let told: BTreeSet<_> = settings
        .advertised_peer_urls()
        .iter()
        .map(|url| address(url))
        .collect::<Result<_, _>>()?;
    let listed: BTreeSet<_> = own
        .iter()
        .map(|url| address(url))
        .collect::<Result<_, _>>()?;
    if told != listed {
        return no(format!(
            "--initial-cluster has {} for {} but --initial-advertise-peer-urls has {}",
            own.join(","),
            settings.name,
            settings.advertised_peer_urls().join(",")
        ));
    }
    if cluster.initial_cluster_state == "existing" && members.len() < 2 {
        return no(
            "--initial-cluster-state existing needs --initial-cluster to name a member to join"
                .into(),
        );
    }
    Ok(())
}
