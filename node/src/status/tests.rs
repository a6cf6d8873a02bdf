//! Codes and texts, as clients see them.

use super::*;

#[test]
fn texts_and_codes_are_etcds_to_the_letter() {
    let cases: Vec<(Refusal, Code, &str)> = vec![
        (
            Rejection::EmptyKey.into(),
            Code::InvalidArgument,
            "etcdserver: key is not provided",
        ),
        (
            Rejection::Compacted { compacted: 3 }.into(),
            Code::OutOfRange,
            "etcdserver: mvcc: required revision has been compacted",
        ),
        (
            Unavailable::NoLeader.into(),
            Code::Unavailable,
            "etcdserver: no leader",
        ),
        (
            Etcd::NotSupportedForLearner.into(),
            Code::FailedPrecondition,
            "etcdserver: rpc not supported for learner",
        ),
        (
            Etcd::MessageTooLarge {
                bytes: 5,
                limit: 2_097_152,
            }
            .into(),
            Code::ResourceExhausted,
            "grpc: received message larger than max (5 vs. 2097152)",
        ),
    ];
    for (refusal, code, text) in cases {
        let status = refusal.into_status();
        assert_eq!(status.code(), code, "{text}");
        assert_eq!(status.message(), text);
        assert!(status.metadata().get(CODE_KEY).is_some(), "{text}");
    }
}

#[test]
fn a_fault_shows_an_incident_and_not_its_path() {
    let fault = Fault::Directory {
        path: "/secret/place".into(),
        what: "x".into(),
    };
    let status = Refusal::from(fault).into_status();
    assert!(
        status.message().contains("incident"),
        "{}",
        status.message()
    );
    assert!(!status.message().contains("secret"), "{}", status.message());
}

#[test]
fn lock_errors_leave_as_unknown_with_the_inner_text() {
    let status = Refusal::from(Rejection::LeaseNotFound).into_unknown_status();
    assert_eq!(status.code(), Code::Unknown);
    assert_eq!(status.message(), "etcdserver: requested lease not found");
}
