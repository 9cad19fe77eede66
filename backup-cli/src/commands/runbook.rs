//! `backup runbook`: writes how to get everything back, for this very configuration.

use std::fs;
use std::path::{Path, PathBuf};

use backup_core::runbook::{
    KnownFrom, RunbookFacts, Trouble, html, markdown, recovery_order, restore_command, runbook, stores_left,
};
use serde_json::{Value, json};

use crate::exit::{Exit, Failure};
use crate::runbooks;
use crate::session::Session;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without -r it is written from the configuration and what the repositories say now. With -r it is written \
    from the configuration that `run` keeps in that repository: the passphrase is enough."
)]
pub(crate) struct Args {
    /// Jobs, by name; all when none is named
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    /// How it is written; as the ending of --output says, or else Markdown
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Write it to this file, in place of what is there
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Text that can be read as it is
    Markdown,
    /// One page for a browser or a printer
    Html,
}

impl Format {
    fn word(self) -> &'static str {
        match self {
            Self::Markdown => "markdown",
            Self::Html => "html",
        }
    }
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let is_by_place = session.globals.repo.iter().any(|place| !place.is_empty());
    let facts = if is_by_place {
        runbooks::from_repository(&args.jobs, session)?
    } else {
        let config = session.config()?;
        let jobs = config.jobs_named(&args.jobs)?;
        vec![runbooks::of_config(&config, &jobs, session)]
    };
    for facts in &facts {
        let unread = facts.repositories.iter().filter_map(|store| Some((store, store.unreachable.as_ref()?)));
        unread.for_each(|(store, why)| session.console.warn(&format!("{} could not be read: {why}", store.name)));
        if let KnownFrom::Snapshots { place } = &facts.known_from {
            session.console.warn(&format!("{place} keeps no configuration: the runbook has only what snapshots tell"));
        }
    }
    let documents: Vec<_> = facts.iter().map(runbook).collect();
    let format = args.format.unwrap_or_else(|| usual(args.output.as_deref()));
    let text = match format {
        Format::Markdown => markdown(&documents),
        Format::Html => html(&documents),
    };
    if let Some(path) = &args.output {
        write(path, &text)?;
    }
    if session.console.is_json() {
        let told = json!({
            "format": format.word(),
            "file": args.output.as_ref().map(|path| path.display().to_string()),
            "text": args.output.is_none().then_some(&text),
            "hosts": facts.iter().map(document).collect::<Vec<_>>(),
        });
        session.console.document(&told)?;
    } else if args.output.is_none() {
        session.console.text(&text)?;
    }
    Ok(Exit::Done)
}

fn usual(output: Option<&Path>) -> Format {
    let ending = output.and_then(Path::extension).and_then(|ending| ending.to_str());
    if matches!(ending, Some("html" | "htm")) { Format::Html } else { Format::Markdown }
}

/// As a whole or not at all: half a runbook looks like one.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: &std::io::Error| Failure::because(format!("{} was not written", path.display()), error);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut growing = path.file_name().unwrap_or_default().to_owned();
    growing.push(".growing");
    let growing = folder.join(growing);
    let written = fs::write(&growing, text).and_then(|()| fs::rename(&growing, path));
    written.map_err(|error| {
        // Nothing else will look for it.
        let _ = fs::remove_file(&growing);
        failed(&error)
    })
}

/// For programs.
fn document(facts: &RunbookFacts) -> Value {
    let jobs = recovery_order(facts).into_iter().map(|job| {
        let left = stores_left(job, Trouble::HostLost, facts);
        let commands = left.first().map(|(store, _)| {
            let lines = job.parts.iter().map(|part| restore_command(job, part, store).line());
            json!({"repository": store.name, "lines": lines.collect::<Vec<_>>()})
        });
        json!({"job": job.name(), "host_lost": commands})
    });
    let known_from = match &facts.known_from {
        KnownFrom::File(path) => json!({"kind": "file", "place": path}),
        KnownFrom::Kept { place, time } => json!({"kind": "kept", "place": place, "time": time.to_string()}),
        KnownFrom::Snapshots { place } => json!({"kind": "snapshots", "place": place}),
        KnownFrom::Proposed => json!({"kind": "proposed"}),
    };
    json!({"host": facts.host, "known_from": known_from, "caveats": facts.caveats, "jobs": jobs.collect::<Vec<_>>()})
}
