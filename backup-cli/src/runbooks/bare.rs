//! A runbook on a bare machine: from a repository and its passphrase, and nothing else.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::look::{Histories, histories};
use backup_core::policy::{self, CopyFacts, JobFacts, JobStanding, Objectives, Offsite, Standards, Trigger};
use backup_core::repository::{KeptConfiguration, Repository};
use backup_core::runbook::{JobUnderRunbook, KnownFrom, Part, PartKind, RunbookFacts};
use backup_store::Place;

use super::{Read, facts_of, parts, stores};
use crate::config::{self, Config};
use crate::exit::Failure;
use crate::facts::{self, Reading};
use crate::session::Session;

/// What the one repository that is there is called where no configuration names it.
const HERE: &str = "here";

/// The facts of each machine whose configuration the repository keeps, the newest of each; where it keeps none that can
/// be read, those that the snapshots tell. `names` are the jobs that are wanted; all, when there are none.
pub(crate) fn from_repository(names: &[String], session: &Session) -> Result<Vec<RunbookFacts>, Failure> {
    let place = session.locate(session.place()?)?.place;
    let repository = session.open()?;
    let histories = histories(&repository)?;
    let mut newest = BTreeMap::<String, KeptConfiguration>::new();
    // Oldest first: the newest of each machine stays. A store that keeps nothing of ours has none.
    for (_, kept) in repository.configurations().unwrap_or_default() {
        newest.insert(kept.hostname.clone(), kept);
    }
    let mut all = Vec::new();
    let mut unread = Vec::new();
    for kept in newest.into_values() {
        // What the machine had in its environment is not known here, and stays as it was written.
        let variables = |name: &str| Some(format!("${{{name}}}"));
        match Config::read(Path::new("configuration"), &kept.text, &variables) {
            Ok(config) => all.push(of_kept(config, &kept, names, &place, &repository, &histories, session)),
            Err(wrong) => unread.push(format!(
                "The configuration that {} kept on {} cannot be read by this version: {}",
                kept.hostname,
                kept.time,
                Failure::from(wrong).what
            )),
        }
    }
    if all.is_empty() {
        all.push(of_snapshots(&place, &repository, &histories, session)?);
    }
    if let Some(first) = all.first_mut() {
        first.caveats.extend(unread);
    }
    all.iter_mut()
        .for_each(|facts| facts.jobs.retain(|job| names.is_empty() || names.iter().any(|name| name == job.name())));
    all.retain(|facts| names.is_empty() || !facts.jobs.is_empty());
    if all.is_empty() {
        let what = format!("no job in {place} is called {}", names.join(" or "));
        return Err(Failure::usage(what, "leave the name away: all jobs are shown then"));
    }
    Ok(all)
}

fn of_kept(
    mut config: Config,
    kept: &KeptConfiguration,
    names: &[String],
    place: &Place,
    repository: &Repository,
    histories: &Histories,
    session: &Session,
) -> RunbookFacts {
    let known = config.repositories.iter().find(|known| is_same(&known.place, place)).map(|known| known.name.clone());
    let mut caveats = Vec::new();
    let name = known.unwrap_or_else(|| {
        caveats.push(format!(
            "{place} is none of the places that the configuration names: it was moved, is reached by another way, or is \
             a copy of one. It is called {HERE} below."
        ));
        config.repositories.insert(0, named_here(place));
        config.jobs.iter_mut().for_each(|job| job.repositories.insert(0, HERE.to_owned()));
        HERE.to_owned()
    });
    let mut read = Read::default();
    read.readings.insert(name.clone(), Reading { histories: Some(Arc::new(histories.clone())), unreachable: None });
    read.open.insert(name, repository.clone());
    let jobs: Vec<_> = config.jobs.iter().filter(|job| names.is_empty() || names.contains(&job.name)).collect();
    let known_from = KnownFrom::Kept { place: place.to_string(), time: kept.time };
    let facts = facts_of(&config, &jobs, &read, known_from, kept.hostname.clone(), Some(session));
    caveats.push("Only this repository was read: what is said of others is what the configuration says.".to_owned());
    RunbookFacts { caveats, ..facts }
}

fn named_here(place: &Place) -> config::Repository {
    config::Repository {
        name: HERE.to_owned(),
        place: place.clone(),
        cold: None,
        stands: policy::Place::default(),
        passphrase: None,
        credentials: None,
        limits: config::Limits::default(),
        is_lock_free: false,
        pruning: config::Pruning::Never,
        read_back: None,
    }
}

