//! What a dump needs that a server may not have: found before anything is started.

use std::collections::BTreeSet;
use std::path::Path;

use backup_core::contracts::{Expectation, NotReady};

use crate::databases::manifest::Manifest;
use crate::databases::postgres::target::major;
use crate::databases::url::Engine;

/// Extensions that a server must load when it starts, which one in a sandbox does not do: they would run jobs.
const LOADED_AT_START: [&str; 3] = ["citus", "pg_cron", "timescaledb"];

/// Kinds of objects that only a superuser makes.
const OF_SUPERUSERS: [&str; 6] =
    ["access method", "event trigger", "foreign data wrapper", "operator class", "operator family", "subscription"];

/// The major version of the server that was dumped.
pub(super) fn version_of(manifest: &Manifest) -> Result<u32, NotReady> {
    if manifest.engine != Engine::Postgres.name() {
        return Err(NotReady::cannot_run(format!("the snapshot holds a database of {}", manifest.engine)));
    }
    let server = manifest.report.tools.iter().find(|tool| tool.name == "postgresql");
    server
        .and_then(|tool| major(&tool.version))
        .ok_or_else(|| NotReady::cannot_run("the manifest does not tell the server's version"))
}

/// Whether the dump names extensions.
pub(super) fn has_extensions(manifest: &Manifest) -> bool {
    !of_kind(manifest, "extension").is_empty()
}

/// Whether every extension is among those of a server's folder `share`, and may be made by who restores. `read` gives the
/// text of a file there, if it is there.
pub(super) fn look_for_extensions(
    manifest: &Manifest,
    share: &Path,
    is_superuser: IsSuperuser,
    read: &dyn Fn(&Path) -> Option<String>,
) -> Result<(), NotReady> {
    let named = of_kind(manifest, "extension");
    for name in named {
        // A name that is no file's name is none of an extension that somebody could install.
        let control = (!name.contains(['/', '.'])).then(|| share.join("extension").join(format!("{name}.control")));
        let Some(text) = control.and_then(|path| read(&path)) else {
            return Err(NotReady::CannotRun {
                reason: format!("the extension {name} is not installed here"),
                hint: Some("install its package for this version of PostgreSQL".to_owned()),
            });
        };
        if LOADED_AT_START.contains(&name) {
            return Err(NotReady::cannot_run(format!(
                "the extension {name} has to be loaded when the server starts, which a sandbox does not do"
            )));
        }
        let is_trusted = text.lines().any(|line| line.replace(' ', "").starts_with("trusted=true"));
        if is_superuser == IsSuperuser::No && !is_trusted {
            return Err(unrestrained(&format!("the extension {name}")));
        }
    }
    Ok(())
}

/// What only a superuser makes, as far as can be told beforehand: the first of it.
pub(super) fn of_superusers(manifest: &Manifest) -> Option<String> {
    let first = |kind: &str| of_kind(manifest, kind).first().map(|name| format!("the {kind} {name}"));
    OF_SUPERUSERS.into_iter().find_map(first)
}

/// That there are no walls, which would let a superuser restore.
pub(super) fn unrestrained(what: &str) -> NotReady {
    NotReady::CannotRun {
        reason: format!("only a superuser makes {what}, and there are no namespaces to restrain one"),
        hint: Some("allow namespaces: run it as root, outside of a container or in one with SYS_ADMIN".to_owned()),
    }
}

/// Whether who restores is a superuser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IsSuperuser {
    Yes,
    No,
}

fn of_kind<'a>(manifest: &'a Manifest, kind: &str) -> BTreeSet<&'a str> {
    let of_kind = |expected: &&'a Expectation| expected.kind == kind;
    manifest.report.expectations.iter().filter(of_kind).map(|expected| expected.object.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use backup_core::contracts::Report;

    use super::*;

    fn manifest(kind: &str, object: &str) -> Manifest {
        let expected = Expectation { kind: kind.to_owned(), object: object.to_owned(), count: None, hash: None };
        Manifest::new(Engine::Postgres, "app", Report { expectations: vec![expected], ..Report::default() })
    }

    fn reason(outcome: Result<(), NotReady>) -> String {
        outcome.unwrap_err().to_string()
    }

    #[test]
    fn an_extension_must_be_there_and_its_maker_must_be_allowed_to() {
        let share = tempfile::tempdir().unwrap();
        fs::create_dir(share.path().join("extension")).unwrap();
        let install = |name: &str, text: &str| {
            fs::write(share.path().join("extension").join(format!("{name}.control")), text).unwrap();
        };
        install("safe", "trusted = true\n");
        install("sharp", "comment = 'x'\n");
        install("pg_cron", "");
        let look = |name: &str, who| {
            let read = |path: &Path| fs::read_to_string(path).ok();
            look_for_extensions(&manifest("extension", name), share.path(), who, &read)
        };
        assert!(look("safe", IsSuperuser::No).is_ok() && look("sharp", IsSuperuser::Yes).is_ok());
        assert!(reason(look("sharp", IsSuperuser::No)).contains("superuser makes the extension sharp"));
        assert_eq!(reason(look("gone", IsSuperuser::Yes)), "the extension gone is not installed here");
        assert_eq!(reason(look("../x", IsSuperuser::Yes)), "the extension ../x is not installed here");
        assert!(reason(look("pg_cron", IsSuperuser::Yes)).contains("when the server starts"));
    }

    #[test]
    fn what_only_a_superuser_makes_is_named() {
        assert_eq!(of_superusers(&manifest("table", "public.t")), None);
        assert_eq!(of_superusers(&manifest("event trigger", "e")).as_deref(), Some("the event trigger e"));
    }

    #[test]
    fn without_a_version_nothing_is_guessed() {
        assert!(version_of(&manifest("table", "public.t")).is_err());
    }
}
