//! Tenants, alarms, members: the cluster's own facts in apply.

use meridian_domain::command::{AlarmKind, MemberRecord};
use meridian_domain::name::TenantName;
use meridian_domain::tenant::{Quota, QuotaKind, Retention};
use meridian_domain::view::ClusterView;

use super::*;

fn name(name: &str) -> TenantName {
    TenantName::new(name).unwrap()
}

fn create(rig: &mut Rig, as_name: &str, quota: Quota) -> Receipt {
    let command = Command::TenantCreate {
        name: name(as_name),
        quota,
        retention: Retention::default(),
    };
    rig.run(command)
}

fn put_in(rig: &mut Rig, tenant: u32, key: &str, value: &str) -> Receipt {
    let proposal = Proposal {
        tenant: TenantId(tenant),
        ..proposal_of(put(key, value))
    };
    let receipt = rig.apply(&record(&proposal));
    rig.machine.publish();
    receipt
}

#[test]
fn tenants_have_revisions_of_their_own_and_numbers_are_not_reused() {
    let mut rig = Rig::new();
    create(&mut rig, "a", Quota::default());
    assert_eq!(put_in(&mut rig, 2, "k", "1").revision, 2);
    assert_eq!(put_in(&mut rig, 2, "k", "2").revision, 3);
    assert_eq!(rig.put("k", "1").revision, 2);
    rig.run(Command::TenantDelete { name: name("a") });
    let receipt = create(&mut rig, "a", Quota::default());
    assert!(matches!(reply(&receipt), Reply::Tenant(record) if record.id == TenantId(3)));
    assert_eq!(put_in(&mut rig, 3, "k", "1").revision, 2);
    let refused = put_in(&mut rig, 2, "k", "1");
    assert!(matches!(
        rejection(&refused),
        Rejection::TenantNotFound { .. }
    ));
}

