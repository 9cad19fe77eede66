//! Patterns of what is left out.

use std::borrow::Cow;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

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
    case: Case,
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
        let folded = if case == Case::Insensitive { anchored.to_lowercase() } else { anchored };
        let glob = GlobBuilder::new(&folded)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|error| Error::invalid(format!("pattern {pattern:?}"), error.kind().to_string()))?;
        self.patterns.push(Pattern { text: pattern.to_owned(), glob, case, effect });
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
        let effects: Vec<_> = self.patterns.iter().map(|pattern| pattern.effect).collect();
        Ok(CompiledExcludes {
            brings_back: effects.contains(&Effect::BringBack),
            exact: self.compile_those(Case::Sensitive)?,
            folded: self.compile_those(Case::Insensitive)?,
            effects,
        })
    }

    fn compile_those(&self, case: Case) -> Result<Set> {
        let mut builder = GlobSetBuilder::new();
        let mut indexes = Vec::new();
        for (index, pattern) in self.patterns.iter().enumerate().filter(|(_, pattern)| pattern.case == case) {
            builder.add(pattern.glob.clone());
            indexes.push(index);
        }
        let globs = builder.build().map_err(|error| Error::invalid("patterns", error.to_string()))?;
        Ok(Set { globs, indexes })
    }
}

/// What patterns leave out below some paths: for who sees files by another way than a walk, as one who watches them does.
#[derive(Debug)]
pub struct Below {
    roots: Vec<PathBuf>,
    excludes: CompiledExcludes,
}

impl Below {
    /// What `excludes` leaves out below `roots`, which are absolute.
    pub fn new(roots: Vec<PathBuf>, excludes: &Excludes) -> Result<Self> {
        Ok(Self { roots, excludes: excludes.compile()? })
    }

    /// Whether the entry at this absolute path is left out, by itself or with a folder that it lies in. What a source was
    /// asked for is not, nor is what lies below none of it.
    pub fn leaves_out(&self, path: &Path) -> bool {
        let Some(root) = self.roots.iter().find(|root| path.starts_with(root)) else { return false };
        let inside = path.ancestors().take_while(|ancestor| *ancestor != root && ancestor.starts_with(root));
        let mut inside = inside.map(|ancestor| ancestor.as_os_str().as_bytes());
        inside.any(|ancestor| self.excludes.leaves_out(ancestor))
    }
}

/// [`Excludes`], ready to be asked a million times.
#[derive(Debug)]
pub(super) struct CompiledExcludes {
    exact: Set,
    folded: Set,
    effects: Vec<Effect>,
    brings_back: bool,
}

/// Patterns of one kind, and which of all they are.
#[derive(Debug)]
struct Set {
    globs: GlobSet,
    indexes: Vec<usize>,
}

impl CompiledExcludes {
    /// Whether there is nothing to ask.
    pub(super) fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }

    /// Whether the entry at this absolute path is left out.
    pub(super) fn leaves_out(&self, path: &[u8]) -> bool {
        let folded = if self.folded.indexes.is_empty() { Cow::Borrowed(path) } else { Cow::Owned(fold(path)) };
        let (path, folded) = (Candidate::from_bytes(path), Candidate::from_bytes(&*folded));
        if !self.brings_back {
            return self.exact.globs.is_match_candidate(&path) || self.folded.globs.is_match_candidate(&folded);
        }
        let last = self.exact.last_match(&path).max(self.folded.last_match(&folded));
        last.is_some_and(|index| self.effects[index] == Effect::LeaveOut)
    }
}

impl Set {
    fn last_match(&self, path: &Candidate<'_>) -> Option<usize> {
        self.globs.matches_candidate(path).into_iter().max().map(|index| self.indexes[index])
    }
}

/// The path in small letters; bytes that are not UTF-8 stay. The machine of the patterns knows the cases of ASCII
/// alone.
fn fold(path: &[u8]) -> Vec<u8> {
    let mut folded = Vec::with_capacity(path.len());
    for piece in path.utf8_chunks() {
        folded.extend_from_slice(piece.valid().to_lowercase().as_bytes());
        folded.extend_from_slice(piece.invalid());
    }
    folded
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
    fn below_what_was_asked_for_a_file_goes_with_the_folder_that_is_left_out() {
        let mut excludes = Excludes::default();
        excludes.add("*.tmp", Case::Sensitive).unwrap();
        excludes.add("cache", Case::Sensitive).unwrap();
        let below = Below::new(vec!["/srv/cache".into(), "/etc/app".into()], &excludes).unwrap();
        for (path, expected) in [
            ("/srv/cache", false),
            ("/srv/cache/file", false),
            ("/srv/cache/half.tmp", true),
            ("/srv/cache/a/cache/b/file", true),
            ("/etc/app/x.tmp/file", true),
            ("/etc/app/x", false),
            ("/elsewhere/x.tmp", false),
        ] {
            assert_eq!(below.leaves_out(Path::new(path)), expected, "{path}");
        }
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
