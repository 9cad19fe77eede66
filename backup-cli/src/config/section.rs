//! One table of a configuration, read key by key.
//!
//! Whoever reads asks for each key by its name and type; [`Section::finish`] then knows which keys nobody asked for, and
//! which of the known ones each is nearest to. A table may stand before another from which the keys come that it does
//! not have: a job before the defaults.

use std::cell::RefCell;
use std::ops::Range;

use jiff::SignedDuration;
use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::Document;
use super::{length, secret};
use crate::secrets::origin::Origin;

/// A table.
#[derive(Clone)]
pub(super) struct Section<'d> {
    document: &'d Document<'d>,
    path: String,
    table: &'d DeTable<'d>,
    span: Range<usize>,
    /// What was asked for.
    known: RefCell<Vec<&'static str>>,
    /// Where keys come from that are not here.
    fallback: Option<Box<Section<'d>>>,
}

/// A value, and where it stands.
#[derive(Clone)]
pub(super) struct Value<'d> {
    document: &'d Document<'d>,
    /// The key in full.
    pub(super) path: String,
    value: &'d DeValue<'d>,
    span: Range<usize>,
}

impl<'d> Section<'d> {
    pub(super) fn new(document: &'d Document<'d>, path: String, table: &'d DeTable<'d>, span: Range<usize>) -> Self {
        Self { document, path, table, span, known: RefCell::default(), fallback: None }
    }

    /// The same; keys that are not here come from `fallback`.
    pub(super) fn or(mut self, fallback: Option<&Section<'d>>) -> Self {
        self.fallback = fallback.cloned().map(Box::new);
        self
    }

