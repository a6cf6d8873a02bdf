//! Reading entries back from the files, verified.

use bytes::Bytes;
use meridian_domain::revision::LogId;

use super::memory::Place;
use super::record::{self, Header, Kind as RecordKind, Parsed};
use super::segment::Segment;
use super::{Entry, Kind};
use crate::fault::Fault;
use crate::seal::Seal;

/// The most that is read from a file at once, in bytes, unless one record is larger.
const SPAN_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Reads consecutive entries, the first with index `from`. Records that lie near each other in one segment
/// are read together. Anything that does not verify is [`Fault::Damaged`].
pub fn entries(
    from: u64,
    places: &[(Place, Segment)],
    seal: &dyn Seal,
) -> Result<Vec<Entry>, Fault> {
    let mut entries = Vec::with_capacity(places.len());
    let mut rest = places;
    while let Some((first, segment)) = rest.first() {
        let start = u64::from(first.offset);
        let near = rest.iter().take_while(|(place, _)| {
            let end = u64::from(place.offset) + u64::from(place.len);
            place.segment == first.segment
                && (place.offset == first.offset || end.saturating_sub(start) <= SPAN_BYTES_MAX)
        });
        let (together, behind) = rest.split_at(near.count().max(1));
        let last = together.last().map_or(first, |(place, _)| place);
        let span = u64::from(last.offset) + u64::from(last.len) - start;
        let mut bytes = vec![0; span as usize];
        segment.file.read_exact_at(&mut bytes, start)?;
        for (place, _) in together {
            let log_id = LogId {
                term: place.term,
                index: from + entries.len() as u64,
            };
            let within = (place.offset - first.offset) as usize;
            let record = bytes
                .get(within..within + place.len as usize)
                .unwrap_or(&[]);
            entries.push(verified(record, place, segment, log_id, seal)?);
        }
        rest = behind;
    }
    Ok(entries)
}

/// The entry in a record that should hold `log_id`.
fn verified(
    record: &[u8],
    place: &Place,
    segment: &Segment,
    log_id: LogId,
    seal: &dyn Seal,
) -> Result<Entry, Fault> {
    let damaged = |what: String| Fault::Damaged {
        path: segment.file.path().to_path_buf(),
        offset: u64::from(place.offset),
        what,
    };
    let binding = segment.head.binding;
    let header = match record::parse(record, binding, u64::from(place.offset)) {
        Parsed::Header(header) => header,
        Parsed::Empty => return Err(damaged(format!("entry {log_id} is zeros"))),
        Parsed::Invalid(why) => return Err(damaged(format!("entry {log_id}: {why}"))),
    };
    if header.kind != RecordKind::Entry || header.log_id != Some(log_id) {
        return Err(damaged(format!(
            "another record stands where entry {log_id} was written"
        )));
    }
    let Some(body) = record::body(record, binding, &header) else {
        return Err(damaged(format!(
            "the checksum of the body of entry {log_id} does not hold"
        )));
    };
    open(&header, Bytes::copy_from_slice(body), segment, seal)
}

/// Makes an entry of a record that verifies.
pub fn open(
    header: &Header,
    body: Bytes,
    segment: &Segment,
    seal: &dyn Seal,
) -> Result<Entry, Fault> {
    let (Some(kind), Some(log_id)) = (Kind::of(header.entry_kind), header.log_id) else {
        return Err(Fault::Damaged {
            path: segment.file.path().to_path_buf(),
            offset: u64::from(header.offset),
            what: format!("an entry of the unknown kind {}", header.entry_kind),
        });
    };
    Ok(Entry {
        log_id,
        kind,
        payload: seal.open(body)?,
    })
}
