//! What a write leaves in the audit log: derived from what was proposed and what came of it, and from nothing else.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;

use bytes::Bytes;
use meridian_domain::access::verb::Verb;
use meridian_domain::audit::derive::{Header, record, value_hash};
use meridian_domain::audit::record::{Deed, Outcome, ROWS_NAMED_MAX, Record};
use meridian_domain::changes::{Change, Changes};
use meridian_domain::command::{AlarmKind, Command, MemberRecord, Receipt, Reply, Verdict};
use meridian_domain::key::{KeyRange, Space};
use meridian_domain::kv::{Delete, KeyValue, Put};
use meridian_domain::name::{TenantId, TenantName};
use meridian_domain::rejection::Rejection;
use meridian_domain::revision::LogId;
use meridian_domain::stamp::{RequestId, Stamp};
use meridian_domain::tenant::{Quota, Retention};
use meridian_domain::txn::{Op, Txn, TxnReply};

const AT: LogId = LogId { term: 2, index: 40 };

fn header(id: &RequestId) -> Header<'_> {
    Header {
        tenant: TenantId(3),
        request_id: Some(id),
        actor: "user:ann",
        stamp: Stamp { unix_ms: 5 },
        rules_revision: Some(9),
        origin: None,
    }
}

fn receipt(verdict: Verdict) -> Receipt {
    Receipt {
        log_id: AT,
        revision: 11,
        verdict,
    }
}

fn done() -> Receipt {
    receipt(Verdict::Applied(Reply::Txn(TxnReply::default())))
}

fn derive(command: &Command, changes: Option<&Changes>, receipt: &Receipt) -> Option<Record> {
    let id = RequestId::new(Bytes::from_static(b"id")).unwrap();
    record(&header(&id), command, changes, receipt)
}

fn put(space: Space) -> Command {
    Command::Txn(Txn::once(Op::Put(Put {
        space,
        key: Bytes::from_static(b"k"),
        value: Some(Bytes::from_static(b"secret")),
        lease: Some(0),
        prev_kv: false,
    })))
}

fn version(key: &str, revision: i64, value: &'static str) -> Arc<KeyValue> {
    Arc::new(KeyValue {
        key: key.to_owned().into(),
        create_revision: 1,
        mod_revision: revision,
        version: 1,
        value: value.into(),
        lease: 0,
    })
}

fn changes(space: Space, count: usize) -> Changes {
    let row = |number: usize| {
        let key = format!("k{number:04}");
        Change {
            space,
            before: Some(version(&key, 4, "old secret")),
            after: (number > 0).then(|| version(&key, 11, "secret")),
            key: key.into(),
        }
    };
    Changes {
        revision: 11,
        rows: (0..count).map(row).collect(),
    }
}

#[test]
fn a_write_says_who_what_when_and_which_keys() {
    let changes = changes(Space::RAW, 2);
    let found = derive(&put(Space::RAW), Some(&changes), &done()).unwrap();
    assert_eq!(found.tenant, TenantId(3));
    assert_eq!((&*found.actor, found.stamp.unix_ms), ("user:ann", 5));
    assert_eq!((found.log_id, found.revision), (Some(AT), 11));
    assert_eq!(found.rules_revision, Some(9));
    assert_eq!(found.request_id.as_deref(), Some(&b"id"[..]));
    assert_eq!((found.deed, found.verb), (Deed::Txn, Some(Verb::Write)));
    assert_eq!(found.outcome, Outcome::Done);
    assert_eq!(
        (found.rows.len(), found.rows_count, found.rows_root),
        (2, 2, None)
    );
    let last = &found.rows[1];
    assert_eq!(&last.key[..], b"k0001");
    let hash =
        |kv: &Option<Arc<KeyValue>>| value_hash(TenantId(3), Space::RAW, kv.as_ref().unwrap());
    assert_eq!(last.before, Some(hash(&changes.rows[1].before)));
    assert_eq!(last.after, Some(hash(&changes.rows[1].after)));
    assert_eq!(found.rows[0].after, None);
}

#[test]
fn no_value_stands_in_a_record() {
    let found = derive(&put(Space::RAW), Some(&changes(Space::RAW, 3)), &done()).unwrap();
    assert!(!format!("{found:?}").contains("secret"));
    let raw = format!("{:?}", b"secret".as_slice());
    assert!(!format!("{found:?}").contains(raw.trim_matches(['[', ']'])));
}

#[test]
fn equal_values_do_not_show_as_equal() {
    let hash = |tenant, space, key, revision| {
        value_hash(TenantId(tenant), space, &version(key, revision, "v"))
    };
    let all = [
        hash(1, Space::RAW, "k", 1),
        hash(2, Space::RAW, "k", 1),
        hash(1, Space::ACCESS, "k", 1),
        hash(1, Space::RAW, "l", 1),
        hash(1, Space::RAW, "k", 2),
    ];
    for (place, one) in all.iter().enumerate() {
        assert!(all[place + 1..].iter().all(|other| other != one));
    }
}

