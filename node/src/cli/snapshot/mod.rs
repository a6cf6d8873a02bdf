//! `meridian snapshot`: everything a cluster holds, in one file.
//!
//! ```text
//! cluster --save--> file --status--> what is in it
//!                     '---restore--> data directory of each member of a new cluster
//! ```
//!
//! Status and restore also take what `etcdctl snapshot save` made, of Meridian or of an etcd ([`etcd`]).

mod etcd;
mod restore;
mod save;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::failure::Failure;
use super::out::Out;
use super::reach::Reach;

/// Snapshots.
#[derive(Debug, Args)]
pub(super) struct Snapshot {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Save a snapshot of the first endpoint to a file
    Save {
        /// The file to write; it is replaced only once the whole snapshot is there
        file: PathBuf,
    },
    /// Verify a snapshot file (Meridian's or etcd's) and show what is in it
    Status {
        /// The file
        file: PathBuf,
    },
    /// Make the data directory of one member of a new cluster from a snapshot file
    ///
    /// Migrating from etcd: restore what `etcdctl snapshot save` made of it; its keys become the tenant `default`.
    Restore(restore::Restore),
}

impl Snapshot {
    pub(super) async fn run(&self, reach: &Reach, out: &mut Out) -> Result<ExitCode, Failure> {
        match &self.verb {
            Verb::Save { file } => save::run(reach, out, file).await?,
            Verb::Status { file } => status::run(out, file)?,
            Verb::Restore(restore) => restore.run(out).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A bar on standard error, if that is a terminal, for work of a known size.
fn bar(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let template = "{msg} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.with_message(what)
}

/// A sign of life on standard error, if that is a terminal, for work of an unknown size.
fn spinner(what: &'static str) -> ProgressBar {
    let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner.with_message(what)
}
