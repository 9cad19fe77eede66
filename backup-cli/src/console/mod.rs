//! What people and programs see: results on standard output, everything else on standard error.
//!
//! With `--json`, standard output carries JSON and nothing else (`docs/json/`); without, text. Progress is drawn only
//! on a terminal. Warnings and problems are never silenced, only shortened.

pub(crate) mod amounts;
pub(crate) mod json;
pub(crate) mod progress;
pub(crate) mod signals;
pub(crate) mod table;

use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use serde_json::json;

use crate::args::Globals;
use crate::exit::Failure;
use progress::{Reporter, Voice};

const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default();

/// Speaks to whoever runs the program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Console {
    format: Format,
    voice: Voice,
}

/// What standard output carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Text for people.
    Text,
    /// One JSON document, or JSON lines.
    Json,
}

impl Console {
    /// A console that speaks as the options say.
    pub(crate) fn new(globals: &Globals) -> Self {
        let format = if globals.json { Format::Json } else { Format::Text };
        let voice = if globals.quiet {
            Voice::Quiet
        } else if globals.verbose {
            Voice::Verbose
        } else {
            Voice::Normal
        };
        Self { format, voice }
    }

    /// Whether standard output carries JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Prints a JSON document, or a line of several, on standard output.
    pub(crate) fn document(&self, value: &impl Serialize) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, value).map_err(io::Error::from)?;
        out.write_all(b"\n")?;
        Ok(out.flush()?)
    }

    /// Prints lines of text on standard output.
    pub(crate) fn text(&self, text: impl AsRef<str>) -> Result<(), Failure> {
        let text = text.as_ref();
        let mut out = anstream::stdout().lock();
        out.write_all(text.as_bytes())?;
        if !text.ends_with('\n') {
            out.write_all(b"\n")?;
        }
        Ok(out.flush()?)
    }

    /// Prints `document` as JSON, or `text` for people: what nearly every command ends with.
    pub(crate) fn either(&self, document: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.document(document),
            Format::Text => self.text(text()),
        }
    }

    /// The same for what a command says at its end of what it did: with `--quiet`, people are spared it.
    pub(crate) fn summary(&self, document: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.format == Format::Text && self.voice == Voice::Quiet {
            return Ok(());
        }
        self.either(document, text)
    }

    /// Something worth knowing; dropped with `--quiet`.
    pub(crate) fn note(&self, text: &str) {
        if self.voice != Voice::Quiet {
            say(text);
        }
    }

    /// Something that should be changed.
    pub(crate) fn warn(&self, text: &str) {
        say(&format!("{YELLOW}warning:{YELLOW:#} {text}"));
    }

    /// The same for what is found anew with each of several things: told once, however long the program runs.
    pub(crate) fn warn_once(&self, text: &str) {
        static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
        if TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned()) {
            self.warn(text);
        }
    }

    /// Why the command ends early, in two lines; with `--json` also as an object on standard output.
    pub(crate) fn failure(&self, failure: &Failure) {
        if failure.is_unheard {
            return;
        }
        let Failure { what, hint, exit, .. } = failure;
        if self.is_json() {
            let object = json!({"event": "error", "exit_code": *exit as u8, "message": what, "hint": hint});
            // Standard error says it too.
            let _ = self.document(&object);
        }
        say(&two_lines(what, hint.as_deref()));
    }

    /// Who hears what happens during a verb, and draws it.
    pub(crate) fn reporter(&self) -> Arc<Reporter> {
        let draws = self.voice != Voice::Quiet && self.format == Format::Text && io::stderr().is_terminal();
        Arc::new(Reporter::new(self.format, self.voice, draws))
    }
}

/// Says a line on standard error. That nobody may be there to hear it is no reason to stop.
pub(crate) fn say(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// A failure as people see it: what, and what to try.
fn two_lines(what: &str, hint: Option<&str>) -> String {
    let one_line =
        |text: &str| text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let hint = hint.map(|hint| format!("\n  try: {}", one_line(hint))).unwrap_or_default();
    format!("{RED}backup:{RED:#} {}{hint}", one_line(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_two_lines_whatever_it_says() {
        let text = two_lines("first\n  second\n\nthird", Some("this\nthat"));
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain, "backup: first second third\n  try: this that");
        assert_eq!(anstream::adapter::strip_str(&two_lines("x", None)).to_string(), "backup: x");
    }
}
