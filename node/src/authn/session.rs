//! Sessions: what a password is exchanged for.
//!
//! ```text
//!   mrs_<tenant>_<expires, ms>_<generation>_<user, base64url>.<HMAC-SHA256, hex>
//!       ----------- hexadecimal ----------
//! ```
//!
//! Signed with a key of the cluster's own, so that every member knows it without asking, also one that was just
//! started. It can be shown for [`TTL_MS`], etcd's time; clients ask for a new one when it can not be shown any more.
//! It says which password it was given for: it ends when that changes, and when the user is removed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use meridian_domain::access::key::Key;
use meridian_domain::name::TenantId;
use sha2::Sha256;

/// How it begins.
pub const BEGINS: &[u8] = b"mrs_";
/// How long it can be shown, in milliseconds.
pub const TTL_MS: u64 = 5 * 60 * 1000;

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Whose user.
    pub tenant: TenantId,
    /// The user.
    pub user: String,
    /// Which password.
    pub generation: u64,
    /// From when on it can not be shown, in milliseconds since the Unix epoch.
    pub expires_ms: u64,
}

/// The text of a session.
pub fn write(key: &Key, session: &Session) -> String {
    let Session {
        tenant,
        user,
        generation,
        expires_ms,
    } = session;
    let user = URL_SAFE_NO_PAD.encode(user);
    let tenant = tenant.0;
    let mut text = format!("mrs_{tenant:x}_{expires_ms:x}_{generation:x}_{user}");
    let signature = signer(key, text.as_bytes()).finalize().into_bytes();
    text.push('.');
    push_hex(&mut text, &signature);
    text
}

/// A session out of its text; none if it was not signed with the key, or is over.
pub fn read(key: &Key, text: &[u8], now_ms: u64) -> Option<Session> {
    let dot = text.iter().rposition(|byte| *byte == b'.')?;
    let (head, rest) = text.split_at_checked(dot)?;
    let signature = from_hex::<32>(rest.strip_prefix(b".")?)?;
    // Compared in constant time.
    signer(key, head).verify_slice(&signature).ok()?;
    let mut parts = std::str::from_utf8(head).ok()?.splitn(5, '_').skip(1);
    let tenant = u32::from_str_radix(parts.next()?, 16).ok()?;
    let expires_ms = u64::from_str_radix(parts.next()?, 16).ok()?;
    let generation = u64::from_str_radix(parts.next()?, 16).ok()?;
    let user = URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
    let session = Session {
        tenant: TenantId(tenant),
        user: String::from_utf8(user).ok()?,
        generation,
        expires_ms,
    };
    (now_ms < expires_ms).then_some(session)
}

/// The tenant a text says it is of; not proven.
pub fn claims(text: &[u8]) -> Option<TenantId> {
    let text = std::str::from_utf8(text).ok()?;
    let tenant = text.split('_').nth(1)?;
    u32::from_str_radix(tenant, 16).ok().map(TenantId)
}

fn signer(key: &Key, text: &[u8]) -> Hmac<Sha256> {
    let mut mac = keyed(key);
    mac.update(text);
    mac
}

/// An HMAC under a key.
pub(super) fn keyed(key: &Key) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
    Hmac::new_from_slice(&key.0).expect("a key of 32 bytes")
}

/// Bytes as small hexadecimal digits.
pub(super) fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        text.push_str(&format!("{byte:02x}"));
    }
}

/// The other way round; exactly so many, small digits only.
pub(super) fn from_hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let bytes = pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
        .collect::<Option<Vec<u8>>>()?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn session() -> Session {
        Session {
            tenant: TenantId(7),
            user: "al_i.ce".into(),
            generation: 41,
            expires_ms: 1_000,
        }
    }

    #[test]
    fn a_session_is_read_until_it_is_over() {
        let key = Key([9; 32]);
        let text = write(&key, &session());
        assert_eq!(read(&key, text.as_bytes(), 999), Some(session()));
        assert_eq!(read(&key, text.as_bytes(), 1_000), None);
        assert_eq!(read(&Key([8; 32]), text.as_bytes(), 999), None);
        assert_eq!(claims(text.as_bytes()), Some(TenantId(7)));
    }

    #[test]
    fn a_session_with_any_byte_changed_is_none() {
        let key = Key([9; 32]);
        let text = write(&key, &session()).into_bytes();
        for at in 0..text.len() {
            for flip in [1, 0x20, 0x80] {
                let mut other = text.clone();
                other[at] ^= flip;
                assert_eq!(read(&key, &other, 0), None, "byte {at} by {flip}");
            }
        }
    }

    proptest! {
        #[test]
        fn rubbish_is_none_and_never_a_panic(text in any::<Vec<u8>>()) {
            prop_assert_eq!(read(&Key([0; 32]), &text, 0), None);
            let _ = claims(&text);
        }
    }
}
