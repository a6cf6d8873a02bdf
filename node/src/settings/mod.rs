//! How one member runs: file, environment, flags. Never called configuration: that is the product.
//!
//! ```text
//!   defaults  <-  --config FILE (TOML)  <-  MERIDIAN_* variables  <-  flags        the right one wins
//! ```
//!
//! Every setting is a field here, a key of the file, a flag and a variable; [`table`] lists them, one line each,
//! and a test holds the list against these fields. Flags have etcd's names where etcd has the thing. Unknown keys
//! and settings that contradict each other are refused before anything is opened ([`check`]). Settings are read
//! once and passed; nothing looks at the environment later.

pub mod check;
pub mod table;

use std::path::{Path, PathBuf};
use std::time::Duration;

use meridian_domain::limits;
use serde::{Deserialize, Serialize};

use crate::authn::certificate::Naming;

/// etcd's default election timeout, on which its clients' expectations rest.
const ETCD_ELECTION_TIMEOUT: Duration = Duration::from_secs(1);

/// Everything about how one member runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// The member's name, unique in the cluster.
    pub name: String,
    /// Where its data lies; empty: `<name>.meridian` in the working directory.
    pub data_dir: String,
    /// The region it stands in; free text.
    pub region: String,
    /// The zone within the region; free text.
    pub zone: String,
    /// The port clients talk to.
    pub client: Client,
    /// The port other members talk to.
    pub peer: Peer,
    /// How the cluster is found or founded.
    pub cluster: Cluster,
    /// The clockwork of agreement.
    pub raft: Raft,
    /// Bounds.
    pub limits: Limits,
    /// Automatic compaction.
    pub compaction: Compaction,
    /// Watches.
    pub watch: Watch,
    /// What it tells about itself.
    pub log: Log,
}

/// The port clients talk to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Client {
    /// Where to listen, as URLs.
    pub listen_urls: Vec<String>,
    /// Where clients reach this member; empty: the listen URLs.
    pub advertise_urls: Vec<String>,
    /// Certificates, and whether clients must have one.
    pub tls: Tls,
    /// What of a client's certificate is its name: `spiffe`, `dns` or `cn`.
    pub cert_identity: String,
}

/// The port other members talk to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Peer {
    /// Where to listen, as URLs.
    pub listen_urls: Vec<String>,
    /// Where other members reach this one.
    pub advertise_urls: Vec<String>,
    /// Certificates; with a trusted authority both sides must show one.
    pub tls: Tls,
}

/// Certificates of one port. Empty paths: plain text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Tls {
    /// The certificate chain, PEM.
    pub cert_file: String,
    /// Its key, PEM.
    pub key_file: String,
    /// The authorities whose certificates the other side may show, PEM.
    pub trusted_ca_file: String,
    /// Whether the other side must show one.
    pub client_cert_auth: bool,
}

/// How the cluster is found or founded.
#[expect(clippy::struct_field_names, reason = "the names are etcd's")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cluster {
    /// `name=peer-url` of every first member, comma separated; empty: this member alone.
    pub initial_cluster: String,
    /// `new` to found a cluster, `existing` to join one.
    pub initial_cluster_state: String,
    /// Keeps clusters apart that were founded from the same URLs.
    pub initial_cluster_token: String,
    /// Refuse changes of the membership that would leave too few members running.
    pub strict_reconfig_check: bool,
    /// The most learners.
    pub max_learners: usize,
}

/// The clockwork of agreement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Raft {
    /// Between heartbeats, in milliseconds.
    pub heartbeat_interval: u64,
    /// Without a heartbeat for so long a member looks for a new leader, in milliseconds.
    pub election_timeout: u64,
    /// Accepted because etcd has it; snapshots are made by the bytes the log grew.
    pub snapshot_count: u64,
}

/// Bounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Limits {
    /// Bytes of keys and values over all tenants at which the alarm NOSPACE is raised; 0 is 2 GiB, below 0 never.
    pub quota_backend_bytes: i64,
    /// The most bytes of one encoded write.
    pub request_bytes: usize,
    /// The most operations in one level of a transaction.
    pub txn_ops: usize,
    /// Connections open on the client port.
    pub connections: usize,
    /// Requests and watches open on one connection.
    pub streams_per_connection: u32,
}

/// Automatic compaction of tenants that have no retention of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Compaction {
    /// `periodic` or `revision`.
    pub mode: String,
    /// How much to keep: hours or a duration if periodic, a number of revisions otherwise; `0` is off.
    pub retention: String,
}

/// Watches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Watch {
    /// Between progress messages of a quiet watch that asked for them, as a duration.
    pub progress_notify_interval: String,
}

/// What the member tells about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Log {
    /// `debug`, `info`, `warn`, `error`, or a filter by module.
    pub level: String,
    /// `text` or `json`.
    pub format: String,
    /// `basic`, or `extensive` with a histogram of every method's latency.
    pub metrics: String,
    /// Where traces go, as the URL of an OTLP gRPC receiver; empty: nowhere.
    pub otlp_endpoint: String,
}

/// How much history automatic compaction keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// The last so many revisions.
    Revisions(u64),
    /// What is younger than this.
    Period(Duration),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "default".into(),
            data_dir: String::new(),
            region: String::new(),
            zone: String::new(),
            client: Client::default(),
            peer: Peer::default(),
            cluster: Cluster::default(),
            raft: Raft::default(),
            limits: Limits::default(),
            compaction: Compaction::default(),
            watch: Watch::default(),
            log: Log::default(),
        }
    }
}

