//! The client programs of MySQL and MariaDB: where they are, whose they are, and a question to a server through one.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use backup_core::contracts::Tool;
use backup_core::{Error, ErrorKind, Result};

use super::defaults::{Defaults, Flavour};
use super::settings::MysqlSettings;
use crate::program::Program;

/// A server, through the client programs.
#[derive(Debug)]
pub(super) struct Client {
    subject: String,
    /// For questions and for loading.
    query: Found,
    defaults: Defaults,
    folders: Vec<PathBuf>,
}

/// A program that was found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    path: PathBuf,
    pub(super) flavour: Flavour,
    /// As it says it.
    pub(super) version: String,
}

impl Client {
    /// Finds the program.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub(super) fn new(settings: &MysqlSettings) -> Result<Self> {
        let subject = settings.subject();
        let query = find(&settings.programs, &["mariadb", "mysql"], None).ok_or_else(|| {
            Error::new(ErrorKind::Source("there is no client program of MySQL or MariaDB here".into()), &subject)
                .with_hint("install mariadb-client, or mysql-client for a server of MySQL")
        })?;
        let defaults = Defaults::new(settings, query.flavour).map_err(|error| {
            Error::new(ErrorKind::Source("the password cannot be passed on".into()), &subject).caused_by(error)
        })?;
        Ok(Self { subject, query, defaults, folders: settings.programs.clone() })
    }

    /// Which database it is, for people.
    pub(super) fn subject(&self) -> &str {
        &self.subject
    }

    /// The rows of a question, as text; nothing at all for NULL and for the word.
    ///
    /// # Errors
    ///
    /// In the server's words.
    pub(super) fn ask(&self, question: &str) -> std::result::Result<Vec<Vec<String>>, String> {
        let mut command = self.command(&self.query.path, &self.defaults);
        command.args(["--batch", "--skip-column-names", "--default-character-set=utf8mb4", "--connect-timeout=10"]);
        let mut program = Program::start_with_input(command).map_err(|error| error.to_string())?;
        let asked = program.write_all(question.as_bytes());
        program.end_input();
        let mut text = Vec::new();
        let read = program.read_to_end(&mut text);
        ended(program)?;
        asked.and(read).map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&text);
        Ok(text.lines().map(|line| line.split('\t').map(plain).collect()).collect())
    }

    /// [`Self::ask`], for a failure of the whole.
    pub(super) fn ask_or_fail(&self, question: &str) -> Result<Vec<Vec<String>>> {
        self.ask(question).map_err(|why| {
            let hint = match () {
                () if why.contains("Access denied") => "check user, password and rights; the manual lists them",
                () if why.contains("Can't connect") => "check the address, and whether the server runs",
                () if why.contains("TLS") || why.contains("SSL") => "check ssl-mode and ssl-ca in the URL",
                () => "check the address and the rights",
            };
            Error::new(ErrorKind::Source(why), &self.subject).with_hint(hint)
        })
    }

    /// The dump program that fits a server, with what tells it where to go.
    ///
    /// # Errors
    ///
    /// When there is none of the server's flavour: the other's leaves out what it does not know.
    pub(super) fn dump(&self, settings: &MysqlSettings, server: Flavour) -> Result<Dump> {
        let (names, package) = match server {
            Flavour::Mariadb => (["mariadb-dump", "mysqldump"], "mariadb-client"),
            Flavour::Mysql => (["mysqldump", "mysqldump"], "mysql-client"),
        };
        let found = find(&self.folders, &names, Some(server)).ok_or_else(|| {
            let other = if server == Flavour::Mysql { "a mysqldump of MySQL" } else { "mariadb-dump" };
            Error::new(ErrorKind::Source(format!("the server needs {other}, and there is none here")), &self.subject)
                .with_hint(format!("install {package}, or name the folder of its programs with --mysql-bin"))
        })?;
        let defaults = Defaults::new(settings, found.flavour).map_err(|error| {
            Error::new(ErrorKind::Source("the password cannot be passed on".into()), &self.subject).caused_by(error)
        })?;
        Ok(Dump { found, defaults })
    }

    /// The client program, reading SQL for `database`.
    pub(super) fn load(&self, database: &str) -> io::Result<Program> {
        let mut command = self.command(&self.query.path, &self.defaults);
        // Binary mode: what is in the texts of a dump is no command of the client's. Comments: those in the bodies of
        // routines would be gone.
        command.args([
            "--batch",
            "--binary-mode",
            "--comments",
            "--default-character-set=utf8mb4",
            "--max-allowed-packet=1G",
        ]);
        command.arg("--").arg(database);
        Program::start_with_input(command)
    }

    /// The program for questions, for the report.
    pub(super) fn tool(&self) -> Tool {
        tool(&self.query)
    }

    fn command(&self, path: &Path, defaults: &Defaults) -> Command {
        let mut command = Command::new(path);
        command.args(defaults.arguments());
        command
    }
}

