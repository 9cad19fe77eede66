//! `COPY schema.table (a, "b, c") FROM stdin;`, as it stands in a table of contents: which table's rows follow, and in which
//! order their fields stand.

/// The schema and the name of the table, without quotes. It is another than that of its entry where pg_dump gives the rows of
/// a partition to the whole table, because they may belong to another partition once they are restored.
pub(super) fn table(copy: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (schema, rest) = identifier(copy.strip_prefix(b"COPY ")?)?;
    let (name, _) = identifier(rest.strip_prefix(b".")?)?;
    Some((schema, name))
}

/// The names of the columns, still quoted.
pub(super) fn columns(copy: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut names = vec![Vec::new()];
    let (mut is_quoted, mut is_inside) = (false, false);
    for &byte in copy {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b'(' if !is_quoted && !is_inside => {
                is_inside = true;
                continue;
            }
            b')' if !is_quoted && is_inside => return Some(names),
            b',' if !is_quoted && is_inside => {
                names.push(Vec::new());
                continue;
            }
            b' ' if !is_quoted => continue,
            _ => {}
        }
        if is_inside {
            names.last_mut()?.push(byte);
        }
    }
    None
}

/// An identifier at the beginning of `text`, without its quotes, and what follows it.
fn identifier(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(mut rest) = text.strip_prefix(b"\"") else {
        let end = text.iter().position(|byte| matches!(byte, b'.' | b' ' | b';')).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_vec(), &text[end..]));
    };
    let mut name = Vec::new();
    loop {
        let end = memchr::memchr(b'"', rest)?;
        name.extend_from_slice(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix(b"\"") {
            // A quote in a name is doubled.
            Some(more) => {
                name.push(b'"');
                rest = more;
            }
            None => return Some((name, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_however_it_is_quoted() {
        let read = |text: &str| {
            let (schema, name) = table(text.as_bytes())?;
            Some((String::from_utf8(schema).unwrap(), String::from_utf8(name).unwrap()))
        };
        let pair = |schema: &str, name: &str| Some((schema.to_owned(), name.to_owned()));
        assert_eq!(read("COPY public.t (a, b) FROM stdin;\n"), pair("public", "t"));
        assert_eq!(read("COPY \"a. b\".\"c \"\" (d)\" (a) FROM stdin;\n"), pair("a. b", "c \" (d)"));
        assert_eq!(read("COPY public.none FROM stdin;\n"), pair("public", "none"));
        assert_eq!((read("COPY t (a)"), read("INSERT"), read("COPY \"a")), (None, None, None));
    }

    #[test]
    fn the_columns_are_read_however_they_are_quoted() {
        assert_eq!(
            columns(b"COPY \"s (\".t (a, \"b, c\") FROM stdin;"),
            Some(vec![b"a".to_vec(), b"\"b, c\"".to_vec()])
        );
        assert_eq!(columns(b"COPY s.t FROM stdin;"), None);
    }
}
