//! Roles out of `globals.sql`: only those that a server does not have yet. What it has stays as it is, passwords above
//! all.

use std::collections::HashSet;

use super::connection::Connection;

/// Makes the roles of `text` that are missing. What could not be made, and why.
pub(super) fn make_missing(connection: &Connection, text: &str) -> backup_core::Result<Vec<String>> {
    let present = connection.ask("SELECT rolname FROM pg_catalog.pg_roles")?.into_iter().flatten().flatten().collect();
    let mut problems = Vec::new();
    for statement in wanted(text, &present) {
        if statement.text.contains(char::REPLACEMENT_CHARACTER) {
            let role = statement.role;
            problems.push(format!(
                "role {role}: what it is called or set to is not UTF-8: make it by hand, out of globals.sql"
            ));
            continue;
        }
        if let Err(error) = connection.ask(&statement.text) {
            // The statement itself may hold the hash of a password.
            problems.push(format!("role {}: {error}", statement.role));
        }
    }
    Ok(problems)
}

/// A statement about a role.
#[derive(Debug, PartialEq, Eq)]
struct Statement {
    role: String,
    text: String,
}

/// The statements of `text` that make, or are about, roles that are not `present`.
fn wanted(text: &str, present: &HashSet<String>) -> Vec<Statement> {
    let statements: Vec<&str> = statements(text);
    let named = |statement: &str, word: &str| identifier(statement.strip_prefix(word)?).map(|(name, _)| name);
    let made: HashSet<String> = statements
        .iter()
        .filter_map(|statement| named(statement, "CREATE ROLE "))
        .filter(|role| !present.contains(role))
        .collect();
    let about = |statement: &str| {
        let words = ["CREATE ROLE ", "ALTER ROLE ", "COMMENT ON ROLE "];
        let role = words.iter().find_map(|word| named(statement, word)).or_else(|| of_parameter(statement));
        if let Some(role) = role {
            return made.contains(&role).then_some(role);
        }
        // GRANT role TO member …: memberships; either of them may be new.
        let (granted, rest) = identifier(statement.strip_prefix("GRANT ")?)?;
        let (member, _) = identifier(rest.strip_prefix(" TO ")?)?;
        (made.contains(&member) || made.contains(&granted)).then_some(member)
    };
    let kept = statements.into_iter().filter_map(|statement| {
        Some(Statement { role: about(statement)?, text: without_grantor(statement).to_owned() })
    });
    kept.collect()
}

/// The role that may set a parameter: `GRANT SET ON PARAMETER parameter TO role`.
fn of_parameter(statement: &str) -> Option<String> {
    let (_, granted) = statement.strip_prefix("GRANT ")?.split_once(" ON PARAMETER ")?;
    let (_, rest) = identifier(granted)?;
    identifier(rest.strip_prefix(" TO ")?).map(|(role, _)| role)
}

/// A membership without who granted it: that role may not be there, and it does not matter.
fn without_grantor(statement: &str) -> &str {
    let is_grant = statement.starts_with("GRANT ");
    statement.rsplit_once(" GRANTED BY ").filter(|_| is_grant).map_or(statement, |(grant, _)| grant)
}

/// An identifier at the beginning of `text`, and what follows it.
fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', ';']).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let end = rest.find('"')?;
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, rest)),
        }
    }
}

/// The statements of a script, without comments, psql's own commands and their semicolons.
pub(super) fn statements(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut start, mut quote) = (0, None);
    let mut at = 0;
    let bytes = text.as_bytes();
    while at < bytes.len() {
        let at_line = at == start || bytes[at - 1] == b'\n';
        match (quote, bytes[at]) {
            (None, b'\\' | b'-') if at_line && text[start..at].trim().is_empty() => {
                at = text[at..].find('\n').map_or(bytes.len(), |end| at + end + 1);
                start = at;
                continue;
            }
            (None, byte @ (b'\'' | b'"')) => quote = Some(byte),
            (Some(open), byte) if open == byte => quote = None,
            (None, b';') => {
                found.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"--
-- PostgreSQL database cluster dump
--

\restrict abc

SET default_transaction_read_only = off;

CREATE ROLE here;
ALTER ROLE here WITH SUPERUSER PASSWORD 'x';
CREATE ROLE "new; ""one""";
ALTER ROLE "new; ""one""" WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:a;b''c';
ALTER ROLE "new; ""one""" SET search_path TO 'a
b';
GRANT here TO "new; ""one""" WITH INHERIT TRUE GRANTED BY postgres;
GRANT pg_monitor TO here;
COMMENT ON ROLE here IS 'x';
COMMENT ON ROLE "new; ""one""" IS 'it''s; new';
GRANT SET ON PARAMETER work_mem TO here;
GRANT SET,ALTER SYSTEM ON PARAMETER "my.x" TO "new; ""one""" WITH GRANT OPTION;
CREATE TABLESPACE fast OWNER here LOCATION '/x';

\unrestrict abc
"#;

    #[test]
    fn only_missing_roles_are_made_with_what_belongs_to_them() {
        let present = ["here".to_owned()].into();
        let texts: Vec<_> = wanted(TEXT, &present).into_iter().map(|statement| statement.text).collect();
        assert_eq!(
            texts,
            [
                r#"CREATE ROLE "new; ""one""""#,
                r#"ALTER ROLE "new; ""one""" WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:a;b''c'"#,
                "ALTER ROLE \"new; \"\"one\"\"\" SET search_path TO 'a\nb'",
                r#"GRANT here TO "new; ""one""" WITH INHERIT TRUE"#,
                r#"COMMENT ON ROLE "new; ""one""" IS 'it''s; new'"#,
                r#"GRANT SET,ALTER SYSTEM ON PARAMETER "my.x" TO "new; ""one""" WITH GRANT OPTION"#,
            ]
        );
        assert!(wanted(TEXT, &["here".to_owned(), "new; \"one\"".to_owned()].into()).is_empty());
        assert!(wanted("", &HashSet::new()).is_empty());
    }
}
