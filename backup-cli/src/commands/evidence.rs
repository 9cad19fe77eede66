//! `backup evidence`: the key that signs drills, and their records: listed, shown, verified, exported.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use backup_core::evidence::{
    ChainReport, EvidenceName, EvidenceRecord, Expectations, Export, Head, PublicKey, SealedRecord, Stored, export,
    journal_records, verify,
};
use backup_store::Place;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::args::parse_time;
use crate::console::{amounts, table::Table};
use crate::drills::evidence::{KeyArgs, create_key, usual_path};
use crate::exit::{Exit, Failure};
use crate::located::Located;
use crate::network::{Caching, state_folder};
use crate::session::Session;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// The key that evidence is signed with
    #[command(subcommand)]
    Key(KeyCommand),
    /// List records: those in the repositories that -r names, else those on this machine
    List,
    /// Print a record as it was signed
    Show {
        /// Its number in its chain, or the beginning of its hash
        #[arg(value_name = "RECORD")]
        record: String,
    },
    /// Say whether records were altered, taken away, put elsewhere or forked, and what nobody can exclude
    Verify(VerifyArgs),
    /// Write records into a folder for an auditor, who verifies them without this program
    Export(ExportArgs),
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key, and print its public half for the auditor
    Create {
        /// The file of the private key, in place of the usual one; never in a repository
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Print the public half of the key
    Show(KeyArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// The end of a chain that was noted down: CHAIN:COUNT:HASH, as `verify` prints it
    #[arg(long, value_name = "HEAD", value_parser = head)]
    expect_head: Vec<(String, Head)>,
    /// Only this key may have signed: its file, or its 64 digits
    #[arg(long, value_name = "KEY")]
    public_key: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// The folder, which must not be there or be empty
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Only drills that ended at this time or later: 2026-01-31, "2026-01-31 14:00" (local), or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    from: Option<Timestamp>,
    /// Only drills that ended before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    to: Option<Timestamp>,
}

fn head(text: &str) -> Result<(String, Head), String> {
    let wrong = || "write CHAIN:COUNT:HASH, as `evidence verify` prints it".to_owned();
    let mut parts = text.split(':');
    let (Some(chain), Some(count), Some(hash), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(wrong());
    };
    let sequence = count.parse().map_err(|_| wrong())?;
    Ok((chain.to_owned(), Head { sequence, hash: hash.parse().map_err(|_| wrong())? }))
}

pub(crate) fn run(command: &Command, session: &Session) -> Result<Exit, Failure> {
    match command {
        Command::Key(KeyCommand::Create { file }) => create(file.as_deref(), session),
        Command::Key(KeyCommand::Show(args)) => {
            let key = args.read(session)?.ok_or_else(|| {
                Failure::usage("there is no evidence key", "`evidence key create` makes one, --evidence-key names one")
            })?;
            told_key(key.public(), None, session)
        }
        Command::List => list(session),
        Command::Show { record } => show(record, session),
        Command::Verify(args) => verified(args, session),
        Command::Export(args) => exported(args, session),
    }
}

fn create(file: Option<&Path>, session: &Session) -> Result<Exit, Failure> {
    let path = match file {
        Some(file) => file.to_owned(),
        None => {
            usual_path().ok_or_else(|| Failure::usage("there is no folder for the key", "name a file, or set HOME"))?
        }
    };
    refuse_in_repository(&path, session)?;
    let key = create_key(&path)?;
    told_key(key.public(), Some(&path), session)
}

/// Whoever has the repository must not have the key.
fn refuse_in_repository(path: &Path, session: &Session) -> Result<(), Failure> {
    let absolute = without_links(path)?;
    let named = session.places().unwrap_or_default().into_iter().filter_map(|place| session.locate(place).ok());
    // Those of a configuration are no less repositories for not being named; one that cannot be read names none.
    let config = session.config().ok();
    let configured = config.iter().flat_map(|config| &config.repositories);
    let configured = configured.map(|repository| Located::configured(repository, &session.globals.network));
    for located in named.chain(configured) {
        if let Place::Folder(folder) = located.place
            && without_links(&folder).is_ok_and(|folder| absolute.starts_with(folder))
        {
            return Err(Failure::usage(
                format!("{} lies in the repository", path.display()),
                "keep the key elsewhere: whoever has the repository must not be able to sign",
            ));
        }
    }
    Ok(())
}

/// Where a file lies, or will lie: without the links on the way to it, as far as that is there already.
fn without_links(path: &Path) -> std::io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let there = absolute.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    Ok(there.map_or_else(
        || absolute.clone(),
        |(above, there)| absolute.strip_prefix(above).map_or_else(|_| absolute.clone(), |rest| there.join(rest)),
    ))
}

