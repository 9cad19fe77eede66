//! The records of one chain on this machine, where each is written first.
//!
//! The journal is a folder with one file for each record. One process at a time appends: a lock on a file of the folder
//! is held from the look at the chain's end until the record is on the disk, so that two drills at once do not fork the
//! chain. A record is a file before it is anywhere else, and appears under its name as a whole; killed at any moment, the
//! chain has the record or it has not.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::chain::{Head, Stored};
use super::record::{Context, EvidenceRecord};
use super::stored::{EvidenceName, SealedRecord};
use super::{PublicKey, SigningKey, UNSIGNED};
use crate::drill::DrillOutcome;
use crate::limits::EVIDENCE_BYTES_MAX;
use crate::repository::Repository;
use crate::{Error, Result};

/// The file that is locked.
const LOCK: &str = "lock";
/// What a record's file ends with.
const SUFFIX: &str = ".json";

/// The records of one chain on this machine.
#[derive(Debug)]
pub struct Journal {
    files: Files,
    /// Held as long as it is open.
    _lock: File,
}

/// Every record of every chain on this machine, without waiting for anybody: one that is just being written is not seen.
pub fn journal_records(state: &Path) -> Result<Vec<Stored>> {
    let read = |(name, files): (EvidenceName, Files)| {
        let sealed = files.read(&name).map_err(|error| error.to_string());
        (name, sealed)
    };
    Ok(journal_names(state)?.into_iter().map(read).collect())
}

/// The names of all records, each with the files of its chain.
fn journal_names(state: &Path) -> Result<Vec<(EvidenceName, Files)>> {
    let top = state.join("evidence");
    let entries = match fs::read_dir(&top) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| failed("list", &top, error))?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let folder = entry.map_err(|error| failed("list", &top, error))?.path();
        let Some(chain) = folder.file_name().and_then(|name| name.to_str()).filter(|_| folder.is_dir()) else {
            continue;
        };
        let files = Files { chain: chain.to_owned(), folder: folder.clone() };
        all.extend(files.names()?.into_iter().map(|name| (name, files.clone())));
    }
    Ok(all)
}

/// The end of every chain on this machine, without waiting for anybody. Names alone are read.
pub fn journal_heads(state: &Path) -> Result<Vec<(String, Head)>> {
    let mut heads = BTreeMap::<String, Head>::new();
    for (name, _) in journal_names(state)? {
        let head = Head { sequence: name.sequence, hash: name.hash };
        let known = heads.entry(name.chain).or_insert(head);
        if (known.sequence, known.hash) < (head.sequence, head.hash) {
            *known = head;
        }
    }
    Ok(heads.into_iter().collect())
}

/// What became of a record in one repository.
#[derive(Debug)]
pub struct Delivery {
    /// Records that the repository did not have and has now.
    pub delivered: u64,
    /// Why not all of them are there.
    pub failure: Option<Error>,
}

impl Journal {
    /// Opens, or makes, the journal of a key's chain in `state`, a folder of this program's own; without a key that of
    /// the chain `unsigned`. Waits until no other process has it.
    pub fn open(state: &Path, key: Option<&PublicKey>) -> Result<Self> {
        let chain = key.map_or_else(|| UNSIGNED.to_owned(), PublicKey::id);
        let folder = state.join("evidence").join(&chain);
        let open = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
            let lock =
                OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join(LOCK))?;
            flock(&lock, FlockOperation::LockExclusive)?;
            Ok(lock)
        };
        let lock = open().map_err(|error| failed("open", &folder, error))?;
        Ok(Self { files: Files { folder, chain }, _lock: lock })
    }

    /// Writes the record of a drill after the end of the chain as this machine and `repositories` know it.
    ///
    /// A repository that does not answer is passed over: when the journal has been deleted as well, and no other one
    /// knows the end, the chain forks, which is found.
    pub fn append(
        &self,
        context: &Context,
        outcome: &DrillOutcome,
        key: Option<&SigningKey>,
        repositories: &[&Repository],
    ) -> Result<(EvidenceRecord, Head)> {
        let ends = repositories.iter().filter_map(|repository| repository.evidence_names().ok()).flatten();
        let own = self.files.names()?.into_iter();
        let end =
            own.chain(ends).filter(|name| name.chain == self.files.chain).max_by_key(|name| (name.sequence, name.hash));
        let head = end.map(|name| Head { sequence: name.sequence, hash: name.hash });
        let record = EvidenceRecord::new(context, outcome, key.map(SigningKey::public), head.as_ref())?;
        let sealed = SealedRecord::seal(&record, key)?;
        let name = sealed.name(&record);
        self.files.write(&name, &sealed).map_err(|error| failed("write", &self.files.path(&name), error))?;
        Ok((record, Head { sequence: name.sequence, hash: name.hash }))
    }

    /// Brings every record that is here and not in the repository to it: this one, and those that waited.
    pub fn deliver(&self, repository: &Repository) -> Delivery {
        let mut delivered = 0;
        let mut deliver = || -> Result<()> {
            let there = repository.evidence_names()?;
            for name in self.files.names()?.into_iter().filter(|name| !there.contains(name)) {
                repository.save_evidence(&name, &self.files.read(&name)?)?;
                delivered += 1;
            }
            repository.store().sync()
        };
        let failure = deliver().err();
        Delivery { delivered, failure }
    }

    /// The end of the chain as this machine knows it.
    pub fn head(&self) -> Result<Option<Head>> {
        let last = self.files.names()?.into_iter().max();
        Ok(last.map(|name| Head { sequence: name.sequence, hash: name.hash }))
    }

    /// All records that are here.
    pub fn records(&self) -> Result<Vec<Stored>> {
        self.files.records()
    }
}

