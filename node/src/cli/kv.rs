//! `meridian kv`: keys.

use std::ffi::OsString;
use std::io::{IsTerminal as _, Read as _};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use meridian_client::{Client, Delete, Deleted, Found, Keys, Order, Put, Range, SortBy, Written};
use meridian_domain::limits::REQUEST_BYTES_MAX;
use serde_json::json;

use super::failure::Failure;
use super::lease::parse_id;
use super::out::{Form, Out};

/// Keys.
#[derive(Debug, Args)]
pub(super) struct Kv {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write a key
    Put(PutArgs),
    /// Read a key or a range of keys
    Get(GetArgs),
    /// Delete a key or a range of keys
    #[command(visible_alias = "delete")]
    Del(DelArgs),
    /// Forget versions that were replaced before a revision
    Compact(CompactArgs),
}

/// Which keys.
#[derive(Debug, Args)]
pub(super) struct KeysArgs {
    /// The key, or the first of a range
    key: OsString,
    /// The end of the range, itself not included
    range_end: Option<OsString>,
    /// Every key that begins with KEY
    #[arg(long, conflicts_with_all = ["range_end", "from_key"])]
    prefix: bool,
    /// Every key from KEY on
    #[arg(long, conflicts_with = "range_end")]
    from_key: bool,
}

impl KeysArgs {
    pub(super) fn keys(&self) -> Keys {
        let key = self.key.as_encoded_bytes();
        match &self.range_end {
            _ if self.prefix => Keys::prefix(key),
            _ if self.from_key => Keys::from_key(key),
            Some(end) => Keys::range(key, end.as_encoded_bytes()),
            None => Keys::one(key),
        }
    }
}

/// `kv put`.
#[derive(Debug, Args)]
pub(super) struct PutArgs {
    /// The key
    key: OsString,
    /// The value; read from standard input if it is not given
    value: Option<OsString>,
    /// Attach the key to this lease (hexadecimal)
    #[arg(long, value_parser = parse_id, value_name = "ID")]
    lease: Option<i64>,
    /// Show what is replaced
    #[arg(long)]
    prev_kv: bool,
    /// Keep the present value; change only the lease
    #[arg(long, conflicts_with = "value")]
    ignore_value: bool,
    /// Keep the present lease
    #[arg(long, conflicts_with = "lease")]
    ignore_lease: bool,
}

impl PutArgs {
    /// As an operation; within a transaction the value must be given.
    pub(super) fn op(&self) -> Result<Put, Failure> {
        let value = match &self.value {
            Some(value) => value.as_encoded_bytes().to_vec(),
            None if self.ignore_value => vec![],
            None => return Err(Failure::usage("a put within a transaction needs a value")),
        };
        Ok(self.with_flags(Put::new(self.key.as_encoded_bytes(), value)))
    }

    fn with_flags<C>(&self, mut put: Put<C>) -> Put<C> {
        put = self.lease.iter().fold(put, |put, lease| put.lease(*lease));
        put = if self.prev_kv { put.prev_kv() } else { put };
        put = if self.ignore_value {
            put.ignore_value()
        } else {
            put
        };
        if self.ignore_lease {
            put.ignore_lease()
        } else {
            put
        }
    }

    async fn run(&self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let value = match &self.value {
            Some(value) => value.as_encoded_bytes().to_vec(),
            None if self.ignore_value => vec![],
            None => value_from_stdin()?,
        };
        let put = client.put(self.key.as_encoded_bytes(), value);
        show_written(out, &self.with_flags(put).await?)
    }
}

/// A value from standard input, at most as large as a request may be.
fn value_from_stdin() -> Result<Vec<u8>, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        eprintln!("type the value and end it with Ctrl-D");
    }
    let mut value = vec![];
    let limit = REQUEST_BYTES_MAX as u64 + 1;
    let read = stdin.lock().take(limit).read_to_end(&mut value);
    read.map_err(|error| Failure::io("can not read the value from standard input", &error))?;
    if value.len() > REQUEST_BYTES_MAX {
        return Err(Failure::usage(format!(
            "the value is larger than {REQUEST_BYTES_MAX} bytes, the most a request may have"
        )));
    }
    Ok(value)
}

/// Prints the answer to a put.
pub(super) fn show_written(out: &mut Out, written: &Written) -> Result<(), Failure> {
    match out.form_or(Form::Simple) {
        Form::Json => {
            let prev = written.prev_kv.as_ref().map(|kv| out.kv_json(kv));
            out.json(&json!({"revision": written.revision, "prev_kv": prev}))?;
        }
        Form::Simple | Form::Table => {
            out.line("OK")?;
            if let Some(kv) = &written.prev_kv {
                out.bytes(&kv.key)?;
                out.bytes(&kv.value)?;
            }
        }
    }
    Ok(())
}

/// `kv get`.
#[derive(Debug, Args)]
pub(super) struct GetArgs {
    #[command(flatten)]
    keys: KeysArgs,
    /// Read at this revision
    #[arg(long, default_value_t = 0, value_name = "REVISION")]
    rev: i64,
    /// Show at most so many keys
    #[arg(long, default_value_t = 0, value_name = "KEYS")]
    limit: i64,
    /// Order by
    #[arg(long, value_enum, value_name = "WHAT")]
    sort_by: Option<By>,
    /// Largest first
    #[arg(long)]
    descending: bool,
    /// Show keys without values
    #[arg(long)]
    keys_only: bool,
    /// Show how many keys there are, and nothing else
    #[arg(long)]
    count_only: bool,
    /// Show values without keys
    #[arg(long, conflicts_with_all = ["keys_only", "count_only"])]
    print_value_only: bool,
    /// Read what the member has, which may be a little old, and also without a leader
    #[arg(long)]
    serializable: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    Key,
    Version,
    Created,
    Modified,
    Value,
}

