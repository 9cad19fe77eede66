//! Writes many snapshots and the records of the runs that made them into a repository, for `benches/daemon`: what jobs of a
//! year leave behind, without the year.
//!
//!     cargo test -p backup-cli --bench many_snapshots -- REPOSITORY JOBS COUNT
//!
//! The repository is one that `backup init` has made with the passphrase of `BACKUP_PASSWORD`, with one snapshot of each
//! thing that jobs back up; its newest snapshot is taken for all of them. Nothing is measured here.
#![expect(clippy::print_stderr, reason = "a program that says what it wants")]

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::contracts::Proof;
use backup_core::model::Snapshot;
use backup_core::observe::Silent;
use backup_core::repository::{Identity, Passphrase, RecordBody, Repository, SnapshotQuery};
use backup_store::{Access, Place};
use jiff::SignedDuration;
use serde_json::{Map, json};

fn main() -> ExitCode {
    // `cargo bench` says --bench before what is meant for this program.
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [place, jobs, count] = arguments.as_slice() else {
        eprintln!("usage: many_snapshots REPOSITORY JOBS COUNT; BACKUP_PASSWORD opens it");
        // Without arguments every bench is run.
        return ExitCode::SUCCESS;
    };
    match fill(place, jobs, count) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn fill(place: &str, jobs: &str, count: &str) -> Result<(), Box<dyn Error>> {
    let (jobs, count): (usize, usize) = (jobs.parse()?, count.parse()?);
    let pid = i32::try_from(std::process::id())?;
    let identity = Identity { hostname: "bench".into(), username: "bench".into(), uid: 0, gid: 0, pid };
    let passphrase = Passphrase::new(&std::env::var("BACKUP_PASSWORD")?);
    let sink = Place::parse(place)?.open(&Access::default())?;
    let repository = Repository::open(sink, &passphrase, identity, Arc::new(SystemClock), &Silent)?;
    let (_, usual) = repository.find_snapshot("latest", &SnapshotQuery::default())?;
    let now = SystemClock.now();
    let mut made = Vec::with_capacity(count);
    for number in 0..count {
        // Of each job the newest is an hour old, and there is one a day before it.
        let age = SignedDuration::from_hours(1 + 24 * i64::try_from(number / jobs)?);
        let job = format!("job-{:04}", number % jobs);
        let snapshot = Snapshot { time: now - age, tags: vec![format!("job:{job}")], ..usual.clone() };
        let id = repository.save_snapshot(&snapshot)?;
        made.push(id);
        let figures = Map::from_iter([
            ("job".to_owned(), json!(job)),
            ("paths".to_owned(), json!(usual.paths)),
            ("seconds".to_owned(), json!(12.5)),
            ("files".to_owned(), json!(40)),
            ("bytes_total".to_owned(), json!(1_000_000)),
        ]);
        let (verb, outcome) = ("run".to_owned(), "done".to_owned());
        repository.save_record(RecordBody::Run { verb, outcome, snapshot: Some(id), figures })?;
    }
    for some in made.chunks(1_000) {
        repository.save_record(RecordBody::Proof { snapshots: some.to_vec(), proof: Proof::Present })?;
    }
    Ok(())
}
