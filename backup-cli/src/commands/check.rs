//! `backup check`: is everything there, and is it what it was?

use std::time::Instant;

use backup_core::care::{CheckOptions, CheckReport, Finding, ReadData, Severity, check};
use backup_core::clock::{Clock as _, SystemClock};
use backup_core::look::read_back;
use backup_core::repository::{Claim, Repository};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::console::{amounts, json::path, table::Table};
use crate::exit::{Exit, Failure};
use crate::session::Session;
use crate::telling;
use crate::thawing::reading_failed;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Read all data too, and find what has rotted
    #[arg(long, conflicts_with = "read_data_subset")]
    read_data: bool,
    /// Read so many percent of the packs, drawn anew each time
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    read_data_subset: Option<f64>,
    /// Read for the newest slot of the repository's `read_back`, once among all machines that share it: for cron and
    /// timers
    #[arg(long, requires = "read_data")]
    slot: bool,
}

/// The lease of a reading. No job has this name: those of jobs begin with a letter or digit.
const LEASE: &str = "_read-back";

fn percent(text: &str) -> Result<f64, String> {
    let wrong = || "write 10% or 2.5%: more than 0, at most 100".to_owned();
    let number: f64 = text.trim_end_matches('%').trim().parse().map_err(|_| wrong())?;
    if number > 0.0 && number <= 100.0 { Ok(number) } else { Err(wrong()) }
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let read_data = match args.read_data_subset {
        Some(percent) => ReadData::Subset(percent),
        None if args.read_data => ReadData::All,
        None => ReadData::None,
    };
    // A place says nothing of when it is to be read.
    let configured = session.locate(session.place()?)?.name;
    let slot = if args.slot { Some(newest_slot(configured.as_deref(), session)?) } else { None };
    let ended = run_once(read_data, slot, session);
    if let Some(name) = configured.filter(|_| read_data == ReadData::All) {
        tell(&name, &ended, session)?;
    }
    ended
}

/// The newest slot at which a repository of the configuration is to be read back.
fn newest_slot(name: Option<&str>, session: &Session) -> Result<Timestamp, Failure> {
    let config = session.config()?;
    let repository = name.and_then(|name| config.repository(name));
    let slot = repository.and_then(|repository| repository.read_back.as_ref()?.previous(SystemClock.now()));
    slot.ok_or_else(|| {
        Failure::usage(
            "the repository has no slots",
            "name one of the configuration with -r, and write read_back = \"0 5 1 * *\" below it",
        )
    })
}

/// Who reads, or has read, a repository for a slot; nobody, when this process is to.
fn held(repository: &Repository, slot: Timestamp, session: &Session) -> Result<Option<String>, Failure> {
    let records = repository.records()?;
    if read_back(records.iter().map(|(_, record)| record)).is_some_and(|read| read >= slot) {
        return Ok(Some("a reading since".to_owned()));
    }
    match repository.claim(LEASE, slot) {
        Ok(Claim::Taken) => Ok(None),
        Ok(Claim::Held(lease)) => Ok(Some(lease.hostname)),
        Err(error) => {
            let why = Failure::from(error).what;
            session.console.warn(&format!("no lease is kept, so another machine may read it as well: {why}"));
            Ok(None)
        }
    }
}

/// Tells who wants to know of failures what became of a full reading.
fn tell(name: &str, ended: &Result<Exit, Failure>, session: &Session) -> Result<(), Failure> {
    let config = session.config()?;
    for warning in telling::tell(&config, telling::of_reading(name, ended).as_slice(), session) {
        session.console.warn(&warning);
    }
    Ok(())
}

