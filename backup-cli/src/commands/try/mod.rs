//! `backup try`: a minute's proof on somebody's own data, that leaves nothing behind.
//!
//! A repository in the temporary folder, a backup, a drill of it, and a comparison of what it restored with the live tree
//! that shares no code with either. It asks nothing, and an interruption removes what it made.

mod compare;
mod limit;
mod scratch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backup_core::clock::SystemClock;
use backup_core::contracts::{Report, Source as _};
use backup_core::drill::{DrillOutcome, DrillTask, StageName, Stopwatch, drill};
use backup_core::model::SnapshotPath;
use backup_core::observe::{Amount, Observer};
use backup_core::pipeline::{BackupOptions, BackupOutcome, RestoreOutcome, backup};
use backup_core::repository::{CreateOptions, LockMode, Passphrase, Repository};
use backup_sources::files::{Case, Excludes, FileSystems, FilesOptions, FilesSource, LeftOut, Marker};
use backup_sources::sandbox::{FilesSandbox, Meaning};
use backup_store::Place;
use serde_json::json;

use crate::console::{amounts, say, table::Table};
use crate::drills::told;
use crate::exit::{Exit, Failure};
use crate::session::{Session, identity};
use compare::Comparison;
use limit::{Limited, NotTaken};
use scratch::Scratch;

/// How much is taken unless `--all` is given: enough to measure, little enough for a minute.
const BYTES_MAX: u64 = 2_000_000_000;
/// Differences that are listed.
const DIFFERENCES_SHOWN_MAX: usize = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to try it on
    #[arg(value_name = "PATH", default_value = ".")]
    path: PathBuf,
    /// Take more than 2 GB
    #[arg(long)]
    all: bool,
    /// Leave the repository and the restored files in the temporary folder
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let path = args.path.canonicalize().map_err(|error| {
        Failure::because(args.path.display().to_string(), &error).with_hint("name a folder that exists")
    })?;
    let scratch = Scratch::create(args.keep)?;
    let options = options(&scratch)?;
    let bytes_max = if args.all { u64::MAX } else { BYTES_MAX };
    let bytes_expected = expected(&path, &options, bytes_max, session)?;
    scratch.require(bytes_expected.saturating_mul(2))?;

    let repository = throw_away(&scratch)?;
    let began = jiff::Timestamp::now();
    let mut source = Limited::new(FilesSource::new(vec![path.clone()], &options)?, bytes_max);
    let reporter = session.console.reporter();
    reporter.expect(Amount { items: 0, bytes: bytes_expected });
    let watch = Instant::now();
    let backed_up = backup(&repository, &mut source, &BackupOptions::default(), &session.cancel, &*reporter)?;
    let backup_seconds = watch.elapsed().as_secs_f64();

    let drilled = drilled(&repository, &path, &scratch, session, &*reporter)?;
    reporter.finish();
    session.cancel.check()?;
    let Some(restored) = drilled.restored.clone() else {
        return Err(Failure::new(told::verdict(&drilled)).with_hint("nothing of yours was changed"));
    };
    let restore = drilled.stages.iter().filter(|stage| stage.name == StageName::Restore);
    let restore_seconds = restore.map(|stage| Duration::from_millis(stage.duration_ms).as_secs_f64()).sum();

    let is_folder = path.is_dir();
    let copy = match path.file_name() {
        Some(name) if !is_folder => scratch.restored().join(name),
        _ => scratch.restored(),
    };
    let left_out = source.inner().left_out();
    let not_taken = source.into_not_taken();
    let compared = compare::compare(&path, &copy, &not_taken, began, &session.cancel)?;
    let stored = stored_bytes(&scratch)?;
    let proof = Proof {
        path,
        backed_up,
        restored,
        drilled,
        compared,
        not_taken,
        left_out,
        stored,
        backup_seconds,
        restore_seconds,
        kept: args.keep.then(|| scratch.path().to_owned()),
    };
    proof.tell(session)?;
    Ok(proof.exit())
}

