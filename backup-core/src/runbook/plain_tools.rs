//! When this program is not available: restic, and the engines' own programs.

use super::document::{Section, Words};
use super::facts::{JobUnderRunbook, Part, PartKind, RunbookFacts, StoreFacts, recovery_order};
use super::prerequisites::exported;
use super::procedure::{Trouble, beside, quoted, stores_left};

pub(super) fn section(facts: &RunbookFacts) -> Section {
    let mut section = Section::new("without", "This program is not available");
    section.text(
        "The repositories are in restic's format, version 2. restic (0.17 or newer) opens them with the same passphrase, \
         and the engines' own programs open what comes out. No drill measures this way; count with the same times.",
    );
    section.shell(["read -rs RESTIC_PASSWORD; export RESTIC_PASSWORD   # the passphrase, then Enter".to_owned()]);
    for store in &facts.repositories {
        match &store.restic {
            Some(restic) if !restic.variables.is_empty() => {
                section.text(Words::from("For ").code(&store.name).plain(":"));
                section.shell(restic.variables.iter().map(exported));
            }
            Some(_) => {}
            None => section.warning(
                Words::from("restic does not reach ")
                    .code(&store.place)
                    .plain(": copy what is in it to a folder first, the objects of both places if there are two."),
            ),
        }
    }
    for job in recovery_order(facts) {
        section.heading(Words::new().code(job.name()));
        let left = stores_left(job, Trouble::Corrupted, facts);
        let Some((store, restic)) = left.iter().find_map(|(store, _)| Some((*store, store.restic.as_ref()?))) else {
            section.warning("None of its copies can be reached by restic.");
            continue;
        };
        section.text(Words::from("From ").code(&store.name).plain(":"));
        for part in &job.parts {
            section.shell(commands(&restic.repository, job, part, store));
        }
    }
    section
}

fn commands(repository: &str, job: &JobUnderRunbook, part: &Part, store: &StoreFacts) -> Vec<String> {
    let folder = beside(job);
    let lock = if store.is_lock_free { "--no-lock " } else { "" };
    let path = part.source.as_ref().map(|source| format!(" --path {}", quoted(source))).unwrap_or_default();
    let tag = quoted(&format!("job:{}", job.name()));
    let restic = quoted(repository);
    let mut lines = vec![
        format!("restic -r {restic} {lock}snapshots --tag {tag}{path}"),
        format!("restic -r {restic} {lock}restore latest --tag {tag}{path} --target {folder}"),
    ];
    if let PartKind::Database { engine, folder: dump, name, .. } = &part.kind {
        lines.extend(engine_commands(engine, name, &format!("{folder}{dump}")));
    }
    lines
}

/// What the engine's own programs do with the restored folder `dump`, on a server that is empty.
fn engine_commands(engine: &str, name: &str, dump: &str) -> Vec<String> {
    let at = |file: &str| quoted(&format!("{dump}/{file}"));
    let named = quoted(name);
    let file = || at(name.rsplit('/').next().unwrap_or(name));
    match engine {
        "postgres" => vec![
            format!("psql -d postgres -f {}", at("globals.sql")),
            format!("createdb {named}"),
            format!("pg_restore --jobs 4 --dbname {named} {}", at("dump")),
        ],
        "mysql" => {
            vec![format!("mariadb-admin create {named}"), format!("mariadb {named} < {}", at("dump.sql"))]
        }
        "mongodb" => vec![format!("mongorestore --db {named} --dir {}", quoted(dump))],
        "sqlite" => vec![format!("sqlite3 {} 'PRAGMA integrity_check'", file())],
        "redis" => vec![
            format!("redis-check-rdb {}", at("dump.rdb")),
            format!("redis-server --dir {} --dbfilename dump.rdb", quoted(dump)),
        ],
        other => vec![format!("# {dump}: see the manual of {other}")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_has_its_own_commands_and_names_are_quoted() {
        for engine in ["postgres", "mysql", "mongodb", "sqlite", "redis"] {
            let lines = engine_commands(engine, "my app", "/srv/restored/x/d");
            assert!(lines.iter().all(|line| !line.starts_with('#')), "{engine}: {lines:?}");
            assert!(lines.join("\n").contains("/srv/restored/x/d"), "{engine}");
        }
        assert_eq!(engine_commands("postgres", "my app", "/d")[1], "createdb 'my app'");
    }
}
