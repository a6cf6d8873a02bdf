//! The lanes to each member: separate connections, so that what is large never delays what is urgent.
//!
//! ```text
//! heartbeat   heartbeats, votes, leadership transfers, questions about a dead leader
//! entries     log entries
//! requests    forwarded writes, read indexes, questions to the leader
//! snapshot    snapshots
//! ```
//!
//! A lane is dialled when it is first used, kept while it lives, and dialled again after a pause that doubles
//! from [`PAUSE_MIN`] to [`PAUSE_MAX`] with jitter. While the pause lasts, who asks is told so at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use meridian_proto::peer::{HelloRefusal, Lane, envelope::Body};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::network::connection::{CallError, Connection};
use crate::network::dial::{self, DialError, Pushed};
use crate::network::roster::Roster;
use crate::network::tls::SharedTls;
use crate::network::traffic;
use crate::status::Expelled;

/// The shortest pause before a lane is dialled again.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_millis(800);
/// How long dialling and the handshake may take.
const DIAL_TIME: Duration = Duration::from_secs(3);

/// How long connections to a member that was removed stay open.
const FAREWELL: Duration = Duration::from_secs(2);

/// How many lanes there are.
const LANES: usize = 4;

/// Every other member this one talks to. Shared.
pub struct Peers {
    roster: Roster,
    tls: Option<SharedTls>,
    pushed: Pushed,
    expelled: watch::Sender<Option<Expelled>>,
    links: Mutex<HashMap<u64, Arc<Link>>>,
}

/// One other member: its addresses and lanes.
pub struct Link {
    /// Its id.
    pub id: u64,
    urls: ArcSwap<Vec<String>>,
    lanes: [LaneState; LANES],
}

#[derive(Default)]
struct LaneState {
    /// Held while somebody dials, so that one does.
    retry: tokio::sync::Mutex<Retry>,
    open: Mutex<Option<Arc<Connection>>>,
}

#[derive(Default)]
struct Retry {
    failures: u32,
    not_before: Option<Instant>,
    last_error: String,
}

impl Peers {
    /// Nobody yet.
    pub fn new(roster: Roster, tls: Option<SharedTls>, pushed: Pushed) -> Self {
        let (expelled, _) = watch::channel(None);
        Self {
            roster,
            tls,
            pushed,
            expelled,
            links: Mutex::default(),
        }
    }

    /// Who belongs to the cluster.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Whether the others refuse this member for good.
    pub fn expelled(&self) -> watch::Receiver<Option<Expelled>> {
        self.expelled.subscribe()
    }

    /// The link to a member, made or brought up to date.
    pub fn link(&self, id: u64, urls: &[String]) -> Arc<Link> {
        let mut links = self.links.lock();
        let link = links
            .entry(id)
            .or_insert_with(|| Arc::new(Link::new(id, urls)));
        if link.urls.load().as_slice() != urls {
            link.urls.store(Arc::new(urls.to_vec()));
        }
        link.clone()
    }

    /// The link to a member of the newest membership.
    pub fn link_of(&self, id: u64) -> Option<Arc<Link>> {
        let membership = self.roster.membership();
        let address = membership.membership().get_node(&id)?;
        Some(self.link(id, &address.peer_urls))
    }

    /// Forgets members that are gone, and brings addresses up to date.
    pub fn follow_membership(&self) {
        let membership = self.roster.membership();
        if membership.log_id().is_none() {
            return;
        }
        let mut links = self.links.lock();
        links.retain(|id, link| {
            if let Some(address) = membership.membership().get_node(id) {
                if link.urls.load().as_slice() != address.peer_urls.as_slice() {
                    link.urls.store(Arc::new(address.peer_urls.clone()));
                    link.end();
                }
                return true;
            }
            // It may be about to answer the very question that removed it.
            let link = link.clone();
            tokio::spawn(async move {
                tokio::time::sleep(FAREWELL).await;
                link.end();
            });
            false
        });
    }

    /// Ends every connection.
    pub fn end(&self) {
        for (_, link) in self.links.lock().drain() {
            link.end();
        }
    }

    /// Asks a member on a lane, dialling first if need be.
    pub async fn call(
        self: &Arc<Self>,
        link: &Arc<Link>,
        lane: Lane,
        body: Body,
        deadline: Instant,
    ) -> Result<Body, CallError> {
        let result = match self.connection(link, lane, deadline).await {
            Ok(connection) => connection.call(body, deadline).await,
            Err(error) => Err(error),
        };
        if result.is_err() {
            traffic::failed(link.id);
        }
        result
    }

    /// An open connection on a lane. Dialling goes on in the background when the caller stops waiting.
    pub async fn connection(
        self: &Arc<Self>,
        link: &Arc<Link>,
        lane: Lane,
        deadline: Instant,
    ) -> Result<Arc<Connection>, CallError> {
        let Some(state) = link.lane(lane) else {
            return Err(CallError::NotSent("no such lane".into()));
        };
        if let Some(connection) = state.alive() {
            return Ok(connection);
        }
        let (peers, link) = (self.clone(), link.clone());
        let dialling = tokio::spawn(async move { peers.open(&link, lane).await });
        match timeout_at(deadline, dialling).await {
            Ok(Ok(result)) => result.map_err(CallError::NotSent),
            Ok(Err(_)) => Err(CallError::NotSent("this member is stopping".into())),
            Err(_) => Err(CallError::NotSent("dialling takes long".into())),
        }
    }

