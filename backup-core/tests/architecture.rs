//! The guard of one-way imports, and of what the library may never do.
//!
//! The tables below are the architecture: an import that is not in them fails here. Widening one is a decision about
//! the architecture and wants its reason in the same change; narrowing one is always welcome.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What each crate may import of the others.
const CRATES: [(&str, &[&str]); 4] = [
    ("backup-core", &[]),
    ("backup-sources", &["backup-core"]),
    ("backup-store", &["backup-core"]),
    ("backup-cli", &["backup-core", "backup-sources", "backup-store"]),
];

/// What each room of the core may import of the others, from the bottom up. A room that is not named here may not be.
const ROOMS: &[(&str, &[&str])] = &[
    // Plain data, and what everybody may name.
    ("limits", &[]),
    ("model", &[]),
    ("observe", &["model"]),
    // `cancel`, because what runs in a sandbox can take long and must be stoppable.
    ("contracts", &["cancel", "chunk", "model", "observe"]),
    ("error", &["contracts"]),
    ("cancel", &["error"]),
    ("clock", &[]),
    // One stage each; none knows another, but that a pack's header is sealed.
    ("chunk", &["limits"]),
    ("codec", &["contracts", "limits"]),
    ("pack", &["codec", "contracts", "limits", "model"]),
    // Where blocking code meets the sinks.
    ("bridge", &["cancel", "contracts", "error", "limits"]),
    // Everything that has a name in the store; never the verbs that work on it.
    ("repository", &["bridge", "chunk", "clock", "codec", "contracts", "error", "limits", "model", "observe", "pack"]),
    // The rooms that join several stages.
    (
        "pipeline",
        &[
            "bridge",
            "cancel",
            "chunk",
            "codec",
            "contracts",
            "error",
            "limits",
            "model",
            "observe",
            "pack",
            "repository",
        ],
    ),
    (
        "care",
        &[
            "bridge",
            "cancel",
            "codec",
            "contracts",
            "error",
            "limits",
            "model",
            "observe",
            "pack",
            "pipeline",
            "repository",
            "retention",
        ],
    ),
    // Escapes of one language, for whoever writes documents in it.
    ("markdown", &[]),
    // Joins restore, listing and sandbox; it runs on a repository and knows no store.
    ("drill", &["cancel", "care", "contracts", "error", "limits", "model", "observe", "pipeline", "repository"]),
    // What a drill is written down as: its outcome, chained, signed and kept in repositories.
    ("evidence", &["contracts", "drill", "error", "limits", "markdown", "model", "repository"]),
    // What only looks: it reads trees, the index and records, and hands facts to the rooms that think.
    (
        "look",
        &["cancel", "care", "contracts", "drill", "error", "model", "pipeline", "policy", "repository", "retention"],
    ),
    // It only thinks: no store, no clock, no repository.
    ("retention", &["contracts", "model"]),
    ("schedule", &["limits"]),
    ("policy", &["contracts", "limits", "model", "retention"]),
    ("metrics", &["contracts", "policy"]),
    // Facts and the figures of past drills in, a document out.
    ("runbook", &["contracts", "drill", "markdown", "policy"]),
    // Proposes what the other rooms that think will hold it to: their schedules, rules and copies; the size of a pack,
    // because requests are counted in packs.
    ("advice", &["contracts", "limits", "model", "policy", "retention", "schedule"]),
    // Stands in for everything outside, and knows nothing of what is inside.
    ("testing", &["contracts", "limits", "model", "observe", "retention"]),
];

/// Names that own nothing.
const EMPTY_NAMES: [&str; 8] = ["util", "utils", "common", "helper", "helpers", "manager", "misc", "prelude"];

/// No file is longer: one that grows towards it has two nouns in it.
const LINES_MAX: usize = 600;

/// What the library never does, outside of the file that is named.
const NEVER: [(&str, Option<&str>); 14] = [
    ("println!", None),
    ("eprintln!", None),
    ("print!", None),
    ("eprint!", None),
    ("dbg!", None),
    ("std::env", None),
    ("env::var", None),
    ("process::exit", None),
    ("process::abort", None),
    ("SystemTime::now", Some("clock.rs")),
    ("Timestamp::now", Some("clock.rs")),
    ("Zoned::now", Some("clock.rs")),
    ("io::stdout", None),
    ("io::stderr", None),
];

