//! `backup copy`: brings snapshots into another repository.

use std::path::PathBuf;
use std::sync::Arc;

use backup_core::care::{CopyFate, CopyOptions, CopyOutcome, CopyPlan, PlannedCopy, SnapshotCopy};
use backup_core::clock::SystemClock;
use backup_core::codec::{Compression, Proof};
use backup_core::model::SnapshotId;
use backup_core::repository::Repository;
use serde_json::{Value, json};

use crate::args::Which;
use crate::console::{amounts, say, table::Table};
use crate::exit::{Exit, Failure};
use crate::network::Caching;
use crate::secrets::password::{self, Second};
use crate::session::{Session, identity};
use crate::thawing::reading_failed;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Only what the other repository lacks is read. A copy that was stopped goes on from where it was. \
    Without an option or variable for its passphrase ($BACKUP_TO_PASSWORD, $BACKUP_TO_PASSWORD_FILE, \
    $BACKUP_TO_PASSWORD_COMMAND), the other repository is opened with the passphrase of the first."
)]
pub(crate) struct Args {
    /// Beginnings of ids, or `latest`; all that the filters let through when not given
    #[arg(value_name = "SNAP")]
    snapshots: Vec<String>,
    /// The repository to copy to; `init --like` makes one that shares its data with this one
    #[arg(long, value_name = "PLACE")]
    to: String,
    /// Read the passphrase of the repository given with --to from this file
    #[arg(long, value_name = "FILE", conflicts_with = "to_password_command")]
    to_password_file: Option<PathBuf>,
    /// Read the passphrase of the repository given with --to from what this command prints
    #[arg(long, value_name = "COMMAND")]
    to_password_command: Option<String>,
    /// Show what would be copied, and copy nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// zstd's level for what was not compressed: more is smaller and slower
    #[arg(long, value_name = "LEVEL", default_value_t = Compression::DEFAULT_LEVEL,
        value_parser = clap::value_parser!(i32).range(-7..=22), allow_hyphen_values = true)]
    compression: i32,
    /// Do not open every piece that is sealed anew again and compare: faster, and bad memory becomes a bad copy
    #[arg(long)]
    skip_proof: bool,
    #[command(flatten)]
    which: Which,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let from = session.open()?;
    let to = open_second(args, session)?;
    let (ids, damaged) = chosen(args, &from, session)?;
    let lock = session.globals.shared_lock();
    let proof = if args.skip_proof { Proof::Off } else { Proof::Each };
    let options =
        CopyOptions { from_lock: lock, to_lock: lock, level: args.compression, proof, ..CopyOptions::default() };
    let reporter = session.console.reporter();
    let copy = SnapshotCopy::plan(&from, &to, &ids, &options, &session.cancel, &*reporter)?;
    if args.dry_run {
        reporter.finish();
        let plan = copy.planned();
        let document = document(plan, true, &plan.snapshots, None);
        session.console.either(&document, || planned(plan))?;
        return Ok(exit(&plan.snapshots, damaged));
    }
    let plan = copy.planned().clone();
    let outcome = copy.apply(&session.cancel, &*reporter).map_err(reading_failed)?;
    reporter.finish();
    for PlannedCopy { id, fate, .. } in &outcome.snapshots {
        if let CopyFate::Impossible(why) = fate {
            say(&format!("loss: snapshot {id:.8} is not copied: {why}"));
        }
    }
    let document = document(&plan, false, &outcome.snapshots, Some(&outcome));
    session.console.summary(&document, || done(&outcome, &to))?;
    Ok(exit(&outcome.snapshots, damaged))
}

/// Opens the repository that is copied to.
fn open_second(args: &Args, session: &Session) -> Result<Repository, Failure> {
    let sink = session.open_sink(&args.to, Caching::Allowed)?;
    let (file, command) = (args.to_password_file.as_deref(), args.to_password_command.as_deref());
    let passphrase = password::of_second(Second::To, file, command, &args.to, session)?;
    let reporter = session.console.reporter();
    Repository::open(sink, &passphrase, identity(None), Arc::new(SystemClock), &*reporter)
        .map_err(|error| password::hint_at_second(Second::To, error.into()))
}

