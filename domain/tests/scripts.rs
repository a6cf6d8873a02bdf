//! Behaviour by example: runs every file below `scripts/`.
//!
//! A script is commands, a line `---`, and what they must answer. `UPDATE_GOLDENFILES=1 cargo test -p
//! meridian-domain --test scripts` writes the answers anew; read the difference before you keep it.
//!
//! ```text
//! state [revision=N] [compacted=N]       what the tenant's view shows from here on
//! alarm KIND                             raise an alarm: nospace, corrupt
//! tenant NAME                            a tenant that exists
//! put KEY                                plan a put
//! delete KEY [END]                       plan a delete; END `*` is no end
//! txn OPS [else=OPS] [compares=N]        plan a transaction of N compares on the key `c`
//! read OPS                               answer a transaction that only reads
//! grant TTL | compact REVISION           plan a lease (at least 2 s), a compaction
//! create-tenant NAME | delete-tenant NAME
//! ...                                    who may do what: see `tests/rules/mod.rs`
//!
//! OPS = OP { ; OP }      OP = put KEY | delete KEY [END] | range KEY [@REVISION] | `{` OPS `|` OPS `}`
//! ```
//!
//! `""` is the empty key. The answer is what would be proposed, or the code of the refusal with its text,
//! and below it the hint if there is one.
#![allow(clippy::unwrap_used, reason = "tests")]

mod rules;
mod stage;

use std::error::Error;
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::vec::IntoIter;

use bytes::Bytes;
use meridian_domain::access::Principal;
use meridian_domain::answer::{Found, answer};
use meridian_domain::command::{AlarmKind, Command};
use meridian_domain::intent::Intent;
use meridian_domain::key::{KeyRange, RangeEnd, Space};
use meridian_domain::kv::{Delete, Put, Range};
use meridian_domain::name::TenantName;
use meridian_domain::plan::plan;
use meridian_domain::query::Query;
use meridian_domain::rejection::Rejection;
use meridian_domain::tenant::{Quota, Retention};
use meridian_domain::txn::{Compare, Op, Operand, Relation, Txn};

use stage::Stage;

type Failure = Box<dyn Error>;

// ---- the state scripts plan against ---------------------------------------------------------------------

/// The language spoken on a tenant in memory.
struct Speaker(Stage);

impl Speaker {
    fn plan(&self, intent: Intent) -> String {
        match plan(&self.0, &Principal::Anonymous, intent) {
            Ok(plan) => proposed(&plan.command),
            Err(rejection) => refused(&rejection),
        }
    }

    fn read(&self, txn: Txn) -> String {
        match answer(&self.0, &Principal::Anonymous, &Query::Txn(txn)) {
            Ok(answer) => match answer.found {
                Found::Txn(reply) => format!("answers: {}\n", reply.replies.len()),
                other => format!("{other:?}\n"),
            },
            Err(rejection) => refused(&rejection),
        }
    }
}

fn proposed(command: &Command) -> String {
    match command {
        Command::Txn(txn) => {
            format!(
                "txn: {} success, {} failure\n",
                txn.success.len(),
                txn.failure.len()
            )
        }
        other => format!("{other:?}\n"),
    }
}

fn refused(rejection: &Rejection) -> String {
    let hint = rejection
        .hint()
        .map(|hint| format!("\n  {hint}"))
        .unwrap_or_default();
    format!("{}: {rejection}{hint}\n", rejection.code())
}

// ---- the language ---------------------------------------------------------------------------------------

type Words<'a> = Peekable<IntoIter<&'a str>>;

/// Reads one branch of a transaction.
fn branch(text: &str) -> Result<Vec<Op>, Failure> {
    let mut spaced = text.to_owned();
    for mark in [";", "{", "|", "}"] {
        spaced = spaced.replace(mark, &format!(" {mark} "));
    }
    let mut words = spaced
        .split_whitespace()
        .collect::<Vec<_>>()
        .into_iter()
        .peekable();
    let found = ops(&mut words)?;
    match words.next() {
        None => Ok(found),
        Some(rest) => Err(format!("{rest:?} stands where nothing may").into()),
    }
}

/// Reads operations up to a closing `|` or `}` or the end.
fn ops(words: &mut Words<'_>) -> Result<Vec<Op>, Failure> {
    let mut found = vec![];
    while words.peek().is_some_and(|word| !["|", "}"].contains(word)) {
        found.push(op(words)?);
        words.next_if_eq(&";");
    }
    Ok(found)
}

