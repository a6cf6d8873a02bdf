//! Recovering: how a member whose log was damaged takes part again without breaking its word.
//!
//! A damaged entry that still has its name is taken from another member and put back ([`fetch`]): then nothing was
//! lost, and nothing of the following is needed. Otherwise the log is set aside.
//!
//! What a member acknowledged is a promise: others committed entries because it had them, and elected a leader
//! because it had given its vote. A member whose log was set aside has forgotten some of it. It comes back with the
//! state it had applied, an empty log behind it and, where that is certain, its vote, and then
//!
//! ```text
//!   abstains: gives no vote, runs for nothing, takes no leadership         (it may lack what it acknowledged)
//!   follows:  takes entries or a snapshot, and acknowledges what it has    (that is true again)
//!   writes:   proposes something of its own and waits until it is applied here and on its disk
//!   votes:    from then on
//! ```
//!
//! **Why its own write proves enough.** Let `e` be an entry it had acknowledged and that was committed, and `w` its
//! own write, both in the one committed log. `e` was appended before the member came back, `w` after. Terms
//! never fall along a log and a leader appends in order, so `e` lies before `w`: who has applied `w` has `e`. And no
//! leader it follows can lack `e`: it was elected in a term the member voted in at the latest, or without its vote,
//! thus by a majority in which another one has `e`. That needs the member to know its last vote.
//!
//! **When the vote may be lost too.** Whoever got it was a candidate: another voter that had noted its term on its
//! own disk before it asked. So the terms of *all* other voters bound it. They are asked ([`survey`]), and the
//! member begins with a vote for itself in the highest of these terms, which keeps it from giving one to anybody
//! else up to there ([`abstention`]). If one of them does not answer, nothing is certain and the member does not
//! start.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meridian_domain::revision::LogId;
use meridian_proto::peer::{self, Lane, envelope::Body};
use tokio::time::Instant;

use crate::form;
use crate::join::{self, JoinError};
use crate::network::connection::Connection;
use crate::network::dial;
use crate::network::roster::Identity;
use crate::network::tls::SharedTls;
use crate::settings::Founder;
use crate::type_config::Vote;

/// How long one member may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the other voters said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The highest term any of them knows.
    pub term: u64,
    /// Those that did not answer, and why not. Unless there are none, `term` bounds nothing.
    pub silent: Vec<(Founder, String)>,
}

/// Asks every other voter of the cluster in which term it is. Who votes is what they themselves say, beginning with
/// whoever answers at one of `peer_urls`. Changes nothing on any of them.
pub async fn survey(
    identity: Identity,
    peer_urls: &[String],
    tls: Option<&SharedTls>,
) -> Result<Survey, JoinError> {
    let existing = join::discover(peer_urls, tls).await?;
    let mut members: BTreeMap<u64, Founder> = BTreeMap::new();
    let mut voters = existing.voters;
    members.extend(existing.members.into_iter().map(|of| (of.id, of)));
    let mut asked = BTreeSet::from([identity.member_id]);
    let mut survey = Survey::default();
    while let Some(id) = voters.difference(&asked).next().copied() {
        asked.insert(id);
        let Some(member) = members.get(&id).cloned() else {
            continue;
        };
        match ask(identity, &member, tls).await {
            Ok((term, said)) => {
                survey.term = survey.term.max(term);
                // A voter that was added since counts, too.
                voters.extend(said.voters);
                for of in said.members {
                    members.entry(of.id).or_insert(of);
                }
            }
            Err(reason) => survey.silent.push((member, reason)),
        }
    }
    Ok(survey)
}

