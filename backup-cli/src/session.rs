//! What a command works with: the console, the request to stop, the configuration, and the repository once it is open.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backup_core::cancel::Cancel;
use backup_core::clock::SystemClock;
use backup_core::contracts::Sink;
use backup_core::model::{Snapshot, SnapshotId};
use backup_core::observe::Observer;
use backup_core::repository::{FirstLook, Identity, Lock, Repository};
use backup_store::{Access, Environment, Place};
use jiff::Timestamp;

use crate::args::{Globals, Which};
use crate::config::{self, Config};
use crate::console::{Console, amounts};
use crate::exit::Failure;
use crate::located::Located;
use crate::network::{self, Caching};
use crate::secrets::password;

/// What every command gets.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) globals: Globals,
    pub(crate) console: Console,
    pub(crate) cancel: Cancel,
    /// Read when it is first asked for; `None` when there is none.
    config: OnceCell<Option<Arc<Config>>>,
    /// Repositories of the configuration that were opened, for their keys.
    opened: RefCell<BTreeMap<String, Repository>>,
}

impl Session {
    /// A session that has opened nothing yet.
    pub(crate) fn new(globals: Globals, cancel: Cancel) -> Self {
        let console = Console::new(&globals);
        Self { console, globals, cancel, config: OnceCell::new(), opened: RefCell::default() }
    }

    /// The configuration, for commands that live on it.
    pub(crate) fn config(&self) -> Result<Arc<Config>, Failure> {
        self.config_if_any()?.ok_or_else(no_configuration)
    }

    /// Whether there is a configuration.
    pub(crate) fn has_config(&self) -> Result<bool, Failure> {
        Ok(self.config_if_any()?.is_some())
    }

    /// The configuration, when there is one.
    fn config_if_any(&self) -> Result<Option<Arc<Config>>, Failure> {
        if let Some(known) = self.config.get() {
            return Ok(known.clone());
        }
        let config = match self.find_config()? {
            Some(found) => Some(Arc::new(self.load_config(&found)??)),
            None => None,
        };
        Ok(self.config.get_or_init(|| config).clone())
    }

    /// The configuration, or all that is wrong with it.
    pub(crate) fn read_config(&self) -> Result<Result<Config, config::Wrong>, Failure> {
        self.find_config()?.map_or_else(|| Err(no_configuration()), |found| self.load_config(&found))
    }

    fn find_config(&self) -> Result<Option<PathBuf>, Failure> {
        config::find(self.globals.config.as_deref(), own_configuration().as_deref(), effective_user())
    }

    /// Reads the file, or what the daemon has read of it.
    fn load_config(&self, path: &Path) -> Result<Result<Config, config::Wrong>, Failure> {
        let variables = |name: &str| std::env::var(name).ok();
        if !self.globals.config_text {
            return Config::load(path, &variables);
        }
        let text = std::io::read_to_string(std::io::stdin()).map(zeroize::Zeroizing::new);
        let text = text.map_err(|error| Failure::because("the configuration on standard input", &error))?;
        Ok(Config::read(path, &text, &variables))
    }

    /// What people named as a repository: a name of the configuration, or a place.
    pub(crate) fn locate(&self, text: &str) -> Result<Located, Failure> {
        // Only what could be a name is worth reading the configuration for.
        let is_word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        if is_word
            && let Some(config) = self.config_if_any()?
            && let Some(repository) = config.repository(text)
        {
            return Ok(Located::configured(repository, &self.globals.network));
        }
        let cold = match self.globals.repo_cold.as_deref().filter(|cold| !cold.is_empty()) {
            // Where other commands name a second repository, that is another one.
            Some(cold) if self.globals.repo.iter().any(|place| place == text) => Some(Place::parse(cold)?),
            _ => None,
        };
        let mut located = Located::at(Place::parse(text)?, &self.globals.network);
        located.cold = cold;
        Ok(located)
    }

    /// The place that was named as the repository.
    pub(crate) fn place(&self) -> Result<&str, Failure> {
        match self.places()?.as_slice() {
            [place] => Ok(place),
            _ => Err(Failure::usage("this command works on one repository", "give -r once; `create` takes several")),
        }
    }

    /// The places that were named as repositories: at least one.
    pub(crate) fn places(&self) -> Result<Vec<&str>, Failure> {
        let places: Vec<_> = self.globals.repo.iter().map(String::as_str).filter(|place| !place.is_empty()).collect();
        if places.len() > 1 && self.globals.repo_cold.as_ref().is_some_and(|cold| !cold.is_empty()) {
            return Err(Failure::usage(
                "--repo-cold belongs to one repository, and several are named",
                "write the pairs into the configuration (`cold = \"…\"`), and give their names",
            ));
        }
        match places.is_empty() {
            true => Err(Failure::usage("no repository was named", self.names_hint())),
            false => Ok(places),
        }
    }

