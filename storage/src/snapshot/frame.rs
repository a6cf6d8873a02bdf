//! Frames: the pieces of a snapshot file, each with its position, length and checksum.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use meridian_domain::revision::LogId;
use sha2::{Digest, Sha256};

use crate::disk::File;
use crate::fault::Fault;
use crate::history::packed::{Malformed, Memory, Unpacker};
use crate::seal::Seal;

pub const MAGIC: &[u8; 8] = b"MERIDSNP";

/// The format this version of the program writes, and the newest it reads.
pub const FORMAT: u32 = 1;

/// A chunk is closed once it has this many bytes.
pub const CHUNK_BYTES: usize = 1 << 20;

/// The most bytes the content of a frame may have: a full chunk and the largest record on top. A frame that
/// claims more is damaged; so reading can not be made to take more memory.
pub const CONTENT_BYTES_MAX: usize = 8 << 20;

const FILE_HEADER_BYTES: usize = 12;

/// Copies over etcd's API have a size that is a multiple of this.
const COPY_SECTOR_BYTES: u64 = 512;

const FRAME_HEADER_BYTES: usize = 13;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Which cluster, which position, which members.
    Head,
    /// Records.
    Chunk,
    /// Totals and the hash.
    Trailer,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Kind::Head => b'h',
            Kind::Chunk => b'c',
            Kind::Trailer => b't',
        }
    }
}

/// The first frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Which cluster.
    pub cluster: u64,
    /// The applied position.
    pub applied: LogId,
    /// The members, as Raft encodes them.
    pub membership: Option<Bytes>,
}

impl Head {
    /// As it stands in the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for number in [self.cluster, self.applied.term, self.applied.index] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.push(u8::from(self.membership.is_some()));
        out.extend_from_slice(self.membership.as_deref().unwrap_or_default());
        out
    }

    fn decode(content: &Bytes) -> Result<Self, Malformed> {
        let Some((numbers, rest)) = content.split_first_chunk::<24>() else {
            return Err("the head is too short");
        };
        let (numbers, _) = numbers.as_chunks::<8>();
        let [cluster, term, index] = *numbers else {
            return Err("the head is too short");
        };
        let membership = match rest.split_first() {
            Some((0, [])) => None,
            Some((1, _)) => Some(content.slice(25..)),
            _ => return Err("the head does not say whether there are members"),
        };
        let applied = LogId {
            term: u64::from_le_bytes(term),
            index: u64::from_le_bytes(index),
        };
        Ok(Self {
            cluster: u64::from_le_bytes(cluster),
            applied,
            membership,
        })
    }
}

/// The last frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trailer {
    /// How many chunks.
    pub chunks: u64,
    /// How many facts.
    pub facts: u64,
    /// How many versions.
    pub versions: u64,
    /// SHA-256 of everything before.
    pub hash: [u8; 32],
}

impl Trailer {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for number in [self.chunks, self.facts, self.versions] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.hash);
        out
    }

    fn decode(content: &[u8]) -> Result<Self, Malformed> {
        let Some((numbers, hash)) = content.split_first_chunk::<24>() else {
            return Err("the trailer is too short");
        };
        let (numbers, _) = numbers.as_chunks::<8>();
        let ([chunks, facts, versions], Ok(hash)) = (numbers, hash.try_into()) else {
            return Err("the trailer has another size");
        };
        let number = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
        Ok(Self {
            chunks: number(chunks),
            facts: number(facts),
            versions: number(versions),
            hash,
        })
    }
}

/// Writes frames one after another.
pub struct FrameWriter {
    file: Arc<dyn File>,
    seal: Arc<dyn Seal>,
    offset: u64,
    position: u32,
    hasher: Sha256,
}

