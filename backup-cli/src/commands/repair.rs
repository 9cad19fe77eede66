//! `backup repair`: mends what can be mended.

use backup_core::care::{
    IndexRepair, Originals, ReadPacks, RepairedPack, SnapshotRepair, SnapshotRepairOptions, SnapshotVerdict,
};
use backup_core::model::SnapshotId;
use backup_core::repository::Repository;
use serde_json::{Value, json};

use crate::console::{amounts, json::path};
use crate::exit::{Exit, Failure};
use crate::session::Session;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make the index say what is there, and save what can be read of damaged packs
    Index {
        /// Read all packs, not only those that look wrong
        #[arg(long)]
        read_all_packs: bool,
        /// Show what would be done, and do nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Write damaged snapshots anew without what was lost; a file that lost a part is called NAME.damaged
    Snapshots {
        /// Snapshots: beginnings of ids; all when not given
        #[arg(value_name = "SNAP")]
        snapshots: Vec<String>,
        /// Remove the damaged snapshots once the repaired ones are there
        #[arg(long)]
        forget: bool,
        /// Show what would be done, and do nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Bring back what was deleted or replaced in a bucket that keeps versions (S3, Google, Azure); no passphrase is needed
    #[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
    Undelete {
        /// As of this time: 2026-01-31, "2026-01-31 14:00" (local), or RFC 3339
        #[arg(long, value_name = "TIME", value_parser = crate::args::parse_time)]
        at: jiff::Timestamp,
        /// Show what would be done, and do nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
}

pub(crate) fn run(command: &Command, session: &Session) -> Result<Exit, Failure> {
    match command {
        Command::Index { read_all_packs, dry_run } => {
            let read = if *read_all_packs { ReadPacks::All } else { ReadPacks::Suspicious };
            index(&opened(session)?, read, *dry_run, session)
        }
        Command::Snapshots { snapshots, forget, dry_run } => {
            let repository = opened(session)?;
            let find = |text: &String| Ok(repository.find_snapshot(text, &Default::default())?.0);
            let chosen: Vec<SnapshotId> = snapshots.iter().map(find).collect::<Result<_, Failure>>()?;
            let options = SnapshotRepairOptions {
                snapshots: (!chosen.is_empty()).then_some(chosen),
                originals: if *forget { Originals::Forget } else { Originals::Keep },
            };
            of_snapshots(&repository, &options, *dry_run, session)
        }
        #[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
        Command::Undelete { at, dry_run } => super::undelete::run(*at, *dry_run, session),
    }
}

fn opened(session: &Session) -> Result<Repository, Failure> {
    session.require_locks()?;
    session.open_uncached()
}

fn index(repository: &Repository, read: ReadPacks, dry_run: bool, session: &Session) -> Result<Exit, Failure> {
    let reporter = session.console.reporter();
    let repair = IndexRepair::plan(repository, read, &session.cancel, &*reporter)?;
    reporter.finish();
    let packs: Vec<Value> = repair
        .packs()
        .iter()
        .map(|(id, pack)| {
            let (state, intact, lost) = match pack {
                RepairedPack::Listed => ("listed", None, None),
                RepairedPack::Relisted => ("relisted", None, None),
                RepairedPack::Damaged { intact, lost } => ("damaged", Some(intact), Some(lost)),
                RepairedPack::Gone { lost } => ("gone", None, Some(lost)),
                RepairedPack::Unreadable(_) => ("unreadable", None, None),
            };
            json!({"pack": id, "state": state, "blobs_intact": intact, "blobs_lost": lost})
        })
        .collect();
    let indexes: Vec<_> = repair.unreadable().iter().map(|(id, what)| json!({"index": id, "what": what})).collect();
    let lines: String = index_lines(&repair);
    let mut document = json!({
        "event": "summary", "dry_run": dry_run, "packs": packs, "unreadable_indexes": indexes, "done": null,
    });
    if dry_run || repair.is_empty() {
        session
            .console
            .either(&document, || if lines.is_empty() { "nothing to repair\n".to_owned() } else { lines })?;
        return Ok(Exit::Done);
    }
    let done = repair.apply(&session.cancel, &*reporter)?;
    reporter.finish();
    document["done"] = json!({
        "listed": done.listed, "dropped": done.dropped, "blobs_saved": done.saved_blobs, "deleted": done.deleted,
        "left": done.left,
    });
    session.console.either(&document, || {
        format!(
            "{lines}{} listed, {} dropped, {} saved from damaged packs\n",
            amounts::counted(done.listed, "pack"),
            amounts::count(done.dropped),
            amounts::counted(done.saved_blobs, "blob"),
        )
    })?;
    session.console.note("`check` now says whether snapshots lost anything; `repair snapshots` mends them.");
    Ok(Exit::Done)
}

fn index_lines(repair: &IndexRepair) -> String {
    let indexes = repair.unreadable().iter().map(|(id, what)| format!("index {id:.8}: {what}; removed\n"));
    let packs = repair.packs().iter().map(|(id, pack)| match pack {
        RepairedPack::Listed => format!("pack {id:.8}: in no index, will be listed\n"),
        RepairedPack::Relisted => format!("pack {id:.8}: the index said something else of it, will be put right\n"),
        RepairedPack::Damaged { intact, lost } => {
            format!("pack {id:.8}: damaged; {} can be saved, {lost} are lost\n", amounts::counted(*intact, "blob"))
        }
        RepairedPack::Gone { lost } => format!("pack {id:.8}: gone, and {} with it\n", amounts::counted(*lost, "blob")),
        RepairedPack::Unreadable(what) => format!("pack {id:.8}: in no index and unreadable ({what}); left to prune\n"),
    });
    indexes.chain(packs).collect()
}

fn of_snapshots(
    repository: &Repository,
    options: &SnapshotRepairOptions,
    dry_run: bool,
    session: &Session,
) -> Result<Exit, Failure> {
    let reporter = session.console.reporter();
    let repair = SnapshotRepair::plan(repository, options, &session.cancel, &*reporter)?;
    reporter.finish();
    let (mut verdicts, mut lines, mut lost) = (Vec::<Value>::new(), String::new(), 0_u64);
    for (id, verdict) in repair.verdicts() {
        verdicts.push(spelled(id, verdict));
        match verdict {
            SnapshotVerdict::Sound => {}
            SnapshotVerdict::RepairedAlready => lines += &format!("snapshot {id:.8}: repaired already\n"),
            SnapshotVerdict::Lost(what) => {
                lost += 1;
                lines += &format!("snapshot {id:.8}: nothing is left of it ({what})\n");
            }
            SnapshotVerdict::Repairable { dropped, shortened, paths, .. } => {
                lines += &format!("snapshot {id:.8}: {dropped} dropped, {shortened} shortened\n");
                lines.extend(paths.iter().map(|path| format!("    {path}\n")));
            }
        }
    }
    let mut document = json!({"event": "summary", "dry_run": dry_run, "snapshots": verdicts, "repaired": []});
    if dry_run || repair.is_empty() {
        session
            .console
            .either(&document, || if lines.is_empty() { "nothing to repair\n".to_owned() } else { lines })?;
        return Ok(Exit::with_losses(lost));
    }
    let done = repair.apply(&session.cancel, &*reporter)?;
    reporter.finish();
    let repaired: Vec<_> = done.repaired.iter().map(|(old, new)| json!({"old": old, "new": new})).collect();
    document["repaired"] = repaired.into();
    session.console.either(&document, || {
        let repaired = done.repaired.iter().map(|(old, new)| format!("{old:.8} is repaired as {new:.8}\n"));
        format!("{lines}{}", repaired.collect::<String>())
    })?;
    Ok(Exit::with_losses(lost))
}

fn spelled(id: SnapshotId, verdict: &SnapshotVerdict) -> Value {
    match verdict {
        SnapshotVerdict::Sound => json!({"snapshot": id, "verdict": "sound"}),
        SnapshotVerdict::RepairedAlready => json!({"snapshot": id, "verdict": "repaired_already"}),
        SnapshotVerdict::Lost(what) => json!({"snapshot": id, "verdict": "lost", "what": what}),
        SnapshotVerdict::Repairable { dropped, shortened, paths, .. } => json!({
            "snapshot": id, "verdict": "repairable", "dropped": dropped, "shortened": shortened,
            "paths": paths.iter().map(path).collect::<Vec<_>>(),
        }),
    }
}
