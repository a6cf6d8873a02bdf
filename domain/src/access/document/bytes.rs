//! The bytes of documents.
//!
//! ```text
//!   number    7 bits at a time, lowest first; the top bit says that more follow; no byte more than needed
//!   text      its length in bytes as a number, then UTF-8
//!   bytes     its length as a number, then the bytes
//!   flag      a byte, 0 or 1
//!   option    a flag, then the thing
//!   list      its length as a number, then each
//! ```

use bytes::Bytes;

/// Writes a document.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn finish(self) -> Bytes {
        self.0.into()
    }

    /// One byte.
    pub fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    /// Bytes whose number both sides know.
    pub fn plain(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// A number.
    pub fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    /// A flag.
    pub fn flag(&mut self, flag: bool) {
        self.0.push(u8::from(flag));
    }

    /// Bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.plain(bytes);
    }

    /// Text.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Something that may be absent.
    pub fn option<T>(&mut self, option: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.flag(option.is_some());
        if let Some(thing) = option {
            write(self, thing);
        }
    }

    /// Many of something.
    pub fn list<T>(&mut self, list: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.number(list.len() as u64);
        for one in list {
            write(self, one);
        }
    }
}

/// Reads a document. Every method answers none at the first byte that does not fit.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Bytes whose number both sides know.
    pub fn plain<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    /// A number.
    pub fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                let padded = byte == 0 && shift > 0;
                return (!padded).then_some(number);
            }
        }
        None
    }

    /// A number of 32 bits.
    pub fn short(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    /// A flag.
    pub fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// Bytes, a copy.
    pub fn bytes(&mut self) -> Option<Bytes> {
        self.slice().map(Bytes::copy_from_slice)
    }

    fn slice(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (first, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(first)
    }

    /// Text.
    pub fn text(&mut self) -> Option<Box<str>> {
        std::str::from_utf8(self.slice()?).ok().map(Box::from)
    }

    /// Something that may be absent.
    pub fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? {
            read(self).map(Some)
        } else {
            Some(None)
        }
    }

    /// Many of something. Each takes at least a byte, so the list is no longer than what is left.
    pub fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let length = usize::try_from(self.number()?).ok()?;
        if length > self.0.len() {
            return None;
        }
        let mut list = vec![];
        for _ in 0..length {
            list.push(read(self)?);
        }
        Some(list)
    }
}
