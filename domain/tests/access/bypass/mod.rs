//! Ways past the rules that other stores had, or could have had: each is refused, and its allowed twin is allowed, so
//! that no case is refused for a reason of its own.

mod cases;

use meridian_domain::access::Identity;
use meridian_domain::name::{TenantId, TenantName};
use meridian_domain::rejection::Rejection;

use crate::*;
use cases::{cluster_cases, get, if_so, keys_cases, lease_cases, txn, write_cases};

#[test]
fn every_bypass_is_refused_and_its_twin_is_not() {
    let cases = [keys_cases(), write_cases(), lease_cases(), cluster_cases()].concat();
    assert!(cases.len() >= 40, "{}", cases.len());
    for (name, grants, refused, allowed) in cases {
        let stage = world(1, &grants);
        let no = stage.may("eve", refused.action());
        assert!(
            matches!(no, Err(Rejection::Forbidden { .. })),
            "{name}: {refused:?} came to {no:?}"
        );
        let yes = stage.may("eve", allowed.action());
        assert_eq!(yes, Ok(()), "{name}: {allowed:?}");
        // Nobody in particular may neither; the root of the tenant may both.
        for ask in [&refused, &allowed] {
            let no = stage.may("anonymous", ask.action());
            assert_eq!(no, Err(Rejection::UserNameEmpty), "{name}: {ask:?}");
            assert_eq!(stage.may("root", ask.action()), Ok(()), "{name}: {ask:?}");
        }
    }
}

#[test]
fn rules_and_tokens_are_no_keys_not_even_to_root() {
    let stage = world(1, &[("read! write!", "tenant")]);
    for space in [Space::ACCESS, Space::CREDENTIALS] {
        let mut one = put("door");
        one.space = space;
        let mut some = delete("a..z");
        some.space = space;
        let mut all = range("\0..");
        all.space = space;
        let mut oracle = compare("door", Operand::Value("v".into()));
        oracle.space = space;
        for ask in [
            Ask::Write(Intent::Put(one.clone())),
            Ask::Write(Intent::Delete(some)),
            Ask::Read(Query::Range(all)),
            txn(nested(Op::Put(one), 2)),
            if_so(oracle),
            Ask::Watch(space, keys("a..")),
        ] {
            for who in ["root", "eve"] {
                let no = stage.may(who, ask.action());
                assert_eq!(no, Err(Rejection::PermissionDenied), "{who}: {ask:?}");
            }
        }
    }
}

#[test]
fn what_only_the_cluster_does_is_not_for_root() {
    let stage = world(1, &[("read! write!", "tenant")]);
    let intents = [
        Intent::LeaseExpire { id: 7, term: 1 },
        Intent::LeaseCheckpoint {
            remaining: vec![],
            term: 1,
        },
        Intent::MemberPublish(meridian_domain::command::MemberRecord::default()),
        Intent::MemberForget { id: 1 },
    ];
    for intent in intents {
        let action = Action::Write(&intent);
        assert_eq!(stage.may("root", action), Err(Rejection::PermissionDenied));
        assert_eq!(stage.may("system", action), Ok(()));
    }
    // And the cluster does nothing else.
    let other = Ask::Write(Intent::Put(put("a/1")));
    assert_eq!(
        stage.may("system", other.action()),
        Err(Rejection::PermissionDenied)
    );
    let rules = Ask::Write(Intent::Access(AccessChange::Disable));
    assert_eq!(
        stage.may("system", rules.action()),
        Err(Rejection::PermissionDenied)
    );
}

#[test]
fn an_identity_of_another_tenant_is_nobody_here() {
    let (mine, other) = (world(2, &[("read!", "a")]), world(3, &[("read!", "a")]));
    let ask = get("a");
    assert_eq!(mine.may("eve", ask.action()), Ok(()));
    let foreign = Identity::user(TenantId(2), "eve");
    assert_eq!(other.rights(&foreign), Err(Rejection::PermissionDenied));
    // Rights that were compiled over there do not count here either.
    let principal = mine.caller(foreign).unwrap();
    let refused = meridian_domain::access::permit(&other, &principal, ask.action());
    assert_eq!(refused.map(drop), Err(Rejection::PermissionDenied));
}

#[test]
fn root_of_a_tenant_is_nobody_in_the_cluster() {
    let home = world(1, &[]);
    let mut tenant = world(2, &[]);
    let create = Ask::Operate(Operation::MemberChange);
    assert_eq!(home.may("root", create.action()), Ok(()));
    assert!(matches!(
        tenant.may("root", create.action()),
        Err(Rejection::Forbidden { .. })
    ));
    let grant = AccessChange::Grant {
        role: "role".into(),
        effect: Effect::Allow,
        verbs: verbs("cluster.member"),
        scope: Scope::Cluster,
        conditions: Conditions::default(),
    };
    assert_eq!(tenant.change("root", grant), Err(Rejection::ClusterScope));
    let shipped = AccessChange::Assign {
        subject: Subject::User("eve".into()),
        assignment: Assignment::of("meridian:cluster-admin"),
    };
    assert_eq!(tenant.change("root", shipped), Ok(true));
    assert!(tenant.may("eve", create.action()).is_err());
}

#[test]
fn an_open_tenant_is_no_way_into_a_guarded_cluster() {
    let mut open = Stage::of(2, "other");
    let ask = Ask::Write(Intent::TenantDelete {
        name: TenantName::new("x").unwrap(),
    });
    assert_eq!(open.may("anonymous", ask.action()), Ok(()));
    open.guarded = true;
    assert_eq!(
        open.may("anonymous", ask.action()),
        Err(Rejection::UserNameEmpty)
    );
    assert_eq!(open.may("anonymous", get("a").action()), Ok(()));
}

#[test]
fn rights_of_older_rules_are_not_trusted() {
    let mut stage = world(1, &[("read!", "a")]);
    let before = stage.principal("eve").unwrap();
    let ask = get("a");
    let may =
        |stage: &Stage, who| meridian_domain::access::permit(stage, who, ask.action()).map(drop);
    assert_eq!(may(&stage, &before), Ok(()));
    let revoke = AccessChange::Revoke {
        role: "role".into(),
        number: 1,
    };
    assert_eq!(stage.change("root", revoke), Ok(true));
    assert_eq!(may(&stage, &before), Err(Rejection::AuthOld));
    let now = stage.principal("eve").unwrap();
    assert!(matches!(
        may(&stage, &now),
        Err(Rejection::Forbidden { .. })
    ));
}

#[test]
fn the_keys_of_a_lease_are_shown_to_who_may_list_them() {
    use meridian_domain::answer::{Found, answer};
    let stage = world(1, &[("list", "path:a")]);
    let query = Query::Lease { id: 8, keys: true };
    let shown = |who| {
        let principal = stage.principal(who).unwrap();
        match answer(&stage, &principal, &query).unwrap().found {
            Found::Lease(Some((_, keys))) => keys,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(shown("eve"), ["a/2"]);
    assert_eq!(shown("root"), ["a/2", "b/1"]);
}
