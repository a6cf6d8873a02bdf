//! Request ids: a write is applied at most once.

use meridian_domain::limits::{REQUEST_ANSWER_BYTES_MAX, REQUEST_IDS_PER_TENANT};

use super::*;

fn ask(rig: &mut Rig, id: &str, command: Command) -> Receipt {
    rig.apply(&record(&with_id(proposal_of(command), id)))
}

#[test]
fn a_request_is_applied_once_and_answered_the_same_again() {
    let mut rig = Rig::new();
    let first = ask(&mut rig, "r1", put("a", "1"));
    rig.apply(&record(&proposal_of(put("a", "2"))));
    let digest = rig.machine.digest().hash;
    let again = ask(&mut rig, "r1", put("a", "1"));
    assert_eq!(again, first);
    assert_eq!(rig.machine.digest().hash, digest, "nothing was applied");
    rig.machine.publish();
    assert_eq!(rig.all(0).unwrap().kvs[0].value, "2");
}

#[test]
fn an_answer_that_is_too_large_to_keep_is_answered_with_its_revision() {
    let mut rig = Rig::new();
    let large = "x".repeat(REQUEST_ANSWER_BYTES_MAX);
    rig.put("a", &large);
    let Op::Put(mut with_prev) = put_op("a", "2", 0) else {
        panic!()
    };
    with_prev.prev_kv = true;
    let command = Command::Txn(Txn::once(Op::Put(with_prev)));
    let first = ask(&mut rig, "r1", command.clone());
    assert_eq!(first.revision, 3);
    let again = ask(&mut rig, "r1", command);
    assert_eq!(
        rejection(&again),
        &Rejection::AlreadyApplied { revision: 3 }
    );
    assert_eq!((again.log_id, again.revision), (first.log_id, 3));
}

#[test]
fn what_was_refused_or_stale_is_judged_anew() {
    let mut rig = Rig::new();
    let leased = Command::Txn(Txn::once(put_op("a", "1", 7)));
    assert_eq!(
        rejection(&ask(&mut rig, "r1", leased.clone())),
        &Rejection::LeaseNotFound
    );
    rig.run(Command::LeaseGrant {
        id: 7,
        ttl_seconds: 10,
    });
    let mut stale = with_id(proposal_of(leased.clone()), "r1");
    stale.guards.rules_revision = Some(99);
    assert_eq!(rig.apply(&record(&stale)).verdict, Verdict::Stale);
    assert_eq!(ask(&mut rig, "r1", leased).revision, 2);
}

#[test]
fn the_oldest_request_is_forgotten_first() {
    let mut rig = Rig::new();
    for i in 0..=REQUEST_IDS_PER_TENANT {
        ask(&mut rig, &format!("r{i}"), put("a", "1"));
    }
    let revision = ask(&mut rig, "r1", put("a", "1")).revision;
    assert_eq!(revision, 3, "the second is remembered");
    let revision = ask(&mut rig, "r0", put("a", "1")).revision;
    assert_eq!(
        revision,
        REQUEST_IDS_PER_TENANT as Revision + 3,
        "the first is not"
    );
    rig.machine.publish();
    let kept = rig
        .rows()
        .facts
        .iter()
        .filter(|(key, _)| key[0] == 0x13)
        .count();
    assert_eq!(kept, REQUEST_IDS_PER_TENANT);
}

#[test]
fn tenants_do_not_share_request_ids() {
    let mut rig = Rig::new();
    let create = |name: &str| Command::TenantCreate {
        name: meridian_domain::name::TenantName::new(name).unwrap(),
        quota: meridian_domain::tenant::Quota::default(),
        retention: meridian_domain::tenant::Retention::default(),
    };
    rig.run(create("other"));
    ask(&mut rig, "r1", put("a", "1"));
    let mut other = with_id(proposal_of(put("a", "1")), "r1");
    other.tenant = TenantId(2);
    assert_eq!(rig.apply(&record(&other)).revision, 2);
    // The cluster's own commands have ids of their own, too.
    let mut cluster = with_id(proposal_of(create("third")), "r1");
    cluster.tenant = TenantId::SYSTEM;
    let first = rig.apply(&record(&cluster.clone()));
    assert!(matches!(reply(&first), Reply::Tenant(record) if record.id == TenantId(3)));
    assert_eq!(rig.apply(&record(&cluster)), first);
}
