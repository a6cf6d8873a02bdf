//! Every kind of identity gets its rights from its own place, for as long as it is somebody, from where it may be.

use meridian_domain::access::compile::{Compiled, compile};
use meridian_domain::access::decide::decide;
use meridian_domain::access::document::{Place, encode};
use meridian_domain::access::grant::{Address, Circumstances, Network, Proof, Proofs, Window};
use meridian_domain::access::policy::Policy;
use meridian_domain::access::required::required_permissions;
use meridian_domain::access::token::Token;
use meridian_domain::access::{Identity, IdentityKind};
use meridian_domain::name::TenantId;
use meridian_domain::rejection::Rejection;

use super::*;
use crate::stage::NOW_MS;

const HERE: Address = Address::v4([10, 1, 2, 3]);
const ELSEWHERE: Address = Address::v4([10, 2, 2, 3]);
const NEAR: Network = Network {
    address: Address::v4([10, 1, 0, 0]),
    bits: 96 + 16,
};

fn identity(kind: IdentityKind, name: &str, proof: Proof) -> Identity {
    Identity {
        tenant: TenantId::DEFAULT,
        kind,
        name: name.into(),
        proof,
        groups: vec![],
    }
}

fn at(now_ms: u64, source: Address) -> Circumstances {
    Circumstances {
        now_ms: Some(now_ms),
        source: Some(source),
    }
}

fn now() -> Circumstances {
    at(NOW_MS, HERE)
}

fn reads(stage: &Stage, rights: &Compiled, key: &'static str) -> bool {
    let ask = Query::Range(range(key));
    let required = required_permissions(stage, None, Action::Read(&ask)).unwrap();
    decide(rights, &required, |_| vec![]).is_allowed()
}

fn change(stage: &mut Stage, change: AccessChange) {
    assert_eq!(stage.change("root", change), Ok(true));
}

fn assign(stage: &mut Stage, subject: Subject, role: &str) {
    let assignment = Assignment::of(role);
    change(
        stage,
        AccessChange::Assign {
            subject,
            assignment,
        },
    );
}

fn conditional(stage: &mut Stage, conditions: Conditions) {
    let role = "role".into();
    let grant = AccessChange::Grant {
        role,
        effect: Effect::Allow,
        verbs: verbs("read!"),
        scope: scope("c"),
        conditions,
    };
    change(stage, grant);
}

fn token(networks: Vec<Network>) -> Token {
    Token {
        id: "t".into(),
        digest: [1; 32],
        holder: "ci".into(),
        roles: vec![Assignment::of("role")],
        issued_ms: NOW_MS,
        expires_ms: NOW_MS + 1_000,
        networks,
        bound_to: None,
    }
}

#[test]
fn a_token_may_what_it_was_issued_for_until_it_ends() {
    let mut stage = world(1, &[("read!", "a")]);
    let holder = identity(IdentityKind::Token, "t", Proof::Token);
    let gone = Err(Rejection::InvalidToken);
    assert_eq!(compile(&stage, &holder, &now()), gone);
    change(&mut stage, AccessChange::TokenIssue(token(vec![])));
    let rights = compile(&stage, &holder, &now()).unwrap();
    assert!(reads(&stage, &rights, "a") && !reads(&stage, &rights, "b"));
    assert_eq!(rights.until_ms(), Some(NOW_MS + 1_000));
    assert_eq!(rights.actor(), "token:t");
    assert!(!rights.is_by_source());
    assert_eq!(compile(&stage, &holder, &at(NOW_MS + 1_000, HERE)), gone);
    assert_eq!(compile(&stage, &holder, &Circumstances::default()), gone);
    // A token ends itself, and nobody else's.
    let principal = stage.caller(holder.clone()).unwrap();
    let end = |id: &str| Intent::Access(AccessChange::TokenRevoke { id: id.into() });
    let may = |intent| {
        meridian_domain::access::permit(&stage, &principal, Action::Write(&intent)).is_ok()
    };
    assert!(may(end("t")) && !may(end("u")));
    let before = stage.rules_revision;
    change(&mut stage, AccessChange::TokenRevoke { id: "t".into() });
    assert!(stage.rules_revision > before);
    assert_eq!(compile(&stage, &holder, &now()), gone);
}

