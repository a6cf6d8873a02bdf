//! `meridian txn`: compare and change keys in one transaction.
//!
//! Requests are written as on the command line of `kv`, so they know the same flags.

mod parse;

use std::io::{BufRead, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser};
use meridian_client::{Client, Op, OpAnswer, TxnAnswer};
use serde_json::{Value, json};

use super::failure::Failure;
use super::kv::{DelArgs, GetArgs, PutArgs, show_deleted, show_found};
use super::out::{Form, Out};

/// Compares keys and runs one of two lists of requests, all or nothing.
///
/// Without flags the transaction is read from a file or from standard input, as etcdctl has it: lines of
/// compares, an empty line, requests if all compares hold, an empty line, requests otherwise.
///
///   mod("key1") > "0"
///
///   put key1 "changed"
///
///   put key1 "created"
///
/// Compares: value, version (ver), create (c), mod (m), lease of a key with = != < >.
/// Requests: put, get, del with the flags of `meridian kv`.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Txn {
    /// A condition that must hold, for example 'mod("a") = "7"'
    #[arg(long, short, value_name = "COMPARE")]
    compare: Vec<String>,
    /// A request to run if all conditions hold, for example 'put a 1'
    #[arg(long, short, value_name = "REQUEST")]
    success: Vec<String>,
    /// A request to run otherwise
    #[arg(long, short, value_name = "REQUEST")]
    failure: Vec<String>,
    /// Read the transaction from a file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["compare", "success", "failure"])]
    file: Option<PathBuf>,
    /// Ask for the parts of the transaction
    #[arg(long, short, conflicts_with_all = ["compare", "success", "failure", "file"])]
    interactive: bool,
}

/// One request, as a line of `kv`.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_subcommand = true, color = clap::ColorChoice::Never)]
enum Request {
    Put(PutArgs),
    Get(GetArgs),
    #[command(alias = "delete")]
    Del(DelArgs),
}

/// The three lists of a transaction, as lines.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lines {
    compares: Vec<String>,
    success: Vec<String>,
    failure: Vec<String>,
}

impl Txn {
    pub(super) async fn run(&self, client: &Client, out: &mut Out) -> Result<ExitCode, Failure> {
        let lines = self.lines()?;
        let mut txn = client.txn();
        for line in &lines.compares {
            txn = txn.when(parse::compare(line).map_err(Failure::usage)?);
        }
        for line in &lines.success {
            txn = txn.then(request(line)?);
        }
        for line in &lines.failure {
            txn = txn.otherwise(request(line)?);
        }
        show(out, &txn.await?)?;
        Ok(ExitCode::SUCCESS)
    }

    fn lines(&self) -> Result<Lines, Failure> {
        let by_flags = Lines {
            compares: self.compare.clone(),
            success: self.success.clone(),
            failure: self.failure.clone(),
        };
        if by_flags != Lines::default() {
            return Ok(by_flags);
        }
        if let Some(path) = &self.file {
            let what = format!("can not read {}", path.display());
            let file = std::fs::File::open(path).map_err(|error| Failure::io(&what, &error))?;
            return sections(std::io::BufReader::new(file), false);
        }
        let stdin = std::io::stdin();
        let prompt = self.interactive || stdin.is_terminal();
        sections(stdin.lock(), prompt)
    }
}

/// Reads three sections that end with an empty line.
fn sections(input: impl BufRead, prompt: bool) -> Result<Lines, Failure> {
    let mut input = input.lines();
    let mut section = |title: &str| {
        if prompt {
            eprintln!("{title}");
        }
        let mut lines = vec![];
        for line in input.by_ref() {
            let line = line.map_err(|error| Failure::io("can not read the transaction", &error))?;
            if line.trim().is_empty() {
                break;
            }
            lines.push(line);
        }
        Ok::<_, Failure>(lines)
    };
    Ok(Lines {
        compares: section("compares:")?,
        success: section("success requests (get, put, del):")?,
        failure: section("failure requests (get, put, del):")?,
    })
}

