//! How people write a database: `postgres://user@host/db`, `mysql://…`, `mongodb+srv://…`, `sqlite:/path`, `redis://…`.
//!
//! What is always true: neither `Display`, nor `Debug`, nor an error shows a password, or anything that may be a piece
//! of one.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
use std::path::Path;

use backup_core::{Error, Result};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};
use zeroize::Zeroizing;

/// A kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Engine {
    /// PostgreSQL.
    Postgres,
    /// MySQL and MariaDB.
    Mysql,
    /// MongoDB.
    Mongodb,
    /// SQLite.
    Sqlite,
    /// Redis and Valkey.
    Redis,
}

/// The schemes of each engine; the first is the name of its folder in a snapshot.
const SCHEMES: [(Engine, &[&str]); 5] = [
    (Engine::Postgres, &["postgres", "postgresql"]),
    (Engine::Mysql, &["mysql", "mariadb"]),
    (Engine::Mongodb, &["mongodb", "mongodb+srv"]),
    (Engine::Sqlite, &["sqlite"]),
    (Engine::Redis, &["redis", "rediss", "valkey"]),
];

impl Engine {
    /// Its name: the folder of a snapshot that its databases lie in, and the word in `manifest.json`.
    pub fn name(self) -> &'static str {
        SCHEMES.iter().find(|(engine, _)| *engine == self).map_or("", |(_, schemes)| schemes[0])
    }
}

/// A database, as a URL names it. All parts are decoded.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    engine: Engine,
    scheme: &'static str,
    user: Option<String>,
    password: Option<Password>,
    hosts: Vec<Host>,
    path: Vec<u8>,
    parameters: Vec<(String, String)>,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// A name, an address without brackets, or a folder with a socket in it, which begins with a slash.
    pub name: String,
    /// Where it listens, when that was said.
    pub port: Option<u16>,
}

/// A password. It is shown to nobody and wiped from memory when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes a password.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The password itself, for a server and nobody else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// What is escaped of an address in brackets when it is shown: it may have colons, and a zone behind a `%`.
const SHOWN_IN_BRACKETS: &AsciiSet =
    &CONTROLS.add(b' ').add(b'/').add(b'?').add(b'#').add(b'@').add(b'%').add(b'"').add(b',').add(b']');

/// What is escaped of a path that is shown as a part of a URL.
const SHOWN_IN_PATHS: &AsciiSet = &SHOWN.remove(b'/');

/// What is escaped when any other part of a URL is shown: read again, it is the same part.
const SHOWN: &AsciiSet = &SHOWN_IN_BRACKETS.add(b':').add(b'[');

impl DatabaseUrl {
    /// Whether `text` is written as databases are. A path that begins so has to be written with `./` before it.
    pub fn is_one(text: impl AsRef<OsStr>) -> bool {
        scheme_of(text.as_ref().as_bytes()).is_some()
    }

