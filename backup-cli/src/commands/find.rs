//! `backup find`: where a file is, over all snapshots.

use std::io::{BufWriter, Write as _};

use backup_core::look::Search;
use backup_core::model::{Node, SnapshotPath};
use backup_core::pipeline::TreeReader;
use globset::{GlobBuilder, GlobMatcher};
use serde_json::{Value, json};

use crate::args::Which;
use crate::console::{amounts, json, say};
use crate::exit::{Exit, Failure};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A glob: matches names, or whole paths when it has a slash in it
    #[arg(value_name = "PATTERN", required = true)]
    patterns: Vec<String>,
    /// Do not distinguish capital letters
    #[arg(short, long)]
    ignore_case: bool,
    /// Look into these snapshots only (beginnings of ids); may be given several times
    #[arg(long = "snapshot", value_name = "SNAP", conflicts_with_all = ["job", "source", "host", "tag", "at"])]
    snapshots: Vec<String>,
    #[command(flatten)]
    which: Which,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let patterns: Vec<Pattern> =
        args.patterns.iter().map(|text| Pattern::new(text, args.ignore_case)).collect::<Result<_, _>>()?;
    let mut search = search(patterns);
    let repository = session.open()?;
    let reporter = session.console.reporter();
    let _lock = session.lock(&repository, &*reporter)?;
    let query = args.which.query();
    let mut snapshots = repository.snapshots()?;
    snapshots.retain(|(_, snapshot)| query.matches(snapshot));
    if !args.snapshots.is_empty() {
        let named = args.snapshots.iter().map(|text| repository.find_snapshot(text, &query));
        snapshots = named.collect::<Result<_, _>>()?;
    }
    let index = repository.load_index(&*reporter)?;
    reporter.finish();
    let reader = TreeReader::new(&repository, &index);
    let mut out = BufWriter::new(std::io::stdout().lock());
    let (mut documents, mut losses, mut any) = (Vec::<Value>::new(), 0, false);
    for (id, snapshot) in snapshots.iter().rev() {
        let mut found = Vec::new();
        let find = |path: &SnapshotPath, node: &Node| found.push((path.clone(), node.clone()));
        search.run(&reader, snapshot, &session.cancel, find, |path, error| {
            losses += 1;
            say(&format!("loss: {path}: {error}"));
        })?;
        if found.is_empty() {
            continue;
        }
        any = true;
        if session.console.is_json() {
            let matches: Vec<_> = found.iter().map(|(path, node)| json::entry(path, node)).collect();
            documents.push(json!({"snapshot": id, "time": snapshot.time.to_string(), "matches": matches}));
            continue;
        }
        writeln!(out, "snapshot {id:.8} of {}", amounts::local_time(snapshot.time))?;
        for (path, node) in found {
            let (size, time) =
                (amounts::size(node.size()), node.metadata.mtime.map(amounts::local_time).unwrap_or_default());
            writeln!(out, "  {size:>10}  {time}  {path}")?;
        }
        out.flush()?;
    }
    drop(out);
    if session.console.is_json() {
        session.console.document(&json!({"snapshots": documents}))?;
    } else if !any {
        session.console.note(&format!("nothing found in {}", amounts::counted(snapshots.len() as u64, "snapshot")));
    }
    Ok(Exit::with_losses(losses))
}

#[derive(Debug)]
struct Pattern {
    glob: GlobMatcher,
    is_path: bool,
}

impl Pattern {
    fn new(text: &str, ignore_case: bool) -> Result<Self, Failure> {
        let is_path = text.contains('/');
        let spelled = if is_path && !text.starts_with('/') { format!("**/{text}") } else { text.to_owned() };
        let glob = GlobBuilder::new(&spelled).literal_separator(true).case_insensitive(ignore_case).build();
        match glob {
            Ok(glob) => Ok(Self { glob: glob.compile_matcher(), is_path }),
            Err(error) => Err(Failure::usage(format!("pattern {text:?}: {}", error.kind()), "quote it: find '*.jpg'")),
        }
    }

    fn matches(&self, path: &SnapshotPath) -> bool {
        use std::os::unix::ffi::OsStrExt as _;
        let bytes = if self.is_path { path.as_bytes() } else { path.name() };
        self.glob.is_match(std::ffi::OsStr::from_bytes(bytes))
    }
}

/// A search by path looks into the same folder wherever it lies, one by name only once: all patterns decide which.
fn search(patterns: Vec<Pattern>) -> Search<'static> {
    use std::os::unix::ffi::OsStrExt as _;
    if patterns.iter().any(|pattern| pattern.is_path) {
        return Search::by_path(move |path| patterns.iter().any(|pattern| pattern.matches(path)));
    }
    Search::by_name(move |name| patterns.iter().any(|pattern| pattern.glob.is_match(std::ffi::OsStr::from_bytes(name))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names_or_paths() {
        for (pattern, path, matches) in [
            ("*.jpg", "/a/b.jpg", true),
            ("*.jpg", "/a.jpg/b", false),
            ("b*/*.jpg", "/x/bc/d.jpg", true),
            ("/bc/*.jpg", "/x/bc/d.jpg", false),
            ("/x/**", "/x/bc/d.jpg", true),
        ] {
            let pattern = Pattern::new(pattern, false).unwrap();
            assert_eq!(pattern.matches(&SnapshotPath::parse(path.as_bytes())), matches, "{path}");
        }
        assert!(Pattern::new("[", false).is_err());
        assert!(Pattern::new("*.JPG", true).unwrap().matches(&SnapshotPath::parse(b"/a.jpg")));
    }
}