#[test]
fn a_token_is_used_from_where_it_may_be() {
    let mut stage = world(1, &[("read!", "a")]);
    change(&mut stage, AccessChange::TokenIssue(token(vec![NEAR])));
    let holder = identity(IdentityKind::Token, "t", Proof::Token);
    let rights = compile(&stage, &holder, &now()).unwrap();
    assert!(rights.is_by_source());
    let gone = Err(Rejection::InvalidToken);
    assert_eq!(compile(&stage, &holder, &at(NOW_MS, ELSEWHERE)), gone);
    let nowhere = Circumstances {
        now_ms: Some(NOW_MS),
        source: None,
    };
    assert_eq!(compile(&stage, &holder, &nowhere), gone);
}

#[test]
fn a_jwt_has_the_roles_of_its_subject_and_of_its_groups() {
    let mut stage = world(1, &[("read!", "a")]);
    assign(&mut stage, Subject::Group("idp|dev".into()), "role");
    let mut holder = identity(IdentityKind::Jwt, "idp|ann", Proof::Jwt);
    let may = |stage: &Stage, holder: &Identity, key| {
        reads(stage, &compile(stage, holder, &now()).unwrap(), key)
    };
    assert!(!may(&stage, &holder, "a"));
    for (group, member) in [("other|dev", false), ("idp|de", false), ("idp|dev", true)] {
        holder.groups = vec![group.into()];
        assert_eq!(may(&stage, &holder, "a"), member, "{group}");
    }
    assign(
        &mut stage,
        Subject::Jwt("idp|ann".into()),
        "meridian:reader",
    );
    assert!(may(&stage, &holder, "b"));
    // Groups are what a JWT says; a certificate of the same name says nothing.
    holder.kind = IdentityKind::Certificate;
    assert!(!may(&stage, &holder, "a"));
}

#[test]
fn a_certificate_has_the_roles_bound_to_its_name() {
    let mut stage = world(1, &[("read!", "a")]);
    let name = "spiffe://example.org/ns/a";
    assign(&mut stage, Subject::Certificate(name.into()), "role");
    let of = |name| identity(IdentityKind::Certificate, name, Proof::Certificate);
    let may = |name| reads(&stage, &compile(&stage, &of(name), &now()).unwrap(), "a");
    assert!(may(name));
    assert!(!may("spiffe://example.org/ns/a/b") && !may("spiffe://example.org/ns/"));
    // A user of the name is somebody else.
    let user = identity(IdentityKind::User, name, Proof::Password);
    assert_eq!(compile(&stage, &user, &now()), Err(Rejection::InvalidToken));
}

#[test]
fn break_glass_opens_everything_whatever_the_policy_says() {
    let mut stage = world(1, &[]);
    let policy = Policy {
        proofs: Proofs::of(&[Proof::Password]),
        networks: vec![NEAR],
        ..Policy::default()
    };
    change(&mut stage, AccessChange::PolicySet(policy));
    let holder = identity(IdentityKind::BreakGlass, "incident-1", Proof::Shares);
    let rights = compile(&stage, &holder, &at(NOW_MS, ELSEWHERE)).unwrap();
    assert!(reads(&stage, &rights, "\0.."));
    let operate = required_permissions(&stage, None, Action::Operate(Operation::MemberChange));
    assert!(decide(&rights, &operate.unwrap(), |_| vec![]).is_allowed());
}

