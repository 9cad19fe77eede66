//! Which server, as whom: what a URL says, completed by what its caller knows from the environment.
//!
//! The same words go to our own connection and to PostgreSQL's programs, to these through their environment: what is in
//! an argument can be read by everybody on the machine. Whatever else libpq would read there is taken out first, so that
//! both reach the same server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use backup_core::limits::DATABASE_CONNECT_SECONDS;
use backup_core::{Error, Result};

use super::passfile;
use super::programs::Folders;
use crate::databases::url::{DatabaseUrl, Host, Password};

/// What can be said of a connection, in libpq's words, and the variable that says it to its programs.
pub const PARAMETERS: [(&str, &str); 12] = [
    ("host", "PGHOST"),
    ("port", "PGPORT"),
    ("user", "PGUSER"),
    ("dbname", "PGDATABASE"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("application_name", "PGAPPNAME"),
    ("options", "PGOPTIONS"),
    ("channel_binding", "PGCHANNELBINDING"),
];

/// What libpq reads besides, and must not when it is to reach the same server as we do.
const MISLEADING: [&str; 20] = [
    "PGHOSTADDR",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGREQUIREAUTH",
    "PGREQUIREPEER",
    "PGREQUIRESSL",
    "PGSSLCOMPRESSION",
    "PGSSLCRL",
    "PGSSLCRLDIR",
    "PGSSLNEGOTIATION",
    "PGSSLSNI",
    "PGTARGETSESSIONATTRS",
    "PGLOADBALANCEHOSTS",
    "PGCLIENTENCODING",
    "PGDATESTYLE",
    "PGGEQO",
    "PGTZ",
    "LC_ALL",
];

/// The folders that a server's socket may lie in, when nobody says which: Debian's, and PostgreSQL's own.
const SOCKET_FOLDERS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// What the caller knows from its environment; what a URL says comes before it.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// By the words of [`PARAMETERS`].
    pub parameters: BTreeMap<String, String>,
    /// The password.
    pub password: Option<Password>,
    /// The text of the file of passwords, `~/.pgpass`.
    pub passfile: Option<Password>,
    /// The caller's home, where `.postgresql/root.crt` and a client's certificate may be.
    pub home: Option<PathBuf>,
    /// Where the programs are.
    pub folders: Folders,
}

/// A server, and who connects to it.
#[derive(Clone, Debug)]
pub struct Server {
    /// Candidates: the first that answers is taken.
    pub(super) hosts: Vec<(String, u16)>,
    pub(super) user: String,
    pub(super) password: Option<Password>,
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) folders: Folders,
    settings: Settings,
    url: DatabaseUrl,
    environment: Environment,
}

/// What programs find in their environment besides what is said of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Environment {
    /// What this process has.
    Inherited,
    /// Nothing.
    Empty,
}

impl Server {
    /// The server that `url` means.
    ///
    /// # Errors
    ///
    /// When the URL has a parameter that is not understood: one that was meant to protect must not be passed over.
    pub fn new(url: &DatabaseUrl, settings: &Settings) -> Result<Self> {
        let wrong = |why: String| Error::invalid(url.to_string(), why);
        let mut parameters = settings.parameters.clone();
        let mut password = url.password().cloned();
        for (name, value) in url.parameters() {
            match name.as_str() {
                "password" => password = Some(Password::new(value)),
                // We know none but `disable`: our own connection cannot do it.
                "gssencmode" if value == "disable" => {}
                name if PARAMETERS.iter().any(|(known, _)| *known == name) => {
                    parameters.insert(name.to_owned(), value.clone());
                }
                _ => {
                    return Err(wrong(format!("the parameter {name} is not understood"))
                        .with_hint(format!("known are {}", PARAMETERS.map(|(name, _)| name).join(", "))));
                }
            }
        }
        let mut take = |name: &str| parameters.remove(name).filter(|value| !value.is_empty());
        let (named_hosts, named_ports) = (take("host"), take("port"));
        let user = url.user().map(str::to_owned).or_else(|| take("user")).map_or_else(own_name, Ok)?;
        parameters.remove("user");
        parameters.remove("dbname");
        let hosts = hosts(url.hosts(), named_hosts.as_deref(), named_ports.as_deref())
            .ok_or_else(|| wrong("a port is not a number".to_owned()))?;
        let password = password.or_else(|| settings.password.clone());
        let (settings, folders, url) = (settings.clone(), settings.folders.clone(), url.clone());
        let environment = Environment::Inherited;
        Ok(Self { hosts, user, password, parameters, folders, settings, url, environment })
    }

