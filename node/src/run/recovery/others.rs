//! Asking the other members: are they there, have they what is lost, in which term are they?

use std::collections::BTreeSet;
use std::time::Duration;

use meridian_domain::revision::LogId;
use meridian_raft::network::roster::Identity;
use meridian_raft::network::tls::SharedTls;
use meridian_raft::{join, recovery};
use meridian_storage::fault::Fault;
use meridian_storage::wal::repair;
use tokio::time::Instant;

use super::blocking;
use crate::directory::Directory;
use crate::pipeline::Ids;
use crate::run::{Failure, boot};

/// How long the others are asked before this member gives up; whoever keeps it running starts it again.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two tries to reach them.
const PAUSE: Duration = Duration::from_millis(500);
/// The most damaged entries that are put back one by one.
const MENDED_MAX: usize = 256;

/// Who this member is and where the others can be asked about it.
pub struct Asking<'a> {
    /// Its ids.
    pub ids: Ids,
    /// Where the members of the cluster were last known to be reached.
    pub peer_urls: BTreeSet<String>,
    /// Where this one is reached.
    pub own_urls: &'a [String],
    /// Certificates, if members speak TLS.
    pub tls: Option<&'a SharedTls>,
}

/// What the others must be for what comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// There must be another voter.
    Another,
    /// One of them must lead.
    Leader,
}

impl Asking<'_> {
    fn urls(&self) -> Vec<String> {
        self.peer_urls.iter().cloned().collect()
    }

    /// Returns once the others are as they must be. Until then the log stays as it is: if they need this one
    /// first, because they are damaged too, what is in it must not be given up.
    pub async fn until(
        &self,
        directory: &Directory,
        damage: &Fault,
        wanted: Wanted,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let why = match self.others().await {
                Ok((0, _)) => return Err(alone(directory, damage)),
                Ok((_, leader)) if leader || wanted == Wanted::Another => return Ok(()),
                Ok(_) => "they have no leader".to_owned(),
                Err(_) if self.peer_urls.is_empty() => return Err(alone(directory, damage)),
                Err(why) => why,
            };
            if Instant::now() >= deadline {
                return Err(Failure::Directory(format!(
                    "{damage}. The other members have what is lost, but can not give it back: {why}. Nothing was \
                     changed. Start a majority of them, then this one again; if most members are damaged, restore \
                     the cluster from a snapshot (`meridian snapshot restore`)"
                )));
            }
            tracing::warn!(
                why,
                "waiting for the other members, to take back from them what is lost"
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// How many other voters there are, and whether one of them leads.
    async fn others(&self) -> Result<(usize, bool), String> {
        let existing = join::discover(&self.urls(), self.tls)
            .await
            .map_err(|error| error.to_string())?;
        if existing.cluster_id != self.ids.cluster {
            return Err(format!("cluster {:x} answers", existing.cluster_id));
        }
        let other = |id: &u64| *id != self.ids.member;
        let voters = existing.voters.iter().filter(|id| other(id)).count();
        Ok((voters, existing.leader.is_some_and(|id| other(&id))))
    }

    /// Puts damaged entries back as the others have them, if that is all that is damaged. Whether it is whole now.
    pub async fn mend(&self, directory: &Directory) -> Result<bool, Failure> {
        let wal = directory.wal();
        let inspect = move || Ok(repair::inspect(&*boot::disk(), &*boot::seal(), &wal)?);
        let report = blocking(inspect.clone()).await?;
        let damage = report.damage;
        let named: Vec<LogId> = damage.iter().filter_map(|damage| damage.log_id).collect();
        let mendable = named.len() == damage.len() && (1..=MENDED_MAX).contains(&named.len());
        if !mendable || !report.vote_certain {
            return Ok(false);
        }
        let fetched = recovery::fetch(self.identity(), &self.urls(), &named, self.tls).await;
        let Ok(found) = fetched else {
            return Ok(false);
        };
        if found.len() < named.len() {
            tracing::warn!("no other member has all damaged entries any more");
            return Ok(false);
        }
        let wal = directory.wal();
        let mended = blocking(move || {
            for damage in &damage {
                let payload = damage.log_id.and_then(|at| found.get(&at)).cloned();
                let payload = payload.unwrap_or_default();
                repair::mend(&*boot::disk(), &*boot::seal(), &wal, damage, payload)?;
            }
            Ok(())
        });
        match mended.await {
            Err(Failure::Fault(fault @ Fault::Damaged { .. })) => {
                tracing::warn!(%fault, "a damaged entry could not be put back");
                Ok(false)
            }
            Err(failure) => Err(failure),
            Ok(()) => {
                let entries = named.len();
                tracing::warn!(
                    entries,
                    "damaged entries of the log were put back from other members"
                );
                Ok(blocking(inspect).await?.damage.is_empty())
            }
        }
    }

    fn identity(&self) -> Identity {
        Identity {
            cluster_id: self.ids.cluster,
            member_id: self.ids.member,
            instance: self.ids.instance,
        }
    }

    /// The highest term any other voter knows; all of them must answer.
    pub async fn highest_term(&self, directory: &Directory) -> Result<u64, Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let why = match recovery::survey(self.identity(), &self.urls(), self.tls).await {
                Ok(survey) if survey.silent.is_empty() => return Ok(survey.term),
                Ok(survey) => {
                    let silent = survey.silent.iter();
                    silent
                        .map(|(of, why)| format!("{:x} {} ({why})", of.id, of.peer_urls.join(",")))
                        .collect::<Vec<_>>()
                        .join("; ")
                }
                Err(error) => error.to_string(),
            };
            if Instant::now() >= deadline {
                return Err(Failure::Directory(format!(
                    "the damaged log of {} may have held a later vote of this member, so every other voter has to \
                     be asked before it may take part again, and not all answer: {why}. Start them; remove one \
                     that is gone for good with `meridian member remove`; or replace this member: `meridian \
                     member remove {:x}`, an empty data directory, `meridian member add`",
                    directory.path().display(),
                    self.ids.member
                )));
            }
            tracing::warn!(why, "waiting for every other voter, to ask for its term");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// There is no other voter: only a backup has what is lost.
fn alone(directory: &Directory, damage: &Fault) -> Failure {
    let newest = boot::newest_snapshot(directory).map_or_else(
        || "it has no snapshot of its own".to_owned(),
        |path| {
            format!(
                "its own newest snapshot that verifies is {}",
                path.display()
            )
        },
    );
    Failure::Directory(format!(
        "{damage}. This member is the only voter, so nobody else has what is lost, and nothing was changed. Restore \
         it from a snapshot into a new directory: `meridian snapshot restore FILE --data-dir NEW`, with the flags \
         it is started with ({newest})"
    ))
}
