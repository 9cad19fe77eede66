//! `docs/json/` says what `--json` prints, and this holds both to each other: what a table names is printed, and what
//! is printed is named.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::driver::{Ran, World};
use serde_json::Value;

/// The fields that the table below `## heading` in a file of `docs/json/` names.
#[track_caller]
fn documented(file: &str, heading: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/json").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
    let section = text.split("\n## ").find(|section| section.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("{file} has no section {heading}"));
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let fields: BTreeSet<_> = rows.filter_map(|row| Some(row.split_once('`')?.0.to_owned())).collect();
    assert!(!fields.is_empty(), "{file}: {heading} has no table");
    fields
}

#[track_caller]
fn fields(object: &Value) -> BTreeSet<String> {
    object.as_object().unwrap_or_else(|| panic!("no object: {object}")).keys().cloned().collect()
}

#[track_caller]
pub(crate) fn assert_documented(object: &Value, file: &str, heading: &str) {
    assert_eq!(fields(object), documented(file, heading), "{file}, {heading}");
}

#[test]
fn documents_and_summaries_are_as_documented() {
    let world = World::new();
    assert_documented(&world.json(["init"]), "change.md", "`init`");
    let source = world.source();
    let source = source.to_str().unwrap();
    let first = world.json(["create", source]);
    assert_documented(&first, "create.md", "`summary`");
    let snapshots = world.json(["snapshots"]);
    assert_documented(&snapshots["snapshots"][0], "snapshots.md", "`snapshots`");
    assert_eq!(snapshots["snapshots"][0]["bytes_read"], first["bytes_read"]);

    let listed = world.json(["ls", "latest", source]);
    assert_documented(&listed, "look.md", "`ls`");
    let entry = |kind: &str, extra: &str| {
        let entries = listed["entries"].as_array().unwrap();
        let entry = entries.iter().find(|entry| entry["type"] == kind).unwrap();
        let mut expected = documented("look.md", "`entries`");
        expected.extend((!extra.is_empty()).then(|| extra.to_owned()));
        assert_eq!(fields(entry), expected, "{kind}");
    };
    entry("dir", "");
    entry("file", "bytes");
    entry("symlink", "target");
    let found = world.json(["find", "hello*"]);
    assert_documented(&found["snapshots"][0], "look.md", "`find`");
    assert_eq!(found["snapshots"][0]["matches"][0]["bytes"], 6);
    assert_documented(&world.json(["stats"]), "look.md", "`stats`");

    fs::write(world.source().join("new"), "x").unwrap();
    let second = world.json(["create", source]);
    let id = |summary: &Value| summary["snapshot"].as_str().unwrap().to_owned();
    let diff = world.json(["diff", &id(&first), &id(&second)]);
    assert_documented(&diff, "look.md", "`diff`");
    assert_eq!((&diff["changes"][0]["change"], &diff["counts"]["added"]), (&"added".into(), &1.into()));

    assert_documented(&world.json(["restore", "latest", "--to", "out"]), "restore.md", "`restore`");
    assert_documented(&world.json(["try", "source"]), "restore.md", "`try`");
    assert_documented(&world.json(["check", "--read-data"]), "care.md", "`check`");
    assert_documented(&world.json(["repair", "index"]), "care.md", "`repair index`");
    assert_documented(&world.json(["repair", "snapshots"]), "care.md", "`repair snapshots`");
    assert_documented(&world.json(["tag", "latest", "--add", "x"]), "change.md", "`tag`");
    world.json(["init", "-r", "far"]);
    assert_documented(&world.json(["copy", "--to", "far", "--dry-run"]), "copy.md", "`summary`");
    let copied = world.json(["copy", "--to", "far"]);
    assert_documented(&copied, "copy.md", "`summary`");
    let fields: BTreeSet<_> = copied["snapshots"][0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, BTreeSet::from(["id", "time", "fate", "copy", "reason"]));
    let forgotten = world.json(["forget", "--keep-last", "1"]);
    assert_documented(&forgotten, "care.md", "`forget`");
    assert_eq!(forgotten["removed"].as_array().unwrap().len(), 1);
    let reasons = &forgotten["groups"][0]["snapshots"][0]["reasons"];
    assert_eq!(reasons[0]["rule"], "last", "{forgotten}");
    assert_documented(&world.json(["forget", "latest"]), "care.md", "`forget`");
    let pruned = world.json(["prune", "--instant"]);
    assert_documented(&pruned, "care.md", "`prune`");
    assert!(pruned["done"]["deleted"].is_u64(), "{pruned}");
}

