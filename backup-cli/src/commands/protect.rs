//! `backup protect`: sees to it that nobody can remove what the snapshots need, for a while.

use std::sync::Arc;

use backup_core::care::objects_in_use;
use backup_core::contracts::ObjectKey;
use backup_core::model::SnapshotId;
use backup_core::repository::layout::{Named as _, SNAPSHOTS};
use backup_core::repository::{ObjectLock, RecordBody, Repository};
use backup_store::Place;
use backup_store::sinks::{COMPLIANCE, Prolong, Retention, S3Retention};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::console::amounts;
use crate::exit::{Exit, Failure};
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
    located.require_one_place("give both buckets a default retention that is long enough")?;
    let place = &located.place;
    let Place::Bucket(bucket) = place else {
        return Err(Failure::usage(format!("{place} has no object lock"), "this is for s3:// with object lock"));
    };
    let retention = S3Retention::open(bucket, &located.access(session)?)?;
    let repository = session.open()?;
    let reporter = session.console.reporter();
    let _lock = session.lock(&repository, &*reporter)?;
    let keys = objects_in_use(&repository, &*reporter)?;
    reporter.finish();
    let until = Timestamp::now() + SignedDuration::from_hours(24 * i64::from(args.days));
    let prolong = if args.dry_run { Prolong::DryRun } else { Prolong::Now };
    let keys = Arc::new(keys);
    let asked = Arc::clone(&keys);
    let report = repository.store().start(async move { retention.ensure(&asked, until, prolong).await }).wait()?;
    let recorded = match (prolong, &report.least) {
        (Prolong::Now, Some(least)) if report.short.is_empty() => Some(record(&repository, &keys, least, session)),
        _ => None,
    };
    let short: Vec<_> = report
        .short
        .iter()
        .map(|(key, found)| json!({"key": key.as_str(), "until": found.as_ref().map(|found| found.until.to_string())}))
        .collect();
    let document = json!({
        "event": "summary", "dry_run": args.dry_run, "until": until.to_string(), "objects": keys.len(),
        "enough": report.enough, "prolonged": report.prolonged, "short": short,
        "least": report.least.as_ref().map(|least| json!({"until": least.until.to_string(), "mode": least.mode})),
        "recorded": recorded.unwrap_or(false),
    });
    session.console.either(&document, || {
        format!(
            "{} until {}: {} protected already, {} prolonged, {} not protected\n{}",
            amounts::counted(keys.len() as u64, "object"),
            amounts::local_time(until),
            report.enough,
            report.prolonged,
            report.short.len(),
            match &report.least {
                Some(least) if least.mode != COMPLIANCE =>
                    "who may pass over governance can remove them all the same, so `status` takes none for immutable\n",
                _ => "",
            },
        )
    })?;
    Ok(if report.short.is_empty() { Exit::Done } else { Exit::Failed })
}

/// Writes down what the store said of every object, so that `status` knows of it without asking again. Credentials that
/// may not write records have protected all the same.
fn record(repository: &Repository, keys: &[ObjectKey], least: &Retention, session: &Session) -> bool {
    let is_snapshot = |key: &&ObjectKey| key.as_str().starts_with(SNAPSHOTS);
    let snapshots: Vec<_> = keys.iter().filter(is_snapshot).filter_map(SnapshotId::from_key).collect();
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