#[test]
fn a_deleted_tenant_leaves_no_row_behind_and_its_watchers_learn_of_it() {
    let mut rig = Rig::new();
    rig.put("k", "1");
    let before = rig.rows();
    create(&mut rig, "a", Quota::default());
    let tenant = rig.machine.store().tenant_named("a").unwrap();
    for i in 0..20 {
        put_in(&mut rig, 2, "k", &i.to_string());
    }
    let grant = Command::LeaseGrant {
        id: 5,
        ttl_seconds: 9,
    };
    let proposal = with_id(
        Proposal {
            tenant: TenantId(2),
            ..proposal_of(grant)
        },
        "r",
    );
    rig.apply(&record(&proposal));
    // Its last write and its end in one batch.
    let proposal = Proposal {
        tenant: TenantId(2),
        ..proposal_of(put("k", "last"))
    };
    rig.apply(&record(&proposal));
    let view = tenant.view();
    rig.run(Command::TenantDelete { name: name("a") });
    assert!(tenant.is_removed() && tenant.hub().is_closed());
    assert!(rig.machine.store().tenant_named("a").is_none());
    assert_eq!(view.revision(), 21, "who holds a root reads on");

    let after = rig.rows();
    let own = |key: &Bytes| key[0] > 2;
    assert_eq!(
        after
            .facts
            .iter()
            .filter(|(key, _)| own(key))
            .collect::<Vec<_>>(),
        before
            .facts
            .iter()
            .filter(|(key, _)| own(key))
            .collect::<Vec<_>>()
    );
    let mut left = 0;
    rig.history.flush().unwrap();
    rig.history
        .pin()
        .versions(TenantId(2), Revision::MAX, &mut |_| {
            left += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(left, 0);
}

#[test]
fn the_default_tenant_stays_and_names_are_unique() {
    let mut rig = Rig::new();
    let receipt = rig.run(Command::TenantDelete {
        name: name("default"),
    });
    assert_eq!(rejection(&receipt), &Rejection::TenantIsDefault);
    let receipt = create(&mut rig, "default", Quota::default());
    assert_eq!(
        rejection(&receipt),
        &Rejection::TenantExists {
            name: name("default")
        }
    );
    let receipt = rig.run(Command::TenantDelete { name: name("x") });
    assert_eq!(
        rejection(&receipt),
        &Rejection::TenantNotFound { name: "x".into() }
    );
    let change = Command::TenantChange {
        name: name("x"),
        quota: None,
        retention: None,
    };
    let receipt = rig.run(change);
    assert_eq!(
        rejection(&receipt),
        &Rejection::TenantNotFound { name: "x".into() }
    );
}

#[test]
fn a_quota_is_met_exactly_and_deletes_and_smaller_values_go_on() {
    let mut rig = Rig::new();
    let cost = 256 + 1 + 4;
    create(
        &mut rig,
        "a",
        Quota {
            bytes: 2 * cost,
            keys: 0,
            ..Quota::default()
        },
    );
    assert_eq!(put_in(&mut rig, 2, "a", "1234").revision, 2);
    assert_eq!(put_in(&mut rig, 2, "b", "1234").revision, 3);
    let exceeded = |used| Rejection::QuotaExceeded {
        tenant: name("a"),
        kind: QuotaKind::Bytes,
        used,
        limit: 2 * cost,
    };
    let refused = put_in(&mut rig, 2, "b", "12345");
    assert_eq!(rejection(&refused), &exceeded(2 * cost + 1));
    let refused = put_in(&mut rig, 2, "c", "");
    assert_eq!(rejection(&refused), &exceeded(2 * cost + 257));
    assert_eq!(put_in(&mut rig, 2, "b", "123").revision, 4);

    let quota = Quota {
        bytes: 10,
        keys: 2,
        ..Quota::default()
    };
    rig.run(Command::TenantChange {
        name: name("a"),
        quota: Some(quota),
        retention: None,
    });
    assert_eq!(
        put_in(&mut rig, 2, "b", "12").revision,
        5,
        "above the quota it may shrink"
    );
    let quota = Quota {
        bytes: 0,
        keys: 2,
        ..Quota::default()
    };
    rig.run(Command::TenantChange {
        name: name("a"),
        quota: Some(quota),
        retention: None,
    });
    let refused = put_in(&mut rig, 2, "c", "");
    let keys = Rejection::QuotaExceeded {
        tenant: name("a"),
        kind: QuotaKind::Keys,
        used: 3,
        limit: 2,
    };
    assert_eq!(rejection(&refused), &keys);
    assert_eq!(put_in(&mut rig, 2, "b", "longer").revision, 6);
}

#[test]
fn a_transaction_over_quota_changes_nothing_even_if_it_deletes_first() {
    let mut rig = Rig::new();
    let quota = Quota {
        keys: 2,
        ..Quota::default()
    };
    let change = Command::TenantChange {
        name: name("default"),
        quota: Some(quota),
        retention: None,
    };
    rig.run(change);
    rig.put("a", "1");
    let delete = Op::Delete(meridian_domain::kv::Delete {
        space: Space::RAW,
        range: KeyRange::single(Bytes::from_static(b"a")),
        prev_kv: false,
    });
    let put_two = [put_op("b", "1", 0), put_op("c", "1", 0)];
    let swap = |ops: &[Op]| {
        Command::Txn(Txn {
            success: ops.to_vec(),
            ..Txn::default()
        })
    };
    let with_delete = [&[delete][..], &put_two].concat();
    assert_eq!(
        rig.run(swap(&with_delete)).revision,
        3,
        "one goes, two come: two keys"
    );
    let digest = rig.machine.digest().hash;
    let refused = rig.run(swap(&[put_op("b", "2", 0), put_op("d", "1", 0)]));
    assert!(matches!(
        rejection(&refused),
        Rejection::QuotaExceeded {
            used: 3,
            limit: 2,
            ..
        }
    ));
    assert_eq!(rig.machine.digest().hash, digest);
    let all = rig.all(0).unwrap();
    assert_eq!(
        all.kvs
            .iter()
            .map(|kv| kv.value.as_ref())
            .collect::<Vec<_>>(),
        [b"1", b"1"]
    );
    assert_eq!(rig.put("b", "3").revision, 4);
}

#[test]
fn alarms_and_members_are_facts_of_the_cluster() {
    let mut rig = Rig::new();
    let alarm = |member, raised| Command::Alarm {
        member,
        kind: AlarmKind::NoSpace,
        raised,
    };
    assert_eq!(
        reply(&rig.run(alarm(9, true))),
        &Reply::Alarm { changed: true }
    );
    assert_eq!(
        reply(&rig.run(alarm(9, true))),
        &Reply::Alarm { changed: false }
    );
    rig.run(alarm(7, true));
    let member = MemberRecord {
        id: 9,
        name: "n9".into(),
        instance: 3,
        ..MemberRecord::default()
    };
    rig.run(Command::MemberPublish(member.clone()));
    let cluster = rig.machine.store().cluster();
    assert_eq!(
        cluster.alarms(),
        [(7, AlarmKind::NoSpace), (9, AlarmKind::NoSpace)]
    );
    assert_eq!(cluster.members(), [member]);
    rig.run(Command::MemberForget { id: 9 });
    let cluster = rig.machine.store().cluster();
    assert_eq!(cluster.alarms(), [(7, AlarmKind::NoSpace)]);
    assert!(cluster.members().is_empty());
}

#[test]
fn guards_make_a_plan_stale() {
    let mut rig = Rig::new();
    let mut proposal = proposal_of(put("a", "1"));
    proposal.guards = Guards {
        rules_revision: Some(0),
        term: Some(1),
    };
    assert_eq!(rig.apply(&record(&proposal.clone())).revision, 2);
    proposal.guards.term = Some(2);
    let receipt = rig.apply(&record(&proposal.clone()));
    assert_eq!((receipt.revision, receipt.verdict), (2, Verdict::Stale));
    proposal.guards = Guards {
        rules_revision: Some(1),
        term: None,
    };
    assert_eq!(rig.apply(&record(&proposal)).verdict, Verdict::Stale);
}

#[test]
fn a_state_without_any_write_of_a_tenant_is_read_back_from_history() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let dir = dir.path().join("versions");
        let settings = crate::history::Settings::default();
        History::open(&dir, settings, Arc::new(crate::seal::Plain)).unwrap()
    };
    let at = LogId { term: 1, index: 1 };
    let (history, none) = open();
    assert!(none.is_none());
    let mut machine = Machine::new(history.clone(), Settings::default());
    machine.advance(at);
    machine.publish();
    let hash = machine.digest();
    history.flush().unwrap();
    drop((machine, history));
    let (history, rows) = open();
    let machine = Machine::load(rows.unwrap().as_mut(), history, Settings::default()).unwrap();
    assert_eq!(machine.digest(), hash);
    assert!(machine.store().tenant_named("default").is_some());
}
