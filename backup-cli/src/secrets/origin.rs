//! Where a secret is to be read: a file, a command, a variable, or the configuration itself.
//!
//! What is always true: `Debug` shows no secret, and no error repeats one.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use backup_store::Secret;
use zeroize::Zeroizing;

use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::limited;

/// How long a command may take that prints a secret: long enough for a person who is asked for it, and an end for a
/// night that nobody would see hang.
const COMMAND_WITHIN: Duration = Duration::from_secs(5 * 60);

/// Where a secret is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The first text of a file; line ends at its end do not count.
    File(PathBuf),
    /// What a command, run by `/bin/sh`, prints.
    Command(OsString),
    /// An environment variable.
    Variable(String),
    /// It was given itself.
    Given(Secret),
}

impl Origin {
    /// The secret, which messages call `name`.
    pub(crate) fn read(&self, name: &str, console: &Console) -> Result<Zeroizing<String>, Failure> {
        let bytes = match self {
            Self::File(path) => read_file(path, name, console)?,
            Self::Command(command) => run(command, name)?,
            Self::Variable(variable) => match std::env::var_os(variable) {
                Some(value) => Zeroizing::new(value.into_encoded_bytes()),
                None => {
                    let what = format!("{} is not set", self.told(name));
                    return Err(Failure::usage(what, "set it, or read the secret from a file or a command"));
                }
            },
            Self::Given(secret) => Zeroizing::new(secret.reveal().as_bytes().to_vec()),
        };
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| Failure::usage(format!("{} is not UTF-8", self.told(name)), "a secret is text"))?;
        Ok(Zeroizing::new(text.trim_end_matches(['\n', '\r']).to_owned()))
    }

    /// What messages call it.
    pub(crate) fn told(&self, name: &str) -> String {
        match self {
            Self::File(path) => format!("the {name} file {}", path.display()),
            Self::Command(_) => format!("the {name} command"),
            Self::Variable(variable) => format!("${variable}"),
            Self::Given(_) => format!("the {name} in the configuration"),
        }
    }
}

fn read_file(path: &Path, name: &str, console: &Console) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |error: &io::Error| Failure {
        exit: Exit::Usage,
        hint: Some("check the option, variable or key that names it".to_owned()),
        ..Failure::because(format!("{name} file {}", path.display()), error)
    };
    let metadata = std::fs::metadata(path).map_err(|error| failed(&error))?;
    if metadata.is_file() && metadata.permissions().mode() & 0o004 != 0 {
        console.warn(&format!("everybody on this machine can read {}: chmod 600 it", path.display()));
    }
    std::fs::read(path).map(Zeroizing::new).map_err(|error| failed(&error))
}

fn run(command: &OsString, name: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let hint = format!("run it by hand to see what it says; it must print the {name} and end with 0");
    let failed = |error: io::Error| Failure::because(format!("the {name} command could not be run"), &error);
    // In this process' group: it may ask a person on the terminal.
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(failed)?;
    match limited::output(&mut child, COMMAND_WITHIN).map_err(failed)? {
        Some((status, bytes)) if status.success() => Ok(bytes),
        Some((status, _)) => Err(Failure::usage(format!("the {name} command failed: {status}"), hint)),
        None => {
            let what = format!("the {name} command took longer than {} s", COMMAND_WITHIN.as_secs());
            Err(Failure::usage(what, hint))
        }
    }
}
