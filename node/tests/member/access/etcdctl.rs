//! Access with etcd's own client: what its users type.

use std::process::Command;

use crate::served::Served;

/// One call of `etcdctl`: what it said, without its log.
async fn ctl(authority: &str, user: Option<&str>, arguments: &[&str]) -> String {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3");
    command.args(["--endpoints", &format!("http://{authority}")]);
    if let Some(user) = user {
        command.args(["--user", user]);
    }
    command.args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(said).unwrap();
    let spoken = |line: &&str| !line.starts_with('{') && !line.trim().is_empty();
    text.lines().filter(spoken).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_etcd), ignore = "etcdctl is not installed")]
async fn users_and_roles_are_managed_and_obeyed() {
    let served = Served::start().await;
    let authority = served.authority();
    let (root, alice) = (Some("root:pw"), Some("alice:apw"));
    let denied = "Error: etcdserver: permission denied";
    let failed = "Error: etcdserver: authentication failed, invalid user ID or password";
    let script: &[(Option<&str>, &[&str], &str)] = &[
        (None, &["put", "foo", "bar"], "OK"),
        (
            None,
            &["auth", "enable"],
            "Error: etcdserver: root user does not exist",
        ),
        (None, &["user", "add", "root:pw"], "User root created"),
        (None, &["user", "add", "alice:apw"], "User alice created"),
        (None, &["role", "add", "reader"], "Role reader created"),
        (
            None,
            &["role", "grant-permission", "reader", "read", "foo", "fop"],
            "Role reader updated",
        ),
        (
            None,
            &[
                "role",
                "grant-permission",
                "reader",
                "readwrite",
                "--prefix",
                "a/",
            ],
            "Role reader updated",
        ),
        (
            None,
            &["user", "grant-role", "alice", "reader"],
            "Role reader is granted to user alice",
        ),
        (
            None,
            &["user", "get", "alice"],
            "User: alice\nRoles: reader",
        ),
        (
            None,
            &["role", "get", "reader"],
            "Role reader\nKV Read:\n\t[a/, a0) (prefix a/)\n\t[foo, fop) (prefix foo)\nKV Write:\n\t[a/, a0) (prefix a/)",
        ),
        (None, &["auth", "enable"], "Authentication Enabled"),
        (
            None,
            &["get", "foo"],
            "Error: etcdserver: user name is empty",
        ),
        (root, &["get", "foo"], "foo\nbar"),
        (Some("root:wrong"), &["get", "foo"], failed),
        (Some("eve:x"), &["get", "foo"], failed),
        (alice, &["get", "foo"], "foo\nbar"),
        (alice, &["put", "foo", "x"], denied),
        (alice, &["put", "a/1", "x"], "OK"),
        (alice, &["get", "--prefix", "a/"], "a/1\nx"),
        (alice, &["get", "--prefix", ""], denied),
        (alice, &["del", "a/1"], "1"),
        (alice, &["member", "list"], denied),
        (alice, &["user", "list"], denied),
        (
            alice,
            &["user", "get", "alice"],
            "User: alice\nRoles: reader",
        ),
        (alice, &["auth", "disable"], denied),
        (root, &["user", "list"], "alice\nroot"),
        (root, &["role", "list"], "reader\nroot"),
        (
            root,
            &["role", "revoke-permission", "reader", "a/", "a0"],
            "Permission of range [a/, a0) is revoked from role reader",
        ),
        (alice, &["put", "a/1", "x"], denied),
        (
            root,
            &["user", "revoke-role", "alice", "reader"],
            "Role reader is revoked from user alice",
        ),
        (alice, &["get", "foo"], denied),
        (
            root,
            &["user", "delete", "root"],
            "Error: etcdserver: invalid auth management",
        ),
        (root, &["user", "delete", "alice"], "User alice deleted"),
        (alice, &["get", "foo"], failed),
        (root, &["role", "delete", "reader"], "Role reader deleted"),
        (root, &["auth", "disable"], "Authentication Disabled"),
        (None, &["get", "foo"], "foo\nbar"),
    ];
    for (user, arguments, expected) in script {
        let said = ctl(&authority, *user, arguments).await;
        assert_eq!(said, *expected, "{user:?} {arguments:?}");
    }
}
