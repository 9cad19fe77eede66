//! `backup stats`: how much there is, and how much of it had to be stored.

use backup_core::look::{Stats, stats};

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
    let stats = stats(&repository, &index, snapshots.iter().map(|(_, snapshot)| snapshot), &session.cancel)?;
    session.console.either(&stats, || text(&stats))?;
    Ok(Exit::Done)
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
