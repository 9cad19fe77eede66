//! `source = …`: what a job backs up.

#[cfg(feature = "postgres")]
use std::num::NonZeroUsize;
use std::path::PathBuf;

use backup_sources::databases::url::DatabaseUrl;

use super::section::{Section, Value};
use crate::commands::selection::Selection;
use crate::console::amounts;
use crate::databases::DumpArgs;
#[cfg(feature = "mongodb")]
use crate::databases::mongodb::MongodbDump;
#[cfg(feature = "postgres")]
use crate::databases::postgres::PostgresDump;
use crate::secrets::origin::Origin;

/// What a job backs up.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// Files and folders.
    Files {
        /// Which.
        paths: Vec<PathBuf>,
        /// What of them is left out.
        selection: Selection,
        /// How changes to them are taken.
        changes: Changes,
    },
    /// A database, or all of a server.
    Database {
        /// Where.
        url: DatabaseUrl,
        /// Its password, where the URL and the environment have none.
        password: Option<Origin>,
        /// What of it.
        dump: Box<DumpArgs>,
    },
    /// What a command prints.
    Command {
        /// The command, for `/bin/sh`.
        command: String,
        /// The name of the file that it becomes.
        name: String,
    },
}

/// How changes to files are taken; by default all are seen, and those that happen during a run are notes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Changes {
    /// A file whose ctime alone changed counts as unchanged.
    pub(crate) ignore_ctime: bool,
    /// A file whose inode alone changed counts as unchanged.
    pub(crate) ignore_inode: bool,
    /// A file that vanishes before it is read, or changes while it is, counts as lost.
    pub(crate) strict: bool,
}

/// Reads a job's source.
pub(super) fn read(value: &Value<'_>, job: &str) -> Option<Source> {
    if value.is_text() {
        let text = value.text()?;
        return match DatabaseUrl::is_one(&text) {
            true => database(value, &text, None, DumpArgs::default()),
            false => files(value, vec![text], Selection::default(), Changes::default()),
        };
    }
    if !value.is_table() {
        return value.wrong("a URL, a path, { files = […] } or { command = \"…\" }");
    }
    let section = value.section()?;
    let kinds = ["files", "command", "url"];
    let had: Vec<_> = kinds.into_iter().filter(|kind| section.has(kind)).collect();
    let source = match had.as_slice() {
        ["files"] => {
            let paths = section.texts("files");
            let selection = selection(&section);
            let flag = |key| section.flag(key) == Some(true);
            let (ignore_ctime, ignore_inode) = (flag("ignore_ctime"), flag("ignore_inode"));
            files(value, paths, selection, Changes { ignore_ctime, ignore_inode, strict: flag("strict") })
        }
        ["command"] => command(&section, job),
        ["url"] => {
            let url = section.text("url");
            let password = section.secret("password");
            let dump = dump(&section);
            url.and_then(|url| database(&section.value("url")?, &url, password, dump))
        }
        _ => {
            let hint = "write { files = [\"/srv/uploads\"] }, { command = \"…\" } or { url = \"postgres://…\" }";
            value.fault("a source is one of files, command and url", Some(hint.to_owned()));
            return None;
        }
    };
    section.finish();
    source
}

fn files(value: &Value<'_>, paths: Vec<String>, selection: Selection, changes: Changes) -> Option<Source> {
    if paths.is_empty() {
        value.fault("no file or folder is named", Some(String::from("write { files = [\"/srv/uploads\"] }")));
        return None;
    }
    // A daemon and a person do not run in the same folder.
    if let Some(relative) = paths.iter().find(|path| !path.starts_with('/')) {
        value.fault(
            format!("{relative:?} is not a path from the root"),
            Some(String::from("write it with a / before it")),
        );
        return None;
    }
    let paths = paths.into_iter().map(PathBuf::from).collect();
    Some(Source::Files { paths, selection, changes })
}

fn selection(section: &Section<'_>) -> Selection {
    let flag = |key| section.flag(key) == Some(true);
    Selection {
        exclude: section.texts("exclude"),
        iexclude: section.texts("iexclude"),
        exclude_file: section.texts("exclude_file").into_iter().map(PathBuf::from).collect(),
        gitignore: flag("gitignore"),
        exclude_caches: flag("exclude_caches"),
        exclude_if_present: section.texts("exclude_if_present"),
        exclude_larger_than: section.parsed("exclude_larger_than", amounts::parse_size),
        one_file_system: flag("one_file_system"),
        with_atime: flag("with_atime"),
    }
}

fn command(section: &Section<'_>, job: &str) -> Option<Source> {
    let command = section.text("command");
    let name = section.text("name").unwrap_or_else(|| job.to_owned());
    if matches!(name.as_str(), "" | "." | "..") || name.contains(['/', '\0']) {
        section.fault(format!("{name:?} is no name of a file"), Some(String::from("write name = \"app.sql\"")));
    }
    Some(Source::Command { command: command?, name })
}

fn database(value: &Value<'_>, text: &str, password: Option<Origin>, dump: DumpArgs) -> Option<Source> {
    let url = DatabaseUrl::parse(text)
        .map_err(|error| value.fault(error.to_string(), error.hint().map(str::to_owned)))
        .ok()?;
    if url.password().is_some() {
        value.keep_secret();
    }
    if let Err(failure) = dump.require(Some(url.engine())) {
        value.fault(failure.what, failure.hint);
        return None;
    }
    Some(Source::Database { url, password, dump: Box::new(dump) })
}

fn dump(section: &Section<'_>) -> DumpArgs {
    let mut dump = DumpArgs::default();
    #[cfg(feature = "postgres")]
    {
        dump.postgres = PostgresDump {
            schema: section.texts("schema"),
            exclude_schema: section.texts("exclude_schema"),
            table: section.texts("table"),
            exclude_table: section.texts("exclude_table"),
            exclude_table_data: section.texts("exclude_table_data"),
            no_roles: section.flag("roles") == Some(false),
            lock_wait: section.duration("lock_wait").map(|wait| wait.as_secs().unsigned_abs()),
            jobs: section.number("jobs", 1..=1_000).and_then(|jobs| NonZeroUsize::new(usize::try_from(jobs).ok()?)),
            spool: section.text("spool").map(PathBuf::from),
            pg_bin: section.text("pg_bin").map(PathBuf::from),
        };
        if dump.postgres.spool.is_some() && dump.postgres.jobs.is_none() {
            section.fault("spool is for a dump by several connections", Some(String::from("write jobs = 2 too")));
        }
    }
    #[cfg(feature = "mongodb")]
    {
        dump.mongodb = MongodbDump {
            collection: section.texts("collection"),
            exclude_collection: section.texts("exclude_collection"),
            no_snapshot_read: section.flag("snapshot_read") == Some(false),
        };
    }
    #[cfg(feature = "mysql")]
    {
        dump.mysql_bin = section.text("mysql_bin").map(PathBuf::from);
    }
    dump
}
