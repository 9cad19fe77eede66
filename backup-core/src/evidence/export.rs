//! A folder of evidence for somebody who has neither this program nor the repository: the records to the byte, their
//! signatures, the keys, a page to read, and the commands that verify all of it with openssl and sha256sum.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use jiff::Timestamp;

use super::UNSIGNED;
use super::chain::{ChainReport, Stored};
use super::controls::CONTROLS;
use super::key::{PublicKey, from_hex};
use super::record::EvidenceRecord;
use super::stored::{EvidenceName, SealedRecord};
use crate::markdown::plain;

/// The script that verifies an export. Plain POSIX shell.
const VERIFY: &str = include_str!("verify.sh");

/// What is exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Export {
    /// Only drills that ended at this instant or later.
    pub from: Option<Timestamp>,
    /// Only drills that ended before this instant.
    pub to: Option<Timestamp>,
}

/// A file of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedFile {
    /// Its path in the folder: plain names, with slashes between.
    pub path: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// The files of an export of `records`, of which `reports` is what was verified. Records that cannot be read are not in
/// it; the page names them.
pub fn export(records: &[Stored], reports: &[ChainReport], range: Export) -> Vec<ExportedFile> {
    let mut chosen: Vec<(&EvidenceName, &SealedRecord, EvidenceRecord)> = Vec::new();
    let mut seen = BTreeSet::new();
    for (name, stored) in records {
        let Some((sealed, record)) =
            stored.as_ref().ok().and_then(|sealed| Some((sealed, EvidenceRecord::parse(&sealed.body).ok()?)))
        else {
            continue;
        };
        let ended = record.times.ended;
        let is_wanted = range.from.is_none_or(|from| ended >= from) && range.to.is_none_or(|to| ended < to);
        if is_wanted && seen.insert(name) {
            chosen.push((name, sealed, record));
        }
    }
    chosen.sort_by_key(|(name, _, _)| *name);
    let mut files = Vec::new();
    let mut keys = BTreeSet::new();
    for (name, sealed, record) in &chosen {
        let path = path_of(name);
        files.push(file(format!("{path}.json"), sealed.body.clone()));
        if let Some(signature) = sealed.signature.as_deref().and_then(from_hex) {
            files.push(ExportedFile { path: format!("{path}.sig"), bytes: signature });
        }
        if let Some(signer) = &record.signer
            && let Ok(key) = PublicKey::parse(&signer.public_key)
            && keys.insert(key.hex())
        {
            files.push(file(format!("records/{}/key.pem", key.id()), key.pem()));
        }
    }
    let only_records: Vec<_> = chosen.iter().map(|(_, _, record)| record).collect();
    files.push(file("README.md".to_owned(), page(&only_records, reports, range)));
    files.push(file("controls.md".to_owned(), controls()));
    files.push(file("verify.sh".to_owned(), VERIFY.to_owned()));
    files
}

fn file(path: String, text: String) -> ExportedFile {
    ExportedFile { path, bytes: text.into_bytes() }
}

fn path_of(name: &EvidenceName) -> String {
    format!("records/{}/{:010}-{:.12}", name.chain, name.sequence, name.hash)
}