/// The files of one chain.
#[derive(Clone, Debug)]
struct Files {
    folder: PathBuf,
    chain: String,
}

impl Files {
    fn records(&self) -> Result<Vec<Stored>> {
        let read = |name: EvidenceName| {
            let sealed = self.read(&name).map_err(|error| error.to_string());
            (name, sealed)
        };
        Ok(self.names()?.into_iter().map(read).collect())
    }

    fn names(&self) -> Result<Vec<EvidenceName>> {
        let entries = fs::read_dir(&self.folder).map_err(|error| failed("list", &self.folder, error))?;
        let name = |entry: io::Result<fs::DirEntry>| {
            let file = entry.ok()?.file_name();
            format!("{}/{}", self.chain, file.to_str()?.strip_suffix(SUFFIX)?).parse().ok()
        };
        Ok(entries.filter_map(name).collect())
    }

    fn path(&self, name: &EvidenceName) -> PathBuf {
        let text = name.to_string();
        let file = text.rsplit('/').next().unwrap_or_default();
        self.folder.join(format!("{file}{SUFFIX}"))
    }

    fn read(&self, name: &EvidenceName) -> Result<SealedRecord> {
        let path = self.path(name);
        let bytes = fs::metadata(&path).map_err(|error| failed("read", &path, error))?.len();
        if bytes > EVIDENCE_BYTES_MAX {
            return Err(Error::damaged(path.display(), "it is too large for a record of evidence"));
        }
        let text = fs::read(&path).map_err(|error| failed("read", &path, error))?;
        serde_json::from_slice(&text)
            .map_err(|error| Error::damaged(path.display(), "it is no record of evidence").caused_by(error))
    }

    /// As a whole or not at all, and durable.
    fn write(&self, name: &EvidenceName, sealed: &SealedRecord) -> io::Result<()> {
        let growing = self.folder.join("growing");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&growing)?;
        serde_json::to_writer(&mut file, sealed)?;
        file.flush()?;
        file.sync_all()?;
        fs::rename(&growing, self.path(name))?;
        File::open(&self.folder)?.sync_all()
    }
}

fn failed(action: &str, path: &Path, error: io::Error) -> Error {
    Error::invalid(path.display().to_string(), format!("failed to {action} it")).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::context;
    use super::super::{Expectations, verify};
    use super::*;
    use crate::drill::Verdict;

    fn outcome() -> DrillOutcome {
        DrillOutcome::ended_early(Verdict::NotRun { reason: "a test".to_owned() }, Vec::new())
    }

    #[test]
    fn records_follow_each_other_and_are_found_again() {
        let state = tempfile::tempdir().unwrap();
        let (key, _) = SigningKey::generate().unwrap();
        for minute in 0..3 {
            let journal = Journal::open(state.path(), Some(key.public())).unwrap();
            let (record, head) = journal.append(&context(minute), &outcome(), Some(&key), &[]).unwrap();
            assert_eq!((record.sequence, journal.head().unwrap()), (u64::try_from(minute).unwrap() + 1, Some(head)));
        }
        let journal = Journal::open(state.path(), Some(key.public())).unwrap();
        let reports = verify(&journal.records().unwrap(), &Expectations::default());
        assert!(reports[0].is_sound() && reports[0].sound == 3, "{reports:?}");
        drop(journal);
        let other = Journal::open(state.path(), None).unwrap();
        assert_eq!(other.head().unwrap(), None, "each key has a chain of its own");
        let heads = journal_heads(state.path()).unwrap();
        assert_eq!(heads.len(), 1, "a chain without a record has no end");
        assert_eq!((heads[0].0.as_str(), heads[0].1.sequence), (key.public().id().as_str(), 3));
    }

    #[test]
    fn several_at_once_append_one_after_the_other() {
        let state = tempfile::tempdir().unwrap();
        let (key, _) = SigningKey::generate().unwrap();
        std::thread::scope(|scope| {
            for minute in 0..8 {
                let (state, key) = (state.path(), &key);
                scope.spawn(move || {
                    let journal = Journal::open(state, Some(key.public())).unwrap();
                    journal.append(&context(minute), &outcome(), Some(key), &[]).unwrap();
                });
            }
        });
        let journal = Journal::open(state.path(), Some(key.public())).unwrap();
        let reports = verify(&journal.records().unwrap(), &Expectations::default());
        assert!(reports[0].is_sound() && reports[0].sound == 8, "{reports:?}");
    }
}
