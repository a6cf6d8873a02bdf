//! The part of the scripts' language that speaks of rules.
//!
//! ```text
//! role-add NAME | role-delete NAME | role-parents NAME PARENT,...
//! permit ROLE KIND KEY [END] | unpermit ROLE KEY [END]      etcd's permissions; END `*` is no end
//! allow ROLE VERB,... SCOPE [from=MS to=MS]                 a grant; a denying one with `deny`
//! revoke ROLE NUMBER
//! user-add NAME | user-delete NAME | passwd NAME
//! assign SUBJECT ROLE [scope=SCOPE until=MS] | unassign SUBJECT ROLE
//! token-issue ID ROLE [ttl=SECONDS] | token-revoke ID
//! enable | disable
//! show status|users|roles | show user NAME | show role NAME
//! can USER VERB KEY [END] [at=MS]                           the decision in words
//! get KEY [END] | set KEY | watch KEY [END]                 whether it is allowed, with as=USER
//!
//! SCOPE = tenant | cluster | path:P | prefix:P | key:K | range:A..B | from:A      SUBJECT = kind:name
//! ```
//!
//! `as=USER` says who asks; nobody is anonymous. Moments are in milliseconds after the script's present.

use std::error::Error;

use bytes::Bytes;
use meridian_domain::access::Action;
use meridian_domain::access::Identity;
use meridian_domain::access::change::{AccessChange, AccessFound, AccessQuery};
use meridian_domain::access::grant::{Conditions, Effect, Permission, PermissionKind, Window};
use meridian_domain::access::principal::Subject;
use meridian_domain::access::role::Assignment;
use meridian_domain::access::scope::Scope;
use meridian_domain::access::token::Token;
use meridian_domain::access::verb::{Verb, Verbs};
use meridian_domain::answer::{Found, answer};
use meridian_domain::intent::Intent;
use meridian_domain::key::{KeyRange, RangeEnd, Space};
use meridian_domain::kv::{Put, Range};
use meridian_domain::query::Query;
use meridian_domain::rejection::Rejection;

use crate::stage::{NOW_MS, Stage};

type Failure = Box<dyn Error>;

