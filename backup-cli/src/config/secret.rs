//! A secret in a configuration: `{ file = … }`, `{ command = … }`, `{ env = … }`, or the text itself.

use backup_store::Secret;

use super::section::Value;
use crate::secrets::origin::Origin;

/// Reads where a secret comes from. A text that is the secret itself is left out of what is kept of the configuration.
pub(super) fn read(value: &Value<'_>) -> Option<Origin> {
    if value.is_text() {
        value.keep_secret();
        let text = value.text()?;
        if text.is_empty() {
            value.fault("it is empty", Some(String::from("leave it away, or name where it is: { file = \"…\" }")));
            return None;
        }
        return Some(Origin::Given(Secret::new(text)));
    }
    if !value.is_table() {
        return value.wrong("a secret, as { file = \"/etc/backup/key\" }");
    }
    let section = value.section()?;
    let file = section.text("file").map(|file| Origin::File(file.into()));
    let command = section.text("command").map(|command| Origin::Command(command.into()));
    let variable = section.text("env").map(Origin::Variable);
    let mut given: Vec<_> = [file, command, variable].into_iter().flatten().collect();
    match given.len() {
        1 => {
            section.finish();
            given.pop()
        }
        count => {
            let had = ["file", "command", "env"].iter().filter(|key| section.has(key)).count();
            if had != 1 || count > 1 {
                value.fault(
                    "a secret is read from one place",
                    Some(String::from("write { file = … }, { command = … } or { env = … }")),
                );
            }
            section.finish();
            None
        }
    }
}