fn told_key(key: &PublicKey, path: Option<&Path>, session: &Session) -> Result<Exit, Failure> {
    let document = json!({"id": key.id(), "public_key": key.hex(), "pem": key.pem(), "file": path});
    session.console.either(&document, || {
        let made = path.map(|path| {
            format!(
                "The private key is in {}. Keep a copy of it where the backups are not.\n\
                 Give the public key to whoever will verify, today:\n\n",
                path.display()
            )
        });
        format!("{}{}\nid {}, digits {}\n", made.unwrap_or_default(), key.pem(), key.id(), key.hex())
    })?;
    Ok(Exit::Done)
}

/// Records with the place that they were found in.
fn places(session: &Session) -> Result<Vec<(String, Vec<Stored>)>, Failure> {
    if session.globals.repo.iter().all(String::is_empty) {
        return Ok(vec![("this machine".to_owned(), on_this_machine()?)]);
    }
    let open = |number| {
        let repository = session.open_through(number, None, Caching::Forbidden, &[])?;
        Ok((repository.store().location(), repository.evidence()?))
    };
    (0..session.places()?.len()).map(open).collect()
}

fn on_this_machine() -> Result<Vec<Stored>, Failure> {
    let Some(state) = state_folder() else { return Ok(Vec::new()) };
    Ok(journal_records(&state)?)
}

/// All readable records once, in the order of their times.
fn readable(places: Vec<(String, Vec<Stored>)>) -> Vec<(EvidenceName, SealedRecord, EvidenceRecord)> {
    let mut records = BTreeMap::new();
    for (name, stored) in places.into_iter().flat_map(|(_, records)| records) {
        if let Ok(sealed) = stored
            && let Ok(record) = EvidenceRecord::parse(&sealed.body)
        {
            records.insert(name, (sealed, record));
        }
    }
    let mut records: Vec<_> = records.into_iter().map(|(name, (sealed, record))| (name, sealed, record)).collect();
    records.sort_by_key(|(name, _, record)| (record.times.ended, name.clone()));
    records
}

fn list(session: &Session) -> Result<Exit, Failure> {
    let records = readable(places(session)?);
    let row = |(name, sealed, record): &(EvidenceName, SealedRecord, EvidenceRecord)| {
        json!({
            "chain": name.chain,
            "sequence": name.sequence,
            "hash": name.hash,
            "signed": sealed.signature.is_some(),
            "ended": record.times.ended,
            "trigger": record.trigger,
            "job": record.job,
            "repository": record.copy.place,
            "snapshot": record.snapshot.as_ref().map(|snapshot| snapshot.id),
            "verdict": record.verdict.word(),
            "reason": record.verdict.reason(),
            "level": record.level.map(u8::from),
            "technical_ms": record.recovery_time.technical_ms,
            "verified_ms": record.recovery_time.verified_ms,
        })
    };
    let document: Vec<Value> = records.iter().map(row).collect();
    session.console.either(&document, || {
        let titles = ["ended", "chain", ">number", "job", "copy", "verdict", ">level", ">ready after"];
        let mut table = Table::new(&titles);
        for (name, _, record) in &records {
            table.row([
                amounts::local_time(record.times.ended),
                name.chain.clone(),
                name.sequence.to_string(),
                record.job.clone().unwrap_or_else(|| "-".to_owned()),
                record.copy.place.clone(),
                record.verdict.word().to_owned(),
                record.level.map_or("-".to_owned(), |level| u8::from(level).to_string()),
                record.recovery_time.technical_ms.map_or("-".to_owned(), |time| amounts::span(seconds(time))),
            ]);
        }
        if records.is_empty() { "no evidence: `backup drill` makes some\n".to_owned() } else { table.text() }
    })?;
    Ok(Exit::Done)
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1_000.0
}

fn show(wanted: &str, session: &Session) -> Result<Exit, Failure> {
    let records = readable(places(session)?);
    let is_it = |name: &EvidenceName| {
        wanted.parse() == Ok(name.sequence) || wanted.len() >= 6 && name.hash.to_string().starts_with(wanted)
    };
    let mut found = records.iter().filter(|(name, _, _)| is_it(name));
    match (found.next(), found.next()) {
        (Some((name, sealed, _)), None) => {
            let body: Value = serde_json::from_str(&sealed.body).map_err(|error| Failure::new(error.to_string()))?;
            let document = json!({"name": name.to_string(), "signature": sealed.signature, "record": body});
            session.console.either(&document, || format!("{body:#}\n"))?;
            Ok(Exit::Done)
        }
        (None, _) => Err(Failure::usage(format!("no record is called {wanted}"), "`evidence list` lists them")),
        (Some(_), Some(_)) => Err(Failure::usage(
            format!("several records are called {wanted}"),
            "give the beginning of its hash: `evidence list --json` has it",
        )),
    }
}

