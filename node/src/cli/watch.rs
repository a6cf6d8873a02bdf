//! `meridian watch`: changes as they happen, until interrupted.

use std::process::ExitCode;

use clap::Args;
use meridian_client::{Changes, Client, Event};
use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::kv::KeysArgs;
use super::out::{Form, Out};

/// Watches keys until interrupted, over any failure of members.
#[derive(Debug, Args)]
pub(super) struct Watch {
    #[command(flatten)]
    keys: KeysArgs,
    /// Begin at this revision instead of now
    #[arg(long, default_value_t = 0, value_name = "REVISION")]
    rev: i64,
    /// Show what each change replaced
    #[arg(long)]
    prev_kv: bool,
    /// Leave out writes
    #[arg(long)]
    no_put: bool,
    /// Leave out deletions
    #[arg(long)]
    no_delete: bool,
    /// Say how far the watch is when nothing happens for a while
    #[arg(long)]
    progress_notify: bool,
    /// End after so many changes
    #[arg(long, value_name = "CHANGES")]
    count: Option<u64>,
}

impl Watch {
    pub(super) async fn run(&self, client: &Client, out: &mut Out) -> Result<ExitCode, Failure> {
        let mut watch = client.watch(self.keys.keys()).start_revision(self.rev);
        watch = if self.prev_kv { watch.prev_kv() } else { watch };
        watch = if self.no_put { watch.no_put() } else { watch };
        watch = if self.no_delete {
            watch.no_delete()
        } else {
            watch
        };
        watch = if self.progress_notify {
            watch.progress()
        } else {
            watch
        };
        let mut watch = watch.await?;
        let mut left = self.count.unwrap_or(u64::MAX);
        while let Some(changes) = watch.next().await {
            let mut changes = changes?;
            changes
                .events
                .truncate(usize::try_from(left).unwrap_or(usize::MAX));
            left -= changes.events.len() as u64;
            show(out, &changes)?;
            if left == 0 {
                break;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints changes: events, or the news that there are none.
fn show(out: &mut Out, changes: &Changes) -> Result<(), Failure> {
    if out.form_or(Form::Simple) == Form::Json {
        let events: Vec<_> = changes
            .events
            .iter()
            .map(|event| event_json(out, event))
            .collect();
        out.json(&json!({"revision": changes.revision, "events": events}))?;
        return Ok(());
    }
    if changes.events.is_empty() {
        out.line(format!("progress notify: {}", changes.revision))?;
    }
    for event in &changes.events {
        match event {
            Event::Put { kv, prev_kv } => {
                out.line("PUT")?;
                if let Some(prev) = prev_kv {
                    out.bytes(&prev.key)?;
                    out.bytes(&prev.value)?;
                }
                out.bytes(&kv.key)?;
                out.bytes(&kv.value)?;
            }
            Event::Delete { key, prev_kv, .. } => {
                out.line("DELETE")?;
                if let Some(prev) = prev_kv {
                    out.bytes(&prev.key)?;
                    out.bytes(&prev.value)?;
                }
                out.bytes(key)?;
                out.bytes(b"")?;
            }
        }
    }
    Ok(())
}

fn event_json(out: &Out, event: &Event) -> Value {
    match event {
        Event::Put { kv, prev_kv } => json!({
            "type": "put",
            "kv": out.kv_json(kv),
            "prev_kv": prev_kv.as_ref().map(|kv| out.kv_json(kv)),
        }),
        Event::Delete {
            key,
            mod_revision,
            prev_kv,
        } => {
            let mut kv = Map::new();
            out.put_bytes(&mut kv, "key", key);
            kv.insert("mod_revision".into(), json!(mod_revision));
            json!({
                "type": "delete",
                "kv": kv,
                "prev_kv": prev_kv.as_ref().map(|kv| out.kv_json(kv)),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::printed;

    fn changes() -> Changes {
        let kv = meridian_client::KeyValue {
            key: "k".into(),
            create_revision: 2,
            mod_revision: 2,
            version: 1,
            value: "v".into(),
            lease: 0,
        };
        let put = Event::Put {
            kv: kv.clone(),
            prev_kv: None,
        };
        let delete = Event::Delete {
            key: "k".into(),
            mod_revision: 3,
            prev_kv: Some(kv),
        };
        Changes {
            events: vec![put, delete],
            revision: 3,
        }
    }

    #[test]
    fn changes_look_as_in_etcdctl() {
        let text = printed(Form::Simple, |out| show(out, &changes()));
        assert_eq!(text, "PUT\nk\nv\nDELETE\nk\nv\nk\n\n");
        let progress = Changes {
            events: vec![],
            revision: 9,
        };
        assert_eq!(
            printed(Form::Simple, |out| show(out, &progress)),
            "progress notify: 9\n"
        );
    }

    #[test]
    fn programs_get_one_object_per_line() {
        let text = printed(Form::Json, |out| show(out, &changes()));
        assert_eq!(text.lines().count(), 1);
        let value: Value = serde_json::from_str(&text).expect("json");
        assert_eq!(value["revision"], 3);
        assert_eq!(value["events"][0]["type"], "put");
        assert_eq!(value["events"][0]["kv"]["value"], "v");
        assert_eq!(
            value["events"][1]["kv"],
            json!({"key": "k", "mod_revision": 3})
        );
        assert_eq!(value["events"][1]["prev_kv"]["version"], 1);
    }
}
