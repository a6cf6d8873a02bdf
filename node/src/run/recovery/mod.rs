//! A member whose log or state is damaged: it gets back what it lost from the others, or says what to do.
//!
//! ```text
//!   the log does not verify, is gone, or begins behind all state that is left
//!     another voter answers?           no: the member does not start, and says what is missing
//!     only bodies of entries damaged?  yes: they are put back from another member, and all is as before
//!     the others have a leader?        no: it does not start; they may need what is in this log
//!     -> `recovering` is written       from now on, whatever happens, it gives no vote
//!     -> the log is set aside          wal.damaged-1; the time before: wal.damaged-2
//!     -> is the last vote certain?     no: every other voter is asked for its term
//!     -> it starts, abstaining         (see meridian_raft::recovery for why that is safe)
//!     -> a write of its own is applied and durable: `recovering` is removed, it votes again
//! ```
//!
//! The file `recovering` holds one line: `certain`, or `lost` and the last term that could be read. The file
//! `begun` says that there was a log, so that one that is gone is not taken for one that is new.

mod note;
mod others;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use meridian_raft::{Engine, recovery};
use meridian_storage::fault::Fault;
use meridian_storage::wal::{self, Wal, repair};
use tokio::sync::oneshot;

use self::note::Note;
use self::others::Wanted;
use crate::directory::Directory;
use crate::run::Failure;
use crate::run::boot::{self, Opened};
use crate::run::member::OnFault;

pub use self::note::forget;
pub use self::others::Asking;

/// What a member starts with.
pub struct Ready {
    /// Everything, opened.
    pub engine: Engine,
    /// It may lack what it acknowledged: it must not vote yet.
    pub recovering: bool,
}

/// Opens a data directory, and sets a damaged log aside if there are others to take it back from.
pub async fn open(
    directory: Directory,
    mut asking: Asking<'_>,
    on_fault: OnFault,
) -> Result<(Directory, Ready), Failure> {
    let path = directory.path().to_owned();
    let failed = |what: &'static str| io_failure(what, path.clone());
    let mut note = Note::read(&path).map_err(failed("reading"))?;
    let (mut directory, mut opened) = open_once(directory, &on_fault).await?;
    if let Opened::Broken(damage) = &opened {
        tracing::error!(fault = %damage, "the log of this member can not be used");
        let (of, urls) = blocking(move || {
            let urls = boot::known_peer_urls(&directory);
            Ok((directory, urls))
        })
        .await?;
        directory = of;
        let others = urls
            .into_iter()
            .filter(|url| !asking.own_urls.contains(url));
        asking.peer_urls.extend(others);
        asking.until(&directory, damage, Wanted::Another).await?;
        if asking.mend(&directory).await? {
            (directory, opened) = open_once(directory, &on_fault).await?;
        }
    }
    if let Opened::Broken(damage) = &opened {
        asking.until(&directory, damage, Wanted::Leader).await?;
        let before = note;
        (directory, note) = blocking(move || {
            let note = set_aside(&directory, before)?;
            Ok((directory, Some(note)))
        })
        .await?;
        (directory, opened) = open_once(directory, &on_fault).await?;
    }
    let mut engine = match opened {
        Opened::Whole(engine) => *engine,
        Opened::Broken(damage) => return Err(Failure::Fault(damage)),
    };
    if let Some(Note::Lost(term)) = note {
        let term = asking.highest_term(&directory).await?.max(term);
        let vote = recovery::abstention(asking.ids.member, term);
        save_vote(&engine.wal, vote.clone()).await?;
        engine.recovered.vote = Some(vote);
        Note::Certain.write(&path).map_err(failed("writing"))?;
    }
    note::begin(&path).map_err(failed("writing"))?;
    let recovering = note.is_some();
    if recovering {
        // The log begins anew behind this state: it must not be lost with the next power failure.
        let history = engine.machine.store().history().clone();
        blocking(move || history.flush().map_err(Failure::Fault)).await?;
        tracing::warn!(
            applied = %engine.machine.applied(),
            "this member takes back from the others what its log forgot; until then it does not vote"
        );
    }
    Ok((directory, Ready { engine, recovering }))
}

