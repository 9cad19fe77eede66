//! Whether a user may see all of a database. Who may not is shown a smaller one, and told nothing: a dump of it would
//! look whole.

use std::collections::BTreeSet;

/// Without these a dump fails or is not whole.
const NEEDED: [&str; 4] = ["SELECT", "SHOW VIEW", "TRIGGER", "EVENT"];

/// What a user may do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rights {
    /// On every database.
    everywhere: BTreeSet<String>,
    /// On the database.
    here: BTreeSet<String>,
    /// Taken back on the database, of those on every one: MySQL's partial revokes.
    not_here: BTreeSet<String>,
    /// Whether the routines of everybody can be read.
    routines: bool,
}

/// The question for the rights of who asks, with those of the roles that are active, as `CURRENT_ROLE()` names them. MySQL
/// does not tell these otherwise; `MariaDB` does.
pub(super) fn with_roles(roles: &str) -> Option<String> {
    // A list of quoted names, as it has to be written here.
    roles.starts_with('`').then(|| format!("SHOW GRANTS FOR CURRENT_USER() USING {roles}"))
}

impl Rights {
    /// What the lines of `SHOW GRANTS` say of `database`.
    pub(super) fn of(lines: &[String], database: &str) -> Self {
        let mut rights = Self::default();
        for line in lines {
            if let Some((revoked, on)) = line.strip_prefix("REVOKE ").and_then(|rest| rest.split_once(" ON "))
                && let Some((scope, _)) = on.split_once(" FROM ").and_then(|(on, _)| split_name(on))
            {
                // No pattern: these are for one database each.
                if scope == database {
                    rights.not_here.extend(revoked.split(", ").map(|word| word.trim().to_ascii_uppercase()));
                }
                continue;
            }
            let Some((granted, on)) = line.strip_prefix("GRANT ").and_then(|rest| rest.split_once(" ON ")) else {
                continue;
            };
            let Some((on, _)) = on.split_once(" TO ") else { continue };
            // "TABLE" and the like stand before the name of what is not a table.
            let (scope, table) = match split_name(on) {
                Some(parts) => parts,
                None => continue,
            };
            let words = granted.split(", ").map(|word| word.trim().to_ascii_uppercase());
            if table != "*" {
                // A table of its own is a part; the one that matters is where MariaDB keeps its routines.
                rights.routines |= (scope.as_str(), table.as_str()) == ("mysql", "proc") && granted.contains("SELECT");
                continue;
            }
            match scope.as_str() {
                "*" => rights.everywhere.extend(words),
                "mysql" if database != "mysql" => {
                    rights.routines |= words.into_iter().any(|word| is_all(&word) || word == "SELECT");
                }
                pattern if fits(pattern, database) => rights.here.extend(words),
                _ => {}
            }
        }
        rights
    }

    /// The rights that are missing, of those without which a dump is not whole.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        NEEDED.into_iter().filter(|right| !self.has(right)).collect()
    }

    /// Whether routines that others defined can be read.
    pub(super) fn sees_routines(&self) -> bool {
        self.routines
            || ["SELECT", "SHOW_ROUTINE"].iter().any(|right| self.has_everywhere(right))
            || self.has("SHOW CREATE ROUTINE")
    }

    /// Whether the place in the binary log can be asked for in `MariaDB`'s way, which holds nobody up.
    pub(super) fn sees_log(&self) -> bool {
        ["REPLICATION CLIENT", "BINLOG MONITOR", "SUPER"].iter().any(|right| self.has_everywhere(right))
    }

    /// Whether writers can be held up for the moment in which a server of MySQL says its place.
    pub(super) fn may_pause(&self) -> bool {
        self.has_everywhere("RELOAD")
    }

    fn has(&self, right: &str) -> bool {
        let is_taken_back = self.not_here.iter().any(|word| word == right || is_all(word));
        (self.has_everywhere(right) && !is_taken_back) || self.here.iter().any(|word| word == right || is_all(word))
    }

    fn has_everywhere(&self, right: &str) -> bool {
        self.everywhere.iter().any(|word| word == right || is_all(word))
    }
}

fn is_all(word: &str) -> bool {
    matches!(word, "ALL" | "ALL PRIVILEGES")
}

