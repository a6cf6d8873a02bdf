//! Comparing states: every member keeps a rolling hash of its state at round places of the log, and members
//! compare them.
//!
//! Equal logs must make equal states. If one member's hash differs from what a majority of the voters has at
//! the same place, that member computed something else: a bug, or damage nothing else found. It fences itself,
//! i.e. it serves nothing and does not lead, and says so. If there is no majority, nobody knows who is right,
//! and everybody says so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use meridian_proto::peer::{self, Lane, envelope::Body};
use tokio::time::Instant;

use crate::replica::Core;

/// How long one member may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What comparing comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// No place that enough members know.
    Nothing,
    /// Everybody who answered has the same.
    Equal {
        /// Where.
        index: u64,
    },
    /// Somebody else differs from the majority this member is part of.
    OtherDiffers {
        /// Where.
        index: u64,
    },
    /// This member differs from a majority.
    IDiffer {
        /// Where.
        index: u64,
        /// What it has.
        own: u64,
        /// What the majority has.
        majority: u64,
    },
    /// They differ, and there is no majority.
    Undecided {
        /// Where.
        index: u64,
    },
}

/// Compares this member's hashes with others', at the newest place a majority of `voters` knows.
pub fn compare(own: &[(u64, u64)], others: &[Vec<(u64, u64)>], voters: usize) -> Finding {
    let majority = voters / 2 + 1;
    for (index, mine) in own.iter().rev() {
        let mut counts: BTreeMap<u64, usize> = BTreeMap::from([(*mine, 1)]);
        for other in others {
            if let Some((_, digest)) = other.iter().find(|(at, _)| at == index) {
                *counts.entry(*digest).or_default() += 1;
            }
        }
        let known: usize = counts.values().sum();
        if known < majority || known < 2 {
            continue;
        }
        let index = *index;
        if counts.len() == 1 {
            return Finding::Equal { index };
        }
        return match counts.iter().find(|(_, count)| **count >= majority) {
            Some((digest, _)) if digest == mine => Finding::OtherDiffers { index },
            Some((digest, _)) => Finding::IDiffer {
                index,
                own: *mine,
                majority: *digest,
            },
            None => Finding::Undecided { index },
        };
    }
    Finding::Nothing
}

/// Compares every so often, until the member stops or fences itself.
pub async fn watch(core: Arc<Core>, interval: Duration) {
    loop {
        tokio::time::sleep(interval.mul_f64(rand::random_range(0.8..1.2))).await;
        let own: Vec<(u64, u64)> = core
            .store
            .digests()
            .iter()
            .map(|at| (at.applied.index, at.hash))
            .collect();
        let Some((oldest, _)) = own.first().copied() else {
            continue;
        };
        let roster = core.peers.roster();
        let id = roster.identity().member_id;
        let voters: Vec<u64> = roster.membership().voter_ids().collect();
        let asked = voters
            .iter()
            .filter(|voter| **voter != id)
            .map(|voter| ask(&core, *voter, oldest));
        let others: Vec<_> = futures::future::join_all(asked)
            .await
            .into_iter()
            .flatten()
            .collect();
        match compare(&own, &others, voters.len()) {
            Finding::Nothing | Finding::Equal { .. } => {}
            Finding::OtherDiffers { index } => {
                tracing::warn!(
                    index,
                    "the state of another member differs from that of most"
                );
            }
            Finding::Undecided { index } => {
                tracing::error!(
                    index,
                    "the states of the members differ, and there is no majority: compare them by hand"
                );
            }
            Finding::IDiffer {
                index,
                own,
                majority,
            } => {
                tracing::error!(
                    index,
                    own = format_args!("{own:016x}"),
                    majority = format_args!("{majority:016x}"),
                    "the state of this member differs from that of most others: it serves nothing any \
                     more. Remove it and add it as a new member"
                );
                core.fence().await;
                return;
            }
        }
    }
}

async fn ask(core: &Core, member: u64, from_index: u64) -> Option<Vec<(u64, u64)>> {
    let link = core.peers.link_of(member)?;
    let body = Body::Digest(peer::Digest { from_index });
    let deadline = Instant::now() + PATIENCE;
    match core.peers.call(&link, Lane::Requests, body, deadline).await {
        Ok(Body::DigestReply(reply)) => Some(
            reply
                .digests
                .iter()
                .map(|at| (at.index, at.digest))
                .collect(),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_odd_one_out_finds_out_and_the_others_too() {
        let good = vec![(1000, 5), (2000, 7)];
        let bad = vec![(1000, 5), (2000, 8)];
        let finding = compare(&bad, &[good.clone(), good.clone()], 3);
        assert_eq!(
            finding,
            Finding::IDiffer {
                index: 2000,
                own: 8,
                majority: 7
            }
        );
        let finding = compare(&good, &[good.clone(), bad], 3);
        assert_eq!(finding, Finding::OtherDiffers { index: 2000 });
        assert_eq!(
            compare(&good, std::slice::from_ref(&good), 3),
            Finding::Equal { index: 2000 }
        );
    }

    #[test]
    fn members_that_are_not_as_far_are_compared_where_they_are() {
        let ahead = vec![(1000, 5), (2000, 7), (3000, 9)];
        let behind = vec![(1000, 5), (2000, 7)];
        assert_eq!(
            compare(&ahead, &[behind], 3),
            Finding::Equal { index: 2000 }
        );
        assert_eq!(compare(&ahead, &[vec![(500, 1)]], 3), Finding::Nothing);
    }

    #[test]
    fn nobody_is_fenced_without_a_majority() {
        let (a, b) = (vec![(1000, 1)], vec![(1000, 2)]);
        assert_eq!(
            compare(&a, std::slice::from_ref(&b), 3),
            Finding::Undecided { index: 1000 }
        );
        assert_eq!(
            compare(&a, std::slice::from_ref(&b), 2),
            Finding::Undecided { index: 1000 }
        );
        assert_eq!(compare(&a, &[], 1), Finding::Nothing);
    }
}