#[test]
fn the_policy_says_how_and_from_where() {
    let mut stage = world(1, &[("read!", "a")]);
    let eve = |proof| identity(IdentityKind::User, "eve", proof);
    let set = |stage: &mut Stage, proofs, networks| {
        let policy = Policy {
            proofs,
            networks,
            ..Policy::default()
        };
        let place = Place::policy();
        stage.apply(&Txn::once(Op::Put(Put {
            space: place.space,
            key: place.key,
            value: Some(encode(&policy)),
            lease: Some(0),
            prev_kv: false,
        })));
    };
    let no = Err(Rejection::PermissionDenied);
    set(&mut stage, Proofs::default(), vec![NEAR]);
    assert!(
        compile(&stage, &eve(Proof::Password), &now())
            .unwrap()
            .is_by_source()
    );
    let far = at(NOW_MS, ELSEWHERE);
    assert_eq!(compile(&stage, &eve(Proof::Password), &far), no);
    set(&mut stage, Proofs::of(&[Proof::Certificate]), vec![]);
    assert_eq!(compile(&stage, &eve(Proof::Password), &now()), no);
    assert!(compile(&stage, &eve(Proof::Certificate), &now()).is_ok());
}

#[test]
fn nobody_sets_a_policy_that_shuts_themselves_out() {
    let mut stage = world(1, &[]);
    let set = |proofs: &[Proof]| {
        AccessChange::PolicySet(Policy {
            proofs: Proofs::of(proofs),
            ..Policy::default()
        })
    };
    let out = stage.change("root", set(&[Proof::Certificate]));
    assert_eq!(out, Err(Rejection::InvalidAuthManagement));
    change(&mut stage, set(&[Proof::Certificate, Proof::Password]));
}

#[test]
fn a_grant_counts_under_its_conditions_only() {
    let mut stage = world(1, &[]);
    let eve = |proof| identity(IdentityKind::User, "eve", proof);
    let may = |stage: &Stage, proof, at: &Circumstances| {
        let rights = compile(stage, &eve(proof), at).unwrap();
        (reads(stage, &rights, "c"), rights)
    };
    conditional(
        &mut stage,
        Conditions {
            proofs: Proofs::of(&[Proof::Certificate]),
            networks: vec![NEAR],
            window: Window {
                not_before_ms: NOW_MS + 10,
                not_after_ms: NOW_MS + 20,
            },
        },
    );
    let (early, rights) = may(&stage, Proof::Certificate, &now());
    assert!(!early && rights.is_by_source());
    assert_eq!(rights.until_ms(), Some(NOW_MS + 10));
    let then = |source| at(NOW_MS + 10, source);
    let (inside, rights) = may(&stage, Proof::Certificate, &then(HERE));
    assert!(inside);
    assert_eq!(rights.until_ms(), Some(NOW_MS + 20));
    assert!(!may(&stage, Proof::Password, &then(HERE)).0);
    assert!(!may(&stage, Proof::Certificate, &then(ELSEWHERE)).0);
    let (late, rights) = may(&stage, Proof::Certificate, &at(NOW_MS + 20, HERE));
    assert!(!late);
    assert_eq!(rights.until_ms(), None);
}

#[test]
fn a_deny_holds_against_root_too() {
    let mut stage = world(1, &[("-read", "b")]);
    assign(&mut stage, Subject::User("eve".into()), "root");
    let eve = identity(IdentityKind::User, "eve", Proof::Password);
    let rights = compile(&stage, &eve, &now()).unwrap();
    assert!(reads(&stage, &rights, "a") && !reads(&stage, &rights, "b"));
    assert!(!reads(&stage, &rights, "\0.."));
}

#[test]
fn a_rule_that_can_not_be_read_allows_nothing() {
    let mut stage = world(1, &[("read!", "a")]);
    let place = Place::role("role");
    let kv = stage.keys.get_mut(&(place.space, place.key)).unwrap();
    kv.value = Bytes::from_static(b"\x02newer");
    assert_eq!(
        stage.may("eve", Action::KeepAlive(7)),
        Err(Rejection::AccessUnreadable)
    );
    assert_eq!(stage.may("root", Action::KeepAlive(7)), Ok(()));
    let place = Place::door();
    let kv = stage.keys.get_mut(&(place.space, place.key)).unwrap();
    kv.value = Bytes::new();
    let no = stage.may("anonymous", Action::KeepAlive(7));
    assert_eq!(no, Err(Rejection::AccessUnreadable));
}
