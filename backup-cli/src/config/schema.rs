//! `docs/backup.schema.json` beside what is read: each table has the keys in the one that it has in the other, and a
//! validator (`BACKUP_TEST_CHECK_JSONSCHEMA`) says of the files of the museum what this program says.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use super::document::Document;
use super::museum::WRONG;
use super::read_root;
use super::tests::WHOLE;

/// Every table that there is, once.
const ALL: &str = r#"
[repositories.a]
url = "rest:http://host/x"
login = { user = "u", password = "p" }
[defaults]
repositories = ["a"]
[jobs.files]
source = { files = ["/a"] }
objectives = {}
hooks = {}
retries = {}
retention = { a = { last = 1 } }
[jobs.command]
source = { command = "x" }
[jobs.database]
source = { url = "postgres://h/d" }
drill = { sandbox = { container = { image = "i" } }, checks = [{ sql = "x" }] }
[notify.hook]
webhook = { url = "x" }
[notify.mail]
mail = { server = "s", from = "a@b", to = ["a@b"] }
[checklist]
passphrase_copy = { place = "safe", on = "2026-05-02" }
rehearsed = { by = "Ada", on = "2026-05-02" }
[daemon]
[metrics]
pushgateway = { url = "http://x" }
"#;

/// The tables, by how the reader names them and where the schema has them.
const TABLES: [(&str, &str); 24] = [
    ("", "/properties"),
    ("repositories.a", "/$defs/repository/properties"),
    ("repositories.a.login", "/$defs/repository/properties/login/properties"),
    ("defaults", "/properties/defaults/properties"),
    ("jobs.files", "/properties/jobs/additionalProperties/properties"),
    ("jobs.files.source", "/$defs/files/properties"),
    ("jobs.command.source", "/$defs/command/properties"),
    ("jobs.database.source", "/$defs/database/properties"),
    ("jobs.files.objectives", "/properties/jobs/additionalProperties/properties/objectives/properties"),
    ("jobs.files.hooks", "/properties/jobs/additionalProperties/properties/hooks/properties"),
    ("jobs.files.retries", "/properties/jobs/additionalProperties/properties/retries/properties"),
    ("jobs.files.retention.a", "/$defs/rules/properties"),
    ("jobs.database.drill", "/$defs/drill/properties"),
    ("jobs.database.drill.sandbox", "/$defs/drill/properties/sandbox/properties"),
    (
        "jobs.database.drill.sandbox.container",
        "/$defs/drill/properties/sandbox/properties/container/oneOf/1/properties",
    ),
    ("jobs.database.drill.checks[0]", "/$defs/drill/properties/checks/items/properties"),
    ("notify.hook", "/$defs/notify/properties"),
    ("notify.hook.webhook", "/$defs/notify/properties/webhook/properties"),
    ("notify.mail.mail", "/$defs/notify/properties/mail/properties"),
    ("checklist", "/properties/checklist/properties"),
    ("checklist.passphrase_copy", "/properties/checklist/properties/passphrase_copy/properties"),
    ("checklist.rehearsed", "/properties/checklist/properties/rehearsed/properties"),
    ("daemon", "/properties/daemon/properties"),
    ("metrics.pushgateway", "/properties/metrics/properties/pushgateway/properties"),
];

#[test]
fn the_schema_has_the_keys_that_are_read_and_no_others() {
    let nothing = |_: &str| None;
    let document = Document::new(ALL, &nothing);
    let parsed = document.parse().unwrap();
    let root = document.root(&parsed);
    read_root(&root, std::path::Path::new("x")).unwrap();
    root.finish();
    assert_eq!(document.faults(), []);
    let known = document.known();
    let schema: Value = serde_json::from_str(include_str!("../../../docs/backup.schema.json")).unwrap();
    for (table, pointer) in TABLES {
        let properties = schema.pointer(pointer).and_then(Value::as_object).unwrap_or_else(|| panic!("{pointer}"));
        let described: BTreeSet<_> = properties.keys().map(String::as_str).collect();
        assert_eq!(known[table], described, "{table}");
    }
}