/// The two parts of `` `db`.`table` ``, without their quotes.
fn split_name(on: &str) -> Option<(String, String)> {
    let start = on.find(['`', '*', '"'])?;
    let mut parts = Vec::new();
    let mut rest = &on[start..];
    loop {
        let (part, after) = match rest.chars().next()? {
            quote @ ('`' | '"') => {
                let (mut part, mut characters) = (String::new(), rest[1..].char_indices().peekable());
                let end = loop {
                    match characters.next()? {
                        (at, character) if character == quote => match characters.peek() {
                            Some((_, next)) if *next == quote => {
                                characters.next();
                                part.push(quote);
                            }
                            _ => break at + 2,
                        },
                        (_, character) => part.push(character),
                    }
                };
                (part, &rest[end..])
            }
            _ => {
                let end = rest.find('.').unwrap_or(rest.len());
                (rest[..end].trim().to_owned(), &rest[end..])
            }
        };
        parts.push(part);
        match after.strip_prefix('.') {
            Some(after) => rest = after,
            None => break,
        }
    }
    let mut parts = parts.into_iter();
    Some((parts.next()?, parts.next()?))
}

/// Whether a pattern of GRANT names the database: `%` for anything, `_` for a character, a backslash before either.
fn fits(pattern: &str, name: &str) -> bool {
    let mut pattern_characters = pattern.chars();
    match pattern_characters.next() {
        None => name.is_empty(),
        Some('%') => {
            let rest = pattern_characters.as_str();
            name.char_indices().map(|(at, _)| at).chain([name.len()]).any(|at| fits(rest, &name[at..]))
        }
        Some(wanted) => {
            let (wanted, is_any) = match wanted {
                '\\' => (pattern_characters.next().unwrap_or('\\'), false),
                '_' => ('_', true),
                other => (other, false),
            };
            let mut name_characters = name.chars();
            name_characters.next().is_some_and(|found| is_any || found == wanted)
                && fits(pattern_characters.as_str(), name_characters.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(lines: &[&str]) -> Rights {
        Rights::of(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>(), "my_app")
    }

    #[test]
    fn rights_on_a_whole_database_count_and_those_on_a_table_do_not() {
        let needed = "SELECT, SHOW VIEW, TRIGGER, EVENT";
        for on in ["*.*", "`my_app`.*", "`my\\_app`.*", "`my%`.*"] {
            assert_eq!(rights(&[&format!("GRANT {needed} ON {on} TO `u`@`%`")]).missing(), [""; 0], "{on}");
        }
        for on in ["`my_app`.`t`", "`other`.*", "`my\\_ap`.*"] {
            assert_eq!(rights(&[&format!("GRANT {needed} ON {on} TO `u`@`%`")]).missing().len(), 4, "{on}");
        }
        assert_eq!(rights(&["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION"]).missing(), [""; 0]);
        let some = rights(&["GRANT USAGE ON *.* TO `u`@`%`", "GRANT SELECT, EVENT ON `my_app`.* TO `u`@`%`"]);
        assert_eq!(some.missing(), ["SHOW VIEW", "TRIGGER"]);
    }

    #[test]
    fn the_roles_of_mysql_are_asked_for_and_none_is_no_role() {
        assert_eq!(with_roles("NONE"), None);
        let question = "SHOW GRANTS FOR CURRENT_USER() USING `r`@`%`,`s`@`localhost`";
        assert_eq!(with_roles("`r`@`%`,`s`@`localhost`").as_deref(), Some(question));
    }

    #[test]
    fn what_was_taken_back_on_a_database_is_missing_there() {
        let all = "GRANT SELECT, SHOW VIEW, TRIGGER, EVENT ON *.* TO `u`@`%`";
        assert_eq!(rights(&[all, "REVOKE SELECT, EVENT ON `my_app`.* FROM `u`@`%`"]).missing(), ["SELECT", "EVENT"]);
        assert_eq!(rights(&[all, "REVOKE SELECT ON `other`.* FROM `u`@`%`"]).missing(), [""; 0]);
        let again = "GRANT SELECT ON `my_app`.* TO `u`@`%`";
        assert_eq!(rights(&[all, again, "REVOKE SELECT ON `my_app`.* FROM `u`@`%`"]).missing(), [""; 0]);
    }

    #[test]
    fn routines_of_others_take_a_right_of_their_own() {
        assert!(!rights(&["GRANT ALL PRIVILEGES ON `other`.* TO `u`@`%`"]).sees_routines());
        for line in [
            "GRANT SELECT ON `mysql`.`proc` TO `u`@`%`",
            "GRANT SELECT ON *.* TO `u`@`%`",
            "GRANT SHOW_ROUTINE ON *.* TO `u`@`%`",
            "GRANT SELECT ON `mysql`.* TO `u`@`%`",
        ] {
            assert!(rights(&[line]).sees_routines(), "{line}");
        }
    }
}