    /// The server with its socket in `folder`, whose programs find nothing of this process's environment.
    pub(super) fn alone(folder: &Path, user: &str, programs: &Path) -> Result<Self> {
        let parameters = [("host", folder.display().to_string()), ("sslmode", "disable".to_owned())];
        let parameters = parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let folders = Folders { only: Some(programs.to_owned()), also: Vec::new() };
        let url = DatabaseUrl::parse(format!("postgres://{user}@/"))?;
        let server = Self::new(&url, &Settings { parameters, folders, ..Settings::default() })?;
        Ok(Self { environment: Environment::Empty, ..server })
    }

    /// The same for another user, who needs no password there.
    pub(super) fn for_user(&self, user: &str) -> Self {
        Self { user: user.to_owned(), ..self.clone() }
    }

    /// The same under another name for its sessions.
    pub(super) fn with_application(&self, name: &str) -> Self {
        let mut server = self.clone();
        server.parameters.insert("application_name".to_owned(), name.to_owned());
        server
    }

    /// Where it is, for people.
    pub fn location(&self) -> String {
        self.url.to_string()
    }

    /// The database that was named: by the URL, or by the environment.
    ///
    /// # Errors
    ///
    /// When its name is not UTF-8.
    pub fn database(&self) -> Result<Option<String>> {
        let name = self.url.database()?.map(str::to_owned);
        Ok(name.or_else(|| self.settings.parameters.get("dbname").filter(|name| !name.is_empty()).cloned()))
    }

    /// Only this one of the candidates: the programs must reach the same as we did.
    pub(super) fn narrowed(&self, host: usize) -> Self {
        Self { hosts: vec![self.hosts[host].clone()], ..self.clone() }
    }

    /// The password for a database, from wherever it is known.
    pub(super) fn password_for(&self, host: usize, database: &str) -> Option<Password> {
        let (name, port) = &self.hosts[host];
        let from_file = || {
            let text = self.settings.passfile.as_ref()?;
            let is_local = SOCKET_FOLDERS.contains(&name.as_str());
            let host = if is_local { "localhost" } else { name };
            passfile::find(text.reveal(), host, *port, database, &self.user)
        };
        self.password.clone().or_else(from_file)
    }

    /// A parameter's value.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A file that belongs to the caller's certificates: the one that is named, or the usual one if it is there.
    pub(super) fn certificate_file(&self, parameter: &str, usual: &str) -> Option<PathBuf> {
        let named = self.parameter(parameter).map(PathBuf::from);
        named.or_else(|| {
            let path = self.settings.home.as_deref()?.join(".postgresql").join(usual);
            path.is_file().then_some(path)
        })
    }

    /// Gives a program of PostgreSQL's the words by which it reaches `database` of this server, and nothing else.
    pub(super) fn equip(&self, command: &mut Command, database: &str, authorities: Option<&Path>) {
        if self.environment == Environment::Empty {
            command.env_clear();
        }
        for name in MISLEADING.into_iter().chain(PARAMETERS.map(|(_, variable)| variable)) {
            command.env_remove(name);
        }
        let (host, port) = &self.hosts[0];
        command.env("PGHOST", host).env("PGPORT", port.to_string()).env("PGUSER", &self.user);
        command.env("PGDATABASE", database).env("PGGSSENCMODE", "disable");
        if let Some(password) = self.password_for(0, database) {
            command.env("PGPASSWORD", password.reveal());
        }
        for (name, variable) in PARAMETERS {
            if let Some(value) = self.parameter(name) {
                command.env(variable, value);
            }
        }
        if let Some(path) = authorities {
            command.env("PGSSLROOTCERT", path);
        }
        if self.parameter("connect_timeout").is_none() {
            command.env("PGCONNECT_TIMEOUT", DATABASE_CONNECT_SECONDS.to_string());
        }
        // What it says is read by us; and times are told in one zone, so that the same rows are the same bytes.
        command.env("LC_ALL", "C").env("PGTZ", "UTC");
    }
}

