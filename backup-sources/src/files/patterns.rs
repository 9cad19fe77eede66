//! Patterns of what is left out.

use std::fs;
use std::path::Path;

use backup_core::{Error, ErrorKind, Result};
use globset::{Candidate, Glob, GlobBuilder, GlobSet, GlobSetBuilder};

/// An ordered list of patterns. The last one that matches decides.
///
/// * A pattern is compared with the absolute path of an entry. Without a leading slash it matches at any depth:
///   `*.tmp` is every name that ends so, `cache/x` every `x` in a folder `cache`. With a leading slash it is anchored.
/// * `*` and `?` stop at slashes, `**` does not; `[a-z]` and `{a,b}` are known; `\` takes a character's meaning away.
/// * A slash at the end is ignored. What is left out as a folder is left out with everything in it.
/// * A pattern that begins with `!` brings back what an earlier one left out, but nothing from a folder that is left
///   out as a whole: leave out `/a/*`, not `/a`, to bring `/a/b` back.
///
/// The paths that a source was asked for are never left out.
#[derive(Clone, Debug, Default)]
pub struct Excludes {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    text: String,
    glob: Glob,
    effect: Effect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    LeaveOut,
    BringBack,
}

/// Whether the case of letters matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// `A` is not `a`.
    Sensitive,
    /// `A` is `a`.
    Insensitive,
}

impl Excludes {
    /// Appends one pattern. One that cannot be read is [`ErrorKind::Invalid`].
    pub fn add(&mut self, pattern: &str, case: Case) -> Result<()> {
        let (rest, effect) = match pattern.strip_prefix('!') {
            Some(rest) => (rest, Effect::BringBack),
            None => (pattern, Effect::LeaveOut),
        };
        let cleaned = rest.trim_end_matches('/');
        if cleaned.is_empty() {
            return Err(Error::invalid(format!("pattern {pattern:?}"), "it would match everything or nothing"));
        }
        let anchored = if cleaned.starts_with('/') { cleaned.to_owned() } else { format!("**/{cleaned}") };
        let glob = GlobBuilder::new(&anchored)
            .literal_separator(true)
            .backslash_escape(true)
            .case_insensitive(case == Case::Insensitive)
            .build()
            .map_err(|error| Error::invalid(format!("pattern {pattern:?}"), error.kind().to_string()))?;
        self.patterns.push(Pattern { text: pattern.to_owned(), glob, effect });
        Ok(())
    }

    /// Appends the patterns of a text, one a line. Empty lines and lines that begin with `#` are passed over, spaces
    /// around a pattern are dropped.
    pub fn add_lines(&mut self, text: &str, case: Case) -> Result<()> {
        text.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .try_for_each(|line| self.add(line, case))
    }

    /// Appends the patterns of a file, read as [`Excludes::add_lines`] reads them.
    pub fn add_file(&mut self, path: &Path, case: Case) -> Result<()> {
        let subject = || format!("file of patterns {}", path.display());
        let text = fs::read_to_string(path)
            .map_err(|error| Error::new(ErrorKind::Invalid("cannot be read".to_owned()), subject()).caused_by(error))?;
        self.add_lines(&text, case)
    }

    /// The patterns as they were written, for the record in the snapshot.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.patterns.iter().map(|pattern| pattern.text.as_str())
    }

    /// Makes one machine of all patterns.
    pub(super) fn compile(&self) -> Result<CompiledExcludes> {
        let mut builder = GlobSetBuilder::new();
        for pattern in &self.patterns {
            builder.add(pattern.glob.clone());
        }
        let set = builder.build().map_err(|error| Error::invalid("patterns", error.to_string()))?;
        let effects: Vec<_> = self.patterns.iter().map(|pattern| pattern.effect).collect();
        Ok(CompiledExcludes { brings_back: effects.contains(&Effect::BringBack), set, effects })
    }
}

