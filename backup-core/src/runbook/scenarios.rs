//! One section for each thing that goes wrong: what to do, job by job, with the commands and how long they took.

use super::document::{Section, Words};
use super::facts::{JobUnderRunbook, Part, PartKind, RunbookFacts, StoreFacts, instant, recovery_order, span};
use super::prerequisites::{estimated, trouble_with};
use super::procedure::{Trouble, beside, line, restore_command, selected, stores_left};
use crate::policy::Answer;

/// What stands for the last moment at which the data was right.
const WHEN: &str = "2026-01-31 14:00";

pub(super) fn section(trouble: Trouble, facts: &RunbookFacts) -> Section {
    let mut section = Section::new(trouble.anchor(), trouble.title());
    for words in opening(trouble) {
        section.text(*words);
    }
    for job in recovery_order(facts) {
        section.heading(Words::new().code(job.name()));
        let left = stores_left(job, trouble, facts);
        let Some((store, survives)) = left.first().copied() else {
            section.warning("No copy is left: none stands anywhere else. What this job backs up is lost.");
            continue;
        };
        if survives == Answer::Unknown {
            let key = if trouble == Trouble::RegionLost { "site" } else { "failure_domain" };
            section.warning(
                Words::from("Whether ")
                    .code(&store.name)
                    .plain(" is left then is not known: the configuration does not say its ")
                    .code(key)
                    .plain(" or that of the data."),
            );
        }
        if let Some(words) = trouble_with(store) {
            section.warning(words);
        }
        section.text(state(job, store));
        for part in &job.parts {
            commands(&mut section, trouble, job, part, store);
            if let (Trouble::HostLost, Some(when)) = (trouble, job.executed(&restore_command(job, part, store).line()))
            {
                let when = format!("{}.", instant(when));
                section.text(Words::from("A drill has last executed this very command, to its end, on ").plain(when));
            }
        }
        section.text(measured(job, store));
        let others: Vec<_> = left[1..].iter().map(|(store, _)| *store).collect();
        if !others.is_empty() {
            let mut words = Words::from("If that copy fails, the same with ");
            for (number, other) in others.iter().enumerate() {
                words = if number == 0 { words } else { words.plain(", ") };
                words = words.code(format!("-r {}", super::procedure::quoted(&other.place))).plain(age(job, other));
            }
            section.text(words.plain("."));
        }
    }
    if facts.jobs.is_empty() {
        section.warning("There are no jobs.");
    }
    section
}

fn opening(trouble: Trouble) -> &'static [&'static str] {
    match trouble {
        Trouble::Corrupted => &[
            "Stop what writes to it. Do not stop the backups, and remove no snapshots: the good ones may be old. \
             Find the last moment at which the data was right, and restore that beside what is there; look at it; \
             only then replace.",
            "The time below is an example; write the last moment at which the data was right.",
        ],
        Trouble::Deleted => {
            &["Restore only what is missing, beside what is there, and put it back by hand. The newest backup is the \
             right one if it was made before the deletion; otherwise give --at a time before it."]
        }
        Trouble::HostLost => &[
            "On a new machine, after “Before anything else”. Addresses of databases are those of the old machine: \
             write the new one's, and create the server first. Files go back to where they were.",
            "These are the commands that `backup drill --runbook` executes, with a sandbox as their target.",
        ],
        Trouble::RegionLost => &[
            "As for a lost host, from a copy at another site. Count with a slower network: the times below are those \
             of the machine that ran the drill.",
        ],
    }
}

/// Which backup it is.
fn state(job: &JobUnderRunbook, store: &StoreFacts) -> Words {
    let words = Words::from("From ").code(&store.name);
    let Some(backup) = job.newest(&store.name) else {
        return words.plain(": ").strong("no snapshot of it is known there").plain(".");
    };
    let newest = format!("{:.8}", backup.snapshot);
    let mut words = words.plain(": the newest snapshot is ").code(newest).plain(format!(
        ", with the state of {} ({}).",
        instant(backup.recovery_point),
        backup.proof
    ));
    let drilled = job.last_passed(&store.name).and_then(|drill| Some((drill.snapshot?, drill.ended)));
    if let Some((snapshot, ended)) = drilled {
        words = words
            .plain(" The last that a drill restored from there is ")
            .code(format!("{snapshot:.8}"))
            .plain(format!(", on {}: name it in place of latest if the newest is no good.", instant(ended)));
    }
    words
}

