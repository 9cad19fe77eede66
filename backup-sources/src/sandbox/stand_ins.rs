//! Scripts that stand for an engine's client programs and run them behind a drill's walls, or those of an image in its
//! container: whoever runs `pg_restore` need not know where it is, and what is around it.
//!
//! What is always true: standard input, output and the status are the program's own. Of the environment only the
//! variables that the engine named, and the locale, get inside; the program for containers has its own environment.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a script runs in a container.
pub(super) struct StandIn<'a> {
    /// The program for containers.
    pub(super) client: &'a Path,
    /// Its environment.
    pub(super) environment: &'a [(String, OsString)],
    /// The container's name.
    pub(super) container: &'a str,
    /// The working folder.
    pub(super) within: &'a Path,
    /// Names of variables that are handed on where they are set.
    pub(super) variables: &'a [&'a str],
    /// Where the program is in the container.
    pub(super) program: &'a str,
}

/// The script that runs `command` in its own environment, with `variables` handed on where they are set, and with what the
/// script is told besides.
#[cfg(any(test, feature = "mysql", feature = "postgres"))]
pub(super) fn script_of(command: &Command, variables: &[&str]) -> Vec<u8> {
    let mut text = b"#!/bin/sh\nexec /usr/bin/env -i".to_vec();
    let mut word = |bytes: &[u8]| {
        text.push(b' ');
        text.extend_from_slice(bytes);
    };
    for (name, value) in command.get_envs() {
        let mut variable = name.to_owned();
        variable.push("=");
        variable.push(value.unwrap_or_default());
        word(&quoted(&variable));
    }
    for name in variables.iter().chain(&["LC_ALL"]) {
        word(format!("${{{name}+\"{name}=${name}\"}}").as_bytes());
    }
    word(&quoted(command.get_program()));
    command.get_args().for_each(|argument| word(&quoted(argument)));
    word(b"\"$@\"\n");
    text
}

/// The script of a program in a container.
pub(super) fn script(what: &StandIn<'_>) -> Vec<u8> {
    let mut text = b"#!/bin/sh\nexec /usr/bin/env -i".to_vec();
    let mut word = |bytes: &[u8]| {
        text.push(b' ');
        text.extend_from_slice(bytes);
    };
    for (name, value) in what.environment {
        let mut variable = name.as_bytes().to_vec();
        variable.push(b'=');
        variable.extend_from_slice(value.as_bytes());
        word(&quoted(OsStr::from_bytes(&variable)));
    }
    word(&quoted(what.client.as_os_str()));
    word(b"exec --interactive --workdir");
    word(&quoted(what.within.as_os_str()));
    for name in what.variables.iter().chain(&["LC_ALL"]) {
        word(format!("${{{name}+\"--env={name}=${name}\"}}").as_bytes());
    }
    word(&quoted(OsStr::new(what.container)));
    word(&quoted(OsStr::new(what.program)));
    word(b"\"$@\"\n");
    text
}

/// Writes scripts into a folder by their names, for its owner to run at once.
///
/// A file that anybody has open for writing cannot be run (`ETXTBSY`), and a child that another thread starts meanwhile has
/// all that is open here until it turns into its own program. So what is run is a copy, made by a process that has ended.
pub(super) fn write(folder: &Path, scripts: &[(&str, Vec<u8>)]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let drafts = tempfile::tempdir_in(folder)?;
    let mut copy = Command::new("/bin/cp");
    copy.args(["--remove-destination", "--preserve=mode", "--target-directory"]).arg(folder).arg("--");
    for (name, script) in scripts {
        let draft = drafts.path().join(name);
        fs::write(&draft, script)?;
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o700))?;
        copy.arg(draft);
    }
    if scripts.is_empty() || copy.stdin(Stdio::null()).status()?.success() {
        return drafts.close();
    }
    Err(io::Error::other(format!("cp cannot write into {}", folder.display())))
}

/// A word as a shell takes it for itself.
fn quoted(text: &OsStr) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for byte in text.as_bytes() {
        match byte {
            b'\'' => quoted.extend_from_slice(b"'\\''"),
            byte => quoted.push(*byte),
        }
    }
    quoted.push(b'\'');
    quoted
}

#[cfg(test)]
mod tests {
    use backup_core::testing::write_program;

    use super::*;

    #[test]
    fn scripts_are_their_owners_to_run_and_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("new");
        write(&folder, &[]).unwrap();
        write(&folder, &[("one", b"#!/bin/sh\nfalse\n".to_vec())]).unwrap();
        write(&folder, &[("one", b"#!/bin/sh\n".to_vec()), ("two", Vec::new())]).unwrap();
        assert_eq!(fs::read(folder.join("one")).unwrap(), b"#!/bin/sh\n");
        assert_eq!(fs::metadata(folder.join("one")).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "no draft stays");
    }

    #[test]
    fn scripts_run_at_once_whatever_other_threads_start() {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for lane in 0..4 {
                let folder = folder.path().join(lane.to_string());
                scope.spawn(move || {
                    for _ in 0..50 {
                        write(&folder, &[("program", b"#!/bin/sh\nexit 7\n".to_vec())]).unwrap();
                        assert_eq!(Command::new(folder.join("program")).status().unwrap().code(), Some(7));
                    }
                });
            }
        });
    }

    #[test]
    fn a_script_of_a_command_has_its_environment_and_the_variables_that_were_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut stands_for = Command::new("/bin/sh");
        stands_for.env_clear().env("OWN", "it's $mine").env("LC_ALL", "C.UTF-8");
        stands_for.args(["-c", "env | sort; echo \"[$1][$2]\"", "its name", "a 'b' $c"]);
        write(folder.path(), &[("program", script_of(&stands_for, &["PGHOST", "PGPORT"]))]).unwrap();
        let mut command = Command::new(folder.path().join("program"));
        command.arg("x y").env("PGHOST", "/own dir").env("OTHER", "secret").env_remove("PGPORT").env("LC_ALL", "C");
        let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
        // A shell makes a variable of its own working folder.
        let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with("PWD=")).collect();
        assert_eq!(lines, ["LC_ALL=C", "OWN=it's $mine", "PGHOST=/own dir", "[a 'b' $c][x y]"]);
    }

    #[test]
    fn a_script_hands_on_its_words_and_the_variables_that_were_named() {
        let folder = tempfile::tempdir().unwrap();
        let client = folder.path().join("it's a client");
        write_program(&client, "#!/bin/sh\nfor word; do echo \"[$word]\"; done; echo \"$OWN-$PGHOST-$OTHER\"\n");
        let environment = [("OWN".to_owned(), OsString::from("a 'b' $c"))];
        let script = script(&StandIn {
            client: &client,
            environment: &environment,
            container: "drill",
            within: Path::new("/a b"),
            variables: &["PGHOST", "PGPORT"],
            program: "/usr/bin/pg_dump",
        });
        write(folder.path(), &[("pg_dump", script)]).unwrap();
        let mut command = Command::new(folder.path().join("pg_dump"));
        command.args(["x y", "$z"]).env("PGHOST", "/own dir").env("OTHER", "secret").env_remove("PGPORT");
        let said = command.env("LC_ALL", "C").output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let words: Vec<&str> = said.lines().collect();
        assert_eq!(
            words,
            [
                "[exec]",
                "[--interactive]",
                "[--workdir]",
                "[/a b]",
                "[--env=PGHOST=/own dir]",
                "[--env=LC_ALL=C]",
                "[drill]",
                "[/usr/bin/pg_dump]",
                "[x y]",
                "[$z]",
                "a 'b' $c--",
            ]
        );
    }
}
