//! Evidence on this machine: the key, the journal, and the stores that records go to.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use backup_core::evidence::{Context, EvidenceRecord, Head, Host, Journal, Objectives, SigningKey, journal_records};
use backup_core::repository::Repository;
use jiff::Timestamp;

use super::Drilled;
use crate::exit::{Exit, Failure};
use crate::network::{settings_folder, state_folder};
use crate::secrets::write_new;
use crate::session::{Session, identity};

/// The file of the key, when nobody says otherwise.
const KEY: &str = "evidence.key";

/// Options of commands that write evidence.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct KeyArgs {
    /// The private key that evidence is signed with; without one it is written and not signed
    #[arg(long, value_name = "FILE", env = "BACKUP_EVIDENCE_KEY")]
    pub(crate) evidence_key: Option<PathBuf>,
}

impl KeyArgs {
    /// Reads the key: the one that was named, which must be there, or the usual one if it is.
    pub(crate) fn read(&self, session: &Session) -> Result<Option<SigningKey>, Failure> {
        let path = match &self.evidence_key {
            Some(path) => path.clone(),
            None => match usual_path().filter(|path| path.exists()) {
                Some(path) => path,
                None => return Ok(None),
            },
        };
        let failed = |error: &io::Error| {
            let failure = Failure::because(format!("the evidence key {}", path.display()), error);
            Failure { exit: Exit::Usage, ..failure }.with_hint("`evidence key create` makes one")
        };
        let text = zeroize::Zeroizing::new(fs::read_to_string(&path).map_err(|error| failed(&error))?);
        let mode = fs::metadata(&path).map_err(|error| failed(&error))?.permissions().mode();
        if mode & 0o077 != 0 {
            session.console.warn(&format!("others can read the evidence key {}: chmod 600", path.display()));
        }
        Ok(Some(SigningKey::parse(&text)?))
    }
}

/// Where the key lies when nobody says otherwise.
pub(crate) fn usual_path() -> Option<PathBuf> {
    Some(settings_folder()?.join(KEY))
}

/// Makes a key in a file that is not there yet, readable by its owner alone.
pub(crate) fn create_key(path: &Path) -> Result<SigningKey, Failure> {
    let failed = |error: &io::Error| {
        let failure = Failure::because(format!("the evidence key {}", path.display()), error);
        match error.kind() {
            io::ErrorKind::AlreadyExists => failure.with_hint("a key is never replaced: what it signed hangs on it"),
            _ => failure,
        }
    };
    let (key, text) = SigningKey::generate()?;
    write_new(path, &text).map_err(|error| failed(&error))?;
    Ok(key)
}

/// Where a drill's evidence is.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) record: EvidenceRecord,
    pub(crate) head: Head,
    /// Stores that have it, and those that have not, with the reason.
    pub(crate) delivered: Vec<String>,
    pub(crate) waiting: Vec<(String, String)>,
}

/// Writes the record of a drill on this machine and brings it, and what waited, to the copy that was drilled and to
/// `others`.
pub(crate) fn write(
    drilled: &Drilled,
    job: Option<&str>,
    trigger: &str,
    objectives: Objectives,
    key: Option<&SigningKey>,
    others: &[&Repository],
) -> Result<Written, Failure> {
    let state = state_folder().ok_or_else(|| {
        Failure::new("no evidence is written: there is no folder for it").with_hint("set HOME or XDG_STATE_HOME")
    })?;
    let context = Context {
        times: drilled.times,
        program: format!("backup {}", env!("CARGO_PKG_VERSION")),
        trigger: trigger.to_owned(),
        host: host(),
        job: job.map(str::to_owned),
        policy: drilled.under.policy,
        runbook: drilled.under.runbook,
        copy: drilled.copy.clone(),
        snapshot: drilled.figures(),
        objectives,
    };
    let repositories: Vec<&Repository> = drilled.repository.iter().chain(others.iter().copied()).collect();
    let journal = Journal::open(&state, key.map(SigningKey::public))?;
    let (record, head) = journal.append(&context, &drilled.outcome, key, &repositories)?;
    let (mut delivered, mut waiting) = (Vec::new(), Vec::new());
    for repository in repositories {
        let place = repository.store().location();
        match journal.deliver(repository).failure {
            None => delivered.push(place),
            Some(error) => waiting.push((place, Failure::from(error).what)),
        }
    }
    Ok(Written { record, head, delivered, waiting })
}

/// When each part of a job was last drilled from this machine, by the copy's name and the paths of the snapshot. Nothing
/// depends on it but whose turn is next.
#[derive(Debug, Default)]
pub(crate) struct LastDrills(Vec<LastDrill>);

#[derive(Debug)]
struct LastDrill {
    copy: String,
    /// The paths of the snapshot, where one was found.
    paths: Vec<String>,
    /// How it was chosen.
    chosen: Option<String>,
    ended: Timestamp,
}

impl LastDrills {
    /// When a copy was, whichever part of it.
    pub(crate) fn of_copy(&self, copy: &str) -> Option<Timestamp> {
        self.0.iter().filter(|drill| drill.copy == copy).map(|drill| drill.ended).max()
    }

    /// How the last drill of a copy chose its snapshot.
    pub(crate) fn choice_of(&self, copy: &str) -> Option<&str> {
        let last = self.0.iter().filter(|drill| drill.copy == copy && drill.chosen.is_some());
        last.max_by_key(|drill| drill.ended)?.chosen.as_deref()
    }

    /// When each part in a copy was, by `part`'s word for it.
    pub(crate) fn of_parts(
        &self,
        copy: &str,
        part: impl Fn(&[String]) -> Vec<String>,
    ) -> BTreeMap<Vec<String>, Timestamp> {
        let mut last = BTreeMap::new();
        for LastDrill { paths, ended, .. } in self.0.iter().filter(|drill| drill.copy == copy) {
            let known = last.entry(part(paths)).or_insert(*ended);
            *known = (*known).max(*ended);
        }
        last
    }
}

/// See [`LastDrills`].
pub(crate) fn last_drills(job: &str) -> LastDrills {
    let mut last = LastDrills::default();
    let records = state_folder().and_then(|state| journal_records(&state).ok()).unwrap_or_default();
    for (_, stored) in records {
        if let Ok(record) =
            stored.and_then(|sealed| EvidenceRecord::parse(&sealed.body).map_err(|error| error.to_string()))
            && record.job.as_deref() == Some(job)
            && let Some(copy) = record.copy.name
        {
            let (paths, chosen) = record.snapshot.map(|snapshot| (snapshot.paths, snapshot.chosen)).unzip();
            last.0.push(LastDrill { copy, paths: paths.unwrap_or_default(), chosen, ended: record.times.ended });
        }
    }
    last
}

/// This machine, for a record.
fn host() -> Host {
    let system = rustix::system::uname();
    let memory = rustix::system::sysinfo();
    let who = identity(None);
    Host {
        name: who.hostname,
        user: who.username,
        system: format!("{} {}", system.sysname().to_string_lossy(), system.release().to_string_lossy()),
        processors: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
        memory_bytes: memory.totalram.saturating_mul(u64::from(memory.mem_unit)),
    }
}
