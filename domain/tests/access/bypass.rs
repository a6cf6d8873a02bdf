//! Ways past the rules that other stores had, or could have had: each is refused, and its allowed twin is allowed, so
//! that no case is refused for a reason of its own.

use meridian_domain::access::Identity;
use meridian_domain::command::AlarmKind;
use meridian_domain::kv::{Order, Target};
use meridian_domain::name::{TenantId, TenantName};
use meridian_domain::rejection::Rejection;
use meridian_domain::tenant::{Quota, Retention};

use super::*;

/// What it is, what eve is granted, what is refused, and what is allowed.
type Case = (&'static str, Vec<(&'static str, &'static str)>, Ask, Ask);

fn get(text: &'static str) -> Ask {
    Ask::Read(Query::Range(range(text)))
}

fn read(text: &'static str, change: impl FnOnce(&mut Range)) -> Ask {
    let mut range = range(text);
    change(&mut range);
    Ask::Read(Query::Range(range))
}

fn write(key: &'static str, change: impl FnOnce(&mut Put)) -> Ask {
    Ask::Write(Intent::Put(with(key, change)))
}

fn with(key: &'static str, change: impl FnOnce(&mut Put)) -> Put {
    let mut put = put(key);
    change(&mut put);
    put
}

fn remove(text: &'static str, prev_kv: bool) -> Ask {
    let mut delete = delete(text);
    delete.prev_kv = prev_kv;
    Ask::Write(Intent::Delete(delete))
}

fn txn(txn: Txn) -> Ask {
    Ask::Write(Intent::Txn(txn))
}

fn watch(text: &'static str) -> Ask {
    Ask::Watch(Space::RAW, keys(text))
}

fn if_so(compare: Compare) -> Ask {
    txn(Txn {
        compares: vec![compare],
        success: vec![Op::Put(put("a/1"))],
        failure: vec![],
    })
}

fn otherwise(op: Op) -> Ask {
    txn(Txn {
        compares: vec![],
        success: vec![Op::Put(put("a/1"))],
        failure: vec![op],
    })
}

fn keys_cases() -> Vec<Case> {
    let both = || vec![("read! write!", "path:a")];
    let one = || vec![("read!", "a")];
    let list = || vec![("list", "path:a")];
    let seen = |range: &mut Range| range.keys_only = true;
    let counted = |range: &mut Range| range.count_only = true;
    let by_value = |range: &mut Range| {
        range.keys_only = true;
        range.order = Order::Ascend;
        range.target = Target::Value;
    };
    vec![
        ("another's key", both(), get("b/1"), get("a/1")),
        (
            "a range across the boundary",
            both(),
            get("a/..b/2"),
            get("a/..a0"),
        ),
        (
            "a range one key too long",
            both(),
            get("a/..a00"),
            get("a/..a0"),
        ),
        ("from a key on", one(), get("a.."), get("a")),
        ("everything", both(), get("\0.."), get("a/..a0")),
        ("from below", both(), get("0..a0"), get("a/..a0")),
        (
            "a range without keys",
            both(),
            get("b/1..a"),
            get("a/9..a/1"),
        ),
        (
            "an old revision",
            both(),
            read("b/1", |r| r.revision = 1),
            read("a/1", |r| r.revision = 1),
        ),
        (
            "a limit of one",
            both(),
            read("a/..", |r| r.limit = 1),
            read("a/..a0", |r| r.limit = 1),
        ),
        (
            "counting all",
            list(),
            read("\0..", counted),
            read("a/..a0", counted),
        ),
        (
            "names of all",
            list(),
            read("\0..", seen),
            read("a/..a0", seen),
        ),
        ("values by a lister", list(), get("a/1"), read("a/1", seen)),
        (
            "values by their order",
            list(),
            read("a/..a0", by_value),
            read("a/..a0", seen),
        ),
        ("wrong case", both(), get("A/1"), get("a/1")),
        ("dots", both(), get("./a/1"), get("a/./1")),
        ("an escape", both(), get("%61/1"), get("a/%31")),
        (
            "a neighbour with the same beginning",
            both(),
            get("a-eu/1"),
            get("a/eu/1"),
        ),
        ("a leading slash", both(), get("/a/1"), get("a//1")),
        ("a zero byte behind the name", both(), get("a\0"), get("a")),
        (
            "a gap of one key",
            vec![("read!", "a..c"), ("read!", "c\0..e")],
            get("a..e"),
            get("c\0..d"),
        ),
        (
            "a deny on the last key",
            vec![("read!", "a..e"), ("-read", "d")],
            get("a..d\0"),
            get("a..d"),
        ),
        (
            "a deny behind a narrower allow",
            vec![("read!", "a/secret"), ("-read", "path:a")],
            get("a/secret"),
            get("a/secret").listed(),
        ),
        ("a watch from a key on", one(), watch("a.."), watch("a")),
        (
            "a watch across the boundary",
            both(),
            watch("a/..b/2"),
            watch("a/..a0"),
        ),
        (
            "a watch of everything",
            both(),
            watch("\0.."),
            watch("a/..a0"),
        ),
        (
            "a watch without read",
            vec![("watch", "b"), ("watch read", "a")],
            watch("b"),
            watch("a"),
        ),
        (
            "a read without watch",
            vec![("read", "b"), ("watch read", "a")],
            watch("b"),
            watch("a"),
        ),
    ]
}

impl Ask {
    /// The same range, names only.
    fn listed(self) -> Self {
        match self {
            Self::Read(Query::Range(mut range)) => {
                range.keys_only = true;
                Self::Read(Query::Range(range))
            }
            other => other,
        }
    }
}

fn write_cases() -> Vec<Case> {
    let both = || vec![("read! write!", "path:a")];
    // May read and write below `a`, but only write `w`.
    let blind = || vec![("read! write!", "path:a"), ("write!", "w")];
    let prev = |put: &mut Put| put.prev_kv = true;
    let same_value = |put: &mut Put| put.value = None;
    let same_lease = |put: &mut Put| put.lease = None;
    let lease = |id| move |put: &mut Put| put.lease = Some(id);
    let inner = |put: Put| txn(nested(Op::Put(put), 3));
    vec![
        (
            "a put elsewhere",
            both(),
            write("b/1", |_| {}),
            write("a/1", |_| {}),
        ),
        (
            "prev_kv of a blind put",
            blind(),
            write("w", prev),
            write("a/1", prev),
        ),
        (
            "ignore_value of a blind put",
            blind(),
            write("w", same_value),
            write("a/1", same_value),
        ),
        (
            "ignore_lease of a blind put",
            blind(),
            write("w", same_lease),
            write("a/1", same_lease),
        ),
        (
            "another's lease",
            both(),
            write("a/1", lease(8)),
            write("a/1", lease(7)),
        ),
        (
            "a put in the branch not taken",
            both(),
            otherwise(Op::Put(put("b/1"))),
            otherwise(Op::Put(put("a/2"))),
        ),
        (
            "a read in the branch not taken",
            both(),
            otherwise(Op::Range(range("b/1"))),
            otherwise(Op::Range(range("a/2"))),
        ),
        ("a nested put", both(), inner(put("b/1")), inner(put("a/1"))),
        (
            "prev_kv of a nested put",
            blind(),
            inner(with("w", prev)),
            inner(with("a/1", prev)),
        ),
        (
            "a lease of a nested put",
            both(),
            inner(with("a/1", lease(8))),
            inner(with("a/1", lease(7))),
        ),
        (
            "ignore_value of a nested put",
            blind(),
            inner(with("w", same_value)),
            inner(with("a/1", same_value)),
        ),
        (
            "a nested delete",
            both(),
            txn(nested(Op::Delete(delete("a/..")), 2)),
            txn(nested(Op::Delete(delete("a/..a0")), 2)),
        ),
        (
            "a nested read",
            both(),
            txn(nested(Op::Range(range("b/1")), 4)),
            txn(nested(Op::Range(range("a/1")), 4)),
        ),
        (
            "a compare of another's value",
            both(),
            if_so(compare("b/1", Operand::Value("v".into()))),
            if_so(compare("a/1", Operand::Value("v".into()))),
        ),
        (
            "a compare of another's version",
            both(),
            if_so(compare("b/1", Operand::Version(0))),
            if_so(compare("a/1", Operand::Version(0))),
        ),
        (
            "a compare across the boundary",
            both(),
            if_so(compare("a/..b/2", Operand::Mod(0))),
            if_so(compare("a/..a0", Operand::Mod(0))),
        ),
        (
            "a compare of a blind writer",
            blind(),
            if_so(compare("w", Operand::Create(0))),
            if_so(compare("a/2", Operand::Create(0))),
        ),
        (
            "a delete across the boundary",
            both(),
            remove("a/..b/2", false),
            remove("a/..a0", false),
        ),
        (
            "a delete of everything",
            both(),
            remove("\0..", false),
            remove("a/..a0", false),
        ),
        (
            "prev_kv of a blind delete",
            blind(),
            remove("w", true),
            remove("a/1", true),
        ),
        (
            "a delete by who may only write",
            vec![("write", "b"), ("delete", "a")],
            remove("b", false),
            remove("a", false),
        ),
        (
            "a write by who may only delete",
            vec![("write", "a"), ("delete", "b")],
            write("b", |_| {}),
            write("a", |_| {}),
        ),
    ]
}

fn lease_cases() -> Vec<Case> {
    let both = || vec![("read! write!", "path:a")];
    let reader = || vec![("read!", "tenant")];
    let revoke = |id| Ask::Write(Intent::LeaseRevoke { id });
    let grant = || {
        Ask::Write(Intent::LeaseGrant {
            id: 1,
            ttl_seconds: 60,
            ttl_seconds_min: 1,
        })
    };
    let look = |id| Ask::Read(Query::Lease { id, keys: true });
    vec![
        (
            "ending a lease of another's key",
            both(),
            revoke(6),
            revoke(7),
        ),
        (
            "ending a lease that another's key shares",
            both(),
            revoke(8),
            revoke(7),
        ),
        (
            "keeping another's lease",
            both(),
            Ask::KeepAlive(6),
            Ask::KeepAlive(7),
        ),
        (
            "keeping a shared lease",
            both(),
            Ask::KeepAlive(8),
            Ask::KeepAlive(9),
        ),
        (
            "keeping a lease as a reader",
            reader(),
            Ask::KeepAlive(7),
            look(7),
        ),
        (
            "making a lease as a reader",
            reader(),
            grant(),
            Ask::Read(Query::Leases),
        ),
        (
            "ending an empty lease as a reader",
            reader(),
            revoke(9),
            look(9),
        ),
        (
            "looking at leases without a right",
            vec![("write!", "a")],
            look(7),
            grant(),
        ),
        (
            "listing leases without a right",
            vec![("write!", "a")],
            Ask::Read(Query::Leases),
            grant(),
        ),
    ]
}

fn cluster_cases() -> Vec<Case> {
    let data = "read! write!";
    let mut cases: Vec<Case> = vec![];
    let mut two = |name, verb: &'static str, on, ask: Ask| {
        // Everything of the tenant does not help; the verb does.
        cases.push((name, vec![(data, "tenant")], ask.clone(), get("a/1")));
        cases.push((name, vec![(verb, on)], get("a/1"), ask));
    };
    for operation in Operation::ALL {
        let verb = match operation {
            Operation::MemberList | Operation::Status => "cluster.read",
            Operation::MemberChange | Operation::MoveLeader => "cluster.member",
            Operation::Snapshot => "backup.create",
            Operation::Defragment | Operation::Hash | Operation::Downgrade => "cluster.maintain",
        };
        two("an operation", verb, "cluster", Ask::Operate(operation));
    }
    let name = || TenantName::new("x").unwrap();
    let alarm = Intent::Alarm {
        member: 1,
        kind: AlarmKind::NoSpace,
        raised: false,
    };
    two("an alarm", "cluster.alarm", "cluster", Ask::Write(alarm));
    let create = Intent::TenantCreate {
        name: name(),
        quota: Quota::default(),
        retention: Retention::default(),
    };
    two(
        "a new tenant",
        "tenant.create",
        "cluster",
        Ask::Write(create),
    );
    let gone = Intent::TenantDelete { name: name() };
    two(
        "a tenant's end",
        "tenant.change",
        "cluster",
        Ask::Write(gone),
    );
    two(
        "all tenants",
        "cluster.tenants",
        "cluster",
        Ask::Read(Query::Tenants),
    );
    two(
        "the members",
        "cluster.read",
        "cluster",
        Ask::Read(Query::Members),
    );
    two(
        "the alarms",
        "cluster.read",
        "cluster",
        Ask::Read(Query::Alarms),
    );
    let compact = Intent::Compact { revision: 1 };
    two(
        "a compaction",
        "tenant.compact",
        "tenant",
        Ask::Write(compact),
    );
    cases
}

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