    /// Reads a URL.
    ///
    /// The user's name and password end at the last `@` before the first `/`, `?` or `#`, so these three have to be
    /// percent-encoded in them. What stands behind `sqlite:` is a path as it is; behind `sqlite://` it is decoded.
    ///
    /// # Errors
    ///
    /// [`backup_core::ErrorKind::Invalid`] naming the scheme and what is wrong, and no part of the text.
    pub fn parse(text: impl AsRef<OsStr>) -> Result<Self> {
        let text = text.as_ref().as_bytes();
        let Some((engine, scheme, rest)) = scheme_of(text) else {
            return Err(Error::invalid("the database", "it is not written as one, such as postgres://user@host/db"));
        };
        let fail = |why: &str| {
            Error::invalid(format!("{scheme}:…"), why).with_hint(format!(
                "as in {}; %2F, %3F, %23 and %40 stand for / ? # and @ in a password",
                example(engine)
            ))
        };
        let mut url = Self {
            engine,
            scheme,
            user: None,
            password: None,
            hosts: Vec::new(),
            path: Vec::new(),
            parameters: vec![],
        };
        let Some(rest) = rest.strip_prefix(b"//") else {
            if engine != Engine::Sqlite {
                return Err(fail("two slashes are missing behind the colon"));
            }
            if rest.contains(&0) {
                return Err(fail("a name cannot contain a zero byte"));
            }
            url.path = rest.to_vec();
            return Ok(url);
        };
        let rest = rest.split(|&byte| byte == b'#').next().unwrap_or_default();
        let (rest, query) = split_at(rest, b'?');
        let authority_ends = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(authority_ends);
        let decode = |part: &[u8]| decoded(part).ok_or_else(|| fail("a % is not followed by two hexadecimal digits"));
        let text = |part: &[u8]| String::from_utf8(decode(part)?).map_err(|_| fail("a part of it is not UTF-8"));

        let hosts = match authority.iter().rposition(|&byte| byte == b'@') {
            None => authority,
            Some(at) => {
                let (user, password) = split_at(&authority[..at], b':');
                url.user = Some(text(user)?).filter(|user| !user.is_empty());
                url.password = password.map(&text).transpose()?.map(Password::new);
                &authority[at + 1..]
            }
        };
        for host in hosts.split(|&byte| byte == b',').filter(|host| !host.is_empty()) {
            let (name, port) = match host.strip_prefix(b"[") {
                Some(rest) => {
                    let (name, rest) = split_at(rest, b']');
                    let rest = rest.ok_or_else(|| fail("an address in brackets does not end"))?;
                    (name, rest.strip_prefix(b":"))
                }
                None => split_at(host, b':'),
            };
            let port = match port.filter(|port| !port.is_empty()) {
                None => None,
                Some(port) => {
                    let number = str::from_utf8(port).ok().and_then(|port| port.parse().ok());
                    Some(
                        number
                            .ok_or_else(|| fail("what stands behind the host's colon is not the number of a port"))?,
                    )
                }
            };
            // A lone `:` names no more than nothing does.
            if !name.is_empty() || port.is_some() {
                url.hosts.push(Host { name: text(name)?, port });
            }
        }
        url.path = match engine {
            Engine::Sqlite => decode(path)?,
            _ => decode(path.strip_prefix(b"/").unwrap_or(path))?,
        };
        if url.path.contains(&0) {
            return Err(fail("a name cannot contain a zero byte"));
        }
        for pair in query.unwrap_or_default().split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()) {
            let (name, value) = split_at(pair, b'=');
            url.parameters.push((text(name)?, text(value.unwrap_or_default())?));
        }
        Ok(url)
    }

    /// A database of the server that listens on a socket: `socket` is its file, or for PostgreSQL its folder. `None` when
    /// its path is not UTF-8, which no URL can say.
    #[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
    pub(crate) fn of_socket(engine: Engine, user: Option<&str>, socket: &Path, database: &str) -> Option<Self> {
        let (_, schemes) = SCHEMES.iter().find(|(known, _)| *known == engine)?;
        Some(Self {
            engine,
            scheme: schemes[0],
            user: user.map(str::to_owned),
            password: None,
            hosts: vec![Host { name: socket.to_str()?.to_owned(), port: None }],
            path: database.into(),
            parameters: Vec::new(),
        })
    }

    /// Which kind of database it is.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// The scheme as it was written: `mongodb+srv` and `rediss` mean more than their engine.
    pub fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// Who connects.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The password, when the URL has one.
    pub fn password(&self) -> Option<&Password> {
        self.password.as_ref()
    }

    /// The servers; several are tried in turn, or make up one deployment. Empty when none was named.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// What follows the servers, without its first slash: the name of a database or its number, empty when none was
    /// given. For SQLite the path of the file.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// [`Self::path`] as the name of a database; `None` when it is empty.
    ///
    /// # Errors
    ///
    /// When it is not UTF-8.
    pub fn database(&self) -> Result<Option<&str>> {
        let name = str::from_utf8(&self.path)
            .map_err(|_| Error::invalid(self.to_string(), "the name of the database is not UTF-8"))?;
        Ok(Some(name).filter(|name| !name.is_empty()))
    }

    /// The same server, another database.
    #[must_use]
    pub fn with_database(&self, name: &str) -> Self {
        Self { path: name.into(), ..self.clone() }
    }

    /// The same, opened with this password.
    #[must_use]
    pub fn with_password(&self, password: Password) -> Self {
        Self { password: Some(password), ..self.clone() }
    }

    /// The same with one more parameter, unless it says that already.
    #[must_use]
    pub fn with_parameter(&self, name: &str, value: &str) -> Self {
        let mut url = self.clone();
        if !url.parameters.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
            url.parameters.push((name.to_owned(), value.to_owned()));
        }
        url
    }

    /// What stands behind the question mark, in its order.
    pub fn parameters(&self) -> &[(String, String)] {
        &self.parameters
    }
}

