//! API tokens: made, read, and held against what is kept of them.
//!
//! ```text
//!   mrd_t_<tenant>-<id>_<secret><sum>
//!          hex      16   64      8      hexadecimal digits
//! ```
//!
//! The secret has 256 bits, so a keyed hash of it is kept and no slow one: looking at a token costs about a
//! microsecond. The sum lets programs that look for leaked secrets tell a token from noise.

use hmac::Mac;
use meridian_domain::access::key::Key;
use meridian_domain::name::TenantId;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::session::{from_hex, keyed, push_hex};

/// How it begins.
pub const BEGINS: &[u8] = b"mrd_t_";

/// A token taken apart.
pub struct Parts<'a> {
    /// Whose.
    pub tenant: TenantId,
    /// Its public id, with the tenant.
    pub id: &'a str,
    secret: [u8; 32],
}

/// A token that was just made: its text is shown once and kept nowhere.
pub struct Made {
    /// Its public id.
    pub id: Box<str>,
    /// What is kept of its secret.
    pub digest: [u8; 32],
    /// The token.
    pub text: String,
}

/// Makes a token for a tenant.
pub fn make(key: &Key, tenant: TenantId) -> Made {
    let secret: [u8; 32] = rand::random();
    let id = format!("{:x}-{:016x}", tenant.0, rand::random::<u64>());
    let mut text = format!("mrd_t_{id}_");
    push_hex(&mut text, &secret);
    let sum = sum(text.as_bytes());
    push_hex(&mut text, &sum);
    Made {
        id: id.into(),
        digest: digest(key, &secret),
        text,
    }
}

/// Takes a token apart; none if it is none.
pub fn read(text: &[u8]) -> Option<Parts<'_>> {
    let (head, told) = text.split_last_chunk::<8>()?;
    if from_hex::<4>(told)? != sum(head) {
        return None;
    }
    let head = std::str::from_utf8(head.strip_prefix(BEGINS)?).ok()?;
    let (id, secret) = head.split_once('_')?;
    let (tenant, _) = id.split_once('-')?;
    Some(Parts {
        tenant: TenantId(u32::from_str_radix(tenant, 16).ok()?),
        id,
        secret: from_hex(secret.as_bytes())?,
    })
}

/// Whether a token has the secret that is kept under its id. In constant time.
pub fn opens(key: &Key, parts: &Parts<'_>, kept: &[u8; 32]) -> bool {
    digest(key, &parts.secret).ct_eq(kept).into()
}

fn digest(key: &Key, secret: &[u8; 32]) -> [u8; 32] {
    let mut mac = keyed(key);
    mac.update(secret);
    mac.finalize().into_bytes().into()
}

fn sum(text: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..]: [u8; 32] = Sha256::digest(text).into();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    #[test]
    fn a_token_opens_what_is_kept_of_it_and_nothing_else() {
        let key = Key([3; 32]);
        let (one, other) = (make(&key, TenantId(26)), make(&key, TenantId(26)));
        let parts = read(one.text.as_bytes()).unwrap();
        assert_eq!((parts.tenant, parts.id), (TenantId(26), &*one.id));
        assert!(opens(&key, &parts, &one.digest));
        assert!(!opens(&key, &parts, &other.digest));
        assert!(!opens(&Key([4; 32]), &parts, &one.digest));
    }

    #[test]
    fn a_token_with_any_byte_changed_is_none() {
        let text = make(&Key([3; 32]), TenantId(1)).text.into_bytes();
        for at in 0..text.len() {
            let mut other = text.clone();
            other[at] ^= 1;
            assert!(read(&other).is_none(), "byte {at}");
        }
        assert!(read(b"").is_none());
    }
}
