//! The text of a configuration while it is read: where each value stands, what was wrong with it, and which values are
//! secrets.
//!
//! What is always true: everything wrong is found in one reading, each with its line and key; no message repeats the
//! value of a secret.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use serde_spanned::Spanned;
use toml::de::DeTable;

use super::section::Section;

/// Gives the value of an environment variable; `None` when it is not set.
pub(crate) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// One thing that is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fault {
    /// The line, counted from 1.
    pub(crate) line: usize,
    /// The key in full, as `jobs.uploads.schedule`; empty where there is none.
    pub(crate) key: String,
    /// What is wrong.
    pub(crate) what: String,
    /// What to do.
    pub(crate) hint: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.key.is_empty() { "" } else { ": " };
        write!(f, "{}: {}{separator}{}", self.line, self.key, self.what)
    }
}

/// A text that is being read.
pub(super) struct Document<'a> {
    text: &'a str,
    variables: Variables<'a>,
    faults: RefCell<BTreeSet<Fault>>,
    /// Where the values stand that nobody else may see.
    secrets: RefCell<Vec<Range<usize>>>,
}

impl<'a> Document<'a> {
    /// A text, and the variables that its values may name.
    pub(super) fn new(text: &'a str, variables: Variables<'a>) -> Self {
        Self { text, variables, faults: RefCell::default(), secrets: RefCell::default() }
    }

    /// Its syntax, or what is wrong with it.
    pub(super) fn parse(&self) -> Result<Spanned<DeTable<'a>>, Fault> {
        DeTable::parse(self.text).map_err(|error| Fault {
            line: error.span().map_or(1, |span| self.line(span.start)),
            key: String::new(),
            what: format!("not TOML: {}", error.message().replace('\n', ", ")),
            hint: Some(String::from("texts are quoted, tables begin with [name], lists stand in [ ]")),
        })
    }

    /// The whole, to be read key by key.
    pub(super) fn root<'d>(&'d self, table: &'d Spanned<DeTable<'a>>) -> Section<'d> {
        Section::new(self, String::new(), table.get_ref(), table.span())
    }

    /// Notes that something is wrong at `span`.
    pub(super) fn fault(&self, span: &Range<usize>, key: &str, what: impl Into<String>, hint: Option<String>) {
        let fault = Fault { line: self.line(span.start), key: key.to_owned(), what: what.into(), hint };
        self.faults.borrow_mut().insert(fault);
    }

    /// Notes that the value at `span` is nobody else's business.
    pub(super) fn keep_secret(&self, span: &Range<usize>) {
        self.secrets.borrow_mut().push(span.clone());
    }

    /// Where secrets stand.
    pub(super) fn secrets(&self) -> Vec<Range<usize>> {
        self.secrets.borrow().clone()
    }

    /// Everything that was found wrong, by line.
    pub(super) fn faults(&self) -> Vec<Fault> {
        self.faults.borrow().iter().cloned().collect()
    }

    /// Replaces `${NAME}` by the variable's value and `$${` by `${`.
    pub(super) fn expanded(&self, text: &str, span: &Range<usize>, key: &str) -> Option<String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                out.push_str(&rest[..at - 1]);
                out.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            out.push_str(&rest[..at]);
            let Some(length) = rest[at + 2..].find('}') else {
                let hint = Some(String::from("write ${NAME}, or $${ for the two characters themselves"));
                self.fault(span, key, "a ${ has no }", hint);
                return None;
            };
            let name = &rest[at + 2..at + 2 + length];
            match (self.variables)(name) {
                Some(value) => out.push_str(&value),
                None => {
                    let hint = Some(format!("set {name}, or write $${{ for the two characters themselves"));
                    self.fault(span, key, format!("the environment variable {name} is not set"), hint);
                    return None;
                }
            }
            rest = &rest[at + 2 + length + 1..];
        }
        out.push_str(rest);
        Some(out)
    }

    fn line(&self, offset: usize) -> usize {
        self.text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        let variables = |name: &str| (name == "HOME").then(|| String::from("/home/${me}"));
        let document = Document::new(text, &variables);
        let expanded = document.expanded(text, &(0..text.len()), "key");
        expanded.ok_or_else(|| document.faults().remove(0).what)
    }

    #[test]
    fn variables_are_put_in_once_and_doubled_dollars_are_not_variables() {
        assert_eq!(expanded("${HOME}/x").as_deref(), Ok("/home/${me}/x"));
        assert_eq!(expanded("a$${HOME}b").as_deref(), Ok("a${HOME}b"));
        assert_eq!(expanded("${HOME}$${HOME}$").as_deref(), Ok("/home/${me}${HOME}$"));
        assert_eq!(expanded("$HOME 5$").as_deref(), Ok("$HOME 5$"));
        assert!(expanded("${NOBODY}").is_err_and(|what| what.contains("NOBODY is not set")));
        assert!(expanded("${HOME").is_err_and(|what| what.contains("no }")));
    }

    #[test]
    fn a_text_that_is_no_toml_is_told_with_its_line() {
        let nothing = |_: &str| None;
        let document = Document::new("a = 1\nb = \n", &nothing);
        assert_eq!(document.parse().unwrap_err().line, 2);
    }
}
