//! The client programs of MySQL and MariaDB: where they are, whose they are, and a question to a server through one.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use backup_core::contracts::Tool;
use backup_core::{Error, ErrorKind, Result};

use super::defaults::{Defaults, Flavour};
use super::settings::{Encryption, MysqlSettings};
use crate::program::Program;

/// A server, through the client programs.
#[derive(Debug)]
pub(super) struct Client {
    subject: String,
    /// For questions and for loading.
    query: Found,
    defaults: Defaults,
    must_encrypt: bool,
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
        let query = found(settings, &["mariadb", "mysql"]).next().ok_or_else(|| {
            Error::new(ErrorKind::Source("there is no client program of MySQL or MariaDB here".into()), &subject)
                .with_hint("install mariadb-client, or mysql-client for a server of MySQL")
        })?;
        let defaults = Defaults::new(settings, query.flavour).map_err(|error| {
            Error::new(ErrorKind::Source("the password cannot be passed on".into()), &subject).caused_by(error)
        })?;
        let must_encrypt = matches!(settings.encryption, Encryption::Required | Encryption::Verified(_));
        Ok(Self { subject, query, defaults, must_encrypt })
    }

    /// Refuses a connection that is not encrypted where that was required: `MariaDB`'s programs before 11.4 take it.
    ///
    /// # Errors
    ///
    /// When it is not, or the server does not answer.
    pub(super) fn require_encryption(&self) -> Result<()> {
        if !self.must_encrypt {
            return Ok(());
        }
        let rows = self.ask_or_fail("SHOW SESSION STATUS LIKE 'Ssl_cipher'")?;
        match rows.first().and_then(|row| row.get(1)).is_some_and(|cipher| !cipher.is_empty()) {
            true => Ok(()),
            false => Err(Error::invalid(&self.subject, "the connection is not encrypted, and ssl-mode requires that")
                .with_hint(
                    "give the server a certificate (ssl-cert, ssl-key), or reach it through a socket or a tunnel",
                )),
        }
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
            let hint = hint(&why);
            Error::new(ErrorKind::Source(why), &self.subject).with_hint(hint)
        })
    }

    /// The dump program that fits a server, with what tells it where to go.
    ///
    /// # Errors
    ///
    /// When there is none of the server's flavour: the other's leaves out what it does not know. When those that there are
    /// are older than `version`, the server's: they do not know all that it has.
    pub(super) fn dump(&self, settings: &MysqlSettings, server: Flavour, version: &str) -> Result<Dump> {
        let (names, package) = match server {
            Flavour::Mariadb => (["mariadb-dump", "mysqldump"], "mariadb-client"),
            Flavour::Mysql => (["mysqldump", "mysqldump"], "mysql-client"),
        };
        let mut fitting: Vec<_> = found(settings, &names).filter(|found| found.flavour == server).collect();
        let is_new_enough = |found: &Found| series(&found.version) >= series(version);
        let place = fitting.iter().position(is_new_enough);
        if let (None, Some(Found { path, version: older, .. })) = (place, fitting.first()) {
            let what = format!("the server has version {version}, and {} is {older}, which is older", path.display());
            return Err(Error::new(ErrorKind::Source(what), &self.subject)
                .with_hint(format!("install {package} of the server's version, or name its folder with --mysql-bin")));
        }
        let found = place.map(|place| fitting.swap_remove(place)).ok_or_else(|| {
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
        defaults.equip(&mut command);
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
        self.defaults.equip(&mut command);
        command.args(arguments).arg("--").arg(database);
        Program::start_with_input(command)
    }

    /// For the report.
    pub(super) fn tool(&self) -> Tool {
        tool(&self.found)
    }
}

/// What to try when a client was told this.
fn hint(why: &str) -> &'static str {
    let has = |words: &str| why.contains(words);
    match () {
        // What MySQL's users log in by since 8.0: over a network only when that is encrypted.
        () if has("requires secure connection") => {
            "leave ssl-mode=disabled away, or reach the server by its socket: a password of caching_sha2_password is not sent \
             in clear text"
        }
        () if has("caching_sha2_password") => {
            "the client program found cannot log in so: install mysql-client, or name the folder of its programs with \
             --mysql-bin"
        }
        () if has("Access denied") => "check user, password and rights; the manual lists them",
        () if has("Can't connect") => "check the address, and whether the server runs",
        () if has("TLS") || has("SSL") => "check ssl-mode and ssl-ca in the URL",
        () => "check the address and the rights",
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

/// Those of `names` that are in the folders of programs and say what they are, in this order.
fn found(settings: &MysqlSettings, names: &[&'static str]) -> impl Iterator<Item = Found> {
    let folders = &settings.programs;
    let paths: Vec<_> = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).collect();
    paths.into_iter().filter_map(|path| {
        let mut command = Command::new(&path);
        settings.environment.of(&mut command);
        let said = command.arg("--version").stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let flavour = if text.contains("MariaDB") { Flavour::Mariadb } else { Flavour::Mysql };
        let version = version_in(&text)?;
        said.status.success().then_some(Found { path, flavour, version })
    })
}

/// The first two numbers of a version.
pub(super) fn series(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(['.', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
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
    use backup_core::testing::write_program;

    use super::super::settings::Environment;
    use super::*;

    #[test]
    fn a_client_that_loads_what_may_be_hostile_knows_nothing_of_the_callers_environment() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("mariadb");
        let version = "echo 'mariadb  Ver 15.1 Distrib 10.11.19-MariaDB, for Linux'";
        let script = format!("#!/bin/sh\nif [ \"$1\" = --version ]; then env >version; {version}; else env; fi\n");
        write_program(&program, &script.replace(">version", &format!(">{}/version", folder.path().display())));
        let url = crate::databases::url::DatabaseUrl::parse("mysql://u@h/app").unwrap();
        let seen = |environment| {
            let settings = MysqlSettings {
                programs: vec![folder.path().to_owned()],
                environment,
                ..MysqlSettings::of_url(&url).unwrap()
            };
            let mut seen = String::new();
            Client::new(&settings).unwrap().load("app").unwrap().read_to_string(&mut seen).unwrap();
            seen + &std::fs::read_to_string(folder.path().join("version")).unwrap()
        };
        // Whoever runs tests has this variable.
        assert!(seen(Environment::Inherited).contains("CARGO_MANIFEST_DIR="));
        let seen = seen(Environment::Empty);
        assert!(seen.contains("LC_ALL=C.UTF-8") && !seen.contains("CARGO_"), "{seen}");
    }

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
        assert_eq!((series("10.11.6-MariaDB"), series("8.0.mysql")), (Some((10, 11)), Some((8, 0))));
        assert!(series("10.6.1") < series("10.11.0") && series("10.11.9") < series("11.4.2-MariaDB"));
    }

    #[test]
    fn a_login_that_mysql_refuses_says_what_it_takes() {
        for (why, wanted) in [
            (
                "ERROR 2061 (HY000): Authentication plugin 'caching_sha2_password' reported error: Authentication requires \
                 secure connection.",
                "ssl-mode=disabled",
            ),
            ("ERROR 1045 (28000): Plugin caching_sha2_password could not be loaded: not found", "mysql-client"),
            ("ERROR 1045 (28000): Access denied for user 'u'@'h'", "user, password"),
            ("ERROR 2026 (HY000): TLS/SSL error: self-signed certificate", "ssl-ca"),
        ] {
            assert!(hint(why).contains(wanted), "{why}: {}", hint(why));
        }
    }

    #[test]
    fn what_batch_mode_escapes_is_plain_again() {
        assert_eq!(plain(r"a\tb\nc\\d"), "a\tb\nc\\d");
        assert_eq!((quoted(r"it's\"), named("a`b")), (r"'it''s\\'".to_owned(), "`a``b`".to_owned()));
    }
}
