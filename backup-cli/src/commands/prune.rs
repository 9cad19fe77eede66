//! `backup prune`: removes data that no snapshot needs.

use backup_core::care::{
    DataPacks, MaxUnused, Prune, PruneFigures, PruneMode, PruneOptions, PrunePlan, SmallPacks, UncompressedData,
};
use backup_core::repository::Repository;
use serde_json::{Value, json};

use crate::console::{amounts, table::Table};
use crate::exit::{Exit, Failure};
#[cfg(feature = "s3")]
use crate::network::patience;
use crate::session::Session;

#[derive(Debug, Default, clap::Args)]
#[command(after_help = "What is unneeded is marked first and deleted by a prune at least 24 hours later, so that no \
    backup on another machine has to wait. --instant deletes now, and keeps everybody away meanwhile.")]
pub(crate) struct Args {
    /// Delete now; nobody else may use the repository meanwhile
    #[arg(long)]
    instant: bool,
    /// Let so much that nobody needs stay in packs of which something is needed: 5%, 500M, unlimited
    #[arg(long, value_name = "AMOUNT", value_parser = max_unused)]
    max_unused: Option<MaxUnused>,
    /// Write no more than this anew
    #[arg(long, value_name = "SIZE", value_parser = amounts::parse_size)]
    max_repack: Option<u64>,
    /// Leave small packs as they are
    #[arg(long)]
    keep_small: bool,
    /// Compress what is stored plain
    #[arg(long)]
    repack_uncompressed: bool,
    /// Show what would be done, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// The class that one of the packs lies in which would be read, if it is another than the usual one: whoever prunes may
/// write the place without what whoever backs up has in it.
#[cfg(feature = "s3")]
fn class_of_repacks(plan: &PrunePlan, repository: &Repository, session: &Session) -> Result<Option<String>, Failure> {
    use std::sync::Arc;

    use backup_core::care::Action;
    use backup_core::repository::layout::Named as _;
    use backup_store::sinks::S3Archive;
    use backup_store::{Place, Provider};
    use futures::{StreamExt as _, TryStreamExt as _, stream};

    /// Classes from which reading costs no more than from the usual one.
    const USUAL_CLASSES: [&str; 3] = ["STANDARD", "INTELLIGENT_TIERING", "EXPRESS_ONEZONE"];
    /// How many are asked for at once.
    const AT_ONCE: usize = 16;
    let located = session.locate(session.place()?)?;
    let bucket = match located.cold.as_ref().unwrap_or(&located.place) {
        Place::Bucket(bucket) if bucket.provider == Provider::S3 && !located.has_cold_packs() => bucket.clone(),
        _ => return Ok(None),
    };
    let repacks = plan.packs.iter().filter(|pack| pack.action == Action::Repack);
    let keys: Vec<_> = repacks.map(|pack| pack.id.key()).collect();
    let archive = S3Archive::open(&bucket, &located.access(session)?)?.with_patience(patience(session));
    let archive = Arc::new(archive);
    let looked = async move {
        let looks = keys.into_iter().map(|key| {
            let archive = Arc::clone(&archive);
            async move { archive.class_of(&key).await }
        });
        let looks: Vec<_> = looks.map(futures::FutureExt::boxed).collect();
        let mut classes = stream::iter(looks).buffer_unordered(AT_ONCE);
        while let Some(class) = classes.try_next().await? {
            if let Some(class) = class.filter(|class| !USUAL_CLASSES.contains(&class.as_str())) {
                return Ok(Some(class));
            }
        }
        Ok(None)
    };
    Ok(repository.store().start(looked).wait()?)
}

#[cfg(not(feature = "s3"))]
fn class_of_repacks(_: &PrunePlan, _: &Repository, _: &Session) -> Result<Option<String>, Failure> {
    Ok(None)
}

fn max_unused(text: &str) -> Result<MaxUnused, String> {
    if text == "unlimited" {
        return Ok(MaxUnused::Unlimited);
    }
    match text.strip_suffix('%') {
        Some(number) => match number.trim().parse() {
            Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(MaxUnused::Percent(percent)),
            _ => Err("write 5%, 500M or unlimited".to_owned()),
        },
        None => amounts::parse_size(text).map(MaxUnused::Bytes),
    }
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    session.require_locks()?;
    if args.instant && !args.dry_run && session.has_lock_free_writers()? {
        return Err(Failure::usage(
            "--instant deletes what a backup without a lock is storing, and the configuration has such backups (lock_free)",
            "leave out --instant: what is unneeded is marked first, and deleted a day later",
        ));
    }
    prune(args, &session.open()?, session)
}

/// What `forget --prune` does.
pub(super) fn after_forget(repository: &Repository, session: &Session) -> Result<Exit, Failure> {
    prune(&Args::default(), repository, session)
}

fn prune(args: &Args, repository: &Repository, session: &Session) -> Result<Exit, Failure> {
    let options = PruneOptions {
        mode: if args.instant { PruneMode::Instant } else { PruneMode::TwoPhase },
        max_unused: args.max_unused.unwrap_or_default(),
        max_repack_bytes: args.max_repack,
        small_packs: if args.keep_small { SmallPacks::Leave } else { SmallPacks::Merge },
        uncompressed_data: if args.repack_uncompressed { UncompressedData::Compress } else { UncompressedData::Leave },
        data_packs: if session.has_cold_packs() { DataPacks::Leave } else { DataPacks::Rewrite },
    };
    let reporter = session.console.reporter();
    let mut prune = Prune::plan(repository, &options, &session.cancel, &*reporter)?;
    if let Some(class) = class_of_repacks(prune.planned(), repository, session)? {
        reporter.finish();
        session.console.note(&format!(
            "content of files lies in the class {class}, where reading costs: it is not written anew (`storage_class` in \
             the place or the configuration says so beforehand)"
        ));
        drop(prune);
        let options = PruneOptions { data_packs: DataPacks::Leave, ..options };
        prune = Prune::plan(repository, &options, &session.cancel, &*reporter)?;
    }
    reporter.finish();
    let plan = prune.planned().clone();
    if args.dry_run || plan.is_empty() {
        drop(prune);
        let document = document(&plan, args.dry_run);
        match args.dry_run {
            true => session.console.either(&document, || planned(&plan))?,
            false => session.console.summary(&document, || planned(&plan))?,
        }
        return Ok(Exit::Done);
    }
    // What is about to happen is shown before it does.
    if !session.console.is_json() {
        session.console.summary(&(), || planned(&plan))?;
    }
    let outcome = prune.apply(&session.cancel, &*reporter)?;
    reporter.finish();
    let mut document = document(&plan, false);
    let damaged: Vec<_> = outcome.damaged.iter().map(|(pack, what)| json!({"pack": pack, "what": what})).collect();
    document["done"] = json!({
        "repacked": outcome.repacked,
        "marked": outcome.marked,
        "recovered": outcome.recovered,
        "deleted": outcome.deleted,
        "bytes_deleted": outcome.deleted_bytes,
        "spared": outcome.spared,
        "left_for_next": outcome.left_for_next,
        "damaged": damaged,
    });
    session.console.summary(&document, || {
        let parts = [
            (outcome.repacked, "written anew"),
            (outcome.marked, "marked"),
            (outcome.recovered, "recovered"),
            (outcome.deleted, "deleted"),
            (outcome.spared, "spared"),
            (outcome.left_for_next, "left for the next prune"),
        ];
        let told = parts.iter().filter(|(count, _)| *count > 0);
        let told: Vec<_> = told.map(|(count, word)| format!("{} {word}", amounts::count(*count))).collect();
        let freed = amounts::size(outcome.deleted_bytes);
        format!("packs: {}; {freed} freed", if told.is_empty() { "no change".to_owned() } else { told.join(", ") })
    })?;
    if outcome.damaged.is_empty() {
        return Ok(Exit::Done);
    }
    let count = amounts::counted(outcome.damaged.len() as u64, "pack");
    Err(Failure::new(format!("{count} that snapshots need could not be read and stayed"))
        .with_hint("run `check --read-data`, then `repair index`"))
}

fn document(plan: &PrunePlan, is_dry_run: bool) -> Value {
    let figures = plan.figures();
    let count = |count: backup_core::care::PackCount| json!({"packs": count.packs, "bytes": count.bytes});
    json!({
        "event": "summary",
        "dry_run": is_dry_run,
        "plan": {
            "keep": count(figures.keep),
            "repack": count(figures.repack),
            "mark": count(figures.mark),
            "recover": count(figures.recover),
            "wait": count(figures.wait),
            "delete": count(figures.delete),
            "dropped": figures.dropped,
            "bytes_unneeded_kept": figures.unneeded_bytes_kept,
            "next_deletion": plan.next_deletion().map(|instant| instant.to_string()),
        },
        "done": null,
    })
}

fn planned(plan: &PrunePlan) -> String {
    let PruneFigures { keep, repack, repack_needed_bytes, mark, wait, delete, dropped, unneeded_bytes_kept, .. } =
        plan.figures();
    let mut table = Table::new(&["", ">", ">", ""]);
    let mut row = |word: &str, count: backup_core::care::PackCount, note: String| {
        if count.packs > 0 {
            let (packs, bytes) = (amounts::counted(count.packs, "pack"), amounts::size(count.bytes));
            table.row([word.to_owned(), packs, bytes, note]);
        }
    };
    row("keep", keep, format!("{} of it unneeded", amounts::size(unneeded_bytes_kept)));
    row("write anew", repack, format!("{} of it needed", amounts::size(repack_needed_bytes)));
    row("mark", mark, "no snapshot needs them".to_owned());
    row("wait", wait, "marked less than a day ago".to_owned());
    row("delete", delete, String::new());
    let mut text = table.text();
    if dropped > 0 {
        text += &format!("{} are gone already and no longer listed\n", amounts::counted(dropped, "pack"));
    }
    if let Some(instant) = plan.next_deletion() {
        text += &format!("a prune after {} deletes what is marked\n", amounts::local_time(instant));
    }
    if text.is_empty() { "no packs\n".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_stay_unneeded_is_a_part_or_a_size() {
        assert_eq!(max_unused("5%"), Ok(MaxUnused::Percent(5.0)));
        assert_eq!(max_unused("1G"), Ok(MaxUnused::Bytes(1 << 30)));
        assert_eq!(max_unused("unlimited"), Ok(MaxUnused::Unlimited));
        for wrong in ["", "101%", "-1%", "x%", "some"] {
            assert!(max_unused(wrong).is_err(), "{wrong}");
        }
    }
}
