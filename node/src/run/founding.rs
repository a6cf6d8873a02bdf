//! Who this member is: read from its directory, derived from the founders' list, or learned from the others.
//!
//! ```text
//!   directory has an identity     that is it; settings that speak of another cluster are refused
//!   new directory, state new      ids are hashes of the founders' URLs: all founders come to the same
//!   new directory, state existing the others are asked; the operator added this member before
//! ```

use std::collections::BTreeSet;

use meridian_raft::identity;
use meridian_raft::join;
use meridian_raft::network::tls::SharedTls;
use meridian_raft::settings::{Founder, Start};

use crate::directory::{Directory, DirectoryError, Identity};
use crate::pipeline::Ids;
use crate::run::Failure;
use crate::settings::{Settings, check};

/// Who this member is, and how it comes to be a member if its log is empty.
pub struct Standpoint {
    /// Who it is.
    pub ids: Ids,
    /// How it begins.
    pub start: Start,
    /// Where the other members were last known to be reached.
    pub others: BTreeSet<String>,
}

/// Finds out, and writes it down in a new directory.
pub async fn settle(
    settings: &Settings,
    directory: &Directory,
    tls: Option<&SharedTls>,
) -> Result<Standpoint, Failure> {
    let members = check::initial_cluster(settings)?;
    let founders = || -> Vec<Founder> {
        let token = &settings.cluster.initial_cluster_token;
        members
            .iter()
            .map(|(name, urls)| Founder {
                id: identity::founder_id(urls, token),
                name: name.clone(),
                peer_urls: urls.clone(),
            })
            .collect()
    };
    let founding = settings.cluster.initial_cluster_state == "new";
    if let Some(known) = directory.identity()? {
        let ids = known.ids().ok_or_else(|| DirectoryError::Damaged {
            path: directory.path().to_owned(),
            what: "its identity holds ids that are not numbers".into(),
        })?;
        let listed: BTreeSet<String> = members.values().flatten().cloned().collect();
        same_cluster(settings, directory, &known, &listed)?;
        let founders = founders();
        let start = if founding && founders.iter().any(|founder| founder.id == ids.member) {
            Start::Found(founders)
        } else {
            Start::Join
        };
        let known = known.peer_urls.into_iter().chain(listed);
        return Ok(Standpoint {
            ids,
            start,
            others: without_own(settings, known),
        });
    }
    let instance = identity::random_id();
    let (ids, start) = if founding {
        let founders = founders();
        let all: Vec<u64> = founders.iter().map(|founder| founder.id).collect();
        let urls = settings.advertised_peer_urls();
        let own = founders
            .iter()
            .find(|founder| founder.name == settings.name)
            .map_or_else(|| identity::founder_id(urls, ""), |founder| founder.id);
        let ids = Ids {
            cluster: identity::cluster_id(&all),
            member: own,
            instance,
        };
        (ids, Start::Found(founders))
    } else {
        let others: Vec<String> = members
            .iter()
            .filter(|(name, _)| **name != settings.name)
            .flat_map(|(_, urls)| urls.clone())
            .collect();
        let existing = join::discover(&others, tls)
            .await
            .map_err(|error| Failure::Start(error.to_string()))?;
        let own = existing
            .member_with(settings.advertised_peer_urls())
            .map_err(|error| Failure::Start(error.to_string()))?;
        let ids = Ids {
            cluster: existing.cluster_id,
            member: own.id,
            instance,
        };
        (ids, Start::Join)
    };
    let peer_urls: Vec<String> = members.into_values().flatten().collect();
    let others = without_own(settings, peer_urls.iter().cloned());
    let token = &settings.cluster.initial_cluster_token;
    directory.write_identity(&Identity::new(ids, &settings.name, token, peer_urls))?;
    Ok(Standpoint { ids, start, others })
}

fn without_own(settings: &Settings, urls: impl Iterator<Item = String>) -> BTreeSet<String> {
    let own = settings.advertised_peer_urls();
    urls.filter(|url| !own.contains(url)).collect()
}

/// Refuses a directory whose cluster shares nothing with the one the settings list. After the first start the
/// list may differ (members come and go, flags stay), so one common member is enough.
fn same_cluster(
    settings: &Settings,
    directory: &Directory,
    known: &Identity,
    listed: &BTreeSet<String>,
) -> Result<(), DirectoryError> {
    let another = |owner: String, meant: String| DirectoryError::Another {
        path: directory.path().to_owned(),
        owner,
        meant,
    };
    let token = &settings.cluster.initial_cluster_token;
    if known.token != *token {
        return Err(another(
            format!("a cluster with the token {:?}", known.token),
            format!("--initial-cluster-token {token:?}"),
        ));
    }
    let named = !settings.cluster.initial_cluster.is_empty();
    if named && !known.peer_urls.iter().any(|url| listed.contains(url)) {
        return Err(another(
            format!("a cluster founded from {}", known.peer_urls.join(",")),
            format!("--initial-cluster {}", settings.cluster.initial_cluster),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn settings(given: &[(&'static str, &str)]) -> Settings {
        let given: Vec<_> = given
            .iter()
            .map(|(flag, value)| (*flag, (*value).to_owned()))
            .collect();
        Settings::load(None, &given).unwrap()
    }

    const THREE: &str = "a=http://127.0.0.1:1,b=http://127.0.0.1:2,c=http://127.0.0.1:3";

    #[tokio::test]
    async fn founders_come_to_the_same_cluster_and_different_members() {
        let mut seen = vec![];
        for (name, port) in [("a", 1), ("b", 2)] {
            let dir = tempfile::tempdir().unwrap();
            let directory = Directory::open(dir.path()).unwrap();
            let url = format!("http://127.0.0.1:{port}");
            let settings = settings(&[
                ("name", name),
                ("initial-cluster", THREE),
                ("listen-peer-urls", &url),
            ]);
            let first = settle(&settings, &directory, None).await.unwrap();
            let again = settle(&settings, &directory, None).await.unwrap();
            assert_eq!(first.ids, again.ids);
            assert_eq!(first.start, again.start);
            seen.push(first.ids);
        }
        assert_eq!(seen[0].cluster, seen[1].cluster);
        assert_ne!(seen[0].member, seen[1].member);
        assert_ne!(seen[0].instance, seen[1].instance);
    }

    #[tokio::test]
    async fn a_directory_of_another_cluster_is_refused_and_one_that_grew_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        let a = ("listen-peer-urls", "http://127.0.0.1:1");
        let first = settings(&[("name", "a"), ("initial-cluster", THREE), a]);
        settle(&first, &directory, None).await.unwrap();

        let grown = format!("{THREE},d=http://127.0.0.1:4");
        let grown = settings(&[("name", "a"), ("initial-cluster", &grown), a]);
        settle(&grown, &directory, None).await.unwrap();

        let other = "x=http://127.0.0.1:8,y=http://127.0.0.1:9";
        let other = settings(&[
            ("name", "x"),
            ("initial-cluster", other),
            ("listen-peer-urls", "http://127.0.0.1:8"),
        ]);
        let Err(error) = settle(&other, &directory, None).await else {
            panic!("taken over")
        };
        assert!(error.to_string().contains("belongs to"), "{error}");
        assert_eq!(error.code(), 3);

        let token = settings(&[
            ("name", "a"),
            ("initial-cluster", THREE),
            a,
            ("initial-cluster-token", "t2"),
        ]);
        assert!(settle(&token, &directory, None).await.is_err());
    }
}
