//! The four scripts that people look for. Each is one command of this program.

use std::path::Path;

/// A script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it says.
    pub(crate) text: String,
}

/// What the scripts name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names<'a> {
    /// The program.
    pub(crate) program: &'a Path,
    /// Its configuration.
    pub(crate) config: &'a Path,
    /// The jobs of databases.
    pub(crate) databases: &'a [&'a str],
    /// The other jobs.
    pub(crate) files: &'a [&'a str],
    /// The repository that is nearest.
    pub(crate) nearest: &'a str,
}

/// All four.
pub(crate) fn scripts(names: Names<'_>) -> [Script; 4] {
    let backup =
        format!("{} --config {}", quoted(&names.program.to_string_lossy()), quoted(&names.config.to_string_lossy()));
    let run = |jobs: &[&str], what: &str| match jobs {
        [] => format!("echo 'the configuration has no {what}' >&2; exit 2\n"),
        jobs => format!("exec {backup} run {} \"$@\"\n", jobs.join(" ")),
    };
    let all = names.databases.join(", ");
    let restore = match names.databases {
        [] => "echo 'the configuration has no database' >&2; exit 2\n".to_owned(),
        _ => format!(
            "exec {backup} -r {} restore latest --job \"${{1:?which database: {all}}}\" --to \"${{2:?to where: a URL of an \
             empty database}}\"\n",
            quoted(names.nearest)
        ),
    };
    [
        script("backup-db", "Backs up the databases, now.", &run(names.databases, "database")),
        script("backup-files", "Backs up everything that is no database, now.", &run(names.files, "files")),
        script(
            "restore-db",
            "Restores the newest backup of a database: restore-db JOB TO. What it writes to has to be empty.",
            &restore,
        ),
        script(
            "test-restore",
            "Restores every job, or those that are named, into a sandbox, compares, and cleans up.",
            &format!("exec {backup} drill \"$@\"\n"),
        ),
    ]
}

fn script(name: &'static str, what: &str, line: &str) -> Script {
    Script { name, text: format!("#!/bin/sh\n# {what} Written by `backup advise`.\n{line}") }
}

/// A word for a shell.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "/._-=:,+@".contains(character);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_script_is_one_command_and_says_when_there_is_nothing_to_do() {
        let names = Names {
            program: Path::new("/usr/bin/backup"),
            config: Path::new("/etc/my backup/backup.toml"),
            databases: &["app", "events"],
            files: &[],
            nearest: "local",
        };
        let [db, files, restore, test] = scripts(names);
        let last = |script: &Script| script.text.lines().last().unwrap().to_owned();
        assert_eq!(last(&db), "exec /usr/bin/backup --config '/etc/my backup/backup.toml' run app events \"$@\"");
        assert_eq!(last(&files), "echo 'the configuration has no files' >&2; exit 2");
        assert!(last(&restore).contains("-r local restore latest --job \"${1:?which database: app, events}\" --to"));
        assert_eq!(last(&test), "exec /usr/bin/backup --config '/etc/my backup/backup.toml' drill \"$@\"");
    }
}
