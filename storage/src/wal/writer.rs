//! The writer: one thread that turns what is queued into one write and one flush.
//!
//! ```text
//!   turn:  [append][vote][append]...   everything that was queued while the last flush ran
//!            |
//!            v  encode, checksum, chain
//!          one buffer ---- write_at ---- sync_data ---- memory learns the places ---- done, done, done
//! ```
//!
//! Under load the flush itself is the time in which the next batch gathers, and as long again
//! ([`Shared::turn`]): half the flushes, and none later than with twice as many. A lone write does not wait. A batch never spans segments. When a record does not fit, what is there is flushed and
//! the log rolls over to a spare; see [`super::spares`].
//!
//! A write or flush that fails ends the thread. Nothing is tried again: the kernel may have marked the pages
//! clean, and a flush that "succeeds" then would lie (Rebello et al., ATC'20).

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use meridian_domain::revision::LogId;

use super::manifest::Manifest;
use super::memory::{Place, Written};
use super::queue::{Job, Shared, Turn};
use super::record::{self, BODY_BYTES_MAX, Binding, Draft, Kind};
use super::segment::{self, Head, Segment};
use super::spares::Spares;
use super::standing::{Standing, Step};
use super::{Done, metrics};
use crate::disk::Disk;
use crate::fault::Fault;
use crate::seal::Seal;

/// A buffer that grew beyond this for one large batch is given back, in bytes.
const BUFFER_KEPT_BYTES: usize = 4 * 1024 * 1024;

/// The end of the log, where the writer goes on.
#[derive(Debug)]
pub struct Tip {
    /// The newest segment.
    pub segment: Segment,
    /// Where its next record begins.
    pub end: u32,
    /// Where its records after the checkpoint begin.
    pub begin: u32,
    /// The header checksum of its last record.
    pub chain: u32,
}

/// A segment before the newest.
#[derive(Debug)]
pub struct Older {
    /// Its number.
    pub number: u64,
    /// Where the log stood when it ended: it is needed while this is not purged.
    pub last: Option<LogId>,
}

/// The writer, before its thread starts.
pub struct Writer {
    /// What it shares with the handles.
    pub shared: Arc<Shared>,
    /// The spares it rolls over to.
    pub spares: Arc<Spares>,
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The seal of every body.
    pub seal: Arc<dyn Seal>,
    /// The directory of the log.
    pub dir: PathBuf,
    /// The size of new segments.
    pub segment_bytes: u32,
    /// Where the log stands, as written.
    pub standing: Standing,
    /// The end of the log.
    pub tip: Tip,
    /// The segments before, oldest first.
    pub older: VecDeque<Older>,
    /// Which segment is the newest.
    pub manifest: Manifest,
    /// What is being gathered.
    pub batch: Batch,
    /// How long the next flush may wait for more entries, if they are coming in: as long as the last one took.
    pub pause: Duration,
}

/// The longest a flush waits for more entries: a disk whose flush takes longer gathers enough meanwhile.
const PAUSE_MAX: Duration = Duration::from_millis(1);

/// What goes out with the next flush.
#[derive(Default)]
pub struct Batch {
    buffer: Vec<u8>,
    records: u32,
    written: Vec<Written>,
    dones: Vec<Done>,
    purged: bool,
}

/// Ends the log when the thread ends, however it does.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let what = "the log's writer panicked".into();
            self.0.poison(Fault::Inconsistent { what });
        }
        self.0.writer_ends();
    }
}

impl Writer {
    /// The thread.
    pub fn run(mut self) {
        self.shared.writer_begins();
        let _ending = Ending(Arc::clone(&self.shared));
        loop {
            match self.shared.turn(self.pause) {
                Turn::Jobs(jobs) => self.commit(jobs),
                Turn::Settle => self.settle(),
                Turn::End => break,
            }
        }
        // The last batch is followed by a record, so that damage to it is not taken for a torn write.
        if self.shared.poisoned().is_none() {
            self.settle();
        }
    }

    /// Writes jobs and answers them. A fault poisons the log and answers the rest with it.
    fn commit(&mut self, jobs: Vec<Job>) {
        let mut jobs = jobs.into_iter();
        let mut outcome = Ok(());
        for job in jobs.by_ref() {
            outcome = self.encode(job);
            if outcome.is_err() {
                break;
            }
        }
        if let Err(fault) = outcome.and_then(|()| self.flush()) {
            self.shared.poison(fault);
            let refusal = self.shared.state().refusal();
            let waiting = self.batch.dones.drain(..).chain(jobs.filter_map(Job::done));
            for done in waiting {
                done(Err(refusal.clone()));
            }
        }
    }

    /// Proves to recovery that everything before had been flushed.
    fn settle(&mut self) {
        let settled = self.append(Kind::Settled, 0, None, Bytes::new(), &Step::Settled);
        if let Err(fault) = settled.and_then(|_| self.flush()) {
            self.shared.poison(fault);
        }
    }

