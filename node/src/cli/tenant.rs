//! `meridian tenant`: virtual stores, each with its own keys, quota and history.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use meridian_client::{Client, Quota, Retention, Tenant as Record};
use serde_json::{Value, json};

use super::failure::Failure;
use super::out::{Form, Out, size};

/// Tenants.
#[derive(Debug, Args)]
pub(super) struct Tenant {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a tenant
    Create {
        /// Its name: 1 to 63 of a-z 0-9 - _ . beginning with a letter or digit
        name: String,
        #[command(flatten)]
        rules: Rules,
    },
    /// List tenants
    List,
    /// Show a tenant: what it uses, may use and keeps
    Show {
        /// Its name
        name: String,
    },
    /// Change what a tenant may use and keeps; what is not named stays
    Quota {
        /// Its name
        name: String,
        #[command(flatten)]
        rules: Rules,
    },
    /// Delete a tenant with everything in it
    Delete {
        /// Its name
        name: String,
        /// Do not ask: there is no way back
        #[arg(long)]
        yes: bool,
    },
}

/// What a tenant may use and keeps. Zero is no limit, or off.
#[derive(Debug, Args)]
struct Rules {
    /// Bytes of live keys and values, for example 64MiB; each key costs 256 bytes beside its own
    #[arg(long, value_parser = parse_size, value_name = "SIZE")]
    bytes: Option<u64>,
    /// Live keys
    #[arg(long)]
    keys: Option<u64>,
    /// Watches open on one member
    #[arg(long)]
    watchers: Option<u64>,
    /// Requests per second on one member
    #[arg(long, value_name = "REQUESTS")]
    requests_per_second: Option<u64>,
    /// Revisions of history that are kept
    #[arg(long, value_name = "REVISIONS")]
    keep_revisions: Option<u64>,
    /// History that is younger is kept, for example 24h
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    keep_for: Option<Duration>,
}

impl Rules {
    fn quota(&self, present: Quota) -> Quota {
        Quota {
            bytes: self.bytes.unwrap_or(present.bytes),
            keys: self.keys.unwrap_or(present.keys),
            watchers: self.watchers.unwrap_or(present.watchers),
            requests_per_second: self
                .requests_per_second
                .unwrap_or(present.requests_per_second),
        }
    }

    fn retention(&self, present: Retention) -> Retention {
        Retention {
            revisions: self.keep_revisions.unwrap_or(present.revisions),
            seconds: self.keep_for.map_or(present.seconds, |time| time.as_secs()),
        }
    }
}

/// Reads a number of bytes with or without a unit.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => {
            return Err(format!(
                "{unit:?} is not a unit of size such as KiB, MiB or GiB"
            ));
        }
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("{text:?} is not a size"))?;
    number
        .checked_mul(factor)
        .ok_or_else(|| format!("{text} is too large"))
}

