//! PostgreSQL's own programs: where they are, which version fits a server, and how they are run.
//!
//! pg_dump refuses a server newer than itself, so the programs are chosen by the server's major version: the same, else
//! the next newer one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::program::Ended;

/// Where packages put the programs of each version, with their number between the two halves.
const PACKAGED: [(&str, &str, &str); 3] =
    [("/usr/lib/postgresql", "", "bin"), ("/usr", "pgsql-", "bin"), ("/usr/libexec", "postgresql", "")];

/// Where to look for the programs.
#[derive(Clone, Debug, Default)]
pub struct Folders {
    /// The only folder to look in, when one was named.
    pub only: Option<PathBuf>,
    /// Folders to look in besides those where packages put them: those of `PATH`.
    pub also: Vec<PathBuf>,
}

/// The programs of one version.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    folder: PathBuf,
    /// As pg_dump says it: `16.13`.
    pub(super) version: String,
    pub(super) major: u32,
}

impl Programs {
    /// Those that fit a server of version `major`; otherwise why there are none, and what to do.
    pub(super) fn find(folders: &Folders, major: u32) -> Result<Self, (String, String)> {
        let places = places(folders);
        let mut found: Vec<Self> = places.iter().filter_map(|folder| Self::look(folder)).collect();
        // Of the same version the first place is the nearest.
        found.sort_by_key(|programs| programs.major);
        if let Some(programs) = found.iter().find(|programs| programs.major >= major) {
            return Ok(programs.clone());
        }
        let what = match found.last() {
            Some(newest) => format!(
                "the server has version {major}, and the newest pg_dump here is {} in {}",
                newest.version,
                newest.folder.display()
            ),
            None => match &folders.only {
                Some(folder) => format!("there is no pg_dump in {}", folder.display()),
                None => "there is no pg_dump on this machine".to_owned(),
            },
        };
        let hint =
            format!("install PostgreSQL's client programs of version {major}, or name their folder with --pg-bin");
        Err((what, hint))
    }

    /// Those of exactly version `major` that can make and run a server; otherwise what there is instead, fitting after
    /// that there are none.
    pub(super) fn of_server(folders: &Folders, major: u32) -> Result<Self, String> {
        let places = places(folders);
        let has_server =
            |programs: &Self| ["initdb", "postgres"].iter().all(|name| programs.folder.join(name).is_file());
        let found: Vec<Self> =
            places.iter().filter_map(|folder| Self::look(folder)).filter(|programs| has_server(programs)).collect();
        let same = found.iter().find(|programs| programs.major == major);
        same.cloned().ok_or_else(|| match found.last() {
            None => String::new(),
            Some(other) => format!(", but {}", other.version),
        })
    }

    /// The same, as scripts in `folder` stand for them.
    pub(super) fn in_folder(self, folder: PathBuf) -> Self {
        Self { folder, ..self }
    }

    /// The folder that they are in.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn look(folder: &Path) -> Option<Self> {
        let program = folder.join("pg_dump");
        let said = Command::new(&program).arg("--version").stdin(Stdio::null()).output().ok()?;
        // pg_dump (PostgreSQL) 16.13 (Debian 16.13-1)
        let text = String::from_utf8(said.stdout).ok().filter(|_| said.status.success())?;
        let version = text.split("(PostgreSQL)").nth(1)?.split_whitespace().next()?.to_owned();
        let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
        Some(Self { folder: folder.to_owned(), major: digits.parse().ok()?, version })
    }

    /// A program, about to be run.
    pub(super) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.folder.join(name));
        command.stdin(Stdio::null());
        command
    }
}

/// Where to look, in order.
fn places(folders: &Folders) -> Vec<PathBuf> {
    match &folders.only {
        Some(folder) => vec![folder.clone()],
        None => packaged().into_iter().chain(folders.also.iter().cloned()).collect(),
    }
}

/// Folders of packages, the newest version first.
fn packaged() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (parent, prefix, suffix) in PACKAGED {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(prefix)?.parse::<u32>().ok());
            if let Some(number) = number {
                found.push((number, entry.path().join(suffix)));
            }
        }
    }
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

/// What a program complained of, in one line: the messages, without the statements that they belong to.
pub(super) fn complaint(ended: &Ended) -> String {
    const MESSAGES_MAX: usize = 2;
    let mut told: Vec<&str> = Vec::new();
    for line in ended.said.lines() {
        let Some((_, message)) = line.split_once("error: ").or_else(|| line.split_once("Error message from server: "))
        else {
            continue;
        };
        let message = message.trim().trim_start_matches("ERROR:").trim();
        // "… failed: ERROR: …" already says what the detail repeats.
        if told.len() < MESSAGES_MAX && !told.iter().any(|said| said.contains(message)) {
            told.push(message);
        }
    }
    match (told.is_empty(), ended.said.lines().rfind(|line| !line.trim().is_empty())) {
        (false, _) => told.join(": "),
        (true, Some(last)) => last.trim().to_owned(),
        (true, None) => format!("it said nothing; {}", ended.status),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use backup_core::testing::write_program;

    use super::*;

    /// A folder with a pg_dump that says it is of `version`.
    fn fake(version: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("pg_dump");
        write_program(&program, &format!("#!/bin/sh\necho 'pg_dump (PostgreSQL) {version} (Debian {version}-1)'\n"));
        folder
    }

    #[test]
    fn an_older_program_is_refused_with_both_versions() {
        let folder = fake("14.2");
        let folders = Folders { only: Some(folder.path().to_owned()), also: Vec::new() };
        let (what, hint) = Programs::find(&folders, 16).unwrap_err();
        assert!(what.contains("version 16") && what.contains("14.2"), "{what}");
        assert!(hint.contains("16"), "{hint}");
        let found = Programs::find(&folders, 13).unwrap();
        assert_eq!((found.major, found.version.as_str()), (14, "14.2"));
    }

    #[test]
    fn the_version_of_the_server_is_preferred_to_newer_ones() {
        let folders = [fake("97.1"), fake("96.0"), fake("98beta1")];
        let also = folders.iter().map(|folder| folder.path().to_owned()).collect();
        let found = Programs::find(&Folders { only: None, also }, 96).unwrap();
        assert_eq!(found.version, "96.0");
    }

    #[test]
    fn a_folder_without_programs_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let folders = Folders { only: Some(folder.path().to_owned()), also: Vec::new() };
        let (what, _) = Programs::find(&folders, 16).unwrap_err();
        assert!(what.contains(&folder.path().display().to_string()), "{what}");
    }

    #[test]
    fn a_complaint_is_one_line_without_statements() {
        let ended = |said: &str| Ended { status: ExitStatus::from_raw(256), said: said.to_owned() };
        let said = "pg_dump: error: query failed: ERROR:  permission denied for table secret\n\
                    pg_dump: detail: Query was: LOCK TABLE public.a, public.secret IN ACCESS SHARE MODE\n";
        assert_eq!(complaint(&ended(said)), "query failed: ERROR:  permission denied for table secret");
        let said = "pg_dump: error: Dumping the contents of table \"big\" failed: PQgetResult() failed.\n\
                    pg_dump: detail: Error message from server: ERROR:  out of memory\n\
                    DETAIL:  Cannot enlarge\npg_dump: detail: Command was: COPY public.big (v) TO stdout;\n";
        let told = complaint(&ended(said));
        assert!(told.contains("table \"big\" failed") && told.ends_with("out of memory"), "{told}");
        assert_eq!(complaint(&ended("Killed\n")), "Killed");
        assert!(complaint(&ended("")).contains("said nothing"));
    }
}