    /// Where keys come from that are not here.
    pub(super) fn fallback(&self) -> Option<&Section<'d>> {
        self.fallback.as_deref()
    }

    /// The value of a key, of any type.
    pub(super) fn value(&self, key: &'static str) -> Option<Value<'d>> {
        if !self.known.borrow().contains(&key) {
            self.known.borrow_mut().push(key);
        }
        let found = self.table.get(key).map(|value| self.at(key, value));
        found.or_else(|| self.fallback.as_ref()?.value(key))
    }

    /// Whether it has a key of its own.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// A text.
    pub(super) fn text(&self, key: &'static str) -> Option<String> {
        self.value(key)?.text()
    }

    /// A text that has to be there.
    pub(super) fn required(&self, key: &'static str, example: &str) -> Option<String> {
        if self.value(key).is_none() {
            self.fault(format!("{key} is missing"), Some(format!("write {key} = {example}")));
        }
        self.text(key)
    }

    /// A list of texts; empty when it is not there.
    pub(super) fn texts(&self, key: &'static str) -> Vec<String> {
        self.value(key).map(|value| value.texts()).unwrap_or_default()
    }

    /// Yes or no.
    pub(super) fn flag(&self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        match value.value {
            DeValue::Boolean(flag) => Some(*flag),
            _ => value.wrong("true or false"),
        }
    }

    /// A whole number.
    pub(super) fn number(&self, key: &'static str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let value = self.value(key)?;
        match value.integer() {
            Some(number) if range.contains(&number) => Some(number),
            _ => value.wrong(&format!("a number from {} to {}", range.start(), range.end())),
        }
    }

    /// A length of time, as `26h` or `30d`.
    pub(super) fn duration(&self, key: &'static str) -> Option<SignedDuration> {
        self.parsed(key, length::parse)
    }

    /// A length of time that is not nothing.
    pub(super) fn some_time(&self, key: &'static str) -> Option<SignedDuration> {
        self.parsed(key, |text| match length::parse(text)? {
            length if length.is_positive() => Ok(length),
            _ => Err("this is no time at all: write 15min, or leave it away".to_owned()),
        })
    }

    /// A text that means something.
    pub(super) fn parsed<T, E: ToString>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        self.value(key)?.parsed(parse)
    }

    /// One of several words.
    pub(super) fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let value = self.value(key)?;
        let text = value.text()?;
        value.one_of(&text, words)
    }

    /// Something that nobody else may see.
    pub(super) fn secret(&self, key: &'static str) -> Option<Origin> {
        secret::read(&self.value(key)?)
    }

    /// A table. When this one and the one behind it both have it, the one before the other.
    pub(super) fn section(&self, key: &'static str) -> Option<Section<'d>> {
        let behind = self.fallback.as_ref().and_then(|fallback| fallback.section(key));
        self.value(key);
        match self.table.get(key) {
            Some(value) => Some(self.at(key, value).section()?.or(behind.as_ref())),
            None => behind,
        }
    }

    /// A table of tables that people have named, in their order. Names are words.
    pub(super) fn named(&self, key: &'static str) -> Vec<(String, Section<'d>)> {
        let Some(section) = self.value(key).and_then(|value| value.section()) else { return Vec::new() };
        section.entries().into_iter().filter_map(|(name, value)| Some((name, value.section()?))).collect()
    }

    /// All its values with the names that people gave them, in their order.
    pub(super) fn entries(&self) -> Vec<(String, Value<'d>)> {
        let named = self.table.iter().filter_map(|(name, value)| {
            let value = self.at(name.get_ref(), value);
            if is_name(name.get_ref()) {
                return Some((name.get_ref().to_string(), value));
            }
            let hint =
                Some(String::from("letters, digits, -, _ and . make a name, which begins with a letter or digit"));
            self.document.fault(&name.span(), &value.path, "this is no name", hint);
            None
        });
        named.collect()
    }

    /// A list of tables, or of what stands for one.
    pub(super) fn list(&self, key: &'static str) -> Option<Vec<Value<'d>>> {
        let value = self.value(key)?;
        match value.value {
            DeValue::Array(_) => Some(value.items()),
            _ => value.wrong("a list"),
        }
    }

    /// Notes that something is wrong with the table as a whole.
    pub(super) fn fault(&self, what: impl Into<String>, hint: Option<String>) {
        self.document.fault(&self.span, &self.path, what, hint);
    }

    /// Notes every key that nobody has asked for.
    pub(super) fn finish(&self) {
        let known = self.known.borrow();
        #[cfg(test)]
        self.document.note_known(&self.path, &known);
        for (name, _) in self.table {
            let name_text = name.get_ref().as_ref();
            if !known.contains(&name_text) {
                let path = joined(&self.path, name_text);
                let hint = inside(name_text, &known).unwrap_or_else(|| nearest(name_text, &known));
                self.document.fault(&name.span(), &path, "there is no such key", Some(hint));
            }
        }
    }

    fn at(&self, key: &str, value: &'d Spanned<DeValue<'d>>) -> Value<'d> {
        let path = joined(&self.path, key);
        Value { document: self.document, path, value: value.get_ref(), span: value.span() }
    }
}

impl<'d> Value<'d> {
    /// A text, its variables put in.
    pub(super) fn text(&self) -> Option<String> {
        match self.value {
            DeValue::String(text) => self.document.expanded(text, &self.span, &self.path),
            _ => self.wrong("a text in quotes"),
        }
    }

    /// Whether it is a text.
    pub(super) fn is_text(&self) -> bool {
        self.value.is_str()
    }

    /// A list of texts.
    pub(super) fn texts(&self) -> Vec<String> {
        match self.value {
            DeValue::Array(_) => self.items().iter().filter_map(Value::text).collect(),
            _ => self.wrong("a list of texts, as [\"one\", \"two\"]").unwrap_or_default(),
        }
    }