    /// How to name one.
    fn names_hint(&self) -> String {
        let config = self.config_if_any().ok().flatten();
        let names =
            config.iter().flat_map(|config| config.repositories.iter()).map(|repository| repository.name.as_str());
        match names.collect::<Vec<_>>().as_slice() {
            [] => "give it with -r PLACE, or set BACKUP_REPO".to_owned(),
            names => format!("give it with -r PLACE; the configuration has {}", names.join(", ")),
        }
    }

    /// Whether the content of files lies in a class of its own, where reading costs more.
    pub(crate) fn has_cold_packs(&self) -> bool {
        let located = self.place().ok().and_then(|place| self.locate(place).ok());
        located.is_some_and(|located| located.has_cold_packs())
    }

    /// Whether the configuration knows writers of this repository that take no locks: none can keep them away.
    pub(crate) fn has_lock_free_writers(&self) -> Result<bool, Failure> {
        let located = self.locate(self.place()?)?;
        let config = self.config_if_any()?;
        let repositories = config.iter().flat_map(|config| &config.repositories);
        Ok(repositories.into_iter().any(|one| one.is_lock_free && one.place == located.place))
    }

    /// Opens the repository.
    pub(crate) fn open(&self) -> Result<Repository, Failure> {
        self.open_to(&[])
    }

    /// Opens the repository, and says what is looked at first.
    pub(crate) fn open_to(&self, looks: &[FirstLook]) -> Result<Repository, Failure> {
        self.place()?;
        self.open_through(0, None, Caching::Allowed, looks)
    }

    /// Opens one of the repositories for a backup, acting as the machine `host` when that is given.
    pub(crate) fn open_nth(&self, number: usize, host: Option<&str>) -> Result<Repository, Failure> {
        let looks = if self.globals.no_lock { &[][..] } else { &[FirstLook::Locks] };
        self.open_through(number, host, Caching::Allowed, looks)
    }

    /// Opens the repository to verify the store itself: no copy on this machine stands for what is there.
    pub(crate) fn open_uncached(&self) -> Result<Repository, Failure> {
        self.place()?;
        self.open_through(0, None, Caching::Forbidden, &[])
    }

    /// The same, and whether a copy on this machine may stand for what is there.
    pub(crate) fn open_through(
        &self,
        number: usize,
        host: Option<&str>,
        caching: Caching,
        looks: &[FirstLook],
    ) -> Result<Repository, Failure> {
        let place = self.places()?[number];
        let located = self.locate(place)?;
        let sink = located.open(caching, self)?;
        let passphrase = match &located.passphrase {
            // What the configuration says of a repository that was named by its name is nearer than the environment.
            Some(origin) if !self.has_password_option() => password::of_origin(origin, self)?,
            _ => password::of_nth_repository(self, number, place)?,
        };
        let observer = self.console.reporter();
        Ok(Repository::open_to(looks, sink, &passphrase, identity(host), Arc::new(SystemClock), &*observer)?)
    }

    /// Opens a repository of the configuration, acting as the machine `host` when that is given. Its key is derived once,
    /// however often that is.
    pub(crate) fn open_configured(
        &self,
        repository: &config::Repository,
        host: Option<&str>,
    ) -> Result<Repository, Failure> {
        self.open_configured_to(repository, host, &[])
    }

    /// The same, and says what is looked at first.
    pub(crate) fn open_configured_to(
        &self,
        repository: &config::Repository,
        host: Option<&str>,
        looks: &[FirstLook],
    ) -> Result<Repository, Failure> {
        // A drill must not: what a restore takes on another machine begins with the passphrase.
        let known = self.opened.borrow().get(&repository.name).cloned();
        if let Some(known) = known {
            let sink = Located::configured(repository, &self.globals.network).open(Caching::Allowed, self)?;
            if let Ok(again) = known.reopen(sink, identity(host), Arc::new(SystemClock)) {
                return Ok(again);
            }
        }
        let opened = self.open_located(repository, host, Caching::Allowed, looks)?;
        self.opened.borrow_mut().insert(repository.name.clone(), opened.clone());
        Ok(opened)
    }

    /// The same, and whether a copy on this machine may stand for what is there.
    pub(crate) fn open_configured_through(
        &self,
        repository: &config::Repository,
        host: Option<&str>,
        caching: Caching,
    ) -> Result<Repository, Failure> {
        self.open_located(repository, host, caching, &[])
    }

