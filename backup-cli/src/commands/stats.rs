//! `backup stats`: how much there is, and how much of it had to be stored.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use backup_core::limits::SEAL_OVERHEAD_BYTES;
use backup_core::model::{BlobId, BlobKind, Node, SnapshotPath};
use backup_core::pipeline::{TreeReader, WalkStep, walk};
use backup_core::repository::Index;
use serde::Serialize;

use crate::args::Which;
use crate::console::{amounts, table::Table};
use crate::exit::{Exit, Failure};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Count these snapshots only (beginnings of ids, or `latest`); all that the filters let through when not given
    #[arg(value_name = "SNAP")]
    snapshots: Vec<String>,
    #[command(flatten)]
    which: Which,
}

/// Figures in `docs/json/look.md`.
#[derive(Debug, Default, Serialize)]
struct Stats {
    snapshots: u64,
    /// Of the chosen snapshots, each restored on its own.
    files: u64,
    bytes_restored: u64,
    /// Of the chosen snapshots, each blob once, before compression.
    bytes_unique: u64,
    /// Of the whole repository.
    packs: u64,
    bytes_stored: u64,
    blobs: u64,
    bytes_plain: u64,
    compression: f64,
    deduplication: f64,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let repository = session.open()?;
    let reporter = session.console.reporter();
    let _lock = session.lock(&repository, &*reporter)?;
    let query = args.which.query();
    let snapshots = if args.snapshots.is_empty() {
        let mut all = repository.snapshots()?;
        all.retain(|(_, snapshot)| query.matches(snapshot));
        all
    } else {
        let named = args.snapshots.iter().map(|text| session.find(&repository, text, &args.which));
        named.collect::<Result<_, _>>()?
    };
    let index = repository.load_index(&*reporter)?;
    reporter.finish();
    let reader = TreeReader::new(&repository, &index);
    let mut sizes = Sizes::default();
    let mut stats = Stats { snapshots: snapshots.len() as u64, ..of_repository(&index) };
    for (_, snapshot) in &snapshots {
        let Size { files, bytes } = sizes.of(&reader, &snapshot.tree, session)?;
        stats.files += files;
        stats.bytes_restored += bytes;
    }
    stats.bytes_unique =
        sizes.blobs.iter().filter_map(|id| index.find(BlobKind::Data, id)).map(|at| plain(&at.blob)).sum();
    stats.deduplication = ratio(stats.bytes_restored, stats.bytes_unique);
    session.console.either(&stats, || text(&stats))?;
    Ok(Exit::Done)
}

fn of_repository(index: &Index) -> Stats {
    let blobs = || [BlobKind::Data, BlobKind::Tree].into_iter().flat_map(|kind| index.blobs(kind));
    let bytes_plain: u64 = blobs().map(|at| plain(&at.blob)).sum();
    let bytes_stored: u64 = index.packs().iter().map(|pack| pack.bytes).sum();
    Stats {
        packs: index.packs().len() as u64,
        bytes_stored,
        blobs: blobs().count() as u64,
        bytes_plain,
        compression: ratio(bytes_plain, bytes_stored),
        ..Stats::default()
    }
}

/// A blob's length before sealing and compression.
fn plain(blob: &backup_core::pack::PackedBlob) -> u64 {
    let sealed = u64::from(blob.length).saturating_sub(SEAL_OVERHEAD_BYTES as u64);
    blob.plain_bytes.map_or(sealed, u64::from)
}

fn ratio(whole: u64, part: u64) -> f64 {
    if part == 0 { 1.0 } else { amounts::percent(whole, part) / 100.0 }
}

fn text(stats: &Stats) -> String {
    let mut table = Table::new(&["", ">", ""]);
    let mut row = |name: &str, figure: String, note: &str| table.row([name.to_owned(), figure, note.to_owned()]);
    row("snapshots", amounts::count(stats.snapshots), "");
    row("files", amounts::count(stats.files), "in these snapshots, counted in each");
    row("restored", amounts::size(stats.bytes_restored), "if each were restored on its own");
    row(
        "unique",
        amounts::size(stats.bytes_unique),
        &format!("each piece once: {:.2} times fewer", stats.deduplication),
    );
    row(
        "stored",
        amounts::size(stats.bytes_stored),
        &format!("the whole repository, in {}", amounts::counted(stats.packs, "pack")),
    );
    row(
        "blobs",
        amounts::count(stats.blobs),
        &format!("{} before compression: {:.2} times fewer", amounts::size(stats.bytes_plain), stats.compression),
    );
    table.text()
}

#[derive(Clone, Copy, Debug, Default)]
struct Size {
    files: u64,
    bytes: u64,
}

/// Sizes of trees that were looked at before: most folders are the same in most snapshots.
#[derive(Default)]
struct Sizes {
    known: HashMap<BlobId, Size>,
    blobs: HashSet<BlobId>,
}

impl Sizes {
    fn of(&mut self, reader: &TreeReader<'_>, tree: &BlobId, session: &Session) -> Result<Size, Failure> {
        let mut levels = vec![Size::default()];
        walk(reader, tree, &SnapshotPath::root(), |path, step| {
            session.cancel.check()?;
            match step {
                WalkStep::Node(node) => {
                    let known = node.subtree().and_then(|tree| self.known.get(&tree)).copied();
                    if let Some(known) = known {
                        add(&mut levels, known);
                        return Ok(ControlFlow::Break(()));
                    }
                    if node.is_dir() {
                        levels.push(Size::default());
                    } else if matches!(node.kind, backup_core::model::NodeKind::File { .. }) {
                        self.blobs.extend(node.content());
                        add(&mut levels, Size { files: 1, bytes: node.size() });
                    }
                }
                WalkStep::Leave(node) => self.leave(&mut levels, node),
                WalkStep::Unreadable(_, error) => {
                    // Figures with a hole in them would be wrong without saying so.
                    return Err(backup_core::Error::new(backup_core::ErrorKind::Missing, format!("what is in {path}"))
                        .caused_by(error));
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(levels.pop().unwrap_or_default())
    }

    fn leave(&mut self, levels: &mut Vec<Size>, node: &Node) {
        let size = levels.pop().unwrap_or_default();
        if let Some(tree) = node.subtree() {
            self.known.insert(tree, size);
        }
        add(levels, size);
    }
}

fn add(levels: &mut [Size], size: Size) {
    if let Some(level) = levels.last_mut() {
        level.files += size.files;
        level.bytes += size.bytes;
    }
}
