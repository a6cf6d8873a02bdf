//! How one member takes part. Validated once, then passed.

use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

/// How one member takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The cluster.
    pub cluster_id: u64,
    /// This member; never used again after it is removed.
    pub member_id: u64,
    /// The random number its data directory was stamped with when it was made.
    pub instance: u64,
    /// Its name.
    pub name: String,
    /// How it comes to be a member, if its log is still empty.
    pub start: Start,
    /// It forgot entries it had acknowledged, and takes them from the leader before it votes again: see
    /// [`crate::recovery`].
    pub recovering: bool,
    /// How often a leader says it is alive, in milliseconds (etcd's `--heartbeat-interval`).
    pub heartbeat_interval_ms: u64,
    /// How long a leader may be silent before it is taken for lost, in milliseconds (etcd's
    /// `--election-timeout`). At least five heartbeats.
    pub election_timeout_ms: u64,
    /// A snapshot is made when the log grew by this many bytes since the last one, or by half the size of
    /// the last snapshot if that is more.
    pub snapshot_log_bytes: u64,
    /// How many entries are kept behind a snapshot, so that a member that lags a little needs none.
    pub entries_kept: u64,
    /// The most learners (etcd's `--experimental-max-learners`, which is 1).
    pub learners_max: usize,
    /// Refuse changes of the membership that would leave too few members that work (etcd's
    /// `--strict-reconfig-check`).
    pub strict_reconfiguration: bool,
    /// The most writes of this member that wait at a time; more are refused.
    pub writes_waiting_max: usize,
    /// The most bytes of them.
    pub write_bytes_waiting_max: usize,
    /// How often members compare the hashes of their states.
    pub digest_interval: Duration,
}

/// How a member comes to be one, if its log is still empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// It founds the cluster with others that were given the same list.
    Found(Vec<Founder>),
    /// It was added to a cluster that exists and waits to be reached by its leader.
    Join,
    /// It begins from a snapshot that was restored into its empty directory.
    Restore,
}

/// A founding member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founder {
    /// Its id, derived by [`crate::identity::founder_id`].
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where the others reach it.
    pub peer_urls: Vec<String>,
}

/// Settings that can not be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSettings {
    /// An id is missing.
    #[error("{0} must not be zero")]
    Zero(&'static str),
    /// Heartbeats and elections do not fit.
    #[error(
        "election-timeout ({election} ms) must be at least 5 times heartbeat-interval ({heartbeat} ms) \
         and at most 50000 ms"
    )]
    Timeouts {
        /// The election timeout.
        election: u64,
        /// The heartbeat interval.
        heartbeat: u64,
    },
    /// The founders do not fit.
    #[error("{0}")]
    Founders(String),
    /// openraft says no.
    #[error("{0}")]
    Config(String),
}

impl Settings {
    /// Sensible settings for a member.
    pub fn new(cluster_id: u64, member_id: u64, instance: u64, start: Start) -> Self {
        Self {
            cluster_id,
            member_id,
            instance,
            name: String::new(),
            start,
            recovering: false,
            heartbeat_interval_ms: 50,
            election_timeout_ms: 500,
            snapshot_log_bytes: 64 * 1024 * 1024,
            entries_kept: 10_000,
            learners_max: 8,
            strict_reconfiguration: true,
            writes_waiting_max: 16_384,
            write_bytes_waiting_max: 64 * 1024 * 1024,
            digest_interval: Duration::from_secs(5),
        }
    }

    /// Checks everything that does not need a disk or a network.
    pub fn validate(&self) -> Result<(), InvalidSettings> {
        for (id, name) in [
            (self.cluster_id, "the cluster id"),
            (self.member_id, "the member id"),
            (self.instance, "the instance"),
        ] {
            if id == 0 {
                return Err(InvalidSettings::Zero(name));
            }
        }
        let (heartbeat, election) = (self.heartbeat_interval_ms, self.election_timeout_ms);
        if heartbeat == 0 || election < heartbeat.saturating_mul(5) || election > 50_000 {
            return Err(InvalidSettings::Timeouts {
                election,
                heartbeat,
            });
        }
        if let Start::Found(founders) = &self.start {
            let mut ids: Vec<u64> = founders.iter().map(|founder| founder.id).collect();
            ids.sort_unstable();
            ids.dedup();
            if ids.len() != founders.len() {
                let text = "two founding members have the same peer URLs".into();
                return Err(InvalidSettings::Founders(text));
            }
            if !ids.contains(&self.member_id) {
                let text = "this member is not among the founding members: its initial-advertise-peer-urls \
                            must stand in initial-cluster under its name";
                return Err(InvalidSettings::Founders(text.into()));
            }
            if founders.len() > meridian_domain::limits::MEMBERS_MAX {
                return Err(InvalidSettings::Founders(
                    "too many founding members".into(),
                ));
            }
        }
        self.to_openraft().map(|_| ())
    }

    /// How long a leader may be silent before it is taken for lost.
    pub fn election_timeout(&self) -> Duration {
        Duration::from_millis(self.election_timeout_ms)
    }

    /// openraft's settings.
    ///
    /// openraft waits for the leader's lease (its `election_timeout_max`) and then for a random time between
    /// its two timeouts. Half and all of ours: a lost leader is replaced after 1.5 to 2 election timeouts.
    pub(crate) fn to_openraft(&self) -> Result<Config, InvalidSettings> {
        Config {
            cluster_name: format!("{:x}", self.cluster_id),
            heartbeat_interval: self.heartbeat_interval_ms,
            election_timeout_min: (self.election_timeout_ms / 2)
                .max(self.heartbeat_interval_ms + 1),
            election_timeout_max: self.election_timeout_ms,
            enable_pre_vote: Some(true),
            enable_elect: !self.recovering,
            // A restarted leader campaigns like everybody else.
            enable_leader_restore: Some(false),
            // Lets the others elect while a leader can send but not hear (openraft #2080).
            quorum_loss_probe_interval: Some(self.election_timeout_ms * 2),
            // A member that recovers comes back with less than it had; one that lost its disk and does not know
            // is turned away at the door (`network::roster`).
            allow_log_reversion: Some(true),
            // Driven by bytes: see `snapshot::Policy`.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: self.entries_kept,
            purge_batch_size: (self.entries_kept / 4).clamp(1, 256),
            // Requests are cut by bytes in the log reader; these only bound the count.
            max_payload_entries: 4096,
            max_append_entries: Some(8192),
            install_snapshot_timeout: 60_000,
            replication_lag_threshold: 1_000,
            backoff: "20ms 40ms 80ms ...500ms".into(),
            ..Config::default()
        }
        .validate()
        .map_err(|error| InvalidSettings::Config(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn settings() -> Settings {
        let founder = |id| Founder {
            id,
            name: String::new(),
            peer_urls: vec![],
        };
        Settings::new(1, 2, 3, Start::Found(vec![founder(2), founder(4)]))
    }

    #[test]
    fn the_defaults_are_valid() {
        settings().validate().unwrap();
    }

    #[test]
    fn contradictions_are_refused() {
        let mut wrong = settings();
        wrong.election_timeout_ms = wrong.heartbeat_interval_ms * 4;
        assert!(matches!(
            wrong.validate(),
            Err(InvalidSettings::Timeouts { .. })
        ));
        let mut wrong = settings();
        wrong.member_id = 9;
        assert!(matches!(
            wrong.validate(),
            Err(InvalidSettings::Founders(_))
        ));
        let mut wrong = settings();
        wrong.cluster_id = 0;
        assert!(matches!(wrong.validate(), Err(InvalidSettings::Zero(_))));
    }
}
