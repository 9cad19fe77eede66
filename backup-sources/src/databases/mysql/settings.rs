//! Which database of which server, and who asks.

use std::path::PathBuf;
use std::process::Command;

use backup_core::{Error, Result};

use super::super::url::{DatabaseUrl, Password};

/// How a database is reached.
#[derive(Clone, Debug)]
pub struct MysqlSettings {
    /// Where the server is.
    pub server: Server,
    /// Who asks; the programs' own rule when nobody is named.
    pub user: Option<String>,
    /// The password. With one, the programs read no other option files; without, they look into their own
    /// (`~/.my.cnf`).
    pub password: Option<Password>,
    /// An option file with the password, for programs that cannot read what is in this process's memory; it comes in the
    /// place of [`Self::password`].
    pub options: Option<PathBuf>,
    /// The database.
    pub database: String,
    /// Encryption on the way.
    pub encryption: Encryption,
    /// The folders in which client programs are looked for, in this order.
    pub programs: Vec<PathBuf>,
    /// What the programs know of the caller's.
    pub environment: Environment,
}

/// The environment of client programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Environment {
    /// The caller's, with its home and option files.
    #[default]
    Inherited,
    /// None: they load what may be hostile, and the caller's holds what opens its stores.
    Empty,
}

impl Environment {
    /// Gives it to a program that is about to be run.
    pub(super) fn of(self, command: &mut Command) {
        if self == Self::Empty {
            command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
            command.env("HOME", "/nonexistent");
        }
    }
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// Where the programs find one by themselves: the socket that their option files name.
    Default,
    /// A host, and its port when it is not 3306.
    Network(String, Option<u16>),
    /// A socket of this machine.
    Socket(PathBuf),
}

/// Encryption on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Encryption {
    /// As the programs do by themselves.
    #[default]
    Default,
    /// None.
    Off,
    /// Required; whose certificate it is, is not looked at.
    Required,
    /// Required, and the certificate must be the host's; signed by an authority in this file (PEM), or one that the
    /// programs trust.
    Verified(Option<PathBuf>),
}

impl MysqlSettings {
    /// What a URL says: `mysql://user:password@host:3306/db`, a host that begins with a slash (written `%2F`) for a
    /// socket. Known behind the question mark: `ssl-mode` (`disabled`, `required`, `verify_identity`), `ssl-ca`, and
    /// `socket`.
    ///
    /// # Errors
    ///
    /// When no database is named, or something unknown is said.
    pub fn of_url(url: &DatabaseUrl) -> Result<Self> {
        let fail = |why: String, hint: &'static str| Err(Error::invalid(url.to_string(), why).with_hint(hint));
        let Some(database) = url.database()? else {
            return fail("no database is named".into(), "a snapshot has one database: mysql://user@host/db");
        };
        let mut server = match url.hosts() {
            [] => Server::Default,
            [host] if host.name.starts_with('/') => Server::Socket(host.name.clone().into()),
            [host] => Server::Network(host.name.clone(), host.port),
            _ => return fail("it names several servers".into(), "give the one to read from"),
        };
        let (mut mode, mut authority) = (None, None);
        for (parameter, value) in url.parameters() {
            match parameter.as_str() {
                "socket" => server = Server::Socket(value.into()),
                "ssl-mode" | "sslmode" => mode = Some(value.to_ascii_lowercase().replace('-', "_")),
                "ssl-ca" => authority = Some(PathBuf::from(value)),
                other => return fail(format!("{other} means nothing here"), "known are socket, ssl-mode and ssl-ca"),
            }
        }
        let encryption = match (mode.as_deref(), authority) {
            (Some("verify_identity" | "verify_ca"), authority) => Encryption::Verified(authority),
            (None, Some(authority)) => Encryption::Verified(Some(authority)),
            (None | Some("preferred"), None) => Encryption::Default,
            (Some("disabled"), None) => Encryption::Off,
            (Some("required"), None) => Encryption::Required,
            _ => {
                return fail(
                    "ssl-mode and ssl-ca do not fit together".into(),
                    "ssl-mode is disabled, required or verify_identity",
                );
            }
        };
        Ok(Self {
            server,
            user: url.user().map(str::to_owned),
            password: url.password().cloned(),
            options: None,
            database: database.to_owned(),
            encryption,
            programs: Vec::new(),
            environment: Environment::default(),
        })
    }

    /// Which database it is, for people.
    pub(super) fn subject(&self) -> String {
        let database = &self.database;
        match &self.server {
            Server::Default => format!("mysql:///{database}"),
            Server::Network(host, Some(port)) => format!("mysql://{host}:{port}/{database}"),
            Server::Network(host, None) => format!("mysql://{host}/{database}"),
            Server::Socket(path) => format!("mysql:{}/{database}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Result<MysqlSettings> {
        MysqlSettings::of_url(&DatabaseUrl::parse(url)?)
    }

    #[test]
    fn a_url_says_which_database_of_which_server() {
        let settings = of("mysql://u:p@h:3307/app?ssl-ca=/ca.pem").unwrap();
        assert_eq!(settings.server, Server::Network("h".into(), Some(3_307)));
        assert_eq!(settings.encryption, Encryption::Verified(Some("/ca.pem".into())));
        assert_eq!(settings.database, "app");
        assert_eq!(of("mariadb://%2Frun%2Fm.sock/app").unwrap().server, Server::Socket("/run/m.sock".into()));
        assert_eq!(of("mysql:///app").unwrap().server, Server::Default);
    }

    #[test]
    fn what_a_url_cannot_mean_is_refused() {
        for url in ["mysql://h", "mysql://a,b/c", "mysql://h/d?what=1", "mysql://h/d?ssl-mode=disabled&ssl-ca=/x"] {
            assert!(of(url).is_err(), "{url}");
        }
    }
}
