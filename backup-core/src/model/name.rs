//! A file name's first layer of spelling: Go's `strconv.Quote` without the outer quotes.
//!
//! Names are bytes, JSON is Unicode; restic lays this spelling between them so that any name survives. What is written
//! here must equal what restic writes, or unchanged folders get new ids; what is read may be any spelling that Go's
//! `strconv.Unquote` takes.

use std::borrow::Cow;

/// The spelling of `name`; borrowed when it needs none.
pub(super) fn quote(name: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = str::from_utf8(name)
        && text.bytes().all(|byte| matches!(byte, 0x20..=0x7e) && byte != b'"' && byte != b'\\')
    {
        return Cow::Borrowed(text);
    }
    let mut quoted = String::with_capacity(name.len() + 8);
    for piece in name.utf8_chunks() {
        for character in piece.valid().chars() {
            match character {
                '"' => quoted.push_str("\\\""),
                '\\' => quoted.push_str("\\\\"),
                '\x07' => quoted.push_str("\\a"),
                '\x08' => quoted.push_str("\\b"),
                '\x0c' => quoted.push_str("\\f"),
                '\n' => quoted.push_str("\\n"),
                '\r' => quoted.push_str("\\r"),
                '\t' => quoted.push_str("\\t"),
                '\x0b' => quoted.push_str("\\v"),
                ' '..='~' => quoted.push(character),
                '\0'..='\x1f' | '\x7f' => push_hex(&mut quoted, "\\x", character.into(), 2),
                _ if is_print(character) => quoted.push(character),
                _ if u32::from(character) < 0x1_0000 => push_hex(&mut quoted, "\\u", character.into(), 4),
                _ => push_hex(&mut quoted, "\\U", character.into(), 8),
            }
        }
        for byte in piece.invalid() {
            push_hex(&mut quoted, "\\x", u32::from(*byte), 2);
        }
    }
    Cow::Owned(quoted)
}

/// The name that `quoted` spells, or `None` when it spells none.
pub(super) fn unquote(quoted: &str) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(quoted.len());
    let mut rest = quoted;
    while let Some(at) = rest.find(['\\', '"', '\n']) {
        name.extend_from_slice(&rest.as_bytes()[..at]);
        // A bare quote or newline ends a Go string: restic cannot read such a name, so it is none.
        let escape = rest[at..].strip_prefix('\\')?;
        let letter = escape.chars().next()?;
        rest = &escape[letter.len_utf8()..];
        match letter {
            'a' => name.push(0x07),
            'b' => name.push(0x08),
            'f' => name.push(0x0c),
            'n' => name.push(b'\n'),
            'r' => name.push(b'\r'),
            't' => name.push(b'\t'),
            'v' => name.push(0x0b),
            '\\' => name.push(b'\\'),
            '"' => name.push(b'"'),
            'x' => name.push(u8::try_from(digits(&mut rest, 2, 16)?).ok()?),
            'u' => push_char(&mut name, digits(&mut rest, 4, 16)?)?,
            'U' => push_char(&mut name, digits(&mut rest, 8, 16)?)?,
            '0'..='7' => {
                rest = escape;
                name.push(u8::try_from(digits(&mut rest, 3, 8)?).ok()?);
            }
            _ => return None,
        }
    }
    name.extend_from_slice(rest.as_bytes());
    Some(name)
}

fn push_hex(text: &mut String, prefix: &str, value: u32, digits: usize) {
    use std::fmt::Write;
    text.push_str(prefix);
    // Writing to a string cannot fail.
    let _ = write!(text, "{value:0digits$x}");
}

fn push_char(name: &mut Vec<u8>, value: u32) -> Option<()> {
    let character = char::from_u32(value)?;
    name.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Some(())
}

fn digits(rest: &mut &str, count: usize, radix: u32) -> Option<u32> {
    let (digits, tail) = rest.split_at_checked(count)?;
    if !digits.bytes().all(|byte| char::from(byte).is_digit(radix)) {
        return None;
    }
    *rest = tail;
    u32::from_str_radix(digits, radix).ok()
}

/// Go's `unicode.IsPrint` beyond ASCII: letters, marks, numbers, punctuation and symbols; no separators, no controls,
/// no format characters, nothing unassigned.
///
/// Rust's `Debug` of a character escapes very nearly the same set, from newer Unicode tables than any given restic
/// was built with; it also escapes combining marks at the start of a text, which is why the character is preceded by
/// a letter here.
fn is_print(character: char) -> bool {
    let text: String = ['a', character].into_iter().collect();
    let mut escaped = text.escape_debug().skip(1);
    let printable = escaped.next() == Some(character) && escaped.next().is_none();
    printable && !character.is_whitespace()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_spelled_as_go_spells_them() {
        for (name, quoted) in [
            (b"plain name.txt".as_slice(), "plain name.txt"),
            (b"it's", "it's"),
            (b"say \"hi\"", "say \\\"hi\\\""),
            (b"back\\slash", "back\\\\slash"),
            (b"\x07\x08\x0c\n\r\t\x0b", "\\a\\b\\f\\n\\r\\t\\v"),
            (b"\x00\x1f\x7f", "\\x00\\x1f\\x7f"),
            (b"caf\xc3\xa9", "caf\u{e9}"),
            (b"caf\xe9", "caf\\xe9"),
            (b"\xc3", "\\xc3"),
            ("a\u{301}".as_bytes(), "a\u{301}"),
            ("\u{301}".as_bytes(), "\u{301}"),
            ("\u{a0}".as_bytes(), "\\u00a0"),
            ("\u{3000}".as_bytes(), "\\u3000"),
            ("\u{200b}".as_bytes(), "\\u200b"),
            ("\u{ad}".as_bytes(), "\\u00ad"),
            ("\u{feff}".as_bytes(), "\\ufeff"),
            ("\u{e000}".as_bytes(), "\\ue000"),
            ("\u{e0001}".as_bytes(), "\\U000e0001"),
            ("\u{1f600}".as_bytes(), "\u{1f600}"),
            ("\u{fffd}".as_bytes(), "\u{fffd}"),
            (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
        ] {
            assert_eq!(quote(name), quoted);
            assert_eq!(unquote(quoted).as_deref(), Some(name));
        }
    }

    #[test]
    fn what_go_would_not_read_is_no_name() {
        for quoted in ["\"", "a\nb", "\\", "\\q", "\\'", "\\x1", "\\xg0", "\\ud800", "\\U00110000", "\\400", "\\x+1"] {
            assert_eq!(unquote(quoted), None, "{quoted}");
        }
    }

    proptest! {
        #[test]
        fn every_name_reads_back(name in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(unquote(&quote(&name)), Some(name));
        }

        #[test]
        fn every_text_reads_back(name in any::<String>()) {
            prop_assert_eq!(unquote(&quote(name.as_bytes())), Some(name.into_bytes()));
        }
    }
}
