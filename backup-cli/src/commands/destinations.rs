//! The repositories of a backup: opened one by one, and what became of each. One that cannot be opened, or that fails
//! later, is told and is behind; the others go on.

use backup_core::pipeline::BackupOutcome;
use backup_core::repository::Repository;
use serde_json::{Value, json};

use crate::console::{say, table::Table};
use crate::exit::{Exit, Failure};
use crate::session::Session;

/// The repositories that were named, in their order.
pub(super) struct Destinations(Vec<Destination>);

struct Destination {
    place: String,
    /// Until it fails.
    repository: Option<Repository>,
    ended: Option<Result<BackupOutcome, Failure>>,
}

impl Destinations {
    /// Opens them, acting as the machine `host` when that is given. Fails when none can be opened, and when one is named
    /// in a way that cannot be meant.
    pub(super) fn open(session: &Session, host: Option<&str>) -> Result<Self, Failure> {
        let mut all = Vec::new();
        for (number, place) in session.places()?.iter().enumerate() {
            let (repository, ended) = match session.open_nth(number, host) {
                Ok(repository) => (Some(repository), None),
                Err(failure) if matches!(failure.exit, Exit::Usage | Exit::Interrupted) => return Err(failure),
                Err(failure) => (None, Some(Err(failure))),
            };
            all.push(Destination { place: (*place).to_owned(), repository, ended });
        }
        if all.iter().all(|one| one.repository.is_none())
            && let Some(Err(failure)) = all.iter_mut().find_map(|one| one.ended.take())
        {
            return Err(failure);
        }
        Ok(Self(all))
    }

    /// Those that are open.
    pub(super) fn repositories(&self) -> Vec<Repository> {
        self.0.iter().filter_map(|one| one.repository.clone()).collect()
    }

    /// Notes what became of those that are open.
    pub(super) fn settle(&mut self, outcomes: Vec<backup_core::Result<BackupOutcome>>) {
        for (one, outcome) in self.0.iter_mut().filter(|one| one.repository.is_some()).zip(outcomes) {
            one.ended = Some(outcome.map_err(Failure::from));
        }
    }

    /// Those that have what was to be backed up.
    pub(super) fn done(&self) -> impl Iterator<Item = (&Repository, &BackupOutcome)> {
        self.0.iter().filter_map(|one| Some((one.repository.as_ref()?, one.ended.as_ref()?.as_ref().ok()?)))
    }

    /// Says of each that is behind why; returns whether one is.
    pub(super) fn tell_behind(&self) -> bool {
        let mut is_one = false;
        for Destination { place, ended, .. } in &self.0 {
            if let Some(Err(Failure { what, hint, .. })) = ended {
                is_one = true;
                let hint = hint.as_deref().map(|hint| format!("\n  try: {hint}")).unwrap_or_default();
                say(&format!("behind: {place} got no snapshot: {what}{hint}"));
            }
        }
        is_one
    }

    /// For programs: every repository.
    pub(super) fn document(&self) -> Vec<Value> {
        let told = self.0.iter().map(|Destination { place, ended, .. }| {
            let outcome = ended.as_ref().and_then(|ended| ended.as_ref().ok());
            let failure = ended.as_ref().and_then(|ended| ended.as_ref().err());
            json!({
                "place": place,
                "snapshot": outcome.and_then(|outcome| outcome.snapshot),
                "parent": outcome.and_then(|outcome| outcome.parent),
                "proof": outcome.map(|outcome| outcome.reached),
                "bytes_new": outcome.map(|outcome| outcome.summary.data_added),
                "bytes_stored": outcome.map(|outcome| outcome.summary.data_added_packed),
                "failure": failure.map(|failure| failure.what.as_str()),
            })
        });
        told.collect()
    }

    /// For people: the line of the one repository, or a line for each.
    pub(super) fn text(&self) -> String {
        let line = |outcome: &BackupOutcome| match outcome.snapshot {
            Some(id) => format!("snapshot {id:.8} ({})", outcome.reached),
            None => "dry run: nothing was written".to_owned(),
        };
        if let ([_], Some((_, outcome))) = (self.0.as_slice(), self.done().next()) {
            return format!("{}\n", line(outcome));
        }
        let mut table = Table::new(&["", ""]);
        for Destination { place, ended, .. } in &self.0 {
            let became = match ended {
                Some(Ok(outcome)) => line(outcome),
                _ => "behind: see above".to_owned(),
            };
            table.row([place.clone(), became]);
        }
        table.text()
    }
}
