//! What is true of any configuration that is proposed: it is read by this program, keeps to its objectives, and has no
//! class that is slower than an outage may be.

use std::collections::BTreeSet;
use std::path::Path;

use backup_core::advice::{Bearable, Kind, advise, classify};
use backup_core::policy::predicted;
use backup_sources::databases::url::DatabaseUrl;
use backup_store::Place;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::{ProptestConfig, prop, prop_assert, prop_assert_eq, proptest};

use super::answers::{Destination, Said, answers};
use super::configuration::Plan;
use super::found::{Found, What, settled};
use super::notified::Notified;
use crate::config::{Config, Source};
use crate::facts;

const SOURCES: [&str; 12] = [
    "postgres://backup@db.internal:5432/app",
    "postgres://backup@/?host=/run/postgresql&port=5433",
    "mysql://backup@localhost/shop",
    "mongodb://localhost:27017/",
    "redis://localhost:6379/",
    "sqlite:/var/lib/a/b c.db",
    "/srv/uploads",
    "/srv/${HOME}/\"quoted\"\n[jobs]",
    "/app/.env",
    "/etc",
    "/srv/git/app.git",
    "/var/log",
];
const PLACES: [&str; 8] = [
    "/mnt/backups/repo",
    "/media/usb \"1\"",
    "s3://bucket/prefix?region=eu-west-1",
    "s3://bucket/prefix?storage_class=DEEP_ARCHIVE",
    "s3://bucket/prefix?endpoint=https://minio:9000&storage_class=GLACIER",
    "gs://bucket/prefix",
    "az://container/prefix?account=acme&storage_class=Archive",
    "sftp://me@vault.example.org/backups",
];

/// As it is found, whether it is there or not.
fn found(text: &str, bytes: Option<u64>) -> Found {
    match DatabaseUrl::is_one(text) {
        true if text.starts_with("sqlite:") => {
            Found::sqlite(Path::new(text.trim_start_matches("sqlite:")), bytes, "given")
        }
        true => Found { bytes, ..Found::database(text, "given".to_owned()).unwrap() },
        false => {
            let kind = backup_core::advice::kind_of_path(text).0;
            let mut found = Found::files(Path::new(text), kind, bytes, "given\nby hand".to_owned());
            if let What::Files { exclude, .. } = &mut found.what {
                exclude.push(format!("{text}/*.db"));
            }
            found
        }
    }
}

/// What is left out of a folder is not a part of where it is.
fn without_selection(source: &Source) -> Source {
    match source {
        Source::Files { paths, .. } => {
            Source::Files { paths: paths.clone(), selection: Default::default(), changes: Default::default() }
        }
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_proposed_is_a_configuration_that_keeps_to_its_objectives(
        sources in prop::collection::vec((prop::sample::select(SOURCES.to_vec()), prop::option::of(0..1_000_000_000_000_u64)), 1..6),
        places in prop::collection::vec(prop::sample::select(PLACES.to_vec()), 1..4),
        loss in 5..20_000_i64,
        outage in 1..10_000_i64,
        zone in prop::sample::select(vec!["UTC", "Europe/Paris", "America/New_York"]),
    ) {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let found = settled(sources.iter().map(|(text, bytes)| found(text, *bytes)).collect());
        let name = |at: usize| format!("store-{at}");
        // One place under two names holds one copy: it is refused before.
        let places: BTreeSet<_> = places.into_iter().collect();
        let destinations: Vec<_> =
            places.iter().enumerate().map(|(at, place)| Destination::far(place, name(at), None).unwrap()).collect();
        let bearable = Bearable { loss: SignedDuration::from_mins(loss), outage: SignedDuration::from_mins(outage) };
        let said = Said { bearable: Some(bearable), ..Said::default() };
        let answers = answers(&found, &destinations, &said, TimeZone::get(zone).unwrap(), "here", None).unwrap();
        // What no schedule can keep to is not proposed; that this is rightly so is a property of the core.
        let Ok(strategy) = advise(&answers, now) else { return Ok(()) };
        let plan = Plan {
            strategy: &strategy,
            found: &found,
            destinations: &destinations,
            zone,
            site: "here",
            password_file: Path::new("/etc/backup/pass phrase"),
            currency: None,
            notified: &[Notified::Mail("ops@example.org".to_owned()), Notified::Webhook("/etc/backup/the hook".into())],
            host: "db1",
        };
        let text = plan.text();
        let config = Config::read(Path::new("backup.toml"), &text, &|_| None);
        prop_assert!(config.is_ok(), "{:#?}\n{}", config.err(), text);
        let config = config.unwrap();
        prop_assert_eq!(config.jobs.len(), found.len());
        prop_assert_eq!(config.time_zone.iana_name(), Some(zone));
        for (job, planned) in config.jobs.iter().zip(&strategy.jobs) {
            let bearable = bearable.of(classify(planned.kind).0);
            prop_assert_eq!(job.objectives.rpo, Some(bearable.loss));
            prop_assert_eq!(job.objectives.rto, Some(bearable.outage));
            let told = predicted(facts::trigger(job, now), planned.frequency.run.as_slice(), job.objectives).unwrap();
            prop_assert!(told.missed_by.is_none() && told.lost <= bearable.loss, "{told:?}");
            prop_assert!(job.drill.as_ref().is_some_and(|drill| drill.schedule.is_some()));
            prop_assert_eq!(job.retention.len(), destinations.len());
            let given = found.iter().find(|found| found.name == job.name).unwrap();
            prop_assert_eq!(format!("{:?}", without_selection(&job.source)), format!("{:?}", given.source()));
            prop_assert_eq!(planned.kind == Kind::Secrets, job.name.starts_with("secrets"));
        }
        prop_assert_eq!(config.notify.len(), 2);
        for repository in &config.repositories {
            prop_assert!(repository.read_back.as_ref().is_some_and(|schedule| schedule.longest_gap(now).as_hours() < 35 * 24));
            if let Place::Bucket(bucket) = &repository.place {
                let slow = ["GLACIER", "DEEP_ARCHIVE", "Archive"];
                prop_assert!(bucket.settings.storage_class.iter().all(|class| !slow.contains(&class.as_str())));
            }
        }
    }
}