/// The servers to try: those of the URL, those that are named beside it, or the one on this machine.
fn hosts(of_url: &[Host], names: Option<&str>, ports: Option<&str>) -> Option<Vec<(String, u16)>> {
    const USUAL_PORT: u16 = 5432;
    let ports: Vec<u16> = match ports {
        Some(ports) => ports.split(',').map(|port| port.trim().parse().ok()).collect::<Option<_>>()?,
        None => Vec::new(),
    };
    // As libpq: one port is for all hosts.
    let port = |index: usize| ports.get(index).or(ports.last()).copied().unwrap_or(USUAL_PORT);
    if !of_url.is_empty() {
        let host = |(index, host): (usize, &Host)| (host.name.clone(), host.port.unwrap_or_else(|| port(index)));
        return Some(of_url.iter().enumerate().map(host).collect());
    }
    let names = match names {
        Some(names) => names.split(',').map(str::to_owned).collect(),
        None => {
            let folder = SOCKET_FOLDERS.into_iter().find(|folder| Path::new(folder).is_dir());
            vec![folder.unwrap_or("localhost").to_owned()]
        }
    };
    Some(names.into_iter().enumerate().map(|(index, name)| (name, port(index))).collect())
}

/// The name of who runs this, which is libpq's last resort too.
fn own_name() -> Result<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    user.map(|user| user.name)
        .ok_or_else(|| Error::invalid("the database's user", "nobody was named: write postgres://USER@host/db"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str, settings: &Settings) -> Result<Server> {
        Server::new(&DatabaseUrl::parse(url)?, settings)
    }

    fn settings(parameters: &[(&str, &str)]) -> Settings {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings { parameters, passfile: Some(Password::new("h:*:*:me:of the file\n")), ..Settings::default() }
    }

    #[test]
    fn what_the_url_says_comes_before_the_environment() {
        let settings = settings(&[("host", "other"), ("port", "6000"), ("user", "them"), ("sslmode", "require")]);
        let named = server("postgres://me@h:5433/db?sslmode=disable", &settings).unwrap();
        assert_eq!((named.hosts.as_slice(), named.user.as_str()), (&[("h".to_owned(), 5433)][..], "me"));
        assert_eq!(named.parameter("sslmode"), Some("disable"));
        let silent = server("postgres:///db", &settings).unwrap();
        assert_eq!((silent.hosts.as_slice(), silent.user.as_str()), (&[("other".to_owned(), 6000)][..], "them"));
        assert_eq!(silent.parameter("sslmode"), Some("require"));
    }

    #[test]
    fn several_hosts_share_a_port_or_have_their_own() {
        let of = |url: &str| server(url, &Settings::default()).unwrap().hosts;
        assert_eq!(of("postgres://u@a:1,b/x"), [("a".to_owned(), 1), ("b".to_owned(), 5432)]);
        assert_eq!(of("postgres://u@/x?host=a,b&port=7"), [("a".to_owned(), 7), ("b".to_owned(), 7)]);
        assert_eq!(of("postgres://u@/x?host=%2Frun%2Fpg&port=7"), [("/run/pg".to_owned(), 7)]);
    }

    #[test]
    fn a_password_comes_from_the_url_the_environment_or_the_file() {
        let mut settings = settings(&[]);
        let found = |url: &str, settings: &Settings| {
            server(url, settings).unwrap().password_for(0, "db").map(|password| password.reveal().to_owned())
        };
        assert_eq!(found("postgres://me@h/db", &settings).as_deref(), Some("of the file"));
        assert_eq!(found("postgres://you@h/db", &settings), None);
        settings.password = Some(Password::new("of the environment"));
        assert_eq!(found("postgres://me@h/db", &settings).as_deref(), Some("of the environment"));
        assert_eq!(found("postgres://me:of%20the%20url@h/db", &settings).as_deref(), Some("of the url"));
        assert_eq!(found("postgres://me@h/db?password=x", &settings).as_deref(), Some("x"));
    }

    #[test]
    fn a_parameter_that_is_not_understood_is_named_and_not_passed_over() {
        let error = server("postgres://me@h/db?sslmod=require", &Settings::default()).unwrap_err();
        assert!(error.to_string().contains("sslmod "), "{error}");
    }

    #[test]
    fn a_program_gets_the_password_in_its_environment_only() {
        let server = server("postgres://me:secret@h/db", &Settings::default()).unwrap();
        let mut command = Command::new("pg_dump");
        server.equip(&mut command, "db", None);
        assert!(command.get_args().next().is_none());
        let value = |name: &str| command.get_envs().find(|(key, _)| *key == name).and_then(|(_, value)| value);
        assert_eq!(value("PGPASSWORD").and_then(|value| value.to_str()), Some("secret"));
        assert_eq!(value("PGSERVICE"), None);
        assert!(!format!("{server:?}").contains("secret"));
    }
}
