//! Users, roles and rights: one program of calls and of callers on both stores; every answer must be the same but for
//! tokens, ids and revisions (rules lie in the keyspace here, and move its revision).
//!
//! Left out, because the etcd at hand is older than the behaviour we follow: a permission without a key, the rights
//! shown of `root`, and the member list, which it shows to everybody.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::gateway::{call, comparable};
use crate::server::{self, Server};

/// A caller: a user and a password, or nobody.
type Who = Option<(&'static str, &'static str)>;

const NOBODY: Who = None;
const ROOT: Who = Some(("root", "rootpw"));
const ALICE: Who = Some(("alice", "alicepw"));
// etcd waits for the log index behind the dot, for ever if it does not come.
const FORGED: Who = Some(("", "GdGTiBlyoigYNJBe.1"));

fn b64(text: &str) -> String {
    STANDARD.encode(text)
}

fn range(key: &str, end: &str) -> Value {
    json!({"key": b64(key), "range_end": b64(end)})
}

fn put(key: &str) -> Value {
    json!({"key": b64(key), "value": b64("v")})
}

fn permission(kind: &str, key: &str, end: &str) -> Value {
    json!({"permType": kind, "key": b64(key), "range_end": b64(end)})
}

fn user(name: &str, password: &str) -> Value {
    json!({"name": name, "password": password})
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn program() -> Vec<(Who, &'static str, Value)> {
    let before = [
        ("auth/disable", json!({})),
        ("auth/authenticate", user("root", "rootpw")),
        ("auth/enable", json!({})),
        ("auth/user/add", user("", "x")),
        ("auth/user/add", user("root", "rootpw")),
        ("auth/user/add", user("root", "other")),
        ("auth/enable", json!({})),
        ("auth/role/add", json!({"name": "root"})),
        ("auth/role/add", json!({"name": ""})),
        ("auth/role/add", json!({"name": "r"})),
        ("auth/role/add", json!({"name": "r"})),
        ("auth/user/grant", json!({"user": "root", "role": "root"})),
        ("auth/user/grant", json!({"user": "root", "role": "none"})),
        ("auth/user/grant", json!({"user": "none", "role": "r"})),
        ("auth/user/get", json!({"name": "none"})),
        ("auth/user/get", json!({"name": "root"})),
        ("auth/user/add", user("alice", "alicepw")),
        ("auth/user/add", user("bob", "bobpw")),
        (
            "auth/user/add",
            json!({"name": "nopw", "options": {"no_password": true}}),
        ),
        ("auth/user/grant", json!({"user": "alice", "role": "r"})),
        ("auth/user/grant", json!({"user": "alice", "role": "r"})),
        ("auth/user/revoke", json!({"name": "bob", "role": "r"})),
        ("auth/user/revoke", json!({"name": "none", "role": "r"})),
        ("auth/role/get", json!({"role": "none"})),
        (
            "auth/role/grant",
            json!({"name": "r", "perm": permission("READ", "a", "c")}),
        ),
        (
            "auth/role/grant",
            json!({"name": "r", "perm": permission("WRITE", "b", "d")}),
        ),
        (
            "auth/role/grant",
            json!({"name": "r", "perm": permission("READWRITE", "x", "")}),
        ),
        (
            "auth/role/grant",
            json!({"name": "r", "perm": permission("READ", "x", "")}),
        ),
        (
            "auth/role/grant",
            json!({"name": "r", "perm": permission("READWRITE", "y", "\0")}),
        ),
        (
            "auth/role/grant",
            json!({"name": "none", "perm": permission("READ", "a", "c")}),
        ),
        ("auth/role/get", json!({"role": "r"})),
        ("auth/role/revoke", json!({"role": "r", "key": b64("q")})),
        ("auth/role/revoke", json!({"role": "none", "key": b64("q")})),
        ("auth/user/list", json!({})),
        ("auth/role/list", json!({})),
        ("kv/put", put("a")),
        ("auth/enable", json!({})),
    ];
    let closed = [
        "auth/enable",
        "auth/disable",
        "auth/user/list",
        "auth/role/list",
        "kv/put",
        "kv/range",
    ];
    let alices = [
        ("kv/range", range("a", "")),
        ("kv/range", range("a", "c")),
        ("kv/range", range("a", "c0")),
        ("kv/range", range("d", "")),
        ("kv/range", range("y", "\0")),
        ("kv/range", range("x", "\0")),
        ("kv/put", put("a")),
        ("kv/put", put("b")),
        (
            "kv/put",
            json!({"key": b64("b"), "value": b64("w"), "prev_kv": true}),
        ),
        (
            "kv/put",
            json!({"key": b64("c"), "value": b64("w"), "prev_kv": true}),
        ),
        ("kv/put", put("x")),
        ("kv/put", put("yy")),
        ("kv/deleterange", range("b", "d")),
        ("kv/deleterange", range("a", "d")),
        ("kv/deleterange", json!({"key": b64("c"), "prev_kv": true})),
        (
            "kv/txn",
            json!({"compare": [{"key": b64("d"), "target": "VERSION", "version": 1}]}),
        ),
        (
            "kv/txn",
            json!({"success": [{"request_put": put("b")}], "failure": [{"request_put": put("a")}]}),
        ),
        (
            "kv/txn",
            json!({"success": [{"request_put": put("b")}, {"request_range": range("a", "")}]}),
        ),
        ("auth/user/get", json!({"name": "alice"})),
        ("auth/user/get", json!({"name": "root"})),
        ("auth/role/get", json!({"role": "r"})),
        ("auth/role/get", json!({"role": "root"})),
        ("auth/user/list", json!({})),
        ("auth/role/list", json!({})),
        ("auth/user/add", user("eve", "x")),
        ("auth/user/changepw", user("root", "x")),
        ("auth/disable", json!({})),
    ];
    let roots = [
        ("auth/enable", json!({})),
        ("auth/user/delete", json!({"name": "root"})),
        ("auth/user/revoke", json!({"name": "root", "role": "root"})),
        ("auth/role/delete", json!({"role": "root"})),
        ("auth/authenticate", user("alice", "wrong")),
        ("auth/authenticate", user("none", "wrong")),
        ("auth/authenticate", user("nopw", "wrong")),
        (
            "auth/role/revoke",
            json!({"role": "r", "key": b64("a"), "range_end": b64("c")}),
        ),
        ("auth/role/get", json!({"role": "r"})),
    ];
    let last = [
        (ALICE, "kv/range", range("a", "")),
        (ROOT, "auth/role/delete", json!({"role": "r"})),
        (ROOT, "auth/user/get", json!({"name": "alice"})),
        (ALICE, "kv/put", put("b")),
        (ROOT, "auth/user/changepw", user("bob", "newpw")),
        (
            Some(("bob", "bobpw")),
            "auth/user/get",
            json!({"name": "bob"}),
        ),
        (
            Some(("bob", "newpw")),
            "auth/user/get",
            json!({"name": "bob"}),
        ),
        (ROOT, "auth/user/delete", json!({"name": "bob"})),
        (ROOT, "auth/user/delete", json!({"name": "bob"})),
        (ROOT, "auth/user/list", json!({})),
        (ROOT, "auth/disable", json!({})),
        (NOBODY, "kv/range", range("\0", "\0")),
    ];
    let mut all: Vec<(Who, &'static str, Value)> = vec![];
    all.extend(before.map(|(path, body)| (NOBODY, path, body)));
    for who in [NOBODY, FORGED] {
        all.extend(closed.map(|path| {
            let body = if path.starts_with("kv") {
                put("a")
            } else {
                json!({})
            };
            (who, path, body)
        }));
    }
    all.extend(alices.map(|(path, body)| (ALICE, path, body)));
    all.extend(roots.map(|(path, body)| (ROOT, path, body)));
    all.extend(last);
    all
}

/// Runs a step, logging in for it; what must be the same.
async fn run(server: &Server, who: Who, path: &str, body: &Value) -> Value {
    let token = match who {
        None => None,
        Some(("", token)) => Some(token.to_owned()),
        Some((name, password)) => {
            let (status, answer) =
                call(server, "auth/authenticate", &user(name, password), None).await;
            match answer["token"].as_str() {
                Some(token) => Some(token.to_owned()),
                None => return json!({"login": comparable(status, answer)}),
            }
        }
    };
    let (status, answer) = call(server, path, body, token.as_deref()).await;
    let mut answer = comparable(status, answer);
    if let Some(object) = answer.as_object_mut() {
        object.remove("header");
        for kv in ["kvs", "prev_kvs"] {
            let list = object.get_mut(kv).and_then(Value::as_array_mut);
            list.into_iter().flatten().for_each(without_revisions);
        }
        object
            .get_mut("prev_kv")
            .into_iter()
            .for_each(without_revisions);
        for response in object
            .get_mut("responses")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            *response = json!(response.as_object().unwrap().keys().collect::<Vec<_>>());
        }
    }
    answer
}

fn without_revisions(kv: &mut Value) {
    if let Some(kv) = kv.as_object_mut() {
        kv.remove("create_revision");
        kv.remove("mod_revision");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_etcd), ignore = "etcd and etcdctl are not installed")]
async fn users_roles_and_rights_answer_as_etcd_does() {
    let (ours, etcd) = (server::meridian().await, server::etcd().await);
    let mut different = vec![];
    for (step, (who, path, body)) in program().into_iter().enumerate() {
        let (a, b) = (
            run(&ours, who, path, &body).await,
            run(&etcd, who, path, &body).await,
        );
        if a != b {
            different.push(format!(
                "step {step}, {who:?} {path} {body}\n  Meridian {a}\n  etcd     {b}"
            ));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}
