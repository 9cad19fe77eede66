//! A repository in a folder of a machine that is reached by SSH: `sftp://user@host:22/path?ssh_config=FILE`.

use std::fmt;
use std::path::PathBuf;

use backup_core::{Error, Result};

use super::{decoded, is_host};

/// A folder on a machine with an SSH server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SftpServer {
    /// The machine, or a name that `ssh`'s configuration knows.
    pub host: String,
    /// Its port; what `ssh` takes when not given.
    pub port: Option<u16>,
    /// The user there; what `ssh` takes when not given.
    pub user: Option<String>,
    /// The folder: absolute, or relative to where a login ends up.
    pub path: String,
    /// A configuration file for `ssh` in place of the user's and the system's (`ssh -F`).
    pub ssh_config: Option<PathBuf>,
}

impl SftpServer {
    /// Reads what follows `sftp:`: `//user@host:port/path`. The path is absolute; `/~/path` is relative to the user's
    /// home, as curl writes it.
    ///
    /// # Errors
    ///
    /// [`backup_core::ErrorKind::Invalid`], with no part of the text that may be secret.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::invalid("the place sftp:…", why);
        let example = "write sftp://USER@HOST/PATH, or sftp://USER@HOST/~/PATH for a folder in the user's home";
        let (address, query) = text.split_once('?').unwrap_or((text, ""));
        let rest = address.strip_prefix("//").ok_or_else(|| wrong("the host is missing").with_hint(example))?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if path.contains('@') && user.is_none() || user.is_some_and(|user| user.contains(':')) {
            return Err(wrong("a password does not belong into a place, which is shown and logged")
                .with_hint("sftp logs in by key: an agent, or a file that ssh's configuration names"));
        }
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let port = port.parse::<u16>().ok().filter(|port| *port > 0);
                (host, Some(port.ok_or_else(|| wrong("its port is no number").with_hint(example))?))
            }
            _ => (host, None),
        };
        if !is_host(host) {
            return Err(wrong("it names no host").with_hint(example));
        }
        let user = user.map(|user| decoded(user).ok_or_else(|| wrong("its user is not UTF-8"))).transpose()?;
        let is_plain = |text: &str| !text.is_empty() && !text.chars().any(|character| character.is_control());
        if user.as_deref().is_some_and(|user| !is_plain(user)) {
            return Err(wrong("it names no user").with_hint(example));
        }
        let path = decoded(path.trim_end_matches('/')).ok_or_else(|| wrong("its path is not UTF-8"))?;
        let path = match path.strip_prefix("~/") {
            Some(path) => path.to_owned(),
            None => format!("/{path}"),
        };
        if !is_plain(&path) || path == "/" || path == "/~" {
            return Err(wrong("it names no folder").with_hint(example));
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let mut server = Self { host, port, user, path, ssh_config: None };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("ssh_config", file)) if !file.is_empty() => {
                    let file = decoded(file).ok_or_else(|| wrong("its ssh_config is not UTF-8"))?;
                    server.ssh_config = Some(file.into());
                }
                _ => {
                    return Err(
                        wrong("its query holds a setting that is not known").with_hint("known is: ssh_config=FILE")
                    );
                }
            }
        }
        Ok(server)
    }

    /// The place without its settings, as messages show it.
    pub(crate) fn shown(&self) -> String {
        let mut text = String::from("sftp://");
        if let Some(user) = &self.user {
            text.push_str(user);
            text.push('@');
        }
        let is_number = self.host.contains(':');
        text.push_str(&if is_number { format!("[{}]", self.host) } else { self.host.clone() });
        if let Some(port) = self.port {
            text.push_str(&format!(":{port}"));
        }
        if !self.path.starts_with('/') {
            text.push_str("/~/");
        }
        text + &self.path
    }
}

impl fmt::Display for SftpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())?;
        match &self.ssh_config {
            Some(file) => write!(f, "?ssh_config={}", file.display()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sftp_places_are_read_as_people_write_them() {
        for (text, host, port, user, path) in [
            ("//host/srv/repo", "host", None, None, "/srv/repo"),
            ("//me@host:2222/srv/my%20repo/", "host", Some(2222), Some("me"), "/srv/my repo"),
            ("//host/~/repo", "host", None, None, "repo"),
            ("//me@[::1]:22/r", "::1", Some(22), Some("me"), "/r"),
            ("//[fe80::1]/r", "fe80::1", None, None, "/r"),
        ] {
            let server = SftpServer::parse(text).unwrap();
            let SftpServer { host: found, port: at, user: who, path: folder, .. } = &server;
            assert_eq!((found.as_str(), *at, who.as_deref(), folder.as_str()), (host, port, user, path), "{text}");
        }
        for text in ["sftp://host/srv/repo", "sftp://me@[::1]:22/~/r?ssh_config=/etc/x"] {
            assert_eq!(SftpServer::parse(&text[5..]).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_place_or_holds_a_secret_is_refused_without_repeating_it() {
        for text in [
            "",
            "host:/x",
            "//host",
            "//host/",
            "//host/~",
            "//host:x/r",
            "//-oProxyCommand=secret/r",
            "//me:secret@host/r",
            "//me:sec/ret@host/r",
            "//host/r?key=secret",
            "//@host/r",
        ] {
            let error = SftpServer::parse(text).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
