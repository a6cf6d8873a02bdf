//! The syntax of a transaction: words with quotes, and compares.
//!
//! ```text
//! compare  :=  target ( "key" ) relation "operand"
//! target   :=  value val | version ver | create c | mod m | lease
//! relation :=  = != < >
//! word     :=  bare | 'as it is' | "with \n \t \r \\ \" and \xNN"
//! ```

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use meridian_client::Compare;

/// Cuts a line into words. Quoted parts may hold blanks; in double quotes escapes are resolved.
pub(super) fn words(line: &str) -> Result<Vec<OsString>, String> {
    let mut words = vec![];
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, after) = word(rest, char::is_whitespace)?;
        words.push(OsString::from_vec(word));
        rest = after.trim_start();
    }
    Ok(words)
}

/// The first word of `text` up to where `ends` says, and what follows.
fn word(text: &str, ends: impl Fn(char) -> bool) -> Result<(Vec<u8>, &str), String> {
    let mut word = vec![];
    let mut quote: Option<char> = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (None, c) if ends(c) => return Ok((word, text.get(at..).unwrap_or_default())),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (Some('"'), '\\') => word.push(escape(&mut chars)?),
            (_, c) => word.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    match quote {
        Some(quote) => Err(format!(
            "{text:?} has an opening {quote} without a closing one"
        )),
        None => Ok((word, "")),
    }
}

/// The byte an escape stands for, its backslash already read.
fn escape(chars: &mut std::str::CharIndices<'_>) -> Result<u8, String> {
    let mut next = || chars.next().map(|(_, c)| c);
    match next() {
        Some('n') => Ok(b'\n'),
        Some('t') => Ok(b'\t'),
        Some('r') => Ok(b'\r'),
        Some('0') => Ok(0),
        Some(c @ ('\\' | '"' | '\'')) => u8::try_from(c).map_err(|e| e.to_string()),
        Some('x') => {
            let digits: String = next().into_iter().chain(next()).collect();
            u8::from_str_radix(&digits, 16)
                .map_err(|_| format!("\\x{digits} is not an escape such as \\x0a"))
        }
        other => Err(format!("\\{} is not an escape", other.unwrap_or(' '))),
    }
}

/// Reads a compare.
pub(super) fn compare(line: &str) -> Result<Compare, String> {
    let wrong =
        |what: &str| format!("{line:?} is not a compare such as 'mod(\"key\") = \"7\"': {what}");
    let (target, rest) = line
        .trim()
        .split_once('(')
        .ok_or_else(|| wrong("no ( was found"))?;
    let (key, rest) = word(rest, |c| c == ')').map_err(|error| wrong(&error))?;
    let rest = rest
        .strip_prefix(')')
        .ok_or_else(|| wrong("no ) was found"))?
        .trim_start();
    if key.is_empty() {
        return Err(wrong("the key is empty"));
    }
    let relations = ["!=", "=", "<", ">"];
    let (relation, rest) = relations
        .iter()
        .find_map(|relation| Some((*relation, rest.strip_prefix(relation)?)))
        .ok_or_else(|| wrong("after the key comes one of = != < >"))?;
    let (operand, after) =
        word(rest.trim_start(), char::is_whitespace).map_err(|error| wrong(&error))?;
    if !after.trim().is_empty() {
        return Err(wrong(
            "something follows the operand; put quotes around blanks",
        ));
    }
    let target = target.trim();
    if matches!(target, "value" | "val") {
        let value = Compare::value(key);
        return Ok(match relation {
            "=" => value.equals(operand),
            "!=" => value.differs(operand),
            "<" => value.below(operand),
            _ => value.above(operand),
        });
    }
    let text = String::from_utf8(operand).map_err(|_| wrong("the operand is not a number"))?;
    let number = match target {
        "lease" => super::super::lease::parse_id(&text).map_err(|error| wrong(&error))?,
        _ => text
            .trim()
            .parse()
            .map_err(|_| wrong("the operand is not a number"))?,
    };
    let side = match target {
        "version" | "ver" => Compare::version(key),
        "create" | "c" => Compare::create_revision(key),
        "mod" | "m" => Compare::mod_revision(key),
        "lease" => Compare::lease(key),
        _ => {
            return Err(wrong(
                "the target is one of value, version, create, mod, lease",
            ));
        }
    };
    Ok(match relation {
        "=" => side.equals(number),
        "!=" => side.differs(number),
        "<" => side.below(number),
        _ => side.above(number),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(line: &str) -> Vec<Vec<u8>> {
        words(line)
            .expect("words")
            .into_iter()
            .map(OsString::into_vec)
            .collect()
    }

    #[test]
    fn words_are_cut_at_blanks_outside_quotes() {
        assert_eq!(cut("  put a  b "), [b"put", &b"a"[..], b"b"]);
        assert_eq!(cut("put 'a b' \"c d\""), [b"put", &b"a b"[..], b"c d"]);
        assert_eq!(cut("a\"b c\"d ''"), [&b"ab cd"[..], b""]);
        assert_eq!(cut(""), Vec::<Vec<u8>>::new());
        assert!(words("a 'b").is_err());
    }

    #[test]
    fn escapes_are_resolved_in_double_quotes_only() {
        assert_eq!(cut(r#""a\nb\x00\xff\"\\""#), [b"a\nb\x00\xff\"\\"]);
        assert_eq!(cut(r"'a\n'"), [br"a\n"]);
        for bad in [r#""\q""#, r#""\x4""#, r#""\xzz""#, r#""\"#] {
            assert!(words(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn compares_mean_what_they_say() {
        let cases = [
            (r#"value("a") = "x""#, Compare::value("a").equals("x")),
            ("val(a) != x", Compare::value("a").differs("x")),
            (r#"mod("a b") > "0""#, Compare::mod_revision("a b").above(0)),
            ("m(a) < 5", Compare::mod_revision("a").below(5)),
            (
                r#"create("a)") = "0""#,
                Compare::create_revision("a)").equals(0),
            ),
            ("c(a)=3", Compare::create_revision("a").equals(3)),
            ("ver(a) = 2", Compare::version("a").equals(2)),
            ("version( a\t) > 2", Compare::version(" a\t").above(2)),
            ("lease(a) = 7b", Compare::lease("a").equals(0x7b)),
        ];
        for (line, expected) in cases {
            assert_eq!(compare(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_is_not_a_compare_is_refused_with_the_reason() {
        for (line, reason) in [
            ("mod a = 1", "no ( "),
            ("mod(a = 1", "no ) "),
            ("mod(a) ~ 1", "= != < >"),
            ("mod(a) = one", "not a number"),
            ("size(a) = 1", "the target is"),
            ("mod() = 1", "key is empty"),
            ("val(a) = x y", "quotes"),
            ("val(\"a) = x", "closing"),
        ] {
            let error = compare(line).expect_err(line);
            assert!(error.contains(reason), "{line}: {error}");
        }
    }
}