fn verified(args: &VerifyArgs, session: &Session) -> Result<Exit, Failure> {
    let keys = args.public_key.iter().map(|text| public_key(text)).collect::<Result<Vec<_>, _>>()?;
    let given: BTreeMap<String, Head> = args.expect_head.iter().cloned().collect();
    // What this machine remembers of the ends of its chains is as good as what somebody noted down.
    let own = verify(&on_this_machine()?, &Expectations::default());
    let mut heads: BTreeMap<String, Head> =
        own.into_iter().filter_map(|report| Some((report.chain.clone(), report.head?))).collect();
    heads.extend(given);
    let is_of_stores = session.globals.repo.iter().any(|place| !place.is_empty());
    let expected = Expectations {
        heads: if is_of_stores { heads } else { args.expect_head.iter().cloned().collect() },
        keys: (!keys.is_empty()).then_some(keys),
    };
    let found: Vec<_> =
        places(session)?.into_iter().map(|(place, records)| (place, verify(&records, &expected))).collect();
    let is_sound = found.iter().all(|(_, reports)| reports.iter().all(ChainReport::is_sound));
    let document = json!({
        "event": "summary",
        "sound": is_sound,
        "places": found.iter().map(|(place, reports)| json!({
            "place": place,
            "chains": reports.iter().map(chain_document).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    });
    session.console.either(&document, || found.iter().map(|(place, reports)| told(place, reports)).collect())?;
    if is_sound {
        return Ok(Exit::Done);
    }
    Err(Failure::new("the evidence is not as it was written").with_hint("compare with another copy, or with an export"))
}

fn public_key(text: &str) -> Result<PublicKey, Failure> {
    let text = if Path::new(text).is_file() { fs::read_to_string(text)? } else { text.to_owned() };
    Ok(PublicKey::parse(&text)?)
}

fn chain_document(report: &ChainReport) -> Value {
    json!({
        "chain": report.chain,
        "records": report.sound,
        "first": report.first,
        "last": report.last,
        "head": report.head.map(|head| head.noted(&report.chain)),
        "faults": report.faults.iter().map(|fault| json!({
            "kind": fault.kind.word(),
            "sequence": fault.sequence,
            "what": fault.what,
        })).collect::<Vec<_>>(),
        "not_excluded": report.not_excluded,
    })
}

fn told(place: &str, reports: &[ChainReport]) -> String {
    let mut text = format!("{place}\n");
    if reports.is_empty() {
        text += "  no evidence\n";
    }
    for report in reports {
        let is_sound = if report.is_sound() { "as they were written" } else { "NOT AS THEY WERE WRITTEN" };
        text += &format!("  chain {}: {}, {is_sound}\n", report.chain, amounts::counted(report.sound, "record"));
        for fault in &report.faults {
            text += &format!("    {fault}\n");
        }
        if let Some(head) = report.head {
            text += &format!("    note down its end: {}\n", head.noted(&report.chain));
        }
        for sentence in &report.not_excluded {
            text += &format!("    cannot be excluded: {sentence}\n");
        }
    }
    text
}

fn exported(args: &ExportArgs, session: &Session) -> Result<Exit, Failure> {
    let failed = |path: &Path, error: &std::io::Error| Failure::because(path.display().to_string(), error);
    if fs::read_dir(&args.folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::usage(
            format!("{} is not empty", args.folder.display()),
            "name a folder that is not there yet: what is exported should be that and nothing else",
        ));
    }
    let records: Vec<Stored> = places(session)?.into_iter().flat_map(|(_, records)| records).collect();
    let reports = verify(&records, &Expectations::default());
    let files = export(&records, &reports, Export { from: args.from, to: args.to });
    for file in &files {
        let path = args.folder.join(&file.path);
        let folder = path.parent().unwrap_or(&args.folder);
        fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
        fs::write(&path, &file.bytes).map_err(|error| failed(&path, &error))?;
    }
    let count = files.iter().filter(|file| file.path.ends_with(".json")).count() as u64;
    let is_sound = reports.iter().all(ChainReport::is_sound);
    let document = json!({"event": "summary", "folder": args.folder, "records": count, "sound": is_sound});
    session.console.summary(&document, || {
        let sound = if is_sound { "" } else { "; NOT all of them are as they were written: see README.md" };
        format!("{} in {}{sound}\n", amounts::counted(count, "record"), args.folder.display())
    })?;
    Ok(if is_sound { Exit::Done } else { Exit::Failed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_chain_is_written_as_it_is_printed() {
        let hash = "ab".repeat(32);
        let (chain, end) = head(&format!("0123:7:{hash}")).unwrap();
        assert_eq!((chain.as_str(), end.sequence), ("0123", 7));
        assert_eq!(end.noted(&chain), format!("0123:7:{hash}"));
        for wrong in ["", "7", "a:b:c", "0123:7", &format!("0123:7:{hash}:x")] {
            assert!(head(wrong).is_err(), "{wrong}");
        }
    }
}
