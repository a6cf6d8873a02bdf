//! All members, and the choice among them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::connect::Member;
use crate::error::{Error, Result};
use crate::options::{Options, Prefer};

/// Which software answers at the endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// Meridian: honours request ids.
    Meridian,
    /// Anything else that speaks etcd's API.
    Etcd,
}

/// All members of the cluster this client knows.
#[derive(Debug)]
pub(crate) struct Pool {
    members: Vec<Arc<Member>>,
    prefer: Prefer,
    /// 0 not known, 1 Meridian, 2 etcd.
    flavour: AtomicU8,
    /// Wakes the prober.
    pub(crate) doubt: Notify,
}

impl Pool {
    pub(crate) fn new<E>(endpoints: E, options: &Options) -> Result<Self>
    where
        E: IntoIterator,
        E::Item: AsRef<str>,
    {
        let mut members: Vec<Arc<Member>> = vec![];
        for endpoint in endpoints {
            let url = url_of("connect", endpoint.as_ref())?;
            if members.iter().all(|m| **m.url() != *url) {
                members.push(Arc::new(open(url, options)?));
            }
        }
        if members.is_empty() {
            return Err(Error::misuse("connect", "no endpoint was given"));
        }
        Ok(Self {
            members,
            prefer: options.prefer,
            flavour: AtomicU8::new(0),
            doubt: Notify::new(),
        })
    }

    /// Every member, in the order of the endpoints.
    pub(crate) fn members(&self) -> &[Arc<Member>] {
        &self.members
    }

    /// What the servers are, once known.
    pub(crate) fn flavour(&self) -> Option<Flavour> {
        match self.flavour.load(Ordering::Relaxed) {
            1 => Some(Flavour::Meridian),
            2 => Some(Flavour::Etcd),
            _ => None,
        }
    }

    pub(crate) fn learn_flavour(&self, flavour: Flavour) {
        let code = if flavour == Flavour::Meridian { 1 } else { 2 };
        self.flavour.store(code, Ordering::Relaxed);
    }

    /// The member to ask next: well before resting, untried before tried, then by preference.
    pub(crate) fn pick(&self, prefer: Option<Prefer>, tried: &[Arc<str>]) -> Arc<Member> {
        let untried = |m: &&Arc<Member>| !tried.contains(m.url());
        let mut open: Vec<_> = self.members.iter().filter(untried).collect();
        if open.is_empty() {
            open = self.members.iter().collect();
        }
        if open.iter().any(|m| m.rests_for().is_zero()) {
            open.retain(|m| m.rests_for().is_zero());
        }
        // etcd's learners refuse almost everything; Meridian's serve.
        if self.flavour() != Some(Flavour::Meridian) && open.iter().any(|m| !m.is_learner()) {
            open.retain(|m| !m.is_learner());
        }
        let chosen = match prefer.unwrap_or(self.prefer) {
            Prefer::Leader => open
                .iter()
                .find(|m| m.is_leader())
                .copied()
                .or_else(|| less_loaded(&open)),
            Prefer::Nearest => open
                .iter()
                .min_by_key(|m| (m.rests_for(), m.latency()))
                .copied(),
            Prefer::Balanced => less_loaded(&open),
        };
        #[expect(clippy::expect_used, reason = "a pool has at least one member")]
        chosen.expect("a member").clone()
    }
}

/// The less loaded of two at random: spreads load without every client choosing the same one.
fn less_loaded<'a>(open: &[&'a Arc<Member>]) -> Option<&'a Arc<Member>> {
    let len = open.len();
    let first = rand::random_range(0..len.max(1));
    let second = (first + rand::random_range(1..len.max(2))) % len.max(1);
    let (a, b) = (open.get(first)?, open.get(second)?);
    Some(if a.load() <= b.load() { a } else { b })
}

/// An endpoint in its full form.
pub(crate) fn url_of(operation: &'static str, endpoint: &str) -> Result<Arc<str>> {
    let text = endpoint.trim();
    let full = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let url = full
        .strip_suffix('/')
        .filter(|url| !url.ends_with('/'))
        .unwrap_or(&full);
    let uri = url.parse::<http::Uri>().map_err(|e| {
        Error::misuse(
            operation,
            format!("{endpoint:?} is not an endpoint such as http://host:2379"),
        )
        .with_source(e)
    })?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    if !known || uri.host().is_none_or(str::is_empty) || uri.path() != "/" {
        return Err(Error::misuse(
            operation,
            format!(
                "{endpoint:?} is not an endpoint such as http://host:2379 or https://host:2379"
            ),
        ));
    }
    Ok(url.into())
}

