//! The facts that policy thinks about, of the configuration and of what was read from its repositories.
//!
//! What is always true: what was not read is not known, and no memory of this machine stands for it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use backup_core::drill::{Estimate, PastDrill, StageName, estimate, samples};
use backup_core::look::{Histories, histories};
use backup_core::policy::{CopyFacts, Drill, JobFacts, Place, Trigger};
use backup_core::repository::{FirstLook, Repository};
use backup_sources::databases::url::Engine;
use backup_store::Place as StorePlace;
use jiff::{SignedDuration, Timestamp};

use crate::config::{self, Config, Job, Source, Starts};
use crate::exit::Failure;
use crate::session::{Session, identity};

/// How often a job that runs on change scans without one: watching loses events (`docs/decisions/schedule.md`).
pub(crate) const SCAN_EVERY: SignedDuration = SignedDuration::from_hours(24);

/// What was read from a repository, and what went wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    /// What was read, lately or before.
    pub(crate) histories: Option<Arc<Histories>>,
    /// Why it could not be read lately.
    pub(crate) unreachable: Option<String>,
}

impl Reading {
    /// Reads a repository, which stays open in `open` for the next time. What was read before stays when it fails.
    pub(crate) fn again(
        self,
        repository: &config::Repository,
        open: &mut Option<Repository>,
        session: &Session,
    ) -> Self {
        match read(repository, open, session) {
            Ok(histories) => Self { histories: Some(Arc::new(histories)), unreachable: None },
            Err(failure) => {
                *open = None;
                Self { unreachable: Some(failure.what), ..self }
            }
        }
    }
}

fn read(
    repository: &config::Repository,
    open: &mut Option<Repository>,
    session: &Session,
) -> Result<Histories, Failure> {
    if open.is_none() {
        *open = Some(session.open_configured(repository, None)?);
    }
    match open {
        Some(open) => Ok(histories(open)?),
        None => Err(Failure::new("the repository is not open")),
    }
}

/// Reads every repository that one of `jobs` goes to.
pub(crate) fn gather(config: &Config, jobs: &[&Job], session: &Session) -> BTreeMap<String, Reading> {
    gather_and(config, jobs, session, |_| ())
}

/// The same, and shows each repository that could be opened.
pub(crate) fn gather_and(
    config: &Config,
    jobs: &[&Job],
    session: &Session,
    mut show: impl FnMut(&Repository),
) -> BTreeMap<String, Reading> {
    let is_used = |name: &String| jobs.iter().any(|job| job.repositories.contains(name));
    let used = config.repositories.iter().filter(|repository| is_used(&repository.name));
    // Somebody waits: what will be read is asked for before the key is there. The daemon has time, and no memory for it.
    let looks = [FirstLook::Snapshots, FirstLook::Records];
    let read = used.map(|repository| {
        let reading = match session.open_configured_to(repository, None, &looks) {
            Ok(opened) => {
                let mut open = Some(opened);
                let reading = Reading::default().again(repository, &mut open, session);
                open.iter().for_each(&mut show);
                reading
            }
            Err(failure) => Reading { unreachable: Some(failure.what), ..Reading::default() },
        };
        (repository.name.clone(), reading)
    });
    read.collect()
}

/// The facts of a job. Repositories that are not among `readings` were never read.
pub(crate) fn of_job(config: &Config, job: &Job, readings: &BTreeMap<String, Reading>, now: Timestamp) -> JobFacts {
    of_triggered(config, job, trigger(job, now), readings)
}

/// The same, for who knows the job's trigger: to find how far its slots lie apart takes a walk through the calendar.
pub(crate) fn of_triggered(
    config: &Config,
    job: &Job,
    trigger: Trigger,
    readings: &BTreeMap<String, Reading>,
) -> JobFacts {
    let copies = job.repositories.iter().filter_map(|name| {
        let repository = config.repository(name)?;
        let reading = readings.get(name);
        let histories = reading.and_then(|reading| reading.histories.as_ref());
        Some(CopyFacts {
            repository: name.clone(),
            place: stands(repository),
            has_retention: job.retention.contains_key(name),
            read: histories.map(|histories| histories.read),
            unreachable: reading.and_then(|reading| reading.unreachable.clone()),
            history: histories.and_then(|histories| histories.jobs.get(&job.name)).cloned().unwrap_or_default(),
        })
    });
    JobFacts {
        job: job.name.clone(),
        home: home(job),
        copies: copies.collect(),
        trigger,
        objectives: job.objectives,
        offsite: job.offsite.clone(),
        drilled_from: job.drill.as_ref().and_then(|drill| drill.repository.clone()),
        drills: drills(job, readings),
    }
}

/// The drills of a job from all of its copies, oldest first.
fn drills(job: &Job, readings: &BTreeMap<String, Reading>) -> Vec<Drill> {
    let mut drills = Vec::new();
    for name in &job.repositories {
        let histories = readings.get(name).and_then(|reading| reading.histories.as_ref());
        let told = histories.and_then(|histories| histories.drills.get(&job.name)).into_iter().flatten();
        drills.extend(told.map(|drill| Drill { repository: name.clone(), ..drill.clone() }));
    }
    drills.sort_by_key(|drill| drill.ended);
    drills
}

