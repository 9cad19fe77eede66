//! What a command works with: the console, the request to stop, and the repository once it is open.

use std::sync::Arc;

use backup_core::cancel::Cancel;
use backup_core::clock::SystemClock;
use backup_core::contracts::{Sink, SinkErrorKind};
use backup_core::model::{Snapshot, SnapshotId};
use backup_core::observe::Observer;
use backup_core::repository::{Identity, Lock, Repository};
use backup_core::{Error, ErrorKind};
use backup_store::Place;
use jiff::Timestamp;

use crate::args::{Globals, Which};
use crate::console::{Console, amounts};
use crate::exit::Failure;
use crate::secrets::password;

/// What every command gets.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) globals: Globals,
    pub(crate) console: Console,
    pub(crate) cancel: Cancel,
}

impl Session {
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
        match places.is_empty() {
            true => Err(Failure::usage("no repository was named", "give it with -r PLACE, or set BACKUP_REPO")),
            false => Ok(places),
        }
    }

    /// Opens the repository.
    pub(crate) fn open(&self) -> Result<Repository, Failure> {
        self.place()?;
        self.open_nth(0, None)
    }

    /// Opens one of the repositories, acting as the machine `host` when that is given.
    pub(crate) fn open_nth(&self, number: usize, host: Option<&str>) -> Result<Repository, Failure> {
        let place = self.places()?[number];
        let sink = open_sink(place)?;
        let passphrase = password::of_nth_repository(self, number, place)?;
        let observer = self.console.reporter();
        Ok(Repository::open(sink, &passphrase, identity(host), Arc::new(SystemClock), &*observer)?)
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
        repository.lock(self.globals.shared_lock(), observer).map_err(|error| {
            let is_refused =
                matches!(error.kind(), ErrorKind::Sink(SinkErrorKind::ReadOnly | SinkErrorKind::PermissionDenied));
            let failure = Failure::from(error);
            if is_refused {
                failure.with_hint("--no-lock reads without leaving a lock in the repository")
            } else {
                failure
            }
        })
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

/// Opens the store at `place`. That nothing is there means that no repository is.
pub(crate) fn open_sink(place: &str) -> Result<Arc<dyn Sink>, Failure> {
    let parsed = Place::parse(place)?;
    parsed.open().map_err(|error| match error.kind {
        SinkErrorKind::NotFound => Error::new(ErrorKind::NoRepository, parsed.to_string()).into(),
        _ => Error::from(error).into(),
    })
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