/// Reads a request.
fn request(line: &str) -> Result<Op, Failure> {
    let words = parse::words(line).map_err(Failure::usage)?;
    let request = Request::try_parse_from(words).map_err(|error| {
        let text = error.to_string();
        let first = text
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ");
        Failure::usage(format!("{line:?} is not a request: {first}"))
            .hint("requests are `put KEY VALUE`, `get KEY` and `del KEY`, with the flags of `kv`")
    })?;
    Ok(match request {
        Request::Put(put) => put.op()?.into(),
        Request::Get(get) => get.op().into(),
        Request::Del(del) => del.op().into(),
    })
}

fn show(out: &mut Out, answer: &TxnAnswer) -> Result<(), Failure> {
    if out.form_or(Form::Simple) == Form::Json {
        let answer = answer_json(out, answer);
        out.json(&answer)?;
        return Ok(());
    }
    out.line(if answer.succeeded {
        "SUCCESS"
    } else {
        "FAILURE"
    })?;
    for op in &answer.answers {
        out.line("")?;
        match op {
            OpAnswer::Put(written) => {
                out.line("OK")?;
                if let Some(kv) = &written.prev_kv {
                    out.bytes(&kv.key)?;
                    out.bytes(&kv.value)?;
                }
            }
            OpAnswer::Delete(deleted) => show_deleted(out, deleted)?,
            OpAnswer::Range(found) => show_found(out, found)?,
            OpAnswer::Txn(inner) => show(out, inner)?,
        }
    }
    Ok(())
}

fn answer_json(out: &Out, answer: &TxnAnswer) -> Value {
    let op = |op: &OpAnswer| match op {
        OpAnswer::Put(written) => {
            json!({"put": {"prev_kv": written.prev_kv.as_ref().map(|kv| out.kv_json(kv))}})
        }
        OpAnswer::Delete(deleted) => {
            let kvs: Vec<_> = deleted.prev_kvs.iter().map(|kv| out.kv_json(kv)).collect();
            json!({"delete": {"deleted": deleted.count, "prev_kvs": kvs}})
        }
        OpAnswer::Range(found) => {
            let kvs: Vec<_> = found.kvs.iter().map(|kv| out.kv_json(kv)).collect();
            json!({"get": {"count": found.count, "more": found.more, "kvs": kvs}})
        }
        OpAnswer::Txn(inner) => json!({"txn": answer_json(out, inner)}),
    };
    let answers: Vec<_> = answer.answers.iter().map(op).collect();
    json!({"revision": answer.revision, "succeeded": answer.succeeded, "answers": answers})
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn sections_end_with_empty_lines_and_may_be_missing() {
        let text = "mod(\"a\") > \"0\"\n\nput a 1\nget a\n\nget a\n";
        let lines = sections(text.as_bytes(), false).unwrap();
        assert_eq!(lines.compares, ["mod(\"a\") > \"0\""]);
        assert_eq!(lines.success, ["put a 1", "get a"]);
        assert_eq!(lines.failure, ["get a"]);
        let lines = sections(&b"\nput a 1"[..], false).unwrap();
        assert_eq!(
            (
                lines.compares.len(),
                lines.success.len(),
                lines.failure.len()
            ),
            (0, 1, 0)
        );
    }

    #[test]
    fn requests_know_the_flags_of_kv() {
        for good in [
            "put a 1",
            "put \"a b\" 'c d' --lease 7b --prev-kv",
            "get a --prefix --keys-only --rev 3",
            "get a b",
            "del a --from-key",
            "delete a",
        ] {
            assert!(request(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "put a",
            "post a 1",
            "get",
            "get a --nonsense",
            "put 'a 1",
        ] {
            assert_eq!(request(bad).unwrap_err().code(), 2, "{bad}");
        }
    }
}
