//! Where a server is, and who asks.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use backup_core::{Error, Result};

use super::super::url::{DatabaseUrl, Password};

/// The port that a server has when nothing is said.
const PORT: u16 = 6_379;

/// How a server is reached.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// Where it is.
    pub address: Address,
    /// Who asks, where the server knows users.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Password>,
    /// Encryption on the way; `None` for none.
    pub tls: Option<Tls>,
    /// The name of the folder in the snapshot; the address when there is none.
    pub name: Option<String>,
    /// How long the server may say nothing. A server that forks says something every ten seconds.
    pub patience: Duration,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host and its port.
    Network(String, u16),
    /// A socket of this machine.
    Socket(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Network(host, port) => write!(f, "{host}:{port}"),
            Self::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What an encrypted connection needs beyond the certificates that the system trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates (PEM) that are trusted beside the system's.
    pub authority: Option<PathBuf>,
    /// The certificate (PEM) and the key (PEM) with which a client shows who it is.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl RedisSettings {
    /// What a URL says: `redis://user:password@host:6379`, `rediss://…` with TLS, a host that begins with a slash
    /// (written `%2F`) for a socket. Known behind the question mark: `name`, `cacert`, `cert`, `key`.
    ///
    /// # Errors
    ///
    /// When it names one database of the server: a snapshot always has them all. When it says something unknown.
    pub fn of_url(url: &DatabaseUrl) -> Result<Self> {
        let fail = |why: String, hint: &'static str| Err(Error::invalid(url.to_string(), why).with_hint(hint));
        if !matches!(url.path(), b"" | b"0") {
            return fail(
                "a snapshot has all databases of a server, never one alone".into(),
                "leave away what follows the host's slash",
            );
        }
        let address = match url.hosts() {
            [] => Address::Network("localhost".into(), PORT),
            [host] if host.name.starts_with('/') => Address::Socket(host.name.clone().into()),
            [host] => Address::Network(host.name.clone(), host.port.unwrap_or(PORT)),
            _ => return fail("several servers are several snapshots".into(), "give each server a URL of its own"),
        };
        let (mut name, mut tls, mut certificate, mut key) = (None, Tls::default(), None, None);
        let is_encrypted = url.scheme() == "rediss";
        for (parameter, value) in url.parameters() {
            match parameter.as_str() {
                "name" => name = Some(value.clone()),
                "cacert" if is_encrypted => tls.authority = Some(value.into()),
                "cert" if is_encrypted => certificate = Some(PathBuf::from(value)),
                "key" if is_encrypted => key = Some(PathBuf::from(value)),
                other => {
                    return fail(
                        format!("{other} means nothing here"),
                        "known are name and, with rediss://, cacert, cert, key",
                    );
                }
            }
        }
        tls.identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return fail("cert and key belong together".into(), "give both, or neither"),
        };
        Ok(Self {
            address,
            user: url.user().map(str::to_owned),
            password: url.password().cloned(),
            tls: is_encrypted.then_some(tls),
            name,
            patience: Duration::from_secs(60),
        })
    }

    /// The name of the folder in the snapshot.
    pub(super) fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.address.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Result<RedisSettings> {
        RedisSettings::of_url(&DatabaseUrl::parse(url)?)
    }

    #[test]
    fn a_url_says_where_and_who() {
        let settings = of("redis://backup:s%40cret@db:6380/0?name=cache").unwrap();
        assert_eq!(settings.address, Address::Network("db".into(), 6_380));
        assert_eq!((settings.user.as_deref(), settings.name().as_str()), (Some("backup"), "cache"));
        assert_eq!(settings.password.map(|password| password.reveal().to_owned()).as_deref(), Some("s@cret"));
        assert_eq!(of("redis://%2Frun%2Fredis.sock").unwrap().address, Address::Socket("/run/redis.sock".into()));
        assert_eq!(of("redis://").unwrap().name(), "localhost:6379");
        let tls = of("rediss://:p@h?cacert=/ca&cert=/c&key=/k").unwrap().tls.unwrap();
        assert_eq!((tls.authority, tls.identity), (Some("/ca".into()), Some(("/c".into(), "/k".into()))));
    }

    #[test]
    fn what_a_url_cannot_mean_is_refused() {
        for url in ["redis://h/3", "redis://a,b", "redis://h?cacert=/x", "rediss://h?cert=/x", "redis://h?what=1"] {
            assert!(of(url).is_err(), "{url}");
        }
    }
}
