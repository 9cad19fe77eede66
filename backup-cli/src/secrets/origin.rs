//! Where a secret is to be read: a file, a command, a variable, or the configuration itself.
//!
//! What is always true: `Debug` shows no secret, and no error repeats one.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use backup_store::Secret;
use zeroize::Zeroizing;

use crate::console::Console;
use crate::exit::{Exit, Failure};

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
    let ended = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Failure::because(format!("the {name} command could not be run"), &error))?;
    let bytes = Zeroizing::new(ended.stdout);
    if ended.status.success() {
        Ok(bytes)
    } else {
        Err(Failure::usage(format!("the {name} command failed: {}", ended.status), hint))
    }
}