impl Tenant {
    pub(super) async fn run(&self, client: &Client, out: &mut Out) -> Result<ExitCode, Failure> {
        match &self.verb {
            Verb::Create { name, rules } => {
                let quota = rules.quota(Quota::default());
                let retention = rules.retention(Retention::default());
                let tenant = client.tenant_create(name, quota, retention).await?;
                match out.form_or(Form::Simple) {
                    Form::Json => out.json(&to_json(&tenant))?,
                    _ => out.line(format!(
                        "tenant {name} created; use it with --tenant {name} or MERIDIAN_TENANT"
                    ))?,
                }
            }
            Verb::List => list(out, &client.tenants().await?)?,
            Verb::Show { name } => show(out, &client.tenant_show(name).await?)?,
            Verb::Quota { name, rules } => {
                let present = client.tenant_show(name).await?;
                let quota = rules.quota(present.quota);
                let retention = rules.retention(present.retention);
                let quota = (quota != present.quota).then_some(quota);
                let retention = (retention != present.retention).then_some(retention);
                let changed = match (quota, retention) {
                    (None, None) => present,
                    _ => client.tenant_change(name, quota, retention).await?,
                };
                show(out, &changed)?;
            }
            Verb::Delete { name, yes } => {
                if !yes {
                    confirm(name)?;
                }
                client.tenant_delete(name).await?;
                match out.form_or(Form::Simple) {
                    Form::Json => out.json(&json!({"deleted": name}))?,
                    _ => out.line(format!("tenant {name} deleted"))?,
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Asks a person to type the name again; refuses where there is no person.
fn confirm(name: &str) -> Result<(), Failure> {
    use std::io::IsTerminal as _;
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::usage("deleting a tenant deletes every key in it")
            .hint("add --yes if that is meant"));
    }
    eprint!("This deletes every key of tenant {name}. Type its name to go on: ");
    let mut typed = String::new();
    stdin
        .read_line(&mut typed)
        .map_err(|error| Failure::io("can not read the answer", &error))?;
    if typed.trim() == name {
        Ok(())
    } else {
        Err(Failure::refused("nothing was deleted"))
    }
}

fn to_json(tenant: &Record) -> Value {
    json!({
        "id": tenant.id,
        "name": tenant.name,
        "created": humantime::format_rfc3339_seconds(tenant.created).to_string(),
        "revision": tenant.revision,
        "compacted_revision": tenant.compacted_revision,
        "usage": {"bytes": tenant.usage.bytes, "keys": tenant.usage.keys},
        "quota": {
            "bytes": tenant.quota.bytes,
            "keys": tenant.quota.keys,
            "watchers": tenant.quota.watchers,
            "requests_per_second": tenant.quota.requests_per_second,
        },
        "retention": {
            "revisions": tenant.retention.revisions,
            "seconds": tenant.retention.seconds,
        },
    })
}

fn list(out: &mut Out, tenants: &[Record]) -> Result<(), Failure> {
    match out.form_or(Form::Table) {
        Form::Json => {
            let tenants: Vec<_> = tenants.iter().map(to_json).collect();
            out.json(&json!({"tenants": tenants}))?;
        }
        Form::Simple => {
            for tenant in tenants {
                out.line(&tenant.name)?;
            }
        }
        Form::Table => {
            let of = |used: String, limit: u64, limit_text: String| {
                if limit == 0 {
                    used
                } else {
                    format!("{used} of {limit_text}")
                }
            };
            let row = |t: &Record| {
                vec![
                    t.name.clone(),
                    of(
                        t.usage.keys.to_string(),
                        t.quota.keys,
                        t.quota.keys.to_string(),
                    ),
                    of(size(t.usage.bytes), t.quota.bytes, size(t.quota.bytes)),
                    t.revision.to_string(),
                    t.compacted_revision.to_string(),
                ]
            };
            let rows = tenants.iter().map(row).collect();
            out.table(&["TENANT", "KEYS", "BYTES", "REVISION", "COMPACTED"], rows)?;
        }
    }
    Ok(())
}

fn show(out: &mut Out, tenant: &Record) -> Result<(), Failure> {
    let form = out.form_or(Form::Table);
    if form == Form::Json {
        out.json(&to_json(tenant))?;
        return Ok(());
    }
    let limit = |limit: u64, text: String| if limit == 0 { "no limit".into() } else { text };
    let keep = |amount: u64, text: String| if amount == 0 { "off".into() } else { text };
    let (quota, retention) = (tenant.quota, tenant.retention);
    let per_second = quota.requests_per_second;
    let kept_for = humantime::format_duration(Duration::from_secs(retention.seconds)).to_string();
    let rows = [
        ("name", tenant.name.clone()),
        ("id", tenant.id.to_string()),
        (
            "created",
            humantime::format_rfc3339_seconds(tenant.created).to_string(),
        ),
        ("revision", tenant.revision.to_string()),
        ("compacted revision", tenant.compacted_revision.to_string()),
        ("keys", tenant.usage.keys.to_string()),
        ("bytes", size(tenant.usage.bytes)),
        ("quota: keys", limit(quota.keys, quota.keys.to_string())),
        ("quota: bytes", limit(quota.bytes, size(quota.bytes))),
        (
            "quota: watchers",
            limit(quota.watchers, quota.watchers.to_string()),
        ),
        (
            "quota: requests/s",
            limit(per_second, per_second.to_string()),
        ),
        (
            "keep revisions",
            keep(retention.revisions, retention.revisions.to_string()),
        ),
        ("keep for", keep(retention.seconds, kept_for)),
    ];
    if form == Form::Simple {
        for (name, value) in rows {
            out.line(format!("{name}: {value}"))?;
        }
    } else {
        let rows = rows
            .into_iter()
            .map(|(name, value)| vec![name.to_owned(), value])
            .collect();
        out.table(&["TENANT", &tenant.name], rows)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_units() {
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("1k"), Ok(1024));
        assert_eq!(parse_size("5 GB"), Ok(5_000_000_000));
        assert_eq!(parse_size("7"), Ok(7));
        for bad in ["", "MiB", "-1", "1x", "99999999999999T"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rules_change_only_what_is_named() {
        let rules = Rules {
            bytes: Some(5),
            keys: None,
            watchers: None,
            requests_per_second: Some(0),
            keep_revisions: None,
            keep_for: None,
        };
        let present = Quota {
            bytes: 1,
            keys: 2,
            watchers: 3,
            requests_per_second: 4,
        };
        let changed = Quota {
            bytes: 5,
            keys: 2,
            watchers: 3,
            requests_per_second: 0,
        };
        assert_eq!(rules.quota(present), changed);
        let kept = Retention {
            revisions: 7,
            seconds: 8,
        };
        assert_eq!(rules.retention(kept), kept);
    }
}