    /// The same as whoever has lost this machine opens it: without a cache, and with a passphrase that this machine's
    /// configuration does not tell.
    pub(crate) fn open_configured_as_a_stranger(&self, repository: &config::Repository) -> Result<Repository, Failure> {
        let mut located = Located::configured(repository, &self.globals.network);
        located.passphrase = None;
        self.open_through_located(&located, None, Caching::Forbidden, &[])
    }

    fn open_located(
        &self,
        repository: &config::Repository,
        host: Option<&str>,
        caching: Caching,
        looks: &[FirstLook],
    ) -> Result<Repository, Failure> {
        let located = Located::configured(repository, &self.globals.network);
        self.open_through_located(&located, host, caching, looks)
    }

    fn open_through_located(
        &self,
        located: &Located,
        host: Option<&str>,
        caching: Caching,
        looks: &[FirstLook],
    ) -> Result<Repository, Failure> {
        let sink = located.open(caching, self)?;
        let passphrase = located.passphrase(self)?;
        let observer = self.console.reporter();
        Ok(Repository::open_to(looks, sink, &passphrase, identity(host), Arc::new(SystemClock), &*observer)?)
    }

    /// Whether an option of the command line says where the passphrase is.
    pub(crate) fn has_password_option(&self) -> bool {
        !self.globals.password_file.is_empty() || !self.globals.password_command.is_empty()
    }

    /// Opens the store at `place`. That nothing is there means that no repository is.
    pub(crate) fn open_sink(&self, place: &str, caching: Caching) -> Result<Arc<dyn Sink>, Failure> {
        self.locate(place)?.open(caching, self)
    }

    /// Refuses `--no-lock` for a command that is not safe without.
    pub(crate) fn require_locks(&self) -> Result<(), Failure> {
        if self.globals.no_lock {
            return Err(Failure::usage(
                "this command changes what others rely on, and needs its lock",
                "leave out --no-lock",
            ));
        }
        Ok(())
    }

    /// A lock that bears others beside it, for as long as a command reads trees or data.
    pub(crate) fn lock(&self, repository: &Repository, observer: &dyn Observer) -> Result<Lock, Failure> {
        Ok(repository.lock(self.globals.shared_lock(), observer)?)
    }

    /// The snapshot that people call `text`. With `--at`, how far it lies before that time is said.
    pub(crate) fn find(
        &self,
        repository: &Repository,
        text: &str,
        which: &Which,
    ) -> Result<(SnapshotId, Snapshot), Failure> {
        if text != "latest" && !which.is_all() {
            return Err(Failure::usage(
                format!("{text} is an id: --job, --source, --host, --tag and --at choose what `latest` is"),
                "give `latest`, or the id alone",
            ));
        }
        let (id, snapshot) = repository.find_snapshot(text, &which.query())?;
        if let Some(at) = which.at {
            self.console.note(&format!(
                "snapshot {id:.8} is of {}, {} before {}",
                amounts::local_time(snapshot.time),
                amounts::span(gap_seconds(snapshot.time, at)),
                amounts::local_time(at),
            ));
        }
        Ok((id, snapshot))
    }
}

/// What opens stores: the environment, from which the library takes what each provider's usual chain begins with.
pub(crate) fn access() -> Access {
    Access { credentials: None, environment: Environment::new(std::env::vars_os()) }
}

fn gap_seconds(earlier: Timestamp, later: Timestamp) -> f64 {
    later.duration_since(earlier).as_secs_f64()
}

/// Who acts: this machine, user and process.
pub(crate) fn identity(host: Option<&str>) -> Identity {
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    let username = nix::unistd::User::from_uid(uid.as_raw().into()).ok().flatten().map(|user| user.name);
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Identity {
        hostname: host.map_or(hostname, str::to_owned),
        username: username.unwrap_or_else(|| uid.as_raw().to_string()),
        uid: uid.as_raw(),
        gid: gid.as_raw(),
        pid: rustix::process::getpid().as_raw_nonzero().get(),
    }
}

/// The folder of one's own configuration: `$XDG_CONFIG_HOME/backup`, or `~/.config/backup`.
fn own_configuration() -> Option<PathBuf> {
    network::own_folder(|name| std::env::var_os(name), "XDG_CONFIG_HOME", ".config")
}

fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn no_configuration() -> Failure {
    Failure::usage(
        "there is no configuration",
        "write /etc/backup/backup.toml, or name one with -c FILE; the manual's page is configuration.md",
    )
}
