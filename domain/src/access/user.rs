//! Users: names with roles and, mostly, a password.

use crate::access::role::Assignment;

/// The user without whom authentication can not be switched on.
pub const ROOT: &str = "root";

/// A user as they are kept.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: Box<str>,
    /// The hash of the password, as the edge made it (a PHC string); none: no password opens this user.
    pub password: Option<Box<str>>,
    /// Moves when the password does: what was handed out for the old one ends.
    pub generation: u64,
    /// The roles, in the order they were given, each once per scope.
    pub roles: Vec<Assignment>,
}

impl User {
    /// Whether the user has a role everywhere, always, as etcd's clients mean it.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|held| *held.role == *role)
    }
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the hash.
        f.debug_struct("User")
            .field("name", &self.name)
            .field("password", &self.password.is_some())
            .field("roles", &self.roles)
            .finish_non_exhaustive()
    }
}
