//! Records survive the round trip, refuse rubbish, and share no memory with where they came from.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod any;

use bytes::Bytes;
use meridian_domain::audit::record::Origin;
use meridian_domain::command::{Command, Guards, Proposal, Receipt, Verdict};
use meridian_domain::key::Space;
use meridian_domain::kv::Put;
use meridian_domain::name::TenantId;
use meridian_domain::revision::LogId;
use meridian_domain::stamp::{RequestId, Stamp};
use meridian_domain::txn::{Op, Txn};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use any::{any_proposal, any_receipt};

proptest! {
    #[test]
    fn a_proposal_comes_back_as_it_was(proposal in any_proposal()) {
        let record = proposal::encode(&proposal);
        prop_assert_eq!(record[0], proposal::VERSION);
        prop_assert_eq!(proposal::decode(&record), Ok(proposal));
    }

    #[test]
    fn an_answer_comes_back_as_it_was(receipt in any_receipt()) {
        let record = answer::encode(&receipt).unwrap();
        prop_assert_eq!(record[0], answer::VERSION);
        prop_assert_eq!(answer::decode(&record), Ok(receipt));
    }

    #[test]
    fn rubbish_is_refused_or_read_but_never_a_panic(mut rubbish in vec(any::<u8>(), 0..300)) {
        let _ = proposal::decode(&rubbish);
        let _ = answer::decode(&rubbish);
        if let Some(version) = rubbish.first_mut() {
            *version = 1;
        }
        let _ = proposal::decode(&rubbish);
        let _ = answer::decode(&rubbish);
    }

    #[test]
    fn a_damaged_record_is_never_a_panic(
        proposal in any_proposal(),
        receipt in any_receipt(),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        for record in [proposal::encode(&proposal), answer::encode(&receipt).unwrap()] {
            let mut flipped = record.to_vec();
            flipped[at.index(record.len())] ^= 1 << bit;
            let _ = proposal::decode(&flipped);
            let _ = answer::decode(&flipped);
            let cut = &record[..at.index(record.len())];
            let _ = proposal::decode(cut);
            let _ = answer::decode(cut);
        }
    }
}

/// A proposal with one of each kind of bytes in it.
fn put_proposal() -> Proposal {
    Proposal {
        tenant: TenantId(1),
        request_id: Some(RequestId::new(Bytes::from_static(b"request")).unwrap()),
        actor: "anonymous".into(),
        stamp: Stamp { unix_ms: 1 },
        guards: Guards::default(),
        command: Command::Txn(Txn::once(Op::Put(Put {
            space: Space::RAW,
            key: Bytes::from_static(b"key"),
            value: Some(Bytes::from_static(b"value")),
            lease: Some(0),
            prev_kv: false,
        }))),
    }
}

#[test]
fn what_is_decoded_shares_no_memory_with_the_record() {
    let record = proposal::encode(&put_proposal());
    let decoded = proposal::decode(&record).unwrap();
    // Were a part of it a slice of the record, the record would not be the only owner of its memory.
    assert!(record.is_unique());
    let inside = record.as_ptr_range();
    let Command::Txn(txn) = &decoded.command else {
        panic!("not a transaction")
    };
    let [Op::Put(put)] = txn.success.as_slice() else {
        panic!("not a put")
    };
    let value = put.value.as_ref().unwrap();
    for part in [
        &put.key,
        value,
        decoded.request_id.as_ref().unwrap().as_bytes(),
    ] {
        assert!(!inside.contains(&part.as_ptr()));
    }
    // And parts do not keep each other alive.
    assert!(put.key.is_unique() && value.is_unique());
}

#[test]
fn another_version_is_named() {
    assert_eq!(proposal::decode(&[]), Err(Unreadable::Empty));
    let mut record = proposal::encode(&put_proposal()).to_vec();
    record[0] = 3;
    assert_eq!(
        proposal::decode(&record),
        Err(Unreadable::Version { found: 3, known: 2 })
    );
    assert_eq!(
        answer::decode(&[9]),
        Err(Unreadable::Version { found: 9, known: 1 })
    );
}