    fn encode(&mut self, job: Job) -> Result<(), Fault> {
        let (outcome, done) = match job {
            Job::Append(entries, done) => {
                let append = |(serial, entry): (u64, super::Entry)| {
                    let LogId { term, index } = entry.log_id;
                    let step = Step::Entry(entry.log_id);
                    let (kind, id) = (entry.kind as u8, Some(entry.log_id));
                    let (offset, len) = self.append(Kind::Entry, kind, id, entry.payload, &step)?;
                    let segment = self.tip.segment.head.binding.segment;
                    self.batch.written.push((
                        index,
                        serial,
                        Place {
                            term,
                            segment,
                            offset,
                            len,
                        },
                    ));
                    Ok(())
                };
                (entries.into_iter().try_for_each(append), Some(done))
            }
            Job::Vote(vote, done) => {
                let step = Step::Vote(vote.clone());
                (
                    self.append(Kind::Vote, 0, None, vote, &step).map(drop),
                    Some(done),
                )
            }
            Job::Truncate(to, done) => {
                let step = Step::Truncated(to);
                (
                    self.append(Kind::Truncated, 0, to, Bytes::new(), &step)
                        .map(drop),
                    Some(done),
                )
            }
            Job::Committed(id) => {
                let step = Step::Committed(id);
                (
                    self.append(Kind::Committed, 0, Some(id), Bytes::new(), &step)
                        .map(drop),
                    None,
                )
            }
            Job::Purged(id) => {
                let step = Step::Purged(id);
                let outcome = self.append(Kind::Purged, 0, Some(id), Bytes::new(), &step);
                self.batch.purged = true;
                (outcome.map(drop), None)
            }
        };
        self.batch.dones.extend(done);
        outcome
    }

    /// Adds a record to the batch, rolling over first if it does not fit. Returns where and how long it is.
    fn append(
        &mut self,
        kind: Kind,
        entry_kind: u8,
        log_id: Option<LogId>,
        body: Bytes,
        step: &Step,
    ) -> Result<(u32, u32), Fault> {
        let body = self.seal.seal(body);
        if body.len() > BODY_BYTES_MAX {
            let what = format!(
                "a record of {} bytes is larger than the log holds",
                body.len()
            );
            return Err(Fault::Inconsistent { what });
        }
        let len = record::record_len(body.len());
        let capacity = self.tip.segment.head.capacity as usize;
        if self.tip.end as usize + self.batch.buffer.len() + len > capacity {
            self.flush()?;
            // A record larger than a segment gets a segment of its own, which grows.
            if self.tip.end != self.tip.begin {
                self.roll()?;
            }
        }
        self.standing
            .take(step)
            .map_err(|what| Fault::Inconsistent { what })?;
        let offset = self.tip.end + self.batch.buffer.len() as u32;
        let (flushed, chain) = (self.tip.end, self.tip.chain);
        let draft = Draft {
            kind,
            entry_kind,
            log_id,
            offset,
            flushed,
            chain,
        };
        let binding = self.tip.segment.head.binding;
        self.tip.chain = record::encode(&mut self.batch.buffer, binding, &draft, &body);
        self.batch.records += 1;
        Ok((offset, len as u32))
    }

    /// Writes the batch, flushes it, and answers those who waited for it.
    fn flush(&mut self) -> Result<(), Fault> {
        if !self.batch.buffer.is_empty() {
            let file = &self.tip.segment.file;
            let started = Instant::now();
            file.write_at(&self.batch.buffer, u64::from(self.tip.end))?;
            let written = Instant::now();
            file.sync_data()?;
            let flushing = written.elapsed();
            self.pause = flushing.min(PAUSE_MAX);
            metrics::FSYNC_SECONDS.observe(flushing.as_secs_f64());
            metrics::WRITE_SECONDS.observe((written - started).as_secs_f64());
            metrics::WRITTEN_BYTES.inc_by(self.batch.buffer.len() as u64);
            metrics::BATCH_RECORDS.observe(f64::from(self.batch.records));
            metrics::FLUSHES.inc();
            self.tip.end += self.batch.buffer.len() as u32;
            if self.batch.buffer.capacity() > BUFFER_KEPT_BYTES {
                self.batch.buffer = Vec::new();
            }
            self.batch.buffer.clear();
            self.batch.records = 0;
            self.shared.state().memory.settle(&self.batch.written);
        }
        self.batch.written.clear();
        if std::mem::take(&mut self.batch.purged) {
            self.retire();
        }
        for done in self.batch.dones.drain(..) {
            done(Ok(()));
        }
        Ok(())
    }

    /// Goes on in a new segment. The batch is flushed and empty.
    fn roll(&mut self) -> Result<(), Fault> {
        let Some(spare) = self.spares.take(true)? else {
            let what = "the log was closed while it waited for a segment".into();
            return Err(Fault::Inconsistent { what });
        };
        let number = self.tip.segment.head.binding.segment + 1;
        let head = Head {
            binding: Binding {
                segment: number,
                salt: segment::salt(),
            },
            capacity: self.segment_bytes,
            before_end: self.tip.end,
            before_chain: self.tip.chain,
        };
        let (disk, seal) = (&*self.disk, &*self.seal);
        let begun = segment::begin(disk, &self.dir, spare, head, &self.standing, seal)?;
        self.manifest.note(number)?;
        self.older.push_back(Older {
            number: number - 1,
            last: self.standing.last,
        });
        self.shared
            .state()
            .memory
            .segments
            .insert(number, begun.segment.clone());
        let (end, chain) = (begun.end, begun.chain);
        self.tip = Tip {
            segment: begun.segment,
            end,
            begin: end,
            chain,
        };
        metrics::SEGMENTS.set(self.older.len() as i64 + 1);
        Ok(())
    }

    /// Gives back the segments that only hold what is durably purged.
    fn retire(&mut self) {
        let purged = self.standing.purged.map(|purged| purged.index);
        while let Some(oldest) = self.older.front() {
            if oldest.last.map(|last| last.index) > purged {
                break;
            }
            let file = self.shared.state().memory.segments.remove(&oldest.number);
            if let Some(segment) = file {
                self.spares
                    .retire(segment::path(&self.dir, oldest.number), segment.file);
            }
            self.older.pop_front();
        }
        metrics::SEGMENTS.set(self.older.len() as i64 + 1);
    }
}
