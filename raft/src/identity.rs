//! Ids of clusters and members.
//!
//! Where a cluster is founded from a list everybody was given, ids are derived from that list, so that the
//! founders agree on them without a word. A member added later gets a random id. An id is never used again.

use sha2::{Digest, Sha256};

/// The id of a founding member: a hash of its peer URLs (in any order) and the cluster's token.
pub fn founder_id(peer_urls: &[String], token: &str) -> u64 {
    let mut urls: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let mut hash = Sha256::new();
    for url in urls {
        hash.update(url.as_bytes());
        hash.update([0]);
    }
    hash.update(token.as_bytes());
    not_zero(&hash.finalize())
}

/// The id of a cluster: a hash of its founders' ids, in any order.
pub fn cluster_id(founders: &[u64]) -> u64 {
    let mut ids = founders.to_vec();
    ids.sort_unstable();
    let mut hash = Sha256::new();
    for id in ids {
        hash.update(id.to_be_bytes());
    }
    not_zero(&hash.finalize())
}

/// A new random id for a member that is added, or for a data directory. Never zero.
pub fn random_id() -> u64 {
    rand::random_range(1..=u64::MAX)
}

/// The first eight bytes of a hash; zero means "nobody" and is avoided.
fn not_zero(hash: &[u8]) -> u64 {
    hash.iter()
        .take(8)
        .fold(0, |id, byte| (id << 8) | u64::from(*byte))
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_urls_and_founders_does_not_matter() {
        let urls = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let a = founder_id(&urls(&["http://a:1", "http://b:2"]), "token");
        assert_eq!(a, founder_id(&urls(&["http://b:2", "http://a:1"]), "token"));
        assert_ne!(
            a,
            founder_id(&urls(&["http://a:1", "http://b:2"]), "another")
        );
        assert_ne!(a, founder_id(&urls(&["http://a:1http://b:2"]), "token"));
        assert_eq!(cluster_id(&[1, 2, 3]), cluster_id(&[3, 1, 2]));
        assert_ne!(cluster_id(&[1, 2]), cluster_id(&[1, 3]));
    }
}
