//! `meridian snapshot restore`: a data directory for one member of a new cluster.
//!
//! Every member of the new cluster restores the same file with the same `--initial-cluster` and token, and
//! so comes to the same state at the same position of a new log.
//!
//! ```text
//! file --verify--> rows, facts under new members --> <data-dir>.partial --rename--> <data-dir>
//!                                                     identity, snapshots/, wal/ with a first vote
//! ```
//!
//! The snapshot may be older than what clients of the lost cluster have seen. With `--bump-revision N
//! --mark-compacted`, as in etcdutl, every tenant's revision is raised by N and all below is compacted: no revision is
//! given out a second time, and watches and caches that hold older ones are told so and begin afresh.
//!
//! The file may also be one of etcd's, saved of an etcd or of Meridian: this is how to move from one to the other.
//!
//! The directory gets its name last, so a restore that was interrupted can not be mistaken for a member.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use meridian_domain::revision::LogId;
use meridian_raft::form::{founding_membership, founding_vote};
use meridian_raft::settings::Start;
use meridian_storage::disk::{Disk, OsDisk};
use meridian_storage::fault::Fault;
use meridian_storage::import;
use meridian_storage::machine::{bumped, refound};
use meridian_storage::row::Rows;
use meridian_storage::seal::{Plain, Seal};
use meridian_storage::snapshot::{self, restore::Restored, write::write_rows};
use meridian_storage::wal::{self, Wal};
use serde_json::json;

use super::save::sync_folder_of;
use super::status::unusable;
use crate::cli::failure::Failure;
use crate::cli::out::{Form, Out, member_id};
use crate::directory::Directory;
use crate::pipeline::Ids;
use crate::run::founding;
use crate::settings::Settings;

/// Where the log of a restored cluster begins.
const BEGINNING: LogId = LogId { term: 1, index: 1 };

/// `snapshot restore`.
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The snapshot file: of `meridian snapshot save`, or of `etcdctl snapshot save`
    file: PathBuf,
    /// The directory to make; it must not exist
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// The member's name
    #[arg(long)]
    name: Option<String>,
    /// All members of the new cluster: NAME=PEER-URL, separated by commas
    #[arg(long, value_name = "MEMBERS")]
    initial_cluster: Option<String>,
    /// A word that tells the new cluster from others
    #[arg(long, value_name = "WORD")]
    initial_cluster_token: Option<String>,
    /// Where the other members reach this one, separated by commas
    #[arg(long, value_name = "URL")]
    initial_advertise_peer_urls: Option<String>,
    /// By how much to raise every tenant's revision: more than were written since the snapshot
    #[arg(long, value_name = "REVISIONS", requires = "mark_compacted")]
    bump_revision: Option<u64>,
    /// Compact everything below the raised revision, so that watches and caches begin afresh
    #[arg(long, requires = "bump_revision")]
    mark_compacted: bool,
    /// Take a file of etcd's that has no hash (copied from a data directory), or another one than it says
    #[arg(long)]
    skip_hash_check: bool,
}

impl Restore {
    pub(super) async fn run(&self, out: &mut Out) -> Result<(), Failure> {
        if self.data_dir.exists() {
            let text = format!("{} exists already", self.data_dir.display());
            return Err(Failure::refused(text).hint("name a directory that does not exist"));
        }
        let etcd = super::etcd::inspected(&self.file)?;
        if let Some(etcd) = &etcd {
            super::etcd::judge(&self.file, etcd.sum, self.skip_hash_check)?;
            super::etcd::warn(&self.file, etcd);
        } else {
            super::status::verified(&self.file)?;
        }
        let mut partial = self.data_dir.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        remove(&partial)?;
        let spinner = super::spinner("restoring");
        let made = self.make(&partial, etcd.is_some()).await;
        spinner.finish_and_clear();
        let ids = match made {
            Ok(ids) => ids,
            Err(failure) => {
                remove(&partial)?;
                return Err(failure);
            }
        };
        let named = fs::rename(&partial, &self.data_dir);
        named
            .and_then(|()| sync_folder_of(&self.data_dir))
            .map_err(|error| {
                Failure::io(&format!("can not make {}", self.data_dir.display()), &error)
            })?;
        self.show(out, ids)
    }

    /// The settings the member will start with, as far as they decide who it is.
    fn settings(&self) -> Result<Settings, Failure> {
        let flags = [
            ("name", self.name.clone()),
            ("initial-cluster", self.initial_cluster.clone()),
            ("initial-cluster-token", self.initial_cluster_token.clone()),
            (
                "initial-advertise-peer-urls",
                self.initial_advertise_peer_urls.clone(),
            ),
        ];
        let given: Vec<_> = flags
            .into_iter()
            .filter_map(|(flag, value)| Some((flag, value?)))
            .collect();
        Settings::load(None, &given).map_err(|error| Failure::usage(error.to_string()))
    }

