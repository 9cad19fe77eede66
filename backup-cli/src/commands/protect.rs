//! `backup protect`: sees to it that nobody can remove what the snapshots need, for a while.

use std::collections::HashSet;

use backup_core::bridge::Store;
use backup_core::care::objects_in_use;
use backup_core::contracts::ObjectKey;
use backup_core::model::SnapshotId;
use backup_core::repository::layout::{self, Named as _};
use backup_core::repository::{ObjectLock, RecordBody, Repository};
use backup_store::sinks::{COMPLIANCE, Prolong, Retention, RetentionReport, Short, ShortReason, Wanted};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::console::amounts;
use crate::exit::{Exit, Failure};
use crate::located::Need;
use crate::network::patience;
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For this many days from now
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// Look at each object, and prolong nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let located = session.locate(session.place()?)?;
    let buckets = located.buckets(Need::Retention)?;
    let access = located.access(session)?;
    let halves = buckets.iter().map(|bucket| bucket.retention(&access, patience(session)));
    let halves = halves.collect::<Result<Vec<_>, _>>()?;
    let repository = session.open()?;
    let reporter = session.console.reporter();
    let _lock = session.lock(&repository, &*reporter)?;
    let objects = objects_in_use(&repository, &*reporter)?;
    let in_cold = match &located.cold {
        Some(cold) => in_cold(&Store::new(cold.open(&access)?)?)?,
        None => HashSet::new(),
    };
    reporter.finish();
    let until = Timestamp::now() + SignedDuration::from_hours(24 * i64::from(args.days));
    let prolong = if args.dry_run { Prolong::DryRun } else { Prolong::Now };
    let count = objects.len();
    let is_snapshot = |key: &&ObjectKey| key.as_str().starts_with(layout::SNAPSHOTS);
    let keys = objects.iter().map(|object| &object.key);
    let snapshots: Vec<_> = keys.filter(is_snapshot).filter_map(SnapshotId::from_key).collect();
    let wanted = objects.into_iter().map(|object| Wanted { key: object.key, bytes: object.bytes });
    let (cold, hot): (Vec<_>, Vec<_>) = wanted.partition(|object| in_cold.contains(&object.key));
    let mut report = RetentionReport::default();
    let mut short = Vec::new();
    let mut lost = String::new();
    for ((retention, bucket), keys) in halves.into_iter().zip(buckets).zip([hot, cold]) {
        let half = repository.store().start(async move { retention.ensure(&keys, until, prolong).await }).wait()?;
        report.enough += half.enough;
        report.prolonged += half.prolonged;
        report.uncompared += half.uncompared;
        half.least.into_iter().for_each(|least| report.see(least));
        for Short { key, retention, why } in &half.short {
            let until = retention.as_ref().map(|found| found.until.to_string());
            let (word, told) = match why {
                ShortReason::TooEarly => ("too_early", None),
                ShortReason::Replaced => ("replaced", Some("something else was written over it")),
                ShortReason::Missing => ("missing", Some("it was deleted")),
            };
            short.push(json!({"place": bucket.short(), "key": key.as_str(), "until": until, "reason": word}));
            lost.extend(told.map(|told| format!("{}/{key}: {told}\n", bucket.short())));
        }
    }
    if !lost.is_empty() {
        lost += UNDELETE;
    }
    let not_protected = short.len();
    let recorded = match (prolong, &report.least) {
        (Prolong::Now, Some(least)) if not_protected == 0 && report.uncompared == 0 => {
            record(&repository, snapshots, least, session)
        }
        _ => false,
    };
    let document = json!({
        "event": "summary", "dry_run": args.dry_run, "until": until.to_string(), "objects": count,
        "enough": report.enough, "prolonged": report.prolonged, "short": short, "uncompared": report.uncompared,
        "least": report.least.as_ref().map(|least| json!({"until": least.until.to_string(), "mode": least.mode})),
        "recorded": recorded,
    });
    session.console.either(&document, || {
        format!(
            "{} until {}: {} protected already, {} prolonged, {} not protected\n{lost}{}{}",
            amounts::counted(count as u64, "object"),
            amounts::local_time(until),
            report.enough,
            report.prolonged,
            not_protected,
            match report.uncompared {
                0 => String::new(),
                count => format!(
                    "the store keeps no SHA-256 of {}, so they may be something else by now, and `status` is told nothing: \
                     `check --read-data` compares them\n",
                    amounts::counted(count, "object")
                ),
            },
            match &report.least {
                Some(least) if least.mode != COMPLIANCE =>
                    "who may pass over governance can remove them all the same, so `status` takes none for immutable\n",
                _ => "",
            },
        )
    })?;
    Ok(if not_protected == 0 { Exit::Done } else { Exit::Failed })
}

const UNDELETE: &str =
    "what was there before comes back, where the bucket keeps versions: `repair undelete --at TIME`\n";

/// What lies in the cold half of a pair: the config, and packs.
fn in_cold(cold: &Store) -> Result<HashSet<ObjectKey>, Failure> {
    let packs = cold.list(layout::DATA)?.into_iter().map(|info| info.key);
    Ok(packs.chain([layout::config()]).collect())
}

/// Writes down what the store said of every object, so that `status` knows of it without asking again. Credentials that
/// may not write records have protected all the same.
fn record(repository: &Repository, snapshots: Vec<SnapshotId>, least: &Retention, session: &Session) -> bool {
    let mode = if least.mode == COMPLIANCE { ObjectLock::Compliance } else { ObjectLock::Governance };
    match repository.save_record(RecordBody::Locked { snapshots, until: least.until, mode }) {
        Ok(_) => true,
        Err(error) => {
            let why = Failure::from(error).what;
            session.console.warn(&format!("`status` will not know of it, because it could not be recorded: {why}"));
            false
        }
    }
}
