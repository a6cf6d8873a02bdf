//! How a client behaves: one struct, every default said.

use std::time::Duration;

use crate::retry::Policy;

/// How a client behaves. Start from the default and set what differs:
///
/// ```
/// use meridian_client::{Options, Prefer};
/// let options = Options { tenant: Some("team-a".into()), prefer: Prefer::Nearest, ..Options::default() };
/// assert_eq!(options.connections, 4);
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// The tenant every request is for; none is the tenant `default`. An etcd server ignores it.
    pub tenant: Option<String>,
    /// Certificates. Needed for `https://` endpoints.
    pub tls: Option<Tls>,
    /// An auth token, sent as the metadata `token`.
    pub token: Option<String>,
    /// How this program names itself to servers, before the client's own name.
    pub user_agent: Option<String>,
    /// Connections to each endpoint, opened as they are needed. One carries any number of requests;
    /// several use more cores on both sides.
    pub connections: usize,
    /// How long one connection may take to open.
    pub connect_timeout: Duration,
    /// How long one call may take, every attempt included. Calls that wait by their nature (locks,
    /// elections, watches, snapshots) are not bound by it once they are under way.
    pub timeout: Duration,
    /// How long one attempt of a call that can be repeated may take before another member is asked.
    pub attempt_timeout: Duration,
    /// How often and how long to try again.
    pub retry: Policy,
    /// Whether writes carry request ids. They make every write safe to repeat on Meridian.
    pub request_ids: bool,
    /// Which member requests go to.
    pub prefer: Prefer,
    /// How often members are asked for their health, latency and leader; none never asks, and then
    /// [`Prefer::Leader`] and [`Prefer::Nearest`] only learn from calls.
    pub probe_interval: Option<Duration>,
    /// How often an idle connection with open requests is pinged. etcd refuses less than 5 s.
    pub keepalive_interval: Duration,
    /// How long a ping may stay without answer before the connection is given up.
    pub keepalive_timeout: Duration,
    /// gRPC streams that carry all watches of this client. Watches are spread over them.
    pub watch_streams: usize,
    /// Responses one watch holds for its reader. When they are not read, the watch is taken off the
    /// stream and resumed, by revision, once they are.
    pub watch_buffer: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tenant: None,
            tls: None,
            token: None,
            user_agent: None,
            connections: 4,
            connect_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(10),
            attempt_timeout: Duration::from_millis(2_500),
            retry: Policy::default(),
            request_ids: true,
            prefer: Prefer::Balanced,
            probe_interval: Some(Duration::from_secs(5)),
            keepalive_interval: Duration::from_secs(6),
            keepalive_timeout: Duration::from_secs(3),
            watch_streams: 4,
            watch_buffer: 16,
        }
    }
}

/// Which member a request goes to, among those that are well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefer {
    /// The less loaded of two at random, by requests in flight and latency.
    #[default]
    Balanced,
    /// The leader, while it is known; saves a hop for writes and linearizable reads.
    Leader,
    /// The one that answers soonest.
    Nearest,
}

/// Certificates, in PEM.
#[derive(Clone, Default)]
pub struct Tls {
    /// The authorities that sign servers' certificates.
    pub ca: Vec<u8>,
    /// This client's certificate chain and key, where servers ask for one.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The name to expect in servers' certificates, if it is not the endpoint's host.
    pub server_name: Option<String>,
}

impl std::fmt::Debug for Tls {
    /// Leaves out the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("ca_bytes", &self.ca.len())
            .field("has_identity", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .finish()
    }
}
