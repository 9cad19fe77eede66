//! Something that may be worth a backup: given by somebody, or found.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use backup_core::advice::{Kind, kind_of_path};
use backup_sources::databases::url::{DatabaseUrl, Engine};

use super::folders;
use crate::config;
use crate::exit::Failure;
use crate::session::identity;

/// Something that may be worth a backup.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    /// A name for its job; made unique later.
    pub(crate) name: String,
    /// What it is.
    pub(crate) kind: Kind,
    /// Where it is.
    pub(crate) what: What,
    /// From where it is known, for people.
    pub(crate) how: String,
    /// How large it is, where that was seen.
    pub(crate) bytes: Option<u64>,
    /// The machine that it is on, where that is known.
    pub(crate) host: Option<String>,
}

/// Where something is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    /// Files and folders.
    Files {
        /// Which, from the root.
        paths: Vec<PathBuf>,
        /// What of them has a job of its own.
        exclude: Vec<String>,
    },
    /// A database.
    Database {
        /// Its URL, which holds no password.
        url: DatabaseUrl,
        /// The same as it was written, with its parameters.
        text: String,
    },
}

impl Found {
    /// What somebody has named, and what of it wants a job of its own.
    ///
    /// # Errors
    ///
    /// What is no source, what is not there, and a password in a URL.
    pub(crate) fn given(text: &str) -> Result<Vec<Self>, Failure> {
        if DatabaseUrl::is_one(text) {
            return Ok(vec![Self::database(text, "given".to_owned())?]);
        }
        let path = std::path::absolute(text).map_err(|error| Failure::because(text.to_owned(), &error))?;
        if path.to_str().is_none() {
            let hint = "write its job into backup.toml by hand, with a folder above it";
            return Err(Failure::usage(format!("{} cannot be written in a configuration", path.display()), hint));
        }
        let seen = folders::look(&path)?;
        if seen.is_sqlite {
            return Ok(vec![Self::sqlite(&path, seen.bytes, "given, and SQLite by its first bytes")]);
        }
        let kind = if seen.is_bare_git { Kind::Git } else { kind_of_path(&path.to_string_lossy()).0 };
        let mut found = vec![Self::files(&path, kind, seen.bytes, "given".to_owned())];
        found.extend(
            seen.secrets
                .iter()
                .map(|(path, bytes)| Self::files(path, Kind::Secrets, Some(*bytes), format!("found in {text}"))),
        );
        let databases: Vec<_> = seen.databases;
        if let Some(What::Files { exclude, .. }) = found.first_mut().map(|found| &mut found.what) {
            exclude.extend(databases.iter().flat_map(|(path, _)| beside(path)));
        }
        found.extend(databases.iter().map(|(path, bytes)| {
            Self::sqlite(path, Some(*bytes), &format!("found in {text}, and SQLite by its first bytes"))
        }));
        Ok(found)
    }

    /// A database of this URL.
    ///
    /// # Errors
    ///
    /// A URL with a password, one of MySQL without a database, a file of SQLite that is not there.
    pub(crate) fn database(text: &str, how: String) -> Result<Self, Failure> {
        let url = &DatabaseUrl::parse(text)?;
        let is_secret = |(name, _): &(String, String)| name.to_ascii_lowercase().contains("passw");
        if url.password().is_some() || url.parameters().iter().any(is_secret) {
            let hint =
                "leave it away here: the configuration takes password = { file = \"…\" }, or the engine's own file";
            return Err(Failure::usage(format!("{url} comes with a password, which nothing may keep"), hint));
        }
        let (kind, bytes) = match url.engine() {
            Engine::Postgres => (Kind::Postgres, None),
            Engine::Mysql => (Kind::Mysql, None),
            Engine::Mongodb => (Kind::Mongodb, None),
            Engine::Redis => (Kind::Redis, None),
            Engine::Sqlite => {
                let path = Path::new(OsStr::from_bytes(url.path()));
                let metadata = std::fs::metadata(path).map_err(|error| Failure {
                    exit: crate::exit::Exit::Usage,
                    ..Failure::because(url.to_string(), &error)
                })?;
                (Kind::Sqlite, Some(metadata.len()))
            }
            _ => {
                return Err(Failure::usage(format!("{url} is of no kind that this program backs up"), "leave it away"));
            }
        };
        let database = url.database()?;
        if kind == Kind::Mysql && database.is_none() {
            return Err(Failure::usage(
                format!("{url} names no database, and of MySQL each is backed up by itself"),
                "write it behind the server: mysql://backup@host/DATABASE",
            ));
        }
        let name = match (kind, database) {
            (Kind::Sqlite, _) => {
                let path = Path::new(OsStr::from_bytes(url.path()));
                path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
            }
            (Kind::Redis, _) | (_, None) => url.engine().name().to_owned(),
            (_, Some(database)) => database.to_owned(),
        };
        let host = match (kind, url.hosts().first().map(|host| host.name.as_str())) {
            (Kind::Sqlite, _) | (_, None | Some("" | "localhost" | "127.0.0.1" | "::1")) => identity(None).hostname,
            (_, Some(socket)) if socket.starts_with('/') => identity(None).hostname,
            (_, Some(host)) => host.to_owned(),
        };
        let what = What::Database { url: url.clone(), text: text.to_owned() };
        Ok(Self { name, kind, what, how, bytes, host: Some(host) })
    }

