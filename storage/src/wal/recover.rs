//! Opening the log: reads every record, cuts a torn tail, refuses damage.
//!
//! **Torn or damaged?** Each record says up to where its segment had been flushed when it was written. Let P be
//! where the first record stands that does not verify, in the newest segment, and S the largest "flushed up to"
//! that any record of the segment says, before *or behind* P:
//!
//! ```text
//!   | flushed, known to be so      | the last batch: may be torn, was never acknowledged after the tear
//!   |------------------------------|-----------------------X??????????|000000000000
//!                                  S                       P
//! ```
//!
//! - P < S: what does not verify had been flushed. It is damaged. Nothing is changed; [`Fault::Damaged`].
//! - P >= S: the last write did not end. What verifies before P is kept, the rest is zeroed.
//! - In any older segment, in a header, in a checkpoint: always damaged, since those were flushed before the
//!   name or the successor was.
//!
//! What lies between S and P may be in the kernel's cache and not on the device, or be marked clean there after
//! a flush that failed. It is written again and flushed before anybody hears of it.
//!
//! What this can not tell apart is damage to the very last batch when nothing was written after it. To keep
//! that window short, a record of nothing follows when the log has been quiet for a moment, and when it is closed.

use std::collections::VecDeque;
use std::path::Path;

use bytes::Bytes;

use super::manifest::{self, Manifest};
use super::memory::{Memory, Place};
use super::record::{Binding, Header, Kind};
use super::segment::{self, Head, Met, Segment, Walk};
use super::spares::Spares;
use super::standing::{Standing, Step};
use super::writer::{Older, Tip};
use super::{metrics, read};
use crate::disk::Disk;
use crate::fault::Fault;
use crate::seal::Seal;

/// The log as it was found.
pub struct Found {
    /// Its entries.
    pub memory: Memory,
    /// Its end.
    pub tip: Tip,
    /// The segments before the newest.
    pub older: VecDeque<Older>,
    /// Which segment is the newest.
    pub manifest: Manifest,
}

/// Opens the log in `dir`, or begins one if there is none.
pub fn open(
    disk: &dyn Disk,
    seal: &dyn Seal,
    dir: &Path,
    spares: &Spares,
    segment_bytes: u32,
    tail_bytes_max: usize,
) -> Result<Found, Fault> {
    let numbers = numbers(disk, dir)?;
    let manifest = Manifest::open(disk, dir)?;
    if numbers.is_empty() && manifest.is_none() {
        return begin(disk, seal, dir, spares, segment_bytes, tail_bytes_max);
    }
    check_numbers(dir, &numbers, manifest.as_ref().map(|(_, newest)| *newest))?;
    let mut segments = Vec::with_capacity(numbers.len());
    for number in &numbers {
        let file = disk.open(&segment::path(dir, *number))?;
        let (head, chain) = Head::read(&*file, *number)?;
        segments.push((Segment { head, file }, chain));
    }
    let mut replay = Replay {
        seal,
        memory: Memory::new(Standing::default(), tail_bytes_max),
    };
    let mut older = VecDeque::new();
    let mut walked = None;
    for (i, (segment, chain)) in segments.iter().enumerate() {
        let next = segments.get(i + 1).map(|(next, _)| &next.head);
        walked = Some((segment, replay.segment(segment, *chain, i == 0, next)?));
        if next.is_some() {
            let number = segment.head.binding.segment;
            older.push_back(Older {
                number,
                last: replay.memory.standing().last,
            });
        }
    }
    let mut memory = replay.memory;
    check_nothing_is_missing(dir, &memory, &numbers)?;
    let Some((segment, end)) = walked else {
        return Err(damaged(dir, 0, "there are no segments"));
    };
    let manifest = match manifest {
        Some((manifest, newest)) => {
            if newest < segment.head.binding.segment {
                manifest.note(segment.head.binding.segment)?;
            }
            manifest
        }
        // The log was being made: see `begin`. A record would have had to wait for the manifest.
        None if end.position == end.begin => Manifest::create(disk, dir, 1)?,
        None => return Err(damaged(&dir.join(manifest::NAME), 0, "it is gone")),
    };
    cut(segment, &end)?;
    for (segment, _) in &segments {
        memory
            .segments
            .insert(segment.head.binding.segment, segment.clone());
    }
    let (begin, chain, end) = (end.begin as u32, end.chain, end.position as u32);
    metrics::SEGMENTS.set(segments.len() as i64);
    Ok(Found {
        memory,
        tip: Tip {
            segment: segment.clone(),
            end,
            begin,
            chain,
        },
        older,
        manifest,
    })
}