/// Two ways to write one folder are one place.
fn is_same(one: &Place, other: &Place) -> bool {
    match (one, other) {
        (Place::Folder(one), Place::Folder(other)) => {
            let absolute = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).ok();
            absolute(one) == absolute(other)
        }
        (Place::Bucket(one), Place::Bucket(other)) => {
            one.short() == other.short() && one.settings.endpoint == other.settings.endpoint
        }
        _ => one == other,
    }
}

/// Without any configuration: the jobs are those that snapshots name.
fn of_snapshots(
    place: &Place,
    repository: &Repository,
    histories: &Histories,
    session: &Session,
) -> Result<RunbookFacts, Failure> {
    let snapshots = repository.readable_snapshots(|_, _| Ok(()))?;
    let mut paths = BTreeMap::<String, Vec<String>>::new();
    let mut hosts = BTreeMap::<String, usize>::new();
    let mut strays = 0;
    for (_, snapshot) in &snapshots {
        *hosts.entry(snapshot.hostname.clone()).or_default() += 1;
        match snapshot.tags.iter().filter_map(|tag| tag.strip_prefix("job:")).min() {
            Some(job) => paths.insert(job.to_owned(), snapshot.paths.clone()).is_some(),
            None => {
                strays += 1;
                false
            }
        };
    }
    let now = SystemClock.now();
    let mut read = Read::default();
    let names: Vec<_> = histories.jobs.keys().cloned().collect();
    read.readings.insert(HERE.to_owned(), Reading { histories: Some(Arc::new(histories.clone())), unreachable: None });
    let job = |name: &String| {
        let history = histories.jobs.get(name).cloned().unwrap_or_default();
        let copy = CopyFacts {
            repository: HERE.to_owned(),
            place: policy::Place::default(),
            has_retention: false,
            read: Some(histories.read),
            unreachable: None,
            history,
        };
        let facts = JobFacts {
            job: name.clone(),
            home: policy::Place::default(),
            copies: vec![copy],
            trigger: Trigger::ByHand,
            objectives: Objectives::default(),
            offsite: Offsite::Required,
            drilled_from: None,
            drills: Vec::new(),
        };
        let standing = JobStanding::of(&facts, &Standards::default(), now);
        let parts = parts_of(&facts, paths.get(name), repository, session);
        let drills = facts::past_drills(name, &[HERE.to_owned()], &read.readings);
        JobUnderRunbook { facts, standing, parts, drills }
    };
    let jobs = names.iter().map(job).collect();
    let mut caveats = vec![
        "This repository keeps no configuration that could be read: `backup run` keeps one, `backup create` does not. \
         What is below is what the snapshots tell: objectives, contacts, other copies and where passphrases lie are not \
         known."
            .to_owned(),
    ];
    if strays > 0 {
        caveats.push(format!(
            "{strays} snapshots belong to no job and are not below: `backup -r PLACE snapshots` lists them, and \
             `backup -r PLACE restore ID --to DIR` brings one back."
        ));
    }
    Ok(RunbookFacts {
        now,
        program: format!("backup {}", env!("CARGO_PKG_VERSION")),
        host: hosts.into_keys().collect::<Vec<_>>().join(", "),
        known_from: KnownFrom::Snapshots { place: place.to_string() },
        repositories: vec![stores::of_place(HERE, place, histories.read)],
        jobs,
        contacts: Vec::new(),
        passphrase_copy: None,
        caveats,
    })
}

/// What the snapshots of a job hold.
fn parts_of(facts: &JobFacts, paths: Option<&Vec<String>>, repository: &Repository, session: &Session) -> Vec<Part> {
    let folders = parts::dumps(facts);
    let several = folders.len() > 1;
    let newest = |folder: &String| {
        let backups = facts.copies.iter().flat_map(|copy| &copy.history.backups);
        let of = backups.filter(|backup| backup.part.paths.as_ref().is_some_and(|paths| paths.contains(folder)));
        of.max_by_key(|backup| backup.recovery_point).map(|backup| backup.snapshot)
    };
    let part = |folder: &String| match folder.starts_with("/command/") {
        true => parts::output(folder),
        false => {
            let manifest = newest(folder).and_then(|id| parts::read_manifest(repository, id, folder, session));
            parts::database(None, folder.clone(), manifest.as_ref(), several)
        }
    };
    let mut all: Vec<_> = folders.iter().map(part).collect();
    if all.is_empty() {
        let paths = paths.cloned().unwrap_or_default();
        all.push(parts::plain(PartKind::Files(paths)));
    }
    all
}