/// Without its password, and without its parameters, which may hold one.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = String::from_utf8_lossy(&self.path);
        if self.engine == Engine::Sqlite {
            return match path.starts_with("//") {
                // As it is, its beginning would be taken for a server.
                true => write!(f, "{}://{}", self.scheme, utf8_percent_encode(&path, SHOWN_IN_PATHS)),
                false => write!(f, "{}:{path}", self.scheme),
            };
        }
        write!(f, "{}://", self.scheme)?;
        if let Some(user) = &self.user {
            write!(f, "{}@", utf8_percent_encode(user, SHOWN))?;
        }
        for (index, Host { name, port }) in self.hosts.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match name.contains(':') {
                true => write!(f, "{comma}[{}]", utf8_percent_encode(name, SHOWN_IN_BRACKETS))?,
                false => write!(f, "{comma}{}", utf8_percent_encode(name, SHOWN))?,
            }
            if let Some(port) = port {
                write!(f, ":{port}")?;
            }
        }
        write!(f, "/{}", utf8_percent_encode(&path, SHOWN))
    }
}

/// As it is shown to people: a parameter's value may be a password.
impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

/// The engine, the scheme, and what follows its colon; `None` for what is no database.
fn scheme_of(text: &[u8]) -> Option<(Engine, &'static str, &[u8])> {
    let (scheme, rest) = split_at(text, b':');
    let rest = rest?;
    let known = |schemes: &'static [&'static str]| {
        schemes.iter().find(|known| known.as_bytes().eq_ignore_ascii_case(scheme)).copied()
    };
    SCHEMES.iter().find_map(|(engine, schemes)| Some((*engine, known(schemes)?, rest)))
}

fn example(engine: Engine) -> &'static str {
    match engine {
        Engine::Postgres => "postgres://user@host:5432/db",
        Engine::Mysql => "mysql://user@host:3306/db",
        Engine::Mongodb => "mongodb://user@host:27017/db",
        Engine::Sqlite => "sqlite:/path/file.db",
        Engine::Redis => "redis://user@host:6379/0",
    }
}