    /// Its parts.
    pub(super) fn items(&self) -> Vec<Value<'d>> {
        let DeValue::Array(items) = self.value else { return Vec::new() };
        let item = |(number, item): (usize, &'d Spanned<DeValue<'d>>)| Value {
            document: self.document,
            path: format!("{}[{number}]", self.path),
            value: item.get_ref(),
            span: item.span(),
        };
        items.iter().enumerate().map(item).collect()
    }

    /// A table.
    pub(super) fn section(&self) -> Option<Section<'d>> {
        match self.value {
            DeValue::Table(table) => Some(Section::new(self.document, self.path.clone(), table, self.span.clone())),
            _ => self.wrong("a table, as { key = \"value\" }"),
        }
    }

    /// Whether it is a table.
    pub(super) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    /// A whole number.
    pub(super) fn integer(&self) -> Option<i64> {
        let integer = self.value.as_integer()?;
        i64::from_str_radix(integer.as_str(), integer.radix()).ok()
    }

    /// A number.
    pub(super) fn decimal(&self) -> Option<f64> {
        match self.value {
            DeValue::Float(number) => number.as_str().parse().ok(),
            DeValue::Integer(number) => number.as_str().parse().ok(),
            _ => None,
        }
    }

    /// Yes or no.
    pub(super) fn flag(&self) -> Option<bool> {
        self.value.as_bool()
    }

    /// A text that means something.
    pub(super) fn parsed<T, E: ToString>(&self, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        parse(&self.text()?).map_err(|error| self.fault(error.to_string(), None)).ok()
    }

    /// One of several words.
    pub(super) fn one_of<T: Copy>(&self, text: &str, words: &[(&str, T)]) -> Option<T> {
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.fault(format!("{text:?} is none of the words for it"), Some(nearest(text, &known)));
        }
        found.map(|(_, meaning)| *meaning)
    }

    /// Notes that something is wrong with it.
    pub(super) fn fault(&self, what: impl Into<String>, hint: Option<String>) {
        self.document.fault(&self.span, &self.path, what, hint);
    }

    /// Notes that nobody else may see it.
    pub(super) fn keep_secret(&self) {
        self.document.keep_secret(&self.span);
    }

    /// Notes that it is of another type than expected.
    pub(super) fn wrong<T>(&self, expected: &str) -> Option<T> {
        self.fault(format!("this is {}, and {expected} is needed", kind(self.value)), None);
        None
    }
}

/// Keys of a table in this one, which people write a step too far out.
const INNER: [(&str, &str, &[&str]); 2] = [
    ("objectives", "", &["rpo", "rto", "verified_within", "drilled_within"]),
    ("retention", "REPOSITORY = ", &["last", "within", "hourly", "daily", "weekly", "monthly", "yearly"]),
];

/// What to say of a key that belongs into a table of this one.
fn inside(key: &str, known: &[&str]) -> Option<String> {
    let (table, of, _) = INNER.iter().find(|(table, _, keys)| known.contains(table) && keys.contains(&key))?;
    Some(match *of {
        "" => format!("it belongs into {table} = {{ {key} = … }}"),
        of => format!("it belongs into {table} = {{ {of}{{ {key} = … }} }}"),
    })
}

/// What to say of a word that is not known.
pub(super) fn nearest(word: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&word.to_lowercase(), known), *known))
        .filter(|(distance, known)| *distance <= known.len().max(word.len()) / 2)
        .min();
    match near {
        Some((_, near)) => format!("{near} is the nearest of those that there are"),
        None => {
            let mut known = known.to_vec();
            known.sort_unstable();
            format!("known are: {}", known.join(", "))
        }
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Names become tags, parts of keys in stores, and labels of metrics.
fn is_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|character| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.'))
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_named_where_one_is_near() {
        let known = ["schedule", "source", "retention", "retries"];
        assert!(nearest("shedule", &known).starts_with("schedule is"));
        assert!(nearest("Retension", &known).starts_with("retention is"));
        assert_eq!(nearest("xyz", &known), "known are: retention, retries, schedule, source");
    }

    #[test]
    fn names_are_words() {
        for name in ["app-db", "a", "9", "a.b_c"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "-a", ".a", "a/b", "a b", "é", "a,b"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
