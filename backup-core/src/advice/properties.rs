//! What is true of any strategy.

use jiff::SignedDuration;
use jiff::tz::TimeZone;
use proptest::prelude::{ProptestConfig, prop, prop_assert, prop_assert_eq, proptest};
use proptest::strategy::Strategy as Generator;

use super::*;
use crate::policy::{Objectives, Place, Trigger, predicted};
use crate::schedule::Schedule;

const NOW: &str = "2026-11-22T12:00:00Z";
const KINDS: [Kind; 11] = [
    Kind::Postgres,
    Kind::Mysql,
    Kind::Mongodb,
    Kind::Sqlite,
    Kind::Redis,
    Kind::Files,
    Kind::Git,
    Kind::Configuration,
    Kind::Secrets,
    Kind::Logs,
    Kind::Command,
];
const CLASSES: [Option<&str>; 6] =
    [None, Some("GLACIER"), Some("DEEP_ARCHIVE"), Some("Archive"), Some("STANDARD_IA"), Some("nonsense")];

/// A kind, a size, and how many minutes may be lost and be away.
type Thing = (Kind, Option<u64>, i64, i64);

fn items() -> impl Generator<Value = Vec<Thing>> {
    let item = (
        prop::sample::select(KINDS.to_vec()),
        prop::option::of(0..2_000_000_000_000_u64),
        5..20_000_i64,
        1..20_000_i64,
    );
    prop::collection::vec(item, 1..6)
}

fn stores() -> impl Generator<Value = Vec<Store>> {
    let kinds = [
        StoreKind::Folder,
        StoreKind::Server,
        StoreKind::S3,
        StoreKind::S3Compatible,
        StoreKind::Gcs,
        StoreKind::Azure,
    ];
    let store = (prop::sample::select(kinds.to_vec()), prop::sample::select(CLASSES.to_vec()), 0..3_u8);
    prop::collection::vec(store, 1..4).prop_map(|stores| {
        let each = |(at, (kind, class, site)): (usize, (StoreKind, Option<&str>, u8))| Store {
            name: format!("store-{at}"),
            kind,
            host: None,
            place: Place {
                media: Some(format!("{kind:?}")),
                site: Some(format!("site-{site}")),
                failure_domain: Some(format!("domain-{at}")),
            },
            class: class.map(str::to_owned),
        };
        stores.into_iter().enumerate().map(each).collect()
    })
}

fn answers(items: Vec<Thing>, stores: Vec<Store>, zone: &str) -> Answers {
    let each = |(at, (kind, bytes, loss, outage)): (usize, Thing)| Item {
        name: format!("job-{at}"),
        kind,
        criticality: classify(kind).0,
        host: Some("here".to_owned()),
        because: classify(kind).1.to_owned(),
        bytes,
        change: None,
        home: Place { media: Some("disk".to_owned()), site: Some("site-0".to_owned()), failure_domain: None },
        bearable: Bearable { loss: SignedDuration::from_mins(loss), outage: SignedDuration::from_mins(outage) },
    };
    let items = items.into_iter().enumerate().map(each).collect();
    Answers { zone: TimeZone::get(zone).unwrap(), items, stores, prices: None }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_strategy_keeps_to_its_objectives_or_is_not_proposed(
        items in items(),
        stores in stores(),
        zone in prop::sample::select(vec!["UTC", "Europe/Paris", "Australia/Lord_Howe"]),
    ) {
        let now = NOW.parse().unwrap();
        let answers = answers(items, stores, zone);
        let strategy = match advise(&answers, now) {
            Ok(strategy) => strategy,
            Err(impossible) => {
                // Only what leaves no room between two runs is refused.
                let run = impossible.run.unwrap_or_default();
                let room = run * 7 + SignedDuration::from_mins(90);
                prop_assert!(impossible.loss < SignedDuration::from_mins(20) || room > impossible.loss, "{impossible}");
                return Ok(());
            }
        };
        prop_assert_eq!(strategy.jobs.len(), answers.items.len());
        for job in &strategy.jobs {
            let schedule = Schedule::parse(&job.frequency.schedule, answers.zone.clone()).unwrap();
            prop_assert!(schedule.plain().is_ok());
            let trigger = Trigger::Schedule { longest_gap: schedule.longest_gap(now) };
            let objectives = Objectives { rpo: Some(job.bearable.loss), rto: None };
            let told = predicted(trigger, job.frequency.run.as_slice(), objectives).unwrap();
            prop_assert!(told.lost <= job.bearable.loss, "{}", job.frequency.because);
            prop_assert!(Schedule::parse(&job.drill, answers.zone.clone()).unwrap().longest_gap(now).as_hours() <= 32 * 24);
            prop_assert!(job.retention.values().all(|keeping| !keeping.rules.is_empty() && !keeping.because.is_empty()));
            prop_assert!([&job.because, &job.frequency.because, &job.drill_because].iter().all(|why| !why.is_empty()));
        }
        let outage = answers.items.iter().map(|item| item.bearable.outage).min().unwrap();
        for (store, given) in strategy.stores.iter().zip(&answers.stores) {
            prop_assert!(store.class.wait <= outage, "{store:?}");
            prop_assert!(store.class.class.is_none() || store.class.wait.is_zero(), "{store:?}");
            prop_assert!(!store.class.because.is_empty());
            prop_assert_eq!(store.cost, None);
            prop_assert!(Schedule::parse(&store.read_back, answers.zone.clone()).is_ok());
            let is_known = ["STANDARD_IA", "GLACIER_IR", "NEARLINE", "COLDLINE", "ARCHIVE", "Cool", "Cold"];
            prop_assert!(store.class.class.iter().all(|class| is_known.contains(&class.as_str())), "{given:?}");
        }
        prop_assert_eq!(strategy.recoveries.len(), 4 * answers.items.len());
    }
}