/// Runs one command.
pub fn run(stage: &mut Stage, command: &goldenscript::Command) -> Result<String, Failure> {
    let mut args = command.consume_args();
    let who = args.take_key("as").unwrap_or("anonymous").to_owned();
    let key = |args: &mut goldenscript::ArgumentConsumer<'_>, name: &str| {
        args.take_key(name).map(str::to_owned)
    };
    let (scope, until) = (key(&mut args, "scope"), key(&mut args, "until"));
    let (from, to) = (key(&mut args, "from"), key(&mut args, "to"));
    let (ttl, at) = (key(&mut args, "ttl"), key(&mut args, "at"));
    let words: Vec<String> = std::iter::from_fn(|| args.next_pos().map(str::to_owned)).collect();
    args.reject_next()?;
    let word = |place: usize| words.get(place).map(String::as_str);
    let need = |place: usize| word(place).ok_or("a word is missing");
    let range = |place: usize| -> Result<KeyRange, Failure> {
        let end = match word(place + 1) {
            None => RangeEnd::Single,
            Some("*") => RangeEnd::Open,
            Some(end) => RangeEnd::Before(end.to_owned().into()),
        };
        let start = crate::bytes_of(need(place)?);
        Ok(KeyRange { start, end })
    };
    let change = match command.name.as_str() {
        "role-add" => AccessChange::RoleAdd {
            name: crate::text_of(need(0)?),
        },
        "role-delete" => AccessChange::RoleDelete {
            name: need(0)?.into(),
        },
        "role-parents" => AccessChange::RoleParents {
            name: need(0)?.into(),
            parents: word(1)
                .unwrap_or_default()
                .split(',')
                .filter(|p| !p.is_empty())
                .map(Into::into)
                .collect(),
        },
        "permit" => AccessChange::PermissionGrant {
            role: need(0)?.into(),
            permission: match need(1)? {
                "nothing" => None,
                kind => Some(Permission {
                    kind: match kind {
                        "read" => PermissionKind::Read,
                        "write" => PermissionKind::Write,
                        "readwrite" => PermissionKind::ReadWrite,
                        other => return Err(format!("unknown kind {other}").into()),
                    },
                    range: range(2)?,
                }),
            },
        },
        "unpermit" => AccessChange::PermissionRevoke {
            role: need(0)?.into(),
            range: range(1)?,
        },
        "allow" | "deny" => AccessChange::Grant {
            role: need(0)?.into(),
            effect: if command.name == "allow" {
                Effect::Allow
            } else {
                Effect::Deny
            },
            verbs: verbs(need(1)?)?,
            scope: scope_of(need(2)?)?,
            conditions: Conditions {
                window: window(from.as_deref(), to.as_deref())?,
                ..Conditions::default()
            },
        },
        "revoke" => AccessChange::Revoke {
            role: need(0)?.into(),
            number: need(1)?.parse()?,
        },
        "user-add" => AccessChange::UserAdd {
            name: crate::text_of(need(0)?),
            password: Some("hash".into()),
        },
        "user-delete" => AccessChange::UserDelete {
            name: need(0)?.into(),
        },
        "passwd" => AccessChange::UserPassword {
            name: need(0)?.into(),
            password: Some("other hash".into()),
        },
        "assign" => AccessChange::Assign {
            subject: subject(need(0)?)?,
            assignment: Assignment {
                role: need(1)?.into(),
                scope: scope.as_deref().map_or(Ok(Scope::Tenant), scope_of)?,
                window: window(None, until.as_deref())?,
            },
        },
        "unassign" => AccessChange::Unassign {
            subject: subject(need(0)?)?,
            role: need(1)?.into(),
        },
        "token-issue" => AccessChange::TokenIssue(Token {
            id: need(0)?.into(),
            digest: [7; 32],
            holder: "somebody".into(),
            roles: vec![Assignment::of(need(1)?)],
            issued_ms: NOW_MS,
            expires_ms: NOW_MS + 1000 * ttl.as_deref().unwrap_or("60").parse::<u64>()?,
            networks: vec![],
            bound_to: None,
        }),
        "token-revoke" => AccessChange::TokenRevoke {
            id: need(0)?.into(),
        },
        "enable" => AccessChange::Enable,
        "disable" => AccessChange::Disable,
        "show" => {
            let query = match (need(0)?, word(1)) {
                ("status", None) => AccessQuery::Status,
                ("users", None) => AccessQuery::Users,
                ("roles", None) => AccessQuery::Roles,
                ("user", Some(name)) => AccessQuery::User(name.into()),
                ("role", Some(name)) => AccessQuery::Role(name.into()),
                (other, _) => return Err(format!("nothing to show of {other}").into()),
            };
            return Ok(show(stage, &who, query));
        }
        "can" => {
            let verb = need(1)?;
            let later: u64 = at.as_deref().unwrap_or("0").parse()?;
            let query = AccessQuery::Can {
                identity: Identity::user(stage.tenant.id, need(0)?),
                verb: Verb::named(verb).ok_or("unknown verb")?,
                space: Space::RAW,
                range: range(2)?,
                now_ms: NOW_MS + later,
            };
            return Ok(show(stage, &who, query));
        }
        "get" => {
            let query = Query::Range(Range::of(Space::RAW, range(0)?));
            return Ok(said(stage.may(&who, Action::Read(&query))));
        }
        "watch" => {
            let action = Action::Watch {
                space: Space::RAW,
                range: &range(0)?,
            };
            return Ok(said(stage.may(&who, action)));
        }
        "set" => {
            let intent = Intent::Put(Put {
                space: Space::RAW,
                key: crate::bytes_of(need(0)?),
                value: Some(Bytes::new()),
                lease: Some(0),
                prev_kv: false,
            });
            return Ok(said(stage.may(&who, Action::Write(&intent))));
        }
        other => return Err(format!("unknown command {other}").into()),
    };
    let before = (stage.revision, stage.rules_revision);
    Ok(match stage.change(&who, change) {
        Ok(true) if stage.revision == before.0 => "nothing changes\n".into(),
        Ok(true) if stage.rules_revision == before.1 => "done, same rules\n".into(),
        Ok(true) => format!("done, rules {}\n", stage.rules_revision),
        Ok(false) => "the other branch\n".into(),
        Err(no) => crate::refused(&no),
    })
}

