//! The rules revision: what moves it, and what that makes stale.

use meridian_domain::access::document::{Place, encode};
use meridian_domain::access::policy::Door;
use meridian_domain::kv::Delete;
use meridian_domain::tenant::{Quota, Retention};
use meridian_domain::view::ClusterView;

use super::*;

fn write(space: Space, key: &'static [u8], value: Bytes) -> Command {
    Command::Txn(Txn::once(Op::Put(Put {
        space,
        key: Bytes::from_static(key),
        value: Some(value),
        lease: Some(0),
        prev_kv: false,
    })))
}

fn rules(rig: &Rig) -> u64 {
    rig.tenant().view().rules_revision()
}

#[test]
fn only_a_change_of_rules_moves_the_rules_revision() {
    let mut rig = Rig::new();
    let value = || Bytes::from_static(b"v");
    rig.put("k", "v");
    rig.run(write(Space::CREDENTIALS, b"token/t", value()));
    assert_eq!(rules(&rig), 0);
    rig.run(write(Space::ACCESS, b"role/r", value()));
    assert_eq!(rules(&rig), 1);
    let delete = |key: &'static [u8]| {
        Command::Txn(Txn::once(Op::Delete(Delete {
            space: Space::ACCESS,
            range: KeyRange::single(Bytes::from_static(key)),
            prev_kv: false,
        })))
    };
    rig.run(delete(b"role/none"));
    assert_eq!(rules(&rig), 1);
    rig.run(delete(b"role/r"));
    assert_eq!(rules(&rig), 2);
}

#[test]
fn a_plan_under_older_rules_is_stale_and_changes_nothing() {
    let mut rig = Rig::new();
    let guarded = |command, tenant, planned| {
        let mut proposal = proposal_of(command);
        proposal.tenant = tenant;
        proposal.guards.rules_revision = Some(planned);
        record(&proposal)
    };
    let value = || Bytes::from_static(b"v");
    let first = write(Space::ACCESS, b"role/a", value());
    let second = write(Space::ACCESS, b"role/b", value());
    let applied = rig.apply(&guarded(first, TenantId::DEFAULT, 0));
    assert!(matches!(applied.verdict, Verdict::Applied(_)));
    let late = rig.apply(&guarded(second.clone(), TenantId::DEFAULT, 0));
    assert_eq!(late.verdict, Verdict::Stale);
    let late = rig.apply(&guarded(put("k", "v"), TenantId::DEFAULT, 0));
    assert_eq!(late.verdict, Verdict::Stale);
    let again = rig.apply(&guarded(second, TenantId::DEFAULT, 1));
    assert!(matches!(again.verdict, Verdict::Applied(_)));
    rig.machine.publish();
    assert_eq!((rules(&rig), rig.all(0).unwrap().count), (2, 0));

    // The rules on the cluster are those of the tenant `default`.
    let create = || Command::TenantCreate {
        name: meridian_domain::name::TenantName::new("b").unwrap(),
        quota: Quota::default(),
        retention: Retention::default(),
    };
    let late = rig.apply(&guarded(create(), TenantId::SYSTEM, 1));
    assert_eq!(late.verdict, Verdict::Stale);
    let made = rig.apply(&guarded(create(), TenantId::SYSTEM, 2));
    assert!(matches!(made.verdict, Verdict::Applied(_)));
}

#[test]
fn the_rules_revision_survives_a_restart() {
    let mut rig = Rig::new();
    rig.run(write(Space::ACCESS, b"role/a", Bytes::from_static(b"v")));
    let mut rows = rig.rows();
    let loaded = Machine::load(&mut rows, rig.history.clone(), Settings::default()).unwrap();
    let tenant = loaded.store().tenant(TenantId::DEFAULT).unwrap();
    assert_eq!(tenant.view().rules_revision(), 1);
}

#[test]
fn the_cluster_is_guarded_once_the_door_of_default_is_closed() {
    let mut rig = Rig::new();
    let door = |enabled| {
        encode(&Door {
            enabled,
            revocations: 0,
        })
    };
    let is_guarded = |rig: &Rig| rig.machine.store().cluster().is_guarded();
    let place = Place::door();
    assert_eq!((place.space, &place.key[..]), (Space::ACCESS, &b"door"[..]));
    assert!(!is_guarded(&rig));
    for (value, guarded) in [
        (door(false), false),
        (door(true), true),
        (Bytes::from_static(b"unreadable"), true),
        (door(false), false),
    ] {
        rig.run(write(Space::ACCESS, b"door", value));
        assert_eq!(is_guarded(&rig), guarded);
    }
}