    async fn open(&self, link: &Link, lane: Lane) -> Result<Arc<Connection>, String> {
        let Some(state) = link.lane(lane) else {
            return Err("no such lane".into());
        };
        let mut retry = state.retry.lock().await;
        if let Some(connection) = state.alive() {
            return Ok(connection);
        }
        if retry.not_before.is_some_and(|at| Instant::now() < at) {
            return Err(retry.last_error.clone());
        }
        match self.dial(link, lane, Instant::now() + DIAL_TIME).await {
            Ok(connection) => {
                *retry = Retry::default();
                *state.open.lock() = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                let text = error.to_string();
                if retry.last_error != text {
                    self.report(link.id, &error);
                }
                retry.failures = retry.failures.saturating_add(1);
                retry.last_error.clone_from(&text);
                retry.not_before = Some(Instant::now() + pause(retry.failures));
                Err(text)
            }
        }
    }

    async fn dial(
        &self,
        link: &Link,
        lane: Lane,
        deadline: Instant,
    ) -> Result<Arc<Connection>, DialError> {
        let identity = self.roster.identity();
        let hello = dial::hello(&identity, link.id, lane, self.roster.membership_index());
        let mut last = DialError::Url(String::new());
        for url in link.urls.load_full().iter() {
            match dial::dial(url, self.tls.as_ref(), &hello, deadline).await {
                Ok(dialled) => {
                    self.roster
                        .admits_instance(link.id, dialled.reply.instance)
                        .map_err(|(refusal, reason)| DialError::NotThem { refusal, reason })?;
                    let connection = Connection::start(
                        link.id,
                        dialled.frames,
                        dialled.writer,
                        self.pushed.clone(),
                    );
                    let local = identity.member_id;
                    traffic::opened(local, link.id);
                    let (ended, remote) = (connection.clone(), link.id);
                    tokio::spawn(async move {
                        ended.ended().await;
                        traffic::closed(local, remote);
                    });
                    return Ok(connection);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Whether nobody listens at any address of a member: its process is gone.
    pub async fn is_gone(&self, link: &Link, deadline: Instant) -> bool {
        let identity = self.roster.identity();
        let hello = dial::hello(
            &identity,
            link.id,
            Lane::Heartbeat,
            self.roster.membership_index(),
        );
        for url in link.urls.load_full().iter() {
            let result = dial::dial(url, self.tls.as_ref(), &hello, deadline).await;
            if !matches!(result, Err(DialError::NobodyListens(_))) {
                return false;
            }
        }
        true
    }

    /// Dials a member anew, only to hear whether it refuses this one.
    pub async fn call_upon(&self, link: &Link, deadline: Instant) {
        let identity = self.roster.identity();
        let index = self.roster.membership_index();
        let hello = dial::hello(&identity, link.id, Lane::Requests, index);
        for url in link.urls.load_full().iter() {
            if let Err(error @ DialError::Refused { .. }) =
                dial::dial(url, self.tls.as_ref(), &hello, deadline).await
            {
                self.report(link.id, &error);
                return;
            }
        }
    }

    /// Logs why a member is not reached, once per reason, and notes if it is because of this member itself.
    fn report(&self, member: u64, error: &DialError) {
        let DialError::Refused { refusal, .. } = error else {
            if let DialError::NotThem { .. } = error {
                tracing::error!(member = format_args!("{member:x}"), %error, "a member is not who it should be");
            } else {
                tracing::warn!(member = format_args!("{member:x}"), %error, "a member is not reached");
            }
            return;
        };
        let expelled = match refusal {
            HelloRefusal::Removed => Some(Expelled::Removed),
            HelloRefusal::ReusedId => Some(Expelled::ReusedId),
            _ => None,
        };
        match expelled {
            Some(expelled) => {
                tracing::error!(member = format_args!("{member:x}"), %error, "this member is refused for good");
                self.expelled.send_replace(Some(expelled));
            }
            None => {
                tracing::warn!(member = format_args!("{member:x}"), %error, "a member refuses this one");
            }
        }
    }
}

impl Link {
    fn new(id: u64, urls: &[String]) -> Self {
        Self {
            id,
            urls: ArcSwap::from_pointee(urls.to_vec()),
            lanes: std::array::from_fn(|_| LaneState::default()),
        }
    }

    fn lane(&self, lane: Lane) -> Option<&LaneState> {
        let at = match lane {
            Lane::Heartbeat => 0,
            Lane::Entries => 1,
            Lane::Snapshot => 2,
            Lane::Requests => 3,
            Lane::Unspecified | Lane::Join => return None,
        };
        self.lanes.get(at)
    }

    fn end(&self) {
        for lane in &self.lanes {
            if let Some(connection) = lane.open.lock().take() {
                connection.end();
            }
        }
    }
}

impl LaneState {
    fn alive(&self) -> Option<Arc<Connection>> {
        self.open
            .lock()
            .clone()
            .filter(|connection| connection.is_alive())
    }
}

/// Doubles with every failure; between half and all of it, so that members do not dial in step.
fn pause(failures: u32) -> Duration {
    let full = PAUSE_MIN
        .saturating_mul(1 << failures.saturating_sub(1).min(10))
        .min(PAUSE_MAX);
    full.mul_f64(rand::random_range(0.5..1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_within_their_bounds() {
        for failures in 1..40 {
            let pause = pause(failures);
            assert!(pause >= PAUSE_MIN / 2 && pause <= PAUSE_MAX);
        }
        assert!(pause(20) >= PAUSE_MAX / 2);
    }
}
