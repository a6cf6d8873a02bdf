//! Blocks: consecutive versions of one tenant in one value of the backend.
//!
//! sled costs 9 to 26 us for each value, whatever its size; packing about 25 rows into each divides that.
//! Around 8 KiB is where writing is no dearer than with larger blocks and sled's pages (16 values each)
//! still fit its cache bound.
//!
//! ```text
//!  0   rows        4, little endian; at least 1
//!  4   last        the last row's revision (8) and sub (4), little endian
//! 16   the rows, packed (packed.rs), ascending
//! ```

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use meridian_domain::name::TenantId;

use super::envelope::{self, damaged};
use super::packed::{Memory, Packer, Unpacker};
use crate::fault::Fault;
use crate::row::{At, Version};
use crate::seal::Seal;

/// A block is closed once its rows have this many bytes.
pub const BLOCK_BYTES: usize = 8 << 10;

const HEADER_BYTES: usize = 16;

/// The rows of a block in memory.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// Ascending by `at`.
    pub rows: Vec<Arc<Version>>,
    /// Roughly what it takes in memory, in bytes.
    pub bytes: usize,
}

impl Block {
    /// The rows from a place on.
    pub fn rows_from(&self, at: At) -> &[Arc<Version>] {
        let first = self.rows.partition_point(|row| row.at < at);
        self.rows.get(first..).unwrap_or_default()
    }
}

/// A block as it goes to the backend.
#[derive(Debug)]
pub struct Packed {
    /// Its first row.
    pub first: At,
    /// Its last row.
    pub last: At,
    /// How many rows.
    pub rows: usize,
    /// Its key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// The rows again.
    pub block: Block,
}

/// Packs ascending rows of a tenant into blocks of about [`BLOCK_BYTES`].
pub fn pack(seal: &dyn Seal, tenant: TenantId, rows: Vec<Arc<Version>>) -> Vec<Packed> {
    let mut blocks = Vec::new();
    let mut open = new_packer();
    let mut taken: Vec<Arc<Version>> = Vec::new();
    for row in rows {
        open.push(&row);
        taken.push(row);
        if open.bytes().len() >= BLOCK_BYTES {
            let full = std::mem::replace(&mut open, new_packer());
            blocks.extend(close(seal, tenant, full, std::mem::take(&mut taken)));
        }
    }
    blocks.extend(close(seal, tenant, open, taken));
    blocks
}

fn new_packer() -> Packer {
    let mut out = Vec::with_capacity(BLOCK_BYTES + 1024);
    out.resize(HEADER_BYTES, 0);
    Packer::new(out)
}

fn close(
    seal: &dyn Seal,
    tenant: TenantId,
    packer: Packer,
    rows: Vec<Arc<Version>>,
) -> Option<Packed> {
    let (first, last) = (rows.first()?.at, rows.last()?.at);
    let mut content = packer.finish();
    let mut header = [0; HEADER_BYTES];
    for (place, byte) in header.iter_mut().zip(
        (rows.len() as u32)
            .to_le_bytes()
            .into_iter()
            .chain(last.revision.to_le_bytes())
            .chain(last.sub.to_le_bytes()),
    ) {
        *place = byte;
    }
    content.splice(..HEADER_BYTES, header);
    let key = envelope::block_key(tenant, first);
    let bytes = content.len();
    let value = envelope::wrap(seal, &key, content);
    Some(Packed {
        first,
        last,
        rows: rows.len(),
        key,
        value,
        block: Block { rows, bytes },
    })
}

/// What the header of a block says.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// How many rows.
    pub rows: usize,
    /// The last row.
    pub last: At,
}

/// Checks a block and reads its header.
pub fn header(
    seal: &dyn Seal,
    dir: &Path,
    key: &[u8],
    value: &Bytes,
) -> Result<(Header, Bytes), Fault> {
    let content = envelope::unwrap(seal, dir, key, value)?;
    let parsed = content
        .split_first_chunk::<HEADER_BYTES>()
        .and_then(|(header, _)| {
            let (rows, rest) = header.split_first_chunk::<4>()?;
            let (revision, sub) = rest.split_first_chunk::<8>()?;
            let last = At {
                revision: i64::from_le_bytes(*revision),
                sub: u32::from_le_bytes(sub.try_into().ok()?),
            };
            Some(Header {
                rows: u32::from_le_bytes(*rows) as usize,
                last,
            })
        });
    match parsed {
        Some(header) if header.rows > 0 => Ok((header, content.slice(HEADER_BYTES..))),
        _ => Err(damaged(dir, "a block has no rows")),
    }
}

/// Checks a block and shows its rows in order.
pub fn read(
    seal: &dyn Seal,
    dir: &Path,
    key: &[u8],
    value: &Bytes,
    memory: Memory,
    each: &mut dyn FnMut(Version) -> Result<(), Fault>,
) -> Result<Header, Fault> {
    let (header, rows) = header(seal, dir, key, value)?;
    let Some((_, first)) = envelope::parse_block_key(key) else {
        return Err(damaged(dir, "a key is not that of a block"));
    };
    let mut unpacker = Unpacker::new(rows, memory);
    let mut last: Option<At> = None;
    for _ in 0..header.rows {
        let row = unpacker.row().map_err(|what| damaged(dir, what))?;
        let in_order = last.map_or(row.at == first, |last| last < row.at);
        if !in_order {
            return Err(damaged(dir, "the rows of a block are out of order"));
        }
        last = Some(row.at);
        each(row)?;
    }
    if !unpacker.is_empty() || last != Some(header.last) {
        return Err(damaged(dir, "a block does not end with its last row"));
    }
    Ok(header)
}

/// Checks a block and takes it into memory.
pub fn load(seal: &dyn Seal, dir: &Path, key: &[u8], value: &Bytes) -> Result<Block, Fault> {
    let mut block = Block {
        rows: Vec::new(),
        bytes: value.len(),
    };
    read(seal, dir, key, value, Memory::Shared, &mut |row| {
        block.rows.push(Arc::new(row));
        Ok(())
    })?;
    Ok(block)
}
