//! Checkpoints: what is signed about a tree, as C2SP `tlog-checkpoint` writes it.
//!
//! ```text
//!   meridian/7f3a/tenant/1          origin: which tree of which cluster
//!   20852163                        how many leaves
//!   CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//!                                   an empty line ends the text
//!   — meridian/7f3a Az3grl..        signatures, made and checked elsewhere
//! ```
//!
//! What is signed is the text up to the empty line, without it.

use crate::audit::tree::Hash;

/// The longest text that is read, in bytes.
pub const BYTES_MAX: usize = 16 * 1024;

/// The most signatures on one.
pub const SIGNATURES_MAX: usize = 16;

/// What is said about a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which tree.
    pub origin: String,
    /// How many leaves.
    pub size: u64,
    /// Its root.
    pub root: Hash,
}

/// A line under the text: a name and what it signed with, in base64 as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The name of the key.
    pub name: String,
    /// Key hash and signature.
    pub value: Vec<u8>,
}

impl Checkpoint {
    /// The text that is signed.
    pub fn text(&self) -> String {
        format!(
            "{}\n{}\n{}\n",
            self.origin,
            self.size,
            base64::encode(&self.root)
        )
    }

    /// The whole note.
    pub fn note(&self, signatures: &[Signature]) -> String {
        let mut note = self.text();
        note.push('\n');
        for Signature { name, value } in signatures {
            note.push_str(&format!("\u{2014} {name} {}\n", base64::encode(value)));
        }
        note
    }

    /// Reads a note; none if it is not exactly one. Whether a signature holds is for whoever has the key.
    pub fn parse(note: &str) -> Option<(Self, Vec<Signature>)> {
        if note.len() > BYTES_MAX {
            return None;
        }
        let (text, signed) = note.split_once("\n\n")?;
        let mut lines = text.split('\n');
        let origin = lines.next().filter(|line| is_name(line, true))?.to_owned();
        let size_text = lines.next()?;
        let size: u64 = size_text.parse().ok()?;
        let root: Hash = base64::decode(lines.next()?)?.try_into().ok()?;
        // Lines of other kinds may follow by the standard; ours has none, and what is not ours is not read.
        if lines.next().is_some() || size.to_string() != size_text {
            return None;
        }
        let mut signatures = vec![];
        for line in signed
            .strip_suffix('\n')
            .into_iter()
            .flat_map(|s| s.split('\n'))
        {
            let (name, value) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
            if !is_name(name, false) || signatures.len() == SIGNATURES_MAX {
                return None;
            }
            signatures.push(Signature {
                name: name.to_owned(),
                value: base64::decode(value)?,
            });
        }
        if signatures.is_empty() && !signed.is_empty() {
            return None;
        }
        Some((Self { origin, size, root }, signatures))
    }
}

fn is_name(name: &str, spaces: bool) -> bool {
    !name.is_empty()
        && !name
            .chars()
            .any(|c| c.is_control() || c == '+' || (c.is_whitespace() && !(spaces && c == ' ')))
}

/// Base64 with padding (RFC 4648, 4), exact: one text per value.
mod base64 {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    pub(super) fn encode(bytes: &[u8]) -> String {
        let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
        for chunk in bytes.chunks(3) {
            let word = chunk
                .iter()
                .chain(&[0, 0])
                .take(3)
                .fold(0usize, |word, byte| word << 8 | usize::from(*byte));
            for place in 0..4 {
                let digit = DIGITS.get(word >> (18 - 6 * place) & 63);
                match digit {
                    Some(digit) if place <= chunk.len() => text.push(char::from(*digit)),
                    _ => text.push('='),
                }
            }
        }
        text
    }

    pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
        let mut bytes = vec![];
        for chunk in text.as_bytes().chunks(4) {
            let used = chunk.iter().take_while(|byte| **byte != b'=').count();
            let mut word = 0usize;
            for place in 0..4 {
                let digit = match chunk.get(place)? {
                    b'=' if place >= used => 0,
                    byte => DIGITS.iter().position(|digit| digit == byte)?,
                };
                word = word << 6 | digit;
            }
            let taken = used.checked_sub(1).filter(|taken| *taken > 0)?;
            let whole = [(word >> 16) as u8, (word >> 8) as u8, word as u8];
            bytes.extend(whole.into_iter().take(taken));
        }
        // Padding in the middle, and digits beyond the last byte, have other spellings.
        (encode(&bytes) == text).then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The example of the standard, without its last line of another kind.
    const EXAMPLE: &str = "example.com/behind-the-sofa\n\
        20852163\n\
        CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\
        \n\
        \u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n";

    #[test]
    fn the_example_of_the_standard_is_read_and_written() {
        let (checkpoint, signatures) = Checkpoint::parse(EXAMPLE).unwrap();
        assert_eq!(checkpoint.origin, "example.com/behind-the-sofa");
        assert_eq!(checkpoint.size, 20_852_163);
        assert_eq!(signatures.len(), 1);
        assert_eq!(checkpoint.note(&signatures), EXAMPLE);
        assert!(EXAMPLE.starts_with(&checkpoint.text()));
    }

    #[test]
    fn anything_else_is_refused() {
        let text = Checkpoint {
            origin: "o".into(),
            size: 7,
            root: [0; 32],
        }
        .note(&[]);
        assert!(Checkpoint::parse(&text).is_some());
        let bad = [
            text.replace("7\n", "07\n"),
            text.replace("7\n", "+7\n"),
            text.replace("7\n", "-7\n"),
            text.replace("o\n", "\n"),
            text.replace('=', ""),
            text.replace("AAA=", "AAB="),
            text.replace("\n\n", "\n"),
            text.replace("\n\n", "\nmore\n\n"),
            format!("{text}\u{2014} name\n"),
            format!("{text}\u{2014} name AAAA"),
            format!("{text}-- name AAAA\n"),
            format!("{text}\n"),
        ];
        for bad in bad {
            assert_eq!(Checkpoint::parse(&bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_note_comes_back_as_it_was(
            size in any::<u64>(),
            root in any::<[u8; 32]>(),
            values in vec(vec(any::<u8>(), 1..80), 0..4),
        ) {
            let checkpoint = Checkpoint { origin: "meridian/1/tenant/2".into(), size, root };
            let signature = |value| Signature { name: "meridian/1".into(), value };
            let signatures: Vec<_> = values.into_iter().map(signature).collect();
            let note = checkpoint.note(&signatures);
            prop_assert_eq!(Checkpoint::parse(&note), Some((checkpoint, signatures)));
        }

        #[test]
        fn rubbish_is_never_a_panic(text in "\\PC{0,200}") {
            let _ = Checkpoint::parse(&text);
        }
    }
}
