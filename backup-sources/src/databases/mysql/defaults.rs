//! How a client program is told where to go and who asks: by its arguments, and by a file for the password.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use rustix::fs::{MemfdFlags, memfd_create};
use zeroize::Zeroizing;

use super::settings::{Encryption, Environment, MysqlSettings, Server};

/// The arguments that every client program of a server takes, and what they refer to.
#[derive(Debug)]
pub(super) struct Defaults {
    arguments: Vec<OsString>,
    /// A file that is only in memory, and readable through this process's own entry in `/proc`: nothing is left of it
    /// when this process ends, however it ends.
    _password: Option<File>,
    environment: Environment,
}

impl Defaults {
    /// What `settings` mean to programs of MariaDB, or of MySQL.
    pub(super) fn new(settings: &MysqlSettings, flavour: Flavour) -> io::Result<Self> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut add = |name: &str, value: &dyn AsRef<std::ffi::OsStr>| {
            let mut argument = OsString::from(format!("--{name}="));
            argument.push(value);
            arguments.push(argument);
        };
        match &settings.server {
            Server::Default => {}
            Server::Socket(path) => {
                add("protocol", &"socket");
                add("socket", path);
            }
            Server::Network(host, port) => {
                // Otherwise "localhost" would mean the socket, whatever the port.
                add("protocol", &"tcp");
                add("host", host);
                if let Some(port) = port {
                    add("port", &port.to_string());
                }
            }
        }
        if let Some(user) = &settings.user {
            add("user", user);
        }
        match (flavour, &settings.encryption) {
            (_, Encryption::Default) => {}
            (Flavour::Mysql, Encryption::Off) => add("ssl-mode", &"DISABLED"),
            (Flavour::Mysql, Encryption::Required) => add("ssl-mode", &"REQUIRED"),
            (Flavour::Mysql, Encryption::Verified(authority)) => {
                add("ssl-mode", &"VERIFY_IDENTITY");
                authority.iter().for_each(|path| add("ssl-ca", path));
            }
            (Flavour::Mariadb, Encryption::Off) => add("ssl", &"0"),
            (Flavour::Mariadb, Encryption::Required) => add("ssl", &"1"),
            (Flavour::Mariadb, Encryption::Verified(authority)) => {
                add("ssl", &"1");
                add("ssl-verify-server-cert", &"1");
                authority.iter().for_each(|path| add("ssl-ca", path));
            }
        }
        let password = settings.password.as_ref().filter(|_| settings.options.is_none());
        let password = password.map(|password| password_file(password.reveal())).transpose()?;
        let in_memory = |file: &File| PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
        if let Some(path) = settings.options.clone().or_else(|| password.as_ref().map(in_memory)) {
            // It has to be the first. The programs' own files come after it where both are read, and would win.
            let mut argument = OsString::from("--defaults-file=");
            argument.push(path);
            arguments.insert(0, argument);
        }
        Ok(Self { arguments, _password: password, environment: settings.environment })
    }

    /// Adds the arguments, the first of which must stay the first, and the environment.
    pub(super) fn equip(&self, command: &mut Command) {
        command.args(&self.arguments);
        self.environment.of(command);
    }
}

/// Whose programs, or server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    Mariadb,
    Mysql,
}

fn password_file(password: &str) -> io::Result<File> {
    let mut file = File::from(memfd_create("options", MemfdFlags::CLOEXEC)?);
    write_options(&mut file, password)?;
    Ok(file)
}

/// Writes an option file with a password into an empty file.
pub(super) fn write_options(file: &mut File, password: &str) -> io::Result<()> {
    // The programs pass over a file that anybody may write.
    file.set_permissions(Permissions::from_mode(0o600))?;
    let mut text = Zeroizing::new(String::from("[client]\npassword=\""));
    for character in password.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            character => text.push(character),
        }
    }
    text.push_str("\"\n");
    file.write_all(text.as_bytes())
}