/// What stands before the first `byte`, and what behind it if there is one.
fn split_at(text: &[u8], byte: u8) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|&other| other == byte) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// The library lets a wrong escape stand as it is; in a password that would be a riddle.
fn decoded(part: &[u8]) -> Option<Vec<u8>> {
    let is_hex = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let is_escape = |at: usize| is_hex(part.get(at + 1)) && is_hex(part.get(at + 2));
    let all_right = part.iter().enumerate().all(|(at, &byte)| byte != b'%' || is_escape(at));
    all_right.then(|| percent_decode(part).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url(text: &str) -> DatabaseUrl {
        DatabaseUrl::parse(text).unwrap()
    }

    fn host(name: &str, port: Option<u16>) -> Host {
        Host { name: name.to_owned(), port }
    }

    #[test]
    fn the_parts_of_a_url_are_found_and_decoded() {
        let url = url("postgresql://me:p%40ss%2F@db.internal:5433/my%20app?sslmode=require&a=b%26c");
        assert_eq!((url.engine(), url.scheme(), url.user()), (Engine::Postgres, "postgresql", Some("me")));
        assert_eq!(url.password().map(Password::reveal), Some("p@ss/"));
        assert_eq!(url.hosts(), [host("db.internal", Some(5433))]);
        assert_eq!(url.database().unwrap(), Some("my app"));
        let parameter = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(url.parameters(), [parameter("sslmode", "require"), parameter("a", "b&c")]);
        assert_eq!(url.with_database("x").to_string(), "postgresql://me@db.internal:5433/x");
    }

    #[test]
    fn what_is_left_out_is_not_there() {
        let bare = url("postgres://");
        assert_eq!((bare.user(), bare.hosts(), bare.database().unwrap()), (None, &[][..], None));
        assert_eq!(url("redis://h/").path(), b"");
        assert_eq!(url("mongodb+srv://u:@h").password().map(Password::reveal), Some(""));
        assert_eq!(url("postgres:///db?host=/run").to_string(), "postgres:///db");
    }

    #[test]
    fn several_servers_addresses_and_sockets_are_hosts() {
        let several = url("mongodb://a:1,b,[::1]:3/x");
        assert_eq!(several.hosts(), [host("a", Some(1)), host("b", None), host("::1", Some(3))]);
        assert_eq!(several.to_string(), "mongodb://a:1,b,[::1]:3/x");
        assert_eq!(url("postgres://%2Frun%2Fpg/x").hosts(), [host("/run/pg", None)]);
        // What is shown is copied into the next command: an address with its zone, and a name that looks like none.
        for shown in ["postgres://[fe80::1%25eth0]:5432/x", "postgres://%5B,a%2Cb,[c:%2F%5D%2C]/x"] {
            assert_eq!(url(shown).to_string(), shown);
        }
        assert_eq!(url("postgres://[fe80::1%25eth0]/x").hosts(), [host("fe80::1%eth0", None)]);
        assert_eq!(
            url("postgres://a,,:,[],:5/x").hosts(),
            [host("a", None), host("", Some(5))],
            "a lone `:` is no host"
        );
    }

    #[test]
    fn a_file_is_named_by_its_path() {
        assert_eq!(url("sqlite:/a b/50%.db").path(), b"/a b/50%.db");
        assert_eq!(url("sqlite:rel.db").path(), b"rel.db");
        assert_eq!(url("sqlite:///a%20b.db").path(), b"/a b.db");
        assert_eq!(url("sqlite:/x.db").to_string(), "sqlite:/x.db");
        let doubled = url("sqlite:////a%2520b.db");
        assert_eq!((doubled.path(), doubled.to_string()), (&b"//a%20b.db"[..], "sqlite:////a%2520b.db".to_owned()));
        assert_eq!(url(&doubled.to_string()), doubled);
        assert!(DatabaseUrl::parse("sqlite:a\0b").is_err(), "no file's name has a zero byte");
    }

    #[test]
    fn what_is_no_database_is_not_taken_for_one() {
        for text in ["/srv/files", "./postgres:x", "C:x", "files", "", "http://h/x", "postgres", "sqlite"] {
            assert!(!DatabaseUrl::is_one(text) && DatabaseUrl::parse(text).is_err(), "{text}");
        }
        assert!(DatabaseUrl::is_one("POSTGRES://h") && DatabaseUrl::is_one("sqlite:x"));
    }

    #[test]
    fn no_error_tells_a_password() {
        for text in [
            "postgres://me:se/cret@h/db",
            "postgres://me:sec%zz@h/db",
            "postgres:me:secret@h/db",
            "mysql://me:secret@h:port/db",
            "mysql://me:secret@[::1/db",
            "postgres://me:%00secret%ff@h/db",
        ] {
            let error = DatabaseUrl::parse(text).unwrap_err();
            let told = format!("{error} {error:?} {:?}", error.hint());
            assert!(!["sec", "se/", "cret", "me:"].iter().any(|piece| told.contains(piece)), "{told}");
        }
    }

    proptest! {
        #[test]
        fn any_password_arrives_whole_and_is_never_shown(password in "\\PC{4,20}", user in "[a-z]{1,3}") {
            let encoded = percent_encoding::percent_encode(password.as_bytes(), percent_encoding::NON_ALPHANUMERIC);
            let url = url(&format!("postgres://{user}:{encoded}@h/db"));
            prop_assert_eq!(url.password().unwrap().reveal(), &password);
            let shown = format!("postgres://{user}@h/db");
            prop_assert_eq!(url.to_string(), &shown[..]);
            prop_assert_eq!(format!("{url:?}"), format!("DatabaseUrl({shown})"));
        }

        #[test]
        fn no_text_makes_it_panic(text in "(postgres|mongodb|sqlite|redis):(//)?[ -~%@:/?#,\\[\\]]{0,30}") {
            if let Ok(url) = DatabaseUrl::parse(&text) {
                let _ = url.database().is_ok();
                let shown = url.to_string();
                prop_assert_eq!(DatabaseUrl::parse(&shown).map(|again| again.to_string()).ok(), Some(shown));
            }
        }
    }
}
