//! `meridian defrag`: give unused space back to the disks.

use std::process::ExitCode;

use clap::Args;
use meridian_client::Client;
use serde_json::json;

use super::failure::Failure;
use super::out::{Form, Out};
use super::status::of_members;

/// Gives unused space back to the disk, one endpoint after the other.
#[derive(Debug, Args)]
pub(super) struct Defrag {
    /// Every member of the cluster, not only the endpoints
    #[arg(long)]
    cluster: bool,
}

impl Defrag {
    pub(super) async fn run(&self, client: &Client, out: &mut Out) -> Result<ExitCode, Failure> {
        let client = if self.cluster {
            of_members(client).await?
        } else {
            client.clone()
        };
        for endpoint in client.endpoints() {
            client.defragment(&endpoint).await?;
            match out.form_or(Form::Simple) {
                Form::Json => out.json(&json!({"endpoint": endpoint, "defragmented": true}))?,
                _ => out.line(format!("Finished defragmenting {endpoint}"))?,
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
