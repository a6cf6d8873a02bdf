//! HPACK's code for octets (RFC 7541, appendix B), for the printable ones.
//!
//! The code is canonical: shorter codes first, equally long ones in the order of their octets. So which octets have
//! how many bits says everything. Octets with more than fifteen bits are in no authority anybody means.

/// Bits, and the octets with a code of so many, in order.
const LENGTHS: &[(u32, &[u8])] = &[
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b"!\"()?"),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\0$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
];

/// The octets a text stands for; none if one of them is not among the printable ones, or the padding is wrong.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len() * 8 / 5);
    // Bits that were read and are not decoded yet, and how many.
    let (mut pending, mut count) = (0_u32, 0_u32);
    for byte in text {
        pending = pending << 8 | u32::from(*byte);
        count += 8;
        while let Some((octet, bits)) = first(pending, count) {
            octets.push(octet);
            count -= bits;
            pending &= (1 << count) - 1;
        }
        if count > 15 {
            return None;
        }
    }
    // Padded with ones, fewer than an octet.
    (count < 8 && pending == (1 << count) - 1).then_some(octets)
}

/// The octet whose code the first of `count` bits are, and how long it is.
fn first(pending: u32, count: u32) -> Option<(u8, u32)> {
    let (mut code, mut length) = (0_u32, 0_u32);
    for (bits, octets) in LENGTHS {
        if *bits > count {
            return None;
        }
        code <<= bits - length;
        length = *bits;
        let found = (pending >> (count - bits)).checked_sub(code);
        if let Some(octet) = found.and_then(|place| octets.get(place as usize)) {
            return Some((*octet, *bits));
        }
        code += octets.len() as u32;
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    /// The other way, as slowly as can be.
    fn encode(octets: &[u8]) -> Vec<u8> {
        let mut bits = vec![];
        for octet in octets {
            let (mut code, mut length) = (0_u32, 0);
            for (count, all) in LENGTHS {
                code <<= count - length;
                length = *count;
                if let Some(place) = all.iter().position(|one| one == octet) {
                    let code = code + place as u32;
                    bits.extend((0..*count).rev().map(|bit| code >> bit & 1));
                    break;
                }
                code += all.len() as u32;
            }
        }
        bits.chunks(8)
            .map(|eight| {
                (0..8).fold(0, |byte, bit| {
                    byte << 1 | eight.get(bit).map_or(1, |b| *b as u8)
                })
            })
            .collect()
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        let example = [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ];
        assert_eq!(decode(&example).unwrap(), b"www.example.com");
        assert_eq!(
            decode(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]).unwrap(),
            b"no-cache"
        );
        let date = [
            0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b,
            0x81, 0x66, 0xe0, 0x82, 0xa6, 0x2d, 0x1b, 0xff,
        ];
        assert_eq!(decode(&date).unwrap(), b"Mon, 21 Oct 2013 20:13:21 GMT");
        let url = [
            0x9d, 0x29, 0xad, 0x17, 0x18, 0x63, 0xc7, 0x8f, 0x0b, 0x97, 0xc8, 0xe9, 0xae, 0x82,
            0xae, 0x43, 0xd3,
        ];
        assert_eq!(decode(&url).unwrap(), b"https://www.example.com");
    }

    #[test]
    fn wrong_padding_and_long_codes_are_refused() {
        assert_eq!(decode(&[0x00]), None);
        assert_eq!(decode(&[0xff]), None);
        assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff]), None);
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_read(text in "[ -\\[\\]-~]{0,60}") {
            prop_assert_eq!(decode(&encode(text.as_bytes())), Some(text.into_bytes()));
        }

        #[test]
        fn rubbish_is_no_panic(bytes in any::<Vec<u8>>()) {
            let _ = decode(&bytes);
        }
    }
}
