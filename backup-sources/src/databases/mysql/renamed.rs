//! A dump for a database of another name: `MariaDB` writes a sequence that a default or a view draws from with the name of its
//! database, and nothing else of a dump names it.
//!
//! Only those are renamed, where the server itself would read a function's name: `nextval(`, `lastval(` and `setval(` in a
//! `CREATE TABLE` or a view, outside of texts and quoted names. The same words in a comment, a text, a row or the body of a
//! routine stay, and so do sequences of other databases. Called with whole lines, in their order, without rows and routines.

use std::borrow::Cow;

use super::client::named;

/// What the name of a sequence stands behind.
const FUNCTIONS: [&[u8]; 3] = [b"nextval(", b"lastval(", b"setval("];

/// What a statement begins with in which such names may stand.
const STATEMENTS: [&[u8]; 2] = [b"CREATE TABLE `", b"/*!50001 VIEW `"];

/// Reads a dump's lines, and renames.
#[derive(Debug)]
pub(super) struct Renamed {
    /// The name in backticks, and the dot behind it.
    from: Vec<u8>,
    to: Vec<u8>,
    place: Place,
}

/// Where the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In no statement that matters.
    Outside,
    /// Among a statement's words.
    Words,
    /// In a text, or a name, that ends with this.
    Quoted(u8),
    /// Behind a backslash in such a text.
    Escape(u8),
}

impl Renamed {
    /// From the name that a database had to the one that it gets; `None` when they are the same.
    pub(super) fn new(from: &str, to: &str) -> Option<Self> {
        let with_dot = |name| format!("{}.", named(name)).into_bytes();
        (from != to).then(|| Self { from: with_dot(from), to: with_dot(to), place: Place::Outside })
    }

    /// A line of the dump, as it has to be.
    pub(super) fn line<'a>(&mut self, line: &'a [u8]) -> Cow<'a, [u8]> {
        if self.place == Place::Outside {
            if !STATEMENTS.iter().any(|beginning| line.starts_with(beginning)) {
                return Cow::Borrowed(line);
            }
            self.place = Place::Words;
        }
        let (mut renamed, mut copied, mut at) = (Vec::new(), 0, 0);
        while let Some(&byte) = line.get(at) {
            self.place = match (self.place, byte) {
                (Place::Words, b';') => {
                    self.place = Place::Outside;
                    break;
                }
                (Place::Words, b'`') if line[at..].starts_with(&self.from) && is_behind_function(&line[..at]) => {
                    renamed.extend_from_slice(&line[copied..at]);
                    renamed.extend_from_slice(&self.to);
                    at += self.from.len();
                    copied = at;
                    continue;
                }
                (Place::Words, quote @ (b'\'' | b'"' | b'`')) => Place::Quoted(quote),
                // One that is doubled ends the text and begins it again.
                (Place::Quoted(quote), byte) if byte == quote => Place::Words,
                (Place::Quoted(quote @ (b'\'' | b'"')), b'\\') => Place::Escape(quote),
                (Place::Escape(quote), _) => Place::Quoted(quote),
                (place, _) => place,
            };
            at += 1;
        }
        if copied == 0 {
            return Cow::Borrowed(line);
        }
        renamed.extend_from_slice(&line[copied..]);
        Cow::Owned(renamed)
    }

    /// A line was too long to be looked at: what its statement has after it stays as it is.
    pub(super) fn give_up(&mut self) {
        self.place = Place::Outside;
    }
}

/// Whether `before` ends with a function that takes a sequence, and not with something longer.
fn is_behind_function(before: &[u8]) -> bool {
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_$`.".contains(byte) || *byte >= 0x80;
    let names = FUNCTIONS.iter().filter_map(|function| before.strip_suffix(*function));
    names.into_iter().any(|rest| !rest.last().is_some_and(is_of_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(from: &str, to: &str, dump: &str) -> String {
        let mut renamed = Renamed::new(from, to).unwrap();
        dump.split_inclusive('\n')
            .map(|line| String::from_utf8(renamed.line(line.as_bytes()).into()).unwrap())
            .collect()
    }

    #[test]
    fn sequences_of_defaults_and_views_get_the_new_name() {
        let dump = "CREATE TABLE `t` (\n  `a` int(11) DEFAULT nextval(`app`.`s`),\n  `b` int(11) DEFAULT (1 + \
            lastval(`app`.`odd ``s`) + nextval(`app`.`s`))\n) ENGINE=InnoDB;\n/*!50001 VIEW `v` AS select \
            nextval(`app`.`s`) AS `n` */;\n";
        assert_eq!(renamed("app", "new", dump), dump.replace("(`app`.", "(`new`."));
        let odd = dump.replace("`app`", "`a``p; 'p`");
        assert_eq!(renamed("a`p; 'p", "new", &odd), dump.replace("(`app`.", "(`new`."));
        assert_eq!(renamed("app", "a`b", dump), dump.replace("(`app`.", "(`a``b`."));
        assert!(Renamed::new("app", "app").is_none());
    }

    #[test]
    fn the_same_words_elsewhere_stay() {
        for dump in [
            "CREATE TABLE `t` (\n  `a` int(11) COMMENT 'nextval(`app`.`s`) it''s \\\\ \\' nextval(`app`.`s`)',\n",
            "CREATE TABLE `t` (\n  `a` text DEFAULT concat('x\n) ENGINE;\n nextval(`app`.`s`)',\"nextval(`app`.`s`)\")\n",
            "CREATE TABLE `t` (\n  `e nextval(``app``.``s``)` int(11)\n) COMMENT='nextval(`app`.`s`)';\n",
            "CREATE TABLE `x``\n nextval(``app``.``s``)` (\n  `a` int DEFAULT nextval(`other`.`app`)\n);\n",
            "CREATE TABLE `t` (\n  `a` int DEFAULT mynextval(`app`.`s`) DEFAULT `x`.nextval(`app`.`s`), b nextval(`apple`.`s`)\n);\n",
            "CREATE TABLE `t` (\n  `a` int\n);\nSELECT nextval(`app`.`s`);\nDO SETVAL(`s`, 1, 0);\n",
            "/*!50001 VIEW `v` AS select 'nextval(`app`.`s`)' AS `nextval(``app``.``s``)` */; nextval(`app`.`s`)\n",
        ] {
            assert_eq!(renamed("app", "new", dump), dump);
        }
    }

    #[test]
    fn behind_a_line_that_was_too_long_nothing_is_renamed() {
        let mut renamed = Renamed::new("app", "new").unwrap();
        renamed.line(b"CREATE TABLE `t` (\n");
        renamed.give_up();
        let line = b"  `a` int DEFAULT nextval(`app`.`s`),\n";
        assert_eq!(&*renamed.line(line), line);
    }
}
