//! A damaged log: what is wrong with it, and the two ways out.
//!
//! [`Wal::open`](super::Wal::open) refuses a damaged log and changes nothing. Then:
//!
//! ```text
//!   inspect -----> which entries, by term and index, are damaged; is the vote certain; how far did it go?
//!      |
//!      |-- every damage has a name --> mend: put the payload back, as a peer has it     the log is whole again
//!      |
//!      '-- else --------------------> quarantine: set the segments aside, begin anew    the log is empty,
//!                                     with the vote                                     a snapshot must come
//! ```
//!
//! **Mending** is exact: the header of the damaged record says the length and the checksum of its body, so only
//! the very bytes that were acknowledged are taken. (With a seal that is not deterministic it always refuses.)
//!
//! **After a quarantine** the member has forgotten entries it had acknowledged. It must neither vote nor lead
//! until it has again all it may have acknowledged, through a snapshot and entries from the leader; or the operator
//! removes it and adds it under a new id. [`Report::highest`] bounds that from below only: damage may hide what came
//! behind it. If [`Report::vote_certain`] is false it may also have forgotten a vote, and must not give one in any
//! term it may have voted in. These are rules for the caller: a log can not enforce them.
//!
//! Both take the lock of the log, so neither runs beside a process that uses it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use meridian_domain::revision::LogId;

use super::manifest::{self, Manifest};
use super::record::{self, Binding, HEADER_BYTES, Header, Kind, Parsed};
use super::recover;
use super::segment::{self, Head, Met, Segment, Walk};
use super::spares::Spares;
use super::standing::Standing;
use crate::disk::Disk;
use crate::fault::Fault;
use crate::seal::Seal;

/// How many places of damage a report names; there may be more.
pub const DAMAGE_MAX: usize = 4096;

/// One place that does not verify although it had been flushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// The number of the segment; 0 for the manifest.
    pub segment: u64,
    /// Where the record begins.
    pub offset: u64,
    /// What does not hold.
    pub what: String,
    /// The entry that is damaged, if its header still names it. Then [`mend`] can put it back.
    pub log_id: Option<LogId>,
    /// The last entry before it that verifies.
    pub after: Option<LogId>,
    /// The first entry behind it that can be named.
    pub before: Option<LogId>,
}

/// What a log holds, whether it is whole or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is damaged, in the order of the log; at most [`DAMAGE_MAX`].
    pub damage: Vec<Damage>,
    /// Entries that verify.
    pub entries: u64,
    /// The last vote that can be read.
    pub vote: Option<Bytes>,
    /// Whether no later vote can have been lost.
    pub vote_certain: bool,
    /// The last committed position that can be read.
    pub committed: Option<LogId>,
    /// The last purged position that can be read.
    pub purged: Option<LogId>,
    /// The highest entry the log still tells of. It may have acknowledged all up to here, and more.
    pub highest: Option<LogId>,
}

impl Report {
    /// Whether [`mend`] can put back all that is damaged.
    pub fn is_mendable(&self) -> bool {
        self.damage.len() < DAMAGE_MAX && self.damage.iter().all(|d| d.log_id.is_some())
    }
}

/// Reads the whole log and changes nothing. Fails only if the disk does, or the format is newer.
pub fn inspect(disk: &dyn Disk, seal: &dyn Seal, dir: &Path) -> Result<Report, Fault> {
    let mut inspector = Inspector {
        seal,
        report: Report {
            vote_certain: true,
            ..Report::default()
        },
        last: None,
        first: None,
        unnamed: false,
    };
    let numbers = recover::numbers(disk, dir)?;
    let newest = match Manifest::open(disk, dir) {
        Ok(manifest) => manifest.map(|(_, newest)| newest),
        Err(Fault::Damaged { path, offset, what }) => {
            inspector.lost(path, 0, offset, what);
            None
        }
        Err(fault) => return Err(fault),
    };
    if newest.is_none() && inspector.report.damage.is_empty() && numbers.iter().any(|n| *n != 1) {
        inspector.lost(dir.join(manifest::NAME), 0, 0, "it is gone".into());
    }
    // Without it nobody knows whether there was a newer segment, with a later vote.
    let newest_is_known = newest.is_some();
    let mut wanted: BTreeSet<u64> = numbers.iter().copied().collect();
    if let (Some(first), Some(last)) = (numbers.first(), numbers.last()) {
        // A gap is named by its ends; what lies between is bounded.
        wanted.extend((*first..=*last).take(DAMAGE_MAX));
    }
    wanted.extend(newest);
    let mut heads: Vec<(u64, Option<(Segment, u32)>)> = Vec::with_capacity(wanted.len());
    for number in wanted {
        let path = segment::path(dir, number);
        let opened = disk
            .open(&path)
            .and_then(|file| Ok((Head::read(&*file, number)?, file)));
        let head = match opened {
            Ok(((head, chain), file)) => Some((Segment { head, file }, chain)),
            Err(Fault::Damaged { path, offset, what }) => {
                inspector.lost(path, number, offset, what);
                None
            }
            Err(fault) if fault.is_not_found() => {
                inspector.lost(path, number, 0, "the segment is gone".into());
                None
            }
            Err(fault) => return Err(fault),
        };
        heads.push((number, head));
    }
    for (i, (_, opened)) in heads.iter().enumerate() {
        let next = heads.get(i + 1);
        let next_head = next.and_then(|(_, next)| next.as_ref().map(|(next, _)| next.head));
        match opened {
            Some((segment, chain)) => {
                inspector.segment(segment, *chain, next.is_some(), next_head)?;
            }
            // Noted above; whatever it held may have been a vote.
            None => inspector.report.vote_certain = false,
        }
    }
    let covered = inspector
        .report
        .purged
        .map_or(0, |purged| purged.index.saturating_add(1));
    if let (Some(oldest @ 2..), Some(first)) = (numbers.first(), inspector.first)
        && first > covered
    {
        let what = format!("the segment is gone, with entries from {covered} on");
        inspector.lost(segment::path(dir, oldest - 1), oldest - 1, 0, what);
    }
    inspector.report.vote_certain &= newest_is_known;
    Ok(inspector.report)
}

