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

#[test]
fn every_text_of_auth_has_etcds_code() {
    use Code::{FailedPrecondition, InvalidArgument, PermissionDenied, Unauthenticated, Unknown};
    let needs = "write on raw:k".into();
    let cases = [
        (
            Rejection::RootUserMissing,
            FailedPrecondition,
            "root user does not exist",
        ),
        (
            Rejection::RootRoleMissing,
            FailedPrecondition,
            "root user does not have root role",
        ),
        (
            Rejection::UserExists,
            FailedPrecondition,
            "user name already exists",
        ),
        (
            Rejection::UserNotFound,
            FailedPrecondition,
            "user name not found",
        ),
        (
            Rejection::UserNameEmpty,
            InvalidArgument,
            "user name is empty",
        ),
        (
            Rejection::RoleExists,
            FailedPrecondition,
            "role name already exists",
        ),
        (
            Rejection::RoleNotFound,
            FailedPrecondition,
            "role name not found",
        ),
        (
            Rejection::RoleNameEmpty,
            InvalidArgument,
            "role name is empty",
        ),
        (
            Rejection::RoleNotGranted,
            FailedPrecondition,
            "role is not granted to the user",
        ),
        (
            Rejection::PermissionNotGranted,
            FailedPrecondition,
            "permission is not granted to the role",
        ),
        (
            Rejection::PermissionNotGiven,
            InvalidArgument,
            "permission not given",
        ),
        (
            Rejection::InvalidAuthManagement,
            InvalidArgument,
            "invalid auth management",
        ),
        (
            Rejection::AuthFailed,
            InvalidArgument,
            "authentication failed, invalid user ID or password",
        ),
        (
            Rejection::AuthNotEnabled,
            FailedPrecondition,
            "authentication is not enabled",
        ),
        (
            Rejection::AuthOld,
            InvalidArgument,
            "revision of auth store is old",
        ),
        (
            Rejection::InvalidToken,
            Unauthenticated,
            "invalid auth token",
        ),
        (
            Rejection::PermissionDenied,
            PermissionDenied,
            "permission denied",
        ),
        (
            Rejection::Forbidden { needs },
            PermissionDenied,
            "permission denied",
        ),
    ];
    for (rejection, code, text) in cases {
        let status = Refusal::from(rejection).into_status();
        assert_eq!(
            (status.code(), status.message()),
            (code, &*format!("etcdserver: {text}"))
        );
    }
    let status = Refusal::from(Rejection::NoPasswordUser).into_status();
    assert_eq!(status.code(), Unknown);
    let text = "auth: authentication failed, password was given for no password user";
    assert_eq!(status.message(), text);
}
