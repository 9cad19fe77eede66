//! What belongs to a database as a whole: its settings, its comment, its grants, its owner. pg_dump writes them for the name
//! that the database had; they are given here to the one that it has now.
//!
//! What is always true: only the name changes. pg_dump doubles the quotes in its texts, so that a text ends at the first
//! quote that stands alone.

use postgres_protocol::escape::escape_identifier;

use super::connection::Connection;
use super::contents::Contents;
use super::roles::statements;
use super::source::Roles;

/// Gives the database `name` what a dump says of its own. What could not be done, and why.
pub(super) fn apply(connection: &Connection, contents: &Contents, name: &str, roles: Roles) -> Vec<String> {
    let name = escape_identifier(name);
    let texts = contents.entries().filter_map(|entry| entry.of_database.as_deref());
    let statements = texts.flat_map(statements).filter(|statement| roles == Roles::Kept || !is_of_a_role(statement));
    let failed = statements.filter_map(|statement| connection.ask(&renamed(statement, &name)).err());
    failed.map(|error| format!("of the database's own settings and grants: {error}")).collect()
}

/// Gives the database `name` the owner that it had. Why that could not be done.
pub(super) fn give_away(connection: &Connection, contents: &Contents, name: &str) -> Option<String> {
    let owner = contents.entries().find_map(|entry| entry.owner.as_deref()).filter(|owner| !owner.is_empty())?;
    let sql = format!("ALTER DATABASE {} OWNER TO {}", escape_identifier(name), escape_identifier(owner));
    connection.ask(&sql).err().map(|error| format!("the database does not belong to {owner}: {error}"))
}

/// A text of pg_dump's about a database, without its name: the same for the same settings of any.
pub(super) fn without_name(text: &str) -> String {
    renamed(text, "?")
}

/// Whether a statement names a role, which may not be there. What everybody may do is none's.
fn is_of_a_role(statement: &str) -> bool {
    let begins = |words: &[&str]| words.iter().any(|word| statement.starts_with(word));
    begins(&["ALTER ROLE ", "SET SESSION "]) || (begins(&["GRANT ", "REVOKE "]) && !statement.ends_with(" PUBLIC"))
}

/// The text with `name` wherever it names the database: after the word itself, where that is a word of the statement and
/// not somebody's name.
fn renamed(text: &str, name: &str) -> String {
    let is_word = |character: char| character.is_alphanumeric() || matches!(character, '_' | '$' | '.');
    let mut told = String::with_capacity(text.len());
    let (mut before, mut last) = ("", "");
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\'' | '"' => quoted_bytes(rest, first),
            first if is_word(first) => rest.find(|character| !is_word(character)).unwrap_or(rest.len()),
            other => other.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        let is_name = last == "DATABASE" && matches!(before, "ALTER" | "IN" | "ON");
        if is_name && (first == '"' || is_word(first)) {
            told.push_str(name);
            (before, last) = ("", "");
            continue;
        }
        told.push_str(token);
        if !first.is_whitespace() {
            (before, last) = (last, token);
        }
    }
    told
}

/// How long the quoted text is that `text` begins with. A doubled quote does not end it.
fn quoted_bytes(text: &str, quote: char) -> usize {
    let mut is_inside = false;
    for (at, character) in text.char_indices() {
        if character == quote {
            is_inside = !is_inside;
        } else if !is_inside {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_of_the_database_changes() {
        for (text, told) in [
            ("ALTER DATABASE app CONNECTION LIMIT = 7;", "ALTER DATABASE \"b\" CONNECTION LIMIT = 7;"),
            (
                "ALTER DATABASE \"a \"\"b\" SET \"my.x\" TO E'in DATABASE app; \\\\';\nALTER DATABASE \"a \"\"b\" SET x TO '';",
                "ALTER DATABASE \"b\" SET \"my.x\" TO E'in DATABASE app; \\\\';\nALTER DATABASE \"b\" SET x TO '';",
            ),
            (
                "ALTER ROLE database IN DATABASE app SET a TO 'ON DATABASE x';",
                "ALTER ROLE database IN DATABASE \"b\" SET a TO 'ON DATABASE x';",
            ),
            ("GRANT CONNECT ON DATABASE database TO database;", "GRANT CONNECT ON DATABASE \"b\" TO database;"),
            (
                "COMMENT ON DATABASE \"ä\" IS 'it''s ON DATABASE y';",
                "COMMENT ON DATABASE \"b\" IS 'it''s ON DATABASE y';",
            ),
        ] {
            assert_eq!(renamed(text, "\"b\""), told);
        }
        assert_eq!(without_name("COMMENT ON DATABASE a IS 'x';"), without_name("COMMENT ON DATABASE \"user\" IS 'x';"));
        assert_ne!(without_name("COMMENT ON DATABASE a IS 'x';"), without_name("COMMENT ON DATABASE a IS 'y';"));
    }

    #[test]
    fn what_everybody_may_do_needs_no_role() {
        assert!(!is_of_a_role("REVOKE CONNECT,TEMPORARY ON DATABASE a FROM PUBLIC"));
        assert!(!is_of_a_role("ALTER DATABASE a SET work_mem TO '7MB'"));
        assert!(
            is_of_a_role("GRANT CONNECT ON DATABASE a TO r") && is_of_a_role("ALTER ROLE r IN DATABASE a SET x TO 'y'")
        );
    }
}