impl Default for Client {
    fn default() -> Self {
        Self {
            listen_urls: vec!["http://127.0.0.1:2379".into()],
            advertise_urls: vec![],
            tls: Tls::default(),
            cert_identity: "spiffe".into(),
        }
    }
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            listen_urls: vec!["http://127.0.0.1:2380".into()],
            advertise_urls: vec![],
            tls: Tls::default(),
        }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            initial_cluster: String::new(),
            initial_cluster_state: "new".into(),
            initial_cluster_token: "meridian-cluster".into(),
            strict_reconfig_check: true,
            max_learners: 8,
        }
    }
}

impl Default for Raft {
    fn default() -> Self {
        Self {
            heartbeat_interval: 50,
            election_timeout: 500,
            snapshot_count: 100_000,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            quota_backend_bytes: 0,
            request_bytes: limits::REQUEST_BYTES_MAX,
            txn_ops: limits::TXN_OPS_MAX,
            connections: 16_384,
            streams_per_connection: 65_536,
        }
    }
}

impl Default for Compaction {
    fn default() -> Self {
        Self {
            mode: "periodic".into(),
            retention: "0".into(),
        }
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            progress_notify_interval: "10m".into(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".into(),
            format: "text".into(),
            metrics: "basic".into(),
            otlp_endpoint: String::new(),
        }
    }
}

/// Why the settings can not be used. `Display` names the setting and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file can not be read.
    #[error("--config {path}: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML, or has a key that is not a setting.
    #[error("--config {path}: {source}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: toml::de::Error,
    },
    /// A flag or variable has a value of the wrong kind.
    #[error("--{flag}: {value:?} is not {expected}")]
    Value {
        /// The flag.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// Settings that do not go together, or are out of bounds.
    #[error("{0}")]
    Contradiction(String),
}

impl Settings {
    /// Reads the file, lays `given` (flag, value) over it in order, and checks the whole.
    pub fn load(
        file: Option<&Path>,
        given: &[(&'static str, String)],
    ) -> Result<Self, SettingsError> {
        let mut tree = toml::Table::new();
        if let Some(path) = file {
            let text =
                std::fs::read_to_string(path).map_err(|source| SettingsError::Unreadable {
                    path: path.into(),
                    source,
                })?;
            let malformed = |source| SettingsError::Malformed {
                path: path.into(),
                source,
            };
            // Once for its words on unknown keys, which name the line.
            toml::from_str::<Self>(&text).map_err(malformed)?;
            tree = text.parse().map_err(malformed)?;
        }
        for (flag, value) in given {
            table::lay(&mut tree, flag, value)?;
        }
        let settings: Self = tree
            .try_into()
            .map_err(|error: toml::de::Error| SettingsError::Contradiction(error.to_string()))?;
        check::check(&settings)?;
        Ok(settings)
    }

    /// Where the data lies.
    pub fn data_dir(&self) -> PathBuf {
        if self.data_dir.is_empty() {
            format!("{}.meridian", self.name).into()
        } else {
            (&self.data_dir).into()
        }
    }

    /// How long a request may take: etcd's five seconds and two elections, etcd's of a second at least.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout().max(ETCD_ELECTION_TIMEOUT)
    }

    /// The least time to live of a lease, in seconds: it must outlive an election. Clients of etcd with its
    /// default settings see 2, and so do ours though our elections are shorter.
    pub fn lease_ttl_seconds_min(&self) -> i64 {
        let election = self.election_timeout().max(ETCD_ELECTION_TIMEOUT);
        (election.as_millis() as i64 * 3 + 1999) / 2000
    }

    /// [`Raft::election_timeout`].
    pub fn election_timeout(&self) -> Duration {
        Duration::from_millis(self.raft.election_timeout)
    }

    /// [`Raft::heartbeat_interval`].
    pub fn heartbeat_interval(&self) -> Duration {
        Duration::from_millis(self.raft.heartbeat_interval)
    }

    /// Where clients reach this member.
    pub fn advertised_client_urls(&self) -> &[String] {
        if self.client.advertise_urls.is_empty() {
            &self.client.listen_urls
        } else {
            &self.client.advertise_urls
        }
    }

    /// Where other members reach this one.
    pub fn advertised_peer_urls(&self) -> &[String] {
        if self.peer.advertise_urls.is_empty() {
            &self.peer.listen_urls
        } else {
            &self.peer.advertise_urls
        }
    }

    /// The bytes over all tenants at which `NOSPACE` is raised; none is never.
    pub fn quota_bytes(&self) -> Option<u64> {
        match self.limits.quota_backend_bytes {
            0 => Some(2 << 30),
            bytes => u64::try_from(bytes).ok(),
        }
    }

    /// How much history automatic compaction keeps; none is all.
    pub fn auto_compaction(&self) -> Option<AutoCompaction> {
        check::auto_compaction(&self.compaction).ok().flatten()
    }

    /// What of a client's certificate is its name.
    pub fn certificate_naming(&self) -> Naming {
        Naming::named(&self.client.cert_identity).unwrap_or_default()
    }

    /// Between progress messages of a quiet watch.
    pub fn watch_progress_interval(&self) -> Duration {
        humantime::parse_duration(&self.watch.progress_notify_interval)
            .unwrap_or(Duration::from_mins(10))
    }
}

impl Tls {
    /// Whether the port is encrypted.
    pub fn is_on(&self) -> bool {
        !self.cert_file.is_empty()
    }
}

#[cfg(test)]
mod tests;