fn age(job: &JobUnderRunbook, store: &StoreFacts) -> String {
    let newest = job.newest(&store.name);
    newest.map_or_else(
        || " (no snapshot known)".to_owned(),
        |backup| format!(" (state of {})", instant(backup.recovery_point)),
    )
}

fn commands(section: &mut Section, trouble: Trouble, job: &JobUnderRunbook, part: &Part, store: &StoreFacts) {
    let words = |verb: &str, snap: &str, more: &[&str]| {
        let mut words = selected(verb, snap, job, part, store);
        words.extend(more.iter().map(|word| (*word).to_owned()));
        line(&words)
    };
    let restore = restore_command(job, part, store).line();
    let beside = beside(job);
    let lines = match (trouble, &part.kind) {
        (Trouble::HostLost | Trouble::RegionLost, PartKind::Files(_)) => {
            vec!["# over the files of this machine; it asks first".to_owned(), restore]
        }
        (Trouble::HostLost | Trouble::RegionLost, _) => vec![restore],
        (Trouble::Corrupted, PartKind::Files(paths)) => vec![
            words("snapshots", "", &[]),
            words("restore", "latest", &["--at", WHEN, "--to", &beside]),
            format!("# compare {beside} with {}; then, over what is there:", one_line(paths)),
            words("restore", "latest", &["--at", WHEN, "--to", "/"]),
        ],
        (Trouble::Corrupted, PartKind::Database { url, .. }) => vec![
            words("snapshots", "", &[]),
            words("restore", "latest", &["--at", WHEN, "--to", &other_database(url)]),
            "# compare the two; then replace the wrong one:".to_owned(),
            words("restore", "latest", &["--at", WHEN, "--clean", "--to", url]),
        ],
        (Trouble::Deleted, PartKind::Files(_)) => vec![
            words("find", "part of its name*", &[]),
            words("restore", "latest", &["--path", "/the/folder/that/is/missing", "--to", &beside]),
        ],
        (Trouble::Deleted, PartKind::Database { url, .. }) => vec![
            words("restore", "latest", &["--to", &other_database(url)]),
            "# copy the missing rows over with the database's own means, then drop the copy".to_owned(),
        ],
        (Trouble::Corrupted | Trouble::Deleted, PartKind::Output(file)) => {
            vec![words("restore", "latest", &["--at", WHEN, "--path", file, "--to", &beside])]
        }
    };
    section.shell(lines);
}

/// The address of another database on the same server, or of another file.
fn other_database(url: &str) -> String {
    match url.split_once('?') {
        Some((url, parameters)) => format!("{url}_restored?{parameters}"),
        None => format!("{url}_restored"),
    }
}

fn one_line(paths: &[String]) -> String {
    let joined = paths.join(" ");
    joined.chars().map(|character| if character.is_control() { '?' } else { character }).collect()
}

/// How long it took, and would take.
fn measured(job: &JobUnderRunbook, store: &StoreFacts) -> Words {
    let Some(drill) = job.last_passed(&store.name) else {
        return Words::new()
            .strong("Never measured")
            .plain(": no drill from this copy has passed. ")
            .and(guess(job, store));
    };
    let milliseconds = std::time::Duration::from_millis;
    let ready = drill.figures.technical_ms.map_or_else(|| "an unknown time".to_owned(), |ms| span(milliseconds(ms)));
    let compared = drill.figures.verified_ms.map(|ms| format!(", compared after {}", span(milliseconds(ms))));
    // What was measured needs no estimate.
    let is_newest = drill.snapshot.is_some() && drill.snapshot == job.newest(&store.name).map(|backup| backup.snapshot);
    let level = drill.figures.level.map(|level| format!(" (level {})", u8::from(level)));
    Words::from(format!(
        "Measured on {}: data ready after {ready}{}{}. ",
        instant(drill.ended),
        compared.unwrap_or_default(),
        level.unwrap_or_default()
    ))
    .and(if is_newest { Words::new() } else { guess(job, store) })
}

fn guess(job: &JobUnderRunbook, store: &StoreFacts) -> Words {
    match job.estimate(&store.name) {
        Some(estimate) => format!("For the newest snapshot: {}.", estimated(&estimate)).into(),
        None => Words::new(),
    }
}