/// The numbers of the segments in a directory, ascending.
pub fn numbers(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, Fault> {
    let mut numbers: Vec<u64> = disk
        .list(dir)?
        .iter()
        .filter_map(|name| segment::number_of(name))
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Begins a log: the first segment, then the manifest.
fn begin(
    disk: &dyn Disk,
    seal: &dyn Seal,
    dir: &Path,
    spares: &Spares,
    segment_bytes: u32,
    tail_bytes_max: usize,
) -> Result<Found, Fault> {
    let Some(spare) = spares.take(false)? else {
        return Err(damaged(dir, 0, "the log was closed while it was opened"));
    };
    let binding = Binding {
        segment: 1,
        salt: segment::salt(),
    };
    let head = Head {
        binding,
        capacity: segment_bytes,
        before_end: 0,
        before_chain: 0,
    };
    let standing = Standing::default();
    let begun = segment::begin(disk, dir, spare, head, &standing, seal)?;
    let manifest = Manifest::create(disk, dir, 1)?;
    let mut memory = Memory::new(standing, tail_bytes_max);
    memory.segments.insert(1, begun.segment.clone());
    metrics::SEGMENTS.set(1);
    let (end, chain) = (begun.end, begun.chain);
    let tip = Tip {
        segment: begun.segment,
        end,
        begin: end,
        chain,
    };
    Ok(Found {
        memory,
        tip,
        older: VecDeque::new(),
        manifest,
    })
}

/// Segments are numbered without a gap, and the newest is the manifest's or one ahead.
fn check_numbers(dir: &Path, numbers: &[u64], newest: Option<u64>) -> Result<(), Fault> {
    let gone = |number| {
        Err(damaged(
            &segment::path(dir, number),
            0,
            "the segment is gone",
        ))
    };
    for pair in numbers.windows(2) {
        if let [before, after] = pair
            && before + 1 != *after
        {
            return gone(before + 1);
        }
    }
    let last = numbers.last().copied().unwrap_or(0);
    match newest {
        Some(newest) if last < newest => gone(newest),
        Some(newest) if last > newest + 1 => Err(damaged(
            &dir.join(manifest::NAME),
            0,
            "it is older than the segments",
        )),
        None if numbers != [1] => Err(damaged(&dir.join(manifest::NAME), 0, "it is gone")),
        _ => Ok(()),
    }
}

/// Segments go only when what they hold is purged; if more is missing, they were lost.
fn check_nothing_is_missing(dir: &Path, memory: &Memory, numbers: &[u64]) -> Result<(), Fault> {
    let oldest = numbers.first().copied().unwrap_or(1);
    let covered = memory
        .standing()
        .purged
        .map_or(0, |purged| purged.index.saturating_add(1));
    if oldest > 1 && memory.first() > covered {
        let what = format!("the segment is gone, with entries from {covered} on");
        return Err(damaged(&segment::path(dir, oldest - 1), 0, &what));
    }
    Ok(())
}

/// Where the records of the newest segment end, and what follows.
struct End {
    /// S: up to here it is known to have been flushed.
    flushed: u64,
    /// P: the first byte that is not a record.
    position: u64,
    /// Where the last byte of a torn write ends; `position` if there is none.
    torn: u64,
    /// The first byte behind the checkpoint.
    begin: u64,
    /// The header checksum of the last record.
    chain: u32,
}

struct Replay<'a> {
    seal: &'a dyn Seal,
    memory: Memory,
}

impl Replay<'_> {
    /// Follows the records of one segment; `next` is the header of the one after, if there is one.
    fn segment(
        &mut self,
        segment: &Segment,
        chain: u32,
        first: bool,
        next: Option<&Head>,
    ) -> Result<End, Fault> {
        let path = segment.file.path();
        let mut walk = Walk::new(segment, chain)?;
        let (mut flushed, mut begin) = (0, 0);
        loop {
            let at = walk.position();
            if let Some(next) = next.filter(|next| u64::from(next.before_end) == at) {
                if next.before_chain != walk.chain() {
                    return Err(damaged(path, at, "the next segment continues another"));
                }
                return Ok(End {
                    flushed: at,
                    position: at,
                    torn: at,
                    begin,
                    chain: walk.chain(),
                });
            }
            let (header, why) = match walk.step()? {
                Met::Record(header, body) => {
                    flushed = flushed.max(u64::from(header.flushed));
                    if begin == 0 {
                        self.checkpoint(&header, body, first, segment)?;
                        begin = header.end();
                        flushed = begin;
                    } else {
                        self.record(&header, body, segment)?;
                    }
                    continue;
                }
                Met::Nothing => (None, "the records end here"),
                Met::Bad(header, why) => (header, why),
            };
            let named = header.and_then(|header| header.log_id);
            let what = named.map_or_else(|| why.to_owned(), |id| format!("{why} (entry {id})"));
            if next.is_some() || begin == 0 {
                return Err(damaged(path, at, &what));
            }
            let (known, torn) = behind(&mut walk, at)?;
            if flushed.max(known) > at {
                return Err(damaged(path, at, &what));
            }
            return Ok(End {
                flushed,
                position: at,
                torn,
                begin,
                chain: walk.chain(),
            });
        }
    }

    fn checkpoint(
        &mut self,
        header: &Header,
        body: Bytes,
        first: bool,
        segment: &Segment,
    ) -> Result<(), Fault> {
        let wrong = |what: &str| Err(damaged(segment.file.path(), u64::from(header.offset), what));
        if header.kind != Kind::Checkpoint {
            return wrong("the segment does not begin with a checkpoint");
        }
        match Standing::decode(&self.seal.open(body)?) {
            None => wrong("the checkpoint can not be read"),
            Some(standing) if first => {
                self.memory.restart(standing);
                Ok(())
            }
            Some(standing) if standing == *self.memory.standing() => Ok(()),
            Some(_) => wrong("the checkpoint does not agree with the records before it"),
        }
    }

    fn record(&mut self, header: &Header, body: Bytes, segment: &Segment) -> Result<(), Fault> {
        let at = u64::from(header.offset);
        let path = segment.file.path();
        let followed = match step(header) {
            Some(step) => self.memory.follow(&step),
            None if header.kind == Kind::Vote => {
                self.memory.follow(&Step::Vote(self.seal.open(body)?))
            }
            None if header.kind == Kind::Entry => {
                let entry = read::open(header, body, segment, self.seal)?;
                let place = Place {
                    term: entry.log_id.term,
                    segment: segment.head.binding.segment,
                    offset: header.offset,
                    len: header.record_len() as u32,
                };
                self.memory.append(entry, Some(place)).map(drop)
            }
            None => Err("the record does not belong here".into()),
        };
        followed.map_err(|what| damaged(path, at, &what))
    }
}