/// The snapshots that are meant, and how many cannot be read.
fn chosen(args: &Args, from: &Repository, session: &Session) -> Result<(Vec<SnapshotId>, u64), Failure> {
    if !args.snapshots.is_empty() {
        let named = args.snapshots.iter().map(|text| Ok(session.find(from, text, &args.which)?.0));
        return Ok((named.collect::<Result<_, Failure>>()?, 0));
    }
    let query = args.which.query();
    let mut damaged = 0;
    let mut snapshots = from.readable_snapshots(|id, error| {
        damaged += 1;
        say(&format!("loss: snapshot {id:.8}: {error}"));
        Ok(())
    })?;
    snapshots.retain(|(_, snapshot)| query.matches(snapshot));
    Ok((snapshots.into_iter().map(|(id, _)| id).collect(), damaged))
}

/// A copy that lacks snapshots is behind.
fn exit(snapshots: &[PlannedCopy], damaged: u64) -> Exit {
    let impossible = snapshots.iter().any(|snapshot| matches!(snapshot.fate, CopyFate::Impossible(_)));
    if impossible || damaged > 0 { Exit::Behind } else { Exit::Done }
}

fn count(snapshots: &[PlannedCopy], is_meant: impl Fn(&CopyFate) -> bool) -> u64 {
    snapshots.iter().filter(|snapshot| is_meant(&snapshot.fate)).count() as u64
}

fn document(plan: &CopyPlan, dry_run: bool, snapshots: &[PlannedCopy], outcome: Option<&CopyOutcome>) -> Value {
    let told = snapshots.iter().map(|PlannedCopy { id, time, fate }| {
        let (word, copy, reason) = match fate {
            CopyFate::ToCopy => ("to_copy", None, None),
            CopyFate::Copied(copy) => ("copied", Some(copy), None),
            CopyFate::There(copy) => ("there", Some(copy), None),
            CopyFate::Impossible(why) => ("impossible", None, Some(why)),
        };
        json!({"id": id, "time": time.map(|time| time.to_string()), "fate": word, "copy": copy, "reason": reason})
    });
    json!({
        "event": "summary",
        "dry_run": dry_run,
        "same_key": plan.same_key,
        "snapshots": told.collect::<Vec<_>>(),
        "planned": {"blobs": plan.blobs, "bytes": plan.bytes},
        "done": outcome.map(|outcome| json!({
            "blobs": outcome.blobs,
            "bytes_read": outcome.bytes_read,
            "bytes_stored": outcome.bytes_stored,
            "whole_packs": outcome.whole_packs,
            "proof": outcome.reached,
        })),
    })
}

fn planned(plan: &CopyPlan) -> String {
    let mut table = Table::new(&["ID", "Time", ""]);
    for PlannedCopy { id, time, fate } in &plan.snapshots {
        let what = match fate {
            CopyFate::ToCopy | CopyFate::Copied(_) => "to copy".to_owned(),
            CopyFate::There(copy) => format!("is there as {copy:.8}"),
            CopyFate::Impossible(why) => format!("cannot be copied: {why}"),
        };
        table.row([format!("{id:.8}"), time.map(amounts::local_time).unwrap_or_default(), what]);
    }
    let blobs = amounts::counted(plan.blobs, "piece");
    format!("{}dry run: {blobs} ({}) would be copied\n", table.text(), amounts::size(plan.bytes))
}

fn done(outcome: &CopyOutcome, to: &Repository) -> String {
    let snapshots = &outcome.snapshots;
    let mut table = Table::new(&["", ""]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    let there = count(snapshots, |fate| matches!(fate, CopyFate::There(_)));
    let impossible = count(snapshots, |fate| matches!(fate, CopyFate::Impossible(_)));
    if there > 0 {
        row("there", format!("{} copied before", amounts::counted(there, "snapshot")));
    }
    row("read", amounts::size(outcome.bytes_read));
    row("stored", format!("{} in {}", amounts::size(outcome.bytes_stored), amounts::counted(outcome.blobs, "piece")));
    if impossible > 0 {
        row("losses", format!("{} not copied: see above", amounts::counted(impossible, "snapshot")));
    }
    let copied = count(snapshots, |fate| matches!(fate, CopyFate::Copied(_)));
    let reached = if copied > 0 { format!(" ({})", outcome.reached) } else { String::new() };
    let counted = amounts::counted(copied, "snapshot");
    format!("{}copied {counted} to {}{reached}\n", table.text(), to.store().location())
}