fn op(words: &mut Words<'_>) -> Result<Op, Failure> {
    let is_argument = |word: &&str| ![";", "{", "|", "}"].contains(word);
    let verb = words.next().ok_or("no operation")?;
    if verb == "{" {
        let success = ops(words)?;
        words
            .next_if_eq(&"|")
            .ok_or("a nested transaction is { OPS | OPS }")?;
        let failure = ops(words)?;
        words
            .next_if_eq(&"}")
            .ok_or("a nested transaction ends with }")?;
        return Ok(Op::Txn(Txn {
            compares: vec![],
            success,
            failure,
        }));
    }
    let key = words.next_if(is_argument).ok_or("no key")?;
    let extra = words.next_if(is_argument);
    match (verb, extra) {
        ("put", None) => Ok(Op::Put(put(key))),
        ("delete", end) => Ok(Op::Delete(delete(key, end))),
        ("range", revision) => {
            let mut range = Range::of(Space::RAW, KeyRange::single(bytes_of(key)));
            if let Some(revision) = revision {
                range.revision = revision.trim_start_matches('@').parse()?;
            }
            Ok(Op::Range(range))
        }
        (verb, extra) => Err(format!("{verb:?} {key:?} {extra:?} is no operation").into()),
    }
}

fn bytes_of(key: &str) -> Bytes {
    if key == "\"\"" {
        Bytes::new()
    } else {
        Bytes::copy_from_slice(key.as_bytes())
    }
}

fn text_of(word: &str) -> Box<str> {
    if word == "\"\"" {
        "".into()
    } else {
        word.into()
    }
}

fn put(key: &str) -> Put {
    let value = Some(Bytes::new());
    Put {
        space: Space::RAW,
        key: bytes_of(key),
        value,
        lease: Some(0),
        prev_kv: false,
    }
}

fn delete(key: &str, end: Option<&str>) -> Delete {
    let end = match end {
        None => RangeEnd::Single,
        Some("*") => RangeEnd::Open,
        Some(end) => RangeEnd::Before(bytes_of(end)),
    };
    let range = KeyRange {
        start: bytes_of(key),
        end,
    };
    Delete {
        space: Space::RAW,
        range,
        prev_kv: false,
    }
}

fn compares(count: usize) -> Vec<Compare> {
    let one = Compare {
        space: Space::RAW,
        range: KeyRange::single(bytes_of("c")),
        relation: Relation::Equal,
        operand: Operand::Version(0),
    };
    vec![one; count]
}

impl goldenscript::Runner for Speaker {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &goldenscript::Command,
        _: &goldenscript::Context,
    ) -> Result<String, Failure> {
        let mut args = command.consume_args();
        let first = args.next_pos().unwrap_or_default();
        let said = match command.name.as_str() {
            "state" => {
                if let Some(revision) = args.take_key("revision") {
                    self.0.revision = revision.parse()?;
                }
                if let Some(compacted) = args.take_key("compacted") {
                    self.0.compacted = compacted.parse()?;
                }
                String::new()
            }
            "alarm" => {
                let kind = match first {
                    "nospace" => AlarmKind::NoSpace,
                    "corrupt" => AlarmKind::Corrupt,
                    other => return Err(format!("unknown alarm {other}").into()),
                };
                self.0.alarms.push((1, kind));
                String::new()
            }
            "tenant" => {
                self.0.others.push(stage::record(2, first));
                String::new()
            }
            "put" => self.plan(Intent::Put(put(first))),
            "delete" => self.plan(Intent::Delete(delete(first, args.next_pos()))),
            "txn" => self.plan(Intent::Txn(Txn {
                success: branch(first)?,
                failure: branch(args.take_key("else").unwrap_or_default())?,
                compares: compares(args.take_key("compares").unwrap_or("0").parse()?),
            })),
            "read" => self.read(Txn {
                success: branch(first)?,
                ..Txn::default()
            }),
            "grant" => self.plan(Intent::LeaseGrant {
                id: 7,
                ttl_seconds: first.parse()?,
                ttl_seconds_min: 2,
            }),
            "compact" => self.plan(Intent::Compact {
                revision: first.parse()?,
            }),
            "create-tenant" => self.plan(Intent::TenantCreate {
                name: TenantName::new(first)?,
                quota: Quota::default(),
                retention: Retention::default(),
            }),
            "delete-tenant" => self.plan(Intent::TenantDelete {
                name: TenantName::new(first)?,
            }),
            _ => return rules::run(&mut self.0, command),
        };
        args.reject_next()?;
        Ok(said)
    }
}

// ---- every file -----------------------------------------------------------------------------------------

fn scripts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            scripts(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn every_script_holds() {
    let mut found = vec![];
    scripts(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts"),
        &mut found,
    );
    found.sort();
    assert!(found.len() >= 7, "only {found:?} were found");
    for path in found {
        goldenscript::run(&mut Speaker(Stage::empty()), &path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}
