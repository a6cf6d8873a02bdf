//! Keys of the cluster's own: what members sign sessions with, and hash tokens' secrets with.
//!
//! One of each name, in the tenant `default`, made by whichever member needs it first. Nobody who is somebody reads
//! or writes one.

/// What sessions are signed with.
pub const SESSION: &str = "session";
/// What secrets of tokens are hashed with.
pub const TOKEN: &str = "token";

/// A key. It never stands in a log: its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(pub [u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}