/// Prepares the channels to one endpoint. Nothing is sent yet.
fn open(url: Arc<str>, options: &Options) -> Result<Member> {
    let misuse = |what: &str, error: tonic::transport::Error| {
        Error::misuse("connect", format!("{what} for {url} can not be used")).with_source(error)
    };
    let agent = concat!("meridian-client/", env!("CARGO_PKG_VERSION"));
    let agent = match &options.user_agent {
        Some(program) => format!("{program} {agent}"),
        None => agent.to_owned(),
    };
    let mut endpoint = Endpoint::from_shared(url.to_string())
        .map_err(|e| misuse("the endpoint", e))?
        .user_agent(agent)
        .map_err(|e| misuse("the user agent", e))?
        .connect_timeout(options.connect_timeout)
        // Without it one call takes 88 ms on loopback: Nagle's algorithm waits for a delayed ack.
        .tcp_nodelay(true)
        .tcp_keepalive(Some(options.keepalive_interval * 5))
        .http2_keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        // etcd counts pings without a request as abuse.
        .keep_alive_while_idle(false)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(8 << 20);
    if url.starts_with("https://") {
        let Some(tls) = options.tls.as_ref().filter(|tls| !tls.ca.is_empty()) else {
            return Err(Error::misuse(
                "connect",
                format!("{url} needs the certificate of the authority that signed the server's"),
            ));
        };
        let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.ca));
        if let Some((cert, key)) = &tls.identity {
            config = config.identity(Identity::from_pem(cert, key));
        }
        if let Some(name) = &tls.server_name {
            config = config.domain_name(name);
        }
        endpoint = endpoint
            .tls_config(config)
            .map_err(|e| misuse("the certificates", e))?;
    }
    let channels = (0..options.connections.max(1))
        .map(|_| endpoint.connect_lazy())
        .collect();
    Ok(Member::new(url, channels))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use std::time::Duration;

    use super::*;

    fn pool(prefer: Prefer) -> Pool {
        Pool::new(
            ["a:1", "http://b:2/", "c:3", "a:1"],
            &Options {
                prefer,
                ..Options::default()
            },
        )
        .unwrap()
    }

    fn picked(pool: &Pool, tried: &[Arc<str>]) -> std::collections::BTreeSet<String> {
        (0..200)
            .map(|_| pool.pick(None, tried).url().to_string())
            .collect()
    }

    #[tokio::test]
    async fn endpoints_are_completed_and_named_once() {
        let pool = pool(Prefer::Balanced);
        let urls: Vec<_> = pool.members().iter().map(|m| m.url().to_string()).collect();
        assert_eq!(urls, ["http://a:1", "http://b:2", "http://c:3"]);
        for bad in ["", "ftp://a:1", "http://", "http://a:1/path", "a b"] {
            assert!(url_of("connect", bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn an_https_endpoint_without_an_authority_is_refused_with_the_reason() {
        let error = Pool::new(["https://a:1"], &Options::default()).unwrap_err();
        assert!(error.to_string().contains("authority"), "{error}");
    }

    #[tokio::test]
    async fn a_member_that_failed_is_passed_over_until_all_have() {
        let pool = pool(Prefer::Balanced);
        pool.members()[0].failed();
        assert_eq!(picked(&pool, &[]).len(), 2);
        assert!(!picked(&pool, &[]).contains("http://a:1"));
        pool.members()[1].failed();
        pool.members()[2].failed();
        assert_eq!(picked(&pool, &[]).len(), 3);
        pool.members()[0].well();
        assert_eq!(picked(&pool, &[]).len(), 1);
    }

    #[tokio::test]
    async fn members_already_tried_come_last() {
        let pool = pool(Prefer::Balanced);
        let tried = [
            pool.members()[0].url().clone(),
            pool.members()[2].url().clone(),
        ];
        assert_eq!(
            picked(&pool, &tried).into_iter().collect::<Vec<_>>(),
            ["http://b:2"]
        );
    }

    #[tokio::test]
    async fn the_leader_and_the_nearest_are_found() {
        let pool_by_leader = pool(Prefer::Leader);
        pool_by_leader.members()[1].is_known_as(true, false);
        assert_eq!(picked(&pool_by_leader, &[]).len(), 1);
        assert!(picked(&pool_by_leader, &[]).contains("http://b:2"));

        let pool_by_latency = pool(Prefer::Nearest);
        for (member, millis) in pool_by_latency.members().iter().zip([9, 4, 7]) {
            member.answered(Duration::from_millis(millis));
        }
        assert_eq!(pool_by_latency.pick(None, &[]).url().as_ref(), "http://b:2");
    }

    #[tokio::test]
    async fn learners_are_asked_only_where_they_serve() {
        let pool = pool(Prefer::Balanced);
        pool.members()[2].is_known_as(false, true);
        assert!(!picked(&pool, &[]).contains("http://c:3"));
        pool.learn_flavour(Flavour::Meridian);
        assert!(picked(&pool, &[]).contains("http://c:3"));
    }
}