impl FrameWriter {
    /// Begins an empty file with its head.
    pub fn begin(file: Arc<dyn File>, seal: Arc<dyn Seal>, head: &Head) -> Result<Self, Fault> {
        let mut start = MAGIC.to_vec();
        start.extend_from_slice(&FORMAT.to_le_bytes());
        file.write_at(&start, 0)?;
        let mut hasher = Sha256::new();
        hasher.update(&start);
        let mut writer = Self {
            file,
            seal,
            offset: start.len() as u64,
            position: 0,
            hasher,
        };
        writer.frame(Kind::Head, head.encode())?;
        Ok(writer)
    }

    /// Writes a frame.
    pub fn frame(&mut self, kind: Kind, content: Vec<u8>) -> Result<(), Fault> {
        if content.len() > CONTENT_BYTES_MAX {
            let what = format!(
                "a record of {} bytes is too large for a snapshot",
                content.len()
            );
            return Err(Fault::Inconsistent { what });
        }
        self.hasher
            .update(hashed_header(self.position, kind, content.len()));
        self.hasher.update(&content);
        let sealed = self.seal.seal(content.into());
        let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES + sealed.len());
        let header = hashed_header(self.position, kind, sealed.len());
        frame.extend_from_slice(&header);
        frame.extend_from_slice(&checksum(&header, &sealed).to_le_bytes());
        frame.extend_from_slice(&sealed);
        self.file.write_at(&frame, self.offset)?;
        self.offset += frame.len() as u64;
        self.position += 1;
        Ok(())
    }

    /// Writes the trailer and flushes the file. Returns its size and hash.
    pub fn finish(mut self, facts: u64, versions: u64) -> Result<(u64, [u8; 32]), Fault> {
        let hash: [u8; 32] = self.hasher.clone().finalize().into();
        let chunks = u64::from(self.position) - 1;
        let trailer = Trailer {
            chunks,
            facts,
            versions,
            hash,
        };
        self.frame(Kind::Trailer, trailer.encode())?;
        self.file.sync_all()?;
        Ok((self.offset, hash))
    }
}

/// Reads frames one after another, and checks each.
pub struct FrameReader<'a> {
    file: &'a dyn File,
    seal: &'a dyn Seal,
    size: u64,
    offset: u64,
    position: u32,
    hasher: Option<Sha256>,
}

/// What a file holds next.
pub enum Next {
    /// Records.
    Chunk(Unpacker),
    /// The end: the file holds nothing behind it, and the totals and the hash (if asked for) are right.
    End(Trailer),
}

impl<'a> FrameReader<'a> {
    /// Opens a file and reads its head. With `hash`, everything is hashed on the way and compared at the end.
    pub fn begin(
        file: &'a dyn File,
        seal: &'a dyn Seal,
        hash: bool,
    ) -> Result<(Self, Head), Fault> {
        let mut start = [0; FILE_HEADER_BYTES];
        file.read_exact_at(&mut start, 0)?;
        let format = match start.split_last_chunk::<4>() {
            Some((magic, format)) if magic == MAGIC => u32::from_le_bytes(*format),
            _ => return Err(damaged(file.path(), 0, "it is not a snapshot")),
        };
        if format > FORMAT {
            let path = file.path().to_path_buf();
            return Err(Fault::NewerFormat {
                path,
                found: format,
                known: FORMAT,
            });
        }
        if format != FORMAT {
            return Err(damaged(file.path(), 8, "its format is unknown"));
        }
        let hasher = hash.then(|| Sha256::new().chain_update(start));
        let size = file.size()?;
        let offset = FILE_HEADER_BYTES as u64;
        let mut reader = Self {
            file,
            seal,
            size,
            offset,
            position: 0,
            hasher,
        };
        let (kind, content) = reader.frame()?;
        if kind != Kind::Head.byte() {
            return Err(reader.damaged("it does not begin with its head"));
        }
        reader.hash(Kind::Head, &content);
        let head = Head::decode(&content).map_err(|what| reader.damaged(what))?;
        reader.position += 1;
        Ok((reader, head))
    }

