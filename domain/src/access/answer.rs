//! Answering a question about the rules.

use crate::access::change::{AccessFound, AccessQuery};
use crate::access::compile::compile;
use crate::access::decide::decide;
use crate::access::document::{self, Place};
use crate::access::grant::Circumstances;
use crate::access::required::{Required, Target, assignments};
use crate::access::role::Role;
use crate::access::token::Token;
use crate::access::user::User;
use crate::rejection::Rejection;
use crate::view::View;

/// Answers from a view; who asks was checked before.
pub fn answer(view: &dyn View, query: &AccessQuery) -> Result<AccessFound, Rejection> {
    Ok(match query {
        AccessQuery::Status => AccessFound::Status {
            door: document::door(view)?,
            rules_revision: view.rules_revision(),
        },
        AccessQuery::Users => {
            let users = document::list::<User>(view, &Place::users())?;
            AccessFound::Names(users.into_iter().map(|user| user.name).collect())
        }
        AccessQuery::User(name) => {
            let user = document::user(view, name)?.ok_or(Rejection::UserNotFound)?;
            AccessFound::Assignments(user.roles)
        }
        AccessQuery::Roles => {
            let roles = document::list::<Role>(view, &Place::roles())?;
            AccessFound::Names(roles.into_iter().map(|role| role.name).collect())
        }
        AccessQuery::Role(name) => {
            AccessFound::Role(document::role(view, name)?.ok_or(Rejection::RoleNotFound)?)
        }
        AccessQuery::Binding(subject) => AccessFound::Assignments(assignments(view, subject)?),
        AccessQuery::Tokens => {
            let tokens = document::list::<Token>(view, &Place::tokens())?;
            AccessFound::Tokens(tokens.into_iter().map(Into::into).collect())
        }
        AccessQuery::Policy => AccessFound::Policy(document::policy(view)?),
        AccessQuery::Trust => AccessFound::Trust(document::trust(view)?),
        AccessQuery::Can {
            identity,
            verb,
            space,
            range,
            now_ms,
        } => {
            let at = Circumstances {
                now_ms: Some(*now_ms),
                source: None,
            };
            let rights = compile(view, identity, &at)?;
            let required = [Required {
                verb: *verb,
                on: Target::Keys {
                    space: *space,
                    range: range.clone(),
                },
            }];
            AccessFound::of(&decide(&rights, &required, |lease| view.lease_keys(lease)))
        }
    })
}
