//! The cases: what eve is granted, what is refused, and the twin that is allowed.

use meridian_domain::command::AlarmKind;
use meridian_domain::kv::{Order, Target};
use meridian_domain::name::TenantName;
use meridian_domain::tenant::{Quota, Retention};

use crate::*;

/// What it is, what eve is granted, what is refused, and what is allowed.
pub type Case = (&'static str, Vec<(&'static str, &'static str)>, Ask, Ask);

pub fn get(text: &'static str) -> Ask {
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

pub fn txn(txn: Txn) -> Ask {
    Ask::Write(Intent::Txn(txn))
}

fn watch(text: &'static str) -> Ask {
    Ask::Watch(Space::RAW, keys(text))
}

pub fn if_so(compare: Compare) -> Ask {
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

pub fn keys_cases() -> Vec<Case> {
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

pub fn write_cases() -> Vec<Case> {
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

pub fn lease_cases() -> Vec<Case> {
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

pub fn cluster_cases() -> Vec<Case> {
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