    /// A folder or a file.
    pub(crate) fn files(path: &Path, kind: Kind, bytes: Option<u64>, how: String) -> Self {
        let name = match kind {
            Kind::Secrets => "secrets".to_owned(),
            _ => path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_else(|| "files".to_owned()),
        };
        let what = What::Files { paths: vec![path.to_owned()], exclude: Vec::new() };
        Self { name, kind, what, how, bytes, host: Some(identity(None).hostname) }
    }

    /// A file of SQLite.
    pub(crate) fn sqlite(path: &Path, bytes: Option<u64>, how: &str) -> Self {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let text = format!("sqlite:{}", path.display());
        let what = match DatabaseUrl::parse(&text) {
            Ok(url) => What::Database { url, text },
            Err(_) => What::Files { paths: vec![path.to_owned()], exclude: Vec::new() },
        };
        let host = Some(identity(None).hostname);
        Self { name, kind: Kind::Sqlite, what, how: how.to_owned(), bytes, host }
    }

    /// As people name it.
    pub(crate) fn named(&self) -> String {
        match &self.what {
            What::Files { paths, .. } => {
                paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
            }
            What::Database { text, .. } => text.clone(),
        }
    }

    /// As a configuration holds it, of which it is found on what it stands.
    pub(crate) fn source(&self) -> config::Source {
        match &self.what {
            What::Files { paths, .. } => config::Source::Files {
                paths: paths.clone(),
                selection: Default::default(),
                changes: Default::default(),
            },
            What::Database { url, .. } => {
                config::Source::Database { url: url.clone(), password: None, dump: Box::default() }
            }
        }
    }
}

/// One job for all keys and passwords, and names that are words and unique.
pub(crate) fn settled(found: Vec<Found>) -> Vec<Found> {
    let mut settled: Vec<Found> = Vec::new();
    for mut one in found {
        if settled.iter().any(|known| known.what == one.what) {
            continue;
        }
        let same = |known: &&mut Found| known.kind == Kind::Secrets && one.kind == Kind::Secrets;
        if let Some(known) = settled.iter_mut().find(same)
            && let (What::Files { paths, .. }, What::Files { paths: more, .. }) = (&mut known.what, &one.what)
        {
            paths.extend(more.iter().filter(|path| !paths.contains(path)).cloned().collect::<Vec<_>>());
            known.bytes = known.bytes.zip(one.bytes).map(|(known, more)| known.saturating_add(more));
            continue;
        }
        let word = word(&one.name);
        let mut name = word.clone();
        let mut count = 2;
        while settled.iter().any(|known| known.name == name) {
            name = format!("{word}-{count}");
            count += 1;
        }
        one.name = name;
        settled.push(one);
    }
    settled
}

/// A name as configurations take it.
fn word(name: &str) -> String {
    // A dot would be a table within a table.
    let letter = |letter: char| match letter {
        letter if letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_') => letter,
        _ => '-',
    };
    let word: String = name.trim_end_matches(".git").chars().map(letter).take(50).collect();
    let word = word.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
    if word.is_empty() { "data".to_owned() } else { word.to_owned() }
}

/// What has to be left out of a folder when a database in it has a job of its own: the file, and what SQLite has beside
/// it. A copy of them while they are written is of no moment.
fn beside(path: &Path) -> Vec<String> {
    let text = path.to_string_lossy();
    let mut escaped = String::new();
    for character in text.chars() {
        if "*?[]{}\\!".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    ["", "-wal", "-shm", "-journal"].iter().map(|end| format!("{escaped}{end}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_words_that_are_there_once() {
        let of = |path: &str| Found::files(Path::new(path), kind_of_path(path).0, Some(1), String::new());
        let settled = settled(vec![
            of("/a/my uploads"),
            of("/b/my uploads"),
            of("/a/.env"),
            of("/b/.env"),
            of("/"),
            of("/g/app.v2.git"),
        ]);
        let names: Vec<_> = settled.iter().map(|found| found.name.as_str()).collect();
        assert_eq!(names, ["my-uploads", "my-uploads-2", "secrets", "files", "app-v2"]);
        assert_eq!((settled[2].named().as_str(), settled[2].bytes), ("/a/.env /b/.env", Some(2)));
    }

    #[test]
    fn a_password_on_the_command_line_is_refused_and_not_repeated() {
        let failure = Found::given("postgres://me:hunter2@db/app").unwrap_err();
        assert!(!format!("{} {:?}", failure.what, failure.hint).contains("hunter2"));
        assert_eq!(failure.exit as u8, 2);
        let failure = Found::given("mongodb://db/app?tlsCertificateKeyFilePassword=hunter2").unwrap_err();
        assert!(!format!("{} {:?}", failure.what, failure.hint).contains("hunter2"));
        assert!(Found::given("mysql://me@db/").is_err_and(|failure| failure.what.contains("names no database")));
        assert!(Found::given("/not/there").is_err());
    }

    #[test]
    fn a_database_in_a_folder_has_a_job_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("app.db"), b"SQLite format 3\0and so on").unwrap();
        std::fs::write(folder.path().join("not.db"), b"SQLite format 2\0and so on").unwrap();
        std::fs::write(folder.path().join(".env"), b"KEY=1").unwrap();
        let found = Found::given(folder.path().to_str().unwrap()).unwrap();
        let kinds: Vec<_> = found.iter().map(|found| found.kind).collect();
        assert_eq!(kinds, [Kind::Files, Kind::Secrets, Kind::Sqlite]);
        let What::Files { exclude, .. } = &found[0].what else { panic!() };
        assert!(exclude[1].ends_with("/app.db-wal"), "{exclude:?}");
        assert_eq!(found[2].name, "app");
    }
}
