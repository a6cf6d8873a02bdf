//! Joining a cluster that exists: asking its members who belongs to it.
//!
//! The operator adds the member first (`member add`), which gives it its id, and then starts it with the
//! addresses of the others. The new member finds itself in their list by its own peer URLs.

use std::collections::BTreeSet;
use std::time::Duration;

use meridian_proto::peer::{self, Lane, envelope::Body};
use tokio::time::Instant;

use crate::form;
use crate::network::connection::Connection;
use crate::network::dial::{self, DialError};
use crate::network::roster::Identity;
use crate::network::tls::SharedTls;
use crate::settings::Founder;

/// How long one member may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The cluster a member is to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    /// The cluster.
    pub cluster_id: u64,
    /// Its members, by id, the new one among them if it was added.
    pub members: Vec<Founder>,
    /// Who of them has a vote.
    pub voters: BTreeSet<u64>,
    /// Who leads, as far as the member that answered knows; it may have gone silent.
    pub leader: Option<u64>,
}

/// Why a cluster can not be joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Nobody answered; the last reason.
    #[error(
        "no member of the cluster could be asked who belongs to it ({0}). Check initial-cluster and that \
         the other members run"
    )]
    NobodyAnswers(String),
    /// The cluster does not know this member.
    #[error(
        "the cluster {cluster_id:x} has no member with the peer URLs {urls}. Add it first: \
         `meridian member add <name> --peer-urls {urls}`"
    )]
    NotAdded {
        /// The cluster.
        cluster_id: u64,
        /// The URLs.
        urls: String,
    },
}

impl Existing {
    /// The member with exactly these URLs, in any order.
    pub fn member_with(&self, peer_urls: &[String]) -> Result<&Founder, JoinError> {
        let sorted = |urls: &[String]| {
            let mut urls = urls.to_vec();
            urls.sort_unstable();
            urls
        };
        let wanted = sorted(peer_urls);
        self.members
            .iter()
            .find(|member| sorted(&member.peer_urls) == wanted)
            .ok_or_else(|| JoinError::NotAdded {
                cluster_id: self.cluster_id,
                urls: peer_urls.join(","),
            })
    }
}

/// Asks members, one after the other, who belongs to their cluster; the first answer counts.
pub async fn discover(
    peer_urls: &[String],
    tls: Option<&SharedTls>,
) -> Result<Existing, JoinError> {
    let mut last = "no addresses were given".to_owned();
    for url in peer_urls {
        match ask(url, tls).await {
            Ok(existing) => return Ok(existing),
            Err(reason) => last = format!("{url}: {reason}"),
        }
    }
    Err(JoinError::NobodyAnswers(last))
}

async fn ask(url: &str, tls: Option<&SharedTls>) -> Result<Existing, String> {
    let deadline = Instant::now() + PATIENCE;
    let nobody = Identity {
        cluster_id: 0,
        member_id: 0,
        instance: 0,
    };
    let hello = dial::hello(&nobody, 0, Lane::Join, 0);
    let dialled = dial::dial(url, tls, &hello, deadline)
        .await
        .map_err(|e: DialError| e.to_string())?;
    let pushed = std::sync::Arc::new(|_, _| ());
    let connection = Connection::start(0, dialled.frames, dialled.writer, pushed);
    let question = Body::MemberList(peer::MemberListRequest {});
    let answer = connection.call(question, deadline).await;
    connection.end();
    existing(answer.map_err(|error| error.to_string())?)
}

/// What the answer to the question who belongs to a cluster says.
pub(crate) fn existing(answer: Body) -> Result<Existing, String> {
    let Body::MemberListReply(list) = answer else {
        return Err("an answer to something else".into());
    };
    let membership = list.membership.unwrap_or_default();
    let (_, membership) = form::parse_membership(&membership).map_err(|e| e.to_string())?;
    let members: Vec<Founder> = membership
        .nodes()
        .map(|(id, address)| Founder {
            id: *id,
            name: address.name.clone(),
            peer_urls: address.peer_urls.clone(),
        })
        .collect();
    if members.is_empty() {
        return Err("it belongs to no cluster itself yet".into());
    }
    Ok(Existing {
        cluster_id: list.cluster_id,
        members,
        voters: membership.voter_ids().collect(),
        leader: Some(list.leader_id).filter(|id| *id != 0),
    })
}