/// A drill of what was backed up, into a folder that is looked at afterwards.
fn drilled(
    repository: &Repository,
    path: &Path,
    scratch: &Scratch,
    session: &Session,
    observer: &dyn Observer,
) -> Result<DrillOutcome, Failure> {
    let mut watch = Stopwatch::begin();
    let found = watch.time(StageName::Open, || repository.find_snapshot("latest", &Default::default()));
    let (id, snapshot) = found?;
    let task = DrillTask {
        repository,
        id,
        snapshot: &snapshot,
        part: Some(SnapshotPath::of_file(path)),
        report: &Report::default(),
        questions: &[],
        lock: LockMode::Shared,
    };
    let sandbox = FilesSandbox::left_in(scratch.restored(), Meaning::Data);
    Ok(drill(&task, Box::new(sandbox), watch, &session.cancel, observer))
}

/// Everything on the path's own file system but caches and what is made here.
fn options(scratch: &Scratch) -> Result<FilesOptions, Failure> {
    let mut excludes = Excludes::default();
    if let Some(text) = scratch.path().to_str() {
        excludes.add(&globset::escape(text), Case::Sensitive)?;
    }
    let markers = vec![Marker::cachedir_tag()];
    Ok(FilesOptions { excludes, markers, file_systems: FileSystems::One, ..FilesOptions::default() })
}

/// How many bytes will be taken.
fn expected(path: &Path, options: &FilesOptions, bytes_max: u64, session: &Session) -> Result<u64, Failure> {
    let mut source = Limited::new(FilesSource::new(vec![path.to_owned()], options)?, bytes_max);
    while source.next()?.is_some() {
        session.cancel.check()?;
    }
    Ok(source.taken_bytes())
}

/// A repository whose passphrase is its folder's path: it holds copies of what lies open beside it.
fn throw_away(scratch: &Scratch) -> Result<Repository, Failure> {
    let sink = Place::Folder(scratch.repository()).create(&backup_store::Access::default())?;
    let passphrase = Passphrase::new(scratch.path().to_string_lossy());
    let options = CreateOptions::default();
    Ok(Repository::create(sink, &passphrase, &options, identity(None), Arc::new(SystemClock))?)
}

/// What the repository takes on the disk.
fn stored_bytes(scratch: &Scratch) -> Result<u64, Failure> {
    let mut bytes = 0;
    let mut folders = vec![scratch.repository()];
    while let Some(folder) = folders.pop() {
        let failed = |error: std::io::Error| Failure::because(folder.display().to_string(), &error);
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let metadata = entry.metadata().map_err(failed)?;
            if metadata.is_dir() { folders.push(entry.path()) } else { bytes += metadata.len() }
        }
    }
    Ok(bytes)
}

/// What came of it.
struct Proof {
    path: PathBuf,
    backed_up: BackupOutcome,
    restored: RestoreOutcome,
    drilled: DrillOutcome,
    compared: Comparison,
    not_taken: NotTaken,
    left_out: LeftOut,
    stored: u64,
    backup_seconds: f64,
    restore_seconds: f64,
    kept: Option<PathBuf>,
}

impl Proof {
    fn exit(&self) -> Exit {
        if !self.compared.differences.is_empty() || !self.drilled.is_proven() {
            return Exit::Failed;
        }
        Exit::with_losses(self.backed_up.losses + self.restored.losses + self.compared.unreadable)
    }

