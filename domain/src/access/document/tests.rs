//! Documents come back as they were written, from frozen bytes too, and rubbish is refused.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::access::grant::{Address, Conditions, Effect, Grant, Network, Proof, Proofs, Window};
use crate::access::policy::{Algorithm, Issuer};
use crate::access::role::Assignment;
use crate::access::scope::Scope;
use crate::access::verb::Verbs;
use crate::key::RangeEnd;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    })
}

fn every_scope() -> Vec<Scope> {
    let space = Space(7);
    let keys = |end| Scope::Keys {
        space,
        range: KeyRange {
            start: "a".into(),
            end,
        },
    };
    vec![
        Scope::Tenant,
        Scope::Cluster,
        keys(RangeEnd::Single),
        keys(RangeEnd::Before("b".into())),
        keys(RangeEnd::Open),
        Scope::Prefix {
            space,
            prefix: "p".into(),
        },
        Scope::Path {
            space,
            path: "p/q".into(),
        },
    ]
}

fn sample_role() -> Role {
    let conditions = Conditions {
        window: Window {
            not_before_ms: 1,
            not_after_ms: 300,
        },
        proofs: Proofs::of(&[Proof::Certificate, Proof::Jwt]),
        networks: vec![Network {
            address: Address::v4([10, 0, 0, 0]),
            bits: 104,
        }],
    };
    let grant = |(number, scope)| Grant {
        number,
        effect: if number == 2 {
            Effect::Deny
        } else {
            Effect::Allow
        },
        verbs: Verbs::ETCD_READ,
        scope,
        conditions: if number == 1 {
            conditions.clone()
        } else {
            Conditions::default()
        },
    };
    Role {
        name: "r".into(),
        parents: vec!["meridian:viewer".into()],
        next_grant: 8,
        grants: (1..).zip(every_scope()).map(grant).collect(),
    }
}

fn sample_assignments() -> Vec<Assignment> {
    vec![
        Assignment::of("root"),
        Assignment {
            role: "r".into(),
            scope: Scope::Cluster,
            window: Window {
                not_before_ms: 0,
                not_after_ms: u64::MAX,
            },
        },
    ]
}

fn sample_token() -> Token {
    Token {
        id: "t1".into(),
        digest: [0xab; 32],
        holder: "ci".into(),
        roles: sample_assignments(),
        issued_ms: 1_000,
        expires_ms: 2_000,
        networks: vec![],
        bound_to: Some("spiffe://a/b".into()),
    }
}

fn sample_trust() -> Trust {
    Trust {
        domains: vec!["example.org".into()],
        dns_names: true,
        common_names: false,
        issuers: vec![Issuer {
            name: "idp".into(),
            issuer: "https://idp".into(),
            audiences: vec!["meridian".into()],
            algorithms: vec![Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa],
            keys_url: "https://idp/keys".into(),
            groups_claim: "groups".into(),
        }],
    }
}

/// Version 1, add only: an edited line would mean that rules on disk can no longer be read.
#[test]
fn frozen_bytes_of_version_1() {
    fn hold<D: Document + PartialEq + std::fmt::Debug>(document: &D, frozen: &str) {
        let bytes = encode(document);
        assert_eq!(hex(&bytes), frozen);
        assert_eq!(decode::<D>(&bytes).as_ref(), Ok(document));
    }
    let door = Door {
        enabled: true,
        revocations: 300,
    };
    hold(&door, FROZEN_DOOR);
    hold(&sample_role(), FROZEN_ROLE);
    let user = User {
        name: "ann".into(),
        password: Some("$argon2id$x".into()),
        generation: 7,
        roles: sample_assignments(),
    };
    hold(&user, FROZEN_USER);
    hold(&sample_token(), FROZEN_TOKEN);
    hold(&Policy::default(), FROZEN_POLICY);
    hold(&sample_trust(), FROZEN_TRUST);
    let roles = sample_assignments();
    hold(&Binding { roles }, FROZEN_BINDING);
}

const FROZEN_DOOR: &str = "0101ac02";
const FROZEN_ROLE: &str = "\
    010172010f6d6572696469616e3a766965776572080701008f040001ac02050100000000000000000000ffff0a0000006802\
    018f04010000000003008f04020701610000000004008f040307016101620000000005008f04040701610000000006008f04\
    050701700000000007008f04060703702f7100000000";
const FROZEN_USER: &str = "\
    0103616e6e010b246172676f6e3269642478070204726f6f7400000001720100ffffffffffffffffff01";