    /// Makes everything in `path`.
    async fn make(&self, path: &Path, etcd: bool) -> Result<Ids, Failure> {
        let settings = self.settings()?;
        let directory = Directory::open(path).map_err(|e| Failure::refused(e.to_string()))?;
        let standpoint = founding::settle(&settings, &directory, None)
            .await
            .map_err(|error| Failure::refused(error.to_string()))?;
        let Start::Found(founders) = &standpoint.start else {
            return Err(Failure::usage("a restored cluster is a new one"));
        };
        if !founders
            .iter()
            .any(|founder| founder.id == standpoint.ids.member)
        {
            let text = format!(
                "--initial-cluster does not name the member {:?}",
                settings.name
            );
            return Err(Failure::usage(text).hint("name it with --name as in --initial-cluster"));
        }
        let membership = founding_membership(BEGINNING, founders)
            .map_err(|error| Failure::refused(error.to_string()))?;
        let fault = |fault: Fault| unusable(&self.file, &fault);
        let disk: Arc<dyn Disk> = Arc::new(OsDisk::new());
        let seal: Arc<dyn Seal> = Arc::new(Plain);
        let mut rows: Box<dyn Rows> = if etcd {
            Box::new(import::open(disk.as_ref(), &self.file).map_err(fault)?)
        } else {
            Box::new(snapshot::open(disk.as_ref(), &seal, &self.file).map_err(fault)?)
        };
        let by = self.bump_revision.unwrap_or(0);
        let change = Box::new(|facts| {
            let facts = refound(facts, &membership)?;
            if by == 0 {
                return Ok(facts);
            }
            bumped(facts, by)
        });
        let mut restored = Restored::new(rows.as_mut(), BEGINNING, change);
        let snapshots = directory.snapshots();
        disk.create_dir_all(&snapshots).map_err(fault)?;
        let cluster = standpoint.ids.cluster;
        let head = Some(membership.clone());
        write_rows(
            disk.as_ref(),
            &seal,
            &snapshots,
            cluster,
            head,
            &mut restored,
        )
        .map_err(fault)?;
        begin_log(&disk, &seal, &directory, standpoint.ids.member).map_err(fault)?;
        Ok(standpoint.ids)
    }

    fn show(&self, out: &mut Out, ids: Ids) -> Result<(), Failure> {
        let (member, cluster) = (member_id(ids.member), member_id(ids.cluster));
        let dir = self.data_dir.display();
        if out.form_or(Form::Simple) == Form::Json {
            let dir = dir.to_string();
            out.json(&json!({"data_dir": dir, "member_id": member, "cluster_id": cluster}))?;
            return Ok(());
        }
        out.line(format!(
            "Restored member {member} of the new cluster {cluster} to {dir}"
        ))?;
        out.line(
            "\nRestore the other members, if there are any, from the same file; then start with:\n",
        )?;
        let flags = [
            ("name", &self.name),
            ("initial-cluster", &self.initial_cluster),
            ("initial-cluster-token", &self.initial_cluster_token),
            (
                "initial-advertise-peer-urls",
                &self.initial_advertise_peer_urls,
            ),
        ];
        let mut line = format!("meridian server --data-dir {dir}");
        for (flag, value) in flags {
            if let Some(value) = value {
                line.push_str(&format!(" \\\n  --{flag} {value}"));
            }
        }
        out.line(line)?;
        Ok(())
    }
}

/// Begins the log with a vote: a member whose state is there and whose log is not has lost its log.
fn begin_log(
    disk: &Arc<dyn Disk>,
    seal: &Arc<dyn Seal>,
    directory: &Directory,
    member: u64,
) -> Result<(), Fault> {
    let settings = wal::Settings::default();
    let (log, _) = Wal::open(
        Arc::clone(disk),
        Arc::clone(seal),
        &directory.wal(),
        settings,
    )?;
    let (done, saved) = std::sync::mpsc::sync_channel(1);
    let vote = founding_vote(member, BEGINNING);
    log.save_vote(
        vote,
        Box::new(move |outcome| {
            // Nobody waits any more only if this function has ended.
            let _ = done.send(outcome);
        }),
    );
    let stopped = || Fault::Poisoned {
        part: "log",
        cause: "the writer ended".into(),
    };
    let outcome = saved.recv().unwrap_or_else(|_| Err(stopped()));
    log.close();
    outcome
}

/// Removes what an earlier restore left.
fn remove(partial: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(partial) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Failure::io(
            &format!("can not remove {}", partial.display()),
            &error,
        )),
        _ => Ok(()),
    }
}