struct Inspector<'a> {
    seal: &'a dyn Seal,
    report: Report,
    last: Option<LogId>,
    /// The lowest index there is anything of.
    first: Option<u64>,
    /// The latest damage waits for the first entry behind it.
    unnamed: bool,
}

impl Inspector<'_> {
    fn segment(
        &mut self,
        segment: &Segment,
        chain: u32,
        has_next: bool,
        next: Option<Head>,
    ) -> Result<(), Fault> {
        let mut walk = Walk::new(segment, chain)?;
        let limit = next.map(|next| u64::from(next.before_end));
        let mut flushed = 0;
        loop {
            let at = walk.position();
            if limit.is_some_and(|limit| limit <= at) {
                return Ok(());
            }
            let (header, why) = match walk.step()? {
                Met::Record(header, body) => {
                    flushed = flushed.max(u64::from(header.flushed));
                    self.record(&header, body)?;
                    continue;
                }
                Met::Nothing => (None, "the records end here"),
                Met::Bad(header, why) => (header, why),
            };
            if !has_next {
                let (known, _) = recover::behind(&mut walk, at)?;
                if flushed.max(known) <= at && at > segment::HEAD_BYTES as u64 {
                    return Ok(());
                }
            }
            self.damaged(segment, at, why, header.as_ref());
            // With a header, go on behind it; without, at the next one that verifies.
            let resume = at + record::ALIGNMENT as u64;
            match header {
                Some(header) => walk.pass(&header),
                None => match walk.find(resume)?.0 {
                    Some(header) => walk.jump(&header),
                    None => return Ok(()),
                },
            }
        }
    }

    fn record(&mut self, header: &Header, body: Bytes) -> Result<(), Fault> {
        match header.kind {
            Kind::Entry => {
                self.report.entries += 1;
                self.named(header);
                self.last = header.log_id;
            }
            Kind::Vote => {
                self.report.vote = Some(self.seal.open(body)?);
                self.report.vote_certain = true;
            }
            Kind::Checkpoint => {
                if let Some(standing) = Standing::decode(&self.seal.open(body)?) {
                    let Standing {
                        vote,
                        committed,
                        purged,
                        last,
                    } = standing;
                    self.report.vote = vote;
                    self.report.vote_certain = true;
                    self.report.committed = committed;
                    self.report.purged = purged;
                    self.report.highest = self.report.highest.max(last);
                }
            }
            Kind::Committed => self.report.committed = header.log_id,
            Kind::Purged => self.report.purged = self.report.purged.max(header.log_id),
            Kind::Truncated | Kind::Settled => {}
        }
        Ok(())
    }

    /// An entry has a name: the damage before it lies before it.
    fn named(&mut self, header: &Header) {
        let index = header.log_id.map(|log_id| log_id.index);
        self.first = self.first.or(index).min(index.or(self.first));
        self.report.highest = self.report.highest.max(header.log_id);
        if std::mem::take(&mut self.unnamed)
            && let Some(damage) = self.report.damage.last_mut()
        {
            damage.before = header.log_id;
        }
    }

    fn damaged(&mut self, segment: &Segment, offset: u64, what: &str, header: Option<&Header>) {
        let entry = header.filter(|header| header.kind == Kind::Entry);
        if let Some(header) = entry {
            self.named(header);
        }
        // Anything could have stood here, a vote too, unless a header says otherwise.
        let harmless = header.is_some_and(|h| !matches!(h.kind, Kind::Vote | Kind::Checkpoint));
        self.report.vote_certain &= harmless;
        self.add(Damage {
            path: segment.file.path().to_path_buf(),
            segment: segment.head.binding.segment,
            offset,
            what: what.to_owned(),
            log_id: entry.and_then(|header| header.log_id),
            after: self.last,
            before: None,
        });
        if let Some(header) = entry {
            self.last = header.log_id;
        }
    }

    /// A whole file is not there, or can not be read.
    fn lost(&mut self, path: PathBuf, segment: u64, offset: u64, what: String) {
        let (log_id, after, before) = (None, self.last, None);
        self.add(Damage {
            path,
            segment,
            offset,
            what,
            log_id,
            after,
            before,
        });
        self.unnamed = false;
    }

    fn add(&mut self, damage: Damage) {
        if self.report.damage.len() < DAMAGE_MAX {
            self.report.damage.push(damage);
            self.unnamed = true;
        }
    }
}

