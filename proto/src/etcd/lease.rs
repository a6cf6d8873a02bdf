//! Answers about leases.

use bytes::Bytes;
use meridian_domain::kv::LeaseId;

use crate::etcdserverpb::{
    LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseStatus,
    LeaseTimeToLiveResponse, ResponseHeader,
};

/// What a lease has left, as its leader knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// Whole seconds left.
    pub seconds: i64,
    /// Its time to live as granted, in seconds.
    pub granted_seconds: i64,
    /// Its keys, if asked for.
    pub keys: Vec<Bytes>,
}

/// Writes the answer to a grant.
pub fn granted(header: ResponseHeader, id: LeaseId, ttl_seconds: i64) -> LeaseGrantResponse {
    LeaseGrantResponse {
        header: Some(header),
        id,
        ttl: ttl_seconds,
        error: String::new(),
    }
}

/// Writes the answer to a renewal; `ttl_seconds` is none if the lease is gone.
pub fn kept_alive(
    header: ResponseHeader,
    id: LeaseId,
    ttl_seconds: Option<i64>,
) -> LeaseKeepAliveResponse {
    LeaseKeepAliveResponse {
        header: Some(header),
        id,
        ttl: ttl_seconds.unwrap_or(0),
    }
}

/// Writes how long a lease has left: -1, without an error, if there is no such lease.
pub fn time_to_live(
    header: ResponseHeader,
    id: LeaseId,
    remaining: Option<Remaining>,
) -> LeaseTimeToLiveResponse {
    let remaining = remaining.unwrap_or(Remaining {
        seconds: -1,
        granted_seconds: 0,
        keys: vec![],
    });
    LeaseTimeToLiveResponse {
        header: Some(header),
        id,
        ttl: remaining.seconds,
        granted_ttl: remaining.granted_seconds,
        keys: remaining.keys,
    }
}

/// Writes a list of leases, in the order given.
pub fn leases(header: ResponseHeader, ids: &[LeaseId]) -> LeaseLeasesResponse {
    LeaseLeasesResponse {
        header: Some(header),
        leases: ids.iter().map(|&id| LeaseStatus { id }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_is_not_there_has_minus_one_second_left_and_renews_to_zero() {
        let header = ResponseHeader::default();
        let answer = time_to_live(header, 5, None);
        assert_eq!((answer.id, answer.ttl, answer.granted_ttl), (5, -1, 0));
        let answer = kept_alive(header, 5, None);
        assert_eq!((answer.id, answer.ttl), (5, 0));
    }
}