/// What is wrong in ways that a schema has no words for: names that are not there, values that are read further, keys that
/// need or exclude each other in another table. By the key and a part of what is said.
const BEYOND_A_SCHEMA: [(&str, &str); 44] = [
    ("timezone", "no time zone"),
    ("repositories.a.url", "not supported"),
    ("repositories.a.region", "for buckets"),
    ("repositories.a.url", "NOBODY is not set"),
    ("repositories.a.prune", "minutes are written min"),
    ("repositories.a", "exclude each other"),
    ("repositories.a.limit_upload", "number of bytes"),
    ("repositories.a", "belong together"),
    ("repositories.a", "places of the kind s3:"),
    ("repositories.a.password", "it is empty"),
    ("repositories.a", "more than once"),
    ("jobs.a", "repositories is missing"),
    ("jobs.a.source.url", "an option for MongoDB"),
    ("jobs.a.repositories", "no repository is called t"),
    ("jobs.a.repositories", "named twice"),
    ("jobs.a.source", "not a path from the root"),
    ("jobs.a.source", "slashes"),
    ("jobs.a.schedule", ""),
    ("jobs.a.schedule", ""),
    ("jobs.a", "watches files"),
    ("jobs.a.retention.r", "no rule keeps anything"),
    ("jobs.a", "cannot delete"),
    ("jobs.a.tags", "cannot be a tag"),
    ("jobs.a.drill.checks[0]", "asks one thing"),
    ("jobs.a.drill", "nobody knows"),
    ("jobs.a.drill.repository", "does not go to q"),
    ("jobs.a.drill.checks[0]", "sql is for PostgreSQL"),
    ("jobs.a.drill.sandbox.container", "for servers"),
    ("jobs.a.drill", "restores the latest"),
    ("jobs.a.drill", "limit is nothing"),
    ("defaults.repositories", "no repository is called nowhere"),
    ("notify.ops", "one of webhook, mail and command"),
    ("daemon", "needs a token"),
    ("daemon.listen", "address and port"),
    ("daemon.facts_every", "no time at all"),
    ("jobs.a.hooks.timeout", "no time at all"),
    ("repositories.a.limit_upload", "this is a folder"),
    ("repositories.a.connections", "this is a folder"),
    ("repositories.a", "a session_token to both"),
    ("jobs.a.settle", "nothing is watched"),
    ("jobs.a.trigger", "and has none"),
    ("jobs.a.retention.q", "does not go to q"),
    ("jobs.a", "one place"),
    ("notify.ops.mail.to[0]", "no address of mail"),
];

#[test]
#[ignore = "needs check-jsonschema"]
fn a_validator_takes_what_is_read_and_refuses_what_is_not_but_for_what_a_schema_cannot_say() {
    let program = std::env::var_os("BACKUP_TEST_CHECK_JSONSCHEMA").expect("scripts/tools says where it is");
    let museum = tempfile::tempdir().unwrap();
    let rights = [WHOLE, ALL];
    let named = |kind: &'static str| move |number: usize| format!("{kind}-{number}.toml");
    let (right, wrong) = (named("right"), named("wrong"));
    for (number, text) in rights.iter().enumerate() {
        std::fs::write(museum.path().join(right(number)), text).unwrap();
    }
    for (number, (text, ..)) in WRONG.iter().enumerate() {
        std::fs::write(museum.path().join(wrong(number)), text).unwrap();
    }
    let files = (0..rights.len()).map(right).chain((0..WRONG.len()).map(wrong));
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/backup.schema.json");
    let mut command = Command::new(program);
    command.current_dir(museum.path()).args(["--output-format", "json", "--schemafile", schema]).args(files);
    let said = command.output().unwrap();
    let said: Value = serde_json::from_slice(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    let refused: BTreeSet<_> = ["errors", "parse_errors"]
        .iter()
        .flat_map(|kind| said[kind].as_array().into_iter().flatten())
        .map(|error| error["filename"].as_str().unwrap().to_owned())
        .collect();
    for number in 0..rights.len() {
        assert!(!refused.contains(&right(number)), "{said:#}");
    }
    let taken = WRONG.iter().enumerate().filter(|(number, _)| !refused.contains(&wrong(*number)));
    let taken: Vec<_> = taken.map(|(_, (_, _, key, part))| (*key, *part)).collect();
    assert_eq!(taken, BEYOND_A_SCHEMA);
}