const FROZEN_TOKEN: &str = "\
    01027431abababababababababababababababababababababababababababababababab0263690204726f6f740000000172\
    0100ffffffffffffffffff01e807d00f00010c7370696666653a2f2f612f62";
const FROZEN_POLICY: &str = "0100000c0a880e80ceda030000";
const FROZEN_TRUST: &str = "\
    01010b6578616d706c652e6f7267010001036964700b68747470733a2f2f69647001086d6572696469616e03000102106874\
    7470733a2f2f6964702f6b6579730667726f757073";
const FROZEN_BINDING: &str = "010204726f6f7400000001720100ffffffffffffffffff01";

#[test]
fn every_cut_and_every_addition_is_refused() {
    let whole = encode(&sample_role());
    for length in 0..whole.len() {
        assert!(decode::<Role>(&whole[..length]).is_err(), "{length}");
    }
    let mut longer = whole.to_vec();
    longer.push(0);
    assert!(decode::<Role>(&longer).is_err());
    let mut newer = whole.to_vec();
    newer[0] = 2;
    assert_eq!(decode::<Role>(&newer), Err(Rejection::AccessUnreadable));
}

#[test]
fn numbers_have_one_spelling() {
    // The door with a number of revocations written with a byte too many, and with one too large.
    assert!(decode::<Door>(&[1, 0, 0x05]).is_ok());
    assert!(decode::<Door>(&[1, 0, 0x85, 0x00]).is_err());
    let mut large = vec![1, 0];
    large.extend([0xff; 9]);
    large.push(0x02);
    assert!(decode::<Door>(&large).is_err());
    assert!(decode::<Door>(&[1, 2, 0]).is_err());
}

fn any_scope() -> impl Strategy<Value = Scope> {
    (
        0usize..7,
        any::<u8>(),
        vec(any::<u8>(), 0..9),
        vec(any::<u8>(), 0..9),
    )
        .prop_map(|(kind, space, start, end)| {
            let space = Space(space);
            let start = Bytes::from(start);
            let keys = |end| Scope::Keys {
                space,
                range: KeyRange {
                    start: start.clone(),
                    end,
                },
            };
            match kind {
                0 => Scope::Tenant,
                1 => Scope::Cluster,
                2 => keys(RangeEnd::Single),
                3 => keys(RangeEnd::Before(end.into())),
                4 => keys(RangeEnd::Open),
                5 => Scope::Prefix {
                    space,
                    prefix: start,
                },
                _ => Scope::Path { space, path: start },
            }
        })
}

fn any_role() -> impl Strategy<Value = Role> {
    let grant = (
        any::<u32>(),
        any::<bool>(),
        0u64..1 << 41,
        any_scope(),
        any::<[u64; 2]>(),
    );
    let grant = grant.prop_map(|(number, deny, bits, scope, [from, to])| Grant {
        number,
        effect: if deny { Effect::Deny } else { Effect::Allow },
        verbs: Verbs::from_bits(bits).unwrap(),
        scope,
        conditions: Conditions {
            window: Window {
                not_before_ms: from,
                not_after_ms: to,
            },
            ..Conditions::default()
        },
    });
    (
        "\\PC{0,9}",
        vec("\\PC{0,9}", 0..3),
        any::<u32>(),
        vec(grant, 0..5),
    )
        .prop_map(|(name, parents, next_grant, grants)| Role {
            name: name.into(),
            parents: parents.into_iter().map(Into::into).collect(),
            next_grant,
            grants,
        })
}

proptest! {
    #[test]
    fn a_role_comes_back_as_it_was(role in any_role()) {
        prop_assert_eq!(decode::<Role>(&encode(&role)), Ok(role));
    }

    #[test]
    fn a_user_comes_back_as_it_was(
        name in "\\PC{1,20}",
        password in option::of("\\PC{0,40}"),
        generation in any::<u64>(),
    ) {
        let user = User {
            name: name.into(),
            password: password.map(Into::into),
            generation,
            roles: sample_assignments(),
        };
        prop_assert_eq!(decode::<User>(&encode(&user)), Ok(user));
    }

    #[test]
    fn rubbish_is_refused_or_has_no_other_spelling(mut bytes in vec(any::<u8>(), 1..80)) {
        bytes[0] = VERSION;
        macro_rules! hold {
            ($($document:ty)+) => {$(
                if let Ok(found) = decode::<$document>(&bytes) {
                    prop_assert_eq!(&encode(&found)[..], &bytes[..]);
                }
            )+};
        }
        hold!(Door Role User Token Policy Trust Binding);
    }
}
