//! `meridian lease`: times to live that keys share.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use meridian_client::Client;
use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::out::{Form, Out, lease_id};

/// Leases.
#[derive(Debug, Args)]
pub(super) struct Lease {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a lease
    Grant {
        /// Seconds it lives without being kept alive
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        ttl: u32,
        /// The id to give it (hexadecimal); chosen by the cluster if it is not given
        #[arg(long, value_parser = parse_id, allow_hyphen_values = true)]
        id: Option<i64>,
    },
    /// End a lease and delete every key attached to it
    Revoke {
        /// Its id (hexadecimal)
        #[arg(value_parser = parse_id)]
        id: i64,
    },
    /// Keep a lease alive until interrupted
    #[command(visible_alias = "keepalive")]
    KeepAlive {
        /// Its id (hexadecimal)
        #[arg(value_parser = parse_id)]
        id: i64,
        /// Renew it once
        #[arg(long)]
        once: bool,
    },
    /// Show what is left of a lease
    Timetolive {
        /// Its id (hexadecimal)
        #[arg(value_parser = parse_id)]
        id: i64,
        /// Show the keys attached to it
        #[arg(long)]
        keys: bool,
    },
    /// List leases
    List,
}

/// Reads a lease id, which is a signed number written as its bits in hexadecimal.
pub(super) fn parse_id(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16)
        .map(u64::cast_signed)
        .map_err(|_| format!("{text:?} is not a lease id, which is hexadecimal"))
}

impl Lease {
    pub(super) async fn run(&self, client: &Client, out: &mut Out) -> Result<ExitCode, Failure> {
        match &self.verb {
            Verb::Grant { ttl, id } => {
                let grant = client.grant(Duration::from_secs(u64::from(*ttl)));
                let lease = id.iter().fold(grant, |grant, id| grant.id(*id)).await?;
                let (id, ttl) = (lease_id(lease.id()), lease.ttl().as_secs());
                match out.form_or(Form::Simple) {
                    Form::Json => out.json(&json!({"id": id, "ttl": ttl}))?,
                    _ => out.line(format!("lease {id} granted with TTL({ttl}s)"))?,
                }
            }
            Verb::Revoke { id } => {
                let revision = client.lease(*id).revoke().await?;
                let id = lease_id(*id);
                match out.form_or(Form::Simple) {
                    Form::Json => out.json(&json!({"id": id, "revision": revision}))?,
                    _ => out.line(format!("lease {id} revoked"))?,
                }
            }
            Verb::KeepAlive { id, once } => keep_alive(client, out, *id, *once).await?,
            Verb::Timetolive { id, keys } => time_to_live(client, out, *id, *keys).await?,
            Verb::List => {
                let leases: Vec<_> = client.leases().await?.into_iter().map(lease_id).collect();
                match out.form_or(Form::Table) {
                    Form::Json => out.json(&json!({"leases": leases}))?,
                    Form::Table => {
                        let rows = leases.into_iter().map(|id| vec![id]).collect();
                        out.table(&["LEASE"], rows)?;
                    }
                    Form::Simple => {
                        out.line(format!("found {} leases", leases.len()))?;
                        leases.iter().try_for_each(|id| out.line(id))?;
                    }
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn keep_alive(client: &Client, out: &mut Out, id: i64, once: bool) -> Result<(), Failure> {
    let lease = client.lease(id);
    loop {
        let ttl = lease.renew().await.map_err(|error| {
            if *error.kind() == meridian_client::Kind::Lost {
                return Failure::not_found(format!(
                    "lease {} expired or was revoked",
                    lease_id(id)
                ));
            }
            error.into()
        })?;
        let text = format!(
            "lease {} kept alive with TTL({}s)",
            lease_id(id),
            ttl.as_secs()
        );
        match out.form_or(Form::Simple) {
            Form::Json => out.json(&json!({"id": lease_id(id), "ttl": ttl.as_secs()}))?,
            _ => out.line(text)?,
        }
        if once {
            return Ok(());
        }
        tokio::time::sleep(ttl / 3).await;
    }
}

async fn time_to_live(
    client: &Client,
    out: &mut Out,
    id: i64,
    with_keys: bool,
) -> Result<(), Failure> {
    let status = client.lease(id).status(with_keys).await?;
    let id = lease_id(id);
    let Some(remaining) = status.remaining else {
        return Err(
            Failure::not_found(format!("there is no lease {id}")).hint("see `meridian lease list`")
        );
    };
    let (remaining, granted) = (remaining.as_secs(), status.granted.as_secs());
    match out.form_or(Form::Simple) {
        Form::Json => {
            let keys = status.keys.iter().map(|key| {
                let mut object = Map::new();
                out.put_bytes(&mut object, "key", key);
                Value::Object(object)
            });
            let keys: Vec<_> = keys.collect();
            out.json(&json!({
                "id": id, "remaining_ttl": remaining, "granted_ttl": granted, "keys": keys,
            }))?;
        }
        _ => {
            let mut text =
                format!("lease {id} granted with TTL({granted}s), remaining({remaining}s)");
            if with_keys {
                let keys: Vec<_> = status.keys.iter().map(|key| out.cell(key)).collect();
                text.push_str(&format!(", attached keys([{}])", keys.join(" ")));
            }
            out.line(text)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_ids_are_read_as_they_are_written() {
        for id in [1, 0x7fff_ffff_ffff_ffff, -1, -2] {
            assert_eq!(parse_id(&lease_id(id)), Ok(id));
        }
        assert_eq!(parse_id("0x10"), Ok(16));
        assert!(parse_id("xyz").is_err());
        assert!(parse_id("").is_err());
    }
}
