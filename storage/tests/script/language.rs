//! The language of transactions in scripts.

use std::iter::Peekable;
use std::vec::IntoIter;

use bytes::Bytes;
use meridian_domain::key::{KeyRange, RangeEnd, Space};
use meridian_domain::kv::{Delete, Order, Put, Range, Target};
use meridian_domain::txn::{Compare, Op, Operand, Relation, Txn};

use super::Failure;

type Words<'a> = Peekable<IntoIter<&'a str>>;

const MARKS: [&str; 6] = [";", "{", "|", "}", "?", ","];

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub fn keys(key: &str, end: Option<&str>) -> KeyRange {
    let end = match end {
        None => RangeEnd::Single,
        Some("*") => RangeEnd::Open,
        Some(end) => RangeEnd::Before(bytes(end)),
    };
    KeyRange {
        start: bytes(key),
        end,
    }
}

pub fn order(text: Option<&str>) -> Result<Order, Failure> {
    Ok(match text {
        None => Order::Unordered,
        Some("ascend") => Order::Ascend,
        Some("descend") => Order::Descend,
        Some(other) => return Err(format!("unknown order {other}").into()),
    })
}

pub fn target(text: Option<&str>) -> Result<Target, Failure> {
    Ok(match text {
        None | Some("key") => Target::Key,
        Some("version") => Target::Version,
        Some("create") => Target::Create,
        Some("mod") => Target::Mod,
        Some("value") => Target::Value,
        Some(other) => return Err(format!("unknown target {other}").into()),
    })
}

pub fn txn(text: &str) -> Result<Txn, Failure> {
    let mut spaced = text.to_owned();
    for mark in MARKS {
        spaced = spaced.replace(mark, &format!(" {mark} "));
    }
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut words = words.into_iter().peekable();
    let txn = level(&mut words)?;
    match words.next() {
        None => Ok(txn),
        Some(rest) => Err(format!("{rest:?} stands where nothing may").into()),
    }
}

fn level(words: &mut Words<'_>) -> Result<Txn, Failure> {
    // A level has compares if a `?` stands in it before anything nested begins.
    let ahead = words.clone();
    let has_compares = ahead
        .take_while(|w| !["{", "}", "|"].contains(w))
        .any(|w| w == "?");
    let mut compares = vec![];
    while has_compares && words.next_if_eq(&"?").is_none() {
        compares.push(compare(words)?);
        words.next_if_eq(&",");
    }
    let success = ops(words)?;
    let failure = if words.next_if_eq(&"|").is_some() {
        ops(words)?
    } else {
        vec![]
    };
    Ok(Txn {
        compares,
        success,
        failure,
    })
}

fn compare(words: &mut Words<'_>) -> Result<Compare, Failure> {
    let what = words.next().ok_or("no compare")?;
    let key = words.next().ok_or("no key")?;
    let end = words.next_if(|word| !["=", "!=", ">", "<"].contains(word));
    let relation = match words.next() {
        Some("=") => Relation::Equal,
        Some("!=") => Relation::NotEqual,
        Some(">") => Relation::Greater,
        Some("<") => Relation::Less,
        other => return Err(format!("unknown relation {other:?}").into()),
    };
    let operand = words.next().ok_or("no operand")?;
    let operand = match what {
        "version" => Operand::Version(operand.parse()?),
        "create" => Operand::Create(operand.parse()?),
        "mod" => Operand::Mod(operand.parse()?),
        "lease" => Operand::Lease(operand.parse()?),
        "value" => Operand::Value(bytes(operand)),
        other => return Err(format!("unknown compare {other}").into()),
    };
    Ok(Compare {
        space: Space::RAW,
        range: keys(key, end),
        relation,
        operand,
    })
}

fn ops(words: &mut Words<'_>) -> Result<Vec<Op>, Failure> {
    let mut found = vec![];
    while words.peek().is_some_and(|word| !["|", "}"].contains(word)) {
        found.push(op(words)?);
        words.next_if_eq(&";");
    }
    Ok(found)
}

fn op(words: &mut Words<'_>) -> Result<Op, Failure> {
    let verb = words.next().ok_or("no operation")?;
    if verb == "{" {
        let inner = level(words)?;
        words
            .next_if_eq(&"}")
            .ok_or("a nested transaction ends with }")?;
        return Ok(Op::Txn(inner));
    }
    let mut argument = || words.next_if(|word| !MARKS.contains(word));
    let key = argument().ok_or("no key")?;
    match verb {
        "put" => {
            let value = argument().ok_or("no value")?;
            let lease = argument().unwrap_or("0").parse()?;
            // `=` keeps the present value.
            let value = (value != "=").then(|| bytes(value));
            let key = bytes(key);
            Ok(Op::Put(Put {
                space: Space::RAW,
                key,
                value,
                lease: Some(lease),
                prev_kv: false,
            }))
        }
        "delete" => {
            let range = keys(key, argument());
            Ok(Op::Delete(Delete {
                space: Space::RAW,
                range,
                prev_kv: false,
            }))
        }
        "get" => {
            let mut rest = vec![argument(), argument()]
                .into_iter()
                .flatten()
                .peekable();
            let end = rest.next_if(|word| !word.starts_with('@'));
            let mut range = Range::of(Space::RAW, keys(key, end));
            if let Some(revision) = rest.next() {
                range.revision = revision.trim_start_matches('@').parse()?;
            }
            Ok(Op::Range(range))
        }
        other => Err(format!("unknown operation {other}").into()),
    }
}
