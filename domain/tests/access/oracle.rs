//! Intervals against single keys: a range is allowed exactly if every key in it is.
//!
//! All ends lie on a small set of keys and the keys right behind them, so between two neighbours of that set nothing
//! changes, and judging these judges every key there could be.

use meridian_domain::access::Identity;
use meridian_domain::access::compile::Compiled;
use meridian_domain::access::decide::decide;
use meridian_domain::access::filter::{filter, shows};
use meridian_domain::access::required::{Required, Target};
use meridian_domain::access::scope::Region;
use meridian_domain::name::TenantId;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const NAMES: [&str; 9] = ["a", "a/", "a/b", "a/b/c", "a0", "b", "b/", "b0", "c"];

fn any_key() -> impl Strategy<Value = Bytes> {
    (prop::sample::select(&NAMES[..]), any::<bool>()).prop_map(|(name, behind)| {
        let mut key = name.as_bytes().to_vec();
        if behind {
            key.push(0);
        }
        key.into()
    })
}

fn any_range() -> impl Strategy<Value = KeyRange> {
    (any_key(), any_key(), 0..6).prop_map(|(start, end, kind)| KeyRange {
        start,
        end: match kind {
            0 => RangeEnd::Open,
            1 => RangeEnd::Single,
            _ => RangeEnd::Before(end),
        },
    })
}

fn any_scope() -> impl Strategy<Value = Scope> {
    let space = Space::RAW;
    prop_oneof![
        1 => Just(Scope::Tenant),
        6 => any_range().prop_map(Scope::raw),
        3 => any_key().prop_map(move |path| Scope::Path { space, path }),
        2 => any_key().prop_map(move |prefix| Scope::Prefix { space, prefix }),
    ]
}

type Rule = (bool, Scope);

fn compiled(rules: &[Rule]) -> Compiled {
    let mut stage = world(1, &[]);
    for (deny, scope) in rules {
        // A scope without keys is refused, and grants nothing here either.
        let _ = stage.change(
            "root",
            AccessChange::Grant {
                role: "role".into(),
                effect: if *deny { Effect::Deny } else { Effect::Allow },
                verbs: verbs("read"),
                scope: scope.clone(),
                conditions: Conditions::default(),
            },
        );
    }
    let eve = Identity::user(TenantId::DEFAULT, "eve");
    stage.rights(&eve).unwrap()
}

fn holds(scope: &Scope, key: &[u8]) -> bool {
    scope.regions().iter().any(|region| match region {
        Region::Tenant => true,
        Region::In(space, interval) => *space == Space::RAW && interval.contains(key),
    })
}

fn allows(rules: &[Rule], key: &[u8]) -> bool {
    let any = |wanted: bool| {
        rules
            .iter()
            .any(|(deny, scope)| *deny == wanted && holds(scope, key))
    };
    any(false) && !any(true)
}

/// Every key at which something can change, and some between.
fn probes() -> Vec<Vec<u8>> {
    let mut all = vec![vec![], vec![0xff]];
    for name in NAMES {
        let key = name.as_bytes();
        for tail in [&b""[..], b"\0", b"\0\0", b"/", b"/\0", b"0", b"\x01", b"~"] {
            all.push([key, tail].concat());
            all.push([key, b"\0", tail].concat());
        }
        // The ends of prefixes.
        let mut end = key.to_vec();
        *end.last_mut().unwrap() += 1;
        all.push(end.clone());
        end.push(0);
        all.push(end);
        all.push([key, b"\x01"].concat());
        all.push([key, b"\0\x01"].concat());
    }
    all.sort();
    all.dedup();
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_range_is_allowed_if_every_key_in_it_is(
        rules in vec((prop::bool::weighted(0.2), any_scope()), 0..9),
        asked in any_range(),
    ) {
        let rights = compiled(&rules);
        let required = [Required {
            verb: Verb::Read,
            on: Target::Keys { space: Space::RAW, range: asked.clone() },
        }];
        let decision = decide(&rights, &required, |_| vec![]);
        let inside = |key: &Vec<u8>| asked.contains(key) || (asked.is_empty() && *key == asked.start);
        let naive = probes().iter().filter(|key| inside(key)).all(|key| allows(&rules, key));
        prop_assert_eq!(decision.is_allowed(), naive, "{:?} in {:?}: {}", asked, rules, decision);
    }

    #[test]
    fn what_is_filtered_is_what_is_allowed(
        rules in vec((prop::bool::weighted(0.3), any_scope()), 0..9),
        asked in any_range(),
    ) {
        let rights = compiled(&rules);
        let parts = filter(&rights, Verb::Read, Space::RAW, &asked);
        for pair in parts.windows(2) {
            prop_assert!(!pair[0].overlaps(&pair[1]) && pair[0].start < pair[1].start);
        }
        for key in probes() {
            let part = parts.iter().any(|part| part.contains(&key));
            let allowed = allows(&rules, &key);
            prop_assert_eq!(part, asked.contains(&key) && allowed, "{:?}", key);
            prop_assert_eq!(shows(&rights, Verb::Read, Space::RAW, &key), allowed, "{:?}", key);
        }
    }

    #[test]
    fn a_grant_that_is_named_holds_the_key(
        rules in vec((Just(false), any_scope()), 1..9),
        key in any_key(),
    ) {
        let rights = compiled(&rules);
        let required = [Required {
            verb: Verb::Read,
            on: Target::Keys { space: Space::RAW, range: KeyRange::single(key.clone()) },
        }];
        let decision = decide(&rights, &required, |_| vec![]);
        if let meridian_domain::access::decide::Decision::Allowed { by: Some(by) } = decision {
            // Numbers count the grants that were taken, from one.
            let taken = rules.iter().filter(|(_, scope)| !scope.regions().is_empty());
            let (_, scope) = taken.clone().nth(by.number as usize - 1).unwrap();
            prop_assert!(holds(scope, &key), "{} does not hold {:?}", by, key);
        }
    }
}