/// [`Excludes`], ready to be asked a million times.
#[derive(Debug)]
pub(super) struct CompiledExcludes {
    set: GlobSet,
    effects: Vec<Effect>,
    brings_back: bool,
}

impl CompiledExcludes {
    /// Whether there is nothing to ask.
    pub(super) fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }

    /// Whether the entry at this absolute path is left out.
    pub(super) fn leaves_out(&self, path: &[u8]) -> bool {
        let candidate = Candidate::from_bytes(path);
        if !self.brings_back {
            return self.set.is_match_candidate(&candidate);
        }
        let last = self.set.matches_candidate(&candidate).into_iter().max();
        last.is_some_and(|index| self.effects[index] == Effect::LeaveOut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves_out(patterns: &[&str], case: Case, path: &str) -> bool {
        let mut excludes = Excludes::default();
        for pattern in patterns {
            excludes.add(pattern, case).unwrap();
        }
        excludes.compile().unwrap().leaves_out(path.as_bytes())
    }

    #[test]
    fn patterns_match_what_the_manual_says() {
        for (pattern, path, expected) in [
            ("*.tmp", "/a/b/c.tmp", true),
            ("*.tmp", "/a/b.tmp/c", false),
            ("*.tmp", "/c.tmp", true),
            ("cache", "/a/cache", true),
            ("cache", "/a/mycache", false),
            ("cache/", "/a/cache", true),
            ("cache/x", "/a/cache/x", true),
            ("cache/x", "/a/cache/y/x", false),
            ("/a/b", "/a/b", true),
            ("/a/b", "/x/a/b", false),
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/b/c", false),
            ("/a/**/c", "/a/c", true),
            ("/a/**/c", "/a/b/b/c", true),
            ("/a/**", "/a", false),
            ("x?z", "/a/xyz", true),
            ("x?z", "/a/x/z", false),
            ("[ab]c", "/bc", true),
            ("[!ab]c", "/bc", false),
            ("*.{jpg,png}", "/x.png", true),
            ("\\*", "/*", true),
            ("\\*", "/a", false),
            ("\\!x", "/!x", true),
            (".*", "/a/.hidden", true),
            ("*", "/a/.hidden", true),
        ] {
            assert_eq!(leaves_out(&[pattern], Case::Sensitive, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        let patterns = ["*.log", "!keep.log", "/tmp/keep.log"];
        assert!(leaves_out(&patterns, Case::Sensitive, "/a/x.log"));
        assert!(!leaves_out(&patterns, Case::Sensitive, "/a/keep.log"));
        assert!(leaves_out(&patterns, Case::Sensitive, "/tmp/keep.log"));
        assert!(!leaves_out(&patterns, Case::Sensitive, "/a/x"));
    }

    #[test]
    fn case_matters_only_when_asked() {
        assert!(!leaves_out(&["*.JPG"], Case::Sensitive, "/a/b.jpg"));
        assert!(leaves_out(&["*.JPG"], Case::Insensitive, "/a/b.jpg"));
        assert!(leaves_out(&["Ärger"], Case::Insensitive, "/ärger"));
    }

    #[test]
    fn a_name_that_is_not_utf8_is_matched_as_bytes() {
        let mut excludes = Excludes::default();
        excludes.add("caf*", Case::Sensitive).unwrap();
        assert!(excludes.compile().unwrap().leaves_out(b"/a/caf\xe9"));
    }

    #[test]
    fn a_text_of_patterns_has_comments_and_empty_lines() {
        let mut excludes = Excludes::default();
        excludes.add_lines("# heading\n\n  *.o  \r\n!main.o\n", Case::Sensitive).unwrap();
        assert_eq!(excludes.texts().collect::<Vec<_>>(), ["*.o", "!main.o"]);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for pattern in ["", "!", "/", "[a", "{a"] {
            assert!(Excludes::default().add(pattern, Case::Sensitive).is_err(), "{pattern}");
        }
    }
}