#[test]
fn small_changes_are_as_documented() {
    let world = World::with_snapshot();
    assert_documented(&world.json(["key", "list"]), "change.md", "`key list`");
    let added = world.json(["key", "add", "--new-password-command", "echo second"]);
    assert_documented(&added, "change.md", "`key add`");
    let id = added["added"].as_str().unwrap();
    assert_documented(&world.json(["key", "remove", id]), "change.md", "`key remove`");
    assert_documented(&world.json(["key", "generate"]), "change.md", "`key generate`");
    let file = world.path().join("drawn");
    assert_documented(&world.json(["key", "generate", file.to_str().unwrap()]), "change.md", "`key generate`");
    assert_documented(&world.json(["unlock"]), "change.md", "`unlock`");
    assert_documented(&world.json(["migrate"]), "change.md", "`migrate`");
    assert_documented(&world.json(["completions", "bash"]), "change.md", "`completions`");
    assert_documented(&world.json(["man", "pages"]), "change.md", "`man`");
    let changed = world.json(["key", "passwd", "--new-password-command", "echo third"]);
    assert_documented(&changed, "change.md", "`key passwd`");
}

#[test]
fn drills_and_evidence_are_as_documented() {
    let world = World::with_snapshot();
    let home = world.path().join("home");
    let json = |arguments: &[&str]| {
        let output = world.command().env("HOME", &home).arg("--json").args(arguments).output().unwrap();
        Ran::of(&output).succeeds().lines().pop().unwrap()
    };
    assert_documented(&json(&["evidence", "key", "create"]), "drill.md", "`evidence key`");
    assert_documented(&json(&["drill"]), "drill.md", "`drill`");
    assert_documented(&json(&["evidence", "list"])[0], "drill.md", "`evidence list`");
    assert_documented(&json(&["evidence", "show", "1"]), "drill.md", "`evidence show`");
    assert_documented(&json(&["evidence", "verify"]), "drill.md", "`evidence verify`");
    assert_documented(&json(&["evidence", "export", "audit"]), "drill.md", "`evidence export`");
}

#[test]
fn every_line_is_an_event_that_is_documented() {
    let world = World::with_repository();
    let source = world.source();
    let source = source.to_str().unwrap();
    let mut seen = BTreeSet::new();
    let mut read = |ran: Ran| {
        for line in ran.lines() {
            let event = line["event"].as_str().unwrap().to_owned();
            if matches!(event.as_str(), "phase" | "progress" | "problem" | "entry" | "copied" | "notice" | "error") {
                assert_documented(&line, "events.md", &format!("`{event}`"));
            }
            seen.insert(event);
        }
    };
    read(world.run(["--json", "-v", "create", source]).succeeds());
    read(world.run(["--json", "restore", "latest", "--to", "out"]).succeeds());
    read(world.run(["--json", "check"]).succeeds());
    world.run(["init", "-r", "far"]).succeeds();
    read(world.run(["--json", "copy", "--to", "far"]).succeeds());
    read(world.run(["--json", "create", "--command", "exit 1"]).ends_with(1));
    for event in ["phase", "entry", "problem", "copied", "notice", "summary", "error"] {
        assert!(seen.contains(event), "{event}: {seen:?}");
    }
}

#[test]
fn a_name_that_is_no_text_is_given_in_full() {
    use std::os::unix::ffi::OsStrExt as _;
    let world = World::with_repository();
    fs::write(world.source().join(std::ffi::OsStr::from_bytes(b"a\xff")), "").unwrap();
    world.create([]);
    let found = world.json(["find", "a?"]);
    let entry = &found["snapshots"][0]["matches"][0];
    assert!(entry["path"].as_str().unwrap().ends_with("a\u{fffd}"), "{entry}");
    assert!(entry["path_base64"].is_string(), "{entry}");
}
