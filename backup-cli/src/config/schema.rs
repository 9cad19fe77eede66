//! `docs/backup.schema.json` beside what is read: each table has the keys in the one that it has in the other.

use std::collections::BTreeSet;

use serde_json::Value;

use super::document::Document;
use super::read_root;

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
drill = { sandbox = {}, checks = [{ sql = "x" }] }
[jobs.command]
source = { command = "x" }
[jobs.database]
source = { url = "postgres://h/d" }
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
const TABLES: [(&str, &str); 23] = [
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
    ("jobs.files.drill", "/$defs/drill/properties"),
    ("jobs.files.drill.sandbox", "/$defs/drill/properties/sandbox/properties"),
    ("jobs.files.drill.checks[0]", "/$defs/drill/properties/checks/items/properties"),
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