impl GetArgs {
    /// As an operation of a transaction.
    pub(super) fn op(&self) -> Range {
        self.with_flags(Range::of(self.keys.keys()))
    }

    fn with_flags<C>(&self, range: Range<C>) -> Range<C> {
        let mut range = range.revision(self.rev).limit(self.limit);
        if self.sort_by.is_some() || self.descending {
            let by = match self.sort_by.unwrap_or(By::Key) {
                By::Key => SortBy::Key,
                By::Version => SortBy::Version,
                By::Created => SortBy::CreateRevision,
                By::Modified => SortBy::ModRevision,
                By::Value => SortBy::Value,
            };
            let order = if self.descending {
                Order::Descending
            } else {
                Order::Ascending
            };
            range = range.sort(by, order);
        }
        range = if self.keys_only {
            range.keys_only()
        } else {
            range
        };
        range = if self.count_only {
            range.count_only()
        } else {
            range
        };
        if self.serializable {
            range.serializable()
        } else {
            range
        }
    }

    async fn run(&self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let found = self.with_flags(client.range(self.keys.keys())).await?;
        if found.count == 0 && self.keys.keys().is_one() && !self.count_only {
            let key = out.cell(self.keys.key.as_encoded_bytes());
            return Err(Failure::not_found(format!("there is no key {key:?}")));
        }
        self.show(out, &found)
    }

    fn show(&self, out: &mut Out, found: &Found) -> Result<(), Failure> {
        let form = out.form_or(Form::Simple);
        if form == Form::Simple && self.count_only {
            out.line(found.count.to_string())?;
        } else if form == Form::Simple && (self.keys_only || self.print_value_only) {
            for kv in &found.kvs {
                out.bytes(if self.keys_only { &kv.key } else { &kv.value })?;
            }
        } else {
            show_found(out, found)?;
        }
        Ok(())
    }
}

/// Prints the answer to a range.
pub(super) fn show_found(out: &mut Out, found: &Found) -> Result<(), Failure> {
    match out.form_or(Form::Simple) {
        Form::Json => {
            let kvs: Vec<_> = found.kvs.iter().map(|kv| out.kv_json(kv)).collect();
            out.json(&json!({
                "revision": found.revision, "count": found.count, "more": found.more, "kvs": kvs,
            }))?;
        }
        Form::Table => out.kv_table(&found.kvs)?,
        Form::Simple => {
            for kv in &found.kvs {
                out.bytes(&kv.key)?;
                out.bytes(&kv.value)?;
            }
        }
    }
    Ok(())
}

/// `kv del`.
#[derive(Debug, Args)]
pub(super) struct DelArgs {
    #[command(flatten)]
    keys: KeysArgs,
    /// Show what is deleted
    #[arg(long)]
    prev_kv: bool,
}

impl DelArgs {
    /// As an operation of a transaction.
    pub(super) fn op(&self) -> Delete {
        let delete = Delete::of(self.keys.keys());
        if self.prev_kv {
            delete.prev_kv()
        } else {
            delete
        }
    }

    async fn run(&self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let delete = client.delete(self.keys.keys());
        let delete = if self.prev_kv {
            delete.prev_kv()
        } else {
            delete
        };
        show_deleted(out, &delete.await?)
    }
}

/// Prints the answer to a delete.
pub(super) fn show_deleted(out: &mut Out, deleted: &Deleted) -> Result<(), Failure> {
    match out.form_or(Form::Simple) {
        Form::Json => {
            let kvs: Vec<_> = deleted.prev_kvs.iter().map(|kv| out.kv_json(kv)).collect();
            out.json(&json!({
                "revision": deleted.revision, "deleted": deleted.count, "prev_kvs": kvs,
            }))?;
        }
        Form::Simple | Form::Table => {
            out.line(deleted.count.to_string())?;
            for kv in &deleted.prev_kvs {
                out.bytes(&kv.key)?;
                out.bytes(&kv.value)?;
            }
        }
    }
    Ok(())
}

/// `kv compact`.
#[derive(Debug, Args)]
struct CompactArgs {
    /// The oldest revision that stays readable
    revision: i64,
    /// Answer only once the space is free
    #[arg(long)]
    physical: bool,
}

impl CompactArgs {
    async fn run(&self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let compact = client.compact(self.revision);
        let compact = if self.physical {
            compact.physical()
        } else {
            compact
        };
        let revision = compact.await?;
        match out.form_or(Form::Simple) {
            Form::Json => {
                out.json(&json!({"revision": revision, "compacted_revision": self.revision}))?;
            }
            Form::Simple | Form::Table => {
                out.line(format!("compacted revision {}", self.revision))?;
            }
        }
        Ok(())
    }
}

impl Kv {
    pub(super) async fn run(&self, client: &Client, out: &mut Out) -> Result<ExitCode, Failure> {
        match &self.verb {
            Verb::Put(put) => put.run(client, out).await?,
            Verb::Get(get) => get.run(client, out).await?,
            Verb::Del(del) => del.run(client, out).await?,
            Verb::Compact(compact) => compact.run(client, out).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