/// What people read first.
fn page(records: &[&EvidenceRecord], reports: &[ChainReport], range: Export) -> String {
    let mut text = String::from(
        "# Evidence of restore tests\n\nEach line is a drill: a backup was restored into a sandbox by a machine, \
         compared with what it was, timed, and removed. What a passed drill proves and what not stands in its record \
         (`level`, `checks`, `not_tested`). The policy is the beginning of the SHA-256 of the configuration, as the \
         repositories keep it.\n\n",
    );
    let bound = |time: Option<Timestamp>, open: &str| time.map_or(open.to_owned(), |time| time.to_string());
    line(&mut text, format_args!("From {} to {}.\n", bound(range.from, "the first"), bound(range.to, "the last")));
    line(
        &mut text,
        format_args!(
            "| ended (UTC) | chain | number | job | policy | copy | where | immutable until | verdict | level | recovery point age | RTO technical | RTO verified | reason |"
        ),
    );
    line(&mut text, format_args!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"));
    let mut sorted = records.to_vec();
    sorted.sort_by_key(|record| (record.times.ended, record.sequence));
    for record in sorted {
        let seconds = |milliseconds: Option<u64>| {
            milliseconds.map_or("-".to_owned(), |time| format!("{}.{:03} s", time / 1_000, time % 1_000))
        };
        let cells = [
            format!("{:.0}", record.times.ended),
            record.chain.clone(),
            record.sequence.to_string(),
            record.job.clone().unwrap_or_else(|| "-".to_owned()),
            record.policy.map_or("-".to_owned(), |policy| format!("{policy:.12}")),
            record.copy.name.clone().unwrap_or_else(|| record.copy.place.clone()),
            record.copy.region.clone().unwrap_or_else(|| "-".to_owned()),
            record.copy.immutable_until.map_or("-".to_owned(), |until| format!("{until:.0}")),
            record.verdict.word().to_owned(),
            record.level.map_or("-".to_owned(), |level| u8::from(level).to_string()),
            record.recovery_point.age_seconds.map_or("-".to_owned(), |age| format!("{age} s")),
            seconds(record.recovery_time.technical_ms),
            seconds(record.recovery_time.verified_ms),
            record.verdict.reason().unwrap_or("-").to_owned(),
        ];
        let cells: Vec<_> = cells.iter().map(|cell| plain(cell)).collect();
        line(&mut text, format_args!("| {} |", cells.join(" | ")));
    }
    text.push_str(&figures(records));
    text.push_str(&chains(reports));
    text.push_str(HOW_TO_VERIFY);
    text
}

fn figures(records: &[&EvidenceRecord]) -> String {
    let count = |word: &str| records.iter().filter(|record| record.verdict.word() == word).count();
    // Of many checks not all are listed, and all are counted.
    let failed_checks: u64 = records.iter().filter_map(|record| record.checks.counts.get("failed")).sum();
    format!(
        "\n{} drills: {} passed, {} failed ({failed_checks} checks), {} could not run.\n",
        records.len(),
        count("passed"),
        count("failed"),
        count("not_run"),
    )
}

fn chains(reports: &[ChainReport]) -> String {
    let mut text = String::from("\n## What was verified when this was exported\n");
    for report in reports {
        let who = if report.chain == UNSIGNED {
            "records without a signature".to_owned()
        } else {
            format!("the key {}", report.chain)
        };
        let head = report.head.map_or("it is empty".to_owned(), |head| {
            format!("its end is number {} with the hash `{}`", head.sequence, head.hash)
        });
        line(
            &mut text,
            format_args!("\n### Chain of {who}\n\n{} records are as they were written; {head}.\n", report.sound),
        );
        for fault in &report.faults {
            line(&mut text, format_args!("* **{}**", plain(&fault.to_string())));
        }
        line(&mut text, format_args!("\nWhat this cannot exclude:\n"));
        for sentence in &report.not_excluded {
            line(&mut text, format_args!("* {}", plain(sentence)));
        }
    }
    text
}

const HOW_TO_VERIFY: &str = "
## To verify it without the program that made it

Needed are a POSIX shell, `openssl` 3 and `sha256sum`. `sh verify.sh` in this folder does the following for each chain
(a folder below `records/`), and can be read in a minute:

1. The signature of each record is under the bytes of its file:
   `openssl pkeyutl -verify -pubin -inkey key.pem -rawin -in RECORD.json -sigfile RECORD.sig`
2. Each record names the SHA-256 of the file before it: `sha256sum RECORD.json` and the field `previous` of the next.
3. The numbers (`sequence`) follow each other.
4. Each record names the key that it is signed with (`signer.public_key`), which is that of `key.pem`.

**`sh verify.sh YOURS.pem` takes the key that you were given** (or several), and finds what is signed with another, or that nothing is signed
with yours. Without it whoever made this folder has chosen the key. Chains stand in the column `chain` by their keys; what is
in `unsigned` anybody can have written.

Compare `key.pem` with the key that you were given when the chain began, and the end of the chain with the one that you
noted down last time: nothing in this folder can show that records were taken away from the end. An export of a part of
the time begins in the middle of its chain; the first record then names one that is not here.
";

/// What is asked for, and what of it is here.
fn controls() -> String {
    let mut text = String::from(
        "# What these records show of what auditors ask for\n\nThe requirements in our words; their texts are what \
         counts. Whether one is met as a whole, only an auditor says.\n\n| requirement | asks, in short | shown here | \
         not shown here |\n|---|---|---|---|\n",
    );
    for control in CONTROLS {
        line(
            &mut text,
            format_args!("| {} | {} | {} | {} |", control.title, control.asks, control.shown, control.not_shown),
        );
    }
    text
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{words}");
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::process::Command;

    use super::super::record::tests::context;
    use super::super::{Expectations, Head, SigningKey, verify};
    use super::*;
    use crate::drill::{DrillOutcome, Verdict};

    fn chain(key: Option<&SigningKey>, count: i64) -> Vec<Stored> {
        let outcome =
            DrillOutcome::ended_early(Verdict::Failed { reason: "a | b <script> *x*".to_owned() }, Vec::new());
        let mut head: Option<Head> = None;
        let append = |minute| {
            let record =
                EvidenceRecord::new(&context(minute), &outcome, key.map(SigningKey::public), head.as_ref()).unwrap();
            let sealed = SealedRecord::seal(&record, key).unwrap();
            head = Some(Head { sequence: record.sequence, hash: sealed.hash() });
            (sealed.name(&record), Ok(sealed))
        };
        (0..count).map(append).collect()
    }

    fn exported(records: &[Stored], range: Export) -> HashMap<String, Vec<u8>> {
        let reports = verify(records, &Expectations::default());
        export(records, &reports, range).into_iter().map(|file| (file.path, file.bytes)).collect()
    }

    #[test]
    fn an_export_holds_records_signatures_keys_and_what_to_do_with_them() {
        let (key, _) = SigningKey::generate().unwrap();
        let files = exported(&chain(Some(&key), 3), Export::default());
        let count = |suffix: &str| files.keys().filter(|path| path.ends_with(suffix)).count();
        assert_eq!((count(".json"), count(".sig"), count("key.pem")), (3, 3, 1));
        let page = String::from_utf8(files["README.md"].clone()).unwrap();
        assert!(page.contains("3 drills: 0 passed, 3 failed"), "{page}");
        assert!(page.contains("taken away from the end"));
        assert!(page.contains(&format!("| {} | 3 |", key.public().id())), "chains are told apart: {page}");
        assert!(page.contains(r"a \| b \<script\> \*x\*"), "what others wrote is no markup: {page}");
        assert!(String::from_utf8(files["controls.md"].clone()).unwrap().contains("DORA"));
    }

    #[test]
    fn a_range_of_time_is_kept_to() {
        let start = context(0).times.ended;
        let at = |minute| Some(start + jiff::SignedDuration::from_mins(minute));
        let files = exported(&chain(None, 5), Export { from: at(1), to: at(3) });
        assert_eq!(files.keys().filter(|path| path.ends_with(".json")).count(), 2);
    }

    /// Runs the script over an export, as an auditor would. Returns whether it was content, and what it said.
    fn verified(files: &HashMap<String, Vec<u8>>) -> (bool, String) {
        verified_by(files, None)
    }

    /// The same with the key that the auditor was given.
    fn verified_by(files: &HashMap<String, Vec<u8>>, given: Option<&str>) -> (bool, String) {
        let folder = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        let mut command = Command::new("sh");
        command.arg("verify.sh").current_dir(folder.path());
        if let Some(given) = given {
            std::fs::write(folder.path().join("given.pem"), given).unwrap();
            command.arg("given.pem");
        }
        // By name, as the script does, from where the tool was installed.
        if let Some(openssl) = std::env::var_os("BACKUP_TEST_OPENSSL").map(std::path::PathBuf::from) {
            let path = std::env::var("PATH").unwrap_or_default();
            command.env("PATH", format!("{}:{path}", openssl.parent().unwrap().display()));
        }
        let ended = command.output().unwrap();
        (ended.status.success(), String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned())
    }

    #[test]
    #[ignore = "needs openssl"]
    fn the_script_verifies_an_export_with_openssl_and_finds_what_is_wrong() {
        let (key, _) = SigningKey::generate().unwrap();
        let good = exported(&chain(Some(&key), 4), Export::default());
        let (is_content, said) = verified(&good);
        assert!(is_content && said.contains("4 records"), "{said}");

        let mut names: Vec<_> = good.keys().filter(|path| path.ends_with(".json")).cloned().collect();
        names.sort();
        let mut altered = good.clone();
        let text = String::from_utf8(altered[&names[1]].clone()).unwrap().replace("\"failed\"", "\"passed\"");
        altered.insert(names[1].clone(), text.into_bytes());
        let (is_content, said) = verified(&altered);
        assert!(!is_content && said.contains("signature"), "{said}");

        let mut removed = good.clone();
        removed.remove(&names[2]);
        let (is_content, said) = verified(&removed);
        assert!(!is_content && said.contains("does not follow"), "{said}");

        let mut swapped = good.clone();
        for suffix in ["json", "sig"] {
            let with = |name: &str| name.replace("json", suffix);
            swapped.insert(with(&names[1]), good[&with(&names[2])].clone());
            swapped.insert(with(&names[2]), good[&with(&names[1])].clone());
        }
        let (is_content, said) = verified(&swapped);
        assert!(!is_content && said.contains("does not follow"), "{said}");
    }

    #[test]
    #[ignore = "needs openssl"]
    fn with_the_auditors_key_the_script_finds_a_chain_that_somebody_else_has_signed() {
        let [(key, _), (other, _)] = [SigningKey::generate().unwrap(), SigningKey::generate().unwrap()];
        let good = exported(&chain(Some(&key), 2), Export::default());
        let (is_content, said) = verified_by(&good, Some(&key.public().pem()));
        assert!(is_content && said.contains("compare the ends"), "{said}");

        let forged = exported(&chain(Some(&other), 2), Export::default());
        assert!(verified(&forged).0, "nobody can see it who does not know the key");
        let unsigned = exported(&chain(None, 2), Export::default());
        for files in [&forged, &unsigned] {
            let (is_content, said) = verified_by(files, Some(&key.public().pem()));
            assert!(!is_content && said.contains("no record signed with the key of given.pem"), "{said}");
        }
        let (is_content, said) = verified_by(&good, Some("no key"));
        assert!(!is_content && said.contains("is no public key"), "{said}");

        // The key beside the records was changed, and not what they say of it.
        let mut exchanged = good.clone();
        let beside = exchanged.keys().find(|path| path.ends_with("key.pem")).unwrap().clone();
        exchanged.insert(beside, other.public().pem().into_bytes());
        let (is_content, said) = verified(&exchanged);
        assert!(!is_content && said.contains("names another key"), "{said}");
    }
}