#[test]
fn where_a_proposal_came_from_comes_back_and_only_in_version_2() {
    let origin = Origin {
        member: 7,
        grant: "team#1".into(),
        ..Origin::default()
    };
    let record = proposal::encode_with(&put_proposal(), &origin);
    let found = proposal::decode_with(&record);
    assert_eq!(found, Ok((put_proposal(), Some(origin))));
    assert_eq!(proposal::decode(&record), Ok(put_proposal()));
    let plain = proposal::encode(&put_proposal());
    assert_eq!(proposal::decode_with(&plain), Ok((put_proposal(), None)));

    let mut older = record.to_vec();
    older[0] = 1;
    assert_eq!(proposal::decode(&older), Err(Unreadable::Unknown));
    let mut newer = plain.to_vec();
    newer[0] = 2;
    let missing = Unreadable::Missing { what: "origin" };
    assert_eq!(proposal::decode(&newer), Err(missing));
}

#[test]
fn a_field_this_program_does_not_know_is_refused() {
    let mut record = proposal::encode(&put_proposal()).to_vec();
    // Field 100, a varint.
    record.extend([0xa0, 0x06, 0x01]);
    assert_eq!(proposal::decode(&record), Err(Unreadable::Unknown));
}

#[test]
fn a_command_this_program_does_not_know_is_refused() {
    let message = schema::Proposal {
        tenant: 1,
        ..schema::Proposal::default()
    };
    let record = seal(proposal::VERSION, &message);
    assert_eq!(
        proposal::decode(&record),
        Err(Unreadable::Missing { what: "command" })
    );
}

#[test]
fn impossible_parts_are_named() {
    let of = |command| {
        let message = schema::Proposal {
            command: Some(command),
            ..schema::Proposal::default()
        };
        proposal::decode(&seal(proposal::VERSION, &message))
    };
    let alarm = schema::Alarm {
        member: 1,
        kind: 7,
        raised: true,
    };
    let refused = of(schema::proposal::Command::Alarm(alarm));
    assert_eq!(
        refused,
        Err(Unreadable::Impossible {
            what: "kind of alarm"
        })
    );
    let delete = schema::TenantDelete {
        name: "NOT A NAME".into(),
    };
    let refused = of(schema::proposal::Command::TenantDelete(delete));
    assert_eq!(
        refused,
        Err(Unreadable::Impossible {
            what: "tenant name"
        })
    );
    let put = schema::Put {
        space: 256,
        ..schema::Put::default()
    };
    let op = schema::Op {
        op: Some(schema::op::Op::Put(put)),
    };
    let txn = schema::Txn {
        success: vec![op],
        ..schema::Txn::default()
    };
    let refused = of(schema::proposal::Command::Txn(txn));
    assert_eq!(refused, Err(Unreadable::Impossible { what: "space" }));
}

#[test]
fn nesting_is_bounded_before_the_stack_is() {
    let tower = |levels: usize| {
        let mut proposal = put_proposal();
        let Command::Txn(mut txn) = proposal.command else {
            panic!("not a transaction")
        };
        for _ in 1..levels {
            txn = Txn::once(Op::Txn(txn));
        }
        proposal.command = Command::Txn(txn);
        proposal
    };
    let deepest = tower(NESTING_MAX);
    assert_eq!(proposal::decode(&proposal::encode(&deepest)), Ok(deepest));
    let record = proposal::encode(&tower(NESTING_MAX + 1));
    assert_eq!(proposal::decode(&record), Err(Unreadable::TooDeep));
    // Far deeper the decoder itself stops.
    let record = proposal::encode(&tower(200));
    assert!(matches!(
        proposal::decode(&record),
        Err(Unreadable::Damaged(_))
    ));
}

#[test]
fn what_changed_nothing_is_not_kept() {
    let receipt = Receipt {
        log_id: LogId::default(),
        revision: 1,
        verdict: Verdict::Stale,
    };
    assert_eq!(answer::encode(&receipt), None);
}