    fn tell(&self, session: &Session) -> Result<(), Failure> {
        let Self { backed_up, restored, compared, not_taken, .. } = self;
        let summary = &backed_up.summary;
        let document = json!({
            "event": "summary",
            "path": self.path.to_string_lossy(),
            "files": restored.files,
            "bytes": restored.bytes,
            "bytes_stored": self.stored,
            "backup_seconds": self.backup_seconds,
            "restore_seconds": self.restore_seconds,
            "files_compared": compared.files,
            "entries_compared": compared.entries,
            "bytes_compared": compared.bytes,
            "changed_meanwhile": compared.changed,
            "differences": compared.differences,
            "drill": {
                "verdict": self.drilled.verdict.word(),
                "reason": self.drilled.verdict.reason(),
                "level": self.drilled.level.map(u8::from),
                "checks": self.drilled.checks,
                "not_tested": self.drilled.not_tested,
            },
            "left_out": self.left_out,
            "files_not_taken": not_taken.files(),
            "bytes_not_taken": not_taken.bytes,
            "losses": backed_up.losses + restored.losses + compared.unreadable,
            "kept": self.kept,
        });
        session.console.either(&document, || self.text(summary.total_bytes_processed))?;
        if !session.console.is_json() {
            for difference in compared.differences.iter().take(DIFFERENCES_SHOWN_MAX) {
                say(&format!("differs: {difference}"));
            }
        }
        Ok(())
    }

    fn text(&self, bytes: u64) -> String {
        let Self { restored, compared, not_taken, .. } = self;
        let mut table = Table::new(&["", ""]);
        let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
        let speed = |bytes, seconds| format!("{} ({})", amounts::span(seconds), amounts::rate(bytes, seconds));
        let files = amounts::counted(restored.files, "file");
        row("backed up", format!("{files}, {} in {}", amounts::size(bytes), speed(bytes, self.backup_seconds)));
        let smaller = amounts::percent(self.stored, bytes);
        row("stored", format!("{}, {smaller:.0} % of that, encrypted", amounts::size(self.stored)));
        row(
            "restored",
            format!("{} in {}", amounts::size(restored.bytes), speed(restored.bytes, self.restore_seconds)),
        );
        let verdict = match compared.differences.len() {
            0 => "all equal".to_owned(),
            count => format!("{} DIFFER", amounts::count(count as u64)),
        };
        row(
            "compared",
            format!(
                "{} byte by byte, and permissions, times, links, attributes of {}: {verdict}",
                amounts::counted(compared.files, "file"),
                amounts::counted(compared.entries, "thing"),
            ),
        );
        if compared.changed > 0 {
            row("changed", format!("{} while this ran, not compared", amounts::count(compared.changed)));
        }
        if !self.left_out.is_empty() {
            row("left out", super::selection::told(&self.left_out));
        }
        if not_taken.bytes > 0 {
            let files = amounts::counted(not_taken.files(), "file");
            row("not taken", format!("{files} ({}) beyond 2 GB: --all takes them too", amounts::size(not_taken.bytes)));
        }
        let losses = self.backed_up.losses + restored.losses + compared.unreadable;
        if losses > 0 {
            row("losses", format!("{} could not be read or restored as they were", amounts::counted(losses, "file")));
        }
        row("drill", told::verdict(&self.drilled));
        let end = match &self.kept {
            Some(kept) => {
                let kept = kept.display();
                format!("Left in {kept}: `repository` and `restored`. The passphrase is {kept}.")
            }
            None => "Everything that this made is removed again.".to_owned(),
        };
        format!("{}\n{end}\n\nFor real, with a disk of your own:\n{}", table.text(), self.commands())
    }

    fn commands(&self) -> String {
        let path = quoted(&self.path.to_string_lossy());
        format!(
            "  backup init -r /mnt/backups/repo\n  backup create -r /mnt/backups/repo {path}\n  \
             backup restore latest -r /mnt/backups/repo --path {path} --to /tmp/restored\n"
        )
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |character: char| character.is_alphanumeric() || "/._-+:@%".contains(character);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_can_be_pasted_into_a_shell() {
        for (path, shown) in [("/a/b-c.d", "/a/b-c.d"), ("/a b", "'/a b'"), ("/it's", r"'/it'\''s'"), ("/$x", "'/$x'")]
        {
            assert_eq!(quoted(path), shown);
        }
    }
}
