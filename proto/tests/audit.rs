//! Audit records: frozen bytes, the round trip, and refusal of everything else.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use bytes::Bytes;
use meridian_domain::access::grant::{Address, Proof};
use meridian_domain::access::verb::Verb;
use meridian_domain::audit::record::{Deed, Origin, Outcome, Record, Row};
use meridian_domain::audit::tree::Tree;
use meridian_domain::key::Space;
use meridian_domain::name::TenantId;
use meridian_domain::revision::LogId;
use meridian_domain::stamp::Stamp;
use meridian_proto::record::Unreadable;
use meridian_proto::record::audit;
use meridian_proto::record::schema::AuditDeed;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// The examples of version 1: name, then the bytes in hexadecimal. Add only.
const FROZEN: &str = include_str!("frozen/audit-1.txt");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    })
}

fn least() -> Record {
    Record {
        tenant: TenantId(1),
        stamp: Stamp { unix_ms: 0 },
        log_id: None,
        actor: "anonymous".into(),
        origin: Origin::default(),
        request_id: None,
        deed: Deed::Login,
        verb: None,
        object: "".into(),
        revision: 0,
        rules_revision: None,
        outcome: Outcome::Done,
        rows: vec![],
        rows_count: 0,
        rows_root: None,
    }
}

fn full() -> Record {
    Record {
        tenant: TenantId(7),
        stamp: Stamp {
            unix_ms: 1_700_000_000_000,
        },
        log_id: Some(LogId { term: 3, index: 99 }),
        actor: "user:ann".into(),
        origin: Origin {
            proof: Some(Proof::Certificate),
            address: Some(Address::v4([10, 0, 0, 1])),
            member: 5,
            grant: "team#1".into(),
            reason: "because".into(),
            ticket: "T-1".into(),
            trace: Bytes::from_static(&[1; 16]),
        },
        request_id: Some(Bytes::from_static(b"req")),
        deed: Deed::Txn,
        verb: Some(Verb::Write),
        object: "thing".into(),
        revision: 12,
        rules_revision: Some(0),
        outcome: Outcome::Denied {
            code: "PERMISSION_DENIED".into(),
        },
        rows: vec![
            Row {
                space: Space::RAW,
                key: Bytes::from_static(b"k"),
                before: None,
                after: Some([0xaa; 32]),
            },
            Row {
                space: Space(255),
                key: Bytes::from_static(b"l"),
                before: Some([0xbb; 32]),
                after: None,
            },
        ],
        rows_count: 1_000,
        rows_root: Some([0xcc; 32]),
    }
}

#[test]
fn records_of_version_1_are_read_and_written_as_they_were() {
    let samples = [("least", least()), ("full", full())];
    let frozen: Vec<&str> = FROZEN
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let now: Vec<String> = samples
        .iter()
        .map(|(name, record)| format!("{name} {}", hex(&audit::encode(record))))
        .collect();
    assert_eq!(now, frozen);
    for (_, record) in samples {
        assert_eq!(audit::decode(&audit::encode(&record)), Ok(record));
    }
}

#[test]
fn every_deed_is_one_of_the_schema() {
    for deed in Deed::ALL {
        assert!(AuditDeed::try_from(deed as i32).is_ok(), "{deed:?}");
    }
}

#[test]
fn any_byte_that_is_flipped_shows_in_the_tree() {
    let record = audit::encode(&full());
    let root = |bytes: &[u8]| {
        let mut tree = Tree::default();
        tree.append(bytes);
        tree.root()
    };
    let before = root(&record);
    for place in 0..record.len() {
        let mut flipped = record.to_vec();
        flipped[place] ^= 1;
        assert_ne!(root(&flipped), before, "{place}");
        let _ = audit::decode(&flipped);
    }
}

#[test]
fn what_can_not_be_is_refused() {
    assert_eq!(audit::decode(&[]), Err(Unreadable::Empty));
    let mut newer = audit::encode(&least()).to_vec();
    newer[0] = 2;
    let refused = Unreadable::Version { found: 2, known: 1 };
    assert_eq!(audit::decode(&newer), Err(refused));
    let mut more = audit::encode(&least()).to_vec();
    more.extend([0xa0, 0x06, 0x01]);
    assert_eq!(audit::decode(&more), Err(Unreadable::Unknown));
    let mut odd = least();
    odd.origin.trace = Bytes::from_static(b"short");
    let refused = Unreadable::Impossible { what: "trace" };
    assert_eq!(audit::decode(&audit::encode(&odd)), Err(refused));
}

fn any_record() -> impl Strategy<Value = Record> {
    let hash = || option::of(any::<[u8; 32]>());
    let row = (any::<u8>(), vec(any::<u8>(), 0..9), hash(), hash());
    let row = row.prop_map(|(space, key, before, after)| Row {
        space: Space(space),
        key: key.into(),
        before,
        after,
    });
    let origin = (
        option::of(prop::sample::select(&Proof::ALL[..])),
        option::of(any::<[u8; 16]>()),
        any::<u64>(),
        ["\\PC{0,8}", "\\PC{0,8}", "\\PC{0,8}"],
        option::of(any::<[u8; 16]>()),
    );
    let origin =
        origin.prop_map(
            |(proof, address, member, [grant, reason, ticket], trace)| Origin {
                proof,
                address: address.map(Address),
                member,
                grant: grant.into(),
                reason: reason.into(),
                ticket: ticket.into(),
                trace: trace.map_or_else(Bytes::new, |trace| Bytes::copy_from_slice(&trace)),
            },
        );
    let what = (
        prop::sample::select(&Deed::ALL[..]),
        option::of(prop::sample::select(Verb::ALL)),
        "\\PC{0,8}",
        (0..3, "[A-Z_]{1,8}"),
    );
    let numbers = any::<(u32, u64, Option<(u64, u64)>, i64, Option<u64>, u64)>();
    let id = option::of(vec(any::<u8>(), 1..9));
    (origin, what, numbers, vec(row, 0..4), hash(), id).prop_map(
        |(origin, (deed, verb, object, (outcome, code)), numbers, rows, rows_root, id)| {
            let (tenant, unix_ms, place, revision, rules_revision, rows_count) = numbers;
            let code = code.into_boxed_str();
            Record {
                tenant: TenantId(tenant),
                stamp: Stamp { unix_ms },
                log_id: place.map(|(term, index)| LogId { term, index }),
                actor: "user:x".into(),
                origin,
                request_id: id.map(Bytes::from),
                deed,
                verb,
                object: object.into(),
                revision,
                rules_revision,
                outcome: match outcome {
                    0 => Outcome::Done,
                    1 => Outcome::Denied { code },
                    _ => Outcome::Refused { code },
                },
                rows,
                rows_count,
                rows_root,
            }
        },
    )
}

proptest! {
    #[test]
    fn a_record_comes_back_as_it_was(record in any_record()) {
        prop_assert_eq!(audit::decode(&audit::encode(&record)), Ok(record));
    }

    #[test]
    fn rubbish_is_never_a_panic(mut rubbish in vec(any::<u8>(), 1..200)) {
        rubbish[0] = audit::VERSION;
        let _ = audit::decode(&rubbish);
    }
}