async fn open_once(
    directory: Directory,
    on_fault: &OnFault,
) -> Result<(Directory, Opened), Failure> {
    let on_fault = on_fault.clone();
    blocking(move || {
        let wal = directory.wal();
        if note::has_begun(directory.path()) && !has_segments(&wal) {
            boot::disk().create_dir_all(&wal)?;
            let gone = Fault::Damaged {
                path: wal,
                offset: 0,
                what: "the log is gone".into(),
            };
            return Ok((directory, Opened::Broken(gone)));
        }
        let opened = boot::open(&directory, &on_fault)?;
        Ok((directory, opened))
    })
    .await
}

fn has_segments(wal: &Path) -> bool {
    fs::read_dir(wal).is_ok_and(|files| {
        files
            .flatten()
            .any(|file| file.path().extension().is_some_and(|of| of == "wal"))
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::Start(format!("loading the state failed: {error}")))?
}

/// Notes what is to come, then moves the log aside and begins an empty one. Done again, it ends what was begun.
fn set_aside(directory: &Directory, before: Option<Note>) -> Result<Note, Failure> {
    let failed = |what: &'static str| io_failure(what, directory.path().to_owned());
    let (disk, seal) = (boot::disk(), boot::seal());
    let report = repair::inspect(&*disk, &*seal, &directory.wal())?;
    for damage in &report.damage {
        tracing::error!(
            path = %damage.path.display(),
            offset = damage.offset,
            entry = damage.log_id.map(|id| id.to_string()),
            what = damage.what.as_str(),
            "damage in the log"
        );
    }
    let term = report.vote.as_ref().and_then(recovery::term_of);
    let note = match before {
        // What was lost the first time is not in what lies there now.
        Some(Note::Lost(before)) => Note::Lost(before.max(term.unwrap_or_default())),
        _ if report.vote_certain => Note::Certain,
        _ => Note::Lost(term.unwrap_or_default()),
    };
    note.write(directory.path()).map_err(failed("writing"))?;
    let aside = |times: u8| directory.path().join(format!("wal.damaged-{times}"));
    if before.is_none() && aside(1).exists() {
        disk.remove_dir_all(&aside(2))?;
        fs::rename(aside(1), aside(2)).map_err(failed("renaming what was set aside in"))?;
    }
    let bytes = wal::Settings::default().segment_bytes;
    repair::quarantine(&disk, &*seal, &directory.wal(), &aside(1), bytes)?;
    tracing::warn!(aside = %aside(1).display(), "the log was set aside");
    Ok(note)
}

async fn save_vote(wal: &Wal, vote: Bytes) -> Result<(), Failure> {
    let (done, saved) = oneshot::channel();
    wal.save_vote(
        vote,
        Box::new(move |outcome| {
            // Nobody waits any more only if the start was given up.
            let _ = done.send(outcome);
        }),
    );
    let stopped = Fault::Poisoned {
        part: "the log",
        cause: "it ended".into(),
    };
    Ok(saved.await.unwrap_or(Err(stopped))?)
}

fn io_failure(what: &'static str, path: PathBuf) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::Fault(Fault::io(what, path.clone(), error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_log_is_set_aside_twice_and_the_time_before_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        let begun = || {
            let settings = wal::Settings::default();
            let (wal, _) =
                Wal::open(boot::disk(), boot::seal(), &directory.wal(), settings).unwrap();
            wal.close();
        };
        begun();
        assert_eq!(set_aside(&directory, None).unwrap(), Note::Certain);
        begun();
        assert_eq!(set_aside(&directory, None).unwrap(), Note::Certain);
        for times in ["wal.damaged-1", "wal.damaged-2"] {
            assert!(has_segments(&dir.path().join(times)), "{times}");
        }
        // While it goes on, what was lost stays lost.
        let note = set_aside(&directory, Some(Note::Lost(9))).unwrap();
        assert_eq!(note, Note::Lost(9));
        fs::remove_dir_all(directory.wal()).unwrap();
        fs::create_dir(directory.wal()).unwrap();
        assert_eq!(
            set_aside(&directory, None).unwrap(),
            Note::Lost(0),
            "no log at all"
        );
    }
}
