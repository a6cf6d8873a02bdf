//! `meridian alarm`: what members raised because something is wrong.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use meridian_client::{Alarm as Raised, Client};
use serde_json::json;

use super::failure::Failure;
use super::out::{Form, Out, member_id};

/// Alarms.
#[derive(Debug, Args)]
pub(super) struct Alarm {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List alarms
    List,
    /// Take every alarm back
    Disarm,
}

impl Alarm {
    pub(super) async fn run(&self, client: &Client, out: &mut Out) -> Result<ExitCode, Failure> {
        let alarms = client.alarms().await?;
        match self.verb {
            Verb::List => show(out, &alarms)?,
            Verb::Disarm => {
                let mut disarmed = vec![];
                for alarm in alarms {
                    disarmed.extend(client.disarm(alarm).await?);
                }
                show(out, &disarmed)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn show(out: &mut Out, alarms: &[Raised]) -> Result<(), Failure> {
    match out.form_or(Form::Simple) {
        Form::Json => {
            let alarms: Vec<_> = alarms
                .iter()
                .map(|alarm| {
                    json!({"member_id": member_id(alarm.member_id), "alarm": alarm.kind.to_string()})
                })
                .collect();
            out.json(&json!({"alarms": alarms}))?;
        }
        Form::Table => {
            let rows = alarms
                .iter()
                .map(|alarm| vec![member_id(alarm.member_id), alarm.kind.to_string()])
                .collect();
            out.table(&["MEMBER", "ALARM"], rows)?;
        }
        Form::Simple => {
            for alarm in alarms {
                out.line(format!("memberID:{} alarm:{}", alarm.member_id, alarm.kind))?;
            }
        }
    }
    Ok(())
}
