//! What a decision costs somebody with 10,000 grants, and what compiling their rights does.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

#[path = "../tests/stage/mod.rs"]
mod stage;

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use meridian_domain::access::change::AccessChange;
use meridian_domain::access::document::{Place, encode};
use meridian_domain::access::grant::{Conditions, Effect, Grant};
use meridian_domain::access::role::{Assignment, Role};
use meridian_domain::access::scope::Scope;
use meridian_domain::access::verb::Verbs;
use meridian_domain::access::{Action, Identity, permit};
use meridian_domain::intent::Intent;
use meridian_domain::key::{KeyRange, Space};
use meridian_domain::kv::{Put, Range};
use meridian_domain::name::TenantId;
use meridian_domain::query::Query;
use meridian_domain::txn::{Op, Txn};
use stage::Stage;

const ROLES: u32 = 10;
const GRANTS_EACH: u32 = 1_000;

/// A user with ten roles of a thousand paths each; one path in ten is denied to one that lies below it.
fn crowded() -> Stage {
    let mut stage = Stage::empty();
    let root = AccessChange::UserAdd {
        name: "ann".into(),
        password: None,
    };
    stage.change("anonymous", root).unwrap();
    for number in 0..ROLES {
        let name = format!("r{number}");
        let mut role = Role::new(&name);
        for grant in 0..GRANTS_EACH {
            let denied = grant % 10 == 9;
            let below = if denied { "/secret" } else { "" };
            let path = format!(
                "team-{number}/service-{:05}{below}",
                grant - u32::from(denied)
            );
            role.grants.push(Grant {
                number: grant + 1,
                effect: if denied { Effect::Deny } else { Effect::Allow },
                verbs: Verbs::ETCD_READ.and(Verbs::ETCD_WRITE),
                scope: Scope::Path {
                    space: Space::RAW,
                    path: path.into(),
                },
                conditions: Conditions::default(),
            });
        }
        role.next_grant = GRANTS_EACH + 1;
        let place = Place::role(&name);
        stage.apply(&Txn::once(Op::Put(Put {
            space: place.space,
            key: place.key,
            value: Some(encode(&role)),
            lease: Some(0),
            prev_kv: false,
        })));
        let assign = AccessChange::Assign {
            subject: meridian_domain::access::principal::Subject::User("ann".into()),
            assignment: Assignment::of(&name),
        };
        stage.change("anonymous", assign).unwrap();
    }
    stage
}

fn decide(bench: &mut Criterion) {
    let stage = crowded();
    let ann = stage.principal("ann").unwrap();
    let put = |key: &'static str| {
        Intent::Put(Put {
            space: Space::RAW,
            key: key.into(),
            value: Some(Bytes::from_static(b"v")),
            lease: Some(0),
            prev_kv: true,
        })
    };
    let allowed = put("team-7/service-00500/limits");
    assert!(permit(&stage, &ann, Action::Write(&allowed)).is_ok());
    bench.bench_function("put with prev_kv, allowed", |b| {
        b.iter(|| permit(&stage, black_box(&ann), Action::Write(black_box(&allowed))).is_ok());
    });
    let denied = put("team-7/service-00508/secret/key");
    assert!(permit(&stage, &ann, Action::Write(&denied)).is_err());
    bench.bench_function("put with prev_kv, denied", |b| {
        b.iter(|| permit(&stage, black_box(&ann), Action::Write(black_box(&denied))).is_ok());
    });
    let range = KeyRange::prefix("team-3/service-00500/".into());
    let range = Query::Range(Range::of(Space::RAW, range));
    assert!(permit(&stage, &ann, Action::Read(&range)).is_ok());
    bench.bench_function("range of a service, allowed", |b| {
        b.iter(|| permit(&stage, black_box(&ann), Action::Read(black_box(&range))).is_ok());
    });
    let wide = Query::Range(Range::of(Space::RAW, KeyRange::prefix("team-3/".into())));
    assert!(permit(&stage, &ann, Action::Read(&wide)).is_err());
    bench.bench_function("range of a team, refused", |b| {
        b.iter(|| permit(&stage, black_box(&ann), Action::Read(black_box(&wide))).is_ok());
    });
    let open = Stage::empty();
    let nobody = open.principal("anonymous").unwrap();
    bench.bench_function("put while authentication is off", |b| {
        b.iter(|| {
            permit(
                &open,
                black_box(&nobody),
                Action::Write(black_box(&allowed)),
            )
            .is_ok()
        });
    });
    let identity = Identity::user(TenantId::DEFAULT, "ann");
    bench.bench_function("compile 10,000 grants", |b| {
        b.iter(|| stage.rights(black_box(&identity)).unwrap());
    });
}

criterion_group!(benches, decide);
criterion_main!(benches);