/// A dump program that fits.
#[derive(Debug)]
pub(super) struct Dump {
    pub(super) found: Found,
    defaults: Defaults,
}

impl Dump {
    /// Starts it.
    pub(super) fn start(&self, arguments: &[&str], database: &str) -> io::Result<Program> {
        let mut command = Command::new(&self.found.path);
        command.args(self.defaults.arguments()).args(arguments).arg("--").arg(database);
        Program::start_with_input(command)
    }

    /// For the report.
    pub(super) fn tool(&self) -> Tool {
        tool(&self.found)
    }
}

/// Waits for a program's end: its last words when it failed.
pub(super) fn ended(program: Program) -> std::result::Result<(), String> {
    let ended = program.finish()?;
    if ended.status.success() {
        return Ok(());
    }
    // One line is the message; what came before it is mostly warnings.
    let last = ended.said.lines().map(str::trim).rfind(|line| !line.is_empty());
    Err(last.map_or_else(|| ended.status.to_string(), str::to_owned))
}

fn tool(found: &Found) -> Tool {
    let name = found.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Tool { name, version: found.version.clone() }
}

/// The first of `names` that is in one of `folders`, and of the flavour that is wanted.
fn find(folders: &[PathBuf], names: &[&str], wanted: Option<Flavour>) -> Option<Found> {
    names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find_map(|path| {
        let said = Command::new(&path).arg("--version").stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let flavour = if text.contains("MariaDB") { Flavour::Mariadb } else { Flavour::Mysql };
        let version = version_in(&text)?;
        (said.status.success() && wanted.is_none_or(|wanted| wanted == flavour)).then_some(Found {
            path,
            flavour,
            version,
        })
    })
}

/// `mariadb  Ver 15.1 Distrib 10.11.19-MariaDB, …`, `mysqldump from 11.4.2-MariaDB, …`, `mysql  Ver 8.0.36 for …`.
pub(super) fn version_in(text: &str) -> Option<String> {
    let after = ["Distrib ", "from ", "Ver "].iter().find_map(|word| text.split_once(word))?.1;
    let version = after.split([' ', ',']).next()?;
    version.starts_with(|first: char| first.is_ascii_digit()).then(|| version.to_owned())
}

/// A field without the escapes of batch mode.
fn plain(field: &str) -> String {
    if field == "NULL" {
        return String::new();
    }
    let mut plain = String::with_capacity(field.len());
    let mut characters = field.chars();
    while let Some(character) = characters.next() {
        match (character, character == '\\') {
            (_, false) => plain.push(character),
            (_, true) => plain.extend(match characters.next() {
                Some('n') => Some('\n'),
                Some('t') => Some('\t'),
                Some('0') => Some('\0'),
                other => other,
            }),
        }
    }
    plain
}

/// A text as SQL writes it.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A name as SQL writes it.
pub(super) fn named(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_say_their_version_in_three_ways() {
        for (text, version) in [
            ("mysqldump  Ver 10.19 Distrib 10.11.6-MariaDB, for debian-linux-gnu (x86_64)", "10.11.6-MariaDB"),
            ("mariadb-dump from 11.4.2-MariaDB, client 10.19 for Linux (x86_64)", "11.4.2-MariaDB"),
            ("mysqldump  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)", "8.0.36"),
        ] {
            assert_eq!(version_in(text).as_deref(), Some(version));
        }
        assert_eq!(version_in("something else"), None);
    }

    #[test]
    fn what_batch_mode_escapes_is_plain_again() {
        assert_eq!(plain(r"a\tb\nc\\d"), "a\tb\nc\\d");
        assert_eq!((quoted(r"it's\"), named("a`b")), (r"'it''s\\'".to_owned(), "`a``b`".to_owned()));
    }
}
