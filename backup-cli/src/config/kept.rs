//! What of a configuration is kept in the repositories: everything but secrets and comments, so that a bare machine
//! with the passphrase alone can tell what was backed up, from where, and whom to call.
//!
//! What is always true: no text that the file marks as a secret is in it, no value of the environment (`${NAME}` stays as
//! it is written), no comment, in which people leave old passwords. Commands are kept as they are: without them nobody
//! knows what made a dump (`docs/decisions/jobs.md`).

use std::ops::Range;

use backup_sources::databases::url::DatabaseUrl;
use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

/// What stands where a secret was.
const LEFT_OUT: &str = "(left out: a secret)";

/// The file again, without what stands at `secrets`.
pub(super) fn without_secrets(root: &Spanned<DeTable<'_>>, secrets: &[Range<usize>]) -> String {
    toml::to_string_pretty(&table(root.get_ref(), secrets)).unwrap_or_default()
}

fn table(table: &DeTable<'_>, secrets: &[Range<usize>]) -> Table {
    table.iter().map(|(name, value)| (name.get_ref().to_string(), kept(value, secrets))).collect()
}

fn kept(value: &Spanned<DeValue<'_>>, secrets: &[Range<usize>]) -> Value {
    let is_secret = secrets.contains(&value.span());
    match value.get_ref() {
        // A URL says more than its password.
        DeValue::String(text) if is_secret => match DatabaseUrl::parse(&**text) {
            Ok(url) => Value::String(url.to_string()),
            Err(_) => Value::String(LEFT_OUT.to_owned()),
        },
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::String(number.to_string()),
        },
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Value::Boolean(*flag),
        DeValue::Datetime(time) => Value::Datetime(*time),
        DeValue::Array(items) => Value::Array(items.iter().map(|item| kept(item, secrets)).collect()),
        DeValue::Table(inner) => Value::Table(table(inner, secrets)),
    }
}