fn run_once(read_data: ReadData, slot: Option<Timestamp>, session: &Session) -> Result<Exit, Failure> {
    let repository = session.open_uncached()?;
    if let Some(slot) = slot
        && let Some(held) = held(&repository, slot, session)?
    {
        let told = json!({"event": "summary", "slot": slot.to_string(), "held_by": held});
        session.console.either(&told, || format!("the slot of {slot} is taken: {held}\n"))?;
        return Ok(Exit::Done);
    }
    let reporter = session.console.reporter();
    let options = CheckOptions { read_data, lock: session.globals.shared_lock() };
    let began = Instant::now();
    let report = check(&repository, &options, &session.cancel, &*reporter).map_err(reading_failed)?;
    reporter.finish();
    let seconds = began.elapsed().as_secs_f64();
    session.console.either(&document(&report, seconds), || text(&report, read_data, seconds))?;
    if report.is_sound() {
        return Ok(Exit::Done);
    }
    let damaged = report.findings.iter().filter(|finding| finding.severity == Severity::Damage).count() as u64;
    Err(Failure::new(format!("the repository is damaged: {}", amounts::counted(damaged, "finding")))
        .with_hint("`repair index`, then `repair snapshots`; a new backup of the same files may bring lost data back"))
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Note => "note",
        Severity::Damage => "damage",
    }
}

fn document(report: &CheckReport, seconds: f64) -> Value {
    let finding = |finding: &Finding| {
        let affected = &finding.affected;
        let paths = affected.paths.iter().map(|at| {
            let mut object = path(&at.path);
            object.insert("snapshot".to_owned(), json!(at.snapshot));
            object
        });
        json!({
            "severity": word(finding.severity),
            "object": finding.object.as_str(),
            "what": finding.what,
            "snapshots": affected.snapshots,
            "snapshot_count": affected.snapshot_count,
            "paths": paths.collect::<Vec<_>>(),
            "path_count": affected.path_count,
        })
    };
    json!({
        "event": "summary",
        "sound": report.is_sound(),
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "snapshots": report.snapshots,
        "trees": report.trees,
        "data_blobs": report.data_blobs,
        "packs": report.packs,
        "pack_bytes": report.pack_bytes,
        "packs_read": report.packs_read,
        "bytes_read": report.bytes_read,
        "broken_snapshots": report.broken_snapshots,
        "proof": report.reached,
        "seconds": seconds,
    })
}

fn text(report: &CheckReport, read_data: ReadData, seconds: f64) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        text += &format!("{}: {finding}\n", word(finding.severity));
        for at in &finding.affected.paths {
            text += &format!("    {:.8}  {}\n", at.snapshot, at.path);
        }
        let unnamed = finding.affected.path_count.saturating_sub(finding.affected.paths.len() as u64);
        if unnamed > 0 {
            text += &format!("    and {} more\n", amounts::count(unnamed));
        }
    }
    let mut table = Table::new(&["", ""]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    let (trees, blobs) = (amounts::counted(report.trees, "tree"), amounts::count(report.data_blobs));
    row("checked", format!("{}, {trees}, {blobs} data blobs", amounts::counted(report.snapshots, "snapshot")));
    let packs = amounts::counted(report.packs, "pack");
    row("packs", format!("{packs} listed, {}", amounts::size(report.pack_bytes)));
    row(
        "data read",
        match read_data {
            ReadData::None if report.packs_read == 0 => "none: --read-data finds what has rotted".to_owned(),
            _ => format!(
                "{} of {packs}, {} ({})",
                amounts::count(report.packs_read),
                amounts::size(report.bytes_read),
                amounts::rate(report.bytes_read, seconds)
            ),
        },
    );
    row("time", amounts::span(seconds));
    if let Some(proof) = report.reached {
        row("proven", format!("the snapshots that are not broken are `{proof}`"));
    }
    text += &table.text();
    if report.is_sound() {
        text += "no damage found\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subset_is_a_part_of_a_hundred() {
        assert_eq!(percent("10%"), Ok(10.0));
        assert_eq!(percent("2.5"), Ok(2.5));
        for wrong in ["", "0", "101%", "-1", "NaN", "1/5"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
    }
}