/// The same with all that their records say.
pub(crate) fn past_drills(job: &str, repositories: &[String], readings: &BTreeMap<String, Reading>) -> Vec<PastDrill> {
    let mut drills = Vec::new();
    for name in repositories {
        let histories = readings.get(name).and_then(|reading| reading.histories.as_ref());
        let told = histories.and_then(|histories| histories.past_drills.get(job)).into_iter().flatten();
        drills.extend(told.map(|drill| PastDrill { repository: name.clone(), ..drill.clone() }));
    }
    drills.sort_by_key(|drill| drill.ended);
    drills
}

/// How long a restore of a job's newest backups would take until the data answers, from its past drills. `None` without
/// a drill that passed.
pub(crate) fn estimate_of(facts: &JobFacts, drills: &[PastDrill]) -> Option<Estimate> {
    let bytes = facts.copies.iter().filter_map(|copy| copy.history.newest_bytes()).max()?;
    estimate(&samples(drills), bytes, StageName::is_technical)
}

/// What makes a job run, as policy sees it.
pub(crate) fn trigger(job: &Job, now: Timestamp) -> Trigger {
    match &job.starts {
        Starts::ByHand => Trigger::ByHand,
        Starts::Schedule(schedule) => Trigger::Schedule { longest_gap: schedule.longest_gap(now) },
        Starts::OnChange { schedule, .. } => {
            let gap = schedule.as_ref().map_or(SCAN_EVERY, |schedule| schedule.longest_gap(now));
            Trigger::OnChange { scanned_every: Some(gap) }
        }
    }
}

/// Where a repository stands: as the file says, else as far as can be found out.
pub(crate) fn stands(repository: &config::Repository) -> Place {
    stands_at(&repository.place, &repository.stands)
}

/// The same of a place, of which this was said.
pub(crate) fn stands_at(place: &StorePlace, said: &Place) -> Place {
    let (media, domain) = match place {
        StorePlace::Folder(path) => ("disk", device(path)),
        // Whose account it is no address says: two buckets at one provider are taken to be of one account.
        StorePlace::Bucket(bucket) => {
            let at = bucket.settings.endpoint.clone().unwrap_or_else(|| bucket.provider.scheme().to_owned());
            ("object-storage", Some(format!("the account at {}", at.trim_end_matches('/'))))
        }
        StorePlace::Rest(server) => ("disk", authority(&server.url).map(|host| format!("the host {host}"))),
        StorePlace::Sftp(server) => ("disk", Some(format!("the host {}", server.host))),
        // A kind of place that this program has no word for: it stands where the file says, or nowhere.
        _ => ("unknown", None),
    };
    Place {
        media: said.media.clone().or_else(|| Some(media.to_owned())),
        site: said.site.clone(),
        failure_domain: said.failure_domain.clone().or(domain),
    }
}

/// Where a job's data stands, likewise.
fn home(job: &Job) -> Place {
    home_of(&job.source, &job.home)
}

/// The same of a source, of which this was said.
pub(crate) fn home_of(source: &Source, said: &Place) -> Place {
    let domain = || match source {
        Source::Files { paths, .. } => {
            let devices: Vec<_> = paths.iter().map(|path| device(path)).collect();
            // Of several disks none can be said to be the data's.
            devices
                .first()
                .cloned()
                .flatten()
                .filter(|first| devices.iter().all(|device| device.as_ref() == Some(first)))
        }
        Source::Database { url, .. } if url.engine() == Engine::Sqlite => {
            device(Path::new(OsStr::from_bytes(url.path())))
        }
        // A server of another machine; on which disk one of this machine keeps its data is not known.
        Source::Database { url, .. } => {
            let host = url.hosts().first().map(|host| host.name.as_str()).unwrap_or_default();
            let is_here = matches!(host, "" | "localhost" | "127.0.0.1" | "::1") || host.starts_with('/');
            (!is_here).then(|| format!("the host {host}"))
        }
        Source::Command { .. } => None,
    };
    Place {
        media: said.media.clone().or_else(|| Some("disk".to_owned())),
        site: said.site.clone(),
        failure_domain: said.failure_domain.clone().or_else(domain),
    }
}

/// The device that a path, or the nearest folder above it that is there, lies on.
fn device(path: &Path) -> Option<String> {
    let path = std::path::absolute(path).ok()?;
    let metadata = path.ancestors().find_map(|path| fs::metadata(path).ok())?;
    let (major, minor) = (rustix::fs::major(metadata.dev()), rustix::fs::minor(metadata.dev()));
    Some(format!("the device {major}:{minor} of {}", identity(None).hostname))
}

/// The host of an address, without its port and without a user.
fn authority(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split('/').next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_on_one_disk_is_found_to() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("data"), folder.path().join("not/yet/there"));
        fs::create_dir(&one).unwrap();
        assert!(device(&one).is_some());
        assert_eq!(device(&one), device(&other));
        assert_ne!(device(&one), device(Path::new("/proc")));
    }

    #[test]
    fn the_host_of_an_address_is_found() {
        for (url, host) in [
            ("https://host:8000/path/", Some("host")),
            ("http://me@host/", Some("host")),
            ("http://[::1]:8000/", Some("[::1]")),
            ("http:///", None),
            ("host", None),
        ] {
            assert_eq!(authority(url), host, "{url}");
        }
    }
}