fn said(result: Result<(), Rejection>) -> String {
    match result {
        Ok(()) => "allowed\n".into(),
        Err(no) => crate::refused(&no),
    }
}

fn show(stage: &Stage, who: &str, query: AccessQuery) -> String {
    let principal = match stage.principal(who) {
        Ok(principal) => principal,
        Err(no) => return crate::refused(&no),
    };
    let found = match answer(stage, &principal, &Query::Access(query)) {
        Ok(answer) => answer.found,
        Err(no) => return crate::refused(&no),
    };
    let Found::Access(found) = found else {
        return "not about rules\n".into();
    };
    match found {
        AccessFound::Status {
            door,
            rules_revision,
        } => format!("enabled {}, rules {rules_revision}\n", door.enabled),
        AccessFound::Names(names) => format!("{}\n", names.join(" ")),
        AccessFound::Assignments(held) => {
            let one = |held: &Assignment| format!("{} on {}\n", held.role, held.scope);
            held.iter().map(one).collect()
        }
        AccessFound::Role(role) => {
            let mut text = String::new();
            for grant in &role.grants {
                let effect = match grant.effect {
                    Effect::Allow => "allow",
                    Effect::Deny => "deny",
                };
                text += &format!(
                    "#{} {effect} {} on {}\n",
                    grant.number, grant.verbs, grant.scope
                );
            }
            for permission in role.permissions() {
                let Permission { kind, range } = permission;
                let scope = Scope::raw(range);
                text += &format!("etcd sees {kind:?} on {scope}\n");
            }
            text
        }
        AccessFound::Can { why, .. } => format!("{why}\n"),
        other => format!("{other:?}\n"),
    }
}

fn verbs(text: &str) -> Result<Verbs, Failure> {
    let mut all = Verbs::NONE;
    for name in text.split(',').filter(|name| !name.is_empty()) {
        let verb = Verb::named(name).ok_or_else(|| format!("unknown verb {name}"))?;
        all = all.and(Verbs::of(&[verb]));
    }
    Ok(all)
}

fn scope_of(text: &str) -> Result<Scope, Failure> {
    let space = Space::RAW;
    let bytes = |text: &str| Bytes::from(text.to_owned());
    Ok(match text.split_once(':') {
        None if text == "tenant" => Scope::Tenant,
        None if text == "cluster" => Scope::Cluster,
        Some(("path", path)) => Scope::Path {
            space,
            path: bytes(path),
        },
        Some(("prefix", prefix)) => Scope::Prefix {
            space,
            prefix: bytes(prefix),
        },
        Some(("key", key)) => Scope::raw(KeyRange::single(bytes(key))),
        Some(("from", key)) => Scope::raw(KeyRange {
            start: bytes(key),
            end: RangeEnd::Open,
        }),
        Some(("range", range)) => {
            let (start, end) = range.split_once("..").ok_or("a range is A..B")?;
            Scope::raw(KeyRange {
                start: bytes(start),
                end: RangeEnd::Before(bytes(end)),
            })
        }
        _ => return Err(format!("unknown scope {text}").into()),
    })
}

fn window(from: Option<&str>, to: Option<&str>) -> Result<Window, Failure> {
    let moment = |text: Option<&str>| -> Result<u64, Failure> {
        text.map_or(Ok(0), |text| Ok(NOW_MS + text.parse::<u64>()?))
    };
    Ok(Window {
        not_before_ms: moment(from)?,
        not_after_ms: moment(to)?,
    })
}

fn subject(text: &str) -> Result<Subject, Failure> {
    let (kind, name) = text.split_once(':').ok_or("a subject is kind:name")?;
    let name = name.into();
    Ok(match kind {
        "user" => Subject::User(name),
        "certificate" => Subject::Certificate(name),
        "jwt" => Subject::Jwt(name),
        "group" => Subject::Group(name),
        "token" => Subject::Token(name),
        other => return Err(format!("unknown kind {other}").into()),
    })
}