    /// The next chunk, or the end. The rows of a chunk are in the memory asked for.
    pub fn next(&mut self, memory: Memory) -> Result<Next, Fault> {
        let (kind, content) = self.frame()?;
        if kind == Kind::Chunk.byte() {
            self.hash(Kind::Chunk, &content);
            self.position += 1;
            return Ok(Next::Chunk(Unpacker::new(content, memory)));
        }
        if kind != Kind::Trailer.byte() {
            return Err(self.damaged("a frame is of an unknown kind"));
        }
        let trailer = Trailer::decode(&content).map_err(|what| self.damaged(what))?;
        if self.offset != self.size && !self.ends_as_a_copy()? {
            return Err(self.damaged("something lies behind its end"));
        }
        if trailer.chunks != u64::from(self.position) - 1 {
            return Err(self.damaged("chunks are missing"));
        }
        if let Some(hasher) = self.hasher.take() {
            let hash: [u8; 32] = hasher.finalize().into();
            if hash != trailer.hash {
                return Err(self.damaged("its hash does not match"));
            }
        }
        Ok(Next::End(trailer))
    }

    /// Whether what follows is what a copy over etcd's API has at its end: zeroes up to a whole sector, and
    /// then, in files etcdctl wrote, a SHA-256 of all that. The snapshot verifies without it.
    fn ends_as_a_copy(&self) -> Result<bool, Fault> {
        let sector = self.offset.next_multiple_of(COPY_SECTOR_BYTES);
        if self.size != sector && self.size != sector + 32 {
            return Ok(false);
        }
        let mut padding = [0; COPY_SECTOR_BYTES as usize];
        let bytes = usize::try_from(sector - self.offset).unwrap_or(0);
        let Some(padding) = padding.get_mut(..bytes) else {
            return Ok(false);
        };
        self.file.read_exact_at(padding, self.offset)?;
        Ok(padding.iter().all(|byte| *byte == 0))
    }

    /// The fault of a file that does not verify, about where the reader stands.
    pub fn damaged(&self, what: &str) -> Fault {
        damaged(self.file.path(), self.offset, what)
    }

    /// Reads and checks the next frame, whatever it is.
    fn frame(&mut self) -> Result<(u8, Bytes), Fault> {
        let mut header = [0; FRAME_HEADER_BYTES];
        self.file.read_exact_at(&mut header, self.offset)?;
        let [p0, p1, p2, p3, kind, l0, l1, l2, l3, c0, c1, c2, c3] = header;
        let length = u64::from(u32::from_le_bytes([l0, l1, l2, l3]));
        let body = self.offset + FRAME_HEADER_BYTES as u64;
        // A seal may add a little.
        if length > self.size.saturating_sub(body) || length > 2 * CONTENT_BYTES_MAX as u64 {
            return Err(self.damaged("a frame is longer than the file"));
        }
        let mut sealed = vec![0; length as usize];
        self.file.read_exact_at(&mut sealed, body)?;
        let covered = [p0, p1, p2, p3, kind, l0, l1, l2, l3];
        if checksum(&covered, &sealed) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(self.damaged("the checksum of a frame does not match"));
        }
        if u32::from_le_bytes([p0, p1, p2, p3]) != self.position {
            return Err(self.damaged("a frame is not in its place"));
        }
        let content = self.seal.open(sealed.into())?;
        self.offset = body + length;
        Ok((kind, content))
    }

    fn hash(&mut self, kind: Kind, content: &[u8]) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(hashed_header(self.position, kind, content.len()));
            hasher.update(content);
        }
    }
}

fn hashed_header(position: u32, kind: Kind, length: usize) -> [u8; 9] {
    let [p0, p1, p2, p3] = position.to_le_bytes();
    let [l0, l1, l2, l3] = (length as u32).to_le_bytes();
    [p0, p1, p2, p3, kind.byte(), l0, l1, l2, l3]
}

fn checksum(header: &[u8; 9], sealed: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(sealed);
    hasher.finalize()
}

fn damaged(path: &Path, offset: u64, what: &str) -> Fault {
    Fault::Damaged {
        path: path.to_path_buf(),
        offset,
        what: what.into(),
    }
}
