//! Records written by released versions are read, and written again, byte for byte.
//!
//! `tests/frozen/<record>-<version>.txt` holds one example per line: its name, then its bytes in
//! hexadecimal. Lines and files are only ever added; an edited line would mean that logs on disk can no
//! longer be read. A new example fails the test once, with the line to add.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use bytes::Bytes;
use meridian_domain::access::grant::{Address, Proof};
use meridian_domain::audit::record::Origin;
use meridian_domain::command::{
    AlarmKind, Command, Guards, MemberRecord, Proposal, Receipt, Reply, Verdict,
};
use meridian_domain::key::{KeyRange, Space};
use meridian_domain::kv::{
    Delete, KeyValue, Order, Put, Range, RangeReply, RevisionBounds, Target,
};
use meridian_domain::name::{TenantId, TenantName};
use meridian_domain::revision::LogId;
use meridian_domain::stamp::{RequestId, Stamp};
use meridian_domain::tenant::{Quota, Retention, TenantRecord};
use meridian_domain::txn::{Compare, Op, OpReply, Operand, Relation, Txn, TxnReply};
use meridian_proto::record::{answer, proposal};

/// The examples of a file, by name.
fn frozen(file: &str) -> BTreeMap<String, Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/frozen")
        .join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let examples = lines.map(|line| {
        let (name, hex) = line.split_once(' ').unwrap();
        (name.to_owned(), from_hex(hex))
    });
    examples.collect()
}

