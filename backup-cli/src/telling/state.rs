//! What was told to whom, and when figures were last fetched, in files of this machine. Lost, a message comes twice, and it
//! is not known whether somebody listens until the next time.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use backup_core::policy::LastTold;
use jiff::Timestamp;
use serde::Serialize;

use crate::network::own_folder;

/// What was told, by who was told, job and event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    told: BTreeMap<String, LastTold>,
}

impl State {
    /// What is remembered; nothing when it cannot be read.
    pub(super) fn load() -> Self {
        let text = path(TOLD).and_then(|path| std::fs::read(path).ok());
        let told = text.and_then(|text| serde_json::from_slice(&text).ok());
        Self { told: told.unwrap_or_default() }
    }

    /// What was last told of a matter.
    pub(super) fn last(&self, who: &str, job: &str, event: &str) -> Option<LastTold> {
        self.told.get(&key(who, job, event)).copied()
    }

    /// Notes what was told.
    pub(super) fn note(&mut self, who: &str, job: &str, event: &str, told: LastTold) {
        self.told.insert(key(who, job, event), told);
    }

    /// Notes that something bad is over, of which nobody was told.
    pub(super) fn end(&mut self, who: &str, job: &str, event: &str) {
        if let Some(told) = self.told.get_mut(&key(who, job, event)) {
            told.was_bad = false;
        }
    }

    /// When one of those was last told something; of several recipients of one, any.
    pub(super) fn newest(&self, who: &[&str]) -> Option<Timestamp> {
        let is_of = |key: &String| {
            let name = key.split_once('/').map(|(name, _)| name.split_once(':').map_or(name, |(name, _)| name));
            name.is_some_and(|name| who.contains(&name))
        };
        self.told.iter().filter(|(key, _)| is_of(key)).map(|(_, told)| told.time).max()
    }

    /// Remembers it.
    pub(super) fn save(&self) -> io::Result<()> {
        save(TOLD, &self.told)
    }
}

/// Whether anything is remembered on this machine.
pub(super) fn is_kept() -> bool {
    path(TOLD).is_some()
}

/// Keeps every other process from telling until it is dropped; nothing where that is not to be had soon, and then somebody
/// may hear a thing twice.
pub(super) fn turn() -> Option<File> {
    let path = path(TURN)?;
    std::fs::create_dir_all(path.parent()?).ok()?;
    let file = File::options().create(true).append(true).open(path).ok()?;
    let until = Instant::now() + TURN_WITHIN;
    loop {
        match file.try_lock() {
            Ok(()) => return Some(file),
            Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(Duration::from_millis(50)),
            Err(_) => return None,
        }
    }
}

/// Notes that figures were fetched, or pushed to where they are. A file of its own, because the daemon writes it beside runs
/// that tell.
pub(crate) fn note_figures(when: Timestamp) -> io::Result<()> {
    save(FIGURES, &when)
}

/// When figures were last fetched or pushed.
pub(super) fn figures() -> Option<Timestamp> {
    serde_json::from_slice(&std::fs::read(path(FIGURES)?).ok()?).ok()
}

const TOLD: &str = "told.json";
const TURN: &str = "told.lock";
/// Longer than a command or a mail server takes for one message.
const TURN_WITHIN: Duration = Duration::from_secs(2 * 60);
const FIGURES: &str = "figures.json";

fn save(name: &str, value: &impl Serialize) -> io::Result<()> {
    let Some(path) = path(name) else { return Ok(()) };
    let folder = path.parent().map(PathBuf::from).unwrap_or_default();
    std::fs::create_dir_all(&folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&mut file, value)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn path(name: &str) -> Option<PathBuf> {
    Some(own_folder(|name| std::env::var_os(name), "XDG_STATE_HOME", ".local/state")?.join(name))
}

fn key(who: &str, job: &str, event: &str) -> String {
    // Names hold no slash.
    format!("{who}/{job}/{event}")
}
