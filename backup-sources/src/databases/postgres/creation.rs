//! A new database, made as the one was that was dumped.

use std::time::Duration;

use backup_core::Result;
use postgres_protocol::escape::{escape_identifier, escape_literal};
use serde_json::{Map, Value};

use super::connection::Connection;

/// Creates the database with the encoding and the locale that a manifest's details tell. When the server does not have
/// the locale it is made with the server's own, and what a person should know of that is returned. `limit` is how long the
/// server may take.
pub(super) fn create(
    connection: &Connection,
    name: &str,
    details: &Map<String, Value>,
    limit: Option<Duration>,
) -> Result<Option<String>> {
    let Statements { as_it_was, with_own_locale } = Statements::new(name, details);
    let Err(refused) = connection.ask_within(limit, &as_it_was) else { return Ok(None) };
    connection.ask_within(limit, &with_own_locale).map_err(|_| refused)?;
    let detail = |name: &str| details.get(name).and_then(|value| value.as_str());
    let locale = detail("locale").or_else(|| detail("collate")).unwrap_or("?");
    let rules = detail("icu_rules").map(|rules| format!(" with the rules {rules}")).unwrap_or_default();
    Ok(Some(format!("the server does not have the locale {locale}{rules}: texts may be sorted in another way")))
}

/// How a database is made.
#[derive(Debug, PartialEq, Eq)]
struct Statements {
    as_it_was: String,
    /// With the server's locale.
    with_own_locale: String,
}

impl Statements {
    fn new(name: &str, details: &Map<String, Value>) -> Self {
        let detail = |name: &str| details.get(name).and_then(|value| value.as_str());
        let mut sql = format!("CREATE DATABASE {} TEMPLATE template0", escape_identifier(name));
        let clause = |words: &str, value: &str| format!(" {words} {}", escape_literal(value));
        if let Some(encoding) = detail("encoding") {
            sql.push_str(&clause("ENCODING", encoding));
        }
        let mut as_it_was = sql.clone();
        for (words, name) in [("LC_COLLATE", "collate"), ("LC_CTYPE", "ctype")] {
            as_it_was.extend(detail(name).map(|value| clause(words, value)));
        }
        let of_provider: &[_] = match detail("locale_provider") {
            // What changes the order of texts beside the locale, since 16.
            Some("i") => &[("LOCALE_PROVIDER icu ICU_LOCALE", "locale"), ("ICU_RULES", "icu_rules")],
            Some("b") => &[("LOCALE_PROVIDER builtin BUILTIN_LOCALE", "locale")],
            _ => &[],
        };
        for (words, name) in of_provider {
            as_it_was.extend(detail(name).map(|value| clause(words, value)));
        }
        Self { as_it_was, with_own_locale: sql }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn as_it_was(details: &Value) -> String {
        Statements::new("a\"b", details.as_object().unwrap()).as_it_was
    }

    #[test]
    fn a_database_is_made_with_everything_that_orders_its_texts() {
        let begins = r#"CREATE DATABASE "a""b" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"#;
        let mut details = json!({"encoding": "UTF8", "collate": "C", "ctype": "C", "locale_provider": "c",
            "locale": null, "icu_rules": null, "bytes": 7});
        assert_eq!(as_it_was(&details), begins);
        details["locale_provider"] = "i".into();
        details["locale"] = "de-DE".into();
        let by_icu = format!("{begins} LOCALE_PROVIDER icu ICU_LOCALE 'de-DE'");
        assert_eq!(as_it_was(&details), by_icu);
        details["icu_rules"] = "&V << 'w' <<< W".into();
        assert_eq!(as_it_was(&details), format!("{by_icu} ICU_RULES '&V << ''w'' <<< W'"));
        details["locale_provider"] = "b".into();
        assert_eq!(as_it_was(&details), format!("{begins} LOCALE_PROVIDER builtin BUILTIN_LOCALE 'de-DE'"));
        // Manifests of before have nothing of it.
        assert_eq!(as_it_was(&json!({})), r#"CREATE DATABASE "a""b" TEMPLATE template0"#);
    }
}
