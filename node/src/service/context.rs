//! What a request says about itself beside its content: tenant, request id, deadline, client.
//!
//! ```text
//!   meridian-tenant        whose store; absent: `default`
//!   meridian-request-id    1 to 128 bytes; the write is applied at most once
//!   hasleader: true        refuse at once when there is no leader
//!   client-api-version     must be text
//!   grpc-timeout           the caller's patience; the member's own is the upper bound
//!   token, authorization   who asks
//! ```
//!
//! What it shows of who sends it is only taken in here ([`crate::authn::evidence`]). Of whose store it means: a token
//! says its tenant itself, so who shows one need not name it; who names another is refused when the token is proven.

use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, HeaderMap};
use meridian_domain::name::TenantName;
use meridian_domain::stamp::RequestId;
use tokio::time::Instant;
use tonic::Request;

use crate::authn::Who;
use crate::pipeline::{Pipeline, RequestContext};
use crate::status::{Etcd, Refusal};

/// Names the tenant.
pub const TENANT_KEY: &str = "meridian-tenant";
/// Names the write.
pub const REQUEST_ID_KEY: &str = "meridian-request-id";

impl Pipeline {
    /// Reads the context of a request.
    pub fn context<T>(&self, request: &Request<T>) -> Result<RequestContext, Refusal> {
        self.context_of(request.metadata().as_ref(), request.extensions())
    }

    /// Reads the context of a request from its head.
    pub fn context_of(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<RequestContext, Refusal> {
        let who = Who::of(headers, extensions);
        let tenant = match headers.get(TENANT_KEY) {
            None => self.home_of(&who)?,
            Some(name) => TenantName::new(&String::from_utf8_lossy(name.as_bytes()))?,
        };
        let request_id = headers
            .get(REQUEST_ID_KEY)
            .map(|id| RequestId::new(Bytes::copy_from_slice(id.as_bytes())))
            .transpose()?;
        let client_api_version = headers
            .get("client-api-version")
            .map(|version| std::str::from_utf8(version.as_bytes()).map(Box::from))
            .transpose()
            .map_err(|_| Etcd::InvalidClientApiVersion)?;
        let require_leader = headers
            .get("hasleader")
            .is_some_and(|value| value.as_bytes() == b"true");
        let own = self.settings.request_timeout();
        let asked = headers
            .get("grpc-timeout")
            .and_then(|value| grpc_timeout(value.as_bytes()));
        let deadline_is_callers = asked.is_some_and(|asked| asked < own);
        let patience = asked.map_or(own, |asked| asked.min(own));
        Ok(RequestContext {
            tenant,
            who,
            request_id,
            deadline: Instant::now() + patience,
            deadline_is_callers,
            require_leader,
            client_api_version,
        })
    }

    /// Reads the context of a request that a learner does not serve.
    pub fn voters_context<T>(&self, request: &Request<T>) -> Result<RequestContext, Refusal> {
        let ctx = self.context(request)?;
        self.refuse_on_learner()?;
        Ok(ctx)
    }

    /// The tenant of a request that names none.
    fn home_of(&self, who: &Who) -> Result<TenantName, Refusal> {
        let home = who.claims().and_then(|id| self.store.tenant(id));
        match home {
            Some(home) => Ok(home.record().name.clone()),
            None => Ok(TenantName::new(TenantName::DEFAULT)?),
        }
    }
}

/// Reads the value of `grpc-timeout`: one to eight digits and a unit. None if it is anything else.
pub fn grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_hours(amount),
        b'M' => Duration::from_mins(amount),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_up_to_eight_digits_and_a_unit() {
        assert_eq!(grpc_timeout(b"5S"), Some(Duration::from_secs(5)));
        assert_eq!(
            grpc_timeout(b"4999930u"),
            Some(Duration::from_micros(4_999_930))
        );
        assert_eq!(
            grpc_timeout(b"99999999H"),
            Some(Duration::from_hours(99_999_999))
        );
        for bad in [
            &b""[..],
            b"S",
            b"5",
            b"5s",
            b"-5S",
            b"123456789S",
            b"\xff\xff",
        ] {
            assert_eq!(grpc_timeout(bad), None, "{bad:?}");
        }
    }
}