/// Asks the other members for entries of the log by their positions. Those that nobody has any more are not in the
/// answer.
pub async fn fetch(
    identity: Identity,
    peer_urls: &[String],
    wanted: &[LogId],
    tls: Option<&SharedTls>,
) -> Result<HashMap<LogId, Bytes>, JoinError> {
    let existing = join::discover(peer_urls, tls).await?;
    let mut found = HashMap::new();
    for member in existing.members {
        if member.id == identity.member_id || found.len() == wanted.len() {
            continue;
        }
        let missing = wanted.iter().filter(|at| !found.contains_key(*at));
        let missing: Vec<LogId> = missing.copied().collect();
        let deadline = Instant::now() + PATIENCE;
        let Ok(connection) = connect(identity, &member, tls, deadline).await else {
            continue;
        };
        for at in missing {
            let deadline = Instant::now() + PATIENCE;
            let log_id = Some(form::domain_log_id(at));
            let question = Body::Entry(peer::EntryRequest { log_id });
            match connection.call(question, deadline).await {
                Ok(Body::EntryReply(reply)) => {
                    found.extend(reply.entry.map(|entry| (at, entry.payload)));
                }
                _ => break,
            }
        }
        connection.end();
    }
    Ok(found)
}

/// The vote of a member that may have given one up to `term` and does not know to whom: for nobody but itself, as
/// the log keeps it. A leader that was elected in `term` is followed all the same.
pub fn abstention(member: u64, term: u64) -> Bytes {
    form::encode_vote(&Vote::new(term, member))
}

/// The term of a vote as the log keeps it; none if it can not be read.
pub fn term_of(vote: &Bytes) -> Option<u64> {
    let vote = form::decode_vote(vote).ok()?;
    Some(vote.leader_id().term)
}

/// Where members are reached, as the membership in a state says it; nowhere if it can not be read.
pub fn peer_urls_in(membership: &Bytes) -> Vec<String> {
    let Ok(stored) = form::decode_stored_membership(Some(membership)) else {
        return vec![];
    };
    let nodes = stored.membership().nodes();
    nodes
        .flat_map(|(_, address)| address.peer_urls.iter().cloned())
        .collect()
}

/// The term of one member, and who belongs to the cluster as far as it knows.
async fn ask(
    identity: Identity,
    member: &Founder,
    tls: Option<&SharedTls>,
) -> Result<(u64, join::Existing), String> {
    let deadline = Instant::now() + PATIENCE;
    let connection = connect(identity, member, tls, deadline).await?;
    let answer = question(&connection, identity, deadline).await;
    connection.end();
    answer
}

async fn connect(
    identity: Identity,
    member: &Founder,
    tls: Option<&SharedTls>,
    deadline: Instant,
) -> Result<Arc<Connection>, String> {
    let hello = dial::hello(&identity, member.id, Lane::Requests, 0);
    let mut last = "it has no address".to_owned();
    for url in &member.peer_urls {
        match dial::dial(url, tls, &hello, deadline).await {
            Ok(of) => {
                let pushed = Arc::new(|_, _| ());
                return Ok(Connection::start(member.id, of.frames, of.writer, pushed));
            }
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

async fn question(
    connection: &Connection,
    identity: Identity,
    deadline: Instant,
) -> Result<(u64, join::Existing), String> {
    let list = Body::MemberList(peer::MemberListRequest {});
    let list = connection.call(list, deadline).await;
    let existing = join::existing(list.map_err(|error| error.to_string())?)?;
    // Would you vote for somebody hopeless? The answer holds the vote it has.
    let question = Body::PreVote(peer::VoteRequest {
        vote: Some(form::vote(&Vote::new(0, identity.member_id))),
        last_log_id: None,
        leadership_transfer: false,
    });
    match connection.call(question, deadline).await {
        Ok(Body::PreVoteResponse(response)) => {
            let vote = response.vote.ok_or("an answer without a vote")?;
            Ok((vote.term, existing))
        }
        Ok(_) => Err("an answer to something else".into()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_abstention_gives_no_vote_up_to_its_term_and_yields_to_a_leader_of_it() {
        let vote = form::decode_vote(&abstention(7, 5)).unwrap();
        assert_eq!(term_of(&abstention(7, 5)), Some(5));
        let asked = |term| Vote::new(term, 9) >= vote;
        assert!(!asked(4) && !asked(5) && asked(6));
        let leads = |term| Vote::new_committed(term, 9) >= vote;
        assert!(!leads(4) && leads(5));
    }
}
