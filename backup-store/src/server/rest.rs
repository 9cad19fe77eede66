//! A repository on a REST server: `rest:https://user@host:8000/path/?ca_certificate=FILE`.

use std::fmt;
use std::path::PathBuf;

use backup_core::{Error, Result};

use super::{decoded, is_host};

/// A repository on a server that speaks restic's REST protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestServer {
    /// Its address with a slash at the end: `https://host:8000/path/`.
    pub url: String,
    /// The user's name there.
    pub user: Option<String>,
    /// A file of certificates (PEM) that are trusted beside the system's.
    pub ca_certificate: Option<PathBuf>,
}

impl RestServer {
    /// Reads what follows `rest:`.
    ///
    /// # Errors
    ///
    /// [`backup_core::ErrorKind::Invalid`], with no part of the text that may be secret.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::invalid("the place rest:…", why);
        let example = "write rest:https://HOST:8000/PATH/";
        let (address, query) = text.split_once('?').unwrap_or((text, ""));
        let (scheme, rest) = address
            .split_once("://")
            .filter(|(scheme, _)| matches!(*scheme, "http" | "https"))
            .ok_or_else(|| wrong("it names no http or https address").with_hint(example))?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if path.contains('@') || user.is_some_and(|user| user.contains(':')) {
            return Err(wrong("a password does not belong into a place, which is shown and logged")
                .with_hint("give it in the environment: BACKUP_REST_PASSWORD"));
        }
        if !is_host(host) {
            return Err(wrong("it names no host").with_hint(example));
        }
        if path.contains('#') || path.chars().any(|character| character.is_control() || character == ' ') {
            return Err(wrong("its path holds what an address cannot: write it with % and two digits"));
        }
        let user = user.map(|user| decoded(user).ok_or_else(|| wrong("its user is not UTF-8"))).transpose()?;
        let path = path.trim_matches('/');
        let url = if path.is_empty() { format!("{scheme}://{host}/") } else { format!("{scheme}://{host}/{path}/") };
        let mut server = Self { url, user, ca_certificate: None };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("ca_certificate", file)) if !file.is_empty() => {
                    let file = decoded(file).ok_or_else(|| wrong("its ca_certificate is not UTF-8"))?;
                    server.ca_certificate = Some(file.into());
                }
                // The value is not repeated: what was mistyped may be a secret.
                _ => {
                    return Err(
                        wrong("its query holds a setting that is not known").with_hint("known is: ca_certificate=FILE")
                    );
                }
            }
        }
        Ok(server)
    }

    /// The place as messages show it, with a slash at its end.
    #[cfg(feature = "rest")]
    pub(crate) fn shown(&self) -> String {
        format!("rest:{}", self.url)
    }

    /// Host and port.
    #[cfg(feature = "rest")]
    pub(crate) fn host(&self) -> &str {
        self.url.split('/').nth(2).unwrap_or_default()
    }
}

impl fmt::Display for RestServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.user, self.url.split_once("://")) {
            (Some(user), Some((scheme, rest))) => write!(f, "rest:{scheme}://{user}@{rest}")?,
            _ => write!(f, "rest:{}", self.url)?,
        }
        match &self.ca_certificate {
            Some(file) => write!(f, "?ca_certificate={}", file.display()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_places_are_read_as_people_write_them() {
        for (text, url, user) in [
            ("http://host", "http://host/", None),
            ("http://host:8000/", "http://host:8000/", None),
            ("https://me@host/a/b", "https://host/a/b/", Some("me")),
            ("http://a%40b@[::1]:80/x/", "http://[::1]:80/x/", Some("a@b")),
        ] {
            let server = RestServer::parse(text).unwrap();
            assert_eq!((server.url.as_str(), server.user.as_deref()), (url, user), "{text}");
        }
        let server = RestServer::parse("https://me@host/x?ca_certificate=/etc/my%20ca.pem").unwrap();
        assert_eq!(server.ca_certificate, Some("/etc/my ca.pem".into()));
        assert_eq!(server.to_string(), "rest:https://me@host/x/?ca_certificate=/etc/my ca.pem");
    }

    #[test]
    fn what_is_no_address_or_holds_a_secret_is_refused_without_repeating_it() {
        for text in [
            "",
            "host/x",
            "ftp://host/",
            "http://",
            "http:///x",
            "http://me:secret@host/",
            "http://me:sec/ret@host/",
            "http://host/a b",
            "http://host/?token=secret",
            "http://ho st/",
        ] {
            let error = RestServer::parse(text).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