#[test]
fn many_keys_are_counted_under_one_hash() {
    let most = changes(Space::RAW, ROWS_NAMED_MAX);
    let found = derive(&put(Space::RAW), Some(&most), &done()).unwrap();
    assert_eq!((found.rows.len(), found.rows_root), (ROWS_NAMED_MAX, None));

    let more = changes(Space::RAW, 1_000);
    let found = derive(&put(Space::RAW), Some(&more), &done()).unwrap();
    assert_eq!(
        (found.rows.len(), found.rows_count),
        (ROWS_NAMED_MAX, 1_000)
    );
    let root = found.rows_root.unwrap();
    // A key that is not named moves it all the same.
    let mut other = more.clone();
    other.rows[999].after = None;
    let found = derive(&put(Space::RAW), Some(&other), &done()).unwrap();
    assert_ne!(found.rows_root, Some(root));
    let mut swapped = more.clone();
    swapped.rows.swap(998, 999);
    let found = derive(&put(Space::RAW), Some(&swapped), &done()).unwrap();
    assert_ne!(found.rows_root, Some(root));
}

#[test]
fn a_change_of_rules_is_told_from_a_change_of_keys() {
    for space in [Space::ACCESS, Space::CREDENTIALS] {
        let found = derive(&put(space), Some(&changes(space, 1)), &done()).unwrap();
        assert_eq!(found.deed, Deed::Access);
    }
    let full = receipt(Verdict::Rejected(Rejection::NoSpaceAlarm));
    let found = derive(&put(Space::ACCESS), None, &full).unwrap();
    assert_eq!(found.deed, Deed::Access);
    let delete = Command::Txn(Txn::once(Op::Delete(Delete {
        space: Space::RAW,
        range: KeyRange::all(),
        prev_kv: false,
    })));
    let found = derive(&delete, None, &done()).unwrap();
    assert_eq!((found.deed, found.verb), (Deed::Txn, Some(Verb::Delete)));
}

#[test]
fn a_refusal_leaves_its_code_and_a_stale_plan_leaves_nothing() {
    let derive = |verdict| derive(&put(Space::RAW), None, &receipt(verdict));
    assert_eq!(derive(Verdict::Stale), None);
    let refused = derive(Verdict::Rejected(Rejection::LeaseNotFound)).unwrap();
    let code = "LEASE_NOT_FOUND".into();
    assert_eq!(refused.outcome, Outcome::Refused { code });
    let denied = derive(Verdict::Rejected(Rejection::PermissionDenied)).unwrap();
    let code = "PERMISSION_DENIED".into();
    assert_eq!(denied.outcome, Outcome::Denied { code });
    assert_eq!((denied.rows_count, denied.rows.len()), (0, 0));
}

#[test]
fn every_command_but_matters_of_course_leaves_a_record() {
    let name = || TenantName::new("x").unwrap();
    let (quota, retention) = (Quota::default(), Retention::default());
    let commands = [
        (
            Command::LeaseGrant {
                id: 26,
                ttl_seconds: 1,
            },
            Some((Deed::LeaseGrant, "1a")),
        ),
        (
            Command::LeaseRevoke { id: 26 },
            Some((Deed::LeaseRevoke, "1a")),
        ),
        (Command::LeaseCheckpoint { remaining: vec![] }, None),
        (Command::Compact { revision: 7 }, Some((Deed::Compact, "7"))),
        (
            Command::TenantCreate {
                name: name(),
                quota,
                retention,
            },
            Some((Deed::TenantCreate, "x")),
        ),
        (
            Command::TenantChange {
                name: name(),
                quota: None,
                retention: None,
            },
            Some((Deed::TenantChange, "x")),
        ),
        (
            Command::TenantDelete { name: name() },
            Some((Deed::TenantDelete, "x")),
        ),
        (
            Command::Alarm {
                member: 10,
                kind: AlarmKind::NoSpace,
                raised: true,
            },
            Some((Deed::Alarm, "a")),
        ),
        (Command::MemberPublish(MemberRecord::default()), None),
        (Command::MemberForget { id: 11 }, Some((Deed::Member, "b"))),
    ];
    for (command, wanted) in commands {
        let found = derive(&command, None, &receipt(Verdict::Applied(Reply::Done)));
        let found = found.map(|record| (record.deed, record.object));
        let wanted = wanted.map(|(deed, object)| (deed, object.into()));
        assert_eq!(found, wanted, "{command:?}");
    }
}