fn from_hex(hex: &str) -> Vec<u8> {
    let digits = hex
        .as_bytes()
        .chunks_exact(2)
        .map(|pair| std::str::from_utf8(pair).unwrap());
    digits
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

/// Holds every frozen example against the value it stands for, and every value against its example.
fn hold<T: PartialEq + std::fmt::Debug>(
    file: &str,
    samples: Vec<(&'static str, T)>,
    encode: impl Fn(&T) -> Bytes,
    decode: impl Fn(&[u8]) -> T,
) {
    let mut examples = frozen(file);
    let mut missing = String::new();
    for (name, sample) in samples {
        let Some(bytes) = examples.remove(name) else {
            writeln!(missing, "{name} {}", to_hex(&encode(&sample))).unwrap();
            continue;
        };
        assert_eq!(decode(&bytes), sample, "{file}: {name} is read differently");
        assert_eq!(
            to_hex(&encode(&sample)),
            to_hex(&bytes),
            "{file}: {name} is written differently"
        );
    }
    assert!(missing.is_empty(), "add to {file}:\n{missing}");
    assert!(
        examples.is_empty(),
        "{file}: no value stands for {:?}",
        examples.keys()
    );
}

#[test]
fn proposals_of_version_1() {
    hold("proposal-1.txt", proposals(), proposal::encode, |bytes| {
        proposal::decode(bytes).unwrap()
    });
}

#[test]
fn proposals_of_version_2() {
    let origin = Origin {
        proof: Some(Proof::Certificate),
        address: Some(Address::v4([10, 0, 0, 1])),
        member: 5,
        grant: "team#1".into(),
        reason: "because".into(),
        ticket: "T-1".into(),
        trace: Bytes::from_static(&[1; 16]),
    };
    let proposal = plain(Command::Compact { revision: 7 });
    let samples = vec![
        ("origin-empty", (proposal.clone(), Some(Origin::default()))),
        ("origin-full", (proposal, Some(origin))),
    ];
    let encode = |(proposal, origin): &(Proposal, Option<Origin>)| {
        proposal::encode_with(proposal, origin.as_ref().unwrap())
    };
    hold("proposal-2.txt", samples, encode, |bytes| {
        proposal::decode_with(bytes).unwrap()
    });
}

#[test]
fn answers_of_version_1() {
    let encode = |receipt: &Receipt| answer::encode(receipt).unwrap();
    hold("answer-1.txt", answers(), encode, |bytes| {
        answer::decode(bytes).unwrap()
    });
}

// ---- the values -----------------------------------------------------------------------------------------

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn plain(command: Command) -> Proposal {
    Proposal {
        tenant: TenantId(1),
        request_id: None,
        actor: "anonymous".into(),
        stamp: Stamp {
            unix_ms: 1_700_000_000_000,
        },
        guards: Guards {
            rules_revision: Some(0),
            term: None,
        },
        command,
    }
}

fn put(key: &'static str, value: Option<&'static str>, lease: Option<i64>) -> Op {
    Op::Put(Put {
        space: Space::RAW,
        key: bytes(key),
        value: value.map(bytes),
        lease,
        prev_kv: false,
    })
}

fn compare(relation: Relation, operand: Operand) -> Compare {
    Compare {
        space: Space::RAW,
        range: KeyRange::single(bytes("k")),
        relation,
        operand,
    }
}

fn quota() -> Quota {
    Quota {
        bytes: 1 << 30,
        keys: 100_000,
        watchers: 5_000,
        requests_per_second: 1_000,
    }
}

fn retention() -> Retention {
    Retention {
        revisions: 10_000,
        seconds: 86_400,
    }
}

fn full_range() -> Range {
    Range {
        space: Space(3),
        range: KeyRange::prefix(bytes("app/")),
        revision: -1,
        limit: 10,
        order: Order::Descend,
        target: Target::Value,
        keys_only: true,
        count_only: true,
        bounds: RevisionBounds {
            mod_min: 1,
            mod_max: 2,
            create_min: 3,
            create_max: 4,
        },
    }
}

fn every_part_of_a_transaction() -> Txn {
    let orders = [
        (Order::Unordered, Target::Key),
        (Order::Ascend, Target::Version),
        (Order::Descend, Target::Create),
        (Order::Ascend, Target::Mod),
    ];
    let reads = orders.map(|(order, target)| {
        Op::Range(Range {
            order,
            target,
            ..full_range()
        })
    });
    let nested = Txn {
        compares: vec![],
        success: vec![put("b", None, None)],
        failure: vec![Op::Txn(Txn::default())],
    };
    Txn {
        compares: vec![
            compare(Relation::Equal, Operand::Version(0)),
            compare(Relation::Greater, Operand::Create(-1)),
            compare(Relation::Less, Operand::Mod(i64::MAX)),
            compare(Relation::NotEqual, Operand::Value(bytes("v"))),
            compare(Relation::Equal, Operand::Lease(i64::MIN)),
        ],
        success: vec![
            put("a", Some(""), Some(0x1234_5678_9abc_def0)),
            Op::Delete(Delete {
                space: Space(255),
                range: KeyRange::all(),
                prev_kv: true,
            }),
            Op::Range(full_range()),
            Op::Txn(nested),
        ],
        failure: reads.to_vec(),
    }
}

fn proposals() -> Vec<(&'static str, Proposal)> {
    let name = || TenantName::new("team-a").unwrap();
    let mut guarded = plain(Command::LeaseRevoke { id: -5 });
    guarded.tenant = TenantId(u32::MAX);
    guarded.request_id = Some(RequestId::new(bytes("0123456789abcdef")).unwrap());
    guarded.guards = Guards {
        rules_revision: Some(u64::MAX),
        term: Some(7),
    };
    let alarm = |kind, raised| {
        plain(Command::Alarm {
            member: 11,
            kind,
            raised,
        })
    };
    let member = MemberRecord {
        id: 0xfedc_ba98_7654_3210,
        name: "n1".into(),
        client_urls: vec!["http://127.0.0.1:2379".into(), "https://n1:2379".into()],
        region: "eu-central".into(),
        zone: "a".into(),
        version: "0.1.0".into(),
        instance: 42,
    };
    vec![
        (
            "put",
            plain(Command::Txn(Txn::once(put("foo", Some("bar"), Some(0))))),
        ),
        ("txn-empty", plain(Command::Txn(Txn::default()))),
        (
            "txn-every-part",
            plain(Command::Txn(every_part_of_a_transaction())),
        ),
        ("guarded", guarded),
        (
            "lease-grant",
            plain(Command::LeaseGrant {
                id: 99,
                ttl_seconds: 60,
            }),
        ),
        ("lease-revoke", plain(Command::LeaseRevoke { id: 99 })),
        (
            "lease-checkpoint",
            plain(Command::LeaseCheckpoint {
                remaining: vec![(1, 30), (-2, 0)],
            }),
        ),
        ("compact", plain(Command::Compact { revision: 1_000 })),
        (
            "tenant-create",
            plain(Command::TenantCreate {
                name: name(),
                quota: quota(),
                retention: retention(),
            }),
        ),
        (
            "tenant-change",
            plain(Command::TenantChange {
                name: name(),
                quota: Some(quota()),
                retention: None,
            }),
        ),
        (
            "tenant-change-retention",
            plain(Command::TenantChange {
                name: name(),
                quota: None,
                retention: Some(Retention::default()),
            }),
        ),
        (
            "tenant-delete",
            plain(Command::TenantDelete { name: name() }),
        ),
        ("alarm-raise", alarm(AlarmKind::NoSpace, true)),
        ("alarm-clear", alarm(AlarmKind::Corrupt, false)),
        ("member-publish", plain(Command::MemberPublish(member))),
        ("member-forget", plain(Command::MemberForget { id: 3 })),
    ]
}

fn answers() -> Vec<(&'static str, Receipt)> {
    let applied = |reply| Receipt {
        log_id: LogId {
            term: 3,
            index: 1_000_000,
        },
        revision: 77,
        verdict: Verdict::Applied(reply),
    };
    let kv = KeyValue {
        key: bytes("foo"),
        create_revision: 5,
        mod_revision: 76,
        version: 3,
        value: bytes("bar"),
        lease: -9,
    };
    let replies = vec![
        OpReply::Put {
            revision: 77,
            prev_kv: Some(kv.clone()),
        },
        OpReply::Delete {
            revision: 77,
            deleted: 1,
            prev_kvs: vec![kv.clone()],
        },
        OpReply::Range {
            revision: 77,
            reply: RangeReply {
                kvs: vec![kv],
                more: true,
                count: 12,
            },
        },
        OpReply::Txn(TxnReply {
            succeeded: false,
            replies: vec![],
        }),
    ];
    let put = vec![OpReply::Put {
        revision: 77,
        prev_kv: None,
    }];
    let tenant = TenantRecord {
        id: TenantId(2),
        name: TenantName::new("team-a").unwrap(),
        quota: quota(),
        retention: retention(),
        created: Stamp {
            unix_ms: 1_700_000_000_000,
        },
    };
    vec![
        (
            "put",
            applied(Reply::Txn(TxnReply {
                succeeded: true,
                replies: put,
            })),
        ),
        (
            "txn-every-part",
            applied(Reply::Txn(TxnReply {
                succeeded: true,
                replies,
            })),
        ),
        (
            "lease-granted",
            applied(Reply::LeaseGranted {
                id: 99,
                ttl_seconds: 60,
            }),
        ),
        ("tenant", applied(Reply::Tenant(tenant))),
        ("alarm-moved", applied(Reply::Alarm { changed: true })),
        ("alarm-as-it-was", applied(Reply::Alarm { changed: false })),
        ("done", applied(Reply::Done)),
    ]
}