/// Puts a damaged entry back. `payload` is what a peer has for [`Damage::log_id`]; if it is not the very
/// content that was written here, nothing changes and the answer is [`Fault::Damaged`].
pub fn mend(
    disk: &dyn Disk,
    seal: &dyn Seal,
    dir: &Path,
    damage: &Damage,
    payload: Bytes,
) -> Result<(), Fault> {
    let _lock = disk.lock(&dir.join("lock"))?;
    let refused = |what: &str| {
        let what = what.to_owned();
        Err(Fault::Damaged {
            path: damage.path.clone(),
            offset: damage.offset,
            what,
        })
    };
    let file = disk.open(&segment::path(dir, damage.segment))?;
    let (Head { binding, .. }, _) = Head::read(&*file, damage.segment)?;
    let mut head = [0; HEADER_BYTES];
    file.read_exact_at(&mut head, damage.offset)?;
    let Parsed::Header(header) = record::parse(&head, binding, damage.offset) else {
        return refused("the header is damaged too; the entry can not be put back");
    };
    if header.kind != Kind::Entry || header.log_id != damage.log_id {
        return refused("another record stands there");
    }
    let body = seal.seal(payload);
    if body.len() as u64 != u64::from(header.body_len)
        || record::checksum(binding, &body) != header.body_sum
    {
        return refused("what was offered is not what had been written");
    }
    let mut whole = body.to_vec();
    whole.resize(header.record_len() - HEADER_BYTES, 0);
    file.write_at(&whole, damage.offset + HEADER_BYTES as u64)?;
    file.sync_data()
}

/// Sets every segment aside, into the directory `aside`, and begins an empty log that has the vote if it is
/// certain. Returns what the old log held. A crash on the way leaves a log that does not open; calling it again
/// ends it. What the member must not do afterwards is in the chapter of this file.
pub fn quarantine(
    disk: &Arc<dyn Disk>,
    seal: &dyn Seal,
    dir: &Path,
    aside: &Path,
    segment_bytes: u32,
) -> Result<Report, Fault> {
    let segment_bytes = segment_bytes.clamp(super::SEGMENT_BYTES_MIN, super::SEGMENT_BYTES_MAX);
    let _lock = disk.lock(&dir.join("lock"))?;
    let report = inspect(&**disk, seal, dir)?;
    let numbers = recover::numbers(&**disk, dir)?;
    let newest = numbers.last().copied().unwrap_or(0);
    let manifest = match Manifest::open(&**disk, dir) {
        Ok(manifest) => manifest.map_or(0, |(_, newest)| newest),
        Err(Fault::Damaged { .. }) => 0,
        Err(fault) => return Err(fault),
    };
    let number = newest.max(manifest) + 1;
    let spares = Spares::open(Arc::clone(disk), dir, u64::from(segment_bytes), 0)?;
    let spare = std::thread::scope(|scope| {
        scope.spawn(|| spares.run());
        let spare = spares.take(false);
        spares.stop();
        spare
    })?;
    let Some(spare) = spare else {
        let what = "no segment could be made".into();
        return Err(Fault::Inconsistent { what });
    };
    let binding = Binding {
        segment: number,
        salt: segment::salt(),
    };
    let head = Head {
        binding,
        capacity: segment_bytes,
        before_end: 0,
        before_chain: 0,
    };
    let vote = report.vote.clone().filter(|_| report.vote_certain);
    let standing = Standing {
        vote,
        ..Standing::default()
    };
    segment::begin(&**disk, dir, spare, head, &standing, seal)?;
    Manifest::create(&**disk, dir, number)?;
    disk.create_dir_all(aside)?;
    for number in numbers {
        disk.rename(&segment::path(dir, number), &segment::path(aside, number))?;
        disk.sync_dir(aside)?;
        disk.sync_dir(dir)?;
    }
    Ok(report)
}
