//! The header block of a HEADERS frame, as far as it must be understood to find the authority (RFC 7541, section 6).
//!
//! ```text
//!   1xxxxxxx             a whole entry of a table
//!   01xxxxxx name value  a literal that becomes an entry       x = 0: the name is spelled out, else an entry's
//!   0000xxxx name value  one that does not;  0001xxxx  never
//!   001xxxxx             the size of the table
//! ```

use http::uri::Authority;

use super::huffman;

/// The frame's payload begins with the length of padding at its end.
const PADDED: u8 = 0x8;
/// ... and goes on with five bytes of priority.
const PRIORITY: u8 = 0x20;
/// The entry of the static table whose name is `:authority`.
const AUTHORITY: usize = 1;

/// A field's value, where it stands in the block.
struct Literal {
    /// Where its length begins.
    at: usize,
    /// Where it ends.
    end: usize,
    /// Its octets, decoded; none if they were no text that could be decoded.
    value: Option<Vec<u8>>,
}

/// The payload with its authority mended; none if there is nothing to mend.
pub fn mend(payload: &[u8], flags: u8) -> Option<Vec<u8>> {
    let mut at = 0;
    if flags & PADDED != 0 {
        at += 1;
    }
    if flags & PRIORITY != 0 {
        at += 5;
    }
    let literal = authority(payload, at)?;
    let value = literal.value?;
    if value.is_empty() || Authority::try_from(value.as_slice()).is_ok() {
        return None;
    }
    let mut mended = payload.get(..literal.at)?.to_vec();
    put_length(&mut mended, value.len());
    mended.extend(value.into_iter().map(|octet| match octet {
        b'.' | b'-' => octet,
        other if other.is_ascii_alphanumeric() => other,
        _ => b'-',
    }));
    mended.extend_from_slice(payload.get(literal.end..)?);
    Some(mended)
}

/// The first literal that says what the authority is.
fn authority(block: &[u8], mut at: usize) -> Option<Literal> {
    loop {
        let first = *block.get(at)?;
        let bits = match first {
            0x80.. => {
                (_, at) = number(block, at, 7)?;
                continue;
            }
            0x40.. => 6,
            0x20.. => {
                (_, at) = number(block, at, 5)?;
                continue;
            }
            _ => 4,
        };
        let (name, after) = number(block, at, bits)?;
        at = after;
        if name == 0 {
            at = literal(block, at)?.end;
        }
        let value = literal(block, at)?;
        if name == AUTHORITY {
            return Some(value);
        }
        at = value.end;
    }
}

/// A number in the low bits of an octet, going on in the next ones (section 5.1), and where it ends.
fn number(block: &[u8], mut at: usize, bits: u8) -> Option<(usize, usize)> {
    let full = (1 << bits) - 1;
    let mut value = usize::from(*block.get(at)?) & full;
    at += 1;
    if value < full {
        return Some((value, at));
    }
    // No length in a frame needs more than three octets.
    for shift in [0, 7, 14] {
        let octet = *block.get(at)?;
        at += 1;
        value += usize::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Some((value, at));
        }
    }
    None
}

fn literal(block: &[u8], at: usize) -> Option<Literal> {
    let compressed = block.get(at)? & 0x80 != 0;
    let (length, begin) = number(block, at, 7)?;
    let octets = block.get(begin..begin + length)?;
    let value = if compressed {
        huffman::decode(octets)
    } else {
        Some(octets.to_vec())
    };
    Some(Literal {
        at,
        end: begin + length,
        value,
    })
}

/// The length of octets that are not compressed.
fn put_length(block: &mut Vec<u8>, length: usize) {
    let Some(mut left) = length.checked_sub(0x7f) else {
        block.push(length as u8);
        return;
    };
    block.push(0x7f);
    while left >= 0x80 {
        block.push(left as u8 | 0x80);
        left >>= 7;
    }
    block.push(left as u8);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn mended(block: &[u8]) -> Option<Vec<u8>> {
        mend(block, 0)
    }

    #[test]
    fn only_an_authority_that_is_none_is_touched() {
        assert_eq!(mended(b"\x83\x41\x09host:2379"), None);
        assert_eq!(mended(b"\x83\x41\x0a[::1]:2379"), None);
        assert_eq!(mended(b"\x83\x41\x00"), None);
        // Another field with the same value.
        assert_eq!(mended(b"\x83\x44\x0bhttp://h:80"), None);
        assert_eq!(mended(b"\x83\x40\x01x\x0bhttp://h:80"), None);
        let never_indexed = mended(b"\x83\x11\x0bhttp://h:80\x86").unwrap();
        assert_eq!(never_indexed, b"\x83\x11\x0bhttp---h-80\x86");
        let after_another = mended(b"\x3f\x01\x44\x01/\x41\x0b#initially=\x86").unwrap();
        assert_eq!(after_another, b"\x3f\x01\x44\x01/\x41\x0b-initially-\x86");
    }

    #[test]
    fn padding_and_priority_stay_where_they_are() {
        let block = b"\x02PRIOR\x41\x0bhttp://h:80\0\0";
        let whole = mend(block, PADDED | PRIORITY).unwrap();
        assert_eq!(whole, b"\x02PRIOR\x41\x0bhttp---h-80\0\0");
    }

    #[test]
    fn a_long_name_keeps_its_length() {
        for length in [126, 127, 128, 254, 255, 256, 5000] {
            let mut block = vec![0x41];
            put_length(&mut block, length);
            block.extend(std::iter::repeat_n(b'/', length));
            let whole = mended(&block).unwrap();
            assert_eq!(whole.len(), block.len());
            assert!(whole.ends_with(&b"-".repeat(length)));
        }
    }

    proptest! {
        #[test]
        fn a_block_that_is_cut_or_rubbish_is_no_panic(block in any::<Vec<u8>>(), flags in any::<u8>()) {
            let _ = mend(&block, flags);
        }

        #[test]
        fn mending_twice_is_mending_once(name in "[ -~]{1,200}") {
            let mut block = vec![0x41];
            put_length(&mut block, name.len());
            block.extend_from_slice(name.as_bytes());
            if let Some(once) = mended(&block) {
                prop_assert_eq!(mended(&once), None);
            }
        }
    }
}