/// A file of Rust.
struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The lines that are compiled into the library: without comments, and without what only tests have.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests = self.text.find("#[cfg(test)]\nmod tests").unwrap_or(self.text.len());
        let lines = self.text[..tests].lines().enumerate();
        lines.map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
    }

    fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path.strip_prefix(top()).unwrap_or(&self.path).display())
    }
}

fn top() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Every file of Rust below `folder`, in order.
fn sources(folder: &Path) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                if entry.file_name().is_some_and(|name| name != "target") {
                    folders.push(entry);
                }
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&entry).unwrap();
                found.push(Source { path: entry, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The files of a crate that are compiled into it, without those that only its tests have.
fn library(name: &str) -> Vec<Source> {
    let all = sources(&top().join(name).join("src"));
    let mut only_tests = BTreeSet::new();
    for source in &all {
        let folder = match source.path.file_name().and_then(|name| name.to_str()) {
            Some("mod.rs" | "lib.rs" | "main.rs") => source.path.with_file_name(""),
            _ => source.path.with_extension(""),
        };
        for rest in source.text.split("#[cfg(test)]\nmod ").skip(1) {
            let module: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if rest[module.len()..].starts_with(';') {
                only_tests.insert(folder.join(format!("{module}.rs")));
                only_tests.insert(folder.join(module).join("mod.rs"));
            }
        }
    }
    all.into_iter().filter(|source| !only_tests.contains(&source.path)).collect()
}

/// The room that a file of the core belongs to.
fn room_of(path: &Path) -> String {
    let inside = path.strip_prefix(top().join("backup-core/src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The rooms that a piece of code names: `crate::room`, each of `crate::{room, other::Thing}`, and `super::` where
/// that is the crate.
fn rooms_named(code: &str, super_is_crate: bool) -> Vec<String> {
    let mut named = Vec::new();
    let mut starts: Vec<usize> = positions(code, "crate::").map(|at| at + "crate::".len()).collect();
    if super_is_crate {
        starts.extend(positions(code, "super::").map(|at| at + "super::".len()));
    }
    // From a room's own files two steps up lead out of it.
    starts.extend(positions(code, "super::super::").map(|at| at + "super::super::".len()).filter(|_| super_is_crate));
    for start in starts {
        let rest = &code[start..];
        match rest.strip_prefix('{') {
            None => named.push(word(rest)),
            Some(group) => named.extend(group_members(group)),
        }
    }
    named.iter().map(|name| room_of_item(name)).collect()
}

/// The first words of the members of a group whose opening brace was just passed.
fn group_members(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut members) = (0, 0, Vec::new());
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => {
                members.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                members.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    members.iter().map(|member| word(member.trim())).filter(|member| !member.is_empty()).collect()
}

fn positions<'a>(text: &'a str, what: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(what).map(|(at, _)| at).filter(move |at| {
        let before = text[..*at].chars().next_back();
        !before.is_some_and(|before| before.is_alphanumeric() || before == '_')
    })
}

fn word(text: &str) -> String {
    text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect()
}

/// What `lib.rs` gives on lies in `error`.
fn room_of_item(name: &str) -> String {
    if matches!(name, "Error" | "ErrorKind" | "Result") { "error".to_owned() } else { name.to_owned() }
}

/// The code of a file as one text, so that a list of imports over several lines is one.
fn joined(source: &Source) -> String {
    source.code().map(|(_, line)| line.trim_start()).collect::<Vec<_>>().join(" ")
}

#[test]
fn rooms_of_the_core_import_only_what_the_table_says() {
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for source in library("backup-core") {
        let room = room_of(&source.path);
        if room == "lib" {
            continue;
        }
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("{}: the room {room} is not in the table", source.at(1)));
            continue;
        };
        let inside = source.path.strip_prefix(top().join("backup-core/src")).unwrap();
        let is_room_itself =
            inside.components().count() == 1 || inside.ends_with("mod.rs") && inside.components().count() == 2;
        for named in rooms_named(&joined(&source), is_room_itself) {
            // A room's own modules, by `super::` or by its full name.
            if named == room || !ROOMS.iter().any(|(name, _)| *name == named) {
                continue;
            }
            used.insert((room.clone(), named.clone()));
            if !allowed.contains(&named.as_str()) {
                wrong.push(format!("{}: {room} may not import {named}", source.at(1)));
            }
        }
    }
    let there: BTreeSet<String> = library("backup-core").iter().map(|source| room_of(&source.path)).collect();
    for (room, allowed) in ROOMS.iter().filter(|(room, _)| there.contains(*room)) {
        for name in *allowed {
            if !used.contains(&((*room).to_owned(), (*name).to_owned())) {
                wrong.push(format!("the table lets {room} import {name}, which it does not: take it out"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn crates_import_one_way() {
    let mut wrong = Vec::new();
    for (name, allowed) in CRATES {
        for (other, _) in CRATES.iter().filter(|(other, _)| *other != name && !allowed.contains(other)) {
            let as_path = other.replace('-', "_");
            for source in sources(&top().join(name)) {
                for (line, code) in
                    source.text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
                {
                    if positions(code, &format!("{as_path}::")).next().is_some() {
                        wrong.push(format!("{}: {name} may not import {other}", source.at(line + 1)));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn crates_depend_one_way() {
    for (name, allowed) in CRATES {
        let manifest = fs::read_to_string(top().join(name).join("Cargo.toml")).unwrap();
        for line in manifest.lines().map(str::trim) {
            // `backup-core.workspace = true`, `backup-core = { … }`, `[dependencies.backup-core]`.
            let line = line.trim_start_matches('[').trim_start_matches("dev-").trim_start_matches("dependencies.");
            let dependency = line.split(['.', ' ', '=', ']']).next().unwrap_or_default();
            let is_ours = CRATES.iter().any(|(other, _)| *other == dependency);
            let is_allowed = allowed.contains(&dependency) || dependency == name;
            assert!(!is_ours || is_allowed, "{name}/Cargo.toml: {name} may not depend on {dependency}");
        }
    }
}

#[test]
fn the_library_never_prints_nor_exits_nor_reads_the_environment_and_asks_only_its_clock() {
    let mut wrong = Vec::new();
    for source in library("backup-core") {
        for (line, code) in source.code() {
            for (never, except) in NEVER {
                let is_excepted = except.is_some_and(|file| source.path.ends_with(Path::new("src").join(file)));
                if !is_excepted && positions(code, never).next().is_some() {
                    wrong.push(format!("{}: {never}", source.at(line)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_lies_in_one_file_which_says_why() {
    let allowed = top().join("backup-cli/src/allocator.rs");
    let mut wrong = Vec::new();
    for source in CRATES.iter().flat_map(|(name, _)| sources(&top().join(name))) {
        for (line, code) in source.code() {
            let is_unsafe = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "expect(unsafe_code"]
                .iter()
                .any(|word| positions(code, word).next().is_some());
            // This file holds the words that are looked for.
            let is_this = source.path.ends_with("tests/architecture.rs");
            if is_unsafe && !is_this && source.path != allowed {
                wrong.push(source.at(line));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for library in ["core", "sources", "store"] {
        let text = fs::read_to_string(top().join(format!("backup-{library}/src/lib.rs"))).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "backup-{library} must forbid unsafe code");
    }
}

#[test]
fn no_file_is_too_long_and_none_is_named_after_nothing() {
    let mut wrong = Vec::new();
    let mut folders: Vec<_> = CRATES.iter().map(|(name, _)| top().join(name)).collect();
    folders.extend([top().join("fuzz"), top().join("benches")]);
    for source in folders.iter().flat_map(|folder| sources(folder)) {
        let lines = source.text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{}: over {LINES_MAX} lines", source.at(lines)));
        }
        let inside = source.path.strip_prefix(top()).unwrap();
        for component in inside.components().filter_map(|component| component.as_os_str().to_str()) {
            if EMPTY_NAMES.contains(&component.trim_end_matches(".rs")) {
                wrong.push(format!("{}: {component} names nothing", source.at(1)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_guard_sees_imports_however_they_are_spelled() {
    let seen = |code: &str, is_room_itself| rooms_named(code, is_room_itself);
    assert_eq!(seen("use crate::model::{Id, Node};", false), ["model"]);
    assert_eq!(seen("use crate::{Error, pack::{self, Pack}, codec};", false), ["error", "pack", "codec"]);
    assert_eq!(seen("let x = crate::care::check(y);", false), ["care"]);
    assert_eq!(seen("pub(in crate::chunk) fn f()", false), ["chunk"]);
    assert_eq!(seen("use super::pipeline::backup;", true), ["pipeline"]);
    assert_eq!(seen("use super::backup;", false), Vec::<String>::new());
    assert_eq!(seen("let mycrate::model = 1;", false), Vec::<String>::new());
}
