//! `meridian elect`: one leader among candidates.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use meridian_client::{Client, KeyValue};
use serde_json::json;

use super::failure::Failure;
use super::lock::interrupted;
use super::out::{Form, Out};

/// Leads an election until interrupted, or follows who does.
#[derive(Debug, Args)]
pub(super) struct Elect {
    /// The election
    name: OsString,
    /// What to announce as leader
    #[arg(required_unless_present = "listen")]
    value: Option<OsString>,
    /// Show the leader and every change, without being a candidate
    #[arg(long, conflicts_with = "value")]
    listen: bool,
    /// Seconds a leadership outlives a leader that falls silent
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    ttl: u64,
}

impl Elect {
    pub(super) async fn run(&self, client: &Client, out: &mut Out) -> Result<ExitCode, Failure> {
        let election = client.election(self.name.as_encoded_bytes());
        let election = election.ttl(Duration::from_secs(self.ttl));
        let Some(value) = &self.value else {
            let mut observe = election.observe();
            loop {
                show(out, &observe.next().await?)?;
            }
        };
        let leadership = tokio::select! {
            elected = election.campaign(value.as_encoded_bytes()) => elected?,
            () = interrupted() => return Ok(ExitCode::from(130)),
        };
        let leader = KeyValue {
            key: leadership.key().clone(),
            create_revision: leadership.token(),
            mod_revision: leadership.token(),
            version: 1,
            value: value.as_encoded_bytes().to_vec().into(),
            lease: 0,
        };
        show(out, &leader)?;
        tokio::select! {
            lost = leadership.lost() => return Err(lost.into()),
            () = interrupted() => {}
        }
        leadership.resign().await?;
        Ok(ExitCode::SUCCESS)
    }
}

fn show(out: &mut Out, leader: &KeyValue) -> Result<(), Failure> {
    match out.form_or(Form::Simple) {
        Form::Json => {
            let mut object = serde_json::Map::new();
            out.put_bytes(&mut object, "key", &leader.key);
            out.put_bytes(&mut object, "value", &leader.value);
            object.insert("token".into(), json!(leader.create_revision));
            out.json(&object.into())?;
        }
        _ => {
            out.bytes(&leader.key)?;
            out.bytes(&leader.value)?;
        }
    }
    Ok(())
}
