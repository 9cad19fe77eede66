//! What was told to whom, in a file of this machine. Lost, a message comes twice.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use backup_core::policy::LastTold;

use crate::network::own_folder;

/// What was told, by who was told, job and event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    told: BTreeMap<String, LastTold>,
}

impl State {
    /// What is remembered; nothing when it cannot be read.
    pub(super) fn load() -> Self {
        let text = path().and_then(|path| std::fs::read(path).ok());
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

    /// Remembers it.
    pub(super) fn save(&self) -> io::Result<()> {
        let Some(path) = path() else { return Ok(()) };
        let folder = path.parent().map(PathBuf::from).unwrap_or_default();
        std::fs::create_dir_all(&folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut file, &self.told)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

fn path() -> Option<PathBuf> {
    Some(own_folder(|name| std::env::var_os(name), "XDG_STATE_HOME", ".local/state")?.join("told.json"))
}

fn key(who: &str, job: &str, event: &str) -> String {
    // Names hold no slash.
    format!("{who}/{job}/{event}")
}