/// What a record without a body says.
pub fn step(header: &Header) -> Option<Step> {
    match (header.kind, header.log_id) {
        (Kind::Committed, Some(id)) => Some(Step::Committed(id)),
        (Kind::Truncated, to) => Some(Step::Truncated(to)),
        (Kind::Purged, Some(id)) => Some(Step::Purged(id)),
        (Kind::Settled, _) => Some(Step::Settled),
        _ => None,
    }
}

/// Looks at all that is left of the newest segment: the largest "flushed up to" a record there says, and where
/// the last byte that is not zero ends.
pub fn behind(walk: &mut Walk<'_>, from: u64) -> Result<(u64, u64), Fault> {
    let (mut known, mut torn_end, mut at) = (0, from, from);
    loop {
        let (found, written_to) = walk.find(at)?;
        torn_end = torn_end.max(written_to);
        let Some(header) = found else {
            return Ok((known, torn_end));
        };
        known = known.max(u64::from(header.flushed));
        at = u64::from(header.offset) + 8;
    }
}

/// Zeroes what is torn, and writes again what is not known to have been flushed.
fn cut(segment: &Segment, end: &End) -> Result<(), Fault> {
    let torn = end.torn.saturating_sub(end.position);
    if torn > 0 {
        metrics::TORN_BYTES.inc_by(torn);
        let path = segment.file.path().display();
        tracing::warn!(%path, at = end.position, bytes = torn, "cut an unfinished write off the log");
    }
    let mut tail = vec![0; end.position.saturating_sub(end.flushed) as usize];
    segment.file.read_exact_at(&mut tail, end.flushed)?;
    tail.resize(tail.len() + torn as usize, 0);
    if !tail.is_empty() {
        segment.file.write_at(&tail, end.flushed)?;
    }
    segment.file.sync_data()
}

fn damaged(path: &Path, offset: u64, what: &str) -> Fault {
    Fault::Damaged {
        path: path.to_path_buf(),
        offset,
        what: what.to_owned(),
    }
}
